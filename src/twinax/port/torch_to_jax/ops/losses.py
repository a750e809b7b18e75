"""Losses. ``reduction`` is torch's: 0 for each element, 1 for the mean, 2 for the sum."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from twinax.port.torch_to_jax.ops.base import aten
from twinax.port.torch_to_jax.ops.elementwise import absolute


def reduced(loss: Array, reduction: int) -> Array:
    """Each element's loss (0), their mean (1) or sum (2)."""
    return loss.mean() if reduction == 1 else loss.sum() if reduction == 2 else loss


@aten("mse_loss.default", promote=True)
def mse_loss(x: Array, target: Array, reduction: int = 1) -> Array:
    return (
        jnp.mean(jnp.square(x - target))
        if reduction == 1
        else jnp.sum(jnp.square(x - target))
        if reduction == 2
        else jnp.square(x - target)
    )


@aten("l1_loss.default", promote=True)
def l1_loss(x: Array, target: Array, reduction: int = 1) -> Array:
    return (
        jnp.mean(absolute(x - target))
        if reduction == 1
        else jnp.sum(absolute(x - target))
        if reduction == 2
        else absolute(x - target)
    )


@aten("smooth_l1_loss.default", promote=True, whole=True)
def smooth_l1_loss(x: Array, target: Array, reduction: int = 1, beta: float = 1.0) -> Array:
    """½d²/β where d = |x − target| < β, and d − ½β elsewhere."""
    d = absolute(x - target)
    loss = d if beta == 0 else jnp.where(d < beta, 0.5 * d * d / beta, d - 0.5 * beta)
    return reduced(loss, reduction)


@aten("huber_loss.default", promote=True, whole=True)
def huber_loss(x: Array, target: Array, reduction: int = 1, delta: float = 1.0) -> Array:
    """½d² where d = |x − target| ≤ δ, and δ·(d − ½δ) elsewhere."""
    d = absolute(x - target)
    return reduced(jnp.where(d <= delta, 0.5 * d * d, delta * (d - 0.5 * delta)), reduction)


@aten("soft_margin_loss.default", promote=True)
def soft_margin_loss(x: Array, target: Array, reduction: int = 1) -> Array:
    return reduced(jax.nn.softplus(-target * x), reduction)


@aten("binary_cross_entropy.default", whole=True)
def binary_cross_entropy(x: Array, target: Array, weight: Array | None = None, reduction: int = 1) -> Array:
    """−weight·(t·log x + (1 − t)·log(1 − x)) of probabilities x.

    As torch's, it stays finite at 0 and 1: the logarithms are at least −100, and the gradient with respect to
    x is (x − t) / max(x·(1 − x), 1e-12).
    """
    p = lax.stop_gradient(x)
    loss = -(target * jnp.maximum(jnp.log(p), -100) + (1 - target) * jnp.maximum(jnp.log1p(-p), -100))
    slope = lax.stop_gradient((x - target) / jnp.maximum(x * (1 - x), 1e-12))
    loss = loss + slope * (x - p)  # x − p is 0
    return reduced(loss if weight is None else loss * weight, reduction)


@aten("binary_cross_entropy_with_logits.default", whole=True)
def binary_cross_entropy_with_logits(
    x: Array,
    target: Array,
    weight: Array | None = None,
    pos_weight: Array | None = None,
    reduction: int = 1,
) -> Array:
    """−weight·(pos_weight·t·log σ(x) + (1 − t)·log(1 − σ(x))) of logits x."""
    positive = 1 if pos_weight is None else (pos_weight - 1) * target + 1
    loss = (1 - target) * x - positive * jax.nn.log_sigmoid(x)
    return reduced(loss if weight is None else loss * weight, reduction)


@aten("kl_div.default", whole=True)
def kl_div(x: Array, target: Array, reduction: int = 1, *, log_target: bool = False) -> Array:
    """t·(log t − x) of log probabilities x; 0 where t is 0."""
    entropy = jax.scipy.special.xlogy(target, target)
    loss = jnp.exp(target) * (target - x) if log_target else entropy - target * x
    return reduced(loss, reduction)


@aten("poisson_nll_loss.default", whole=True)
def poisson_nll_loss(
    input: Array, target: Array, log_input: bool, full: bool, eps: float, reduction: int
) -> Array:
    """Rate − target · log rate; input is log rate, or the rate itself. ``full`` adds log target!."""
    loss = jnp.exp(input) - target * input if log_input else input - target * jnp.log(input + eps)
    if full:  # Stirling's approximation, of targets above 1
        t = jnp.where(target > 1, target, 1)
        loss = loss + jnp.where(target > 1, t * jnp.log(t) - t + 0.5 * jnp.log(2 * jnp.pi * t), 0)
    return reduced(loss, reduction)


