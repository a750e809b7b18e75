"""Operations that make one number of many: sums, extremes, moments, norms; and running ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from twinax.port.torch_to_jax.ops.base import aten
from twinax.port.torch_to_jax.ops.elementwise import absolute

# Sums and counts.


@aten("sum.default", "sum.dim_IntList")
def sum_over(x: Array, dim: tuple[int, ...] | None = None, keepdim: bool = False, *, dtype: jnp.dtype) -> Array:
    return jnp.sum(x.astype(dtype), axis=dim if dim else None, keepdims=keepdim)


@aten("nansum.default")
def nansum_over(
    x: Array, dim: tuple[int, ...] | None = None, keepdim: bool = False, *, dtype: jnp.dtype
) -> Array:
    return jnp.nansum(x.astype(dtype), axis=dim if dim else None, keepdims=keepdim)


@aten("mean.default", "mean.dim")
def mean_over(
    x: Array, dim: tuple[int, ...] | None = None, keepdim: bool = False, *, dtype: jnp.dtype
) -> Array:
    return jnp.mean(x.astype(dtype), axis=dim if dim else None, keepdims=keepdim)


@aten("prod.default", "prod.dim_int")
def product_over(x: Array, dim: int | None = None, keepdim: bool = False, *, dtype: jnp.dtype) -> Array:
    return jnp.prod(x.astype(dtype), axis=dim, keepdims=keepdim)


@aten("count_nonzero.default", "count_nonzero.dim_IntList")
def count_nonzero(x: Array, dim: int | tuple[int, ...] | None = None) -> Array:
    return jnp.count_nonzero(x, axis=None if dim == () else dim)


@aten("histc.default", whole=True)
def histogram(x: Array, bins: int = 100, min: float = 0, max: float = 0) -> Array:
    """Number of values in each of the equal parts of min to max; of the range of x where both are equal."""
    low, high = (jnp.min(x), jnp.max(x)) if min == max else (min, max)
    place = jnp.clip((x - low) / (high - low) * bins, 0, bins - 1).astype(int)
    return jnp.zeros(bins, x.dtype).at[place].add((low <= x) & (x <= high))


@aten("any.default", "any.dim")
def any_along(x: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    return jnp.any(x, axis=dim, keepdims=keepdim)


@aten("any.dims")
def any_over(x: Array, dim: tuple[int, ...] | None = None, keepdim: bool = False) -> Array:
    return jnp.any(x, axis=dim, keepdims=keepdim)


@aten("all.default", "all.dim")
def all_along(x: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    return jnp.all(x, axis=dim, keepdims=keepdim)


@aten("all.dims")
def all_over(x: Array, dim: tuple[int, ...] | None = None, keepdim: bool = False) -> Array:
    return jnp.all(x, axis=dim, keepdims=keepdim)


# Extremes.


@aten("max.default")
def largest(x: Array) -> Array:
    return jnp.max(x)


@aten("min.default")
def smallest(x: Array) -> Array:
    return jnp.min(x)


@aten("amax.default")
def largest_over(x: Array, dim: tuple[int, ...] = (), keepdim: bool = False) -> Array:
    return jnp.max(x, axis=dim if dim else None, keepdims=keepdim)


@aten("amin.default")
def smallest_over(x: Array, dim: tuple[int, ...] = (), keepdim: bool = False) -> Array:
    return jnp.min(x, axis=dim if dim else None, keepdims=keepdim)


@aten("aminmax.default", whole=True)
def smallest_and_largest(x: Array, *, dim: int | None = None, keepdim: bool = False) -> tuple[Array, Array]:
    """The extremes of x, along ``dim`` or of all."""
    return jnp.min(x, axis=dim, keepdims=keepdim), jnp.max(x, axis=dim, keepdims=keepdim)


@aten("max.dim", whole=True)
def max_with_place(x: Array, dim: int, keepdim: bool = False) -> tuple[Array, Array]:
    """The largest of x along ``dim`` and its place: at a tie the first, which alone gets the gradient."""
    place = jnp.argmax(x, axis=dim, keepdims=True)
    value = jnp.take_along_axis(x, place, axis=dim)
    return (value, place) if keepdim else (value.squeeze(dim), place.squeeze(dim))


@aten("min.dim", whole=True)
def min_with_place(x: Array, dim: int, keepdim: bool = False) -> tuple[Array, Array]:
    """The smallest of x along ``dim`` and its place: at a tie the first, which alone gets the gradient."""
    place = jnp.argmin(x, axis=dim, keepdims=True)
    value = jnp.take_along_axis(x, place, axis=dim)
    return (value, place) if keepdim else (value.squeeze(dim), place.squeeze(dim))


@aten("max.other", promote=True)
def larger_of(x: Array, other: Array) -> Array:
    return jnp.maximum(x, other)


@aten("min.other", promote=True)
def smaller_of(x: Array, other: Array) -> Array:
    return jnp.minimum(x, other)


# Moments.


@aten("var.default")
def variance(x: Array, unbiased: bool = True) -> Array:
    return jnp.var(x, ddof=1 if unbiased else 0)


@aten("var.dim")
def variance_over(x: Array, dim: tuple[int, ...] | None, unbiased: bool = True, keepdim: bool = False) -> Array:
    return jnp.var(x, axis=dim if dim else None, ddof=1 if unbiased else 0, keepdims=keepdim)


@aten("var.correction")
def variance_corrected(
    x: Array, dim: tuple[int, ...] | None = None, correction: int | None = None, keepdim: bool = False
) -> Array:
    return jnp.var(x, axis=dim if dim else None, ddof=1 if correction is None else correction, keepdims=keepdim)


@aten("std.default")
def deviation(x: Array, unbiased: bool = True) -> Array:
    return safe_sqrt(jnp.var(x, ddof=1 if unbiased else 0))


@aten("std.dim")
def deviation_over(
    x: Array, dim: tuple[int, ...] | None, unbiased: bool = True, keepdim: bool = False
) -> Array:
    return safe_sqrt(jnp.var(x, axis=dim if dim else None, ddof=1 if unbiased else 0, keepdims=keepdim))


@aten("std.correction")
def deviation_corrected(
    x: Array, dim: tuple[int, ...] | None = None, correction: int | None = None, keepdim: bool = False
) -> Array:
    return safe_sqrt(
        jnp.var(x, axis=dim if dim else None, ddof=1 if correction is None else correction, keepdims=keepdim)
    )


@aten("var_mean.correction", whole=True)
def var_mean(
    x: Array, dim: tuple[int, ...] | None = None, correction: int | None = 1, keepdim: bool = False
) -> tuple[Array, Array]:
    """Variance, whose divisor is less by ``correction`` (None: 1), and mean."""
    axis, ddof = dim or None, 1 if correction is None else correction
    return jnp.var(x, axis, ddof=ddof, keepdims=keepdim), jnp.mean(x, axis, keepdims=keepdim)


@aten("var_mean.default")
def var_mean_of_all(x: Array, unbiased: bool = True) -> tuple[Array, Array]:
    return var_mean(x, correction=1 if unbiased else 0)


@aten("var_mean.dim")
def var_mean_over(
    x: Array, dim: tuple[int, ...] | None, unbiased: bool = True, keepdim: bool = False
) -> tuple[Array, Array]:
    return var_mean(x, dim, 1 if unbiased else 0, keepdim)


@aten("std_mean.correction", whole=True)
def std_mean(
    x: Array, dim: tuple[int, ...] | None = None, correction: int | None = 1, keepdim: bool = False
) -> tuple[Array, Array]:
    """Standard deviation and mean."""
    variance, mean = var_mean(x, dim, correction, keepdim)
    return safe_sqrt(variance), mean


@aten("std_mean.default")
def std_mean_of_all(x: Array, unbiased: bool = True) -> tuple[Array, Array]:
    return std_mean(x, correction=1 if unbiased else 0)


@aten("std_mean.dim")
def std_mean_over(
    x: Array, dim: tuple[int, ...] | None, unbiased: bool = True, keepdim: bool = False
) -> tuple[Array, Array]:
    return std_mean(x, dim, 1 if unbiased else 0, keepdim)


def safe_sqrt(x: Array) -> Array:
    """√x with gradient 0 at 0, as torch's norms and standard deviations have it."""
    return jnp.where(x == 0, 0, jnp.sqrt(jnp.where(x == 0, 1, x)))


