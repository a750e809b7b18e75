"""What the parallel study does inside its workers. Every verb is asked of all processes of a cell at once."""

from __future__ import annotations

import contextlib
import json
import mmap
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from twinax.compare import compare, together, worst
from twinax.errors import CellFailed
from twinax.frameworks.base import OPTIMIZERS, Evaluation, Optimizer, Prepared, Runner
from twinax.frameworks.make import make_parallel_runner, make_runner
from twinax.frameworks.parallel import Held, Kind, ParallelRunner, Traffic, micro_batches
from twinax.measure import memory
from twinax.records import Cell, Json, Size
from twinax.sources import resolve
from twinax.studies import parallel_lines
from twinax.studies import parity_files as files
from twinax.studies.base import Context, Verb
from twinax.studies.parity_verbs import nudge_wide, perturb
from twinax.studies.parity_verdict import BOUND, Verdict
from twinax.twin import Array, Arrays, Twin
from twinax.weights import checkpoint

STORED = ("loss", "gradients", "buffers")
STEPPED = ("weights", "optimizer")
BATCHES = 4  # so many different batches take turns
COLLECTIVE_S = 60.0  # seconds that a collective may take before the engine gives up
SMALL = 4096  # bytes of a collective whose time is all latency
ROUNDING = "rounding.json"
PEAK = (1024, 768, 3072)  # a large matrix product: what the library can do at best


def _twin(context: Context) -> Twin:
    assert context.twin is not None, "this verb needs a twin"
    return context.twin


def take(context: Context, *, file: str) -> dict[str, Json]:
    """The twin, and the perturbed weights from which everything starts: drawn once, read by every process."""
    cell, options = context.cell, context.options
    context.twin = twin = resolve(cell.twin, options.weights)
    if not Path(file).exists():
        given = context.folder / "weights.safetensors"
        own = checkpoint.read(given) if given.exists() else twin.init(twin.config, options.seed)
        checkpoint.write(Path(file), perturb(own, options.seed))
    context.weights = checkpoint.read(Path(file))
    return {}


def _batches(context: Context, size: Mapping[str, Json], count: int) -> list[Arrays]:
    twin = _twin(context)
    return twin.batches(twin.config, Size(**size), context.options.seed, count)


def _in_float64(cell: Cell) -> Cell:
    return cell.model_copy(update={"dtype": "float64"})


# --- one device: what the strategies are held against ----------------------------------------------


def reference(
    context: Context, *, output: str, size: dict[str, Json], optimizers: list[str], parts: list[int], other: str
) -> dict[str, Json]:
    """Loss, gradients and buffers of one device in float64, and how far rounding alone moves them.

    What an optimizer makes of them in its first step follows by its formula (:func:`first_step`); here the
    device's own step is held to it. Where the model has BatchNorm, also the batch's ``parts`` one after another
    (gradients averaged): what a strategy does that normalises over less than the whole batch.

    ``other`` is where the other side's lie, "" while there are none: no ratio is shown where they differ.

    Returns:
        Whether the model has BatchNorm, and what differs from the other side.

    Raises:
        CellFailed: ``mismatch``; the device's optimizer does not do what its formula says.
    """
    runner = make_runner(_in_float64(context.cell), _twin(context), context.weights)
    start, (batch,) = context.weights, _batches(context, size, 1)
    batch_norm = any(name.endswith("running_mean") for name in start)
    for name in optimizers:
        runner.load(start, OPTIMIZERS[name])
        found = runner.evaluate(batch, train=True, step=True)
        held_to_formula(name, start, found)
    files.write(output, found, STORED)
    runner.load(nudge_wide(start, 0))
    floors = rounding(output, start, runner.evaluate(batch, train=True), optimizers)
    Path(output, ROUNDING).write_text(json.dumps(floors))
    for count in parts if batch_norm else ():
        files.write(f"{output}.{count}", in_parts(runner, start, batch, count), STORED)
    return {"batch_norm": batch_norm, "across": across(output, other, floors) if other else None}


