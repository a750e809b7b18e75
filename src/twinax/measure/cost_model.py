"""How long a training step takes on several devices, and what each holds: a model with few parameters.

A device computes for ``fixed + per_example · batch`` seconds (fitted to steps that it made alone), a collective
takes ``latency + bytes / bandwidth`` (fitted to collectives alone, or stated for a cluster), and a strategy
says how often each of the two is needed. ``docs/cost-model.md`` derives every line. Sources: GPipe
(arXiv:1811.06965) for the pipeline's bubble; Megatron-LM (arXiv:1909.08053) for tensor parallelism; ZeRO
(arXiv:1910.02054) for full sharding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from twinax.measure.collectives import Law, Message, Network

NOTHING = Law(0.0, 0.0)

BACKWARD = 2 / 3
"""The backward pass's share of a step: two of its three matrix products (input and weight gradient)."""

MICRO_BATCHES_PER_STAGE = 4
"""From here on GPipe finds its bubble negligible (arXiv:1811.06965, section 2.3)."""


# --- what is known of a model ----------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """Bytes on one rank.

    ``buffers`` is what the engine keeps for its collectives, ``gathered`` what full sharding puts together for
    the block that computes.
    """

    parameters: float
    gradients: float
    optimizer: float
    activations: float
    buffers: float = 0.0
    gathered: float = 0.0

    @property
    def total(self) -> float:
        return self.kept + self.gathered

    @property
    def kept(self) -> float:
        """Without what is there for a moment only."""
        return self.parameters + self.gradients + self.optimizer + self.activations + self.buffers


@dataclass(frozen=True)
class Measurement:
    """What a strategy's engine was seen to do: facts of its plan, no times.

    Attributes:
        batch: Global batch.
        ranks: Devices.
        traffic: Collectives of one step, as the first rank counts them.
        micro_batches: Of the pipeline; else 1.
        sharded_share: Share of the parameters that tensor parallelism puts in parts.
        sharded_work: Share of the matrix work in those layers.
        most_ranks: More devices than this cannot share the model; None where that is not known.
        unevenness: Parameters of the pipeline's fullest stage, over those of stages that all have as many.
        new_memory: Bytes that each step takes from the system and gives back.
    """

    batch: int
    ranks: int
    traffic: tuple[Message, ...] = ()
    micro_batches: int = 1
    sharded_share: float = 0.0
    sharded_work: float = 0.0
    most_ranks: int | None = None
    unevenness: float = 1.0
    new_memory: float = 0.0


@dataclass(frozen=True)
class Model:
    """The model on one device.

    Attributes:
        batch: Examples for which it holds ``held``.
        held: Bytes; gradients: of all parameters.
        largest: Share of the largest parameter in all: no stage of a pipeline that has it holds less.
        engine: Bytes that a strategy's engine keeps on one rank, beyond a plain step.
        early_updates: Whether a weight is updated, and its gradient let go, as soon as that is there (XLA).
            Where gradients are summed over ranks, these wait for each other. ``held`` then counts gradients
            that are there at the same time under activations.
    """

    batch: int
    held: Held
    largest: float = 0.0
    engine: Mapping[str, float] = field(default_factory=dict)
    early_updates: bool = False


@dataclass(frozen=True)
class Machine:
    """One side on devices of one kind.

    Attributes:
        compute: Seconds of a whole step on one device, of examples; without ``page``.
        update: Seconds of it that go into the optimizer, in proportion to the parameters that a device has.
        network: What collectives cost.
        overlap: Whether links work while devices compute. CPU ranks compute *and* copy on the same cores, so
            that nothing is won there; accelerators have engines of their own for it.
        engine: Seconds that a strategy's engine adds on one rank: hooks, copies, dispatch; in a pipeline of one
            stage, to all of its micro-batches.
        wait: What a collective costs beyond its own time where ranks compute in between: they wake up, and wait
            for the slowest. Seconds, of the seconds computed since the one before.
        longest: The most seconds between two that ``wait`` was fitted to; it is not drawn out beyond them:
            the delays of long stretches even out.
        crowding: Threads over cores, at least 1: ranks that wait leave their cores to the others.
        page: Seconds per byte of memory that the system gives: it clears each page.
        sums_apart: Whether what an all-reduce makes lies beside what it was made of (XLA on a CPU).
    """

    compute: Law
    network: Network
    update: float = 0.0
    overlap: bool = False
    engine: Mapping[str, float] = field(default_factory=dict)
    wait: Law = NOTHING
    longest: float = math.inf
    crowding: float = 1.0
    page: float = 0.0
    sums_apart: bool = False

    def scaled(self, factor: float) -> Machine:
        """The same with all of its computing taking that many times as long."""
        engine = {strategy: seconds * factor for strategy, seconds in self.engine.items()}
        compute, update = self.compute.scaled(factor), self.update * factor
        return replace(self, compute=compute, update=update, engine=engine)


@dataclass(frozen=True)
class Prediction:
    """One step of one strategy.

    Attributes:
        step_s: Seconds.
        compute_s: Of these: computing, the pipeline's bubble included.
        communication_s: All communication, also what is hidden behind computing.
        held: Bytes on the fullest device.
    """

    step_s: float
    compute_s: float
    communication_s: float
    held: Held


# --- traffic ---------------------------------------------------------------------------------------


def expected_traffic(
    strategy: str,
    ranks: int,
    *,
    parameter_bytes: float = 0.0,
    blocks: int = 0,
    activation_bytes: float = 0.0,
    sharded_share: float = 0.0,
    tensor_ranks: int = 2,
) -> dict[str, float]:
    """Bytes per step by kind, as the paper of each strategy has them (summed over its collectives).

    Args:
        strategy: Its name.
        ranks: Devices.
        parameter_bytes: Of the whole model's parameters (gradients have as many).
        blocks: Transformer blocks with a column and a row layer in attention and MLP (``tensor``).
        activation_bytes: A block's input for the examples of one data-parallel share (``tensor``,
            ``data_tensor``) or of the whole batch (``pipeline``).
        sharded_share: Share of the parameters that tensor parallelism puts in parts.
        tensor_ranks: Along the tensor axis of ``data_tensor``.

    Returns:
        ``fully_sharded``: gathered in the forward and again in the backward pass; a unit that stays gathered in
        between is gathered once, so that an engine may do with less. ``pipeline``: what the first rank sends.

    Raises:
        KeyError: There is no strategy of that name.
    """
    if ranks == 1:
        return {}
    summed = 4 * blocks * activation_bytes  # two in the forward, two in the backward pass of each block
    return {
        "data": {"all_reduce": parameter_bytes},
        "data_local": {"all_reduce": parameter_bytes},
        "fully_sharded": {"all_gather": 2 * parameter_bytes, "reduce_scatter": parameter_bytes},
        "tensor": {"all_reduce": summed},
        "pipeline": {"send": activation_bytes},
        "data_tensor": {
            "all_reduce": summed + parameter_bytes * (1 - sharded_share + sharded_share / tensor_ranks)
        },
    }[strategy]


def traffic(
    strategy: str,
    seen: Measurement,
    *,
    batch: int,
    ranks: int,
    tensor_ranks: int = 1,
    micro_batches: int = 1,
) -> tuple[Message, ...]:
    """The measured traffic at another batch and number of ranks.

    Gradients and parameters have the same size everywhere; the activations that tensor parallelism sums grow
    with the batch; a pipeline sends one micro-batch at a time. ``data_tensor`` takes what :func:`mixed` makes.
    """
    if strategy == "data_tensor":
        shares, local = ranks // tensor_ranks, 1 - seen.sharded_share * (1 - 1 / tensor_ranks)
        larger = batch / shares / seen.batch
        return tuple(
            replace(m, bytes=m.bytes * larger, ranks=tensor_ranks)
            if m.stride == 1
            else replace(m, bytes=m.bytes * local, ranks=shares, stride=tensor_ranks)
            for m in seen.traffic
        )
    bigger, more = batch / seen.batch, micro_batches / seen.micro_batches
    found = []
    for m in seen.traffic:
        size, count = m.bytes, m.count
        if strategy == "tensor":
            size *= bigger
        elif strategy == "pipeline" and m.kind == "send":
            size, count = size * bigger / more, count * more
        found.append(replace(m, bytes=size, count=count, ranks=ranks))
    return tuple(found)


def mixed(data: Measurement, tensor: Measurement) -> Measurement:
    """``data_tensor``: tensor parallel on neighbouring devices, data parallel over devices further apart."""
    apart = tuple(replace(m, stride=2) for m in data.traffic)
    return replace(tensor, traffic=(*tensor.traffic, *apart))


def scattered(seen: Measurement, gradients: float) -> Measurement:
    """Full sharding as accelerators do it: what a CPU sums whole is scattered.

    XLA's compilers for GPUs and TPUs make a reduce-scatter of a sum of which each rank takes its part; its CPU
    backend does not. The largest sums are taken for those of the ``gradients``, up to as many bytes as are
    sharded.
    """
    left, traffic = seen.sharded_share * gradients, []
    for m in sorted(seen.traffic, key=lambda m: -m.bytes):
        if m.kind == "all_reduce" and left > 0:
            left -= m.bytes * m.count
            m = replace(m, kind="reduce_scatter")
        traffic.append(m)
    return replace(seen, traffic=tuple(traffic))


# --- a step ----------------------------------------------------------------------------------------


def predict(
    strategy: str,
    model: Model,
    seen: Measurement,
    machine: Machine,
    *,
    batch: int,
    ranks: int,
    tensor_ranks: int = 1,
    micro_batches: int = 1,
    messages: Sequence[Message] | None = None,
) -> Prediction:
    """A training step on a global batch.

    Args:
        strategy: Its name.
        model: What one device holds.
        seen: What the strategy's engine does.
        machine: The devices.
        batch: Global batch.
        ranks: Devices.
        tensor_ranks: Along the tensor axis of ``data_tensor``.
        micro_batches: Of a pipeline.
        messages: The step's traffic where it was counted at this very size; else it follows from ``seen``.
    """
    parts = {"tensor": ranks, "data_tensor": tensor_ranks}.get(strategy, 1)
    shares = ranks // parts if strategy not in ("tensor", "pipeline") else 1
    if messages is None:
        messages = traffic(
            strategy,
            seen,
            batch=batch,
            ranks=ranks,
            tensor_ranks=tensor_ranks,
            micro_batches=micro_batches,
        )
    compute = _compute(strategy, seen, machine, batch / shares, parts, ranks, micro_batches)
    compute += machine.page * seen.new_memory
    path = _on_the_path(strategy, messages, ranks, micro_batches)
    meetings = sum(m.count for m in path if m.ranks > 1)
    waiting = meetings * machine.wait(min(compute / meetings, machine.longest)) if meetings else 0.0
    communication = machine.network.total(path) + waiting
    exposed = communication
    if machine.overlap:
        exposed -= min(
            _hidden(strategy, model, seen, messages, machine.network, parts), _cover(strategy, compute)
        )
    held = _held(strategy, model, seen, machine, messages, batch / shares, parts, ranks)
    return Prediction(compute + exposed, compute, communication, held)


def _compute(
    strategy: str, seen: Measurement, machine: Machine, batch: float, parts: int, ranks: int, micro_batches: int
) -> float:
    """Seconds of computing; ``batch`` is that of one share."""
    law, update = machine.compute, min(machine.update, machine.compute.fixed)
    engine = machine.engine.get(strategy, machine.engine.get("tensor", 0.0) if parts > 1 else 0.0)
    if strategy == "pipeline":
        stage = (law(batch / micro_batches) - update + engine / micro_batches) / ranks
        return stage * _turns(ranks, micro_batches, machine.crowding) + update / ranks
    if strategy == "fully_sharded":
        return engine + law(batch) - update * (1 - 1 / ranks)
    spared = 1 - 1 / parts
    fixed = law.fixed - update * seen.sharded_share * spared
    return engine + fixed + law.slope * batch * (1 - seen.sharded_work * spared)


def _turns(stages: int, micro_batches: int, crowding: float) -> float:
    """How long a pipeline takes, in stages: ``m + S − 1`` (GPipe); fewer where few at work have more cores."""
    if crowding == 1:
        return micro_batches + stages - 1
    last = micro_batches + stages
    at_work = (min(turn, micro_batches, stages, last - turn) for turn in range(1, last))
    return sum(max(1 / crowding, count / stages) for count in at_work)


def _on_the_path(
    strategy: str, messages: Sequence[Message], ranks: int, micro_batches: int
) -> Sequence[Message]:
    """A pipeline's last micro-batch makes ``micro_batches + ranks − 2`` hops there and as many back."""
    if strategy != "pipeline":
        return messages
    hops = 2 * (micro_batches + ranks - 2)
    return [replace(m, count=max(m.count, hops)) if m.kind == "send" else m for m in messages]


