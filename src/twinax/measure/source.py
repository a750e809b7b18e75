"""Figures of a Python source: how much there is to read, and what of the framework it names.

Pure: text in, numbers out. Comments and docstrings are not code. Everything is counted on the syntax tree, or
on what ``ast.unparse`` makes of it, so that line breaks, redundant parentheses and trailing commas do not
matter.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from radon.metrics import h_visit_ast
from radon.visitors import ComplexityVisitor

Function = ast.FunctionDef | ast.AsyncFunctionDef
Place = Literal["received", "passed", "returned"]

FRAMEWORKS: Mapping[str, tuple[str, ...]] = {
    "torch": ("torch", "torchvision", "torchaudio"),
    "jax": ("jax", "jaxlib", "flax", "optax", "equinox", "orbax", "chex", "haiku"),
}
"""Top-level packages whose names count as a side's API."""

STATE = frozenset(
    (
        *("params", "parameters", "variables", "state", "states", "opt_state", "optimizer_state"),
        *("batch_stats", "train_state", "model_state", "carry"),
    )
)
"""Names by which a model's parameters and state go from function to function."""

KEYS: Mapping[str, frozenset[str]] = {
    "torch": frozenset({"generator"}),  # else torch draws from a global one
    "jax": frozenset(
        (
            *("key", "keys", "subkey", "subkeys", "rng", "rngs", "prng", "prng_key", "rng_key"),
            *("init_key", "params_key", "dropout_key"),
        )
    ),
}
"""Names by which the source of random numbers does, by side."""

ATTENTION = frozenset({"query", "value", "values", "q", "v"})
"""Beside one of these a ``key`` is attention's, or a dictionary's."""

CONTROL = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.TryStar,
    ast.Match,
)
TOO_DEEP = "An expression is nested too deeply to be read."
COUNTED = (tokenize.NAME, tokenize.NUMBER, tokenize.STRING, tokenize.OP)


class NotPython(ValueError):
    """A text of which no figures can be made; the message says why, and where."""


@dataclass(frozen=True)
class Figures:
    """What is counted of one source.

    Attributes:
        statements: Logical lines: statements; ``if …:`` or ``def …:`` counts one, beside its body.
        tokens: Names, numbers, strings and operators; an f-string is one.
        complexity: Cyclomatic complexity by radon (decisions + 1), summed over all functions, nested ones too.
        hardest: The function with the highest complexity; "" where there is none.
        hardest_complexity: Its complexity.
        volume: Halstead's volume N log2 n by radon, in bits. Radon's operators are those of arithmetic, logic
            and comparison; a call or an assignment is none.
        difficulty: Halstead's difficulty.
        effort: Their product.
        nesting: Control structures inside one another; an ``elif`` is as deep as its ``if``.
        calls_deep: Calls inside the arguments of one another: 3 in ``relu(norm(conv(x)))``.
        api: Distinct dotted names of the framework that are used, resolved through the imports.
        methods: Distinct names of methods that are called on anything but ``self``, ``super()`` or an imported
            module, and that this source does not define.
        state: How often parameters or state (:data:`STATE`) are received, passed and returned by name.
        keys: The same of random keys and generators (:data:`KEYS`).
    """

    statements: int
    tokens: int
    complexity: int
    hardest: str
    hardest_complexity: int
    volume: float
    difficulty: float
    effort: float
    nesting: int
    calls_deep: int
    api: tuple[str, ...]
    methods: tuple[str, ...]
    state: dict[Place, int]
    keys: dict[Place, int]


def measure(text: str, side: str) -> Figures:
    """The figures of a side's source.

    Raises:
        NotPython: The text holds no code, does not parse, or is nested too deeply to be walked.
    """
    tree = parse(text)
    try:
        halstead = h_visit_ast(tree).total
        complexities = {f: complexity(f) for f in ast.walk(tree) if isinstance(f, Function)}
        hardest = max(complexities, key=lambda f: complexities[f], default=None)
        api, methods = _names(tree, FRAMEWORKS[side])
        return Figures(
            statements=statements(tree),
            tokens=tokens(tree),
            complexity=sum(complexities.values()),
            hardest=hardest.name if hardest else "",
            hardest_complexity=complexities[hardest] if hardest else 0,
            volume=halstead.volume,
            difficulty=halstead.difficulty,
            effort=halstead.effort,
            nesting=_nesting(tree),
            calls_deep=_calls_deep(tree),
            api=api,
            methods=methods,
            state=_threaded(tree, STATE),
            keys=_threaded(tree, KEYS[side]),
        )
    except RecursionError as error:
        raise NotPython(TOO_DEEP) from error


def parse(text: str) -> ast.Module:
    """The syntax tree without docstrings; line numbers are those of the text.

    Raises:
        NotPython: The text holds no code, or does not parse.
    """
    try:
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | Function) and _has_docstring(node):
                node.body = node.body[1:] or ([] if isinstance(node, ast.Module) else [ast.Pass()])
    except SyntaxError as error:
        raise NotPython(f"Line {error.lineno or 1}: {error.msg}.") from error
    except (MemoryError, RecursionError) as error:  # the parser's ways to say so
        raise NotPython(TOO_DEEP) from error
    except ValueError as error:  # null bytes
        raise NotPython(f"It cannot be parsed: {error}.") from error
    if not tree.body:
        raise NotPython("It holds no code.")
    return tree


def _has_docstring(node: ast.Module | ast.ClassDef | Function) -> bool:
    first = node.body[0] if node.body else None
    return (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    )


