"""What the parallel study does inside its workers. Every verb is asked of all processes of a cell at once."""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from twinax.compare import compare, together
from twinax.frameworks.base import OPTIMIZERS, Evaluation, Optimizer, Prepared, Runner
from twinax.frameworks.make import make_parallel_runner, make_runner
from twinax.frameworks.parallel import Held, Kind, ParallelRunner, Traffic, micro_batches
from twinax.records import Cell, Json, Size
from twinax.sources import resolve
from twinax.studies import parallel_lines
from twinax.studies import parity_files as files
from twinax.studies.base import Context, Verb
from twinax.studies.parity_verbs import nudge_wide, perturb
from twinax.studies.parity_verdict import Verdict
from twinax.twin import Arrays, Twin
from twinax.weights import checkpoint

KINDS = ("loss", "gradients", "buffers", "weights", "optimizer")
BATCHES = 4  # so many different batches take turns
COLLECTIVE_S = 60.0  # seconds that a collective may take before the engine gives up
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
    context: Context, *, output: str, size: dict[str, Json], optimizers: list[str], parts: list[int]
) -> dict[str, Json]:
    """One step of each optimizer on one device in float64, and how far rounding alone moves it.

    Where the model has BatchNorm, also the step on the batch's ``parts`` one after another (gradients
    averaged): what a strategy does that normalises over less than the whole batch.

    Returns:
        Whether the model has BatchNorm.
    """
    runner = make_runner(_in_float64(context.cell), _twin(context), context.weights)
    start, (batch,) = context.weights, _batches(context, size, 1)
    batch_norm = any(name.endswith("running_mean") for name in start)
    for name in optimizers:
        rule = OPTIMIZERS[name]
        runner.load(start, rule)
        files.write(f"{output}.{name}", runner.evaluate(batch, train=True, step=True), KINDS)
        runner.load(nudge_wide(start, 0), rule)
        floors = rounding(f"{output}.{name}", runner.evaluate(batch, train=True, step=True))
        Path(f"{output}.{name}", ROUNDING).write_text(json.dumps(floors))
        for count in parts if batch_norm else ():
            files.write(f"{output}.{name}.{count}", in_parts(runner, start, batch, rule, count), KINDS)
    return {"batch_norm": batch_norm}


def rounding(path: str, nudged: Evaluation) -> dict[str, dict[str, float]]:
    """How far each tensor moves when every weight moves by one unit in the last place: kind → name → gap."""
    floors: dict[str, dict[str, float]] = {}
    for kind in KINDS:
        moved = files.arrays(nudged, kind)
        with files.opened(path, kind) as tensors:
            floors[kind] = {name: float(np.linalg.norm(a - moved[name])) for name, a in tensors.items()}
    return floors


def in_parts(runner: Runner, start: Arrays, batch: Arrays, rule: Optimizer, count: int) -> Evaluation:
    """A step on the mean of the parts' gradients; buffers are carried from part to part.

    ``first.<name>`` are the buffers after the first part alone, as a rank has them that saw no other.
    """
    losses, gradients, buffers = [], {}, {}
    runner.load(start)
    for part in micro_batches(batch, count):
        found = runner.evaluate(part, train=True)
        losses.append(found.loss)
        for name, array in found.gradients.items():
            gradients[name] = gradients.get(name, 0.0) + np.array(array) / count
        buffers = {name: np.array(array) for name, array in found.buffers.items()} | {
            name: array for name, array in buffers.items() if name.startswith("first.")
        }
        if len(losses) == 1:
            buffers |= {f"first.{name}": array for name, array in list(buffers.items())}
    weights, optimizer = first_step(rule, {n: start[n].astype(np.float64) for n in gradients}, gradients)
    return Evaluation({}, statistics.fmean(losses), gradients, buffers, {}, weights, optimizer)