def across(path: str, other: str, floors: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Names of the checks in which the two sides' references differ."""
    verdict = Verdict()
    for kind in STORED:
        found = compare(files.read(other, kind), files.read(path, kind))
        rows = {name: [_finite(d.error), d.norm, _finite(d.gap), d.fault] for name, d in found.items()}
        errors = verdict.judged(kind, rows, "across", lambda kind, names: floors[kind])
        if errors:
            verdict.check(kind, kind, errors)
    return verdict.failed


def held_to_formula(optimizer: str, start: Arrays, found: Evaluation) -> None:
    """Raise where the first step is not the formula's."""
    weights, state = first_step(OPTIMIZERS[optimizer], start, found.gradients)
    for kind, expected, own in (("weights", weights, found.weights), ("optimizer", state, found.optimizer)):
        name, error = worst(compare(expected, {n: np.asarray(own[n]) for n in own}))
        if not error <= BOUND:
            raise CellFailed(
                "mismatch",
                f"{optimizer}'s first step on one device is not its formula's: {kind} {name}, {error:.1e}.",
                "Report it: every strategy would be held against a wrong step.",
            )


def rounding(
    path: str, start: Arrays, nudged: Evaluation, optimizers: Sequence[str]
) -> dict[str, dict[str, float]]:
    """How far each tensor moves when every weight moves by one unit in the last place: kind → name → gap.

    Weights and state after a step stand under ``<optimizer>.weights`` and ``<optimizer>.optimizer``.
    """
    moved = nudged.gradients
    with files.opened(path, "gradients") as base, files.opened(path, "buffers") as buffers:
        floors = {
            "loss": {"loss": abs(float(files.read(path, "loss")["loss"][0]) - nudged.loss)},
            "gradients": gaps(base, moved),
            "buffers": gaps(buffers, nudged.buffers),
        }
        for name in optimizers:
            before, after = (first_step(OPTIMIZERS[name], start, g) for g in (base, moved))
            floors |= {f"{name}.{kind}": gaps(a, b) for kind, a, b in zip(STEPPED, before, after, strict=True)}
    return floors


def gaps(a: Mapping[str, Array], b: Mapping[str, Array]) -> dict[str, float]:
    """‖a − b‖₂ by name."""
    return {name: float(np.linalg.norm(np.asarray(a[name]) - np.asarray(b[name]))) for name in a}


def in_parts(runner: Runner, start: Arrays, batch: Arrays, count: int) -> Evaluation:
    """The mean of the parts' losses and gradients; buffers are carried from part to part.

    ``first.<name>`` are the buffers after the first part alone, as a rank has them that saw no other.
    """
    losses: list[float] = []
    gradients: Arrays = {}
    first: Arrays = {}
    buffers: Arrays = {}
    runner.load(start)
    for part in micro_batches(batch, count):
        found = runner.evaluate(part, train=True)
        losses.append(found.loss)
        for name, array in found.gradients.items():
            gradients[name] = gradients.get(name, 0.0) + np.array(array) / count
        buffers = {name: np.array(array) for name, array in found.buffers.items()}
        first = first or {f"first.{name}": array for name, array in buffers.items()}
    return Evaluation({}, statistics.fmean(losses), gradients, {**buffers, **first})


class Lazy(Mapping[str, Array]):
    """Arrays that are computed when they are asked for: a large model's are never held all at once."""

    def __init__(self, makers: Mapping[str, Callable[[], Array]]) -> None:
        self.makers = makers

    def __getitem__(self, name: str) -> Array:
        return self.makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self.makers)

    def __len__(self) -> int:
        return len(self.makers)


