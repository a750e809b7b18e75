"""Values and operations of a canonical form as Python expressions: sizes, dtypes, indexing, calls."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from twinax.port.torch_to_jax import expressions, table
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
from twinax.port.torch_to_jax.program import DType, Value
from twinax.port.torch_to_jax.subscripts import merged, sliced

WIDTH = 100
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
    if item.op == DROPOUT or _is_dropped(item, code):
        return True
    entry = table.read().get(item.op)
    return entry is not None and entry.draws


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
        idle: Dropout layers of the module that it never calls: name → rate.
    """

    holes: list[str]
    weights: list[str]
    taken: set[str]
    idle: dict[str, float]
    attributes: set[str] = field(default_factory=set)
    dropouts: dict[str, ast.expr] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)


class Phrases:
    """Makes the expressions of one body.

    Attributes:
        bound: Local → the name that it has now (the body keeps it).
        pending: Local → its expression, where it stands in place of a name, and the items that went into it.
        layers: Results of an item → the dropout layer that was made for it; it may be asked for again.
    """

    def __init__(self, code: Code, scope: Scope, names: dict[str, str]) -> None:
        self.code, self.scope = code, scope
        self.bound = dict(names)
        self.pending: dict[str, tuple[ast.expr, set[int]]] = {}
        self.layers: dict[tuple[str, ...], str] = {}

    # --- values ----------------------------------------------------------------------------------

    def value(self, value: Any, included: set[int]) -> ast.expr:
        if isinstance(value, Local):
            return self._local(value.name, included)
        if isinstance(value, Own):
            return parsed(f"{self_path(value.path)}[...]")
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
                [ast.Constant(k) for k, _ in value.items], [self.value(v, included) for _, v in value.items]
            )
        if isinstance(value, tuple):
            return ast.Tuple([self.value(item, included) for item in value], ast.Load())
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

    def call(self, item: Op | Invoke, included: set[int]) -> ast.expr:
        args = [self.value(a, included) for a in item.args]
        if isinstance(item, Invoke):
            return ast.Call(parsed(self_path(item.child)), args, [])
        if item.op == DROPOUT:
            return ast.Call(self._dropout(item, "dropout", args[1]), [args[0]], [])
        if item.op in CASTS:
            return self._cast(item, args[0])
        if item.op in INDEXING:
            return self._indexed(item, args, included)
        if item.op == "expand.default":
            self.scope.used.add("jnp")
            return ast.Call(parsed("jnp.broadcast_to"), args[:2], [])
        return self._table_call(item, args, included)

    def _dropout(self, item: Op, name: str, rate: ast.expr) -> ast.expr:
        """The layer that draws for an item."""
        if item.results not in self.layers:
            self.layers[item.results] = self._new_layer(name, rate)
        return parsed(f"self.{self.layers[item.results]}")

    def _new_layer(self, name: str, rate: ast.expr) -> str:
        for idle, own in self.scope.idle.items():  # made for this: its rate is read and given to the operation
            if isinstance(rate, ast.Constant) and rate.value == own:
                del self.scope.idle[idle]
                return idle
        taken = {*self.scope.taken, *self.scope.dropouts}
        unique, number = name, 2
        while unique in taken:
            unique, number = f"{name}_{number}", number + 1
        self.scope.dropouts[unique] = rate
        return unique

    def _table_call(self, item: Op, args: list[ast.expr], included: set[int]) -> ast.expr:
        entry = table.read()[item.op]
        kwargs = {
            name: self.value(value, included)
            for name, value in item.kwargs
            if name not in expressions.DROPPED and value is not None
        }
        if item.op == ATTENTION and _is_dropped(item, self.code):
            kwargs["dropout"] = self._dropout(item, "attention_dropout", args[4])
            args[4] = ast.Constant(0.0)
        if item.op in RECURRENT:
            if _is_dropped(item, self.code):
                kwargs["drop"] = self._dropout(item, "recurrent_dropout", args[TRAIN_AT - 1])
            args[TRAIN_AT] = ast.Constant(False)
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
        operands = [self._known(a).dtype for a in item.args if isinstance(a, Local | Own | Constant)]
        same = set(operands) == {self.code.values[item.results[0]].dtype}
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
                args[0], [None if i is None else self.value(i, included) for i in indices]
            )
        axis = self._axis(item, 1, rank + (item.op == "unsqueeze.default"))
        items: list[ast.expr | None] = [None] * axis
        if item.op == "unsqueeze.default":
            items.append(ast.Constant(None))
        elif item.op == "select.int":
            items.append(args[2])
        else:
            items.append(sliced(args[2:], self._numbers(item.args[2:])))
        return merged(args[0], items)

    def _known(self, source: Any) -> Value:
        if isinstance(source, Local):
            return self.code.values[source.name]
        if isinstance(source, Constant):
            array = self.code.constants[self.code.holes[source.hole]]
            return Value(array.shape, str(array.dtype))
        if isinstance(source, Own):
            return self.code.owned[source.path]
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


def _mentions(made: ast.expr, name: str) -> bool:
    return any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(made))


def _outweighs(operand: Value, result: Value) -> bool:
    order = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64")
    known = operand.dtype in order and result.dtype in order
    return known and order.index(operand.dtype) > order.index(result.dtype)


def _is_dropped(item: Op, code: Code) -> bool:
    """Whether an operation that can drop out within does so here."""
    if item.op in RECURRENT and item.args[TRAIN_AT] is not True:
        return False
    place = {ATTENTION: 4, **dict.fromkeys(RECURRENT, TRAIN_AT - 1)}.get(item.op)
    if place is None or len(item.args) <= place:
        return False
    rate = item.args[place]
    return bool(code.holes[rate.index] if isinstance(rate, Hole) else rate)


def self_path(path: str) -> str:
    """``layer.0.conv1`` → ``self.layer[0].conv1``."""
    first, *rest = path.split(".")
    parts = [f"[{p}]" if p.isdigit() else f".{p}" if p.isidentifier() else f"[{p!r}]" for p in rest]
    return (f"self.{first}" if first.isidentifier() else f"getattr(self, {first!r})") + "".join(parts)


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
