"""Mistakes in losses, gradients and steps, in JAX (with flax's nnx and optax)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array

from twinax.probes.mistakes.base import LABELS, LOGITS, TARGETS, WEIGHTS, X


def squares(w: Array) -> Array:
    return (w**2).sum()


def forgotten_eval(mistake: bool) -> Array:
    model = nnx.Sequential(nnx.Dropout(0.5, rngs=nnx.Rngs(0)))
    if not mistake:
        model.eval()
    return model(jnp.asarray(X))


def forgotten_detach(mistake: bool) -> Array:
    def loss(w: Array) -> Array:
        target = 0.9 * jnp.flip(w)
        return ((w - (target if mistake else jax.lax.stop_gradient(target))) ** 2).sum()

    return jax.grad(loss)(jnp.asarray(WEIGHTS))


def softmax_twice(mistake: bool) -> Array:
    logits = jnp.asarray(LOGITS)
    scores = jax.nn.softmax(logits) if mistake else logits
    return optax.softmax_cross_entropy_with_integer_labels(scores, jnp.asarray(LABELS)).mean()


def loss_on_logits(mistake: bool) -> Array:
    logits, y = jnp.asarray(LOGITS[:, 0]), jnp.asarray(TARGETS)
    p = logits if mistake else jax.nn.sigmoid(logits)
    return -(y * jnp.log(p) + (1 - y) * jnp.log(1 - p)).mean()


def wrong_reduction(mistake: bool) -> Array:
    def loss(logits: Array) -> Array:
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.asarray(LABELS))
        return losses.sum() if mistake else losses.mean()

    return jax.grad(loss)(jnp.asarray(LOGITS))


def same_numbers_twice(mistake: bool) -> Array:
    key = jax.random.key(0)
    first_key, second_key = (key, key) if mistake else jax.random.split(key)
    first, second = jax.random.uniform(first_key, (8,)), jax.random.uniform(second_key, (8,))
    return (first == second).all().astype(int)


def in_place_on_a_leaf(mistake: bool) -> Array:
    w = jnp.asarray(WEIGHTS)
    step = 0.1 * jax.grad(squares)(w)
    if mistake:
        w[:] = w - step
    else:
        w = w - step
    return w


def optimiser_of_something_else(mistake: bool) -> Array:
    w = jnp.asarray(WEIGHTS)
    optimiser = optax.sgd(0.1)
    updates, _ = optimiser.update(jax.grad(squares)(w), optimiser.init(w))
    stepped = optax.apply_updates(w, updates)
    return w if mistake else jnp.asarray(stepped)


def layers_in_a_list(mistake: bool) -> int:
    class Model(nnx.Module):
        def __init__(self) -> None:
            layers = [nnx.Linear(2, 2, rngs=nnx.Rngs(0)), nnx.Linear(2, 2, rngs=nnx.Rngs(1))]
            self.layers = layers if mistake else nnx.List(layers)

    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(Model(), nnx.Param)))


def graph_used_twice(mistake: bool) -> Array:
    w = jnp.asarray(WEIGHTS)
    _, pull = jax.vjp(squares, w)
    (first,) = pull(jnp.ones(()))
    _, again = (None, pull) if mistake else jax.vjp(squares, w)
    (second,) = again(jnp.ones(()))
    return first + second


def gradient_of_a_vector(mistake: bool) -> Array:
    w = jnp.asarray(WEIGHTS)
    return jax.grad(lambda w: w**2 if mistake else (w**2).sum())(w)


def weights_not_copied(mistake: bool) -> Array:
    w = jnp.asarray(WEIGHTS)
    best = w if mistake else w.copy()
    w *= 0
    return best


PROGRAMS = {
    "forgotten eval": forgotten_eval,
    "forgotten detach": forgotten_detach,
    "softmax twice": softmax_twice,
    "probabilities' loss on logits": loss_on_logits,
    "wrong reduction": wrong_reduction,
    "the same random numbers twice": same_numbers_twice,
    "in-place step on a parameter": in_place_on_a_leaf,
    "the optimiser steps something else": optimiser_of_something_else,
    "layers in a plain list": layers_in_a_list,
    "the same graph used twice": graph_used_twice,
    "gradient of a vector": gradient_of_a_vector,
    "best weights kept without a copy": weights_not_copied,
}
CANNOT = {
    "forgotten zero_grad": "jax.grad returns a gradient of its own at every call; nothing accumulates",
    "history kept in a running total": "an array holds no graph; what grad needs is freed when it returns",
    "in-place on what backward needs": "arrays cannot be changed in place",
    "schedule stepped before the optimiser": "an optax schedule is a function of the step in its state",
}