def first_step(rule: Optimizer, start: Arrays, gradients: Mapping[str, Array]) -> tuple[Lazy, Lazy]:
    """Weights and state after one step from a fresh state in float64, by :class:`Optimizer`'s formulas."""
    b1, b2 = rule.betas

    def gradient(name: str) -> Array:
        g = np.asarray(gradients[name])
        if rule.name != "sgd" or not rule.weight_decay:
            return g
        return g + np.multiply(start[name], rule.weight_decay, dtype=np.float64)

    def weight(name: str) -> Array:
        g = gradient(name)
        if rule.name == "sgd":
            return start[name] - rule.learning_rate * g  # in float64, as g is
        kept = np.multiply(start[name], 1 - rule.learning_rate * rule.weight_decay, dtype=np.float64)
        return kept - rule.learning_rate * g / (np.abs(g) + rule.eps)

    slots: dict[str, Callable[[str], Array]] = (
        {"momentum": gradient}
        if rule.name == "sgd"
        else {"exp_avg": lambda n: (1 - b1) * gradient(n), "exp_avg_sq": lambda n: (1 - b2) * gradient(n) ** 2}
    )
    state = {f"{slot}.{name}": partial(make, name) for slot, make in slots.items() for name in gradients}
    if rule.name != "sgd":
        state["step"] = lambda: np.asarray(1.0)
    return Lazy({name: partial(weight, name) for name in gradients}), Lazy(state)


def single(context: Context, *, size: dict[str, Json]) -> dict[str, Json]:
    """Make one device's step ready to be timed; its work, its memory, the library's best, lines of code."""
    cell, twin = context.cell, _twin(context)
    runner = make_runner(cell, twin, context.weights)
    prepared = runner.prepare("step", _batches(context, size, BATCHES), dropout=False)
    context.memory["call"] = prepared.call
    product = runner.kernel("matmul", PEAK)
    product()
    shortest = min(_timed(lambda i: product(), 5))
    parameters = runner.parameters()
    width = {"float64": 8, "float32": 4, "bfloat16": 2}[cell.dtype]
    parameter_bytes = width * sum(context.weights[name].size for name in parameters)
    return {
        "first_s": prepared.phases.first,
        "flops": prepared.compiled.get("flops"),
        "peak_flops": 2 * PEAK[0] * PEAK[1] * PEAK[2] / shortest,
        "parameter_bytes": parameter_bytes,
        "held": held_alone(context, prepared, parameter_bytes, size),
        "temporary_bytes": temporary_of(context, prepared),
        "traffic": [],
        "lines": parallel_lines.of_side(cell.side),
        "facts": dict(runner.facts()),
    }


def temporary_of(context: Context, prepared: Prepared) -> int | None:
    """As :meth:`ParallelRunner.temporary_bytes`, of one device's program."""
    known = prepared.compiled
    if "temporary_bytes" not in known or context.cell.device != "cpu":
        return None
    return int(known["temporary_bytes"] + known["output_bytes"] - known["aliased_bytes"])


def held_alone(
    context: Context, prepared: Prepared, parameter_bytes: int, size: dict[str, Json]
) -> dict[str, Json]:
    """What one device holds for a step, by the compiler where it says so, else as a group of one rank."""
    temporary = prepared.compiled.get("temporary_bytes")
    if temporary is None:
        alone = context.cell.model_copy(update={"mode": "data"})
        runner = make_parallel_runner(alone, _twin(context), context.weights, COLLECTIVE_S)
        held = runner.held(_batches(context, size, 1)[0])
        runner.leave()
        return vars(held)
    activations = max(int(temporary) - parameter_bytes, 0)
    same = dict.fromkeys(("parameters", "gradients", "optimizer"), parameter_bytes)
    return {**same, "activations": activations}


# --- several ranks ---------------------------------------------------------------------------------


