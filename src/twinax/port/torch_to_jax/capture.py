"""A PyTorch module as a list of statements, in eval and in train mode. Imports torch: runs in torch workers.

``torch.export`` in float64, so that every cast shows: a float64 in the graph follows the weights' dtype, a
float32 was asked for by the model. Its decomposition with an empty table makes the graph functional (no
in-place operation, no view that is written through) and keeps high-level operations whole.
"""

from __future__ import annotations

import copy
import gc
import operator
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.export import Dim
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.utils._pytree import TreeSpec

from twinax.errors import CannotPort, Unsupported
from twinax.port.torch_to_jax.gradients import Detached, own_backwards
from twinax.port.torch_to_jax.guards import guards
from twinax.port.torch_to_jax.program import (
    DROPOUTS,
    MODES,
    DType,
    Frame,
    Level,
    Program,
    Ref,
    Size,
    Statement,
    Value,
    is_torch,
    refs,
)

NOTHING = ("clone", "alias", "lift_fresh_copy", "contiguous")
"""Operations that give their argument: nothing is written through views any more."""
SIZED = ("view.default", "reshape.default", "_unsafe_view.default", "expand.default")
"""Operations whose sizes are those of the result: -1 is written out; one export has it and another not."""
SUMS = ("add.Tensor", "add.Scalar")
BOTH = ("__and__.Tensor", "bitwise_and.Tensor", "logical_and.default")
ITEMS = ("item.default", "_local_scalar_dense.default")
JOINED = ("cat.default", "concat.default", "concatenate.default")
CHECKS = ("_assert_tensor_metadata", "_assert_scalar", "sym_constrain_range", "sym_constrain_range_for_size")
COUNTER = "num_batches_tracked"
FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)\n\s*(.*)')


def capture(module: nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, Program]:
    """The module's programs by mode.

    Args:
        module: Left as it is.
        inputs: Example arrays by the names of ``forward``'s parameters; the first axis is the batch, and its
            size should be 2 or more. Sizes that the model does not fix stay open.

    Raises:
        CannotPort: torch.export cannot follow the module.
    """
    wide = _copied(module).double()
    complex_ones = [name for name, p in module.named_parameters() if p.is_complex()]
    if complex_ones:
        raise CannotPort(
            f"{complex_ones[0]} is complex; the two frameworks differ in what its gradient is.",
            "Hold its real and imaginary parts as two parameters.",
        )
    examples = {n: t.double() if t.is_floating_point() else t for n, t in inputs.items()}
    first = first_names(wide)
    with _no_collection():
        return {mode: _program(wide, examples, mode, first) for mode in MODES}


def _program(
    module: nn.Module, inputs: Mapping[str, torch.Tensor], mode: str, first: Mapping[str, str]
) -> Program:
    with own_backwards() as functions:
        exported = _exported(module, inputs, mode)
    program = _Reader(exported, first, mode == "train").program
    program.functions, program.guards = functions, guards(exported, list(inputs))
    return program


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection in the block: an export makes millions of objects that stay (a sixth faster)."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def _copied(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module)
    except Exception as error:
        raise CannotPort(
            f"{type(module).__name__} cannot be copied, which a port needs: {_first_line(error)}",
            "A weight that another function computes is at fault, such as torch.nn.utils.weight_norm's: use "
            "torch.nn.utils.parametrizations.",
        ) from error


def first_names(module: nn.Module) -> dict[str, str]:
    """Name of each parameter and buffer → the first name of the same tensor (tied ones have several)."""
    first: dict[int, str] = {}
    names: dict[str, str] = {}
    for name, tensor in [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]:
        names[name] = first.setdefault(id(tensor), name)
    return names


