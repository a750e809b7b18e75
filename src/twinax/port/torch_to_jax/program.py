"""What was captured of a module: statements on named values. Imports no framework."""

from __future__ import annotations

import importlib.util
import linecache
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np

MODES = ("eval", "train")
FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)\n\s*(.*)')
PORT = f"{Path(__file__).parents[1]}/"
DROPOUTS = tuple(f"torch.nn.modules.dropout.{n}" for n in ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d"))


@dataclass(frozen=True)
class Ref:
    """A value by its name: an input, a parameter or buffer (its torch name), or a statement's result."""

    name: str


@dataclass(frozen=True)
class Size:
    """A size that depends on the inputs: an expression in symbols such as ``s0``."""

    expression: Any  # sympy.Expr

    def __hash__(self) -> int:
        return hash(str(self.expression))


@dataclass(frozen=True)
class DType:
    """A dtype that stands in the graph; ``float64`` follows the weights, ``float32`` is at least float32."""

    name: str


@dataclass(frozen=True)
class Value:
    """What is known of a value: sizes (ints, or :class:`Size`) and dtype."""

    shape: tuple[Any, ...]
    dtype: str


@dataclass(frozen=True)
class Level:
    """One module call around a statement: which call it is, the module's path, and its class."""

    key: str
    path: str
    type: str


@dataclass(frozen=True)
class Frame:
    """A line of the user's source."""

    file: str
    line: int
    function: str
    code: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.code}"


@dataclass(frozen=True)
class Statement:
    """One operation: ``results = op(*args, **kwargs)``, without ``aten.``; unused results are ``""``.

    ``several``: torch gives a tuple or list of results, if only of one.
    """

    op: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    results: tuple[str, ...]
    levels: tuple[Level, ...]
    frames: tuple[Frame, ...]
    several: bool

    @property
    def where(self) -> str:
        """The user's own line, or else the module."""
        own = [frame for frame in self.frames if is_own(frame.file)]
        if own or not self.levels:
            return str(own[-1]) if own else "an unknown line"
        path, kind = self.levels[-1].path, self.levels[-1].type.rpartition(".")[2]
        return f"{path} ({kind})" if path else kind


@dataclass
class Program:
    """The module in one mode.

    Attributes:
        inputs: Names of the inputs that are arrays, in order.
        statements: In the order in which they run.
        values: Of every name.
        outputs: References in a nest of tuples and dicts, as the model returns it.
        updates: Buffer's torch name → the value that it has afterwards.
        weights: Names of parameters and persistent buffers that the graph uses.
        constants: Arrays that are neither, by name.
        guards: What the sizes of the inputs must satisfy: Python, with ``i0_1`` for the first input's
            second size.
        finite: Lines on which a branch asks whether numbers are finite: they were taken to be.
        written: Inputs that ``forward`` writes into.
        moved: Parameters that ``forward`` changes, to what it computes with again when it is called again.
        changed: Attributes, by path and name, to which ``forward`` gives another number or text.
        functions: Of ``torch.autograd``, called with a backward of their own.
        given: Path of a module → names of ``forward``'s parameters that are given tensors, in their order.
        same: Constant's name → the first one that has the same numbers.
    """

    inputs: list[str] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    outputs: Any = None
    updates: dict[str, Ref] = field(default_factory=dict)
    weights: set[str] = field(default_factory=set)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)
    guards: list[str] = field(default_factory=list)
    finite: tuple[Frame, ...] = ()
    written: list[str] = field(default_factory=list)
    moved: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    functions: list[type] = field(default_factory=list)
    given: dict[str, tuple[str, ...]] = field(default_factory=dict)


def refs(value: Any) -> Iterator[Ref]:
    """Every reference in a nest of arguments."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from refs(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from refs(item)


def keep_used(program: Program) -> None:
    """Leave out statements that no result needs."""
    live = set(refs((program.outputs, tuple(program.updates.values()))))
    kept = []
    for statement in reversed(program.statements):
        if any(Ref(r) in live for r in statement.results if r):
            live |= set(refs((statement.args, tuple(statement.kwargs.values()))))
            kept.append(statement)
    program.statements = kept[::-1]


def frame_at(code: CodeType, line: int) -> Frame:
    """A line that runs."""
    text = linecache.getline(code.co_filename, line).strip()
    return Frame(code.co_filename, line, code.co_name, text)


def own_line() -> Frame:
    """The innermost of the lines that run now which is the model's own."""
    frame = sys._getframe(1)
    while frame.f_back is not None and not is_own(frame.f_code.co_filename):
        frame = frame.f_back
    return frame_at(frame.f_code, frame.f_lineno)


def frames_of(text: str) -> Iterator[Frame]:
    """The lines of a stack trace."""
    for file, line, function, code in FRAME.findall(text):
        yield Frame(file, int(line), function, code.strip())


def is_torch(file: str) -> bool:
    """Whether a line is of torch itself, as it lies here or where a program was saved."""
    installed = any(f"/{kind}-packages/torch/" in file for kind in ("site", "dist"))
    return installed or file.startswith((_torch_folder(), "torch/"))


def is_own(file: str) -> bool:
    """Whether a line is the model's own: neither torch's, nor of a graph that torch made, nor ours."""
    return not is_torch(file) and not file.startswith((PORT, "<eval_with_key>", "<string>"))


@cache
def _torch_folder() -> str:
    """Found without importing it."""
    spec = importlib.util.find_spec("torch")
    return f"{Path(spec.origin).parent}/" if spec and spec.origin else "torch/"
