"""The cost model fitted to a run: one device, and ranks that compute and communicate by themselves.

A strategy's step on one rank tells what its engine adds (hooks, copies, dispatch); no time of a strategy on
several ranks goes in. Beside the keys that every cell of the study has, ``replicas`` may hold

- ``local_gradients``: as one of ``local_steps``, without the optimizer's part;
- ``new_memory``, of ``single`` too: ``seconds`` until the system has given so many ``bytes`` to every rank;
- ``paced``: a collective after some work, each several times: ``kind``, ``bytes``, ``ranks``, ``pace_s`` that
  the work should take (left out where there was one of each), samples ``work_s`` of the work alone, ``paced_s``
  of both;

and a strategy ``sharded_work`` (share of the FLOPs in sharded layers; without it, that of the parameters)
and ``most_ranks`` (more devices cannot share the model).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from twinax.measure import collectives
from twinax.measure.collectives import Measured, Message
from twinax.measure.cost_model import NOTHING, Held, Machine, Measurement, Model
from twinax.records import Json, Outcome, Record

NOT_STRATEGIES = ("single", "replicas")
COMPILED = ("jax",)
"""Sides whose whole step is one program of XLA, which updates each weight as soon as its gradient is there; its
CPU backend sums whole gradients, into new ones.

A strategy's engine is a part of that program, and with a share of the machine slowed as the step is. PyTorch's
hooks and dispatch are Python's: one thread, as fast with one core as with two.
"""
FEW = 1e-9  # seconds; no clock tells less apart
KEPT = 32 << 20
"""Bytes up to which glibc keeps a block that is freed (``M_MMAP_THRESHOLD`` grows no further, mallopt(3))."""


@dataclass(frozen=True)
class Calibration:
    """One side, fitted.

    Attributes:
        side: ``torch`` or ``jax``.
        single: The record of one device.
        seconds: Its step, without those in which the system gives memory.
        model: What it holds.
        machines: This machine by the ranks and processes that work at the same time.
        strategies: Every strategy's cells of several ranks that ended well.
        failed: Strategies of which no cell did, and why.
    """

    side: str
    single: Record
    seconds: float
    model: Model
    machines: Mapping[tuple[int, int], Machine]
    strategies: tuple[Record, ...]
    failed: Mapping[str, str]

    @property
    def evidence(self) -> tuple[str, ...]:
        return (self.single.cell.id, *(record.cell.id for record in self.strategies))


def calibrate(side: str, records: Sequence[Record], host: Mapping[str, Json]) -> Calibration | str:
    """The side's model, or what is missing for one."""
    timed = [r for r in records if r.outcome is Outcome.OK and r.measurements.get("step_s")]
    single = next((r for r in timed if r.cell.mode == "single"), None)
    if single is None:
        return f"no step of one device was measured{_because(records, 'single')}"
    replicas = [r for r in records if r.cell.mode == "replicas" and r.measurements.get("local_steps")]
    if not replicas:
        return f"no rank was measured by itself{_because(records, 'replicas')}"
    page = _page(single.measurements.get("new_memory"))
    seconds = _computing(single.measurements, page)
    tried = {r.cell.mode: r for r in records if r.cell.mode not in NOT_STRATEGIES and r.cell.ranks > 1}
    strategies = tuple(r for r in timed if r.cell.mode in tried and r.cell.ranks > 1)
    alone = [r for r in timed if r.cell.mode not in NOT_STRATEGIES and r.cell.ranks == 1]
    worked = {r.cell.mode for r in strategies}
    return Calibration(
        side=side,
        single=single,
        seconds=seconds,
        model=_model(side, single, alone),
        machines={
            (r.cell.ranks, r.cell.processes): _machine(r, host, alone, seconds, page)
            for r in sorted(replicas, key=lambda r: (r.cell.ranks, r.cell.processes))
        },
        strategies=strategies,
        failed={mode: r.message or r.outcome.value for mode, r in tried.items() if mode not in worked},
    )


def _model(side: str, single: Record, alone: Sequence[Record]) -> Model:
    """What one device holds, and what each engine adds there."""
    held = held_by(single)
    engine = {r.cell.mode: max(held_by(r).kept - held.kept, 0.0) for r in alone if r.measurements.get("held")}
    if side in COMPILED:  # gradients are the size of the parameters; few of them are there at a time
        held = replace(held, gradients=held.parameters, activations=held.gradients + held.activations)
    known = single.measurements
    largest = known.get("largest_parameter_bytes", 0) / (known.get("parameter_bytes") or 1)
    return Model(single.cell.size.batch, held, largest, engine, early_updates=side in COMPILED)


def _unevenness(record: Record, model: Model) -> float:
    """The parameters of a pipeline's fullest stage, over those that it had if all had as many."""
    whole, mine = model.held.parameters, held_by(record).parameters
    return record.cell.ranks * mine / whole if record.cell.mode == "pipeline" and whole and mine else 1.0


def _because(records: Sequence[Record], mode: str) -> str:
    told = next((r.message or r.outcome.value for r in records if r.cell.mode == mode), "there is no such cell")
    return f" ({told.rstrip('.')})"


