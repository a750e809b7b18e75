"""Names for values, taken from the user's own source: what a line of ``forward`` assigns to."""

from __future__ import annotations

import ast
import inspect
import keyword
import linecache
import textwrap
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from twinax.port.torch_to_jax import table
from twinax.port.torch_to_jax.code import Code, Invoke, Local, Own
from twinax.port.torch_to_jax.program import Frame

RESERVED = {"self", "jax", "jnp", "lax", "nnx", "np", "math", "partial", "constant"}


def results(code: Code) -> dict[str, str]:
    """Local → the name that the user's source gives it; the last result of a line has the line's name."""
    last: dict[Frame, int] = {}
    for index, line in enumerate(code.lines):
        if line is not None:
            last[line] = index
    names: dict[str, str] = {}
    for line, index in last.items():
        item = code.form.items[index]
        found = [r for r in getattr(item, "results", ()) if r]
        targets = _targets(line.file, line.line)
        if len(targets) == 1 and len(found) == 1:
            names[found[0]] = targets[0]
        elif len(found) > 1 and len(targets) >= len(found):
            names |= dict(zip(found, targets, strict=False))
    return {local: name for local, name in names.items() if usable(name)}


def parameters(forward: Callable[..., Any], given: tuple[str, ...], callers: list[str]) -> list[str]:
    """Names of a module's inputs among the parameters of its ``forward``, else what the caller calls them.

    Inputs come in the order in which they are used; so do the parameters here, those without a default first.
    One that may be left out is recognised where the caller calls it the same.

    Args:
        given: The parameters that are given tensors, in the order of their use; as many as there are inputs,
            they are the inputs.
        callers: What the caller calls each input; "" where it has no name.
    """
    if len(given) == len(callers):
        return list(given)
    try:
        known = inspect.signature(forward).parameters.values()
        first = _first_uses(textwrap.dedent(inspect.getsource(forward)))
    except (TypeError, ValueError, OSError, SyntaxError):
        return callers
    read = [p for p in known if p.name in first and p.name != "self"]
    used = sorted(read, key=lambda p: (p.default is not p.empty, first[p.name]))
    optional = {p.name for p in used if p.default is not p.empty}
    free = [p.name for p in used if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in optional & set(callers)]
    return [name if name in optional or not free else free.pop(_likeliest(name, free)) for name in callers]


def _likeliest(name: str, free: list[str]) -> int:
    """The place of a parameter that shares a word with what the caller has; else of the first."""
    words = set(name.split("_"))
    return next((place for place, other in enumerate(free) if words & set(other.split("_"))), 0)


def _first_uses(source: str) -> dict[str, tuple[int, int]]:
    """Name → where the function first reads it."""
    first: dict[str, tuple[int, int]] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            place = (node.lineno, node.col_offset)
            first[node.id] = min(place, first.get(node.id, place))
    return first


def inputs(code: Code, names: dict[str, str], invoke: Invoke) -> list[str]:
    """What a call's arguments are called where it is made; "" where they have no name."""
    found = []
    for argument in invoke.args:
        if isinstance(argument, Local):
            found.append(names.get(argument.name, ""))
        else:
            found.append(argument.path.split(".")[-1] if isinstance(argument, Own) else "")
    return found


def usable(name: str) -> bool:
    """Whether a value may have the name: none that the file has for a module or a function."""
    other = keyword.iskeyword(name) or name in RESERVED or name in table.definitions()
    return name.isidentifier() and not other and name.strip("_") != ""


@cache
def _assignments(file: str) -> dict[int, list[str]]:
    """Line → names that the statement on it assigns to; of every line of a statement."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return {}
    found: dict[int, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            parts = target.elts if isinstance(target, ast.Tuple) else [target]
            names = [part.id if isinstance(part, ast.Name) else "" for part in parts]
            for line in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                found[line] = names
    return found


def _targets(file: str, line: int) -> list[str]:
    return _assignments(file).get(line, [])


def few(names: Sequence[str]) -> str:
    """The first of some names, as many as a sentence bears."""
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
