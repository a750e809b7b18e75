"""The contract that both frameworks fulfil: a Runner holds one side of a twin and runs its programs.

Arrays go in and come out as NumPy, weights under the torch names and in the torch layout, so that
whoever holds two runners can compare them without knowing either framework.
"""

from __future__ import annotations

import math
import sysconfig
import traceback
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from twinax.frameworks.training import Training
from twinax.records import Json
from twinax.twin import Array, Arrays, Config


class SideCode(Protocol):
    """What one side of a twin is made of: usually a module, imported only in a worker."""

    def build(self, config: Config) -> Any: ...
    def loss(self, outputs: Any, batch: Mapping[str, Any]) -> Any: ...


@dataclass(frozen=True)
class Optimizer:
    """An update rule with its numbers: the same on both sides.

    ``sgd``: v ← μ v + g;  θ ← θ − η v  (Polyak, 1964; no dampening, no Nesterov).
    ``adam``: Kingma & Ba, arXiv:1412.6980, with bias correction and ε outside the root.
    ``adamw``: the same with decoupled weight decay: Loshchilov & Hutter, arXiv:1711.05101.

    In ``sgd`` and ``adam`` the decay λ θ is part of the gradient.
    """

    name: str
    learning_rate: float
    momentum: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0


SGD_MOMENTUM = Optimizer("sgd", learning_rate=0.01, momentum=0.9)
ADAMW = Optimizer("adamw", learning_rate=1e-3, weight_decay=0.01)
OPTIMIZERS = {"sgd": SGD_MOMENTUM, "adamw": ADAMW}


INPUT = "input "
"""What stands before an input's name among the gradients."""


@dataclass
class Evaluation:
    """What one pass, and where asked one optimizer step, produced.

    Gradients, weights and optimizer state may be views of the runner's own memory: they are good until
    its next call.

    Attributes:
        outputs: The model's outputs by name (``output`` when there is just one).
        loss: The scalar loss, in the runner's dtype.
        gradients: ∂loss/∂parameter for every parameter; parameters the loss does not reach are 0. Of a runner
            with ``input_gradients`` also ``input <name>`` for every input of floating-point numbers.
        buffers: Buffers after the pass (BatchNorm running statistics).
        activations: Output of each submodule by path, in the order in which they ran.
        weights: Parameters after the step; empty where no step was asked for.
        optimizer: Optimizer state after the step: ``momentum.<name>``, or ``exp_avg.<name>``,
            ``exp_avg_sq.<name>`` and ``step``.
    """

    outputs: Arrays
    loss: float
    gradients: Mapping[str, Array] = field(default_factory=dict)
    buffers: Arrays = field(default_factory=dict)
    activations: Mapping[str, Array] = field(default_factory=dict)
    weights: Mapping[str, Array] = field(default_factory=dict)
    optimizer: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class DropoutSite:
    """One dropout layer: its module path, its rate, and the shape that it sees (torch layout)."""

    path: str
    rate: float
    shape: tuple[int, ...]


def draw_masks(sites: Iterable[DropoutSite], *key: int) -> Arrays:
    """Keep-masks by path, drawn from the numbers of the key and the path alone: True keeps."""
    masks: Arrays = {}
    for site in sites:
        draw = np.random.default_rng([*key, zlib.crc32(site.path.encode())])
        masks[site.path] = draw.random(site.shape, dtype=np.float32) >= site.rate
    return masks


@dataclass(frozen=True)
class Phases:
    """Seconds from a built model to its first finished result; 0 where a mode has no such phase.

    ``first`` is the whole first call, tracing and compiling included.
    """

    trace: float
    compile: float
    first: float


@dataclass(frozen=True)
class Prepared:
    """A program ready to be timed.

    Attributes:
        call: Runs iteration ``i`` on data that already lies on the device (batch ``i`` modulo their
            number) and returns when **all** of its outputs are finished.
        phases: What it took to get here.
        compiled: What the compiler says of the program: ``flops``, ``argument_bytes``,
            ``output_bytes``, ``temporary_bytes``, ``taken_bytes`` (that each call takes from the system
            and gives back: working memory, and results that lie where no argument lay); empty where
            it says nothing.
        outputs: Runs ``forward`` on batch 0 and gives the model's outputs, in torch's layout; gives
            nothing for the other programs.
    """

    call: Callable[[int], None]
    phases: Phases
    compiled: Mapping[str, float]
    outputs: Callable[[], Arrays] = dict


@dataclass(frozen=True)
class Reshaping:
    """One program that meets batches of several sizes, with empty compile caches.

    Attributes:
        place: Moves a batch to the device.
        call: Runs the program on a placed batch; returns when everything is finished.
        compilations: How many programs were compiled so far.
        limit: Sizes after which the framework stops compiling and runs uncompiled; None where it goes on.
    """

    place: Callable[[Arrays], Any]
    call: Callable[[Any], None]
    compilations: Callable[[], int]
    limit: int | None = None


