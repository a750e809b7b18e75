"""One call of a module in canonical form: values numbered in order, numbers taken out as holes.

Two calls with the same canonical form are the same source code, up to the numbers in the holes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from twinax.errors import CannotPort, Unsupported
from twinax.port.torch_to_jax.program import (
    DROPOUTS,
    DType,
    Frame,
    Program,
    Ref,
    Size,
    Statement,
    Value,
    is_own,
    refs,
)
from twinax.port.torch_to_jax.tree import Call, Update

NUMBER = "a size or branch"
DROPOUT = "native_dropout.default"
ATTENTION = "scaled_dot_product_attention.default"
RECURRENT = ("lstm.input", "gru.input", "rnn_tanh.input", "rnn_relu.input")
TRAIN_AT = 6  # of the recurrent operations' arguments: whether dropout between layers is on


@dataclass(frozen=True)
class Local:
    """An input or a result inside the call."""

    name: str


@dataclass(frozen=True)
class Own:
    """A parameter or buffer, by its path from the module."""

    path: str


@dataclass(frozen=True)
class Constant:
    """An array that is part of the program, by the hole that holds its name."""

    hole: int


@dataclass(frozen=True)
class Hole:
    """A number that may differ between calls of one form."""

    index: int


@dataclass(frozen=True)
class Extent:
    """A size that depends on the inputs, as Python text: ``i0.shape[1] // 2``."""

    text: str


@dataclass(frozen=True)
class Record:
    """Outputs by name."""

    items: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Op:
    """``results = op(args, kwargs)``; an unused result is ``""``."""

    op: str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    results: tuple[str, ...]
    several: bool


@dataclass(frozen=True)
class Invoke:
    """``results = self.<child>(args)``."""

    child: str
    args: tuple[Any, ...]
    results: tuple[str, ...]


@dataclass(frozen=True)
class Assign:
    """``self.<buffer> = value``."""

    buffer: str
    value: Any


@dataclass(frozen=True)
class Form:
    """The canonical form: inputs (``i0``, …; sizes among them), items, and what is returned."""

    inputs: tuple[str, ...]
    items: tuple[Op | Invoke | Assign, ...]
    returns: Any
    dtypes: tuple[str, ...]  # of the inputs


@dataclass
class Code:
    """A call's form with what is not part of it.

    Attributes:
        form: The form.
        holes: The numbers.
        values: Shape and dtype of each local.
        owned: The same of the module's parameters and buffers, by their path from it.
        lines: Of each item the line of the module's own ``forward``.
        origins: Of each item the innermost line that is not torch's.
        constants: Of the program.
    """

    form: Form
    holes: list[Any] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    owned: dict[str, Value] = field(default_factory=dict)
    lines: list[Frame | None] = field(default_factory=list)
    origins: list[Frame | None] = field(default_factory=list)
    constants: Mapping[str, np.ndarray] = field(default_factory=dict)


def code_of(call: Call, program: Program, *, plain: bool = False) -> Code:
    """The canonical form of a call.

    Args:
        call: With its signature.
        program: That it belongs to.
        plain: As an export in eval mode has it: without dropout outside of ``nn.Dropout``.
    """
    return _Reader(call, program, plain).code