# Norms and distances.


@aten("linalg_vector_norm.default")
def vector_norm(
    x: Array,
    ord: float = 2,
    dim: tuple[int, ...] | None = None,
    keepdim: bool = False,
    *,
    dtype: jnp.dtype,
) -> Array:
    return (
        euclidean_norm(x.astype(dtype), axis=dim if dim else None, keepdims=keepdim)
        if ord == 2
        else p_norm(x.astype(dtype), ord, axis=dim if dim else None, keepdims=keepdim)
    )


@aten("norm.Scalar", "norm.ScalarOpt_dim", "norm.ScalarOpt_dim_dtype", "norm.ScalarOpt_dtype")
def norm(
    x: Array,
    p: float | None = 2,
    dim: tuple[int, ...] | None = None,
    keepdim: bool = False,
    *,
    dtype: jnp.dtype,
) -> Array:
    return (
        euclidean_norm(x.astype(dtype), axis=dim if dim else None, keepdims=keepdim)
        if p is None or p == 2
        else p_norm(x.astype(dtype), p, axis=dim if dim else None, keepdims=keepdim)
    )


@aten("linalg_norm.default", whole=True)
def linalg_norm(
    x: Array,
    ord: float | None = None,
    dim: tuple[int, ...] | None = None,
    keepdim: bool = False,
    *,
    dtype: jnp.dtype,
) -> Array:
    """The norm of vectors; without ``ord``, the Euclidean one of all numbers together."""
    if ord is None:
        return euclidean_norm(x.astype(dtype), axis=dim, keepdims=keepdim)
    if x.ndim != 1 if dim is None else len(dim) != 1:
        raise NotImplementedError("aten.linalg_norm of matrices by number is not ported: only 'fro' is")
    return p_norm(x.astype(dtype), ord, axis=dim, keepdims=keepdim)