@dataclass(frozen=True)
class Derivative:
    """One derivative of the loss with respect to the parameters, in eval mode, ready to be timed.

    Attributes:
        call: Computes it and returns it when it is finished.
        arrays: What ``call`` returned as one array per parameter, torch names and layout; of one gradient
            per example the sum Σ wᵢ gᵢ with :func:`example_weights`. Empty for the loss alone.
        how: The way that was taken, where there are several: ``forward over reverse``.
    """

    call: Callable[[], Any]
    arrays: Callable[[Any], Arrays]
    how: str = ""


DERIVATIVES = ("loss", "gradient", "rematerialised", "hvp", "per_sample_loop", "per_sample")
"""What :meth:`Runner.derivative` knows, what needs the most memory last."""


def direction(names: Mapping[str, tuple[int, ...]]) -> Arrays:
    """The vector of a Hessian-vector product, ‖v‖₂ = 1: drawn by name, so that both sides have the same."""
    drawn = {
        name: np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
        for name, shape in names.items()
    }
    norm = math.sqrt(sum(float((array**2).sum()) for array in drawn.values())) or 1.0
    return {name: (array / norm).astype(np.float32) for name, array in drawn.items()}


def example_weights(count: int) -> Array:
    """One weight per example, so that gradients in another order have another sum."""
    return 1.0 + np.arange(count) / count


def outermost_blocks(paths: Iterable[str]) -> list[str]:
    """Repeated modules (``layer1.0``, ``encoder.layer.3``) that lie in no other: what is rematerialised."""
    repeated = [path for path in paths if path.rpartition(".")[2].isdigit()]
    return [p for p in repeated if not any(p != q and p.startswith(f"{q}.") for q in repeated)]


@dataclass(frozen=True)
class Captured:
    """What a framework makes of a program when it turns it into a graph.

    Attributes:
        texts: File name → text (``forward.aten.txt``, ``grad.jaxpr.txt``, ``grad.hlo.txt`` …).
        operations: Form (``aten``, ``jaxpr``, ``hlo``) → operation → how often it occurs.
        modules: Module path (torch's names; ``""`` is the whole model) → ``type``, ``operations``, ``flops``,
            with everything that the module holds; FLOPs of matrix products and convolutions only.
        constants: Arrays that became part of the graph: ``name``, ``shape``, ``dtype``, ``bytes``.
        promotions: Where the type of more than one number changes: ``operation``, ``from``, ``to``,
            ``file``, ``line``, ``code``.
        dynamo: ``graphs``, ``guards`` and ``breaks`` (``reason``, ``file``, ``line``, ``code``).
        kernels: ``fused`` kernels that the compiler wrote, and ``library`` calls between them.
        refused: What one of the tools said that could not capture the program, with the line; else "".
    """

    texts: Mapping[str, str]
    operations: Mapping[str, Mapping[str, int]]
    modules: Mapping[str, Json] = field(default_factory=dict)
    constants: Sequence[Json] = ()
    promotions: Sequence[Json] = ()
    dynamo: Mapping[str, Json] = field(default_factory=dict)
    kernels: Mapping[str, int] = field(default_factory=dict)
    refused: str = ""


def merged(parts: Iterable[Captured]) -> Captured:
    """One program's captures by several tools, as one."""
    whole = Captured({}, {})
    for part in parts:
        whole = Captured(
            {**whole.texts, **part.texts},
            {**whole.operations, **part.operations},
            {**whole.modules, **part.modules},
            [*whole.constants, *part.constants],
            [*whole.promotions, *part.promotions],
            {**whole.dynamo, **part.dynamo},
            {**whole.kernels, **part.kernels},
            whole.refused or part.refused,
        )
    return whole


def module_tree(
    types: Mapping[str, str], own_operations: Mapping[str, int], own_flops: Mapping[str, float]
) -> dict[str, Json]:
    """Operations and FLOPs of each module with all that it holds, from those of its own."""
    tree: dict[str, Json] = {}
    for path in dict.fromkeys(("", *own_operations, *own_flops)):
        parts = path.split(".") if path else []
        for depth in range(len(parts) + 1):
            above = ".".join(parts[:depth])
            row = tree.setdefault(above, {"type": types.get(above, ""), "operations": 0, "flops": 0.0})
            row["operations"] += own_operations.get(path, 0)
            row["flops"] += float(own_flops.get(path, 0))
    return tree


