"""The body of a method: a canonical form as Python statements.

Values that are used once are written in place, as far as lines stay readable; others get the names that the
user's own source gives them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from twinax.errors import Unsupported
from twinax.port.torch_to_jax import expressions, naming, table
from twinax.port.torch_to_jax.capture import DType, Size, Value
from twinax.port.torch_to_jax.code import (
    ATTENTION,
    DROPOUT,
    RECURRENT,
    TRAIN_AT,
    Assign,
    Code,
    Constant,
    Extent,
    Hole,
    Invoke,
    Local,
    Op,
    Own,
    Record,
)
from twinax.port.torch_to_jax.expressions import literal, parsed, text

WIDTH = 100
LONGEST = 9223372036854775807
INDEXING = ("slice.Tensor", "select.int", "unsqueeze.default", "index.Tensor")
CASTS = ("_to_copy.default", "to.dtype")
LIMITS = {
    float(np.finfo(np.float64).min): "min",
    float(np.finfo(np.float64).max): "max",
    float(np.finfo(np.float64).eps): "eps",
    float(np.finfo(np.float64).tiny): "tiny",
}
"""Numbers that follow the weights' dtype, since the model was captured in float64."""
PLAIN_DTYPES = {"int64": "int", "bool": "bool", "complex128": "complex"}


def draws(item: Op | Assign, code: Code) -> bool:
    """Whether an item draws at random."""
    if not isinstance(item, Op):
        return False
    if item.op == DROPOUT or (item.op == ATTENTION and _is_dropped(item, code)):
        return True
    if item.op in RECURRENT:
        return item.args[TRAIN_AT] is True
    entry = table.read().get(item.op)
    return entry is not None and any(a.arg == "key" for a, d in _kwonly(entry) if d is None)


def _kwonly(entry: table.Entry) -> list[tuple[ast.arg, ast.expr | None]]:
    return list(zip(entry.node.args.kwonlyargs, entry.node.args.kw_defaults, strict=True))


@dataclass
class Scope:
    """What a body may use of its class.

    Attributes:
        holes: Of the code's holes, each one's constructor parameter or "".
        attributes: Constructor parameters that the body reads from ``self`` (filled in here).
        dropouts: Dropout layers that the body needs beside the module's own: name → rate (filled in here).
        used: Names of the table's functions and of libraries (filled in here).
        weights: Float parameters of the module or below: ``self.dense.weight``.
        taken: Names of the module's own attributes.
    """

    holes: list[str]
    weights: list[str]
    taken: set[str]
    attributes: set[str] = field(default_factory=set)
    dropouts: dict[str, ast.expr] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)


