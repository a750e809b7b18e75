"""twinax's distributed step and the framework's plain example, taking turns in one process group."""

from __future__ import annotations

import importlib
import random
import time

from twinax.frameworks.make import make_parallel_runner
from twinax.records import Json
from twinax.studies.base import Context
from twinax.studies.parallel_verbs import take
from twinax.studies.speed_verbs import BATCHES

COUNT = 3  # steps per turn


def compare(context: Context, *, rounds: int) -> dict[str, Json]:
    """Seconds per step of both on this process; each round, each of them once, in the same random order."""
    take(context, file=str(context.scratch / f"start-{context.cell.repeat}.safetensors"))
    twin, cell = context.twin, context.cell
    assert twin is not None
    batches = twin.batches(twin.config, cell.size, context.options.seed, BATCHES)
    ours = make_parallel_runner(cell, twin, context.weights, 120.0).prepare(batches)
    plain = getattr(importlib.import_module(f"support.plain_{cell.side}"), cell.mode)
    theirs = plain(twin, context.weights, batches)
    theirs(0)
    found: dict[str, list[float]] = {"twinax": [], "bare": []}
    rng = random.Random(cell.repeat)
    for index in range(rounds):
        order = [("twinax", ours), ("bare", theirs)]
        rng.shuffle(order)
        for name, call in order:
            call(index)
            for i in range(COUNT):
                begin = time.perf_counter()
                call(index + i)
                found[name].append(time.perf_counter() - begin)
    return found


VERBS = {"compare": compare}
