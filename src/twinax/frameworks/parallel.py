"""The contract of parallel computing: one process's part of a twin that several devices compute together.

A *rank* is one device's share of the work. PyTorch has one process per rank; JAX has one process per rank,
or several ranks (devices) in one process. Every method of :class:`ParallelRunner` is collective: all
processes of the group call it with the same arguments, in the same order.
"""

from __future__ import annotations

import fnmatch
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from twinax.frameworks.base import Evaluation, Optimizer
from twinax.twin import Arrays

Strategy = Literal["data", "data_local", "fully_sharded", "tensor", "pipeline", "data_tensor"]

STRATEGIES: Mapping[str, str] = {
    "data": "data parallel",
    "data_local": "data parallel, BatchNorm local",
    "fully_sharded": "fully sharded",
    "tensor": "tensor parallel",
    "pipeline": "pipeline",
    "data_tensor": "data × tensor parallel",
}
"""Every strategy, in the order in which they are shown.

``data_local`` is asked for only where a model has BatchNorm: each rank normalises with its own share of the
batch. In all others BatchNorm uses the whole batch's statistics, as one device does (in ``pipeline``: the
micro-batch's).
"""

Kind = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send", "broadcast"]


@dataclass(frozen=True)
class Membership:
    """Which process of the group this is; read from the variables that ``torchrun`` sets.

    Attributes:
        process: This process's number, from 0.
        processes: Processes in the group.
        address: ``host:port`` at which process 0 can be met.
        timeout: Seconds that a collective may take before it fails.
    """

    process: int
    processes: int
    address: str
    timeout: float = 120.0

    @classmethod
    def of_environment(cls, timeout: float = 120.0) -> Membership:
        """From RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT; a group of one where they are not set."""
        host, port = os.environ.get("MASTER_ADDR", "127.0.0.1"), os.environ.get("MASTER_PORT", "0")
        return cls(
            int(os.environ.get("RANK", "0")),
            int(os.environ.get("WORLD_SIZE", "1")),
            f"{host}:{port}",
            timeout,
        )


@dataclass(frozen=True)
class Traffic:
    """Collectives of one kind and size that a rank takes part in during one step.

    Attributes:
        kind: What is done.
        bytes: Bytes of the tensor on one rank: what is reduced (``all_reduce``); the whole tensor
            (``all_gather``, ``reduce_scatter``, ``all_to_all``, ``broadcast``); what it sends (``send``).
        ranks: Ranks that take part.
        count: How often in one step.
        arrays: Over how many arrays each is that travel one after the other (XLA's CPU backend).
    """

    kind: Kind
    bytes: int
    ranks: int
    count: int
    arrays: int = 1


@dataclass(frozen=True)
class Held:
    """Bytes that one rank holds for a step.

    Attributes:
        parameters: Its share of parameters and buffers.
        gradients: Its share of the gradients.
        optimizer: Its share of the optimizer's state.
        activations: What is kept for the backward pass (PyTorch: tensors saved for it that are no parameters;
            JAX: see :meth:`compiled`).
        buffers: What the engine keeps beside them for its collectives (PyTorch).
    """

    parameters: int
    gradients: int
    optimizer: int
    activations: int
    buffers: int = 0

    @classmethod
    def compiled(cls, parameters: int, gradients: int, optimizer: int, temporary: int) -> Held:
        """Of an XLA program, which tells only what its ``temporary`` buffers need in all, at one time.

        Gradients lie there, and each is let go once its weight is updated: they count as far as they have room,
        and activations, with what collectives work in, are the rest.
        """
        at_once = min(gradients, temporary)
        return cls(parameters, at_once, optimizer, temporary - at_once)


Plan = Mapping[str, str]
"""Tensor-parallel plan: pattern of module paths (torch names, ``*`` matches anything) → ``column`` or ``row``.

``column`` shards a layer's output features, ``row`` its input features; everything else is whole on every
rank. An empty plan means: every linear layer whose output features divide by the ranks is ``column``, and
its output is gathered again.
"""


