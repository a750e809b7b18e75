"""What PyTorch makes of a model: the exported graph, dynamo's graphs and their breaks, inductor's kernels.

Imports torch: only torch workers import this.
"""

from __future__ import annotations

import contextlib
import linecache
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._logging._internal import set_logs
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from twinax.frameworks.base import Captured, is_model_code, merged, module_tree, refusal
from twinax.frameworks.torch_flops import flop_counter
from twinax.records import Json

NO_WORK = ("_assert_tensor_metadata", "detach_", "lift_fresh_copy")  # export's notes, no operations
_BREAKS = "torch._dynamo.symbolic_convert.__graph_breaks"  # dynamo's logger of graph breaks
_BREAK_AT = re.compile(r"Graph break in user code at (?P<file>.+):(?P<line>\d+)")
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in .*\n\s*(?P<code>.*)')
_CALL = re.compile(
    r"^\s+(?:\w+ = )?(extern_kernels\.\w+|torch\.ops\.[\w.]+|cpp_fused\w*|triton_\w+\.run)\(", re.MULTILINE
)


@dataclass(frozen=True)
class Subject:
    """What is captured: a model with its loss, the names of its inputs, and the optimizer of a step."""

    model: nn.Module
    loss: Callable[[Any, Mapping[str, Tensor]], Tensor]
    inputs: Sequence[str]
    optimizer: Any  # of program `step` alone

    def forward(self, data: Mapping[str, Tensor]) -> Any:
        """The model's outputs."""
        return self.model(*(data[name] for name in self.inputs))

    def objective(self, data: Mapping[str, Tensor]) -> Tensor:
        """The loss."""
        return self.loss(self.forward(data), data)

    def step(self, data: Mapping[str, Tensor]) -> None:
        """A training step as a person writes it."""
        self.optimizer.zero_grad(set_to_none=True)
        self.objective(data).backward()
        self.optimizer.step()


def capture(program: str, subject: Subject, data: dict[str, Tensor], *, kernels: bool) -> Captured:
    """A program by every tool. A step has no ATen graph: the optimizer runs outside of what is compiled."""
    whole = {"forward": subject.forward, "grad": subject.objective, "step": subject.step}[program]
    found = [dynamo(program, whole, data)]
    try:
        if program == "forward":
            found.append(forward(subject.model, tuple(data[name] for name in subject.inputs)))
        elif program == "grad":
            found.append(joint(_both_passes(subject, data)))
    except Exception as error:  # dynamo may go on where these two, which know no breaks, cannot
        tool = "torch.export" if program == "forward" else "the joint graph"
        found.append(Captured({}, {}, refused=f"{tool}: {refusal(error)}"))
    if kernels and program != "step":
        found.append(inductor(program, whole, data))
    return merged(found)


def _both_passes(subject: Subject, data: dict[str, Tensor]) -> fx.GraphModule:
    """The gradient by every parameter, traced as one graph."""

    def gradient(parameters: dict[str, Tensor], buffers: dict[str, Tensor], data: dict[str, Tensor]) -> Any:
        arguments = tuple(data[name] for name in subject.inputs)
        outputs = torch.func.functional_call(subject.model, {**parameters, **buffers}, arguments)
        return torch.autograd.grad(subject.loss(outputs, data), list(parameters.values()), allow_unused=True)

    parameters, buffers = dict(subject.model.named_parameters()), dict(subject.model.named_buffers())
    return make_fx(gradient, tracing_mode="fake")(parameters, buffers, data)


def forward(model: nn.Module, arguments: tuple[Tensor, ...]) -> Captured:
    """The whole model by torch.export: one graph, or an error; module by module, with its constants."""
    exported = torch.export.export(model, arguments, strict=False)
    nodes = [node for node in exported.graph.nodes if node.op == "call_function" and not _note(node)]
    constants = [
        {"name": name, "shape": list(value.shape), "dtype": _plain(value.dtype), "bytes": value.nbytes}
        for name, value in exported.constants.items()
        if isinstance(value, Tensor)
    ]
    return Captured(
        {"forward.aten.txt": str(exported)},
        {"aten": operations(nodes)},
        modules=_modules(model, arguments, nodes),
        constants=constants,
        promotions=list(_promotions(nodes)),
    )


def joint(module: fx.GraphModule) -> Captured:
    """Forward and backward pass as one graph of ATen operations."""
    nodes = [node for node in module.graph.nodes if node.op == "call_function" and not _note(node)]
    text = module.print_readable(print_output=False)
    return Captured({"grad.aten.txt": text}, {"aten": operations(nodes)}, promotions=list(_promotions(nodes)))


def operations(nodes: list[fx.Node]) -> dict[str, int]:
    """How often each operation occurs, the most frequent first."""
    return dict(Counter(_operation(node.target) for node in nodes).most_common())


def dynamo(program: str, function: Callable[..., Any], *arguments: Any) -> Captured:
    """What torch.compile makes of a function: how many graphs, where it leaves them and why, its guards."""
    torch._dynamo.reset()
    with _breaks_heard() as breaks:
        found = torch._dynamo.explain(function)(*arguments)
    torch._dynamo.reset()
    guards = sorted({f"{guard.create_fn_name()} {guard.name}" for guard in found.out_guards or ()})
    return Captured(
        {f"{program}.guards.txt": "\n".join(guards)} if guards else {},
        {},
        dynamo={"graphs": found.graph_count, "breaks": breaks, "guards": len(guards)},
    )


