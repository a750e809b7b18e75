"""Support vector machines in JAX (Flax NNX): decision functions, probabilities, losses, how they are fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array

from twinax.zoo.svm import problem
from twinax.zoo.svm.jax_kernels import Gram, Kernel, kernel
from twinax.zoo.svm.jax_solvers import Solved, c_svc, linear_svc, platt, svr
from twinax.zoo.svm.problem import Config


class KernelMachine(nnx.Module):
    """f(x) = Σ βᵢ K(sᵢ, x) + b for each machine."""

    def __init__(self, c: Config) -> None:
        self.c = c
        self.support_vectors = nnx.Param(jnp.zeros((c.support_vectors, c.features)))
        self.dual_coef = nnx.Param(jnp.zeros((c.machines, c.support_vectors)))
        self.intercept = nnx.Param(jnp.zeros(c.machines))
        self.gamma = nnx.Variable(jnp.ones(1))
        if not c.regression:
            self.prob_a = nnx.Variable(jnp.zeros(c.machines))
            self.prob_b = nnx.Variable(jnp.zeros(c.machines))

    def __call__(self, features: Array) -> dict[str, Array]:
        # (batch, d) -> (batch, m)
        similar = kernel(Kernel.of(self.c), self.gamma[...], features, self.support_vectors[...])
        decision = similar @ self.dual_coef[...].T + self.intercept[...]  # (batch, machines)
        if self.c.regression:
            return tube(decision[:, 0], self.c.epsilon)
        couple = probability(decision, self.prob_a[...], self.prob_b[...], self.c)
        return {"decision": decision, "probability": couple}


class LinearMachine(nnx.Module):
    """f(x) = w·x + b for each machine."""

    def __init__(self, c: Config) -> None:
        self.c = c
        self.coef = nnx.Param(jnp.zeros((c.machines, c.features)))
        self.intercept = nnx.Param(jnp.zeros(c.machines))
        self.prob_a = nnx.Variable(jnp.zeros(c.machines))
        self.prob_b = nnx.Variable(jnp.zeros(c.machines))

    def __call__(self, features: Array) -> dict[str, Array]:
        decision = features @ self.coef[...].T + self.intercept[...]  # (batch, d) -> (batch, machines)
        couple = probability(decision, self.prob_a[...], self.prob_b[...], self.c)
        return {"decision": decision, "probability": couple}


def tube(values: Array, epsilon: float) -> dict[str, Array]:
    """The predicted values (batch,) and the tube around them (batch, 2) in which an error costs nothing."""
    return {"prediction": values, "tube": jnp.stack([values - epsilon, values + epsilon], 1)}


def probability(decision: Array, a: Array, b: Array, c: Config) -> Array:
    """(batch, machines) -> (batch, classes): Platt's sigmoids, coupled (Wu, Lin & Weng, 2004, method 2).

    r_ij is a machine's P(class i | class i or j); p solves min Σ_ij (r_ji pᵢ − r_ij pⱼ)², Σ p = 1: a linear
    system, since no bound is active. With two classes p is r.
    """
    second = jax.nn.sigmoid(-(a * decision + b))  # P(the pair's second class)
    if c.classes == 2:
        return jnp.concatenate([1 - second, second], 1)
    second = jnp.clip(second, problem.CERTAIN, 1 - problem.CERTAIN)
    r = jnp.zeros((len(decision), c.classes, c.classes), decision.dtype)
    for machine, (i, j) in enumerate(c.pairs):
        r = r.at[:, i, j].set(1 - second[:, machine]).at[:, j, i].set(second[:, machine])
    # (batch, k, k): Σ_s r_si² on the diagonal, −r_ij r_ji off it
    q = (r * r).sum(1)[:, :, None] * jnp.eye(c.classes, dtype=r.dtype) - r * r.mT
    ones = jnp.ones_like(q[:, :, :1])
    top = jnp.concatenate([q, ones], 2)
    bottom = jnp.concatenate([ones.mT, jnp.zeros_like(ones[:, :1])], 2)
    system = jnp.concatenate([top, bottom], 1)  # (batch, k + 1, k + 1)
    right = jnp.zeros_like(system[:, :, :1]).at[:, -1].set(1)
    return jnp.linalg.solve(system, right)[:, :-1, 0]


def loss(outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> Array:
    """Mean hinge loss max(0, 1 − y f) over each machine's examples; in regression, distance from the tube."""
    if "tube" in outputs:
        low, high = outputs["tube"][:, 0], outputs["tube"][:, 1]
        targets = batch["targets"]
        return jax.nn.relu(jnp.maximum(low - targets, targets - high)).mean()
    decision, labels = outputs["decision"], batch["labels"]
    classes = outputs["probability"].shape[1]
    first, second = jnp.triu_indices(classes, 1)  # (machines,) each
    # (batch, machines)
    y = (labels[:, None] == second).astype(decision.dtype) - (labels[:, None] == first).astype(decision.dtype)
    # an example takes part in classes − 1 machines; y is 0 in the others
    return (jnp.abs(y) * jax.nn.relu(1 - y * decision)).sum() / (len(labels) * (classes - 1))


