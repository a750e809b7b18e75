"""The PyTorch side behind the Runner contract. Imports torch: only torch workers import this."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from twinax.errors import CellFailed, DeviceMissing
from twinax.frameworks import torch_derivatives, torch_graph
from twinax.frameworks.base import (
    INPUT,
    Captured,
    Derivative,
    DropoutSite,
    Evaluation,
    Optimizer,
    Phases,
    Prepared,
    Reshaping,
    Runner,
    SideCode,
    refusal,
)
from twinax.frameworks.torch_flops import flop_counter
from twinax.frameworks.torch_optimizers import STATE_KEYS, make_optimizer
from twinax.frameworks.torch_training import TorchTraining
from twinax.records import Json
from twinax.twin import Arrays, Config
from twinax.weights import checkpoint

# torch keeps a step counter beside each BatchNorm; with a set momentum nothing reads it.
COUNTER = "num_batches_tracked"
COMPILING = {"compile": None, "compile_static": False, "compile_dynamic": True}
"""Modes that compile, with what ``dynamic`` is to torch.compile."""
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


class TorchRunner(Runner):
    """One twin in PyTorch, in mode ``eager`` or one of ``COMPILING``."""

    side = "torch"

    def __init__(
        self,
        code: SideCode,
        config: Config,
        weights: Arrays,
        inputs: Sequence[str],
        *,
        mode: str = "eager",
        dtype: str = "float32",
        device: str = "cpu",
        channels_last: bool = False,
    ) -> None:
        """``channels_last`` says that the JAX side reads NHWC; torch reads NCHW, as batches are made."""
        if device == "cuda" and not torch.cuda.is_available():
            raise DeviceMissing("torch finds no CUDA device on this machine.", "Use --device cpu.")
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32 on both sides
        torch.backends.cuda.matmul.allow_tf32 = False
        self.code, self.inputs, self.mode, self.channels_last = code, tuple(inputs), mode, channels_last
        self.dtype, self.device = getattr(torch, dtype), torch.device(device)
        self.model: nn.Module = code.build(config).to(device=self.device, dtype=self.dtype)
        for parameter in self.model.parameters():  # frozen ones too: those are the optimizer's affair
            parameter.requires_grad_(parameter.is_floating_point() or parameter.is_complex())
        self.optimizer: torch.optim.Optimizer | None = None
        self.input_gradients = False
        self.rule: Optimizer | None = None
        self._compiled: Phases | None = None  # what the function compiled last took
        self.load(weights)

    # --- weights -------------------------------------------------------------------------------

    def _slots(self) -> dict[str, Tensor]:
        return own_tensors(self.model)

    def load(self, weights: Arrays, optimizer: Optimizer | None = None, state: Arrays | None = None) -> None:
        slots = self._slots()
        fitted = checkpoint.fit(weights, {name: tuple(slot.shape) for name, slot in slots.items()}, prefixes=())
        with torch.no_grad():
            for name, slot in slots.items():
                slot.copy_(torch.from_numpy(np.array(fitted[name])))
        self.rule = optimizer
        self.optimizer = None if optimizer is None else self._make_optimizer(optimizer, state)

    def weights(self) -> Arrays:
        return {name: _numpy(slot) for name, slot in self._slots().items()}

    def parameters(self) -> list[str]:
        return [name for name, _ in self.model.named_parameters()]

    def _make_optimizer(self, rule: Optimizer, state: Arrays | None) -> torch.optim.Optimizer:
        made = make_optimizer(rule, self.model.parameters())
        if not state:
            return made
        for name, parameter in self.model.named_parameters():
            slots = {theirs: state[f"{ours}.{name}"] for ours, theirs in STATE_KEYS[rule.name].items()}
            made.state[parameter] = {k: torch.tensor(v).to(parameter) for k, v in slots.items()}
            if "step" in state:
                made.state[parameter]["step"] = torch.tensor(float(state["step"]))
        return made

    def training(self, clip: float | None) -> TorchTraining:
        return TorchTraining(self, clip)

    def _optimizer_state(self) -> Arrays:
        assert self.optimizer is not None and self.rule is not None
        state: Arrays = {}
        for name, parameter in self.model.named_parameters():
            slots = self.optimizer.state[parameter]
            for ours, theirs in STATE_KEYS[self.rule.name].items():
                value = slots.get(theirs)
                state[f"{ours}.{name}"] = _view(value if value is not None else torch.zeros_like(parameter))
            if "step" in slots:
                state["step"] = np.asarray(float(slots["step"]))
        return state

    # --- parity --------------------------------------------------------------------------------

    def evaluate(
        self,
        batch: Arrays,
        *,
        train: bool,
        gradients: bool = True,
        record: bool = False,
        masks: Arrays | None = None,
        step: bool = False,
    ) -> Evaluation:
        self.model.train(train)
        self.model.zero_grad(set_to_none=True)
        data = self._on_device(batch)
        leaves = self._leaves(data) if gradients and self.input_gradients else {}
        data |= {name: leaf.clone() for name, leaf in leaves.items()}  # a model may write into its inputs
        activations: dict[str, Tensor] = {}
        with (
            torch.set_grad_enabled(gradients),
            self._masked(masks),
            _recording(self.model, activations, record),
        ):
            outputs = self.model(*self._arguments(data))
            loss = self.code.loss(outputs, data)
        if gradients and loss.requires_grad:  # outputs may all be constants, such as one-hot choices
            loss.backward()
        result = Evaluation(
            outputs={name: _numpy(value) for name, value in named_outputs(outputs)},
            loss=float(loss.detach()),
            gradients={**self._gradients(), **self._gradients_of(leaves)} if gradients else {},
            buffers={n: _numpy(b) for n, b in self.model.named_buffers() if n in self._slots()},
            activations={name: _numpy(value) for name, value in activations.items()},
        )
        if step:
            assert self.optimizer is not None, "load() an optimizer before asking for a step"
            self.optimizer.step()
            result.weights = {n: _view(p) for n, p in self.model.named_parameters()}
            result.optimizer = self._optimizer_state()
        return result

    def _gradients(self) -> Arrays:
        return {
            name: _view(torch.zeros_like(p) if p.grad is None else p.grad)
            for name, p in self.model.named_parameters()
        }

    def _leaves(self, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The model's inputs that have a gradient."""
        floats = [name for name in self.inputs if data[name].is_floating_point()]
        return {name: data[name].detach().requires_grad_() for name in floats}

    def _gradients_of(self, leaves: Mapping[str, Tensor]) -> Arrays:
        return {
            f"{INPUT}{name}": _numpy(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad)
            for name, leaf in leaves.items()
        }

    def _on_device(self, batch: Arrays) -> dict[str, Tensor]:
        return on_device(batch, self.dtype, self.device)

    def _arguments(self, data: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        return tuple(data[name] for name in self.inputs)

    def _dropout_layers(self) -> Iterator[tuple[str, Any]]:
        return ((path, m) for path, m in self.model.named_modules() if isinstance(m, _DROPOUTS))

    @contextlib.contextmanager
    def _masked(self, masks: Arrays | None) -> Iterator[None]:
        """Every dropout layer multiplies by its given mask / (1 − rate), or does nothing without one."""
        layers = list(self._dropout_layers())
        for path, layer in layers:
            mask = None if masks is None else masks.get(path)
            keep = None if mask is None else torch.from_numpy(mask).to(self.device)
            layer.forward = _replay(keep, layer.p)
        try:
            yield
        finally:
            for _, layer in layers:
                del layer.forward

    def dropouts(self, batch: Arrays) -> list[DropoutSite]:
        sites: list[DropoutSite] = []
        hooks = [
            layer.register_forward_pre_hook(
                lambda m, args, path=path: sites.append(DropoutSite(path, m.p, _mask_shape(m, args[0])))
            )
            for path, layer in self._dropout_layers()
        ]
        data = self._on_device(batch)
        saved = self.weights()
        self.model.train()
        with torch.no_grad():
            self.model(*self._arguments(data))
        for hook in hooks:
            hook.remove()
        self.load(saved, self.rule)  # the pass in train mode moved the running statistics
        return sites

    def drop(self, path: str, ones: Any, *, train: bool) -> Any:
        layer = self.model.get_submodule(path)
        layer.train(train)
        return _numpy(layer(torch.from_numpy(np.array(ones)).to(self.device, self.dtype)))

    # --- timing --------------------------------------------------------------------------------

    def prepare(self, program: str, batches: Sequence[Arrays], *, dropout: bool = True) -> Prepared:
        if not dropout:
            for _, layer in self._dropout_layers():
                layer.p = 0.0
        data = [(self._arguments(moved), moved) for moved in map(self._on_device, batches)]
        run = self._program(program)
        before = self._compile_seconds()
        start = time.perf_counter()
        run(*data[0])
        self._finish()
        first = time.perf_counter() - start
        traced, compiled = (now - then for now, then in zip(self._compile_seconds(), before, strict=True))
        phases = Phases(trace=traced, compile=compiled, first=first)
        if self.mode == "compile" and compiled == 0.0 and self._compiled is not None:
            # dynamo knows the code already: grad and step compile the same function, so each is charged
            phases = Phases(
                self._compiled.trace,
                self._compiled.compile,
                first + self._compiled.trace + self._compiled.compile,
            )
        self._compiled = phases

        model, training, on_gpu, count = self.model, program != "forward", self.device.type == "cuda", len(data)

        def call(i: int) -> None:
            if model.training is not training:  # another program was prepared or run meanwhile
                model.train(training)
            run(*data[i % count])
            if on_gpu:
                torch.cuda.synchronize()

        def outputs() -> Arrays:
            model.train(training)
            return {name: _numpy(value) for name, value in named_outputs(run(*data[0]))}

        flops = self._count_flops(lambda: run(*data[0])) if self.mode == "eager" else {}
        return Prepared(call, phases, flops, outputs)

    def _compile_seconds(self) -> tuple[float, float]:
        """Seconds that dynamo spent so far: tracing, and in its backend compiler (forward and backward)."""
        if self.mode != "compile":
            return 0.0, 0.0
        spent = {name: sum(times) for name, times in torch._dynamo.utils.compilation_time_metrics.items()}
        backend = spent.get("OutputGraph.call_user_compiler", 0.0)
        traced = max(spent.get("_compile.compile_inner", 0.0) - backend, 0.0)
        return traced, backend + spent.get("backward._backward_impl", 0.0)

    def _program(self, program: str) -> Callable[[tuple[Tensor, ...], dict[str, Tensor]], Any]:
        """``run(the model's arguments, the whole batch)``; the loss reads the batch."""
        model, forward, objective = self.model, self._forward, self._objective
        optimizer = self._stepping(program)
        model.train(program != "forward")
        if self.mode in COMPILING:
            dynamic = COMPILING[self.mode]
            forward = torch.compile(forward, dynamic=dynamic)
            objective = torch.compile(objective, dynamic=dynamic)

        def serve(arguments: tuple[Tensor, ...], data: dict[str, Tensor]) -> Any:
            with torch.no_grad():
                return forward(arguments, data)

        def grad(arguments: tuple[Tensor, ...], data: dict[str, Tensor]) -> None:
            model.zero_grad(set_to_none=True)
            objective(arguments, data).backward()

        def step(arguments: tuple[Tensor, ...], data: dict[str, Tensor]) -> None:
            optimizer.zero_grad(set_to_none=True)
            objective(arguments, data).backward()
            optimizer.step()

        return {"forward": serve, "grad": grad, "step": step}[program]

    def _stepping(self, program: str) -> Any:
        """The optimizer of program ``step``; the others need none, and a model may have no parameters."""
        if program != "step":
            return None
        return self.optimizer or self._make_optimizer(Optimizer("sgd", 1e-4, momentum=0.9), None)

    def _forward(self, arguments: tuple[Tensor, ...], data: dict[str, Tensor]) -> Any:
        return self.model(*arguments)

    def _objective(self, arguments: tuple[Tensor, ...], data: dict[str, Tensor]) -> Tensor:
        return self.code.loss(self.model(*arguments), data)

    def _count_flops(self, run: Callable[[], Any]) -> dict[str, float]:
        with flop_counter() as counter:
            run()
        return {"flops": float(counter.get_total_flops())}

    def _finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def kernel(self, kind: str, shape: Sequence[int]) -> Callable[[], None]:
        def draw(*sizes: int) -> Tensor:
            return torch.randn(*sizes, dtype=self.dtype, device=self.device)

        if kind == "matmul":
            m, k, n = shape
            a, b = draw(m, k), draw(k, n)
            operation = lambda: a @ b  # noqa: E731 - three operations of one form, side by side
        elif kind == "convolution":
            batch, channels, height, width, out, size = shape
            x, w = draw(batch, channels, height, width), draw(out, channels, size, size)
            operation = lambda: nn.functional.conv2d(x, w, padding=size // 2)  # noqa: E731
        else:
            a, b = draw(*shape), draw(*shape)
            operation = lambda: torch.add(a, b, alpha=3.0)  # noqa: E731

        def call() -> None:
            with torch.no_grad():
                operation()
            self._finish()

        return call

    def derivative(self, kind: str, batch: Arrays) -> Derivative:
        self.model.train(False)
        buffers = dict(self.model.named_buffers())

        def objective(parameters: dict[str, Tensor], data: dict[str, Tensor]) -> Tensor:
            tensors = {**parameters, **buffers}
            outputs = torch.func.functional_call(self.model, tensors, self._arguments(data))
            return self.code.loss(outputs, data)

        return torch_derivatives.make(kind, self.model, objective, self._on_device(batch), _numpy)

    def reshaping(self, program: str) -> Reshaping:
        run = self._program(program)

        def place(batch: Arrays) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
            data = self._on_device(batch)
            return self._arguments(data), data

        def call(placed: tuple[tuple[Tensor, ...], dict[str, Tensor]]) -> None:
            run(*placed)
            self._finish()

        if self.mode not in COMPILING:
            return Reshaping(place, call, lambda: 0)
        return Reshaping(place, call, torch_graph.compilations(), torch_graph.recompile_limit())

    # --- graph ---------------------------------------------------------------------------------

    def capture(self, program: str, batch: Arrays, *, kernels: bool) -> Captured:
        data, saved = self._on_device(batch), self.weights()
        self.model.train(program != "forward")
        optimizer = self._stepping(program)
        subject = torch_graph.Subject(self.model, self.code.loss, self.inputs, optimizer)
        try:
            return torch_graph.capture(program, subject, data, kernels=kernels)
        except Exception as error:  # whatever the user's model does to the tracer is an outcome
            raise CellFailed(
                "unsupported",
                f"torch could not capture {program}: {refusal(error)}",
                "The traceback in the cell's log names the line of the model.",
            ) from error
        finally:
            self.load(saved, self.rule)  # tracing runs the program, and with it the optimizer

    # --- facts ---------------------------------------------------------------------------------

    def peak_device_bytes(self) -> int | None:
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else None

    def facts(self) -> dict[str, Json]:
        return {
            "dtype": str(self.dtype).removeprefix("torch."),
            "matmul precision": torch.get_float32_matmul_precision(),
            "TF32": bool(torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32),
            "threads": torch.get_num_threads(),
            "image layout": "NCHW, contiguous" if self.channels_last else "as given",
            "compiler": "inductor, default options" if self.mode == "compile" else "none",
            "buffers reused in step": "in place",
            "attention kernel": "as the model's source writes it",
            "matrix library": "oneDNN/MKL" if torch.backends.mkldnn.is_available() else "BLAS",
        }


def on_device(batch: Arrays, dtype: torch.dtype, device: torch.device) -> dict[str, Tensor]:
    """Arrays as tensors on the device, those of floating-point numbers in the type."""
    moved = {}
    for name, array in batch.items():
        tensor = torch.from_numpy(np.asarray(array, order="C")).to(device)
        moved[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return moved


def fit(code: Any, config: Config, batch: Arrays, dtype: str, device: str) -> Arrays:
    """The weights that the side's own solver (program ``fit``) finds for these training examples."""
    with torch.no_grad():
        found = code.fit(config, on_device(batch, getattr(torch, dtype), torch.device(device)))
    return {name: _numpy(tensor) for name, tensor in found.items()}


def own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; a tied one once, under its first name, as ``named_parameters`` has it."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not name.endswith(COUNTER) and id(tensor) not in seen:
            found[name] = tensor
            seen.add(id(tensor))
    return found


def named_outputs(outputs: Any, prefix: str = "output") -> Iterator[tuple[str, Tensor]]:
    """The tensors in a model's outputs, by name: a lone tensor is ``output``."""
    if isinstance(outputs, Tensor):
        yield prefix, outputs
    elif isinstance(outputs, Mapping):
        for name, value in outputs.items():
            yield from named_outputs(value, str(name) if prefix == "output" else f"{prefix}.{name}")
    elif isinstance(outputs, list | tuple):
        for i, value in enumerate(outputs):
            yield from named_outputs(value, f"{prefix}.{i}")


@contextlib.contextmanager
def _recording(model: nn.Module, found: dict[str, Tensor], record: bool) -> Iterator[None]:
    """Keep every submodule's floating-point output by path, in the order in which they finish."""

    def keep(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, outputs: Any) -> None:
            for name, value in named_outputs(outputs, path):
                if value.is_floating_point():
                    repeats = sum(1 for seen in found if seen.split("#")[0] == name)
                    # a copy: an in-place layer after this one would overwrite it
                    found[f"{name}#{repeats + 1}" if repeats else name] = value.detach().clone()

        return hook

    modules = [(path, m) for path, m in model.named_modules() if path] if record else []
    hooks = [m.register_forward_hook(keep(path)) for path, m in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _replay(keep: Tensor | None, rate: float) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        return x if keep is None else x * keep / (1.0 - rate)

    return forward


def _mask_shape(layer: nn.Module, x: Tensor) -> tuple[int, ...]:
    if isinstance(layer, nn.Dropout):
        return tuple(x.shape)
    return (*x.shape[:2], *(1 for _ in x.shape[2:]))  # whole channels are dropped


def _numpy(tensor: Tensor) -> Any:
    """A copy on the host."""
    return _view(tensor).copy()


def _view(tensor: Tensor) -> Any:
    """The tensor on the host, not copied where it is there; bfloat16, which NumPy lacks, becomes float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
