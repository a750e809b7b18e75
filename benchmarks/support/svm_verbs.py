"""One fit of an RBF C-SVC by a side's own SMO, timed in that side's worker."""

from __future__ import annotations

import importlib
import time
from typing import Any

import numpy as np

from twinax.records import Json
from twinax.studies.base import Context
from twinax.twin import Array, Arrays
from twinax.zoo import credit_risk
from twinax.zoo.svm.problem import Config, signs
from twinax.zoo.svm.twin import BASE

GAMMA = 0.02


def loans() -> Arrays:
    """All 4,000 loans of the made-up portfolio: ``features`` (4000, 16) and ``labels``, in float64."""
    data = credit_risk.load("classifier", {}, "", 0, 0)
    parts = [part.take(np.arange(len(part)), 0) for part in (data.train, data.valid, data.test)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def objective(beta: Array, data: Arrays) -> float:
    """½ βᵀKβ − yᵀβ: the dual that is minimised."""
    from sklearn.metrics.pairwise import rbf_kernel

    kernel = rbf_kernel(data["features"], gamma=GAMMA)
    return float(0.5 * beta @ kernel @ beta - signs(data["labels"], (0, 1)) @ beta)


def solve(context: Context, *, C: float, tolerance: float) -> dict[str, Json]:
    """Fit once, the kernel matrix included: ``seconds``, ``objective`` and ``support_vectors``."""
    data = loans()
    c = Config.of(
        {**BASE, "features": data["features"].shape[1], "C": C, "gamma": GAMMA, "tolerance": tolerance}
    )
    fit = {"torch": _torch, "jax": _jax}[context.cell.side]
    y = signs(data["labels"], (0, 1))
    seconds, beta = fit(c, data["features"], y, np.full(len(y), C))
    return {"seconds": seconds, "objective": objective(beta, data), "support_vectors": int((beta != 0).sum())}


def _torch(c: Config, *arrays: Array) -> tuple[float, Array]:
    import torch

    solvers: Any = importlib.import_module("twinax.zoo.svm.torch_solvers")
    x, y, costs = (torch.from_numpy(array) for array in arrays)
    with torch.no_grad():
        start = time.perf_counter()
        gram = solvers.Gram(c, x.new_tensor([GAMMA]), x)
        beta = solvers.c_svc(c, gram, y, costs).coefficients
        return time.perf_counter() - start, beta.numpy()


def _jax(c: Config, *arrays: Array) -> tuple[float, Array]:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    solvers: Any = importlib.import_module("twinax.zoo.svm.jax_solvers")
    x, y, costs = (jnp.asarray(array) for array in arrays)
    start = time.perf_counter()
    gram = solvers.Gram.of(c, jnp.asarray([GAMMA]), x)
    beta = solvers.c_svc(c, gram, y, costs).coefficients.block_until_ready()
    return time.perf_counter() - start, np.asarray(beta)


VERBS = {"solve": solve}