class Body:
    """Writes one body. ``lines`` holds it afterwards."""

    def __init__(self, code: Code, names: dict[str, str], scope: Scope, instances: list[Code]) -> None:
        """``names``: what the inputs are called; ``instances``: the same code of every module of the class."""
        self.code, self.scope, self.instances = code, scope, instances
        self.wanted = {**naming.results(code), **names}
        self.lines: list[str] = []
        self.shown = [c.values["i0"].shape if "i0" in c.values else () for c in instances]
        self.bound: dict[str, str] = dict(names)  # local → name that it has now
        self.pending: dict[str, tuple[ast.expr, set[int]]] = {}  # local → expression, items inside
        self.items = list(code.form.items)
        self.consumers: dict[str, set[int]] = {}
        self.sized: set[str] = set()
        for index, item in enumerate([*self.items, _Return(code.form.returns)]):
            for name, is_extent in _locals_of(item):
                self.consumers.setdefault(name, set()).add(index)
                if is_extent:
                    self.sized.add(name)
        self.uses = _count_uses([*self.items, _Return(code.form.returns)])
        self.emitted: set[int] = set()
        self._write()

    # --- statements ------------------------------------------------------------------------------

    def _write(self) -> None:
        index = 0
        while index < len(self.items):
            run = self._run(index)
            if run is not None:
                self._loop(index, run)
                index += len(run)
                continue
            self._item(index, self.items[index])
            index += 1
        included: set[int] = {len(self.items)}
        value = self._value(self.code.form.returns, included)
        value = self._shortened(lambda: self._value(self.code.form.returns, included), value, included)
        self._line(f"return {text(value)}", included)

    def _item(self, index: int, item: Any) -> None:
        if index in self.emitted:
            return
        if isinstance(item, Assign):
            self._flush()
            value = self._value(item.value, {index})
            self._line(f"{_self_path(item.buffer)}[...] = {text(value)}", {index})
            return
        included = {index}
        make = lambda: self._call(item, included)  # noqa: E731
        value = self._shortened(make, make(), included)
        results = [r for r in item.results if r]
        if len(item.results) == 1:
            self._result(results[0], value, included)
        else:
            self._results(item, value, included)

    def _result(self, local: str, value: ast.expr, included: set[int]) -> None:
        alone = self.uses.get(local, 0) == 1 and local not in self.sized and not _draws_text(value)
        returned = self.code.form.returns == Local(local)
        fits = returned or len(text(value)) < WIDTH - 20
        if alone and fits and not self._keeps_name(local):
            self.pending[local] = (value, included)
            return
        self._assign(local, value, included)

    def _keeps_name(self, local: str) -> bool:
        """Whether the user's source gave the value a name that says something, on a line before its use."""
        if self.consumers.get(local) == {len(self.items)}:
            return False  # returned at once
        return (
            local in self.wanted
            and bool(self.consumers.get(local))
            and self._line_of(local) is not None
            and (self._line_of(local) != self._use_line(local))
        )

    def _line_of(self, local: str) -> Any:
        for index, item in enumerate(self.items):
            if local in getattr(item, "results", ()):
                return self.code.lines[index]
        return None

    def _use_line(self, local: str) -> Any:
        index = min(self.consumers[local])
        return self.code.lines[index] if index < len(self.code.lines) else None

    def _results(self, item: Any, value: ast.expr, included: set[int]) -> None:
        """Several results of a call: unpacked, with ``_`` for those that nobody uses."""
        entry = table.read().get(item.op) if isinstance(item, Op) else None
        given = list(item.results)
        if entry is not None and entry.results:
            given = [item.results[i] for i in entry.results]
        self.emitted |= included
        bound = [self._buffer(r) or self._bind(r) if r else "_" for r in given]
        self._put(f"{', '.join(bound)} = {text(value)}", given[0])

    def _buffer(self, local: str) -> str:
        """The buffer that takes the value, where nothing else does."""
        for index in self.consumers.get(local, ()):
            item = self.items[index] if index < len(self.items) else None
            if isinstance(item, Assign) and self.uses[local] == 1:
                self.emitted.add(index)
                return f"{_self_path(item.buffer)}[...]"
        return ""

    def _assign(self, local: str, value: ast.expr, included: set[int]) -> None:
        rendered = text(value)
        self.emitted |= included
        self._put(f"{self._bind(local)} = {rendered}", local)

    def _bind(self, local: str) -> str:
        """Give a local its name: the wanted one, unless a value that is still needed has it."""
        wanted = self.wanted.get(local) or self._default_name(local)
        name, number = wanted, 2
        while any(n == name and other != local and not self._is_dead(other) for other, n in self.bound.items()):
            name, number = f"{wanted}_{number}", number + 1
        self.bound = {other: n for other, n in self.bound.items() if n != name}
        self.bound[local] = name
        return name

    def _default_name(self, local: str) -> str:
        value = self.code.values.get(local)
        first = self.bound.get("i0", "x")
        return first if value is not None and self._is_dead("i0") else "y" if first == "x" else "x"

    def _is_dead(self, local: str) -> bool:
        return self.consumers.get(local, set()) <= self.emitted

    def _put(self, line: str, local: str) -> None:
        comment = self._shape_comment(local)
        if comment and len(line) + len(comment) < WIDTH:
            line += comment
        self.lines.append(line)

    def _line(self, line: str, included: set[int]) -> None:
        self.emitted |= included
        self.lines.append(line)

    def _flush(self) -> None:
        """Write down every value that waits: a buffer is about to change."""
        for local in list(self.pending):
            self._settle(local)

    def _settle(self, local: str) -> None:
        value, included = self.pending.pop(local)
        self._assign(local, value, included)

    def _shortened(self, make: Any, value: ast.expr, included: set[int]) -> ast.expr:
        """The expression, with its longest waiting parts written down first where it would be too long."""
        while len(text(value)) > WIDTH - 8:  # a call of many arguments is broken over lines later
            waiting = [n for n in self.code.values if n in self.pending and self.pending[n][1] <= included]
            inside = [n for n in waiting if 12 < len(text(self.pending[n][0])) < len(text(value))]
            if not inside:
                break
            longest = max(inside, key=lambda n: len(text(self.pending[n][0])))
            included -= self.pending[longest][1]
            self._settle(longest)
            value = make()
        for local in [n for n in self.pending if self.pending[n][1] <= included]:
            del self.pending[local]
        return value

    # --- loops -----------------------------------------------------------------------------------

    def _run(self, start: int) -> list[Invoke] | None:
        """Calls of successive modules of one list, or of one module, each on what the one before gave."""
        run: list[Invoke] = []
        for item in self.items[start:]:
            if not isinstance(item, Invoke) or len(item.results) != 1:
                break
            if run and not self._follows(run[-1], item, run):
                break
            run.append(item)
        return run if len(run) > 1 else None

    def _follows(self, before: Invoke, item: Invoke, run: list[Invoke]) -> bool:
        result = Local(before.results[0])
        if self.uses.get(result.name) != 1 or result not in item.args or len(before.args) != len(item.args):
            return False
        place = item.args.index(result)
        if any(a != b for i, (a, b) in enumerate(zip(before.args, item.args, strict=True)) if i != place):
            return False
        if len(run) > 1 and run[-1].args.index(Local(run[-2].results[0])) != place:
            return False
        here, there = before.child.rpartition("."), item.child.rpartition(".")
        if before.child == item.child:
            return len(run) == 1 or run[0].child == item.child
        follows = here[0] == there[0] and here[2].isdigit() and there[2].isdigit() and here[0] != ""
        return follows and int(there[2]) == int(here[2]) + 1 and (len(run) == 1 or run[0].child != run[1].child)

    def _loop(self, start: int, run: list[Invoke]) -> None:
        first, last = run[0], run[-1]
        place = run[1].args.index(Local(first.results[0]))
        initial = self._value(first.args[place], {start})
        others = [self._value(a, {start}) for i, a in enumerate(first.args) if i != place]
        for local in list(self.pending):
            if self.pending[local][1] <= {start} or any(
                local == a.name for a in first.args if isinstance(a, Local)
            ):
                self._settle(local)
        initial = self._value(first.args[place], {start})
        others = [self._value(a, {start}) for i, a in enumerate(first.args) if i != place]
        self.emitted |= set(range(start, start + 1))
        name = self._bind(last.results[0])
        self.emitted |= set(range(start, start + len(run)))
        if text(initial) != name:
            self.lines.append(f"{name} = {text(initial)}")
        arguments = [text(value) for value in others]
        arguments.insert(place, name)
        list_path, _, index = first.child.rpartition(".")
        if first.child == last.child:
            self.lines.append(f"for _ in range({len(run)}):")
            called = _self_path(first.child)
        else:
            called = _singular(list_path, {*self.bound.values(), *self.scope.taken})
            whole = f"{_self_path(list_path)}"
            if not (index == "0" and self._covers(list_path, len(run))):
                whole += f"[{index}:{int(index) + len(run)}]"
            self.lines.append(f"for {called} in {whole}:")
        self.lines.append(f"    {name} = {called}({', '.join(arguments)})")

    def _covers(self, path: str, count: int) -> bool:
        entries = {
            t.removeprefix(f"{path}.").split(".")[0] for t in self.scope.taken if t.startswith(f"{path}.")
        }
        return len(entries) == count

    # --- values ----------------------------------------------------------------------------------

    def _value(self, value: Any, included: set[int]) -> ast.expr:
        if isinstance(value, Local):
            return self._local(value.name, included)
        if isinstance(value, Own):
            return parsed(f"{_self_path(value.path)}[...]")
        if isinstance(value, Hole):
            return self._number(value)
        if isinstance(value, Constant):
            return self._constant(value)
        if isinstance(value, Extent):
            return self._extent(value)
        if isinstance(value, DType):
            return self.dtype(value.name)
        if isinstance(value, Record):
            return ast.Dict(
                [ast.Constant(k) for k, _ in value.items], [self._value(v, included) for _, v in value.items]
            )
        if isinstance(value, tuple):
            return ast.Tuple([self._value(item, included) for item in value], ast.Load())
        return literal(value)

    def _local(self, name: str, included: set[int]) -> ast.expr:
        if name in self.pending:
            expression, items = self.pending[name]
            included |= items
            return expression
        return ast.Name(self.bound[name])

    def _number(self, hole: Hole) -> ast.expr:
        parameter = self.scope.holes[hole.index]
        if parameter:
            self.scope.attributes.add(parameter)
            return parsed(f"self.{parameter}")
        value = self.code.holes[hole.index]
        if isinstance(value, float) and value in LIMITS:
            self.scope.used.add("jnp")
            return parsed(f"jnp.finfo({text(self.dtype('float64'))}).{LIMITS[value]}")
        return literal(value)

    def _extent(self, extent: Extent) -> ast.expr:
        names = re.sub(r"\b[iv]\d+\b", lambda m: self.bound[m.group()], extent.text)
        self.scope.used |= {"math"} if "math." in names else set()
        return parsed(names)

    def _constant(self, constant: Constant) -> ast.expr:
        parameter = self.scope.holes[constant.hole]
        name = self.code.holes[constant.hole]
        array = self.code.constants[name]
        if not parameter:
            short = _pattern(array)
            if short is not None and array.dtype.kind != "f":
                self.scope.used.add("jnp")
                return parsed(short)
            value = parsed(f"constant({name!r})")
        else:
            self.scope.attributes.add(parameter)
            value = parsed(f"constant(self.{parameter})")
        self.scope.used.add("constant")
        if array.dtype.kind == "f":
            value = parsed(f"{text(value)}.astype({text(self.dtype('float64'))})")
        return value

    # --- dtypes ----------------------------------------------------------------------------------

    def dtype(self, name: str, operand: ast.expr | None = None) -> ast.expr:
        """A dtype as an expression: float64 is that of the weights, float32 at least float32."""
        if name == "float64":
            return parsed(self._following())
        if name == "float32":
            base = self._following(exclude_default=True)
            self.scope.used.add("jnp")
            return parsed(f"jnp.promote_types({base}, jnp.float32)") if base else parsed("float")
        if name in PLAIN_DTYPES:
            return parsed(PLAIN_DTYPES[name])
        self.scope.used.add("jnp")
        return parsed(f"jnp.{name}")

    def _following(self, exclude_default: bool = False) -> str:
        for local, name in self.bound.items():
            value = self.code.values.get(local)
            if value is not None and value.dtype == "float64":
                return f"{name}.dtype"
        if self.scope.weights:
            return f"{self.scope.weights[0]}.dtype"
        return "" if exclude_default else "float"

    # --- operations ------------------------------------------------------------------------------

    def _call(self, item: Op | Invoke, included: set[int]) -> ast.expr:
        args = [self._value(a, included) for a in item.args]
        if isinstance(item, Invoke):
            return ast.Call(parsed(_self_path(item.child)), args, [])
        if item.op == DROPOUT:
            return ast.Call(parsed(f"self.{self._dropout('dropout', args[1])}"), [args[0]], [])
        if item.op in CASTS:
            return self._cast(item, args[0])
        if item.op in INDEXING:
            return self._indexed(item, args, included)
        if item.op == "expand.default":
            self.scope.used.add("jnp")
            return ast.Call(parsed("jnp.broadcast_to"), args[:2], [])
        return self._table_call(item, args, included)

    def _dropout(self, name: str, rate: ast.expr) -> str:
        taken = {*self.scope.taken, *self.scope.dropouts}
        unique, number = name, 2
        while unique in taken:
            unique, number = f"{name}_{number}", number + 1
        self.scope.dropouts[unique] = rate
        return unique

    def _table_call(self, item: Op, args: list[ast.expr], included: set[int]) -> ast.expr:
        entry = table.read()[item.op]
        kwargs = {
            name: self._value(value, included)
            for name, value in item.kwargs
            if name not in expressions.DROPPED and not (name == "dtype" and value is None)
        }
        if item.op == ATTENTION and _is_dropped(item, self.code):
            kwargs["dropout"] = parsed(f"self.{self._dropout('attention_dropout', args[4])}")
            args[4] = ast.Constant(0.0)
        if item.op in RECURRENT and item.args[TRAIN_AT] is True:
            args[TRAIN_AT] = parsed("not self.deterministic")
            kwargs["key"] = parsed("self.rngs.dropout()")
        for parameter, default in _kwonly(entry):
            if default is None and parameter.arg not in kwargs:
                kwargs[parameter.arg] = self._filled(parameter.arg, item)
        given = expressions.bound(entry, args, kwargs)
        made, names = expressions.expression(entry, given)
        if _mentions(made, expressions.SAME):  # the dtype itself is needed
            made, names = expressions.expression(entry, {**given, "dtype": self._result_dtype(item)})
        self.scope.used |= names
        return self._promoted(item, made)

    def _filled(self, parameter: str, item: Op) -> ast.expr:
        if parameter == "key":
            return parsed("self.rngs.dropout()")
        first = item.args[0] if item.args else None
        operand = self.code.values.get(first.name) if isinstance(first, Local) else None
        same = operand is not None and operand.dtype == self.code.values[item.results[0]].dtype
        return ast.Name(expressions.SAME) if same else self._result_dtype(item)

    def _result_dtype(self, item: Op) -> ast.expr:
        return self.dtype(self.code.values[item.results[0]].dtype)

    def _promoted(self, item: Op, made: ast.expr) -> ast.expr:
        """Cast a result whose dtype JAX would choose otherwise: 0-d arrays weigh less in torch."""
        value = self.code.values.get(item.results[0]) if item.results[0] else None
        entry = table.read()[item.op]
        if value is None or not entry.promote or value.dtype == "bool":
            return made
        operands = [
            self.code.values[a.name] for a in item.args if isinstance(a, Local) and a.name in self.code.values
        ]
        if any(_outweighs(o, value) for o in operands if not o.shape):
            return parsed(f"({text(made)}).astype({text(self.dtype(value.dtype))})")
        return made

    def _cast(self, item: Op, operand: ast.expr) -> ast.expr:
        wanted = dict(item.kwargs).get("dtype") or (item.args[1] if len(item.args) > 1 else None)
        if not isinstance(wanted, DType):
            return operand
        return ast.Call(ast.Attribute(operand, "astype", ast.Load()), [self.dtype(wanted.name)], [])

    def _indexed(self, item: Op, args: list[ast.expr], included: set[int]) -> ast.expr:
        source = item.args[0]
        rank = len(self._known(source).shape)
        if item.op == "index.Tensor":
            indices = item.args[1]
            return expressions.subscript(
                args[0], [None if i is None else self._value(i, included) for i in indices]
            )
        axis = self._axis(item, 1, rank + (item.op == "unsqueeze.default"))
        items: list[ast.expr | None] = [None] * axis
        if item.op == "unsqueeze.default":
            items.append(ast.Constant(None))
        elif item.op == "select.int":
            items.append(args[2])
        else:
            items.append(_slice(args[2:], self._numbers(item.args[2:])))
        return _merged(args[0], items)

    def _known(self, source: Any) -> Value:
        if isinstance(source, Local):
            return self.code.values[source.name]
        if isinstance(source, Constant):
            array = self.code.constants[self.code.holes[source.hole]]
            return Value(array.shape, str(array.dtype))
        raise KeyError(source)

    def _axis(self, item: Op, place: int, rank: int) -> int:
        given = item.args[place] if len(item.args) > place else dict(item.kwargs).get("dim", 0)
        number = self.code.holes[given.index] if isinstance(given, Hole) else int(given)
        return number % rank if rank else 0

    def _numbers(self, values: tuple[Any, ...]) -> list[Any]:
        return [
            self.code.holes[v.index] if isinstance(v, Hole) and not self.scope.holes[v.index] else "?"
            for v in values
        ]

    def _shape_comment(self, local: str) -> str:
        """``  # (batch, 64, 56, 56)`` where the shape is another than the first input's."""
        values = [code.values.get(local) for code in self.instances]
        if any(v is None for v in values):
            return ""
        shapes = [v.shape for v in values if v is not None]
        before, self.shown = self.shown, shapes
        if shapes == before:
            return ""
        names = _axis_names(self.code)
        parts = []
        for sizes in zip(*shapes, strict=True):
            same = all(str(s) == str(sizes[0]) for s in sizes)
            parts.append(names.get(str(sizes[0]), str(sizes[0])) if same else "…")
        return f"  # ({', '.join(parts)}{',' if len(parts) == 1 else ''})"


