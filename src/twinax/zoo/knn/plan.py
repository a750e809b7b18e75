"""What both sides of nearest neighbours share: settings, checks, and how a search is cut into blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from twinax.errors import BadInput
from twinax.records import Json
from twinax.twin import Array

METRICS = ("l2", "l1", "cosine")
WEIGHTS = ("uniform", "distance")
MIB = 2**20
SPARE = 8  # candidates beyond k, so that the k-th distance is clear of what was left out
LARGEST_GROUP = 16  # bounds that share a minimum
LARGEST_BLOCK = 64  # queries at a time, so that their bounds stay in the processor's cache
TINY = 1e-30  # absolute error of bounds: far more than underflow in float32 can cost
PRIOR = 1e-3  # of the calibration: examples that it is worth
NEWTON_STEPS = 25  # of the calibration, with the best of ten lengths
POLISHES = 3  # whole steps after them: near the optimum each doubles the right digits


@dataclass(frozen=True)
class Config:
    """The search and the vote.

    Attributes:
        k: Neighbours.
        metric: ``l2``, ``l1``, or ``cosine``: one minus the cosine; a vector of zeros is 1 from everything.
        weights: ``uniform``, or ``distance``: one over the distance; neighbours at distance 0, where there
            are any, have all the weight (as in scikit-learn).
        budget_mib: Memory of a search, see :func:`plan`.
        rows: Training examples.
        features: Numbers per example.
        classes: Classes; 0 in regression.
    """

    k: int
    metric: str
    weights: str
    budget_mib: float
    rows: int
    features: int
    classes: int


def configured(config: Mapping[str, Json]) -> Config:
    """The settings, checked.

    Raises:
        BadInput: A setting has a value that it cannot have; names it.
    """
    c = Config(**config)
    if c.metric not in METRICS:
        raise BadInput(f"metric = {c.metric!r} is unknown.", f"Known are {', '.join(METRICS)}.")
    if c.weights not in WEIGHTS:
        raise BadInput(f"weights = {c.weights!r} is unknown.", f"Known are {', '.join(WEIGHTS)}.")
    if c.k < 1:
        raise BadInput(f"k = {c.k} is less than one neighbour.", "Give a k of 1 or more.")
    if c.k > c.rows:
        raise BadInput(
            f"k = {c.k} neighbours of {c.rows} training examples: there are not so many.",
            f"Give a k of at most {c.rows}, or more examples.",
        )
    return c


def check(points: Array, answers: Array, classes: int) -> None:
    """Whether training examples can be used: (n, features), and (n,) labels or targets.

    Raises:
        BadInput: There are fewer than two; a value is not finite; a label is none of the classes.
    """
    if len(points) < 2:
        raise BadInput(f"{len(points)} training examples: at least two are needed.", "Give more examples.")
    bad = ~np.isfinite(points)
    if bad.any():
        row, column = (int(place) for place in np.argwhere(bad)[0])
        raise BadInput(
            f"Training example {row + 1}, feature {column + 1} is {points[row, column]}.",
            "Give finite numbers.",
        )
    wrong = (answers < 0) | (answers >= classes) if classes else ~np.isfinite(answers)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        wanted = f"a class from 0 to {classes - 1}" if classes else "a finite number"
        raise BadInput(
            f"Training example {row + 1} is answered by {answers[row]}, not by {wanted}.",
            "Mend or leave it out.",
        )


@dataclass(frozen=True)
class Plan:
    """How a search goes.

    Attributes:
        candidates: Points whose distances are computed exactly, by query.
        group: Bounds that share a minimum.
        groups: Groups; ``group · groups`` is the number of points, rounded up.
        block: Queries at a time.
        slack: What a float32 distance may be wrong by, over the sizes of the two vectors.
    """

    candidates: int
    group: int
    groups: int
    block: int
    slack: float


def plan(c: Config, queries: int, k: int, itemsize: int) -> Plan:
    """Cut a search of ``queries`` for their ``k`` nearest into blocks that stay within the budget.

    The budget is for what a search needs besides its arguments, its results and one float32 copy of the points
    and of the queries. By query these are, in bytes: two blocks of float32 bounds of every point; the
    groups' minima; the members of the chosen groups with their places; and the candidates' differences,
    twice, and their sums. A query that is searched exhaustively needs differences from every point.

    The slack covers rounding to float32 and sums of d terms in any order: with u = 2⁻²⁴, at most
    (3 d + 20) u times the sizes (squared norms in l2) of both vectors (Higham, Accuracy and Stability of
    Numerical Algorithms, 2002, section 3.1), taken as (4 d + 32) u.

    Raises:
        BadInput: The budget does not hold a single query.
    """
    candidates = min(k + SPARE, c.rows)
    group = max(1, min(LARGEST_GROUP, c.rows // (4 * candidates)))
    groups = -(-c.rows // group)
    by_query = 8 * group * groups + 8 * groups + 16 * group * candidates
    by_query += candidates * (3 * itemsize * c.features + 32)
    exhaustive = c.rows * (3 * itemsize * c.features + 32)
    budget = int(c.budget_mib * MIB)
    if budget < max(by_query, exhaustive):
        needed = max(by_query, exhaustive) / MIB
        raise BadInput(
            f"budget_mib = {c.budget_mib:g} holds no query among {c.rows} points of {c.features} features, "
            f"which needs {needed:.2g} MiB.",
            f"Give a budget_mib of at least {np.ceil(needed * 10) / 10:g}.",
        )
    blocks = -(-queries // min(LARGEST_BLOCK, budget // by_query))
    return Plan(candidates, group, groups, -(-queries // max(blocks, 1)), (4 * c.features + 32) * 2.0**-24)