def build(config: Mapping[str, Any]) -> nnx.Module:
    """The machine that the configuration describes, with weights 0."""
    c = Config.of(config)
    return KernelMachine(c) if c.solver == "smo" else LinearMachine(c)


def fit(config: Mapping[str, Any], batch: Mapping[str, Array]) -> dict[str, Array]:
    """The machine's weights for these training examples, under the names that :func:`build` gives them.

    ``batch``: ``features`` (n, d); ``labels`` (n,) or ``targets`` (n,).

    Raises:
        BadInput: Settings or examples cannot be used, or the solver came to its limit.
    """
    c = Config.of(config)
    features = batch["features"]
    targets = batch["targets" if c.regression else "labels"]
    problem.check_data(c, np.asarray(features), np.asarray(targets))
    if c.solver != "smo":
        machines, weights = classify(c, batch, lambda signs, costs: linear_svc(c, features, signs, costs))
        return {"coef": jnp.stack([each.coefficients for each in machines]), **weights}
    gamma = jnp.asarray([problem.scale(c, np.asarray(features))], features.dtype)
    gram = Gram.of(c, gamma, features)
    if c.regression:
        machine = svr(c, gram, targets)
        machines, weights = [machine], {"intercept": machine.intercept[None]}
    else:
        machines, weights = classify(c, batch, lambda signs, costs: c_svc(c, gram, signs, costs))
    beta = jnp.stack([each.coefficients for each in machines])  # (machines, n)
    kept = jnp.flatnonzero((beta != 0).any(0))
    return {"support_vectors": features[kept], "dual_coef": beta[:, kept], "gamma": gamma, **weights}


def classify(
    c: Config, batch: Mapping[str, Array], solve: Callable[[Array, Array], Solved]
) -> tuple[list[Solved], dict[str, Array]]:
    """A machine for each pair of classes; intercepts, and probabilities from examples held out of its fit."""
    features, labels = batch["features"], np.asarray(batch["labels"])
    costs = jnp.asarray(problem.costs(c, labels), features.dtype)  # (n,)
    folds = jnp.asarray(problem.folds(labels))  # (n,)
    machines, scales = [], []
    for pair in c.pairs:
        signs = jnp.asarray(problem.signs(labels, pair), features.dtype)  # (n,)
        machines.append(solve(signs, costs))
        held_out = jnp.zeros_like(signs)
        for fold in range(problem.FOLDS):
            rest = solve(jnp.where(folds == fold, 0.0, signs), costs)
            held_out = jnp.where(folds == fold, rest.decisions, held_out)
        scales.append(jnp.stack(platt(held_out, signs)))
    prob_a, prob_b = jnp.stack(scales, 1)
    intercept = jnp.stack([each.intercept for each in machines])
    return machines, {"intercept": intercept, "prob_a": prob_a, "prob_b": prob_b}
