"""Which operations of a captured module cannot be written, and why."""

from __future__ import annotations

import ast
from functools import partial
from typing import Any

from twinax.errors import Unsupported
from twinax.port.torch_to_jax import expressions, table
from twinax.port.torch_to_jax.code import DROPOUT, Code, Hole, Local, Op
from twinax.port.torch_to_jax.expressions import literal
from twinax.port.torch_to_jax.phrases import CASTS, INDEXING


def unsupported(op: Op, code: Code, index: int, where: str) -> Unsupported | None:
    """Why an operation cannot be written, if it cannot."""
    if op.op in (DROPOUT, *CASTS):
        if op.op == DROPOUT and op.results[1]:
            return Unsupported("aten.native_dropout", where, "Its mask is used: use dropout without it.")
        return None
    if op.op == "index.Tensor":
        masks = [i for i in op.args[1] if isinstance(i, Local) and code.values[i.name].dtype == "bool"]
        hint = "A mask selects as many entries as the data say: use torch.where."
        return Unsupported("aten.index.Tensor with a mask", where, hint) if masks else None
    if op.op in (*INDEXING, "expand.default"):
        return None
    entry = table.read().get(op.op)
    if entry is None:
        return Unsupported(torch_name(op.op), where, "It is not in the table: express it by others.")
    if entry.results and any(r and i not in entry.results for i, r in enumerate(op.results)):
        return Unsupported(torch_name(op.op), where, "A result of it is used that has no counterpart in JAX.")
    stand_in = partial(_stand_in, code)
    try:
        given = expressions.bound(entry, list(map(stand_in, op.args)), {k: stand_in(v) for k, v in op.kwargs})
    except TypeError as error:
        return Unsupported(f"{torch_name(op.op)} with {error}", where, "Leave that argument out.")
    what, _, hint = (expressions.refusal(entry, given) or "").partition(": ")
    hint = hint or "express it by other operations"
    return Unsupported(what, where, f"{hint[0].upper()}{hint[1:]}.") if what else None


def torch_name(op: str) -> str:
    """An operation's full name: of ATen, unless another library stands in front."""
    return op if op.split(" ")[0].count(".") > 1 else f"aten.{op}"


def _stand_in(code: Code, value: Any) -> ast.expr:
    """A constant as itself, anything else as a name."""
    if isinstance(value, Hole):
        value = code.holes[value.index]
    if isinstance(value, tuple):
        return ast.Tuple([_stand_in(code, item) for item in value], ast.Load())
    plain = value is None or isinstance(value, bool | int | float | str)
    return literal(value) if plain else ast.Name("given")