NO_PARTS = "Use another number of ranks, give a tensor_plan, or compare data parallel or fully sharded."
"""What to do where no layer can be cut for tensor parallelism."""


def planned(plan: Plan, path: str) -> str:
    """``column``, ``row`` or ``""`` for the module at a path: the first pattern that matches."""
    return next((how for pattern, how in plan.items() if fnmatch.fnmatchcase(path, pattern)), "")


def micro_batches(batch: Arrays, count: int) -> list[Arrays]:
    """The batch in ``count`` equal parts along its first axis.

    Raises:
        ValueError: It does not divide.
    """
    sizes = {len(array) for array in batch.values()}
    if any(size % count for size in sizes):
        told = " or ".join(map(str, sorted(sizes)))
        raise ValueError(f"a batch of {told} examples does not divide into {count} parts")
    return [
        dict(zip(batch, part, strict=True))
        for part in zip(*(np.split(a, count) for a in batch.values()), strict=True)
    ]


MICRO_BATCHES = 4
"""Micro-batches of a pipeline step where the batch divides by it; else as many as ranks."""


class ParallelRunner(ABC):
    """One process's part of one side of a twin under a strategy.

    Made by ``torch_parallel.TorchParallelRunner`` or ``jax_parallel.JaxParallelRunner`` with
    ``(code, config, weights, inputs, strategy=…, ranks=…, membership=…, plan=…, dtype=…, device=…,
    channels_last=…)``. The constructor joins the group, and raises
    :class:`~twinax.errors.CellFailed` ``unsupported`` where the engine cannot do the strategy for this
    model: the message names the layer or the operation, and the reason.

    Everything is in train mode with dropout off. The loss is a mean over examples, so that a step on a
    batch split over ranks is the step on the whole batch.
    """

    side: str

    @abstractmethod
    def step(self, batch: Arrays, weights: Arrays, optimizer: Optimizer) -> Evaluation | None:
        """One optimizer step on a *global* batch from these weights (torch names and layout), fresh state.

        Returns:
            On process 0, whole (gathered) arrays under the torch names: ``loss``, ``gradients``,
            ``weights`` (parameters after the step), ``buffers`` (after the step), ``optimizer``; on the
            others None.
        """

    @abstractmethod
    def prepare(self, batches: Sequence[Arrays]) -> Callable[[int], None]:
        """A training step ready to be timed: ``call(i)`` runs one on global batch ``i`` modulo their number.

        It starts from the weights given at the constructor with SGD (learning rate 1e-4, momentum 0.9),
        its data lies on the device, and it returns when this process's share is finished. The first call
        has been made, so that everything is compiled.
        """

    @abstractmethod
    def traffic(self, batch: Arrays) -> list[Traffic]:
        """Collectives of one training step of this process's first rank, counted in what the engine does."""

    @abstractmethod
    def held(self, batch: Arrays) -> Held:
        """Bytes that this process's first rank holds for a training step."""

    @abstractmethod
    def taken_bytes(self, batch: Arrays) -> int | None:
        """Bytes that each step takes from the system and gives back, on this process's first rank.

        Working memory and results; None where the framework does not say so, or keeps its memory.
        """

    @abstractmethod
    def collective(self, kind: Kind, size: int, ranks: int, arrays: int = 1) -> Callable[[], None]:
        """One collective over ``arrays`` tensors of ``size`` bytes (see :class:`Traffic`), to be timed alone.

        ``ranks`` is the group's size: all ranks, or the size of one axis of ``data_tensor`` (the groups along
        that axis then work at the same time). A ``send`` goes from rank i to rank i + 1.
        """

    @abstractmethod
    def facts(self) -> dict[str, object]:
        """What could tilt a comparison, read back: engine, backend, threads, dtype, sharded share …"""

    @abstractmethod
    def leave(self) -> None:
        """Leave the group; the runner is not used any more."""