def first_step(rule: Optimizer, weights: Arrays, gradients: Arrays) -> tuple[Arrays, Arrays]:
    """Weights and state after one step from a fresh state, by :class:`Optimizer`'s formulas."""
    after: Arrays = {}
    state: Arrays = {}
    for name, g in gradients.items():
        if rule.name == "sgd":
            g = g + rule.weight_decay * weights[name]
            state[f"momentum.{name}"] = g
            after[name] = weights[name] - rule.learning_rate * g
        else:
            b1, b2 = rule.betas
            state |= {f"exp_avg.{name}": (1 - b1) * g, f"exp_avg_sq.{name}": (1 - b2) * g * g}
            decayed = weights[name] * (1 - rule.learning_rate * rule.weight_decay)
            after[name] = decayed - rule.learning_rate * g / (np.abs(g) + rule.eps)
    return after, state if rule.name == "sgd" else {**state, "step": np.asarray(1.0)}


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
        "traffic": [],
        "lines": parallel_lines.of_side(cell.side),
        "facts": dict(runner.facts()),
    }


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
            path = f"{reference}.{name}"
            judge(verdict, found, path, part, first=cell.mode == "data_local" and part > 0)
            if part:
                batch_norm_gap = gap_to_whole(found, path)
    finally:
        runner.leave()
    del runner
    gc.collect()
    errors = [check["worst"] for check in verdict.checks]
    return {
        "checks": verdict.checks,
        "mismatches": verdict.mismatches[:20],
        "failed": verdict.failed,
        "worst": None if None in errors else max(errors, default=0.0),
        "batch_norm_gap": batch_norm_gap,
    }


def judge(verdict: Verdict, found: Evaluation, path: str, part: int, *, first: bool) -> None:
    """Compare every kind of tensor with the reference; what is pure rounding on both counts as equal."""
    whole = f"{path}.{part}" if part else path
    floors = json.loads(Path(path, ROUNDING).read_text())
    for kind in KINDS:
        expected = {
            n: a
            for n, a in files.read(whole, kind).items()
            if n.startswith("first.") == first or kind != "buffers"
        }
        if kind == "buffers" and first:
            expected = {name.removeprefix("first."): array for name, array in expected.items()}
        found_now = {n: np.asarray(a) for n, a in files.arrays(found, kind).items()}
        rows = {
            name: [_finite(d.error), d.norm, _finite(d.gap), d.fault]
            for name, d in compare(expected, found_now).items()
        }
        errors = verdict.judged(kind, rows, path.rpartition(".")[2], lambda kind, names: floors[kind])
        if errors:
            verdict.check(f"{kind}, {path.rpartition('.')[2]}", kind, errors)


def gap_to_whole(found: Evaluation, path: str) -> dict[str, Json]:
    """How far BatchNorm over parts of the batch is from BatchNorm over all of it, norm-relative."""
    whole = {"loss": files.read(path, "loss"), "gradients": files.read(path, "gradients")}
    loss = compare(whole["loss"], {"loss": np.asarray([found.loss])})
    gradients = compare(whole["gradients"], dict(found.gradients))
    return {
        "loss": _finite(together(loss.values())),
        "gradients": _finite(together(gradients.values())),
    }


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


def replay(context: Context, *, kind: Kind, size: int, ranks: int, count: int) -> dict[str, Json]:
    """Seconds of one collective alone: the same number of times on every process, or none would end."""
    call = _runner(context).collective(kind, size, ranks)
    call()
    return {"samples_s": _timed(lambda i: call(), count)}


def join(context: Context) -> dict[str, Json]:
    """A group that computes nothing together: for calibration."""
    cell = context.cell.model_copy(update={"mode": "data"})
    context.memory["runner"] = make_parallel_runner(cell, _twin(context), context.weights, COLLECTIVE_S)
    return {}


def prepare_local(context: Context, *, size: dict[str, Json]) -> dict[str, Json]:
    """A single device's step, ready to be timed while the other processes run theirs."""
    runner: Any = context.memory.get("local") or make_runner(context.cell, _twin(context), context.weights)
    context.memory["local"] = runner
    context.memory["call"] = runner.prepare("step", _batches(context, size, BATCHES), dropout=False).call
    return {"threads": runner.facts()["threads"]}


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
        join,
        prepare_local,
    )
}
