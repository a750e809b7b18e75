"""The four points of exclusive or: the smallest data that a linear model cannot learn."""

from __future__ import annotations

import numpy as np

from twinax.twin import Arrays

POINTS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
LABELS = np.array([[0], [1], [1], [0]], dtype=np.float32)


def batches(batch: int, seed: int, count: int) -> list[Arrays]:
    """``count`` batches: ``points`` (batch, 2) and ``labels`` (batch, 1), float32.

    The first batch of four holds the points in their usual order; later ones in an order drawn anew.
    A larger batch repeats the points.
    """
    rng = np.random.default_rng([seed, 0x90])
    made = []
    for index in range(count):
        order = np.arange(4) if index == 0 else rng.permutation(4)
        rows = np.resize(order, batch)
        made.append({"points": POINTS[rows], "labels": LABELS[rows]})
    return made