def _exported(module: nn.Module, inputs: Mapping[str, torch.Tensor], mode: str) -> torch.export.ExportedProgram:
    module.train(mode == "train")
    shapes = {name: dict.fromkeys(_open_axes(tensor), Dim.AUTO) for name, tensor in inputs.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Detached():
                exported = torch.export.export(module, (), dict(inputs), dynamic_shapes=shapes, strict=False)
            return exported.run_decompositions({})
        except Exception as error:
            _run(module, inputs)
            raise _refused(error, mode) from error


def _run(module: nn.Module, inputs: Mapping[str, torch.Tensor]) -> None:
    """Call the model as it is: where that fails, it is not torch.export's affair."""
    try:
        with torch.no_grad():
            module(**inputs)
    except Exception as error:
        lines = _own_lines(error)
        raise CannotPort(
            f"The model itself fails on these inputs: {type(error).__name__}: {_first_line(error)}"
            + (f" ({lines[-1]})" if lines else ""),
            "State other inputs with --input or example_inputs(), or mend the model.",
        ) from error


def _open_axes(tensor: torch.Tensor) -> range:
    """Axes whose sizes may stay open: the batch; of sequences (not images) the length too."""
    return range(1 if tensor.dim() > 3 else min(tensor.dim(), 2))


def _refused(error: Exception, mode: str) -> CannotPort:
    """What torch.export said, with the user's line."""
    text = str(error)
    frames = [f for f in _frames(text) if not is_torch(f.file)]
    own = _own_lines(error)
    where = str(frames[-1]) if frames else own[-1] if own else ""
    branch = "data-dependent" in text.lower() or type(error).__name__.startswith("GuardOnDataDependent")
    hint = (
        "What happens there depends on the data. Replace the branch by torch.where, or torch.cond."
        if branch
        else "Change the line so that torch.export can follow it."
    )
    what = Unsupported("control flow" if branch else "torch.export", where, hint)
    return CannotPort(
        f"torch.export cannot follow the model in {mode} mode: {type(error).__name__}: {_first_line(error)}",
        "",
        (what,),
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:500]


def _own_lines(error: BaseException) -> list[str]:
    found: list[str] = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if not is_torch(code.co_filename) and "twinax/port" not in code.co_filename:
            found.append(f"{code.co_filename}:{trace.tb_lineno}")
        trace = trace.tb_next
    return found


class _Reader:
    """Reads one exported program."""

    def __init__(self, exported: torch.export.ExportedProgram, first: Mapping[str, str], train: bool) -> None:
        self.program, self.train = Program(), train
        self.values: dict[fx.Node, Any] = {}  # node → Ref, Size, number, or a tuple of these
        self.constants = {**exported.constants, **dict(exported.named_buffers())}
        self.exported, self.first = exported, first
        self.kept = set(exported.state_dict)
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
            if "val" in node.meta and isinstance(node.meta["val"], torch.Tensor):
                self.program.inputs.append(node.name)
                self._define(node, node.name)
            else:
                self.values[node] = spec.arg.value if hasattr(spec.arg, "value") else None
            return
        name = self.first.get(spec.target, spec.target)
        persistent = spec.kind == InputKind.PARAMETER or (spec.kind == InputKind.BUFFER and spec.persistent)
        if persistent:
            self.program.weights.add(name)
        else:
            array = self.constants[name].detach().cpu().numpy()
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
        if name in ITEMS:  # the array of no dimensions stands for its number
            self.values[node] = self._read(node.args[0])
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

    def _statement(self, node: fx.Node, name: str, value: Any) -> None:
        if isinstance(value, tuple | list):
            used = [user.args[1] for user in node.users if user.target is operator.getitem]
            results = tuple(f"{node.name}.{i}" if i in used else "" for i in range(len(value)))
            self.values[node] = tuple(Ref(r) for r in results)
            parts: list[tuple[str, Any]] = list(zip(results, value, strict=True))
        else:
            results, parts = (node.name,), [(node.name, value)]
            self.values[node] = Ref(node.name)
        for result, part in parts:
            if result and isinstance(part, torch.Tensor):
                self.program.values[result] = _value(part)
        self.program.statements.append(
            Statement(
                name + _peculiar(node, name, self.train),
                *self._arguments(node, name, value),
                results,
                _levels(node),
                tuple(_frames(node.meta.get("stack_trace") or "")),
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
        live = set(refs((program.outputs, tuple(program.updates.values()))))
        kept = []
        for statement in reversed(program.statements):
            if any(Ref(r) in live for r in statement.results if r):
                live |= set(refs((statement.args, tuple(statement.kwargs.values()))))
                kept.append(statement)
        program.statements = kept[::-1]


def _is_true(argument: Any) -> bool:
    """Whether an argument is the one number True."""
    if not isinstance(argument, fx.Node) or _operation(argument) not in ("ones.default", "new_ones.default"):
        return False
    return argument.meta["val"].dtype == torch.bool and argument.meta["val"].dim() == 0


def _operation(node: fx.Node) -> str:
    return (
        str(node.target).removeprefix("aten.")
        if isinstance(node.target, torch._ops.OpOverload)
        else str(getattr(node.target, "__name__", node.target))
    )


def _peculiar(node: fx.Node, name: str, train: bool) -> str:
    """What makes this use of the operation another one, for which the table has no entry; mostly nothing."""
    if not train and _drops(node):
        return " that drops in eval mode"  # nnx.Dropout is off there
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
    given = {p.name: p.default_value for p in parameters}
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


def _frames(text: str) -> Iterator[Frame]:
    for file, line, function, code in FRAME.findall(text):
        yield Frame(file, int(line), function, code.strip())


def _nest(spec: TreeSpec, leaves: Iterator[Any]) -> Any:
    """The model's outputs as nested tuples and dicts; a dict-like class becomes a dict."""
    if spec.is_leaf():
        return next(leaves)
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
