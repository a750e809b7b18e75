"""Twins ``knn`` (credit default, with probabilities) and ``knn/regressor`` (loss given default)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from twinax.records import Json, Recipe, Size
from twinax.twin import Arrays, Config, Twin
from twinax.zoo.credit_risk import task

_SIDES = {"torch": "twinax.zoo.knn.torch_model", "jax": "twinax.zoo.knn.jax_model"}
_CONFIG = {"k": 10, "metric": "l2", "weights": "uniform", "budget_mib": 64.0, "rows": 2000, "features": 32}


def init(config: Config, seed: int) -> Arrays:
    """Normal points, labels or targets that follow their first feature, a calibration near 1, 0."""
    rng = np.random.default_rng(seed)
    rows, classes = int(config["rows"]), int(config["classes"])
    points = rng.standard_normal((rows, int(config["features"]))).astype(np.float32)
    leaning = points[:, 0] + rng.standard_normal(rows).astype(np.float32)
    if not classes:
        return {"points": points, "targets": leaning}
    labels = np.argsort(np.argsort(leaning)) * classes // rows  # classes of equal size
    calibration = np.stack([rng.uniform(0.8, 1.2, classes), rng.uniform(-0.2, 0.2, classes)], 1)
    return {"points": points, "labels": labels, "calibration": calibration.astype(np.float32)}


def batches(config: Config, size: Size, seed: int, count: int) -> list[Arrays]:
    """Queries from the same distribution as the points, and answers drawn apart from them."""
    rng = np.random.default_rng([seed, 0x6B])
    classes = int(config["classes"])
    made = []
    for _ in range(count):
        features = rng.standard_normal((size.batch, int(config["features"]))).astype(np.float32)
        answers: Arrays = (
            {"labels": rng.integers(0, classes, size.batch)}
            if classes
            else {"targets": rng.standard_normal(size.batch).astype(np.float32)}
        )
        made.append({"features": features, **answers})
    return made


def fitted(config: Config, weights: Arrays) -> Config:
    """The configuration with the number of training examples and of their features."""
    rows, features = weights["points"].shape
    return {**config, "rows": rows, "features": features}


def _twin(
    name: str, title: str, classes: int, kind: str, config: Mapping[str, Json], goal: Mapping[str, Json]
) -> Twin:
    recipe = Recipe(config=dict(config))
    return Twin(
        name=name,
        title=title,
        sides=_SIDES,
        config={**_CONFIG, "classes": classes},
        init=init,
        batches=batches,
        inputs=("features",),
        presets={
            "parity": Size(batch=64),
            "parity_quick": Size(batch=16),
            "speed": Size(batch=1024),
            "speed_quick": Size(batch=256),
        },
        programs=("forward", "loss", "fit"),
        fitted=fitted,
        task=task(kind, {"tiny": recipe, "full": recipe}, goal),
        notes=(
            "Points at the same distance are ranked by their number. Distances are summed in one stated order, "
            "so that both sides find the same ties.",
        ),
    )


TWINS = (
    _twin(
        "knn",
        "k nearest neighbours, exact, with calibrated probabilities (Cover & Hart, 1967; Platt, 1999)",
        2,
        "classifier",
        {"k": 50, "metric": "l1", "weights": "distance"},
        {"at_least": {"auc": 0.8}, "claim": "The neighbours rank borrowers with an AUC of at least 0.8."},
    ),
    _twin(
        "knn/regressor",
        "k nearest neighbours, exact, for regression (Cover & Hart, 1967)",
        0,
        "regressor",
        {"k": 20, "metric": "l2", "weights": "distance"},
        {
            "at_most": {"rmse": 0.24},
            "claim": "The neighbours say which share of a loan is lost, with an RMSE of at most 0.24.",
        },
    ),
)