# --- of classes ---------------------------------------------------------------------------------------


def class_terms(x: Array, target: Array, weight: Array | None, ignore_index: int) -> tuple[Array, Array]:
    """−weight[target]·x[target] of log probabilities x (N, C, …), and the weights: 0 where ignored."""
    axis = min(1, x.ndim - 1)
    valid = target != ignore_index
    index = jnp.where(valid, target, 0)
    picked = jnp.take_along_axis(x, jnp.expand_dims(index, axis), axis).squeeze(axis)
    weights = jnp.where(valid, jnp.ones((), x.dtype) if weight is None else weight[index], 0)
    return jnp.where(valid, -weights * picked, 0), weights


@aten("nll_loss.default", "nll_loss_nd.default", "nll_loss2d.default", whole=True)
@aten("nll_loss_forward.default", "nll_loss2d_forward.default", whole=True, results=(0,))
def nll_loss(
    x: Array, target: Array, weight: Array | None = None, reduction: int = 1, ignore_index: int = -100
) -> Array:
    """−weight[target]·x[target] of log probabilities x (N, C, …) and classes (N, …); the mean is weighted."""
    loss, weights = class_terms(x, target, weight, ignore_index)
    return loss.sum() / weights.sum() if reduction == 1 else reduced(loss, reduction)


@aten("cross_entropy_loss.default", whole=True)
def cross_entropy_loss(
    x: Array,
    target: Array,
    weight: Array | None = None,
    reduction: int = 1,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Array:
    """Cross entropy of logits x (N, C, …) and class indices (N, …), or probabilities of x's shape.

    The mean over class indices is weighted, and leaves out those that are ``ignore_index``.
    """
    axis = min(1, x.ndim - 1)
    log_p = jax.nn.log_softmax(x, axis)
    by_class = log_p if weight is None else log_p * jnp.expand_dims(weight, range(1, x.ndim - axis))
    if target.shape == x.shape:  # probabilities
        target = target * (1 - label_smoothing) + label_smoothing / x.shape[axis]
        loss = -(target * by_class).sum(axis)
        return loss.sum() / (x.size // x.shape[axis]) if reduction == 1 else reduced(loss, reduction)
    loss, weights = class_terms(log_p, target, weight, ignore_index)
    if label_smoothing > 0:
        uniform = jnp.where(target != ignore_index, -by_class.sum(axis) / x.shape[axis], 0)
        loss = (1 - label_smoothing) * loss + label_smoothing * uniform
    return loss.sum() / weights.sum() if reduction == 1 else reduced(loss, reduction)


# --- of pairs -----------------------------------------------------------------------------------------


@aten("cosine_embedding_loss.default", whole=True)
def cosine_embedding_loss(
    input1: Array, input2: Array, target: Array, margin: float = 0.0, reduction: int = 1
) -> Array:
    """1 − cos of pairs whose target is 1, max(cos − margin, 0) of those whose target is −1."""
    eps = 1e-12
    product = (input1 * input2).sum(-1)
    cosine = product / jnp.sqrt(((input1 * input1).sum(-1) + eps) * ((input2 * input2).sum(-1) + eps))
    far = jnp.where(cosine >= margin, cosine - margin, 0)
    return reduced(jnp.where(target == 1, 1 - cosine, jnp.where(target == -1, far, 0)), reduction)


@aten("margin_ranking_loss.default", whole=True)
def margin_ranking_loss(
    input1: Array, input2: Array, target: Array, margin: float = 0.0, reduction: int = 1
) -> Array:
    """max(−target·(input1 − input2) + margin, 0)."""
    excess = margin - target * (input1 - input2)
    return reduced(jnp.where(excess >= 0, excess, 0), reduction)


@aten("hinge_embedding_loss.default", whole=True)
def hinge_embedding_loss(x: Array, target: Array, margin: float = 1.0, reduction: int = 1) -> Array:
    """The distance x where the target is 1, max(margin − x, 0) where it is −1."""
    near = jnp.where(margin - x >= 0, margin - x, 0)
    return reduced(jnp.where(target == 1, x, jnp.where(target == -1, near, 0)), reduction)