def statements(tree: ast.AST) -> int:
    """Statements in a tree. (Radon's logical lines count ``x[:, 0]`` and ``x: int`` twice, for their colon.)"""
    return sum(isinstance(node, ast.stmt) for node in ast.walk(tree))


def tokens(tree: ast.AST) -> int:
    """Tokens of the tree as ``ast.unparse`` writes it; an f-string is one in every version of Python."""
    count, inside = 0, 0
    for token in tokenize.generate_tokens(io.StringIO(ast.unparse(tree) + "\n").readline):
        name = tokenize.tok_name[token.type]
        if name == "FSTRING_START":  # from Python 3.12 on an f-string comes in parts
            count += inside == 0
            inside += 1
        elif name == "FSTRING_END":
            inside -= 1
        elif not inside:
            count += token.type in COUNTED
    return count


def complexity(function: Function) -> int:
    """Cyclomatic complexity of a function alone, without the functions and classes inside it."""
    return ComplexityVisitor.from_ast(function).functions[0].complexity


def _nesting(node: ast.AST, depth: int = 0) -> int:
    """Control structures inside one another below a node that stands in ``depth`` of them."""
    inner = depth + isinstance(node, CONTROL)
    chained = node.orelse[0] if isinstance(node, ast.If) and len(node.orelse) == 1 else None
    depths = [
        _nesting(child, depth if child is chained and isinstance(child, ast.If) else inner)
        for child in ast.iter_child_nodes(node)
    ]
    return max(depths, default=inner)


def _calls_deep(node: ast.AST) -> int:
    """Calls inside the arguments of one another; a chain ``x.a().b()`` is one deep."""
    if isinstance(node, ast.Call):
        inside = [_calls_deep(part) for part in (*node.args, *node.keywords)]
        return max(_calls_deep(node.func), 1 + max(inside, default=0))
    return max((_calls_deep(child) for child in ast.iter_child_nodes(node)), default=0)


# --- names of the framework --------------------------------------------------------------------------


def _imports(tree: ast.AST) -> dict[str, str]:
    """What each imported name stands for, as a dotted path, wherever in the source it is imported."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                found[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                found[alias.asname or alias.name] = f"{module}.{alias.name}"
    return found


class _Names(ast.NodeVisitor):
    """Collects dotted names that start with an imported one, and methods called on anything else."""

    def __init__(self, imports: Mapping[str, str]) -> None:
        self.imports = imports
        self.dotted: set[str] = set()
        self.methods: set[str] = set()

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if path := self.resolved(node):
            self.dotted.add(path)
        else:
            self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self.imports:
            self.dotted.add(self.imports[node.id])

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute) and not self.resolved(node.func):
            owner = node.func.value
            is_super = (
                isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id == "super"
            )
            if not is_super and not (isinstance(owner, ast.Name) and owner.id == "self"):
                self.methods.add(node.func.attr)
        self.generic_visit(node)

    def resolved(self, node: ast.expr) -> str:
        """``jax.numpy.tanh`` for ``jnp.tanh``; "" where it does not start with an imported name."""
        if isinstance(node, ast.Attribute):
            owner = self.resolved(node.value)
            return f"{owner}.{node.attr}" if owner else ""
        return self.imports.get(node.id, "") if isinstance(node, ast.Name) else ""


def _names(tree: ast.AST, packages: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The framework's dotted names, and the methods, that a source uses; each once, sorted."""
    imports = _imports(tree)
    names = _Names(imports)
    names.visit(tree)
    stars = {path for name, path in imports.items() if name == "*"}  # what they bring cannot be told apart
    api = {path for path in names.dotted | stars if path.partition(".")[0] in packages}
    own = {node.name for node in ast.walk(tree) if isinstance(node, Function)}
    return tuple(sorted(api)), tuple(sorted(names.methods - own))


# --- what is threaded through -------------------------------------------------------------------------


def _threaded(tree: ast.AST, wanted: frozenset[str]) -> dict[Place, int]:
    """How many parameters, arguments and returned values bear one of the names."""
    counts: dict[Place, int] = {"received": 0, "passed": 0, "returned": 0}
    for node in ast.walk(tree):
        if isinstance(node, Function | ast.Lambda):
            given = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            counts["received"] += _matching([{parameter.arg} for parameter in given], wanted)
        elif isinstance(node, ast.Call):
            named = [{k.arg or "", *_borne(k.value)} for k in node.keywords]
            counts["passed"] += _matching([*(set(_borne(a)) for a in node.args), *named], wanted)
        elif isinstance(node, ast.Return) and node.value is not None:
            parts = node.value.elts if isinstance(node.value, ast.Tuple | ast.List) else [node.value]
            counts["returned"] += _matching([set(_borne(part)) for part in parts], wanted)
    return counts


def _matching(names: list[set[str]], wanted: frozenset[str]) -> int:
    """How many of a list's places bear a wanted name; ``key`` beside ``query`` or ``value`` is not one."""
    if ATTENTION & set().union(*names):
        wanted = wanted - {"key", "keys"}
    return sum(bool(borne & wanted) for borne in names)


def _borne(node: ast.expr) -> Iterator[str]:
    """Names under which a value goes: ``params``, ``self.params``, and both in ``{"params": params}``."""
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Starred):
        yield from _borne(node.value)
    elif isinstance(node, ast.Tuple | ast.List):
        for part in node.elts:
            yield from _borne(part)
    elif isinstance(node, ast.Dict):
        for part in node.values:
            yield from _borne(part)