@aten("linalg_norm.ord_str", "linalg_matrix_norm.str_ord", whole=True)
def matrix_norm(
    x: Array,
    ord: str = "fro",
    dim: tuple[int, ...] | None = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: jnp.dtype,
) -> Array:
    """The Frobenius norm."""
    if ord != "fro":
        raise NotImplementedError("aten.linalg_matrix_norm is ported as 'fro' only")
    return euclidean_norm(x.astype(dtype), axis=dim, keepdims=keepdim)


def euclidean_norm(x: Array, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
    """√Σx², with gradient 0 where all x are 0."""
    return safe_sqrt(jnp.sum(x * x, axis=axis, keepdims=keepdims))


def p_norm(x: Array, p: float, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Array:
    """(Σ|x|^p)^(1/p); the extreme |x| at p = ±∞, how many are not 0 at p = 0. An x of 0 has gradient 0."""
    size = absolute(x)
    if p == 0:
        return jnp.sum((x != 0).astype(x.dtype), axis=axis, keepdims=keepdims)
    if p == 1:
        return jnp.sum(size, axis=axis, keepdims=keepdims)
    if abs(p) == jnp.inf:
        return (jnp.max if p > 0 else jnp.min)(size, axis=axis, keepdims=keepdims)
    if p < 0:
        raise NotImplementedError("a norm of finite p below 0 is not ported")
    powers = jnp.where(x == 0, 0, jnp.where(x == 0, 1, size) ** p)
    total = jnp.sum(powers, axis=axis, keepdims=keepdims)
    return jnp.where(total == 0, 0, jnp.where(total == 0, 1, total) ** (1 / p))


@aten("dist.default")
def distance(x: Array, other: Array, p: float = 2) -> Array:
    return euclidean_norm(x - other) if p == 2 else p_norm(x - other, p)


@aten("pairwise_distance.default", whole=True)
def pairwise_distance(x1: Array, x2: Array, p: float = 2, eps: float = 1e-6, keepdim: bool = False) -> Array:
    """‖x1 − x2 + eps‖ along the last dimension."""
    difference = x1 - x2 + eps
    if p == 2:
        return euclidean_norm(difference, axis=-1, keepdims=keepdim)
    return p_norm(difference, p, axis=-1, keepdims=keepdim)


@aten("cdist.default", "_cdist_forward.default", whole=True)
def cdist(x1: Array, x2: Array, p: float = 2, compute_mode: int | None = None) -> Array:
    """Distances of all pairs of rows: (…, n, d) and (…, m, d) to (…, n, m)."""
    if p == jnp.inf:
        raise NotImplementedError("aten.cdist with p = inf is not ported: take amax of the differences")
    difference = x1[..., :, None, :] - x2[..., None, :, :]
    return euclidean_norm(difference, axis=-1) if p == 2 else p_norm(difference, p, axis=-1)


@aten("cosine_similarity.default", whole=True)
def cosine_similarity(x1: Array, x2: Array, dim: int = 1, eps: float = 1e-8) -> Array:
    """The cosine of the angle between x1 and x2 along ``dim``; no norm counts as less than ``eps``."""

    def unit(x: Array) -> Array:
        length = euclidean_norm(x, axis=dim, keepdims=True)
        length = length + lax.stop_gradient(jnp.maximum(length, eps) - length)  # the bound has no gradient
        return x / length

    x1, x2 = jnp.broadcast_arrays(x1, x2)
    return jnp.sum(unit(x1) * unit(x2), axis=dim)


# Exponentials.


@aten("logsumexp.default", "special_logsumexp.default")
def logsumexp(x: Array, dim: tuple[int, ...], keepdim: bool = False, *, dtype: jnp.dtype) -> Array:
    return jax.nn.logsumexp(x.astype(dtype), axis=dim if dim else None, keepdims=keepdim)


@aten("softmax.int", "special_softmax.default")
def softmax(x: Array, dim: int, dtype: jnp.dtype | None = None) -> Array:
    return jax.nn.softmax(x if dtype is None else x.astype(dtype), axis=dim)


@aten("log_softmax.int", "special_log_softmax.default")
def log_softmax(x: Array, dim: int, dtype: jnp.dtype | None = None) -> Array:
    return jax.nn.log_softmax(x if dtype is None else x.astype(dtype), axis=dim)


@aten("_softmax.default")
def softmax_widened(x: Array, dim: int, half_to_float: bool) -> Array:
    return jax.nn.softmax(x.astype(jnp.float32) if half_to_float else x, axis=dim)


@aten("_log_softmax.default")
def log_softmax_widened(x: Array, dim: int, half_to_float: bool) -> Array:
    return jax.nn.log_softmax(x.astype(jnp.float32) if half_to_float else x, axis=dim)


# Running sums, products, extremes.


@aten("cumsum.default")
def cumulative_sum(x: Array, dim: int, *, dtype: jnp.dtype) -> Array:
    return jnp.cumsum(x.astype(dtype), axis=dim)


@aten("cumprod.default")
def cumulative_product(x: Array, dim: int, *, dtype: jnp.dtype) -> Array:
    return jnp.cumprod(x.astype(dtype), axis=dim)


@aten("logcumsumexp.default")
def cumulative_logsumexp(x: Array, dim: int) -> Array:
    return lax.cumlogsumexp(x, axis=dim % x.ndim)


@aten("cummax.default", whole=True)
def cumulative_max(x: Array, dim: int) -> tuple[Array, Array]:
    """The largest of x so far along ``dim`` and its place: at ties the last, which gets the gradient."""
    dim = dim % x.ndim
    own = jnp.indices(x.shape, sparse=True)[dim]
    place = lax.cummax(jnp.where(x == lax.cummax(x, axis=dim), own, 0), axis=dim)
    return jnp.take_along_axis(x, place, axis=dim), place


@aten("cummin.default", whole=True)
def cumulative_min(x: Array, dim: int) -> tuple[Array, Array]:
    """The smallest of x so far along ``dim`` and its place: at ties the last, which gets the gradient."""
    dim = dim % x.ndim
    own = jnp.indices(x.shape, sparse=True)[dim]
    place = lax.cummax(jnp.where(x == lax.cummin(x, axis=dim), own, 0), axis=dim)
    return jnp.take_along_axis(x, place, axis=dim), place


@aten("diff.default")
def differences(
    x: Array, n: int = 1, dim: int = -1, prepend: Array | None = None, append: Array | None = None
) -> Array:
    return jnp.diff(x, n=n, axis=dim, prepend=prepend, append=append)