@contextlib.contextmanager
def _breaks_heard() -> Iterator[list[dict[str, Json]]]:
    """Every break that dynamo logs. ``explain`` itself leaves out those with no operation before them."""
    heard: list[dict[str, Json]] = []
    logger = logging.getLogger(_BREAKS)
    handler = logging.Handler()

    def hear(record: logging.LogRecord) -> None:
        found = _break(record.getMessage())
        # a break that is met again is logged without its place
        if found["file"] or all(found["reason"] != known["reason"] for known in heard):
            heard.append(found)

    handler.emit = hear
    set_logs(graph_breaks=True)
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield heard
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        set_logs()


def _break(message: str) -> dict[str, Json]:
    """Reason and place from dynamo's message: a title, an explanation with hints, and the user's frames."""
    said, _, trace = message.partition("User code traceback:")
    lines = [line.strip() for line in said.partition("Graph Break Reason:")[2].splitlines() if line.strip()]
    title = next((line for line in lines if not line.startswith("Encountered graph break")), "no reason given")
    told = next((line.partition(":")[2] for line in lines if line.startswith("Explanation:")), "")
    place = _written(trace)
    if not place["file"] and (at := _BREAK_AT.search(said)):
        file, line = at["file"], int(at["line"])
        place = {"file": file, "line": line, "code": linecache.getline(file, line).strip()}
    return {"reason": f"{title}:{told}" if told else title, **place}


def inductor(program: str, function: Callable[..., Any], *arguments: Any) -> Captured:
    """The kernels that inductor writes (for ``grad``, of both passes) and the library calls between them."""
    from torch._inductor import config
    from torch._inductor.utils import run_and_get_code

    torch._dynamo.reset()
    compiled = torch.compile(function)

    def run() -> None:
        with torch.set_grad_enabled(program == "grad"):
            result = compiled(*arguments)
        if program == "grad":
            result.backward()

    with config.patch(force_disable_caches=True):  # from a cache, no code would be seen
        _, codes = run_and_get_code(run)
    torch._dynamo.reset()
    calls = [found.group(1) for code in codes for found in _CALL.finditer(code)]
    fused = sum(call.startswith(("cpp_fused", "triton_")) for call in calls)
    return Captured(
        {f"{program}.inductor.txt": "\n\n".join(codes)},
        {},
        kernels={"fused": fused, "library": len(calls) - fused},
    )


def compilations() -> Callable[[], int]:
    """Switch inductor's caches off; a count of the graphs that dynamo has handed to it since."""
    from torch._dynamo.utils import counters
    from torch._inductor import config

    config.force_disable_caches = True
    before = counters["stats"]["unique_graphs"]
    return lambda: counters["stats"]["unique_graphs"] - before


def recompile_limit() -> int:
    """Versions of one function after which dynamo stops compiling it."""
    return int(torch._dynamo.config.recompile_limit)


def _modules(model: nn.Module, arguments: tuple[Tensor, ...], nodes: list[fx.Node]) -> dict[str, Json]:
    """Operations and FLOPs of each module with all that it holds."""
    with torch.no_grad(), flop_counter() as counter:
        model(*arguments)
    # names are "Global", the class's name, and below it "Class.path"
    root = type(model).__name__
    within = {name.removeprefix(root).lstrip("."): sum(f.values()) for name, f in _flops(counter, root)}
    own_flops = dict(within)
    for path, flops in within.items():
        if path:  # what a module holds is not its own
            own_flops[_holder(path, within)] -= flops
    own_operations = Counter(_path(node) for node in nodes)
    types = {path: type(module).__name__ for path, module in model.named_modules()}
    return module_tree(types, own_operations, own_flops)


def _flops(counter: FlopCounterMode, root: str) -> Iterator[tuple[str, Mapping[Any, int]]]:
    counts = counter.get_flop_counts()
    yield root, counts.get("Global", {})
    yield from ((name, found) for name, found in counts.items() if name.startswith(f"{root}."))


def _holder(path: str, known: Mapping[str, Any]) -> str:
    """The nearest module above that ran; the model itself at last."""
    while path:
        path = path.rpartition(".")[0]
        if path in known:
            return path
    return ""


def _path(node: fx.Node) -> str:
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]).split("@")[0] if stack else ""


def _promotions(nodes: list[fx.Node]) -> Iterator[dict[str, Json]]:
    """Where the type of more than one number changes: an operation on mixed types, or a cast."""
    for node in nodes:
        inputs = [arg.meta.get("val") for arg in node.all_input_nodes]
        tensors = [t for t in inputs if isinstance(t, Tensor) and t.numel() > 1]
        out = node.meta.get("val")
        if not tensors or not isinstance(out, Tensor) or not out.is_floating_point():
            continue
        kinds = list(dict.fromkeys(_plain(t.dtype) for t in tensors if t.is_floating_point()))
        mixed = len(kinds) > 1
        cast = _operation(node.target) in ("to", "_to_copy") and kinds not in ([], [_plain(out.dtype)])
        if mixed or cast:
            yield {
                "operation": _operation(node.target),
                "from": kinds,
                "to": _plain(out.dtype),
                **_written(node.meta.get("stack_trace") or ""),
            }


def _written(trace: str) -> dict[str, Json]:
    """The innermost line of a stack trace that is not torch's own."""
    found = [m for m in _FRAME.finditer(trace) if is_model_code(m["file"])]
    if not found:
        return {"file": "", "line": 0, "code": ""}
    return {"file": found[-1]["file"], "line": int(found[-1]["line"]), "code": found[-1]["code"].strip()}


def _note(node: fx.Node) -> bool:
    return _operation(node.target) in NO_WORK


def _operation(target: Any) -> str:
    """``aten.convolution.default`` → ``convolution``."""
    parts = str(target).split(".")
    return parts[1] if parts[0] == "aten" and len(parts) > 1 else getattr(target, "__name__", str(target))


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
