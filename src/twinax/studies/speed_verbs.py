"""What the speed study does inside its workers."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Mapping

import numpy as np

from twinax.frameworks.base import Prepared
from twinax.measure import clock, memory
from twinax.records import Json
from twinax.studies.base import Context, Verb

BLOCK_S = 0.1  # the kernel's CPU accounting is too coarse for a shorter block
BATCHES = 4  # so many different batches take turns
WARM_S = 0.05  # seconds for which a short program runs before it is timed
LONG_S = 0.5  # a call of this many seconds is no short program
KERNEL_S = 0.15  # seconds for which one kernel is repeated


def prepare(context: Context, *, program: str) -> dict[str, Json]:
    """Trace, compile and run a program once; its phases, and how long an iteration takes."""
    assert context.runner is not None and context.twin is not None
    if "batches" not in context.memory:
        memory.reset_peak()
        context.memory["baseline"] = memory.resident_bytes()
        twin, size = context.twin, context.cell.size
        context.memory["batches"] = twin.batches(twin.config, size, context.options.seed, BATCHES)
    prepared = context.runner.prepare(program, context.memory["batches"])  # type: ignore[arg-type]
    context.memory[program] = prepared
    return {
        "trace_s": prepared.phases.trace,
        "compile_s": prepared.phases.compile,
        "first_s": prepared.phases.first,
        "flops": prepared.compiled.get("flops"),
        "compiled": dict(prepared.compiled),
        "iteration_s": _iteration_seconds(prepared),
    }


def _iteration_seconds(prepared: Prepared) -> float:
    """About what a call takes. A long one is not made once more to learn it: the first one tells enough."""
    phases = prepared.phases
    shortest = max(phases.first - phases.trace - phases.compile, 1e-6)
    deadline = time.perf_counter() + WARM_S
    while shortest < LONG_S and time.perf_counter() < deadline:
        begin = time.perf_counter()
        prepared.call(1)
        shortest = min(shortest, time.perf_counter() - begin)
    return shortest


def fingerprint(context: Context) -> dict[str, Json]:
    """Each output of ``forward`` on the first batch as two numbers, in float64.

    ``{name: [‖y‖₂, y · r]}`` with a random direction r, ‖r‖₂ = 1, drawn by the output's name.
    """
    prepared = context.memory["forward"]
    assert isinstance(prepared, Prepared)
    found = {}
    for name, output in prepared.outputs().items():
        y = np.asarray(output, dtype=np.float64).ravel()
        direction = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(y.size)
        found[name] = [float(np.linalg.norm(y)), float(y @ direction / (np.linalg.norm(direction) or 1.0))]
    return {"outputs": found}


def time_block(context: Context, *, program: str, samples: int, calls: int, start: int) -> dict[str, Json]:
    """Take some samples in a row, each the mean of some calls."""
    prepared = context.memory[program]
    assert isinstance(prepared, Prepared)
    block = clock.measure(prepared.call, samples, calls, start)
    return {"samples_s": block.samples, "foreign_cpu": block.foreign_cpu, "disturbed": block.disturbed}


def peak(context: Context) -> dict[str, Json]:
    """The most memory that was held, and by which method that was measured."""
    assert context.runner is not None
    device = context.runner.peak_device_bytes()
    return {
        "method": memory.METHOD if device is None else "allocator peak on the device",
        "peak_bytes": memory.peak_bytes() if device is None else device,
        "baseline_bytes": context.memory["baseline"] if device is None else 0,
    }


def shapes(context: Context, *, most: int) -> dict[str, Json]:
    """The model's own largest matrix products and convolutions, from its weights and its batch size."""
    size = context.cell.size
    rows = size.batch * math.prod(v for name, v in size.dims.items() if name == "sequence")
    image = size.dims.get("image", 0)
    matrices = {(rows, a.shape[1], a.shape[0]) for a in context.weights.values() if a.ndim == 2}
    # where a convolution runs follows from its width: the image halves as the channels double
    widest = max((a.shape[0] for a in context.weights.values() if a.ndim == 4), default=0)
    kernels = set()
    for array in context.weights.values():
        if array.ndim == 4 and image and array.shape[2] == array.shape[3]:
            out, channels, side, _ = array.shape
            extent = max(image // 32 * min(widest // max(out, channels), 8), 1)
            kernels.add((size.batch, channels, extent, extent, out, side))
    return {
        "matmul": [list(s) for s in sorted(matrices, key=_matmul_flops)[-most:]],
        "convolution": [list(s) for s in sorted(kernels, key=_convolution_flops)[-most:]],
    }


def time_kernel(context: Context, *, kind: str, shape: list[int]) -> dict[str, Json]:
    """The best rate that a library reaches on one operation: work over the shortest time."""
    assert context.runner is not None
    call: Callable[[], None] = context.runner.kernel(kind, shape)
    call()
    best, deadline = math.inf, time.perf_counter() + KERNEL_S
    while time.perf_counter() < deadline:
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
    width = {"float64": 8, "float32": 4, "bfloat16": 2}[context.cell.dtype]
    work = {
        "matmul": lambda: _matmul_flops(shape),
        "convolution": lambda: _convolution_flops(shape),
        "bandwidth": lambda: 3 * width * math.prod(shape),  # two arrays read, one written
    }[kind]()
    unit = "B/s" if kind == "bandwidth" else "FLOP/s"
    return {"kind": kind, "shape": shape, "seconds": best, "rate": work / best, "unit": unit}


def _matmul_flops(shape: tuple[int, ...] | list[int]) -> int:
    return 2 * math.prod(shape)


def _convolution_flops(shape: tuple[int, ...] | list[int]) -> int:
    batch, channels, height, width, out, size = shape
    return 2 * batch * height * width * channels * out * size * size


VERBS: Mapping[str, Verb] = {
    verb.__name__: verb for verb in (prepare, fingerprint, time_block, peak, shapes, time_kernel)
}
