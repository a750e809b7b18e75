"""The functions in JAX, as a person would first write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen
from jax import nn
from jax.scipy import special

from twinax.twin import Array

xp = jnp  # what the safe forms are written with


def value_and_gradient(function: Callable[[jax.Array], jax.Array], at: Array) -> tuple[Array, Array]:
    """The function's value, and the gradient of its sum."""
    x = jnp.asarray(at)
    return np.asarray(function(x)), np.asarray(jax.grad(lambda x: function(x).sum())(x))


FUNCTIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    # --- kinks
    "abs": jnp.abs,
    "relu": nn.relu,
    "relu6": nn.relu6,
    "leaky_relu": nn.leaky_relu,
    "elu": nn.elu,
    "selu": nn.selu,
    "celu": nn.celu,
    "hard_tanh": nn.hard_tanh,
    "hard_sigmoid": nn.hard_sigmoid,
    "hard_swish": nn.hard_swish,
    "clip": lambda x: jnp.clip(x, 0.0, 1.0),
    "sign": jnp.sign,
    "floor": jnp.floor,
    "round": jnp.round,
    "trunc": jnp.trunc,
    "remainder": lambda x: jnp.remainder(x, 2.0),
    "huber": optax.huber_loss,
    "l1_loss": lambda x: jnp.mean(jnp.abs(x)),
    "hinge": lambda x: jnp.maximum(1.0 - x, 0.0),
    "logaddexp_of_equal": lambda x: jnp.logaddexp(x, x),
    # --- ties
    "maximum": lambda x: jnp.maximum(x[0], x[1]),
    "minimum": lambda x: jnp.minimum(x[0], x[1]),
    "max": jnp.max,
    "min": jnp.min,
    "amax": jnp.max,
    "max_along_axis": lambda x: jnp.max(x, axis=1),
    "sort_then_first": lambda x: jnp.sort(x)[0],
    "median": jnp.median,
    "top_k": lambda x: jax.lax.top_k(x, 1)[0],
    "norm_infinity": lambda x: jnp.linalg.norm(x, jnp.inf),
    "cumulative_maximum": jax.lax.cummax,
    "max_pool": lambda x: linen.max_pool(x[None, :, None], (2,), (2,)),
    # --- singular points
    "sqrt": jnp.sqrt,
    "rsqrt": jax.lax.rsqrt,
    "reciprocal": jnp.reciprocal,
    "log": jnp.log,
    "log1p": jnp.log1p,
    "zero_over_zero": lambda x: x / x,
    "x_log_x": lambda x: x * jnp.log(x),
    "entropy": lambda x: special.entr(x).sum(),
    "xlogy": lambda x: special.xlogy(x[0], x[1]),
    "power_zero": lambda x: x**0.0,
    "power_half": lambda x: x**0.5,
    "zero_to_the_x": lambda x: jnp.power(0.0, x),
    "x_to_the_x": lambda x: x**x,
    "atan2": lambda x: jnp.arctan2(x[0], x[1]),
    "hypot": lambda x: jnp.hypot(x[0], x[1]),
    "asin": jnp.arcsin,
    "acos": jnp.arccos,
    "acosh": jnp.arccosh,
    "atanh": jnp.arctanh,
    "erfinv": special.erfinv,
    "lgamma": special.gammaln,
    "digamma": special.digamma,
    "sinc": jnp.sinc,
    "norm": jnp.linalg.norm,
    "norm_1": lambda x: jnp.linalg.norm(x, 1),
    "norm_3": lambda x: jnp.linalg.norm(x, 3),
    "unit_vector": lambda x: x / jnp.linalg.norm(x),
    "cosine_similarity": lambda x: optax.cosine_similarity(x, jnp.ones_like(x)),
    "std_of_a_constant": lambda x: jnp.std(x, ddof=1),
    "std_of_one": lambda x: jnp.std(x, ddof=1),
    "product_with_a_zero": jnp.prod,
    "product_with_two_zeros": jnp.prod,
    "cumulative_product": jnp.cumprod,
    "sqrt_behind_where": lambda x: jnp.where(x > 0, jnp.sqrt(x), 0.0),
    "determinant": jnp.linalg.det,
    "inverse": jnp.linalg.inv,
    "eigenvalues_of_equal": lambda x: jnp.linalg.eigvalsh(x)[0],
    "eigenvectors_of_equal": lambda x: jnp.abs(jnp.linalg.eigh(x).eigenvectors)[0],
    "singular_vectors_of_equal": lambda x: jnp.abs(jnp.linalg.svd(x)[0])[0],
    "cholesky": jnp.linalg.cholesky,
    # --- infinite values
    "exp": jnp.exp,
    "sigmoid": nn.sigmoid,
    "tanh": jnp.tanh,
    "softplus": nn.softplus,
    "gelu": lambda x: nn.gelu(x, approximate=False),
    "silu": nn.silu,
    "softmax": lambda x: nn.softmax(x)[0],
    "softmax_all_masked": lambda x: nn.softmax(x)[0],
    "log_softmax": lambda x: nn.log_softmax(x)[0],
    "logsumexp": nn.logsumexp,
    "logaddexp": lambda x: jnp.logaddexp(x[0], x[1]),
    "nan_to_num": jnp.nan_to_num,
    "clip_nan": lambda x: jnp.clip(x, 0.0, 1.0),
    "maximum_with_nan": lambda x: jnp.maximum(x[0], x[1]),
    "mean_with_infinity": jnp.mean,
    # --- nothing at all
    "sum_of_nothing": jnp.sum,
    "mean_of_nothing": jnp.mean,
    "max_of_nothing": jnp.max,
    "product_of_nothing": jnp.prod,
    "logsumexp_of_nothing": nn.logsumexp,
    "norm_of_nothing": jnp.linalg.norm,
    "std_of_nothing": lambda x: jnp.std(x, ddof=1),
}