def _machine(
    replicas: Record, host: Mapping[str, Json], alone: Sequence[Record], single_s: float, single_page: float
) -> Machine:
    """This machine with so many ranks at work: they share its cores, which their own steps show.

    ``single_s``, ``single_page``: a step's computing, and a byte of new memory, with the whole machine.
    """
    known = replicas.measurements
    page = _page(known.get("new_memory"))
    steps = [(step["batch"], _computing(step, page)) for step in known["local_steps"]]
    compute = collectives.fit(*zip(*steps, strict=True))
    by_kind: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for row in known.get("collectives", []):
        by_kind.setdefault((row["kind"], row["ranks"]), []).append((row["bytes"], fmean(row["seconds"])))
    laws = {key: collectives.fit(*zip(*points, strict=True)) for key, points in by_kind.items()}
    network = Measured(laws)
    waits = _waits(known.get("paced", []), network) if laws else []
    update = _update(steps, known.get("local_gradients"), page)
    cores = (host.get("usable_cores") or host.get("cores") or 1) * machines_of(replicas)
    faster = single_s / compute(replicas.cell.size.batch)
    whole = replace(Machine(compute, network, update).scaled(faster), page=single_page)
    return Machine(
        compute=compute,
        network=network,
        update=update,
        engine={r.cell.mode: _engine(r, whole) / (faster if r.cell.side in COMPILED else 1) for r in alone},
        wait=collectives.fit(*zip(*waits, strict=True)) if waits else NOTHING,
        longest=max((work for work, _ in waits), default=0.0),
        crowding=max(1.0, replicas.cell.ranks * known.get("threads", 1) / cores),
        page=page,
        sums_apart=replicas.cell.side in COMPILED and replicas.cell.device == "cpu",
    )


def _page(new_memory: Mapping[str, Json] | None) -> float:
    """Seconds per byte that the system gives while all ranks ask; 0 where that was not measured."""
    return undisturbed(new_memory["seconds"]) / new_memory["bytes"] if new_memory else 0.0


def _taken(measured: Mapping[str, Json]) -> float:
    """Bytes that each step takes from the system: those that malloc does not keep from one to the next."""
    taken = measured.get("taken_bytes") or 0
    return taken if taken > KEPT else 0.0


def _computing(measured: Mapping[str, Json], page: float) -> float:
    """Seconds of a step, or of gradients, without those in which the system gives memory."""
    return max(undisturbed(measured["step_s"]) - page * _taken(measured), FEW)


def _update(steps: Sequence[tuple[int, float]], gradients: Mapping[str, Json] | None, page: float) -> float:
    """Seconds of a step that go into the optimizer: what it takes beyond the gradients."""
    if gradients is None:
        return 0.0
    whole = next(seconds for batch, seconds in steps if batch == gradients["batch"])
    return max(whole - _computing(gradients, page), 0.0)


def _waits(rows: Sequence[Mapping[str, Json]], network: Measured) -> list[tuple[float, float]]:
    """Of each pace the least that was seen: ranks that shared a core for a while computed in turn."""
    found: dict[float, tuple[float, float]] = {}
    for row in rows:
        pace, made = row.get("pace_s", fmean(row["work_s"])), _wait(row, network)
        found[pace] = min(made, found.get(pace, made), key=lambda wait: wait[1])
    return list(found.values())


def _wait(row: Mapping[str, Json], network: Measured) -> tuple[float, float]:
    """Seconds computed between two collectives, and what the collective cost beyond its own time."""
    work, own = fmean(row["work_s"]), network.seconds(Message(row["kind"], row["bytes"], row["ranks"], 1))
    return work, max(fmean(row["paced_s"]) - work - own, FEW)


def _engine(record: Record, whole: Machine) -> float:
    """What the strategy's engine adds on one rank that has the whole machine: to a step, or micro-batches."""
    micro = record.measurements.get("micro_batches") or 1
    plain = micro * (whole.compute(record.cell.size.batch / micro) - whole.update) + whole.update
    return max(0.0, _computing(record.measurements, whole.page) - plain)


def undisturbed(samples: Sequence[float]) -> float:
    """The lower quartile: whatever else runs on a machine only adds (Chen & Revels, arXiv:1608.04295).

    Not of a collective: a part of them waits for a core by itself, and a step has the mean of many.
    """
    return max(float(np.quantile(samples, 0.25)), FEW)


def machines_of(record: Record) -> int:
    """On how many machines its ranks were."""
    return record.environment.get("machines", 1)


PARTS = ("parameters", "gradients", "optimizer", "activations", "buffers")


def fullest(record: Record) -> dict[str, int]:
    """What the rank holds that holds most, by part; zeros where that was not measured."""
    every = [record.measurements.get("held") or {}, *record.measurements.get("others_held", [])]
    most = max(every, key=lambda held: sum(held.values()))
    return {part: most.get(part, 0) for part in PARTS}


def held_by(record: Record) -> Held:
    """The same, for the cost model."""
    return Held(**fullest(record))


def measurement(record: Record, model: Model) -> Measurement:
    """The facts of a strategy's plan: none of its times."""
    known, cell = record.measurements, record.cell
    share = known.get("sharded_share") or 0.0
    return Measurement(
        batch=cell.size.batch,
        ranks=cell.ranks,
        traffic=tuple(
            Message(row["kind"], row["bytes"], row["ranks"], row["count"], arrays=row.get("arrays", 1))
            for row in known.get("traffic", [])
        ),
        micro_batches=known.get("micro_batches") or 1,
        sharded_share=share,
        sharded_work=known.get("sharded_work", share),
        most_ranks=known.get("most_ranks"),
        unevenness=_unevenness(record, model),
        new_memory=_taken(known),
    )
