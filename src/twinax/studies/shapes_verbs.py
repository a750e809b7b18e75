"""What the shapes study does inside its workers."""

from __future__ import annotations

import time
from collections.abc import Mapping

from twinax.frameworks.base import Reshaping
from twinax.measure import clock
from twinax.records import Json, Size
from twinax.studies.base import Context, Verb


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
    samples = clock.steady(lambda i: reshaping.call(placed[i % len(placed)]))
    compiled = reshaping.compilations() - before
    return {"first_s": first, "compilations": compiled, "samples_s": samples, "limit": reshaping.limit}


VERBS: Mapping[str, Verb] = {"reshape": reshape}
