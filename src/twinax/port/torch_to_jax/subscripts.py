"""Basic indexing as Python writes it."""

from __future__ import annotations

import ast
from typing import Any

from twinax.port.torch_to_jax import expressions

LONGEST = 9223372036854775807
"""The end of a slice that torch writes where there is none."""


def sliced(args: list[ast.expr], numbers: list[Any]) -> ast.expr | None:
    """``start:stop:step``; None for all of an axis."""
    start, stop, step = (*args, *[None] * 3)[:3]
    start = None if start is None or _at(numbers, 0) in (0, None) or _is_none(start) else start
    stop = None if stop is None or _at(numbers, 1) == LONGEST or _is_none(stop) else stop
    step = None if step is None or _at(numbers, 2) == 1 else step
    return None if start is stop is step is None else ast.Slice(start, stop, step)


def _at(numbers: list[Any], index: int) -> Any:
    return numbers[index] if index < len(numbers) else "?"


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def merged(base: ast.expr, items: list[ast.expr | None]) -> ast.expr:
    """``base[a][b]`` as one subscript where ``a`` only takes whole axes and new ones."""
    if isinstance(base, ast.Subscript) and _is_all(base.slice):
        return expressions.subscript(base.value, items) if any(i is not None for i in items) else base
    if not (isinstance(base, ast.Subscript) and _is_simple(base.slice)):
        return expressions.subscript(base, items)
    inner = base.slice.elts if isinstance(base.slice, ast.Tuple) else [base.slice]
    parts: list[ast.expr | None] = []
    waiting = list(items)
    for part in inner:
        if isinstance(part, ast.Constant) and isinstance(part.value, int) and part.value is not None:
            parts.append(part)  # a selected axis is gone
            continue
        outer = waiting.pop(0) if waiting else None
        while _is_new(outer):
            parts.append(outer)
            outer = waiting.pop(0) if waiting else None
        if outer is None:
            parts.append(None if _is_full(part) else part)
        elif _is_full(part):
            parts.append(outer)
        else:
            return expressions.subscript(base, items)
    return expressions.subscript(base.value, [*parts, *waiting])


def _is_all(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def _is_simple(node: ast.expr) -> bool:
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return all(isinstance(p, ast.Slice | ast.Constant) and not _is_all(p) for p in parts)


def _is_full(node: ast.expr) -> bool:
    return isinstance(node, ast.Slice) and node.lower is node.upper is node.step is None


def _is_new(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
