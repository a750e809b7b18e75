"""What ``torch.export`` found out that the sizes of a model's inputs must be. Imports torch.

A loop over a length, or a branch on it, is captured for the lengths that take the same way alone.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Iterable

import sympy
import torch

SIZE = re.compile(r"L\['(\w+)'\]\.size\(\)\[(\d+)\]")
RELATIONS = {
    ast.Eq: sympy.Eq,
    ast.NotEq: sympy.Ne,
    ast.Lt: sympy.Lt,
    ast.LtE: sympy.Le,
    ast.Gt: sympy.Gt,
    ast.GtE: sympy.Ge,
}
OPERATIONS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def guards(exported: torch.export.ExportedProgram, names: list[str]) -> list[str]:
    """Conditions on sizes as Python: ``i0_1 == 5`` where the first input's second size must be 5.

    Args:
        exported: Before it was decomposed, or after: what decomposing needs is added.
        names: Of the inputs, in order: ``i0``, ``i1`` …
    """
    named = lambda size: f"i{names.index(size.group(1))}_{size.group(2)}"  # noqa: E731
    return [SIZE.sub(named, text).replace("torch.sym_float(", "float(") for text in exported._guards_code]


def needed(found: Iterable[str]) -> list[str]:
    """Those conditions that do not follow from equal sizes, as ``i0.shape[1] == 5``."""
    same: dict[sympy.Symbol, sympy.Expr] = {}
    kept = []
    for text in sorted(found, key=lambda text: not re.fullmatch(r"i\d+_\d+ == i\d+_\d+", text)):
        relation = _relation(text)
        known = None if relation is None else relation.subs(same)
        if known is sympy.true:
            continue
        if isinstance(known, sympy.Eq) and known.lhs.is_Symbol and known.rhs.is_Symbol:
            same = {name: other.subs(known.lhs, known.rhs) for name, other in same.items()}
            same[known.lhs] = known.rhs
        kept.append(re.sub(r"\b(i\d+)_(\d+)\b", r"\1.shape[\2]", text))
    return list(dict.fromkeys(kept))


def _relation(text: str) -> sympy.Basic | None:
    """The condition in symbols; None where it has anything else than arithmetic."""
    node = ast.parse(text, mode="eval").body
    if not (isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in RELATIONS):
        return None
    sides = [_value(side) for side in (node.left, node.comparators[0])]
    return None if None in sides else RELATIONS[type(node.ops[0])](*sides)


def _value(node: ast.expr) -> sympy.Expr | None:
    if isinstance(node, ast.Constant):
        return sympy.Integer(node.value)
    if isinstance(node, ast.Name):
        return sympy.Symbol(node.id, integer=True, positive=True)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand)
        return None if value is None else -value
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        left, right = _value(node.left), _value(node.right)
        return None if left is None or right is None else OPERATIONS[type(node.op)](left, right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("min", "max"):
        values = [_value(argument) for argument in node.args]
        function = sympy.Min if node.func.id == "min" else sympy.Max
        return None if None in values else function(*values)
    return None
