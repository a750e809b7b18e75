"""Exact k nearest neighbours in PyTorch: search, vote, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from twinax.zoo.knn.plan import NEWTON_STEPS, POLISHES, PRIOR, TINY, Config, Plan, check, configured, plan


class Classifier(nn.Module):
    """The neighbours' labels, voted on."""

    points: Tensor
    labels: Tensor
    calibration: Tensor

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.register_buffer("points", torch.zeros(c.rows, c.features))
        self.register_buffer("labels", torch.zeros(c.rows, dtype=torch.int64))
        self.register_buffer("calibration", torch.zeros(c.classes, 2))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        distances, neighbours = nearest(features, self.points, self.c.k, self.c)  # (batch, k)
        probability = vote(distances, self.labels[neighbours], self.c)  # (batch, classes)
        return {
            "neighbours": neighbours,
            "distances": distances,
            "probability": probability,
            "calibrated": calibrated(self.calibration, probability, self.c.k),
        }


class Regressor(nn.Module):
    """The neighbours' targets, averaged."""

    points: Tensor
    targets: Tensor

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.register_buffer("points", torch.zeros(c.rows, c.features))
        self.register_buffer("targets", torch.zeros(c.rows))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        distances, neighbours = nearest(features, self.points, self.c.k, self.c)  # (batch, k)
        weights = weights_of(distances, self.c.weights)
        prediction = (weights * self.targets[neighbours]).sum(1) / weights.sum(1)  # (batch,)
        return {"neighbours": neighbours, "distances": distances, "prediction": prediction}


# --- search ------------------------------------------------------------------------------------------


def nearest(queries: Tensor, points: Tensor, k: int, c: Config) -> tuple[Tensor, Tensor]:
    """Distances (queries, k) and numbers of the k nearest points, by rising distance, then rising number.

    Float32 bounds, which cost a matrix product, leave a few candidates; their ranks are then computed
    exactly and decide. Where the bounds cannot rule out that a nearer point was left, all are computed.
    """
    p = plan(c, len(queries), k, points.element_size())
    if c.metric == "cosine":
        queries, points = scaled(queries), scaled(points)
    centre = points.mean(0)
    rough = roughly(points, centre, c.metric)  # (n, d)
    sizes = size(rough, c.metric)  # (n,)
    finite = sizes.isfinite().all()
    padding = p.group * p.groups - len(points)
    rough = pad(rough, (0, 0, 0, padding))
    offset = pad(offset_of(sizes, c.metric, p.slack), (0, padding), value=torch.inf)
    room = rough.new_empty(p.block, len(rough))  # of every block's bounds: fresh memory is slow to touch

    def search(block: Tensor) -> tuple[Tensor, Tensor]:
        own = roughly(block, centre, c.metric)
        bounds = lower_bounds(own, rough, offset, c.metric, room[: len(own)])  # (block, group · groups)
        candidates, left_out = smallest(bounds, p)  # (block, candidates), (block,)
        candidates = candidates.clamp(max=len(points) - 1)
        near, numbers = first(ranks(block[:, None], points[candidates], c.metric), candidates, k)
        floor = rank_of(left_out + own_term(size(own, c.metric), c.metric, p.slack), c.metric)
        sure = finite & floor.isfinite() & (near[:, -1] < floor)
        if p.candidates == len(points):  # nothing was left out
            return near, numbers
        for row in torch.nonzero(~sure).flatten():
            everyone = torch.arange(len(points), device=points.device)
            near[row], numbers[row] = first(ranks(block[row], points, c.metric), everyone, k)
        return near, numbers

    found = [search(block) for block in queries.split(max(p.block, 1))]
    near, numbers = (torch.cat(parts) for parts in zip(*found, strict=True))
    return distances_of(near, c.metric), numbers


def scaled(x: Tensor) -> Tensor:
    """Vectors over the power of two that brings their largest number to between ½ and 1: no digit is lost."""
    largest = x.abs().amax(1, keepdim=True)
    return x / torch.where(largest == 0, 1.0, largest / torch.frexp(largest).mantissa)


def roughly(x: Tensor, centre: Tensor, metric: str) -> Tensor:
    """Vectors in float32: from the centre, which keeps them small; for the cosine, of length one."""
    if metric != "cosine":
        return (x - centre).float()
    length = x.float().square().sum(1, keepdim=True).sqrt()
    return x.float() / torch.where(length == 0, 1.0, length)


def size(x: Tensor, metric: str) -> Tensor:
    """What a vector's rounding errors are in proportion to: (…, d) -> (…)."""
    if metric == "l2":
        return (x * x).sum(-1)
    return x.abs().sum(-1) if metric == "l1" else torch.ones_like(x[..., 0]) + 0 * x.sum(-1)


