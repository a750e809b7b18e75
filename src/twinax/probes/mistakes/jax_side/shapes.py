"""Mistakes with shapes, axes and indices, in JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax import Array

from twinax.probes.mistakes.base import COLUMN, IMAGE, KEEP, LABELS, LOGITS, TOKENS, X


def column_in_a_loss(mistake: bool) -> Array:
    told = jnp.asarray(COLUMN)
    return optax.squared_error(told if mistake else told[:, 0], jnp.asarray(X)).mean()


def column_by_hand(mistake: bool) -> Array:
    told = jnp.asarray(COLUMN)
    return (((told if mistake else told[:, 0]) - jnp.asarray(X)) ** 2).mean()


def layout_swapped(mistake: bool) -> Array:
    images = jnp.asarray(IMAGE)
    kernel = jnp.ones((1, 3, 2, 2))
    return jax.lax.conv(images if mistake else images.transpose(0, 3, 1, 2), kernel, (1, 1), "VALID")


def reshape_for_transpose(mistake: bool) -> Array:
    images = jnp.asarray(IMAGE)
    return images.reshape(2, 3, 4, 5) if mistake else images.transpose(0, 3, 1, 2)


def softmax_axis(mistake: bool) -> Array:
    scores = jnp.broadcast_to(jnp.asarray(LOGITS)[:, :, None], (2, 3, 2))
    return jax.nn.softmax(scores) if mistake else jax.nn.softmax(scores, axis=1)


def batch_flattened(mistake: bool) -> Array:
    images = jnp.asarray(IMAGE)
    return (images.reshape(-1) if mistake else images.reshape(2, -1)) @ jnp.ones((60, 1))


def index_out_of_bounds(mistake: bool) -> Array:
    return jnp.asarray(X)[3 if mistake else 1]


def label_out_of_range(mistake: bool) -> Array:
    labels = jnp.asarray(LABELS) + (2 if mistake else 0)
    return optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(LOGITS), labels).mean()


def padding_counted(mistake: bool) -> Array:
    labels = jnp.asarray([LABELS[0], -100])
    safe = labels if mistake else jnp.where(labels >= 0, labels, 0)
    losses = optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(LOGITS), safe)
    return losses.mean(where=None if mistake else labels >= 0)


def mask_inverted(mistake: bool) -> Array:
    q = jnp.asarray(TOKENS)
    keep = jnp.asarray(KEEP)[None, None, None]
    return jax.nn.dot_product_attention(q, q, q, mask=~keep if mistake else keep)


def sizes_differ(mistake: bool) -> Array:
    return jnp.asarray(IMAGE).sum((0, 1)) @ jnp.ones((5 if mistake else 3, 2))


PROGRAMS = {
    "(N, 1) against (N,) in the library's loss": column_in_a_loss,
    "(N, 1) against (N,) by hand": column_by_hand,
    "layout swapped": layout_swapped,
    "reshape instead of transpose": reshape_for_transpose,
    "softmax over another axis": softmax_axis,
    "batch flattened too": batch_flattened,
    "index out of bounds": index_out_of_bounds,
    "label out of range": label_out_of_range,
    "padding counted in the loss": padding_counted,
    "attention mask inverted": mask_inverted,
    "sizes that do not fit": sizes_differ,
}
CANNOT: dict[str, str] = {}
