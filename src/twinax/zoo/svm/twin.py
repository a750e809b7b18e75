"""Twins ``svm`` (RBF C-SVC), ``svm/linear`` (linear C-SVC) and ``svm/regressor`` (RBF ε-SVR)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from twinax.records import Json, Recipe, Size
from twinax.twin import Array, Arrays, Config, Task, Twin
from twinax.zoo import credit_risk
from twinax.zoo.svm import problem

BASE: Config = {
    "features": 16,
    "classes": 2,
    "regression": False,
    "solver": "smo",
    "loss": "hinge",
    "kernel": "rbf",
    "C": 1.0,
    "gamma": "scale",
    "degree": 3,
    "coef0": 0.0,
    "epsilon": 0.1,
    "class_weight": None,
    "tolerance": 1e-3,
    "iterations": 1_000_000,
    "budget_mib": 1024,
    "support_vectors": 64,
}


def init(config: Config, seed: int) -> Arrays:
    """Random support vectors and coefficients, of the sizes that the configuration has.

    Decision values are of the order of 1: n coefficients have deviation 1 / √n.
    """
    rng = np.random.default_rng(seed)
    c = problem.Config.of(config)

    def normal(*shape: int, deviation: float = 1.0) -> Array:
        return rng.normal(0.0, deviation, shape).astype(np.float32)

    weights: Arrays = {}
    if c.solver == "smo":
        weights["support_vectors"] = normal(c.support_vectors, c.features)
        weights["dual_coef"] = normal(c.machines, c.support_vectors, deviation=c.support_vectors**-0.5)
        # features of variance 1
        gamma = 1 / c.features if isinstance(c.gamma, str) else c.gamma
        weights["gamma"] = np.full(1, gamma, np.float32)
    else:
        weights["coef"] = normal(c.machines, c.features, deviation=c.features**-0.5)
    weights["intercept"] = normal(c.machines, deviation=0.1)
    if not c.regression:
        weights["prob_a"] = -rng.uniform(1, 2, c.machines).astype(np.float32)
        weights["prob_b"] = normal(c.machines, deviation=0.1)
    return weights


def batches(config: Config, size: Size, seed: int, count: int) -> list[Arrays]:
    """``features`` (batch, d), standard normal; ``labels`` (batch,) int64, or ``targets`` (batch,).

    Labels are bands of equal probability of the first two features' sum, and targets its sine: something
    to learn.
    """
    rng = np.random.default_rng([seed, 0x5B])
    made = []
    for _ in range(count):
        features = rng.standard_normal((size.batch, int(config["features"])), dtype=np.float32)
        total = features[:, :2].sum(1)
        if config["regression"]:
            made.append({"features": features, "targets": np.sin(total)})
            continue
        level = [0.5 * (1 + math.erf(float(x) / 2)) for x in total]  # uniform in 0 to 1
        labels = np.asarray(level) * int(config["classes"])
        made.append({"features": features, "labels": labels.astype(np.int64)})
    return made


def fitted(config: Config, weights: Arrays) -> Config:
    """The configuration with as many support vectors as were found."""
    if "support_vectors" not in weights:
        return config
    return {**config, "support_vectors": len(weights["support_vectors"])}


def _task(kind: str, settings: dict[str, Json], goal: Mapping[str, Json]) -> Task:
    """Settings that were best on validation examples of the made-up portfolio; test examples had no say."""
    recipe = Recipe(config=settings)
    return credit_risk.task(kind, {"tiny": recipe, "full": recipe}, goal)


def _twin(name: str, title: str, config: Config, task: Task, notes: tuple[str, ...]) -> Twin:
    return Twin(
        name=name,
        title=title,
        sides={"torch": "twinax.zoo.svm.torch_model", "jax": "twinax.zoo.svm.jax_model"},
        config={**BASE, **config},
        init=init,
        batches=batches,
        inputs=("features",),
        presets={
            # odd: with as many examples of one class as of the other the intercept's gradient is 0
            "parity": Size(batch=9),
            "parity_quick": Size(batch=9),
            "speed": Size(batch=1024),
            "speed_quick": Size(batch=256),
        },
        programs=("forward", "loss", "grad", "step", "fit"),
        fitted=fitted,
        task=task,
        notes=notes,
    )


_SMO = (
    "Fitting: the torch side takes its steps in a Python loop of small tensor operations, the JAX side in one "
    "compiled loop."
)
_PLATT = "Probabilities are fitted on five folds of held-out decisions: fitting costs six solves."

TWINS = (
    _twin(
        "svm",
        "Support vector machine, C-SVC with an RBF kernel (Cortes & Vapnik, 1995): who will default",
        {},
        _task(
            "classifier",
            {"gamma": 0.02},
            {
                "at_least": {"auc": 0.87},
                "claim": "The machine ranks borrowers with an AUC of at least 0.87.",
            },
        ),
        (_SMO, _PLATT),
    ),
    _twin(
        "svm/linear",
        "Support vector machine, linear C-SVC by coordinate descent (Hsieh et al., 2008): who will default",
        {"solver": "dual", "kernel": "linear", "C": 0.01, "tolerance": 1e-4, "iterations": 10_000},
        _task(
            "classifier",
            {},
            {
                "at_least": {"auc": 0.86},
                "claim": "The machine ranks borrowers with an AUC of at least 0.86.",
            },
        ),
        (_PLATT, "The intercept is part of the norm that is kept small, as in liblinear."),
    ),
    _twin(
        "svm/regressor",
        "Support vector machine, ε-SVR with an RBF kernel (Drucker et al., 1997): what is lost by a default",
        {"regression": True, "epsilon": 0.5, "C": 3.0},
        _task(
            "regressor",
            {"gamma": 0.02},
            {
                "at_most": {"rmse": 0.195},
                "claim": "The machine says which share of a loan is lost, with an RMSE of at most 0.195.",
            },
        ),
        (_SMO,),
    ),
)