def _hidden(
    strategy: str, model: Model, seen: Measurement, messages: Sequence[Message], network: Network, parts: int
) -> float:
    """Seconds of communication that nothing waits for at once: gradients, and parameters gathered ahead.

    They are the largest messages; what else there is, BatchNorm's statistics, is needed where it is made.
    """
    gradients = model.held.gradients * (1 - seen.sharded_share * (1 - 1 / parts))
    early = {"all_reduce": gradients} if strategy in ("data", "data_local", "data_tensor") else {}
    if strategy == "fully_sharded":
        early = {"all_gather": 2 * model.held.parameters, "reduce_scatter": gradients}
    hidden = []
    for kind, left in early.items():
        mine = [m for m in messages if m.kind == kind and m.stride == parts]
        for m in sorted(mine, key=lambda m: -m.bytes):
            left -= m.bytes * m.count
            if left < -0.01 * early[kind]:  # engines round sizes up
                break
            hidden.append(m)
    return network.total(hidden)


def _cover(strategy: str, compute: float) -> float:
    """Seconds of computing that may hide them: full sharding also gathers during the forward pass."""
    return compute if strategy == "fully_sharded" else BACKWARD * compute


def _held(
    strategy: str,
    model: Model,
    seen: Measurement,
    machine: Machine,
    messages: Sequence[Message],
    batch: float,
    parts: int,
    ranks: int,
) -> Held:
    """Bytes on the fullest rank; ``batch`` is that of one share. GPipe keeps all micro-batches of its stage."""
    whole, activations = model.held, model.held.activations * batch / model.batch
    if strategy == "pipeline":
        kept = min(max(seen.unevenness / ranks, model.largest), 1.0)
        active, gathered = 1 / ranks, 0.0
    elif strategy == "fully_sharded":
        kept, active = 1 / ranks, 1.0
        gathered = max((m.bytes for m in messages if m.kind == "all_gather"), default=0.0)
    else:
        spared = 1 - 1 / parts
        kept, active, gathered = 1 - seen.sharded_share * spared, 1 - seen.sharded_work * spared, 0.0
    parameters, gradients, optimizer = (
        part * kept for part in (whole.parameters, whole.gradients, whole.optimizer)
    )
    activations, buffers = activations * active, model.engine.get(strategy, 0.0) * kept
    if model.early_updates:
        summed = _summed(strategy, machine, messages, gradients)
        gradients = max(summed - activations, 0.0)  # they come as activations go
        buffers += summed if machine.sums_apart else 0.0
    return Held(parameters, gradients, optimizer, activations, buffers, gathered)


def _summed(strategy: str, machine: Machine, messages: Sequence[Message], gradients: float) -> float:
    """Bytes of gradients that wait for each other, where a program else lets go of each: those that ranks sum.

    ``gradients`` are those of a rank's parameters. Full sharding's are summed whole where sums lie apart: XLA's
    CPU backend does not scatter them.
    """
    if strategy in ("tensor", "pipeline"):  # they sum activations
        return 0.0
    if strategy == "data_tensor" or (strategy == "fully_sharded" and not machine.sums_apart):
        return gradients
    return sum(m.bytes * m.count for m in messages if m.kind == "all_reduce" and m.ranks > 1)
