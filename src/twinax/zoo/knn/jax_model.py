"""Exact k nearest neighbours in JAX (Flax NNX): search, vote, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax

from twinax.zoo.knn.plan import NEWTON_STEPS, POLISHES, PRIOR, TINY, Config, Plan, check, configured, plan


class Classifier(nnx.Module):
    """The neighbours' labels, voted on."""

    def __init__(self, c: Config) -> None:
        self.c = c
        self.points = nnx.Variable(jnp.zeros((c.rows, c.features)))
        self.labels = nnx.Variable(jnp.zeros(c.rows, int))
        self.calibration = nnx.Variable(jnp.zeros((c.classes, 2)))

    def __call__(self, features: Array) -> dict[str, Array]:
        distances, neighbours = nearest(features, self.points[...], self.c.k, self.c)  # (batch, k)
        probability = vote(distances, self.labels[...][neighbours], self.c)  # (batch, classes)
        return {
            "neighbours": neighbours,
            "distances": distances,
            "probability": probability,
            "calibrated": calibrated(self.calibration[...], probability, self.c.k),
        }


class Regressor(nnx.Module):
    """The neighbours' targets, averaged."""

    def __init__(self, c: Config) -> None:
        self.c = c
        self.points = nnx.Variable(jnp.zeros((c.rows, c.features)))
        self.targets = nnx.Variable(jnp.zeros(c.rows))

    def __call__(self, features: Array) -> dict[str, Array]:
        distances, neighbours = nearest(features, self.points[...], self.c.k, self.c)  # (batch, k)
        weights = weights_of(distances, self.c.weights)
        prediction = (weights * self.targets[...][neighbours]).sum(1) / weights.sum(1)  # (batch,)
        return {"neighbours": neighbours, "distances": distances, "prediction": prediction}


# --- search ------------------------------------------------------------------------------------------


