"""The solvers in JAX: SMO, dual coordinate descent, Newton, and Newton for Platt's two numbers."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from twinax.zoo.svm import problem
from twinax.zoo.svm.jax_kernels import Gram, Kernel
from twinax.zoo.svm.problem import Config

WIDTH = 64  # of the rows in which the largest of many numbers is looked for


class Solved(NamedTuple):
    """A decision function f.

    Attributes:
        coefficients: β (n,) of Σ βᵢ K(xᵢ, x) + b, or w (d,) of w·x + b.
        intercept: b.
        decisions: f of every training example (n,).
    """

    coefficients: Array
    intercept: Array
    decisions: Array


# --- SMO -----------------------------------------------------------------------------------------


def c_svc(c: Config, gram: Gram, signs: Array, costs: Array) -> Solved:
    """C-SVC (Cortes & Vapnik, 1995): min ½ βᵀKβ − yᵀβ, Σβ = 0, 0 ≤ yᵢβᵢ ≤ Cᵢ; β = y α.

    ``signs`` (n,) is y, or 0 for an example that has no part in it; ``costs`` (n,) is C.
    """
    bound = signs * costs
    return smo(c, gram, -signs[None], jnp.minimum(bound, 0)[None], jnp.maximum(bound, 0)[None])


def svr(c: Config, gram: Gram, targets: Array) -> Solved:
    """ε-SVR (Drucker et al., 1997): min ½ βᵀKβ − zᵀβ + ε Σ|βᵢ|, Σβ = 0, |βᵢ| ≤ C; β = β⁺ + β⁻."""
    linear = jnp.stack([c.epsilon - targets, -c.epsilon - targets])  # (2, n): of β⁺ ≥ 0, of β⁻ ≤ 0
    zero, full = jnp.zeros_like(targets), jnp.full_like(targets, c.C)
    return smo(c, gram, linear, jnp.stack([zero, -full]), jnp.stack([full, zero]))


def smo(c: Config, gram: Gram, linear: Array, lower: Array, upper: Array) -> Solved:
    """min ½ βᵀKβ + pᵀβ, Σβ constant, L ≤ β ≤ U, by pairs (Platt, 1998; pairs as Fan, Chen & Lin, 2005).

    p, L and U are (r, n): r variables for each example, of which the machine sees the sum.

    Raises:
        BadInput: The step limit was reached; it states the violation that is left.
    """
    k = Kernel.of(c)
    beta, steps, violation = jnp.zeros_like(linear), 0, math.inf
    for _ in range(problem.REFRESHES):
        values = _times(k, gram, beta.sum(0))  # (n,); anew, so that rounding cannot add up unseen
        slope = -(values + linear)  # (r, n): the way down
        violation = most_violating(slope, beta, lower, upper)
        if violation <= c.tolerance or steps >= c.iterations:
            break
        limit = min(c.iterations - steps, 2**31 - 1)  # the compiled loop counts in 32 bits where x64 is off
        beta, taken = _descend(k, gram, slope, beta, lower, upper, c.tolerance, limit)
        steps += int(taken)
    if not violation <= c.tolerance:
        raise problem.unsolved(c, steps, violation)
    intercept = _intercept(slope, beta, lower, upper)
    return Solved(beta.sum(0), intercept, values + intercept)


_times = jax.jit(lambda k, gram, beta: gram.times(k, beta), static_argnums=0)


def most_violating(slope: Array, beta: Array, lower: Array, upper: Array) -> float:
    """max slope of what can grow − min slope of what can shrink: at most 0 at the optimum."""
    return float(_steepest(slope, beta, upper) - _flattest(slope, beta, lower))


def _steepest(slope: Array, beta: Array, upper: Array) -> Array:
    return jnp.where(beta < upper, slope, -jnp.inf).max()


def _flattest(slope: Array, beta: Array, lower: Array) -> Array:
    return jnp.where(beta > lower, slope, jnp.inf).min()


@jax.jit
def _intercept(slope: Array, beta: Array, lower: Array, upper: Array) -> Array:
    """b: the mean slope of variables between their bounds; without one, the middle of what is allowed."""
    free = (beta > lower) & (beta < upper)
    mean = jnp.where(free, slope, 0).sum() / jnp.maximum(free.sum(), 1)
    middle = (_steepest(slope, beta, upper) + _flattest(slope, beta, lower)) / 2
    return jnp.where(free.any(), mean, middle)


def _largest(values: Array, near: float | Array = 0.0, same: float = 0.0) -> tuple[Array, Array]:
    """The largest value, and the index of the first that is at most ``near`` or a share ``same`` below it.

    In two levels: on a CPU, XLA's argmax of one long row takes four times as long.
    """
    rows = jnp.pad(values, (0, -len(values) % WIDTH), constant_values=-jnp.inf).reshape(-1, WIDTH)
    largest = rows.max(1)
    best = largest.max()
    bar = best * (1 - same) - near
    row = jnp.argmax(largest >= bar)
    return best, row * WIDTH + jnp.argmax(rows[row] >= bar)


@partial(jax.jit, static_argnums=0)
def _descend(
    k: Kernel,
    gram: Gram,
    slope: Array,
    beta: Array,
    lower: Array,
    upper: Array,
    tolerance: float,
    limit: int,
) -> tuple[Array, Array]:
    """Steps until no pair violates the conditions by more than the tolerance: β, and how many there were."""
    shape, diagonal = slope.shape, gram.diagonal
    n, bottom, top = shape[1], lower.ravel(), upper.ravel()
    snug = problem.SNUG * (upper - lower).max()

    def going(state: Any) -> Array:
        violation, step = state[2], state[3]
        return (violation > tolerance) & (step < limit)

    def advance(state: Any) -> Any:
        slope, beta, _, step = state
        steepest, i = _largest(jnp.where(beta < top, slope, -jnp.inf), near=problem.NEAR * tolerance)
        row = gram.row(k, i % n)  # (n,)
        # slope along the pair i up, j down
        gain = jnp.maximum(jnp.where(beta > bottom, steepest - slope, 0), 0)  # (r · n,)
        violation, _ = _largest(gain)
        # second order: the pair that lowers the objective most, gain² / (2 curvature)
        curvature = jnp.maximum(diagonal[i % n] + diagonal - 2 * row, problem.TINY)  # (n,)
        _, j = _largest((gain.reshape(shape) ** 2 / curvature).ravel(), same=problem.SAME)
        up, down = top[i] - beta[i], beta[j] - bottom[j]  # how far each can go
        size = jnp.minimum(gain[j] / curvature[j % n], jnp.minimum(up, down))
        wrong = violation > tolerance
        size = jnp.where(wrong, size, 0)  # the loop ends after a look that finds nothing wrong
        beta_i = jnp.where(up - size <= snug, top[i], beta[i] + size)
        beta_j = jnp.where(down - size <= snug, bottom[j], beta[j] - size)
        slope = (slope.reshape(shape) - size * (row - gram.row(k, j % n))).ravel()
        return slope, beta.at[i].set(beta_i).at[j].set(beta_j), violation, step + wrong

    start = (slope.ravel(), beta.ravel(), jnp.asarray(jnp.inf, slope.dtype), jnp.asarray(0))
    _, beta, _, steps = jax.lax.while_loop(going, advance, start)
    return beta.reshape(shape), steps


# --- linear machines -----------------------------------------------------------------------------


def linear_svc(c: Config, features: Array, signs: Array, costs: Array) -> Solved:
    """Linear C-SVC: min ½ ‖w‖² + Σ Cᵢ ξᵢ (hinge) or Σ Cᵢ ξᵢ² (squared), ξ = max(0, 1 − y w·x).

    The intercept is the weight of a feature that is always 1, so it is part of ‖w‖ (as in liblinear).
    ``signs`` (n,) is y, or 0 for an example that has no part in it.
    """
    extended = jnp.concatenate([features, jnp.ones_like(features[:, :1])], 1)  # (n, d + 1)
    solve = dual_coordinate_descent if c.solver == "dual" else newton
    weights = solve(c, extended * signs[:, None], costs * jnp.abs(signs))  # (d + 1,)
    return Solved(weights[:-1], weights[-1], extended @ weights)


@partial(jax.jit, static_argnums=0)
def duality_gap(squared: bool, rows: Array, costs: Array, weights: Array, alpha: Array) -> Array:
    """(primal of w − dual of α) / primal; 0 at the optimum only. ``rows`` (n, d) is y x."""
    slack = jnp.maximum(1 - rows @ weights, 0)  # (n,)
    dual_weights = alpha @ rows
    primal = weights @ weights / 2 + costs @ (slack**2 if squared else slack)
    dual = alpha.sum() - dual_weights @ dual_weights / 2
    if squared:  # an example without a part has cost 0, and α 0
        dual = dual - (alpha**2 / (4 * jnp.maximum(costs, problem.TINY))).sum()
    return (primal - dual) / primal


def dual_coordinate_descent(c: Config, rows: Array, costs: Array) -> Array:
    """w (d,) by one α at a time, in an order drawn anew in each epoch (Hsieh et al., ICML 2008, algorithm 1).

    ``rows`` (n, d) is y x; w = Σ αᵢ yᵢ xᵢ, 0 ≤ α ≤ U: U = C, or, squared, no bound and 1/(2C) on the diagonal.

    Raises:
        BadInput: The epoch limit was reached; it states the duality gap that is left.
    """
    squared = c.loss == "squared_hinge"
    mine = costs > 0
    ridge = jnp.where(mine, 0.5 / costs, 0.0) if squared else jnp.zeros_like(costs)
    bound = jnp.where(mine, jnp.inf, 0.0).astype(costs.dtype) if squared else costs
    curvature = (rows * rows).sum(1) + ridge
    alpha, gap = jnp.zeros_like(costs), math.inf
    for epoch in range(c.iterations):
        weights = alpha @ rows  # anew, so that rounding cannot add up
        gap = float(duality_gap(squared, rows, costs, weights, alpha))
        if gap <= c.tolerance:
            return weights
        alpha = _epoch(
            rows, ridge, bound, curvature, alpha, weights, jnp.asarray(problem.order(len(costs), epoch))
        )
    raise problem.unsolved(c, c.iterations, gap)


@jax.jit
def _epoch(
    rows: Array, ridge: Array, bound: Array, curvature: Array, alpha: Array, weights: Array, order: Array
) -> Array:
    """α after one step for every example."""

    def advance(k: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        alpha, weights = state
        i = order[k]
        slope = rows[i] @ weights - 1 + ridge[i] * alpha[i]
        new = jnp.clip(alpha[i] - slope / curvature[i], 0.0, bound[i])
        new = jnp.where(bound[i] > 0, new, alpha[i])
        return alpha.at[i].set(new), weights + (new - alpha[i]) * rows[i]

    return jax.lax.fori_loop(0, len(order), advance, (alpha, weights))[0]


def newton(c: Config, rows: Array, costs: Array) -> Array:
    """w (d,) of the squared hinge loss by Newton's method (Keerthi & DeCoste, 2005).

    ``rows`` (n, d) is y x. A step is halved until it lowers the objective.

    Raises:
        BadInput: The step limit was reached; it states the duality gap that is left.
    """
    weights, gap = jnp.zeros_like(rows[0]), math.inf
    for _ in range(c.iterations + 1):
        slack = jnp.maximum(1 - rows @ weights, 0)  # (n,)
        gap = float(duality_gap(True, rows, costs, weights, 2 * costs * slack))
        if gap <= c.tolerance:
            return weights
        weights = _newton_step(rows, costs, weights, slack)
    raise problem.unsolved(c, c.iterations, gap)


@jax.jit
def _newton_step(rows: Array, costs: Array, weights: Array, slack: Array) -> Array:
    def objective(weights: Array) -> Array:
        return weights @ weights / 2 + costs @ jnp.maximum(1 - rows @ weights, 0) ** 2

    active = rows * (costs * (slack > 0))[:, None]  # (n, d)
    gradient = weights - 2 * active.T @ slack  # slack is 0 where the example is not active
    hessian = jnp.eye(len(weights), dtype=rows.dtype) + 2 * active.T @ rows
    direction = -jnp.linalg.solve(hessian, gradient)
    start, slope = objective(weights), gradient @ direction

    def too_far(size: Array) -> Array:
        return (size > problem.TINY) & (objective(weights + size * direction) > start + 1e-4 * size * slope)

    return weights + jax.lax.while_loop(too_far, lambda size: size / 2, jnp.ones_like(start)) * direction


# --- probabilities -------------------------------------------------------------------------------


def platt(decisions: Array, signs: Array) -> tuple[Array, Array]:
    """A and B of P(y = 1 | f) = 1 / (1 + exp(A f + B)) (Platt, 1999).

    By Newton's method, the targets moved off 0 and 1 by a prior (Lin, Lin & Weng, 2007).
    ``decisions`` (n,) were made for examples that were held out; ``signs`` (n,) is y, or 0 for no part.

    Raises:
        BadInput: It did not converge.
    """
    a, b, steepest, done = _platt(decisions, signs)
    if not done:
        raise problem.uncalibrated(float(steepest))
    return a, b


@jax.jit
def _platt(decisions: Array, signs: Array) -> tuple[Array, Array, Array, Array]:
    """A, B, the larger of their gradients, and whether nothing is left to do."""
    mine, f = (signs != 0).astype(decisions.dtype), decisions * jnp.abs(signs)
    positive, negative = (signs > 0).sum(), (signs < 0).sum()
    # targets that a prior moves off 0 and 1
    t = jnp.where(signs > 0, (positive + 1) / (positive + 2), 1 / (negative + 2)).astype(f.dtype)

    def objective(a: Array, b: Array) -> Array:  # −Σ t log p + (1 − t) log (1 − p), p = 1 / (1 + e^z)
        z = a * f + b
        return (mine * (t * z + jax.nn.softplus(-z))).sum()

    def slopes(a: Array, b: Array) -> tuple[Array, Array, Array]:
        p = jax.nn.sigmoid(-(a * f + b))
        d1 = mine * (t - p)
        return (f * d1).sum(), d1.sum(), mine * p * (1 - p)

    def steepest(a: Array, b: Array) -> Array:
        g1, g2, _ = slopes(a, b)
        return jnp.maximum(jnp.abs(g1), jnp.abs(g2))

    def going(state: Any) -> Array:
        _, _, step, done = state
        return ~done & (step < problem.PLATT_STEPS)

    def newton(a: Array, b: Array) -> tuple[Array, Array, Array]:
        """Newton's step, and how steep the objective is along it."""
        g1, g2, d2 = slopes(a, b)
        h11, h22, h21 = (f * f * d2).sum() + problem.TINY, d2.sum() + problem.TINY, (f * d2).sum()
        determinant = h11 * h22 - h21 * h21
        da, db = -(h22 * g1 - h21 * g2) / determinant, -(h11 * g2 - h21 * g1) / determinant
        return da, db, g1 * da + g2 * db

    def advance(state: Any) -> Any:
        a, b, step, _ = state
        da, db, slope = newton(a, b)
        start = objective(a, b)

        def too_far(size: Array) -> Array:
            return (size >= 1e-10) & (objective(a + size * da, b + size * db) >= start + 1e-4 * size * slope)

        size = jax.lax.while_loop(too_far, lambda size: size / 2, jnp.ones_like(start))
        stuck = size < 1e-10  # nothing lowers it any more but rounding
        size = jnp.where(stuck, 0, size)
        a, b = a + size * da, b + size * db
        return a, b, step + 1, stuck | (steepest(a, b) < 1e-5)

    b = jnp.log((negative + 1) / (positive + 1)).astype(f.dtype)
    a = jnp.zeros_like(b)
    a, b, _, done = jax.lax.while_loop(going, advance, (a, b, 0, steepest(a, b) < 1e-5))
    for _ in range(problem.POLISHES):
        da, db, _ = newton(a, b)
        a, b = a + da, b + db
    return a, b, steepest(a, b), done