def refusal(error: Exception) -> str:
    """What a framework said of a model that it could not capture, and on which line of the model.

    Of an error and its causes the innermost that knows a line: the last word is about captures in general.
    """
    own: list[traceback.FrameSummary] = []
    cause: BaseException | None = error
    said: BaseException = error
    while cause:
        lines = [f for f in traceback.extract_tb(cause.__traceback__) if is_model_code(f.filename)]
        if lines:
            own, said = lines, cause
        cause = cause.__cause__
    told = f"{type(said).__name__}: {(str(said).splitlines() or ['no message'])[0]}"
    return f"{told} (at {own[-1].filename}:{own[-1].lineno}: {own[-1].line})" if own else told


def is_model_code(file: str) -> bool:
    """Whether a file of a stack trace is the user's or a twin's: no library's, no framework backend's."""
    path, package = Path(file), Path(__file__).parents[1]
    if path.is_relative_to(package):
        return path.relative_to(package).parts[0] in ("zoo", "probes")
    library = "site-packages" in path.parts or path.is_relative_to(sysconfig.get_path("stdlib"))
    return not library and not file.startswith("<")


class Runner(ABC):
    """One side of a twin, built: weights in place, dtype, mode and device chosen.

    Made by ``torch_backend.TorchRunner`` or ``jax_backend.JaxRunner`` with
    ``(code, config, weights, inputs, mode, dtype, device, channels_last)``.

    Attributes:
        input_gradients: Whether ``evaluate`` gives gradients towards the inputs too.
    """

    input_gradients: bool

    side: str

    @abstractmethod
    def load(self, weights: Arrays, optimizer: Optimizer | None = None, state: Arrays | None = None) -> None:
        """Put parameters, buffers and (optionally) optimizer state in place.

        Raises:
            WeightsError: Names or shapes do not fit; every one of them is listed.
        """

    @abstractmethod
    def weights(self) -> Arrays:
        """Parameters and buffers now, torch names and layout."""

    @abstractmethod
    def parameters(self) -> list[str]:
        """Names of the parameters (not the buffers), in the order of the forward pass."""

    @abstractmethod
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
        """Run the model and its loss once, from the weights in place.

        Args:
            batch: Torch layout.
            train: Train mode: BatchNorm uses the batch's statistics, dropout is on.
            gradients: Also differentiate the loss with respect to every parameter.
            record: Also return every submodule's output.
            masks: Keep-masks by dropout path (bool, True keeps), put in place of every dropout layer;
                None switches dropout off.
            step: Also make one step of the optimizer given to :meth:`load`, and stay there.
        """

    @abstractmethod
    def training(self, clip: float | None) -> Training:
        """Steps in a row with the optimizer given to :meth:`load`; ``clip`` bounds the gradients' norm."""

    @abstractmethod
    def dropouts(self, batch: Arrays) -> list[DropoutSite]:
        """Every dropout layer that a forward pass in train mode goes through."""

    @abstractmethod
    def drop(self, path: str, ones: Any, *, train: bool) -> Any:
        """Send a NumPy array through the layer's *own* dropout (to check its rate and scale)."""

    @abstractmethod
    def prepare(self, program: str, batches: Sequence[Arrays], *, dropout: bool = True) -> Prepared:
        """Make ``forward`` (eval mode), ``grad`` or ``step`` (train mode) ready to be timed.

        The framework's own dropout is on in ``grad`` and ``step``, as in training; ``dropout=False``
        switches it off for good.
        """

    @abstractmethod
    def derivative(self, kind: str, batch: Arrays) -> Derivative:
        """One of :data:`DERIVATIVES`, on this batch.

        Raises:
            CellFailed: ``unsupported``; names what the framework cannot differentiate so.
        """

    @abstractmethod
    def reshaping(self, program: str) -> Reshaping:
        """``forward``, ``grad`` or ``step``, to be called with batches of any size.

        The process's compile caches are switched off: what is compiled is compiled anew.
        """

    @abstractmethod
    def capture(self, program: str, batch: Arrays, *, kernels: bool) -> Captured:
        """What turning ``forward``, ``grad`` or ``step`` into a graph gives.

        Args:
            program: The program.
            batch: Torch layout.
            kernels: Also compile it where that takes long (inductor), to count its kernels.

        Raises:
            CellFailed: ``unsupported``; names what could not be captured, and where.
        """

    @abstractmethod
    def kernel(self, kind: str, shape: Sequence[int]) -> Callable[[], None]:
        """A single operation on random data, to be timed: it returns when the result is finished.

        Args:
            kind: ``matmul``, ``convolution`` or ``bandwidth``.
            shape: ``[m, k, n]`` for (m, k) @ (k, n); ``[batch, in, height, width, out, kernel]`` for a
                convolution with stride 1 that keeps the image's size; ``[elements]`` for the triad a + s·b.
        """

    @abstractmethod
    def peak_device_bytes(self) -> int | None:
        """Most memory that the framework's own allocator held on the accelerator; None on a CPU."""

    @abstractmethod
    def facts(self) -> dict[str, Json]:
        """What could tilt a comparison, read back: dtype, matmul precision, threads, layout, …"""
