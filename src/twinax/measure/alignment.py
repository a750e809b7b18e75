"""Two sources, block by block: what stands on one side beside what on the other. Pure: texts in, pairs out.

A block is the imports, what else a module does, a function, a method, or a class without its methods. The
blocks of a source are all of it, each line of code in one of them, so their tokens add up to the source's.
"""

from __future__ import annotations

import ast
import copy
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from twinax.measure import source
from twinax.measure.source import Function, NotPython

IMPORTS, REST = "imports", "module level"
ALIKE = {"__call__": "forward", "setup": "__init__"}
"""Methods that do the same under another name."""

OF_A_SIDE = re.compile(r"torch|jax|flax|nnx|linen|equinox|eqx", re.IGNORECASE)
"""Words that tell a name's side: ``TorchNet`` and ``JaxNet`` are one idea."""


@dataclass(frozen=True)
class Block:
    """One piece of a source.

    Attributes:
        path: Its name: ``Bottleneck.forward``; that of a class is of all but its methods.
        text: As written, with comments and docstrings.
        statements: As in :class:`~twinax.measure.source.Figures`.
        tokens: Likewise.
        complexity: Likewise; 0 where the block holds no function.
    """

    path: str
    text: str
    statements: int
    tokens: int
    complexity: int


@dataclass(frozen=True)
class Pair:
    """A block of either side, or one that stands alone.

    Attributes:
        title: The block's path; both paths where they differ; ``(2)`` for the second one of that path.
        torch: PyTorch's block; None where only JAX has one.
        jax: JAX's block.
    """

    title: str
    torch: Block | None
    jax: Block | None

    @property
    def extra(self) -> int:
        """Tokens that JAX's block has more than PyTorch's."""
        return (self.jax.tokens if self.jax else 0) - (self.torch.tokens if self.torch else 0)


def align(torch: str, jax: str) -> list[Pair]:
    """The blocks of both sources, in PyTorch's order; then what only JAX has.

    Two blocks belong together when their paths are the same, but for words that tell the side and for the
    names of :data:`ALIKE`; of several with one path the first goes with the first. The only class of a source
    goes with the only class of the other, whatever they are called. Nothing else is guessed: a function that
    was renamed stands alone.

    Raises:
        NotPython: One of the texts cannot be read.
    """
    blocks = [split(text) for text in (torch, jax)]
    keyed = [_keyed(side, only) for side, only in zip(blocks, _only_classes(torch, jax), strict=True)]
    return [
        _pair(which, *(side.get((shared, which)) for side in keyed)) for shared, which in keyed[0] | keyed[1]
    ]


def _pair(which: int, torch: Block | None, jax: Block | None) -> Pair:
    paths = dict.fromkeys(block.path for block in (torch, jax) if block)
    number = f" ({which + 1})" if which else ""
    return Pair(" / ".join(paths) + number, torch, jax)


def _keyed(blocks: Sequence[Block], only_class: str) -> dict[tuple[str, int], Block]:
    """The blocks by what they are matched by: the path without its side, and which one of that path."""
    seen: Counter[str] = Counter()
    keyed = {}
    for block in blocks:
        parts = block.path.split(".")
        shared = ".".join("the class" if part == only_class else _shared(part) for part in parts)
        keyed[shared, seen[shared]] = block
        seen[shared] += 1
    return keyed


def _shared(name: str) -> str:
    """A name without words that tell its side."""
    return OF_A_SIDE.sub("", ALIKE.get(name, name)).strip("_") or name


def _only_classes(*texts: str) -> list[str]:
    """The name of each source's class, where each has one alone; else empty names."""
    classes = [[n.name for n in ast.walk(source.parse(text)) if isinstance(n, ast.ClassDef)] for text in texts]
    return [names[0] if all(len(found) == 1 for found in classes) else "" for names in classes]


# --- one source ---------------------------------------------------------------------------------------


def split(text: str) -> list[Block]:
    """The blocks of a source, in its order.

    A source that is one function alone, as a user's pair has them, is split by what stands in that function.

    Raises:
        NotPython: The text cannot be read.
    """
    splitter = _Splitter(text)
    body = splitter.tree.body
    try:
        if len(body) == 1 and isinstance(body[0], Function):
            splitter.container(body[0], "", splitter.begin(body[0]))
        else:
            splitter.several(body, "", splitter.begin(body[0]))
    except RecursionError as error:
        raise NotPython(source.TOO_DEEP) from error
    return splitter.blocks


class _Splitter:
    """Walks a source once; each of its lines goes to one block, comments to what follows them."""

    def __init__(self, text: str) -> None:
        self.tree = source.parse(text)
        self.lines = re.split(r"\r\n|\r|\n", text)  # as Python counts them; str.splitlines knows more ends
        self.blocks: list[Block] = []

    def several(self, body: Sequence[ast.stmt], prefix: str, start: int) -> None:
        """Statements of a module: imports, functions and classes, and the rest."""
        loose: dict[str, list[tuple[ast.stmt, int, int]]] = {IMPORTS: [], REST: []}
        for node in body:
            end = node.end_lineno or node.lineno
            if isinstance(node, ast.ClassDef) and any(isinstance(n, Function) for n in node.body):
                self.container(node, prefix, start)
            elif isinstance(node, ast.ClassDef | Function):
                self.add(f"{prefix}{node.name}", [node], [(start, end)])
            else:
                kind = IMPORTS if isinstance(node, ast.Import | ast.ImportFrom) else REST
                loose[kind].append((node, start, end))
            start = max(start, end + 1)
        for kind, found in loose.items():
            if found:
                spans = [(first, last) for _, first, last in found]
                self.add(f"{prefix}{kind}", [node for node, _, _ in found], spans)

    def container(self, node: ast.ClassDef | Function, prefix: str, start: int) -> None:
        """A class and its methods, or a function and what is defined in it; its own lines come first."""
        place, inner = len(self.blocks), "" if isinstance(node, Function) else f"{prefix}{node.name}."
        spans, kept = [], []
        first = start
        for child in node.body:
            end = child.end_lineno or child.lineno
            if not isinstance(child, ast.ClassDef | Function):
                kept.append(child)
            else:
                begin = self.begin(child)
                spans.append((first, begin - 1))
                self.several([child], inner, begin)
                first = end + 1
        spans.append((first, node.end_lineno or node.lineno))
        own = copy.copy(node)
        own.body = kept
        whole = source.complexity(node) if isinstance(node, Function) else 0
        self.add(f"{prefix}{node.name}", [own], spans, place, whole)

    def begin(self, node: ast.stmt) -> int:
        """The first line of a statement: of the comments directly above it, else of its decorators."""
        line = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
        while line > 1 and self.lines[line - 2].lstrip().startswith("#"):
            line -= 1
        return line

    def add(
        self,
        path: str,
        nodes: Sequence[ast.stmt],
        spans: Sequence[tuple[int, int]],
        place: int | None = None,
        complexity: int | None = None,
    ) -> None:
        """A block of these statements, whose text is these lines."""
        functions = [n for node in nodes for n in ast.walk(node) if isinstance(n, Function)]
        if complexity is None:
            complexity = sum(map(source.complexity, functions))
        tree = ast.Module(list(nodes), [])
        lines = [line for first, last in spans for line in self.lines[first - 1 : last]]
        block = Block(
            path,
            re.sub(r"\n{4,}", "\n\n\n", textwrap.dedent("\n".join(lines)).strip("\n")),
            source.statements(tree),
            source.tokens(tree),
            complexity,
        )
        self.blocks.insert(len(self.blocks) if place is None else place, block)
