"""Names for values, taken from the user's own source: what a line of ``forward`` assigns to."""

from __future__ import annotations

import ast
import keyword
import linecache
from functools import cache

from twinax.port.torch_to_jax.capture import Frame
from twinax.port.torch_to_jax.code import Code, Invoke, Local, Own

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
    """Whether a value may have the name."""
    return (
        name.isidentifier() and not keyword.iskeyword(name) and name not in RESERVED and name.strip("_") != ""
    )


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
