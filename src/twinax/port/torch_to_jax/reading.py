"""An exported program as a list of statements on named values. Imports torch: runs in torch workers."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.utils._pytree import TreeSpec

from twinax.errors import CannotPort
from twinax.port.torch_to_jax.program import (
    DROPOUTS,
    DType,
    Level,
    Program,
    Ref,
    Size,
    Statement,
    Value,
    frames_of,
    keep_used,
    refs,
)
from twinax.port.torch_to_jax.whole import LIBRARY

NOTHING = ("clone", "alias", "lift_fresh_copy", "contiguous")
"""Operations that give their argument: nothing is written through views any more."""
SIZED = ("view.default", "reshape.default", "expand.default")
"""Operations whose sizes are those of the result: -1 is written out; one export has it and another not."""
SUMS = ("add.Tensor", "add.Scalar")
BOTH = ("__and__.Tensor", "bitwise_and.Tensor", "logical_and.default")
ALIKE = {"_unsafe_view.default": "view.default"}
"""Operations that compute what another does."""
SPLITS = ("split.Tensor", "split_with_sizes.default")
ITEMS = ("item.default", "_local_scalar_dense.default")
JOINED = ("cat.default", "concat.default", "concatenate.default")
CHECKS = ("_assert_tensor_metadata", "_assert_scalar", "sym_constrain_range", "sym_constrain_range_for_size")
COUNTER = "num_batches_tracked"


class Reader:
    """Reads one exported program."""

    def __init__(self, exported: torch.export.ExportedProgram, first: Mapping[str, str], train: bool) -> None:
        self.program, self.train = Program(), train
        self.values: dict[fx.Node, Any] = {}  # node → Ref, Size, number, or a tuple of these
        self.constants = {**exported.constants, **dict(exported.named_buffers())}
        self.exported, self.first = exported, first
        self.taken: set[str] = set()  # names of weights that are used
        placeholders = [n for n in exported.graph.nodes if n.op == "placeholder"]
        for node, spec in zip(placeholders, exported.graph_signature.input_specs, strict=True):
            self._placeholder(node, spec)
        for node in exported.graph.nodes:
            if node.op == "call_function":
                self._call(node)
            elif node.op == "get_attr":
                self.values[node] = Ref(node.name)  # a subgraph of control flow: refused at its use
            elif node.op == "output":
                self._outputs(node)
        self._drop_unused()

    def _placeholder(self, node: fx.Node, spec: Any) -> None:
        if spec.kind == InputKind.USER_INPUT:
            if node.name in self.taken:
                raise CannotPort(
                    f"An input and a weight of the model are both called {node.name}.", "Rename one of them."
                )
            if "val" in node.meta and isinstance(node.meta["val"], torch.Tensor):
                self.program.inputs.append(node.name)
                self._define(node, node.name)
            else:
                self.values[node] = spec.arg.value if hasattr(spec.arg, "value") else None
            return
        if not node.users:
            return
        name = self.first.get(spec.target, spec.target)
        self.taken.add(name)
        persistent = spec.kind == InputKind.PARAMETER or (spec.kind == InputKind.BUFFER and spec.persistent)
        if persistent:
            self.program.weights.add(name)
        else:
            constant = self.constants[name]
            if not isinstance(constant, torch.Tensor):
                raise CannotPort(
                    f"The model's forward holds a {type(constant).__name__}, which has no counterpart in JAX.",
                    "Let it compute with tensors alone; drawing at random needs no generator of its own.",
                )
            array = constant.detach().cpu().numpy()
            equal = (
                n
                for n, a in self.program.constants.items()
                if a.dtype == array.dtype and np.array_equal(a, array)
            )
            self.program.same[name] = next(equal, name)
            self.program.constants[name] = array
        self._define(node, name)

    def _define(self, node: fx.Node, name: str) -> None:
        self.values[node] = Ref(name)
        self.program.values[name] = _value(node.meta["val"])

    def _call(self, node: fx.Node) -> None:
        name = _operation(node)
        value = node.meta.get("val")
        if name in ITEMS:
            self._item(node)
        elif isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool | int | float | bool):
            self.values[node] = _number(value)
        elif node.target is operator.getitem:
            source, index = node.args
            self.values[node] = self.values[source][index]  # type: ignore[index]
        elif name.split(".")[0] in CHECKS:
            return
        elif (same := self._same(node, name, value)) is not None:
            self.values[node] = self._read(same)
        else:
            self._statement(node, name, value)

    def _item(self, node: fx.Node) -> None:
        """The array of no dimensions stands for its number, which has no gradient."""
        array = self._read(node.args[0])
        self.values[node] = array
        if isinstance(array, Ref) and self.program.values[array.name].dtype.startswith("float"):
            name = self._result(node)
            self.values[node] = Ref(name)
            self.program.values[name] = self.program.values[array.name]
            frames = tuple(frames_of(node.meta.get("stack_trace") or ""))
            self.program.statements.append(
                Statement("detach.default", (array,), {}, (name,), _levels(node), frames, False)
            )

    def _result(self, node: fx.Node) -> str:
        """The node's name; not that of a weight of the model itself, such as ``mean``."""
        name = node.name
        while any(one == name or one.startswith(f"{name}.") for one in self.taken):
            name += "_result"
        return name

    def _statement(self, node: fx.Node, name: str, value: Any) -> None:
        if isinstance(value, tuple | list):
            used = [user.args[1] for user in node.users if user.target is operator.getitem]
            results = tuple(f"{self._result(node)}.{i}" if i in used else "" for i in range(len(value)))
            self.values[node] = tuple(Ref(r) for r in results)
            parts: list[tuple[str, Any]] = list(zip(results, value, strict=True))
        else:
            results, parts = (self._result(node),), [(self._result(node), value)]
            self.values[node] = Ref(self._result(node))
        for result, part in parts:
            if result and isinstance(part, torch.Tensor):
                self.program.values[result] = _value(part)
        args, kwargs = self._arguments(node, name, value)
        if name in SPLITS:
            name, args = _split(name, args, value)
        self.program.statements.append(
            Statement(
                name + _peculiar(node, name, self.train),
                args,
                kwargs,
                results,
                _levels(node),
                tuple(frames_of(node.meta.get("stack_trace") or "")),
                isinstance(value, tuple | list),
            )
        )

    def _arguments(self, node: fx.Node, name: str, value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Every argument that torch's schema has by position, with its default where it was left out."""
        args, kwargs = list(self._read(tuple(node.args))), {k: self._read(v) for k, v in node.kwargs.items()}
        if isinstance(node.target, torch._ops.OpOverload):
            for parameter in node.target._schema.arguments[len(args) :]:
                if not parameter.kwarg_only:
                    args.append(kwargs.pop(parameter.name, self._read(parameter.default_value)))
            names = [parameter.name for parameter in node.target._schema.arguments]
            if {"dropout", "train"} <= set(names) and args[names.index("dropout")] == 0:
                args[names.index("train")] = False  # without dropout both modes are one
        if name in JOINED:  # torch leaves out 1-d arrays of size 0, whatever rank the others have
            rank = max(len(self.program.values[r.name].shape) for r in args[0])
            args[0] = tuple(r for r in args[0] if rank == 1 or self.program.values[r.name].shape != (0,))
        if name in SIZED:
            args[1] = tuple(_number(n) for n in value.shape)
        return tuple(args), kwargs

    def _read(self, argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            return self.values[argument]
        if isinstance(argument, list | tuple):
            return tuple(self._read(item) for item in argument)
        if isinstance(argument, torch.dtype):
            return DType(str(argument).removeprefix("torch."))
        return _number(argument)

    def _same(self, node: fx.Node, name: str, value: Any) -> fx.Node | None:
        """The argument that the operation gives as it is, if it does."""
        first, second = (*node.args, None, None)[:2]
        if name.split(".")[0] in NOTHING:
            return None if self._in_dropout(node) else first  # type: ignore[return-value]
        if name not in (*SIZED, *SUMS, *BOTH, "slice.Tensor", "slice_scatter.default"):
            return None
        if name in BOTH and _is_true(first) and isinstance(second, fx.Node):
            first, second = second, first
        if name == "slice_scatter.default":
            first = second  # what is as large as the result, and written into it, is all of it
        source = self.values.get(first) if isinstance(first, fx.Node) else None
        if not isinstance(source, Ref) or self.program.values[source.name] != _value(value):
            return None
        zero = name in SUMS and not isinstance(second, fx.Node) and second == 0
        whole = name in (*SIZED, "slice.Tensor", "slice_scatter.default")  # a slice of the same size is of all
        return first if zero or whole or (name in BOTH and _is_true(second)) else None  # type: ignore[return-value]

    def _in_dropout(self, node: fx.Node) -> bool:
        levels = _levels(node)
        return bool(levels) and levels[-1].type in DROPOUTS

    def _outputs(self, node: fx.Node) -> None:
        results, user = self._read(node.args[0]), []
        for value, spec in zip(results, self.exported.graph_signature.output_specs, strict=True):
            if spec.kind == OutputKind.BUFFER_MUTATION:
                assert isinstance(spec.target, str)
                self.program.updates[self.first.get(spec.target, spec.target)] = value
            elif spec.kind == OutputKind.PARAMETER_MUTATION:
                self.program.moved.append(str(spec.target))
            elif spec.kind == OutputKind.USER_INPUT_MUTATION:
                self.program.written.append(str(spec.target))
            elif spec.kind == OutputKind.USER_OUTPUT:
                user.append(value)
        spec = self.exported.call_spec.out_spec
        assert spec is not None
        self.program.outputs = _nest(spec, iter(user))

    def _drop_unused(self) -> None:
        """Leave out what no result needs, and the counters of BatchNorm where nothing reads them."""
        program = self.program
        for name in [n for n in program.updates if n.endswith(COUNTER)]:
            read = sum(Ref(name) in refs((s.args, tuple(s.kwargs.values()))) for s in program.statements)
            if read <= 1:
                del program.updates[name]
        keep_used(program)


def _is_true(argument: Any) -> bool:
    """Whether an argument is the one number True."""
    if not isinstance(argument, fx.Node) or _operation(argument) not in ("ones.default", "new_ones.default"):
        return False
    return argument.meta["val"].dtype == torch.bool and argument.meta["val"].dim() == 0


def _split(name: str, args: tuple[Any, ...], parts: Sequence[torch.Tensor]) -> tuple[str, tuple[Any, ...]]:
    """A split as it is written by hand: in so many equal parts, or at these places."""
    x, _, dim = args
    sizes = [_number(part.shape[dim]) for part in parts]
    if any(isinstance(size, Size) for size in sizes):
        return name, args
    if len(set(sizes)) == 1:
        return "tensor_split.sections", (x, len(sizes), dim)
    return "tensor_split.indices", (x, tuple(np.cumsum(sizes)[:-1].tolist()), dim)


def _operation(node: fx.Node) -> str:
    name = (
        str(node.target).removeprefix("aten.").removeprefix(f"{LIBRARY}.")
        if isinstance(node.target, torch._ops.OpOverload)
        else str(getattr(node.target, "__name__", node.target))
    )
    return ALIKE.get(name, name)


def _peculiar(node: fx.Node, name: str, train: bool) -> str:
    """What makes this use of the operation another one, for which the table has no entry; mostly nothing."""
    if not train and _drops(node):
        return " that drops in eval mode"  # nnx.Dropout is off there
    if name == "lstm.input" and len({h.meta["val"].shape[-1] for h in node.args[1]}) > 1:  # type: ignore
        return " with proj_size"
    first = node.args[0] if node.args else None
    tensor = first.meta.get("val") if isinstance(first, fx.Node) else None
    if not isinstance(tensor, torch.Tensor):
        return ""
    if name.startswith("as_strided"):
        whole = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.itemsize
        if not (tensor.is_contiguous() and statically_known_true(whole)):
            return " of a view"  # it reads the memory below, which JAX does not know
    if name.split(".")[0] in ("any", "all") and tensor.dtype == torch.uint8:
        return " of uint8"  # the result is uint8 too
    return ""


def _drops(node: fx.Node) -> bool:
    """Whether the operation drops anything."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    parameters = node.target._schema.arguments
    given: dict[str, Any] = {p.name: p.default_value for p in parameters}
    given |= dict(zip(given, node.args, strict=False)) | node.kwargs
    if "dropout_p" in given:
        return given["dropout_p"] > 0
    if "dropout" in given:  # of a recurrent layer
        return bool(given["train"] and given["dropout"])
    return "dropout" in str(node.target) and bool(given.get("train") and given.get("p"))


def _value(tensor: torch.Tensor) -> Value:
    return Value(tuple(_number(n) for n in tensor.shape), str(tensor.dtype).removeprefix("torch."))


def _number(value: Any) -> Any:
    """A number as it is; one that depends on the inputs as a :class:`Size`."""
    if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
        expression = value.node.expr
        if expression.is_number:
            return int(expression) if isinstance(value, torch.SymInt) else float(expression)
        return Size(expression)
    return value


def _levels(node: fx.Node) -> tuple[Level, ...]:
    stack = node.meta.get("nn_module_stack") or {}
    return tuple(
        Level(
            key, path.split("@")[0], kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}"
        )
        for key, (path, kind) in stack.items()
        if not key.startswith("_empty")
    )


def _nest(spec: TreeSpec, leaves: Iterator[Any]) -> Any:
    """The model's outputs as nested tuples and dicts; a dict-like class becomes a dict."""
    if spec.is_leaf():
        leaf = next(leaves)
        if isinstance(leaf, str):
            raise CannotPort(
                f"The model returns a text ({leaf[:40]!r}), which has no counterpart in JAX.",
                "Return tensors in tuples, lists or dicts.",
            )
        return leaf
    children = [_nest(child, leaves) for child in spec.children()]
    keys = spec.context if isinstance(spec.context, list) else None
    if spec.type in (tuple, list):
        return tuple(children)
    if keys is not None and len(keys) == len(children):
        return dict(zip(keys, children, strict=True))
    if spec.type.__name__ == "namedtuple" or hasattr(spec.context, "_fields"):
        return tuple(children)
    nested = spec.context[0] if isinstance(spec.context, tuple) and spec.context else None
    if isinstance(nested, list) and len(nested) == len(children):
        return dict(zip(nested, children, strict=True))
    raise CannotPort(
        f"The model returns a {spec.type.__name__}, which has no counterpart in JAX.",
        "Return tensors in tuples, lists or dicts.",
    )
