"""What the shapes study does inside its workers."""

from __future__ import annotations

import time
from collections.abc import Mapping

from twinax.frameworks.base import Reshaping
from twinax.records import Json, Size
from twinax.studies.base import Context, Verb

LEAST, MOST, MOMENT_S = 3, 50, 0.3
"""Samples of a steady state: at least, at most, and the seconds that they may take in between."""


def reshape(context: Context, *, program: str, size: Json) -> dict[str, Json]:
    """Meet a new size: the first call with all that it compiles, then the steady state."""
    assert context.runner is not None and context.twin is not None
    twin = context.twin
    if "reshaping" not in context.memory:
        context.memory["reshaping"] = context.runner.reshaping(program)
    reshaping = context.memory["reshaping"]
    assert isinstance(reshaping, Reshaping)
    batches = twin.batches(twin.config, Size(**size), context.options.seed, 2)
    placed = [reshaping.place(batch) for batch in batches]
    before, begin = reshaping.compilations(), time.perf_counter()
    reshaping.call(placed[0])
    first = time.perf_counter() - begin
    samples = _steady(reshaping, placed)
    compiled = reshaping.compilations() - before
    return {"first_s": first, "compilations": compiled, "samples_s": samples, "limit": reshaping.limit}


def _steady(reshaping: Reshaping, placed: list[object]) -> list[float]:
    samples: list[float] = []
    deadline = time.perf_counter() + MOMENT_S
    while len(samples) < LEAST or (len(samples) < MOST and time.perf_counter() < deadline):
        begin = time.perf_counter()
        reshaping.call(placed[len(samples) % len(placed)])
        samples.append(time.perf_counter() - begin)
    return samples


VERBS: Mapping[str, Verb] = {"reshape": reshape}
