"""What the study of derivatives' cost does inside its workers."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Mapping

import numpy as np

from twinax.measure import clock, memory
from twinax.records import Json
from twinax.studies.base import Context, Verb
from twinax.twin import Arrays

LONG_S = 5.0  # a call of this many seconds is not repeated as often


def derivative(context: Context, *, kind: str) -> dict[str, Json]:
    """One derivative: its first call, steady state, memory, and two numbers that tell it from another.

    What the framework cannot do is an answer too: ``said`` holds its words.
    """
    assert context.runner is not None and context.twin is not None
    twin = context.twin
    if "batch" not in context.memory:
        (context.memory["batch"],) = twin.batches(twin.config, context.cell.size, context.options.seed, 1)
    batch: Arrays = context.memory["batch"]  # type: ignore[assignment]
    try:
        begin = time.perf_counter()
        made = context.runner.derivative(kind, batch)
        found = fingerprint(made.arrays(made.call()))
        first = time.perf_counter() - begin
    except Exception as error:
        if any(sign in str(error) for sign in ("memory", "RESOURCE_EXHAUSTED")):
            raise  # the cell's own outcome
        lines = str(error).splitlines() or [type(error).__name__]
        return {"said": lines[0][:300], "numbers": [], "samples_s": []}
    held = memory.needed_by(made.call)
    least = 2 if first > LONG_S else 3
    samples = clock.steady(lambda i: made.call(), least=least)
    return {
        "said": "",
        "how": made.how,
        "first_s": first,
        "samples_s": samples,
        "peak_bytes": held,
        "numbers": found,
    }


def fingerprint(arrays: Arrays) -> list[float]:
    """``[‖y‖₂, y · r]`` over all arrays together, with a random direction r, ‖r‖₂ = 1, by name."""
    square, along, length = 0.0, 0.0, 0.0
    for name, array in arrays.items():
        y = np.asarray(array, dtype=np.float64).ravel()
        r = np.random.default_rng(zlib.crc32(name.encode())).random(y.size, dtype=np.float32) - np.float32(0.5)
        square, along, length = square + float(y @ y), along + float(y @ r), length + float(r @ r)
    return [math.sqrt(square), along / math.sqrt(length)] if arrays else []


VERBS: Mapping[str, Verb] = {"derivative": derivative}
