"""A prepared program and a bare loop, taking turns in one worker."""

from __future__ import annotations

import importlib
import random

from twinax.measure import clock
from twinax.records import Json
from twinax.studies.base import Context
from twinax.studies.speed_verbs import BATCHES, BLOCK_S, _iteration_seconds

LEAST, SAMPLES = 3, 10  # per turn


def compare(context: Context, *, rounds: int) -> dict[str, Json]:
    """Undisturbed seconds per step of both; each round, each of them once, in random order."""
    twin, runner, size = context.twin, context.runner, context.cell.size
    assert twin is not None and runner is not None
    batches = twin.batches(twin.config, size, 0, BATCHES)
    prepared = runner.prepare("step", batches)
    bare = importlib.import_module(f"support.bare_{context.cell.side}").step(runner, batches)
    for i in range(3):
        bare(i)
    seconds = _iteration_seconds(prepared)
    samples = max(LEAST, min(SAMPLES, round(BLOCK_S / seconds)))
    calls = max(1, round(BLOCK_S / (samples * seconds)))
    found: dict[str, list[float]] = {"twinax": [], "bare": []}
    rng = random.Random(context.cell.repeat)
    for index in range(rounds):
        order = [("twinax", prepared.call), ("bare", bare)]
        rng.shuffle(order)
        for name, call in order:
            call(0)
            block = clock.measure(call, samples, calls, index * samples * calls)
            found[name] += [] if block.disturbed else block.samples
    return found


VERBS = {"compare": compare}