def prove(
    context: Context, *, reference: str, size: dict[str, Json], optimizers: list[str], part: int
) -> dict[str, Json]:
    """One step of each optimizer in float64 under the strategy, against the single device's.

    ``part`` is the number of parts that the reference was taken in; 0 for the whole batch.
    """
    cell = _in_float64(context.cell)
    (batch,) = _batches(context, size, 1)
    runner = make_parallel_runner(cell, _twin(context), context.weights, COLLECTIVE_S)
    verdict, batch_norm_gap = Verdict(), None
    try:
        for name in optimizers:
            found = runner.step(batch, context.weights, OPTIMIZERS[name])
            if found is None:  # another process has the whole arrays
                continue
            first = cell.mode == "data_local" and part > 0  # on one rank there are no parts
            judge(verdict, found, context.weights, name, reference, part, first=first)
            if part:
                batch_norm_gap = gap_to_whole(found, reference)
    finally:
        runner.leave()
    del runner
    memory.release()
    errors = [check["worst"] for check in verdict.checks]
    return {
        "checks": verdict.checks,
        "mismatches": verdict.mismatches[:20],
        "failed": verdict.failed,
        "worst": None if None in errors else max(errors, default=0.0),
        "batch_norm_gap": batch_norm_gap,
    }


def judge(
    verdict: Verdict, found: Evaluation, start: Arrays, optimizer: str, path: str, part: int, *, first: bool
) -> None:
    """Compare every kind of tensor with the reference; what is pure rounding on both counts as equal.

    ``part``: into how many parts the reference was taken; ``first``: buffers are those after the first part.
    """
    floors = json.loads(Path(path, ROUNDING).read_text())
    noise: set[str] = set()
    for kind, wanted in expected(f"{path}.{part}" if part else path, start, OPTIMIZERS[optimizer], first=first):
        given = {n: np.asarray(a) for n, a in files.arrays(found, kind).items()}
        rows = {
            name: [_finite(d.error), d.norm, _finite(d.gap), d.fault]
            for name, d in compare(wanted, given).items()
        }
        known = floors[f"{optimizer}.{kind}" if kind in STEPPED else kind]
        if kind == "optimizer":  # the state of a gradient that is nothing but rounding is no more than that
            rows = {slot: row for slot, row in rows.items() if slot.partition(".")[2] not in noise}
        errors = verdict.judged(kind, rows, optimizer, lambda kind, names, known=known: known)
        if kind == "gradients":
            noise = {n for n, row in rows.items() if errors[n] == 0.0 and row[0] is not None and row[0] > BOUND}
        if errors:
            verdict.check(f"{kind}, {optimizer}", kind, errors)


def expected(
    path: str, start: Arrays, rule: Optimizer, *, first: bool
) -> Iterator[tuple[str, Mapping[str, Array]]]:
    """Each kind of tensor as the single device has it, or as the optimizer's formula makes it of that."""
    with contextlib.ExitStack() as stack:
        stored = {kind: stack.enter_context(files.opened(path, kind)) for kind in STORED}
        kept = [name for name in stored["buffers"] if name.startswith("first.") == first]
        buffers = {name.removeprefix("first."): stored["buffers"][name] for name in kept}
        yield from {**stored, "buffers": buffers}.items()
        yield from zip(STEPPED, first_step(rule, start, stored["gradients"]), strict=True)


def gap_to_whole(found: Evaluation, path: str) -> dict[str, Json]:
    """How far BatchNorm over parts of the batch is from BatchNorm over all of it, norm-relative."""
    loss = compare(files.read(path, "loss"), {"loss": np.asarray([found.loss])})
    with files.opened(path, "gradients") as whole:
        gradients = compare(whole, found.gradients)
    return {"loss": _finite(together(loss.values())), "gradients": _finite(together(gradients.values()))}


def ready(context: Context, *, size: dict[str, Json]) -> dict[str, Json]:
    """Make the strategy's step ready to be timed; its traffic, its memory, what could tilt it."""
    context.memory.pop("runner", None)
    runner = make_parallel_runner(context.cell, _twin(context), context.weights, COLLECTIVE_S)
    context.memory["runner"] = runner
    batches = _batches(context, size, BATCHES)
    begin = time.perf_counter()
    context.memory["call"] = runner.prepare(batches)
    first = time.perf_counter() - begin
    traffic: list[Traffic] = runner.traffic(batches[0])
    held: Held = runner.held(batches[0])
    return {
        "first_s": first,
        "traffic": [vars(row) for row in traffic],
        "held": vars(held),
        "temporary_bytes": runner.temporary_bytes(batches[0]),
        "facts": dict(runner.facts()),
    }