class _Reader:
    def __init__(self, call: Call, program: Program, plain: bool) -> None:
        self.call, self.program, self.plain = call, program, plain
        self.local: dict[str, Any] = {}
        self.symbols: dict[str, str] = {}  # symbol or expression → Python text
        self.code = Code(Form((), (), None, ()), constants=program.constants)
        self.count = 0
        self.near: dict[str, str] = {}
        self.piece: Statement | Call | Update | None = None
        self.lasting = _lasting(call)
        for index, given in enumerate(call.inputs):
            name = f"i{index}"
            if isinstance(given, Ref):
                self._define(given.name, name)
            else:
                self.symbols[str(given.expression)] = name
        items: list[Op | Invoke | Assign] = []
        for piece in call.body:
            new = self._item(piece)
            items += new
            self.code.lines += [self._line(piece)] * len(new)
            self.code.origins += [_origin(piece)] * len(new)
        returns: Any = tuple(Local(self._name(n)) for n in call.outputs)
        if call.path == "":
            returns = self._read(program.outputs)
        elif len(returns) == 1:
            returns = returns[0]
        inputs = tuple(f"i{index}" for index in range(len(call.inputs)))
        dtypes = tuple(self.code.values[n].dtype if n in self.code.values else "size" for n in inputs)
        self.code.form = Form(inputs, tuple(items), returns, dtypes)

    def _line(self, piece: Statement | Call | Update) -> Frame | None:
        """The line of this module's ``forward`` on which the piece stands."""
        while isinstance(piece, Call):
            piece = piece.body[0]
        if isinstance(piece, Update):
            return None
        forwards = [frame for frame in piece.frames if frame.function == "forward"]
        return forwards[self.call.depth] if len(forwards) > self.call.depth else None

    def _define(self, name: str, local: str) -> None:
        self.local[name] = Local(local)
        value = self.program.values.get(name)
        if value is None:
            return
        self.code.values[local] = value
        for axis, size in enumerate(value.shape):
            if isinstance(size, Size):
                self.symbols.setdefault(str(size.expression), f"{local}.shape[{axis}]")

    def _name(self, name: str) -> str:
        return self.local[name].name

    def _item(self, piece: Statement | Call | Update) -> list[Op | Invoke | Assign]:
        self.piece = piece
        if isinstance(piece, Update):
            return [Assign(_relative(piece.buffer, self.call.path), self._read(piece.value))]
        if isinstance(piece, Call):
            args = tuple(self._read(given) for given in self._inputs(piece))
            if self.plain and piece.is_dropout and piece.type != DROPOUTS[0]:  # others are nothing in eval mode
                self.local[self._outputs(piece)[0]] = args[0]
                return []
            return [Invoke(_relative(piece.path, self.call.path), args, self._results(self._outputs(piece)))]
        if self.plain and piece.op == DROPOUT:
            self.local[piece.results[0]] = self._read(piece.args[0])
            return []
        self.near = self._near(piece)
        args = self._read(self._plain_arguments(piece) if self.plain else piece.args)
        kwargs = tuple((k, self._read(v)) for k, v in piece.kwargs.items())
        results = self._results(piece.results)
        return [Op(piece.op, args, kwargs, results, piece.several)]

    def _inputs(self, call: Call) -> list[Any]:
        if not call.is_dropout:
            return list(call.inputs)
        first = call.body[0]
        assert isinstance(first, Statement)
        return [first.args[0]]

    def _outputs(self, call: Call) -> tuple[str, ...]:
        if call.is_dropout:
            last = call.body[-1]
            assert isinstance(last, Statement)
            return (last.results[0],)
        return tuple(call.outputs)

    def _plain_arguments(self, statement: Statement) -> tuple[Any, ...]:
        args = list(statement.args)
        if statement.op == ATTENTION and len(args) > 4:
            args[4] = 0.0
        if statement.op in RECURRENT:
            args[TRAIN_AT] = False
        return tuple(args)

    def _results(self, names: tuple[str, ...]) -> tuple[str, ...]:
        locals_ = []
        for name in names:
            local = ""
            if name:
                local, self.count = f"v{self.count}", self.count + 1
                self._define(name, local)
            locals_.append(local)
        return tuple(locals_)

    def _read(self, value: Any) -> Any:
        if isinstance(value, Ref):
            return self._reference(value.name)
        if isinstance(value, Size):
            return Extent(self._extent(value))
        if isinstance(value, tuple):
            return tuple(self._read(item) for item in value)
        if isinstance(value, Mapping):
            return Record(tuple((key, self._read(item)) for key, item in value.items()))
        if isinstance(value, bool | str | DType) or value is None:
            return value
        if isinstance(value, int | float):
            return Hole(self._hole(value))
        return str(value)  # a device, a layout: no argument of ours

    def _reference(self, name: str) -> Any:
        if name in self.local:
            return self.local[name]
        if name in self.program.constants:
            return Constant(self._hole(self.program.same[name]))
        path = _relative(name, self.call.path)
        self.code.owned[path] = self.program.values[name]
        return Own(path)

    def _hole(self, value: Any) -> int:
        self.code.holes.append(value)
        return len(self.code.holes) - 1

    def _near(self, statement: Statement) -> dict[str, str]:
        """Sizes of the statement's own arguments: an input that nothing else needs is not kept for its size."""
        found: dict[str, str] = {}
        for reference in refs(statement.args):
            local, value = self.local.get(reference.name), self.program.values.get(reference.name)
            if isinstance(local, Local) and value is not None:
                for axis, size in enumerate(value.shape):
                    if isinstance(size, Size):
                        found.setdefault(str(size.expression), f"{local.name}.shape[{axis}]")
        return found

    def _extent(self, size: Size) -> str:
        """A size as text in local names: an array's own size where there is one."""
        text = str(size.expression)
        found = self._known(text)
        if found:
            return found
        unknown = [str(s) for s in size.expression.free_symbols if not self._known(str(s))]
        if unknown:
            what = "The model computes with numbers that it reads from arrays."
            self._refuse(what, "It depends on the data: make it depend on shapes.")
        told = python_text(size.expression)
        if "torch." in told:
            self._refuse(
                "The model computes with sizes in a way that has no counterpart.", "Write it otherwise."
            )
        return re.sub(r"\b[a-z]+\d+\b", lambda m: self._known(m.group()) or m.group(), told)

    def _refuse(self, what: str, hint: str) -> NoReturn:
        reason = Unsupported(NUMBER, str(_origin(self.piece) or ""), hint)
        raise CannotPort(what, "", (reason,))

    def _known(self, size: str) -> str:
        usual = self.symbols.get(size, "")
        owner = usual.split(".")[0]
        return usual if owner in self.lasting or size not in self.near else self.near[size]


def _lasting(call: Call) -> set[str]:
    """Inputs that the call's last statement or call still needs."""
    last = next((piece for piece in reversed(call.body) if not isinstance(piece, Update)), None)
    if last is None:
        return set()
    used = (
        set(refs(last.args)) if isinstance(last, Statement) else {r for r in last.inputs if isinstance(r, Ref)}
    )
    return {f"i{n}" for n, given in enumerate(call.inputs) if given in used}


def _origin(piece: Statement | Call | Update | None) -> Frame | None:
    """The innermost line that is not torch's; of a call, that of its first statement."""
    while isinstance(piece, Call):
        piece = piece.body[0]
    frames = piece.frames if isinstance(piece, Statement) else ()
    return next((f for f in reversed(frames) if is_own(f.file)), None)


def python_text(expression: Any) -> str:
    """A size's expression as Python."""
    from torch.utils._sympy.printers import PythonPrinter

    return PythonPrinter().doprint(expression).replace("torch.sym_float(", "float(")


def _relative(path: str, module: str) -> str:
    return path.removeprefix(f"{module}.") if module else path
