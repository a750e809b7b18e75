"""The operations that can be ported, read from the text of ``ops``: no framework is imported.

An entry is a function of ``ops`` with an ``@aten(…)`` on it. What the function uses beside jax (another
function, a constant of its file) comes with it.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

OPS = Path(__file__).parent / "ops"
LIBRARIES = ("jax", "jnp", "lax", "nnx", "np", "math", "partial")
"""Names that files of ``ops`` import, and that the head of a ported file imports alike."""


@dataclass(frozen=True)
class Definition:
    """A function or constant of ``ops``: its text without decorators, and the names it uses."""

    name: str
    text: str
    uses: frozenset[str]


@dataclass(frozen=True)
class Entry:
    """One ATen operation.

    Attributes:
        function: Name of the function.
        node: Its syntax tree, without decorators and docstring.
        promote: Whether tensors are cast to the common dtype.
        whole: Whether it is called, even where it is a single expression.
        results: Which of torch's results it gives; empty for all.
    """

    function: str
    node: ast.FunctionDef
    promote: bool
    whole: bool
    results: tuple[int, ...]

    @property
    def expression(self) -> ast.expr | None:
        """What it returns, where that is all it does and it may stand in place of a call."""
        body = self.node.body
        alone = not self.whole and len(body) == 1 and isinstance(body[0], ast.Return)
        return body[0].value if alone else None  # type: ignore[union-attr]

    @property
    def draws(self) -> bool:
        """Whether it draws at random: it takes a key."""
        arguments = self.node.args
        return any(
            a.arg == "key" and d is None
            for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        )

    @property
    def parameters(self) -> list[str]:
        """Names of all parameters, positional ones first."""
        return [a.arg for a in (*self.node.args.args, *self.node.args.kwonlyargs)]


@cache
def read() -> dict[str, Entry]:
    """Every operation by its name without ``aten.``."""
    entries: dict[str, Entry] = {}
    for _, node in _statements():
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "aten":
                    entries |= dict.fromkeys(_names(decorator), _entry(node, decorator))
    return entries


@cache
def definitions() -> dict[str, Definition]:
    """Every function and constant of ``ops`` by its name."""
    found: dict[str, Definition] = {}
    for text, node in _statements():
        if isinstance(node, ast.FunctionDef):
            names, start = [node.name], node.lineno
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            names, start = [node.targets[0].id], node.lineno
        else:
            continue
        source = "\n".join(text.splitlines()[start - 1 : node.end_lineno])
        if isinstance(node, ast.FunctionDef):
            source = _on_one_line(node, source)
        uses = frozenset(_free(node))
        assert names[0] not in found, f"two definitions of {names[0]} in ops"
        found[names[0]] = Definition(names[0], source, uses)
    return found


def needed(names: set[str]) -> list[Definition]:
    """These definitions and what they use, in an order in which each comes after what it uses."""
    known, ordered, seen = definitions(), [], set()

    def visit(name: str) -> None:
        if name in seen or name not in known:
            return
        seen.add(name)
        for other in sorted(known[name].uses - {name}):
            visit(other)
        ordered.append(known[name])

    for name in sorted(names):
        visit(name)
    return ordered


def _on_one_line(node: ast.FunctionDef, source: str) -> str:
    """The function with its head on one line."""
    body = source.splitlines()[node.body[0].lineno - node.lineno :]
    return "\n".join([head(node), *body])


def head(node: ast.FunctionDef) -> str:
    """A function's first line."""
    arguments = node.args
    bare = len(arguments.args) - len(arguments.defaults)
    parts = [
        _parameter(a, arguments.defaults[n - bare] if n >= bare else None) for n, a in enumerate(arguments.args)
    ]
    if arguments.vararg:
        parts.append(f"*{arguments.vararg.arg}")
    elif arguments.kwonlyargs:
        parts.append("*")
    parts += [_parameter(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"def {node.name}({', '.join(parts)}){returns}:"


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    kind = f": {ast.unparse(argument.annotation)}" if argument.annotation else ""
    return f"{argument.arg}{kind}" + (f" = {ast.unparse(default)}" if default is not None else "")


def _free(node: ast.stmt) -> set[str]:
    """Names that a statement reads and does not make itself."""
    names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
    own = {n.id for n in names if isinstance(n.ctx, ast.Store)} | {
        a.arg for a in ast.walk(node) if isinstance(a, ast.arg)
    }
    own |= {inner.name for inner in ast.walk(node) if isinstance(inner, ast.FunctionDef)}
    return {n.id for n in names} - own


@cache
def _statements() -> list[tuple[str, ast.stmt]]:
    files = sorted(path for path in OPS.glob("*.py") if path.stem not in ("__init__", "base"))
    texts = [path.read_text() for path in files]
    return [(text, node) for text in texts for node in ast.parse(text).body]


def _names(decorator: ast.Call) -> list[str]:
    return [ast.literal_eval(argument) for argument in decorator.args]


def _entry(node: ast.FunctionDef, decorator: ast.Call) -> Entry:
    options = {k.arg: ast.literal_eval(k.value) for k in decorator.keywords}
    bare = ast.parse(ast.unparse(node)).body[0]
    assert isinstance(bare, ast.FunctionDef)
    bare.decorator_list = []
    if ast.get_docstring(bare) is not None:
        bare.body = bare.body[1:]
    return Entry(
        node.name, bare, bool(options.get("promote")), bool(options.get("whole")), options.get("results", ())
    )