def enlarge(context: Context, *, size: dict[str, Json]) -> dict[str, Json]:
    """The same step on another global batch, ready to be timed."""
    context.memory["call"] = _runner(context).prepare(_batches(context, size, BATCHES))
    return {}


def time_steps(context: Context, *, start: int, count: int) -> dict[str, Json]:
    """Seconds of some steps in a row, on this process."""
    call: Callable[[int], None] = context.memory["call"]  # type: ignore[assignment]
    return {"samples_s": _timed(call, count, start)}


def replay(context: Context, *, kind: Kind, size: int, ranks: int, arrays: int, count: int) -> dict[str, Json]:
    """Seconds of one collective alone: the same number of times on every process, or none would end."""
    call = _runner(context).collective(kind, size, ranks, arrays)
    call()
    return {"samples_s": _timed(lambda i: call(), count)}


def paced(context: Context, *, work_s: float, count: int) -> dict[str, Json]:
    """Seconds of some work alone, and of the same work with a small all-reduce after it, in rhythm.

    Ranks that compute sleep, wake up and wait for the slowest: a collective costs more than back to back.
    """
    call = _runner(context).collective("all_reduce", SMALL, context.cell.ranks)
    matrix = np.ones((64, 64))

    def work(repeats: int) -> None:
        for _ in range(repeats):
            _ = matrix @ matrix

    work(100)
    one = min(_timed(lambda i: work(100), 5)) / 100
    repeats = max(round(work_s / one), 1)
    call()

    def both(i: int) -> None:
        work(repeats)
        call()

    return {"work_s": _timed(lambda i: work(repeats), count), "samples_s": _timed(both, count)}


def pages(context: Context, *, size: int, count: int) -> dict[str, Json]:
    """Seconds until the system has given so many bytes of memory, page by page; each time it is given back."""

    def take(i: int) -> None:
        block = mmap.mmap(-1, size)
        np.frombuffer(block, np.uint8)[:: mmap.PAGESIZE] = 1
        block.close()

    return {"samples_s": _timed(take, count)}


def join(context: Context) -> dict[str, Json]:
    """A group that computes nothing together: for calibration."""
    cell = context.cell.model_copy(update={"mode": "data"})
    context.memory["runner"] = make_parallel_runner(cell, _twin(context), context.weights, COLLECTIVE_S)
    return {}


def prepare_local(context: Context, *, program: str, size: dict[str, Json]) -> dict[str, Json]:
    """A single device's program, ready to be timed while the other processes run theirs."""
    runner: Any = context.memory.get("local") or make_runner(context.cell, _twin(context), context.weights)
    context.memory["local"] = runner
    prepared = runner.prepare(program, _batches(context, size, BATCHES), dropout=False)
    context.memory["call"] = prepared.call
    return {"threads": runner.facts()["threads"], "temporary_bytes": temporary_of(context, prepared)}


def _runner(context: Context) -> ParallelRunner:
    runner = context.memory["runner"]
    assert isinstance(runner, ParallelRunner)
    return runner


def _timed(call: Callable[[int], None], count: int, start: int = 0) -> list[float]:
    samples = []
    for i in range(start, start + count):
        begin = time.perf_counter()
        call(i)
        samples.append(time.perf_counter() - begin)
    return samples


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


VERBS: Mapping[str, Verb] = {
    verb.__name__: verb
    for verb in (
        take,
        reference,
        single,
        prove,
        ready,
        enlarge,
        time_steps,
        replay,
        paced,
        pages,
        join,
        prepare_local,
    )
}
