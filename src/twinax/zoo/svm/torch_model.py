"""Support vector machines in PyTorch: decision functions, probabilities, losses, and how they are fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from twinax.zoo.svm import problem
from twinax.zoo.svm.problem import Config
from twinax.zoo.svm.torch_kernels import Gram, kernel
from twinax.zoo.svm.torch_solvers import Solved, c_svc, linear_svc, platt, svr


class KernelMachine(nn.Module):
    """f(x) = Σ βᵢ K(sᵢ, x) + b for each machine."""

    gamma: Tensor
    prob_a: Tensor
    prob_b: Tensor

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.support_vectors = nn.Parameter(torch.zeros(c.support_vectors, c.features))
        self.dual_coef = nn.Parameter(torch.zeros(c.machines, c.support_vectors))
        self.intercept = nn.Parameter(torch.zeros(c.machines))
        self.register_buffer("gamma", torch.ones(1))
        if not c.regression:
            self.register_buffer("prob_a", torch.zeros(c.machines))
            self.register_buffer("prob_b", torch.zeros(c.machines))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        similar = kernel(self.c, self.gamma, features, self.support_vectors)  # (batch, d) -> (batch, m)
        decision = similar @ self.dual_coef.T + self.intercept  # (batch, machines)
        if self.c.regression:
            return tube(decision[:, 0], self.c.epsilon)
        return {"decision": decision, "probability": probability(decision, self.prob_a, self.prob_b, self.c)}


class LinearMachine(nn.Module):
    """f(x) = w·x + b for each machine."""

    prob_a: Tensor
    prob_b: Tensor

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.coef = nn.Parameter(torch.zeros(c.machines, c.features))
        self.intercept = nn.Parameter(torch.zeros(c.machines))
        self.register_buffer("prob_a", torch.zeros(c.machines))
        self.register_buffer("prob_b", torch.zeros(c.machines))

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        decision = features @ self.coef.T + self.intercept  # (batch, d) -> (batch, machines)
        return {"decision": decision, "probability": probability(decision, self.prob_a, self.prob_b, self.c)}


def tube(values: Tensor, epsilon: float) -> dict[str, Tensor]:
    """The predicted values (batch,) and the tube around them (batch, 2) in which an error costs nothing."""
    return {"prediction": values, "tube": torch.stack([values - epsilon, values + epsilon], 1)}


def probability(decision: Tensor, a: Tensor, b: Tensor, c: Config) -> Tensor:
    """(batch, machines) -> (batch, classes): Platt's sigmoids, coupled (Wu, Lin & Weng, 2004, method 2).

    r_ij is a machine's P(class i | class i or j); p solves min Σ_ij (r_ji pᵢ − r_ij pⱼ)², Σ p = 1: a linear
    system, since no bound is active. With two classes p is r.
    """
    second = torch.sigmoid(-(a * decision + b))  # P(the pair's second class)
    if c.classes == 2:
        return torch.cat([1 - second, second], 1)
    second = second.clamp(problem.CERTAIN, 1 - problem.CERTAIN)
    r = decision.new_zeros(len(decision), c.classes, c.classes)
    for machine, (i, j) in enumerate(c.pairs):
        r[:, i, j], r[:, j, i] = 1 - second[:, machine], second[:, machine]
    q = (
        torch.diag_embed((r * r).sum(1)) - r * r.mT
    )  # (batch, k, k): Σ_s r_si² on the diagonal, −r_ij r_ji off it
    ones = torch.ones_like(q[:, :, :1])
    top, bottom = torch.cat([q, ones], 2), torch.cat([ones.mT, torch.zeros_like(ones[:, :1])], 2)
    system = torch.cat([top, bottom], 1)  # (batch, k + 1, k + 1)
    right = torch.zeros_like(system[:, :, :1])
    right[:, -1] = 1
    return torch.linalg.solve(system, right)[:, :-1, 0]


def loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Mean hinge loss max(0, 1 − y f) over each machine's examples; in regression, distance from the tube."""
    if "tube" in outputs:
        low, high = outputs["tube"].unbind(1)
        targets = batch["targets"]
        return torch.relu(torch.maximum(low - targets, targets - high)).mean()
    decision, labels = outputs["decision"], batch["labels"]
    classes = outputs["probability"].shape[1]
    first, second = torch.triu_indices(classes, classes, 1, device=labels.device)  # (machines,) each
    y = (labels[:, None] == second).to(decision) - (labels[:, None] == first).to(decision)  # (batch, machines)
    # an example takes part in classes − 1 machines; y is 0 in the others
    return (y.abs() * torch.relu(1 - y * decision)).sum() / (len(labels) * (classes - 1))


def build(config: Mapping[str, Any]) -> nn.Module:
    """The machine that the configuration describes, with weights 0."""
    c = Config.of(config)
    return KernelMachine(c) if c.solver == "smo" else LinearMachine(c)


def fit(config: Mapping[str, Any], batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The machine's weights for these training examples, under the names that :func:`build` gives them.

    ``batch``: ``features`` (n, d); ``labels`` (n,) or ``targets`` (n,).

    Raises:
        BadInput: Settings or examples cannot be used, or the solver came to its limit.
    """
    c = Config.of(config)
    features = batch["features"]
    targets = batch["targets" if c.regression else "labels"]
    problem.check_data(c, features.cpu().numpy(), targets.cpu().numpy())
    if c.solver != "smo":
        machines, weights = classify(c, batch, lambda signs, costs: linear_svc(c, features, signs, costs))
        return {"coef": torch.stack([each.coefficients for each in machines]), **weights}
    gamma = features.new_tensor([problem.scale(c, features.cpu().numpy())])
    gram = Gram(c, gamma, features)
    if c.regression:
        machine = svr(c, gram, targets)
        machines, weights = [machine], {"intercept": machine.intercept[None]}
    else:
        machines, weights = classify(c, batch, lambda signs, costs: c_svc(c, gram, signs, costs))
    beta = torch.stack([each.coefficients for each in machines])  # (machines, n)
    kept = (beta != 0).any(0)
    return {"support_vectors": features[kept], "dual_coef": beta[:, kept], "gamma": gamma, **weights}


def classify(
    c: Config, batch: Mapping[str, Tensor], solve: Callable[[Tensor, Tensor], Solved]
) -> tuple[list[Solved], dict[str, Tensor]]:
    """A machine for each pair of classes; intercepts, and probabilities from examples held out of its fit."""
    features, labels = batch["features"], batch["labels"].cpu().numpy()
    costs = features.new_tensor(problem.costs(c, labels))  # (n,)
    folds = torch.from_numpy(problem.folds(labels)).to(features.device)  # (n,)
    machines, scales = [], []
    for pair in c.pairs:
        signs = features.new_tensor(problem.signs(labels, pair))  # (n,)
        machines.append(solve(signs, costs))
        held_out = torch.zeros_like(signs)
        for fold in range(problem.FOLDS):
            rest = solve(torch.where(folds == fold, 0.0, signs), costs)
            held_out = torch.where(folds == fold, rest.decisions, held_out)
        scales.append(torch.stack(platt(held_out, signs)))
    prob_a, prob_b = torch.stack(scales, 1)
    intercept = torch.stack([each.intercept for each in machines])
    return machines, {"intercept": intercept, "prob_a": prob_a, "prob_b": prob_b}