def offset_of(sizes: Tensor, metric: str, slack: float) -> Tensor:
    """The part of a lower bound that depends on the point alone."""
    return {"l2": (1 - slack) * sizes, "l1": -slack * sizes, "cosine": -slack * sizes}[metric]


def own_term(sizes: Tensor, metric: str, slack: float) -> Tensor:
    """The part of a lower bound that depends on the query alone."""
    return {"l2": (1 - slack) * sizes, "l1": -slack * sizes, "cosine": 1 - slack * sizes}[metric] - TINY


def lower_bounds(own: Tensor, rough: Tensor, offset: Tensor, metric: str, room: Tensor) -> Tensor:
    """Bounds below every distance (squared in l2), less the query's own term: (b, d), (n, d) -> (b, n)."""
    if metric == "l1":
        return torch.add(torch.cdist(own, rough, p=1), offset, out=room)
    return torch.addmm(offset, own, rough.T, alpha=-2 if metric == "l2" else -1, out=room)


def smallest(bounds: Tensor, p: Plan) -> tuple[Tensor, Tensor]:
    """The candidates with the smallest bounds, by rising number, and the largest of these bounds.

    They lie in the groups with the smallest minima, of which there need be no more than candidates.
    """
    tiles = bounds.view(-1, p.group, p.groups)  # point i · groups + j is member i of group j
    groups = tiles.amin(1).topk(p.candidates, largest=False).indices  # (b, candidates)
    members = tiles.gather(2, groups[:, None].expand(-1, p.group, -1)).flatten(1)  # (b, group · candidates)
    lowest, place = members.topk(p.candidates, largest=False)
    member, column = place // p.candidates, place % p.candidates
    return (member * p.groups + groups.gather(1, column)).sort(1).values, lowest.amax(1)


def ranks(x: Tensor, y: Tensor, metric: str) -> Tensor:
    """What points are ranked by, (…, d) -> (…); the same bits on both sides.

    That is a number which rises with the distance and needs no root, so that equal distances between small
    integers come out equal: Σ |x − y|, Σ (x − y)², and −(x·y) |x·y| / (Σ x² Σ y²).
    """
    if metric != "cosine":
        return fold((x - y).abs() if metric == "l1" else (x - y) ** 2)
    product, lengths = fold(x * y), fold(x * x) * fold(y * y)
    return torch.where(lengths == 0, 0.0, -product * product.abs() / lengths)


def rank_of(distances: Tensor, metric: str) -> Tensor:
    """The rank of a distance (squared in l2)."""
    return (distances - 1) * (distances - 1).abs() if metric == "cosine" else distances


def distances_of(ranks: Tensor, metric: str) -> Tensor:
    """Distances from what points are ranked by."""
    if metric == "cosine":
        return (1 + ranks.sign() * ranks.abs().sqrt()).clamp(0, 2)
    return ranks.sqrt() if metric == "l2" else ranks


def fold(x: Tensor) -> Tensor:
    """The sum over the last axis, in an order that is stated: halves are added until one number is left."""
    while (length := x.shape[-1]) > 1:
        half = length // 2
        x = torch.cat([x[..., :half] + x[..., half : 2 * half], x[..., 2 * half :]], -1)
    return x[..., 0]


