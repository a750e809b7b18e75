"""A recurrent layer of ours and the framework's own, taking turns in one worker."""

from __future__ import annotations

import importlib
import random

import numpy as np

from twinax.measure import clock
from twinax.records import Json
from twinax.studies.base import Context
from twinax.studies.speed_verbs import BATCHES, BLOCK_S

HIDDEN = 128
SAMPLES = 5  # per turn


def take_turns(context: Context, *, features: int, rounds: int) -> dict[str, Json]:
    """Undisturbed seconds per gradient of each; each round, each of them once, in random order."""
    cell = context.cell
    rng = np.random.default_rng(cell.repeat)
    shape = (BATCHES, cell.size.batch, cell.size.dims["time"], features)
    data = rng.standard_normal(shape, dtype=np.float32)
    side = importlib.import_module(f"support.recurrent_{cell.side}")
    calls = side.gradients(cell.twin, HIDDEN, data)
    in_a_row = {which: max(1, round(BLOCK_S / (SAMPLES * min(clock.steady(c))))) for which, c in calls.items()}
    found: dict[str, list[float]] = {which: [] for which in calls}
    order = random.Random(cell.repeat)
    for index in range(rounds):
        for which in order.sample(list(calls), len(calls)):
            calls[which](0)
            block = clock.measure(calls[which], SAMPLES, in_a_row[which], index)
            found[which] += [] if block.disturbed else block.samples
    return found


VERBS = {"take_turns": take_turns}
