"""The solvers in PyTorch: SMO, dual coordinate descent, Newton, and Newton for Platt's two numbers."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from twinax.zoo.svm import problem
from twinax.zoo.svm.problem import Config
from twinax.zoo.svm.torch_kernels import Gram

BLOCK = 128  # examples whose products with each other coordinate descent computes at a time


class Solved(NamedTuple):
    """A decision function f.

    Attributes:
        coefficients: β (n,) of Σ βᵢ K(xᵢ, x) + b, or w (d,) of w·x + b.
        intercept: b.
        decisions: f of every training example (n,).
    """

    coefficients: Tensor
    intercept: Tensor
    decisions: Tensor


# --- SMO -----------------------------------------------------------------------------------------


def c_svc(c: Config, gram: Gram, signs: Tensor, costs: Tensor) -> Solved:
    """C-SVC (Cortes & Vapnik, 1995): min ½ βᵀKβ − yᵀβ, Σβ = 0, 0 ≤ yᵢβᵢ ≤ Cᵢ; β = y α.

    ``signs`` (n,) is y, or 0 for an example that has no part in it; ``costs`` (n,) is C.
    """
    bound = signs * costs
    return smo(c, gram, -signs[None], bound.clamp(max=0)[None], bound.clamp(min=0)[None])


def svr(c: Config, gram: Gram, targets: Tensor) -> Solved:
    """ε-SVR (Drucker et al., 1997): min ½ βᵀKβ − zᵀβ + ε Σ|βᵢ|, Σβ = 0, |βᵢ| ≤ C; β = β⁺ + β⁻."""
    linear = torch.stack([c.epsilon - targets, -c.epsilon - targets])  # (2, n): of β⁺ ≥ 0, of β⁻ ≤ 0
    zero, full = torch.zeros_like(targets), torch.full_like(targets, c.C)
    return smo(c, gram, linear, torch.stack([zero, -full]), torch.stack([full, zero]))


def smo(c: Config, gram: Gram, linear: Tensor, lower: Tensor, upper: Tensor) -> Solved:
    """min ½ βᵀKβ + pᵀβ, Σβ constant, L ≤ β ≤ U, by pairs (Platt, 1998; pairs as Fan, Chen & Lin, 2005).

    p, L and U are (r, n): r variables for each example, of which the machine sees the sum.

    Raises:
        BadInput: The step limit was reached; it states the violation that is left.
    """
    beta, steps, violation = torch.zeros_like(linear), 0, math.inf
    for _ in range(problem.REFRESHES):
        values = gram.times(beta.sum(0))  # (n,); anew, so that rounding cannot add up unseen
        slope = -(values + linear)  # (r, n): the way down
        violation = most_violating(slope, beta, lower, upper)
        if violation <= c.tolerance or steps >= c.iterations:
            break
        beta, taken = _descend(c, gram, slope, beta, lower, upper, c.iterations - steps)
        steps += taken
    if not violation <= c.tolerance:
        raise problem.unsolved(c, steps, violation)
    intercept = _intercept(slope, beta, lower, upper)
    return Solved(beta.sum(0), intercept, values + intercept)


def most_violating(slope: Tensor, beta: Tensor, lower: Tensor, upper: Tensor) -> float:
    """max slope of what can grow − min slope of what can shrink: at most 0 at the optimum."""
    return float(slope[beta < upper].max() - slope[beta > lower].min())


def _intercept(slope: Tensor, beta: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """b: the mean slope of variables between their bounds; without one, the middle of what is allowed."""
    free = (beta > lower) & (beta < upper)
    if free.any():
        return slope[free].mean()
    return (slope[beta < upper].max() + slope[beta > lower].min()) / 2


def first(mask: Tensor) -> int:
    """Index of the first True."""
    return int(mask.view(torch.uint8).argmax())


def _descend(
    c: Config, gram: Gram, slope: Tensor, beta: Tensor, lower: Tensor, upper: Tensor, limit: int
) -> tuple[Tensor, int]:
    """Steps until no pair violates the conditions by more than the tolerance: β, and how many there were.

    What a step reads one number of is a list: that is many times faster than a tensor.
    """
    n, diagonal = slope.shape[1], gram.diagonal
    diagonals = diagonal.tolist()
    bottom, top, at = lower.flatten().tolist(), upper.flatten().tolist(), beta.flatten().tolist()
    grow = torch.zeros_like(slope).masked_fill_(beta >= upper, -math.inf)  # 0 where β can grow
    shrink = torch.zeros_like(slope).masked_fill_(beta <= lower, math.inf)  # 0 where β can shrink
    flat_grow, flat_shrink = grow.view(-1), shrink.view(-1)
    snug = problem.SNUG * float((upper - lower).max())
    for step in range(limit):
        growing = (slope + grow).view(-1)
        steepest = float(growing.max())
        i = first(growing >= steepest - problem.NEAR * c.tolerance)
        row = gram.row(i % n)  # (n,)
        gain = (steepest - slope).sub_(shrink).clamp_(min=0)  # (r, n): slope along the pair i up, j down
        if float(gain.max()) <= c.tolerance:
            return torch.tensor(at, dtype=slope.dtype, device=slope.device).view_as(slope), step
        # second order: the pair that lowers the objective most, gain² / (2 curvature)
        curvature = torch.add(diagonal, row, alpha=-2).add_(diagonals[i % n]).clamp_(min=problem.TINY)  # (n,)
        lowering = (gain * gain).div_(curvature).view(-1)  # (r · n,)
        j = first(lowering >= (1 - problem.SAME) * float(lowering.max()))
        up, down = top[i] - at[i], at[j] - bottom[j]  # how far each can go
        size = min(float(gain.view(-1)[j]) / float(curvature[j % n]), up, down)
        at[i] = top[i] if up - size <= snug else at[i] + size
        at[j] = bottom[j] if down - size <= snug else at[j] - size
        flat_grow[i] = -math.inf if at[i] == top[i] else 0.0
        flat_shrink[j] = math.inf if at[j] == bottom[j] else 0.0
        flat_shrink[i] = flat_grow[j] = 0.0
        slope.sub_(row - gram.row(j % n), alpha=size)
    return torch.tensor(at, dtype=slope.dtype, device=slope.device).view_as(slope), limit


# --- linear machines -----------------------------------------------------------------------------


def linear_svc(c: Config, features: Tensor, signs: Tensor, costs: Tensor) -> Solved:
    """Linear C-SVC: min ½ ‖w‖² + Σ Cᵢ ξᵢ (hinge) or Σ Cᵢ ξᵢ² (squared), ξ = max(0, 1 − y w·x).

    The intercept is the weight of a feature that is always 1, so it is part of ‖w‖ (as in liblinear).
    ``signs`` (n,) is y, or 0 for an example that has no part in it.
    """
    extended = torch.cat([features, torch.ones_like(features[:, :1])], 1)  # (n, d + 1)
    solve = dual_coordinate_descent if c.solver == "dual" else newton
    weights = solve(c, extended * signs[:, None], costs * signs.abs())  # (d + 1,)
    return Solved(weights[:-1], weights[-1], extended @ weights)


def duality_gap(squared: bool, rows: Tensor, costs: Tensor, weights: Tensor, alpha: Tensor) -> float:
    """(primal of w − dual of α) / primal; 0 at the optimum only. ``rows`` (n, d) is y x."""
    slack = (1 - rows @ weights).clamp(min=0)  # (n,)
    dual_weights = alpha @ rows
    primal = weights @ weights / 2 + costs @ (slack**2 if squared else slack)
    dual = alpha.sum() - dual_weights @ dual_weights / 2
    if squared:  # an example without a part has cost 0, and α 0
        dual = dual - (alpha**2 / (4 * costs.clamp(min=problem.TINY))).sum()
    return float((primal - dual) / primal)


def dual_coordinate_descent(c: Config, rows: Tensor, costs: Tensor) -> Tensor:
    """w (d,) by one α at a time, in an order drawn anew in each epoch (Hsieh et al., ICML 2008, algorithm 1).

    ``rows`` (n, d) is y x; w = Σ αᵢ yᵢ xᵢ, 0 ≤ α ≤ U: U = C, or, squared, no bound and 1/(2C) on the diagonal.

    Raises:
        BadInput: The epoch limit was reached; it states the duality gap that is left.
    """
    squared = c.loss == "squared_hinge"
    mine = costs > 0
    ridge = torch.where(mine, 0.5 / costs, 0.0) if squared else torch.zeros_like(costs)
    bound = torch.where(mine, math.inf, 0.0) if squared else costs
    bounds, ridges = bound.tolist(), ridge.tolist()
    curvatures = ((rows * rows).sum(1) + ridge).tolist()
    alpha, gap = [0.0] * len(costs), math.inf
    for epoch in range(c.iterations):
        alphas = torch.tensor(alpha, dtype=rows.dtype, device=rows.device)
        weights = alphas @ rows  # anew, so that rounding cannot add up
        gap = duality_gap(squared, rows, costs, weights, alphas)
        if gap <= c.tolerance:
            return weights
        order = problem.order(len(costs), epoch)
        for some in np.split(order, range(BLOCK, len(order), BLOCK)):
            block = rows[torch.from_numpy(some).to(rows.device)]  # (b, d)
            products = block @ block.T  # (b, b)
            margins, before = block @ weights, [alpha[i] for i in some]  # (b,)
            for k, i in enumerate(some.tolist()):
                if bounds[i] == 0.0:
                    continue
                slope = float(margins[k]) - 1 + ridges[i] * alpha[i]
                new = min(max(alpha[i] - slope / curvatures[i], 0.0), bounds[i])
                if new != alpha[i]:
                    margins.add_(products[k], alpha=new - alpha[i])
                    alpha[i] = new
            moved = [alpha[i] - old for i, old in zip(some, before, strict=True)]
            weights = weights + torch.tensor(moved, dtype=rows.dtype, device=rows.device) @ block
    raise problem.unsolved(c, c.iterations, gap)


def newton(c: Config, rows: Tensor, costs: Tensor) -> Tensor:
    """w (d,) of the squared hinge loss by Newton's method (Keerthi & DeCoste, 2005).

    ``rows`` (n, d) is y x. A step is halved until it lowers the objective.

    Raises:
        BadInput: The step limit was reached; it states the duality gap that is left.
    """

    def objective(weights: Tensor) -> Tensor:
        return weights @ weights / 2 + costs @ (1 - rows @ weights).clamp(min=0) ** 2

    weights = torch.zeros_like(rows[0])
    gap = math.inf
    for _ in range(c.iterations + 1):
        slack = (1 - rows @ weights).clamp(min=0)  # (n,)
        gap = duality_gap(True, rows, costs, weights, 2 * costs * slack)
        if gap <= c.tolerance:
            return weights
        active = rows * (costs * (slack > 0))[:, None]  # (n, d)
        gradient = weights - 2 * active.T @ slack  # slack is 0 where the example is not active
        hessian = torch.eye(len(weights)).to(rows) + 2 * active.T @ rows
        direction = -torch.linalg.solve(hessian, gradient)
        size, start, slope = 1.0, objective(weights), gradient @ direction
        while size > problem.TINY and objective(weights + size * direction) > start + 1e-4 * size * slope:
            size /= 2
        weights = weights + size * direction
    raise problem.unsolved(c, c.iterations, gap)


# --- probabilities -------------------------------------------------------------------------------


def platt(decisions: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
    """A and B of P(y = 1 | f) = 1 / (1 + exp(A f + B)) (Platt, 1999).

    By Newton's method, the targets moved off 0 and 1 by a prior (Lin, Lin & Weng, 2007).
    ``decisions`` (n,) were made for examples that were held out; ``signs`` (n,) is y, or 0 for no part.

    Raises:
        BadInput: It did not converge.
    """
    f, y = decisions[signs != 0], signs[signs != 0]
    positive, negative = float((y > 0).sum()), float((y < 0).sum())
    # targets that a prior moves off 0 and 1
    t = torch.where(y > 0, f.new_tensor((positive + 1) / (positive + 2)), f.new_tensor(1 / (negative + 2)))

    def objective(a: Tensor, b: Tensor) -> Tensor:  # −Σ t log p + (1 − t) log (1 − p), p = 1 / (1 + e^z)
        z = a * f + b
        return (t * z + torch.nn.functional.softplus(-z, threshold=math.inf)).sum()

    def newton(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The gradient, and Newton's step."""
        p = torch.sigmoid(-(a * f + b))
        d1, d2 = t - p, p * (1 - p)
        g1, g2 = (f * d1).sum(), d1.sum()
        h11, h22, h21 = (f * f * d2).sum() + problem.TINY, d2.sum() + problem.TINY, (f * d2).sum()
        determinant = h11 * h22 - h21 * h21
        return g1, g2, -(h22 * g1 - h21 * g2) / determinant, -(h11 * g2 - h21 * g1) / determinant

    a, b = f.new_zeros(()), f.new_tensor(math.log((negative + 1) / (positive + 1)))
    steepest = math.inf
    for _ in range(problem.PLATT_STEPS):
        g1, g2, da, db = newton(a, b)
        steepest = max(abs(float(g1)), abs(float(g2)))
        if steepest < 1e-5:
            break
        size, start, slope = 1.0, objective(a, b), g1 * da + g2 * db
        while size >= 1e-10 and objective(a + size * da, b + size * db) >= start + 1e-4 * size * slope:
            size /= 2
        if size < 1e-10:
            break  # nothing lowers it any more but rounding
        a, b = a + size * da, b + size * db
    else:
        raise problem.uncalibrated(steepest)
    for _ in range(problem.POLISHES):
        _, _, da, db = newton(a, b)
        a, b = a + da, b + db
    return a, b