def first(ranks: Tensor, numbers: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest ranks and their points; ``numbers`` rise, and of equal ranks the lowest comes first."""
    ranks, order = ranks.sort(stable=True)
    return ranks[..., :k], numbers.gather(-1, order)[..., :k]


# --- vote --------------------------------------------------------------------------------------------


def weights_of(distances: Tensor, weights: str) -> Tensor:
    """Each neighbour's weight; NaN where a distance is not finite."""
    if weights == "uniform":
        return torch.where(distances.isfinite(), 1.0, torch.nan).to(distances.dtype)
    inverse = 1 / distances
    same = inverse.isinf()  # the distance is 0
    return torch.where(same.any(1, keepdim=True), same.to(inverse.dtype), inverse)


def vote(distances: Tensor, labels: Tensor, c: Config) -> Tensor:
    """Each class's share of the neighbours' weights: (b, k) -> (b, classes)."""
    weights = weights_of(distances, c.weights)
    votes = labels[..., None] == torch.arange(c.classes, device=labels.device)  # (b, k, classes)
    return (weights[..., None] * votes).sum(1) / weights.sum(1, keepdim=True)


def calibrated(calibration: Tensor, probability: Tensor, k: int) -> Tensor:
    """Platt's logistic curve of each class's log-odds, scaled so that the classes add up to one."""
    slope, shift = calibration.T  # (classes,)
    curve = torch.sigmoid(slope * log_odds(probability, k) + shift)
    return curve / curve.sum(1, keepdim=True)


def log_odds(probability: Tensor, k: int) -> Tensor:
    """Log-odds of k votes with half a vote added to both sides, so that no odds are infinite."""
    return torch.log((k * probability + 0.5) / (k * (1 - probability) + 0.5))


# --- fit ---------------------------------------------------------------------------------------------


def calibrate(probability: Tensor, labels: Tensor, k: int) -> Tensor:
    """Slope and shift of each class's logistic curve: (n, classes), (n,) -> (classes, 2).

    Platt (1999): the likelihood of targets (N₊ + 1) / (N₊ + 2) and 1 / (N₋ + 2), by Newton's method with the
    best of ten step lengths. A prior worth a thousandth of an example keeps the optimum unique.
    """
    x = log_odds(probability, k)  # (n, classes)
    positive = labels[:, None] == torch.arange(x.shape[1], device=x.device)
    count = positive.sum(0).to(x.dtype)  # two whole numbers would divide in float32
    t = torch.where(positive, (count + 1) / (count + 2), 1 / (len(x) - count + 2))
    a, b = torch.ones_like(x[0]), torch.zeros_like(x[0])
    steps = 2.0 ** -torch.arange(10, device=x.device, dtype=x.dtype)[:, None]  # (10, 1)

    def cost(a: Tensor, b: Tensor) -> Tensor:
        z = a[:, None] * x + b[:, None]  # (10, n, classes)
        return (torch.logaddexp(z, torch.zeros_like(z)) - t * z).sum(1) + PRIOR / 2 * ((a - 1) ** 2 + b**2)

    def newton(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        q = torch.sigmoid(a * x + b)
        v = q * (1 - q)
        ga, gb = (x * (q - t)).sum(0) + PRIOR * (a - 1), (q - t).sum(0) + PRIOR * b
        haa, hab, hbb = (x * x * v).sum(0) + PRIOR, (x * v).sum(0), v.sum(0) + PRIOR
        determinant = haa * hbb - hab * hab
        return (hab * gb - hbb * ga) / determinant, (hab * ga - haa * gb) / determinant

    for _ in range(NEWTON_STEPS):
        da, db = newton(a, b)
        tried_a, tried_b = a + steps * da, b + steps * db  # (10, classes)
        best = cost(tried_a, tried_b).argmin(0, keepdim=True)
        a, b = tried_a.gather(0, best)[0], tried_b.gather(0, best)[0]
    for _ in range(POLISHES):
        da, db = newton(a, b)
        a, b = a + da, b + db
    return torch.stack([a, b], 1)


def without_itself(distances: Tensor, neighbours: Tensor) -> tuple[Tensor, Tensor]:
    """Drop point i from its own neighbours, or the farthest where equals crowd it out: (n, k + 1) -> (n, k)."""
    k = neighbours.shape[1] - 1
    own = neighbours == torch.arange(len(neighbours), device=neighbours.device)[:, None]
    passed = own[:, :k].cumsum(1)  # 1 from itself on
    kept = torch.arange(k, device=neighbours.device) + passed
    return distances.gather(1, kept), neighbours.gather(1, kept)


def fit(config: Mapping[str, Any], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep the examples; for a classifier, calibrate on each one's vote by the others."""
    points = batch["features"]
    c = configured({**config, "rows": points.shape[0], "features": points.shape[1]})
    answers = batch["labels" if c.classes else "targets"]
    check(points.cpu().numpy(), answers.cpu().numpy(), c.classes)
    if not c.classes:
        return {"points": points, "targets": answers}
    k = min(c.k, c.rows - 1)
    distances, neighbours = without_itself(*nearest(points, points, k + 1, c))
    calibration = calibrate(vote(distances, answers[neighbours], c), answers, k)
    return {"points": points, "labels": answers, "calibration": calibration}


def loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Brier's score (1950), halved, so (p − y)² for two classes; mean squared error in regression."""
    if "prediction" in outputs:
        return torch.mean((outputs["prediction"] - batch["targets"]) ** 2)
    p = outputs["probability"]
    y = batch["labels"][:, None] == torch.arange(p.shape[1], device=p.device)  # (batch, classes)
    return torch.mean(((p - y.to(p.dtype)) ** 2).sum(1)) / 2


def build(config: Mapping[str, Any]) -> nn.Module:
    """A model without examples: zeros in their place."""
    c = configured(config)
    return Classifier(c) if c.classes else Regressor(c)
