"""A task of the autodiff study and bare code for the same numbers, taking turns in one worker."""

from __future__ import annotations

import importlib
import random

import numpy as np

from twinax.measure import clock
from twinax.probes.derivatives.reference import inputs
from twinax.records import Json
from twinax.studies.base import Context
from twinax.studies.speed_verbs import BLOCK_S

SAMPLES = 5  # per turn


def tasks(context: Context) -> dict[str, Json]:
    """The tasks that bare code was written for."""
    return {"tasks": list(importlib.import_module(f"support.derivatives_{context.cell.side}").BARE)}


def compare(context: Context, *, task: str, size: int, rounds: int) -> dict[str, Json]:
    """Undisturbed seconds per call of both; each round, each of them once, in random order."""
    side = context.cell.side
    probe = importlib.import_module(f"twinax.probes.derivatives.{side}_side")
    given = inputs(0, size)
    answer, again = probe.run(probe.TASKS[task], given)
    bare = importlib.import_module(f"support.derivatives_{side}").BARE[task](given)
    np.testing.assert_allclose(np.asarray(bare()), answer, rtol=1e-9, atol=1e-12)
    seconds = min(clock.steady(lambda i: again()))
    calls = max(1, round(BLOCK_S / (SAMPLES * seconds)))
    found: dict[str, list[float]] = {"twinax": [], "bare": []}
    rng = random.Random(context.cell.repeat)
    for _ in range(rounds):
        order = [("twinax", lambda i: again()), ("bare", lambda i: bare())]
        rng.shuffle(order)
        for name, call in order:
            call(0)
            block = clock.measure(call, SAMPLES, calls, 0)
            found[name] += [] if block.disturbed else block.samples
    return found


VERBS = {"tasks": tasks, "compare": compare}