def nearest(queries: Array, points: Array, k: int, c: Config) -> tuple[Array, Array]:
    """Distances (queries, k) and numbers of the k nearest points, by rising distance, then rising number.

    Float32 bounds, which cost a matrix product, leave a few candidates; their ranks are then computed
    exactly and decide. Where the bounds cannot rule out that a nearer point was left, all are computed.
    """
    p = plan(c, len(queries), k, points.dtype.itemsize)
    if c.metric == "cosine":
        queries, points = scaled(queries), scaled(points)
    centre = points.mean(0)
    rough = roughly(points, centre, c.metric)  # (n, d)
    sizes = size(rough, c.metric)  # (n,)
    finite = jnp.isfinite(sizes).all()
    padding = p.group * p.groups - len(points)
    rough = jnp.pad(rough, ((0, padding), (0, 0)))
    offset = jnp.pad(offset_of(sizes, c.metric, p.slack), (0, padding), constant_values=jnp.inf)

    def search(block: Array) -> tuple[Array, Array]:
        own = roughly(block, centre, c.metric)
        bounds = lower_bounds(own, rough, offset, c.metric)  # (block, group · groups)
        candidates, left_out = smallest(bounds, p)  # (block, candidates), (block,)
        candidates = jnp.minimum(candidates, len(points) - 1)
        near, numbers = first(ranks(block[:, None], points[candidates], c.metric), candidates, k)
        floor = rank_of(left_out + own_term(size(own, c.metric), c.metric, p.slack), c.metric)
        sure = finite & jnp.isfinite(floor) & (near[:, -1] < floor)
        if p.candidates == len(points):  # nothing was left out
            return near, numbers

        def mended(_: Any) -> tuple[Array, Array]:
            def one(row: tuple[Array, ...]) -> tuple[Array, Array]:
                query, is_sure, near, numbers = row
                everyone = jnp.arange(len(points), dtype=numbers.dtype)
                return lax.cond(
                    is_sure,
                    lambda: (near, numbers),
                    lambda: first(ranks(query, points, c.metric), everyone, k),
                )

            return lax.map(one, (block, sure, near, numbers))

        return lax.cond(sure.all(), lambda _: (near, numbers), mended, None)

    blocks = -(-len(queries) // max(p.block, 1))
    short = blocks * p.block - len(queries)
    cut = jnp.pad(queries, ((0, short), (0, 0)), mode="edge").reshape(blocks, p.block, -1)
    near, numbers = lax.map(search, cut)  # (blocks, block, k)
    near, numbers = (found.reshape(-1, k)[: len(queries)] for found in (near, numbers))
    return distances_of(near, c.metric), numbers.astype(int)


def scaled(x: Array) -> Array:
    """Vectors over the power of two that brings their largest number to between ½ and 1: no digit is lost."""
    largest = jnp.abs(x).max(1, keepdims=True)
    return x / jnp.where(largest == 0, 1.0, largest / jnp.frexp(largest)[0])


def roughly(x: Array, centre: Array, metric: str) -> Array:
    """Vectors in float32: from the centre, which keeps them small; for the cosine, of length one."""
    if metric != "cosine":
        return (x - centre).astype(jnp.float32)
    x = x.astype(jnp.float32)
    length = jnp.sqrt((x * x).sum(1, keepdims=True))
    return x / jnp.where(length == 0, 1.0, length)


def size(x: Array, metric: str) -> Array:
    """What a vector's rounding errors are in proportion to: (…, d) -> (…)."""
    if metric == "l2":
        return (x * x).sum(-1)
    return jnp.abs(x).sum(-1) if metric == "l1" else jnp.ones_like(x[..., 0]) + 0 * x.sum(-1)


def offset_of(sizes: Array, metric: str, slack: float) -> Array:
    """The part of a lower bound that depends on the point alone."""
    return {"l2": (1 - slack) * sizes, "l1": -slack * sizes, "cosine": -slack * sizes}[metric]


def own_term(sizes: Array, metric: str, slack: float) -> Array:
    """The part of a lower bound that depends on the query alone."""
    return {"l2": (1 - slack) * sizes, "l1": -slack * sizes, "cosine": 1 - slack * sizes}[metric] - TINY


def lower_bounds(own: Array, rough: Array, offset: Array, metric: str) -> Array:
    """Bounds below every distance (squared in l2), less the query's own term: (b, d), (n, d) -> (b, n)."""
    if metric == "l1":
        return jnp.abs(own[:, None] - rough).sum(-1) + offset
    product = jnp.matmul(own, rough.T, precision="highest")
    return offset - (2 if metric == "l2" else 1) * product


def smallest(bounds: Array, p: Plan) -> tuple[Array, Array]:
    """The candidates with the smallest bounds, by rising number, and the largest of these bounds.

    They lie in the groups with the smallest minima, of which there need be no more than candidates.
    """
    tiles = bounds.reshape(-1, p.group, p.groups)  # point i · groups + j is member i of group j
    groups = lax.top_k(-tiles.min(1), p.candidates)[1]  # (b, candidates)
    members = jnp.take_along_axis(tiles, groups[:, None], 2).reshape(len(bounds), -1)  # (b, group · candidates)
    highest, place = lax.top_k(-members, p.candidates)
    member, column = place // p.candidates, place % p.candidates
    numbers = member * p.groups + jnp.take_along_axis(groups, column, 1)
    # a slice in place of the minimum would make XLA sort all members
    return jnp.sort(numbers, 1), -highest.min(1)


def ranks(x: Array, y: Array, metric: str) -> Array:
    """What points are ranked by, (…, d) -> (…); the same bits on both sides.

    That is a number which rises with the distance and needs no root, so that equal distances between small
    integers come out equal: Σ |x − y|, Σ (x − y)², and −(x·y) |x·y| / (Σ x² Σ y²).

    XLA would fuse a product and the sum that follows into one rounding. A maximum between the two, which
    changes no number (for the cosine, none exceeds 1), keeps them apart.
    """
    if metric != "cosine":
        return fold(jnp.abs(x - y) if metric == "l1" else jnp.maximum((x - y) ** 2, 0))
    product, lengths = fold(jnp.maximum(x * y, -2)), fold(jnp.maximum(x * x, 0)) * fold(jnp.maximum(y * y, 0))
    return jnp.where(lengths == 0, 0.0, -product * jnp.abs(product) / lengths)


def rank_of(distances: Array, metric: str) -> Array:
    """The rank of a distance (squared in l2)."""
    return (distances - 1) * jnp.abs(distances - 1) if metric == "cosine" else distances


def distances_of(ranks: Array, metric: str) -> Array:
    """Distances from what points are ranked by."""
    if metric == "cosine":
        return jnp.clip(1 + jnp.sign(ranks) * jnp.sqrt(jnp.abs(ranks)), 0, 2)
    return jnp.sqrt(ranks) if metric == "l2" else ranks


def fold(x: Array) -> Array:
    """The sum over the last axis, in an order that is stated: halves are added until one number is left."""
    while (length := x.shape[-1]) > 1:
        half = length // 2
        x = jnp.concatenate([x[..., :half] + x[..., half : 2 * half], x[..., 2 * half :]], -1)
    return x[..., 0]


def first(ranks: Array, numbers: Array, k: int) -> tuple[Array, Array]:
    """The k smallest ranks and their points; ``numbers`` rise, and of equal ranks the lowest comes first."""
    ranks, numbers = lax.sort((ranks, numbers), num_keys=1, is_stable=True)
    return ranks[..., :k], numbers[..., :k]


# --- vote --------------------------------------------------------------------------------------------


def weights_of(distances: Array, weights: str) -> Array:
    """Each neighbour's weight; NaN where a distance is not finite."""
    if weights == "uniform":
        return jnp.where(jnp.isfinite(distances), 1.0, jnp.nan).astype(distances.dtype)
    inverse = 1 / distances
    same = jnp.isinf(inverse)  # the distance is 0
    return jnp.where(same.any(1, keepdims=True), same.astype(inverse.dtype), inverse)


def vote(distances: Array, labels: Array, c: Config) -> Array:
    """Each class's share of the neighbours' weights: (b, k) -> (b, classes)."""
    weights = weights_of(distances, c.weights)
    votes = labels[..., None] == jnp.arange(c.classes)  # (b, k, classes)
    return (weights[..., None] * votes).sum(1) / weights.sum(1, keepdims=True)


def calibrated(calibration: Array, probability: Array, k: int) -> Array:
    """Platt's logistic curve of each class's log-odds, scaled so that the classes add up to one."""
    slope, shift = calibration.T  # (classes,)
    curve = jax.nn.sigmoid(slope * log_odds(probability, k) + shift)
    return curve / curve.sum(1, keepdims=True)


def log_odds(probability: Array, k: int) -> Array:
    """Log-odds of k votes with half a vote added to both sides, so that no odds are infinite."""
    return jnp.log((k * probability + 0.5) / (k * (1 - probability) + 0.5))


# --- fit ---------------------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=2)
def calibrate(probability: Array, labels: Array, k: int) -> Array:
    """Slope and shift of each class's logistic curve: (n, classes), (n,) -> (classes, 2).

    Platt (1999): the likelihood of targets (N₊ + 1) / (N₊ + 2) and 1 / (N₋ + 2), by Newton's method with the
    best of ten step lengths. A prior worth a thousandth of an example keeps the optimum unique.
    """
    x = log_odds(probability, k)  # (n, classes)
    positive = labels[:, None] == jnp.arange(x.shape[1])
    count = positive.sum(0)
    t = jnp.where(positive, (count + 1) / (count + 2), 1 / (len(x) - count + 2)).astype(x.dtype)
    steps = 2.0 ** -jnp.arange(10, dtype=x.dtype)[:, None]  # (10, 1)

    def cost(a: Array, b: Array) -> Array:
        z = a[:, None] * x + b[:, None]  # (10, n, classes)
        return (jnp.logaddexp(z, 0) - t * z).sum(1) + PRIOR / 2 * ((a - 1) ** 2 + b**2)

    def newton(a: Array, b: Array) -> tuple[Array, Array]:
        q = jax.nn.sigmoid(a * x + b)
        v = q * (1 - q)
        ga, gb = (x * (q - t)).sum(0) + PRIOR * (a - 1), (q - t).sum(0) + PRIOR * b
        haa, hab, hbb = (x * x * v).sum(0) + PRIOR, (x * v).sum(0), v.sum(0) + PRIOR
        determinant = haa * hbb - hab * hab
        return (hab * gb - hbb * ga) / determinant, (hab * ga - haa * gb) / determinant

    def step(_: Any, line: tuple[Array, Array]) -> tuple[Array, Array]:
        a, b = line
        da, db = newton(a, b)
        tried_a, tried_b = a + steps * da, b + steps * db  # (10, classes)
        best = cost(tried_a, tried_b).argmin(0, keepdims=True)
        return jnp.take_along_axis(tried_a, best, 0)[0], jnp.take_along_axis(tried_b, best, 0)[0]

    a, b = lax.fori_loop(0, NEWTON_STEPS, step, (jnp.ones_like(x[0]), jnp.zeros_like(x[0])))
    for _ in range(POLISHES):
        da, db = newton(a, b)
        a, b = a + da, b + db
    return jnp.stack([a, b], 1)


def without_itself(distances: Array, neighbours: Array) -> tuple[Array, Array]:
    """Drop point i from its own neighbours, or the farthest where equals crowd it out: (n, k + 1) -> (n, k)."""
    k = neighbours.shape[1] - 1
    own = neighbours == jnp.arange(len(neighbours))[:, None]
    passed = own[:, :k].cumsum(1)  # 1 from itself on
    kept = jnp.arange(k) + passed
    return jnp.take_along_axis(distances, kept, 1), jnp.take_along_axis(neighbours, kept, 1)


def fit(config: Mapping[str, Any], batch: Mapping[str, Array]) -> dict[str, Array]:
    """Keep the examples; for a classifier, calibrate on each one's vote by the others."""
    points = batch["features"]
    c = configured({**config, "rows": points.shape[0], "features": points.shape[1]})
    answers = batch["labels" if c.classes else "targets"]
    check(np.asarray(points), np.asarray(answers), c.classes)
    if not c.classes:
        return {"points": points, "targets": answers}
    k = min(c.k, c.rows - 1)
    found = jax.jit(nearest, static_argnums=(2, 3))(points, points, k + 1, c)
    distances, neighbours = without_itself(*found)
    calibration = calibrate(vote(distances, answers[neighbours], c), answers, k)
    return {"points": points, "labels": answers, "calibration": calibration}


def loss(outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> Array:
    """Brier's score (1950), halved, so (p − y)² for two classes; mean squared error in regression."""
    if "prediction" in outputs:
        return jnp.mean((outputs["prediction"] - batch["targets"]) ** 2)
    p = outputs["probability"]
    y = batch["labels"][:, None] == jnp.arange(p.shape[1])  # (batch, classes)
    return jnp.mean(((p - y.astype(p.dtype)) ** 2).sum(1)) / 2


def build(config: Mapping[str, Any]) -> nnx.Module:
    """A model without examples: zeros in their place."""
    c = configured(config)
    return Classifier(c) if c.classes else Regressor(c)