@dataclass(frozen=True)
class _Return:
    value: Any


def _axis_names(code: Code) -> dict[str, str]:
    """Symbols by what they are: the first open size is the batch, the next the length."""
    names: dict[str, str] = {}
    for value in code.values.values():
        for axis, size in enumerate(value.shape):
            if isinstance(size, Size) and size.expression.is_symbol:
                names.setdefault(str(size), "batch" if axis == 0 else "length")
    return names


def _locals_of(item: Any) -> Iterator[tuple[str, bool]]:
    """Locals that an item uses, and whether it needs their shape."""
    if isinstance(item, _Return | Assign):
        yield from _locals_in(item.value)
    else:
        yield from _locals_in(item.args)
        if isinstance(item, Op):
            yield from _locals_in(tuple(v for _, v in item.kwargs))


def _locals_in(value: Any) -> Iterator[tuple[str, bool]]:
    if isinstance(value, Local):
        yield value.name, False
    elif isinstance(value, Extent):
        for name in re.findall(r"\b[iv]\d+\b", value.text):
            yield name, True
    elif isinstance(value, Record):
        for _, inner in value.items:
            yield from _locals_in(inner)
    elif isinstance(value, tuple):
        for inner in value:
            yield from _locals_in(inner)


def _count_uses(items: list[Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in items:
        for name, _ in _locals_of(item):
            counts[name] = counts.get(name, 0) + 1
    return counts


def _mentions(made: ast.expr, name: str) -> bool:
    return any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(made))


def _draws_text(value: ast.expr) -> bool:
    return "self.rngs" in text(value)


def _outweighs(operand: Value, result: Value) -> bool:
    order = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")
    known = operand.dtype in order and result.dtype in order
    return known and order.index(operand.dtype) > order.index(result.dtype)


def _is_dropped(item: Op, code: Code) -> bool:
    rate = item.args[4] if len(item.args) > 4 else 0.0
    return bool(code.holes[rate.index] if isinstance(rate, Hole) else rate)


def _self_path(path: str) -> str:
    """``layer.0.conv1`` → ``self.layer[0].conv1``."""
    parts = [f"[{p}]" if p.isdigit() else f".{p}" if p.isidentifier() else f"[{p!r}]" for p in path.split(".")]
    return "self" + "".join(parts)


def _singular(path: str, taken: set[str]) -> str:
    last = path.split(".")[-1].rstrip("0123456789_")
    name = last[:-1] if last.endswith("s") and len(last) > 2 else last
    return name if len(name) > 1 and naming.usable(name) else "block"


def _slice(args: list[ast.expr], numbers: list[Any]) -> ast.expr | None:
    """``start:stop:step``; None for all of an axis."""
    start, stop, step = (*args, *[None] * 3)[:3]
    start = None if start is None or _at(numbers, 0) in (0, None) or _is_none(start) else start
    stop = None if stop is None or _at(numbers, 1) == LONGEST or _is_none(stop) else stop
    step = None if step is None or _at(numbers, 2) == 1 else step
    return None if start is stop is step is None else ast.Slice(start, stop, step)


def _at(numbers: list[Any], index: int) -> Any:
    return numbers[index] if index < len(numbers) else "?"


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _merged(base: ast.expr, items: list[ast.expr | None]) -> ast.expr:
    """``base[a][b]`` as one subscript where ``a`` only takes whole axes and new ones."""
    if not (isinstance(base, ast.Subscript) and _is_simple(base.slice)):
        return expressions.subscript(base, items)
    inner = base.slice.elts if isinstance(base.slice, ast.Tuple) else [base.slice]
    merged: list[ast.expr | None] = []
    waiting = list(items)
    for part in inner:
        if isinstance(part, ast.Constant) and isinstance(part.value, int) and part.value is not None:
            merged.append(part)  # a selected axis is gone
            continue
        outer = waiting.pop(0) if waiting else None
        while _is_new(outer):
            merged.append(outer)
            outer = waiting.pop(0) if waiting else None
        if outer is None:
            merged.append(None if _is_full(part) else part)
        elif _is_full(part):
            merged.append(outer)
        else:
            return expressions.subscript(base, items)
    return expressions.subscript(base.value, [*merged, *waiting])


def _is_simple(node: ast.expr) -> bool:
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return all(isinstance(p, ast.Slice | ast.Constant) for p in parts)


def _is_full(node: ast.expr) -> bool:
    return isinstance(node, ast.Slice) and node.lower is node.upper is node.step is None


def _is_new(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _pattern(array: np.ndarray) -> str | None:
    """A short way to make the array; None where there is none."""
    kind = {"i": "int", "b": "bool"}.get(array.dtype.kind)
    if kind is None:
        return None
    if array.size <= 8:
        return f"jnp.array({array.tolist()!r})" if array.size else f"jnp.zeros({array.shape!r}, {kind})"
    flat = array.reshape(-1)
    if (flat == flat[0]).all():
        return f"jnp.full({array.shape!r}, {flat[0].item()!r})"
    if kind == "int" and array.shape[-1] == array.size and np.array_equal(flat, flat[0] + np.arange(flat.size)):
        start = f"{flat[0]}, " if flat[0] else ""
        made = f"jnp.arange({start}{flat[0] + flat.size})"
        return made + ("" if array.ndim == 1 else f"[{', '.join(['None'] * (array.ndim - 1))}]")
    side = array.shape[-2:] if array.ndim >= 2 else ()
    if (
        kind == "bool"
        and side
        and array.size == side[0] * side[1]
        and np.array_equal(array.reshape(side), np.tril(np.ones(side, bool)))
    ):
        return f"jnp.tril(jnp.ones({array.shape!r}, bool))"
    return None


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
        return Unsupported(f"aten.{op.op}", where, "This operation is not in the table: express it by others.")
    if entry.results and any(r and i not in entry.results for i, r in enumerate(op.results)):
        return Unsupported(f"aten.{op.op}", where, "A result of it is used that has no counterpart in JAX.")
    return None
