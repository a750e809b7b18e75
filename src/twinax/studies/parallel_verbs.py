"""What the parallel study does inside its workers. Every verb is asked of all processes of a cell at once."""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from twinax.frameworks.base import Prepared
from twinax.frameworks.make import make_parallel_runner, make_runner
from twinax.frameworks.parallel import Held, Kind, ParallelRunner, Traffic
from twinax.records import Json
from twinax.sources import resolve
from twinax.studies import parallel_lines
from twinax.studies.base import Context, Verb
from twinax.studies.parallel_proof import COLLECTIVE_S, make_batches, prove, reference, twin_of
from twinax.studies.parity_verbs import perturb
from twinax.weights import checkpoint

BATCHES = 4  # so many different batches take turns
SMALL = 4096  # bytes of a collective whose time is all latency
PEAK = (1024, 768, 3072)  # a large matrix product: what the library can do at best


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


def single(context: Context, *, size: dict[str, Json]) -> dict[str, Json]:
    """Make one device's step ready to be timed; its work, its memory, the library's best, lines of code."""
    cell, twin = context.cell, twin_of(context)
    runner = make_runner(cell, twin, context.weights)
    prepared = runner.prepare("step", make_batches(context, size, BATCHES), dropout=False)
    context.memory["call"] = prepared.call
    product = runner.kernel("matmul", PEAK)
    product()
    shortest = min(_timed(lambda i: product(), 5))
    parameters = runner.parameters()
    width = {"float64": 8, "float32": 4, "bfloat16": 2}[cell.dtype]
    parameter_bytes = width * sum(context.weights[name].size for name in parameters)
    buffers = [context.weights[name] for name in context.weights.keys() - set(parameters)]
    # a compiled step's numbers are no wider than its dtype, and whole numbers have 32 bits
    buffer_bytes = sum(a.size * (width if a.dtype.kind == "f" else min(a.itemsize, 4)) for a in buffers)
    return {
        "first_s": prepared.phases.first,
        "flops": prepared.compiled.get("flops"),
        "peak_flops": 2 * PEAK[0] * PEAK[1] * PEAK[2] / shortest,
        "parameter_bytes": parameter_bytes,
        "largest_parameter_bytes": width * max((context.weights[name].size for name in parameters), default=0),
        "held": held_alone(context, prepared, parameter_bytes, buffer_bytes, size),
        "taken_bytes": prepared.compiled.get("taken_bytes"),
        "traffic": [],
        "lines": parallel_lines.of_side(cell.side),
        "facts": dict(runner.facts()),
    }


def held_alone(
    context: Context, prepared: Prepared, parameter_bytes: int, buffer_bytes: int, size: dict[str, Json]
) -> dict[str, Json]:
    """What one device holds for a step, by the compiler where it says so, else as a group of one rank."""
    temporary = prepared.compiled.get("temporary_bytes")
    if temporary is None:
        alone = context.cell.model_copy(update={"mode": "data"})
        runner = make_parallel_runner(alone, twin_of(context), context.weights, COLLECTIVE_S)
        held = runner.held(make_batches(context, size, 1)[0])
        runner.leave()
        return {**vars(held), "buffers": 0}  # one device sums nothing
    kept = parameter_bytes + buffer_bytes
    return vars(Held.compiled(kept, parameter_bytes, parameter_bytes, int(temporary)))


def ready(context: Context, *, size: dict[str, Json]) -> dict[str, Json]:
    """Make the strategy's step ready to be timed; its traffic, its memory, what could tilt it."""
    context.memory.pop("runner", None)
    runner = make_parallel_runner(context.cell, twin_of(context), context.weights, COLLECTIVE_S)
    context.memory["runner"] = runner
    batches = make_batches(context, size, BATCHES)
    begin = time.perf_counter()
    context.memory["call"] = runner.prepare(batches)
    first = time.perf_counter() - begin
    traffic: list[Traffic] = runner.traffic(batches[0])
    held: Held = runner.held(batches[0])
    return {
        "first_s": first,
        "traffic": [vars(row) for row in traffic],
        "held": vars(held),
        "taken_bytes": runner.taken_bytes(batches[0]),
        "facts": dict(runner.facts()),
    }


def enlarge(context: Context, *, size: dict[str, Json]) -> dict[str, Json]:
    """The same step on another global batch, ready to be timed."""
    context.memory["call"] = _runner(context).prepare(make_batches(context, size, BATCHES))
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
    context.memory["runner"] = make_parallel_runner(cell, twin_of(context), context.weights, COLLECTIVE_S)
    return {}


def prepare_local(context: Context, *, program: str, size: dict[str, Json]) -> dict[str, Json]:
    """A single device's program, ready to be timed while the other processes run theirs."""
    runner: Any = context.memory.get("local") or make_runner(context.cell, twin_of(context), context.weights)
    context.memory["local"] = runner
    prepared = runner.prepare(program, make_batches(context, size, BATCHES), dropout=False)
    context.memory["call"] = prepared.call
    return {"threads": runner.facts()["threads"], "taken_bytes": prepared.compiled.get("taken_bytes")}


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
