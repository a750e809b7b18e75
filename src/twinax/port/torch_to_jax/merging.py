"""Functions with fewer statements: a value that only the next one uses is written there."""

from __future__ import annotations

import ast
import itertools

from twinax.port.torch_to_jax.expressions import Substitute, parsed

WIDTH = 88
"""Longest line that statements are merged to."""


def merged(text: str) -> str:
    """The function, with every two statements in one that a line holds; comments stay on theirs."""
    while True:
        node = ast.parse(text).body[0]
        pairs = [pair for block in blocks(node) for pair in itertools.pairwise(block)]
        found = next((new for pair in pairs if (new := _as_one(text, node, *pair)) is not None), None)
        if found is None:
            return _on_one_line(text)
        text = found


def blocks(node: ast.AST) -> list[list[ast.stmt]]:
    """Statements that follow each other, below a node."""
    found = [getattr(n, name, None) for n in ast.walk(node) for name in ("body", "orelse")]
    return [block for block in found if isinstance(block, list)]


def _as_one(text: str, function: ast.stmt, first: ast.stmt, second: ast.stmt) -> str | None:
    """The text with both statements in one, if the second is all that uses what the first gives."""
    if not (isinstance(first, ast.Assign) and isinstance(second, ast.Assign | ast.Return) and second.value):
        return None
    target = first.targets[0]
    if len(first.targets) > 1 or not isinstance(target, ast.Name) or _in_a_loop(function, second):
        return None
    used = _reads(second.value, target.id)
    again = isinstance(second, ast.Assign) and ast.dump(second.targets[0]) == ast.dump(target)
    later = [n for n in _reads(function, target.id) if n.lineno > (second.end_lineno or 0)]
    if len(used) != 1 or (later and not again) or _is_repeated(second.value, used[0]):
        return None
    value = Substitute({target.id: first.value}).visit(parsed(ast.unparse(second.value)))
    left = f"{ast.unparse(second.targets[0])} = " if isinstance(second, ast.Assign) else "return "
    return _replaced(text, first, second, left + ast.unparse(ast.fix_missing_locations(value)))


def _on_one_line(text: str) -> str:
    """The function with every assignment on one line that fits there."""
    statements = [s for s in ast.walk(ast.parse(text)) if isinstance(s, ast.Assign | ast.Return)]
    for statement in sorted(statements, key=lambda s: -s.lineno):
        if (statement.end_lineno or 0) > statement.lineno:
            text = _replaced(text, statement, statement, ast.unparse(statement)) or text
    return text


def _replaced(text: str, first: ast.stmt, last: ast.stmt, code: str) -> str | None:
    """The text with a line in place of these statements, where it is short enough and no comment is lost."""
    lines, end = text.splitlines(), last.end_lineno or last.lineno
    line = " " * first.col_offset + code
    if len(line) > WIDTH or any("#" in row for row in lines[first.lineno - 1 : end]):
        return None
    return "\n".join([*lines[: first.lineno - 1], line, *lines[end:]])


def _reads(node: ast.AST, name: str) -> list[ast.Name]:
    names = [n for n in ast.walk(node) if isinstance(n, ast.Name) and n.id == name]
    return [n for n in names if isinstance(n.ctx, ast.Load)]


def _in_a_loop(function: ast.stmt, statement: ast.stmt) -> bool:
    """Whether what it gives may be read above it."""
    loops = [n for n in ast.walk(function) if isinstance(n, ast.For | ast.While)]
    return any(inner is statement for loop in loops for inner in ast.walk(loop))


def _is_repeated(value: ast.expr, name: ast.Name) -> bool:
    """Whether the name stands in something that is evaluated many times, or later."""
    several = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp | ast.Lambda
    nests = [n for n in ast.walk(value) if isinstance(n, several)]
    return any(inner is name for nest in nests for inner in ast.walk(nest))
