"""Operations that read or write where other numbers say, and those that order numbers."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from twinax.port.torch_to_jax.ops.base import aten
from twinax.port.torch_to_jax.ops.shaping import at_dim

# Reading.


@aten("index.Tensor", "index.Tensor_hacked_twin", whole=True)
def index_by(x: Array, indices: tuple[Array | None, ...]) -> Array:
    """x[indices], where None stands for a whole dimension."""
    if any(i is not None and i.dtype in (bool, jnp.uint8) for i in indices):
        raise NotImplementedError(
            "aten.index with a mask is not ported: its shape depends on data; use torch.where"
        )
    return x[tuple(slice(None) if i is None else i for i in indices)]


@aten("index_select.default")
def index_select(x: Array, dim: int, index: Array) -> Array:
    return jnp.take(x, jnp.atleast_1d(index), axis=dim)


@aten("take.default")
def take_flat(x: Array, index: Array) -> Array:
    return x.ravel()[index]


@aten("gather.default", whole=True)
def gather(x: Array, dim: int, index: Array, sparse_grad: bool = False) -> Array:
    """x's elements at ``index`` along ``dim``; x may be longer than ``index`` in the other dimensions."""
    return x[along(index, dim)]


@aten("take_along_dim.default")
def take_along_dim(x: Array, indices: Array, dim: int | None = None) -> Array:
    return jnp.take_along_axis(x, indices, axis=dim) if dim is not None else x.ravel()[indices.ravel()]


def along(index: Array, dim: int) -> tuple[Array, ...]:
    """The indices of x[…] for ``index`` along ``dim`` and each element's own place along the others."""
    places = list(jnp.indices(index.shape, sparse=True))
    places[dim] = index
    return tuple(places)


@aten("embedding.default")
def embedding(
    weight: Array,
    indices: Array,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Array:
    return (
        weight[indices]
        if padding_idx < 0 and not scale_grad_by_freq
        else padded_embedding(weight, indices, padding_idx, scale_grad_by_freq)
    )


def padded_embedding(weight: Array, indices: Array, padding_idx: int, scale_grad_by_freq: bool) -> Array:
    """Rows of ``weight``, of which row ``padding_idx`` gets no gradient."""
    if scale_grad_by_freq:
        raise NotImplementedError("aten.embedding with scale_grad_by_freq is not ported: scale the gradient")
    rows = weight[indices]
    return jnp.where((indices == padding_idx)[..., None], lax.stop_gradient(rows), rows)


@aten("embedding_bag.default", "embedding_bag.padding_idx", whole=True, results=(0,))
def embedding_bag(
    weight: Array,
    indices: Array,
    offsets: Array,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Array | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Array:
    """The sums (mode 0) or means (1) of bags of rows of ``weight``; bag b begins at ``offsets[b]``."""
    if mode == 2 or scale_grad_by_freq:
        raise NotImplementedError("aten.embedding_bag by max or with scale_grad_by_freq is not ported")
    if include_last_offset:
        offsets = offsets[:-1]
    bag = jnp.searchsorted(offsets, jnp.arange(len(indices)), side="right") - 1
    share = jnp.ones(len(indices), weight.dtype)
    if padding_idx is not None:
        share = (indices != padding_idx % len(weight)).astype(weight.dtype)
    count = jax.ops.segment_sum(share, bag, len(offsets))
    if per_sample_weights is not None:
        share = share * per_sample_weights
    sums = jax.ops.segment_sum(weight[indices] * share[:, None], bag, len(offsets))
    return sums if mode == 0 else sums / jnp.maximum(count, 1)[:, None]


@aten("one_hot.default")
def one_hot(x: Array, num_classes: int = -1) -> Array:
    return jax.nn.one_hot(x, num_classes, dtype=int) if num_classes >= 0 else one_hot_counted(x)


def one_hot_counted(x: Array) -> Array:
    """Refused: the number of classes is one more than the largest x."""
    raise NotImplementedError("aten.one_hot is not ported where it counts the classes: give num_classes")


# Writing. Where one place is written several times, torch promises no order.


@aten("index_put.default", "index_put.hacked_twin", whole=True)
def index_put(x: Array, indices: tuple[Array | None, ...], values: Array, accumulate: bool = False) -> Array:
    """x with ``values`` written at x[indices], or added there."""
    if any(i is not None and i.dtype in (bool, jnp.uint8) for i in indices):
        return mask_put(x, indices, values, accumulate)
    at = x.at[tuple(slice(None) if i is None else i for i in indices)]
    return at.add(values) if accumulate else at.set(values)


def mask_put(x: Array, indices: tuple[Array | None, ...], values: Array, accumulate: bool) -> Array:
    """x with ``values``, the same for all entries of a mask, written or added where the mask holds."""
    masks = [i for i in indices if i is not None]
    if len(masks) > 1:
        raise NotImplementedError("aten.index_put with a mask and indices is not ported: use torch.where")
    first, mask = [i is None for i in indices].index(False), masks[0].astype(bool)
    rest = x.shape[first + mask.ndim :]
    if values.ndim > len(rest) and values.shape[-len(rest) - 1] != 1:
        raise NotImplementedError("aten.index_put of a value for each entry of a mask: use masked_scatter")
    values = jnp.broadcast_to(values, (*x.shape[:first], 1, *rest))
    values = values.reshape(*x.shape[:first], *(1,) * mask.ndim, *rest)
    mask = mask.reshape(mask.shape + (1,) * len(rest))
    return jnp.where(mask, x + values if accumulate else values, x)


@aten("scatter.src", whole=True)
def scatter(x: Array, dim: int, index: Array, src: Array) -> Array:
    """x with ``src`` (its part that is as large as ``index``) written at ``index`` along ``dim``."""
    return x.at[along(index, dim)].set(cropped(src, index))


@aten("scatter.value", whole=True)
def scatter_number(x: Array, dim: int, index: Array, value: float) -> Array:
    """x with a number written at ``index`` along ``dim``."""
    return x.at[along(index, dim)].set(value)


@aten("scatter_add.default", whole=True)
def scatter_add(x: Array, dim: int, index: Array, src: Array) -> Array:
    """x with ``src`` (its part that is as large as ``index``) added at ``index`` along ``dim``."""
    return x.at[along(index, dim)].add(cropped(src, index))


@aten("scatter.reduce", whole=True)
def scatter_into(x: Array, dim: int, index: Array, src: Array, reduce: str) -> Array:
    """x with ``src`` added, or multiplied, at ``index`` along ``dim``."""
    return scatter_number_into(x, dim, index, cropped(src, index), reduce)


@aten("scatter.value_reduce", whole=True)
def scatter_number_into(x: Array, dim: int, index: Array, value: float | Array, reduce: str) -> Array:
    """x with ``value`` added, or multiplied, at ``index`` along ``dim``."""
    at = x.at[along(index, dim)]
    return at.add(value) if reduce == "add" else at.multiply(value)


def cropped(src: Array, index: Array) -> Array:
    """The part of ``src`` that is as large as ``index``."""
    return src[tuple(slice(n) for n in index.shape)]


@aten("scatter_reduce.two", whole=True)
def scatter_reduce(
    x: Array, dim: int, index: Array, src: Array, reduce: str, include_self: bool = True
) -> Array:
    """x with ``src`` reduced into it at ``index`` along ``dim``: sum, prod, mean, amax or amin.

    Without ``include_self``, what x has there does not count. Equal extremes share the gradient evenly.
    """
    at, src = along(index, dim), cropped(src, index)
    real = jnp.issubdtype(x.dtype, jnp.floating)
    least, most = (-jnp.inf, jnp.inf) if real else (jnp.iinfo(x.dtype).min, jnp.iinfo(x.dtype).max)
    start = x
    if not include_self:
        start = x.at[at].set({"sum": 0, "mean": 0, "prod": 1, "amax": least, "amin": most}[reduce])
    if reduce == "sum":
        return start.at[at].add(src)
    if reduce == "prod":
        return start.at[at].multiply(src)
    if reduce == "mean":
        count = jnp.full_like(x, int(include_self)).at[at].add(1)
        return (jnp.divide if real else jnp.floor_divide)(start.at[at].add(src), jnp.maximum(count, 1))
    fixed, fixed_src = lax.stop_gradient((start, src))
    extreme = fixed.at[at].max(fixed_src) if reduce == "amax" else fixed.at[at].min(fixed_src)
    if not real:
        return extreme
    if not include_self:  # torch shares the gradient with x even then, and takes it away afterwards
        x = x.at[at].set(lax.stop_gradient(x)[at])
    own, other = x == extreme, src == extreme[at]
    count = own.astype(x.dtype).at[at].add(other.astype(x.dtype))
    return jnp.where(own, x, 0).at[at].add(jnp.where(other, src, 0)) / count


@aten("index_add.default", whole=True)
def index_add(x: Array, dim: int, index: Array, source: Array, alpha: float = 1) -> Array:
    """x with ``alpha * source`` added at ``index`` along ``dim``."""
    return x.at[at_dim(x, dim, jnp.atleast_1d(index))].add(alpha * source)


@aten("index_copy.default", whole=True)
def index_copy(x: Array, dim: int, index: Array, source: Array) -> Array:
    """x with ``source`` written at ``index`` along ``dim``."""
    return x.at[at_dim(x, dim, jnp.atleast_1d(index))].set(source)


@aten("index_fill.int_Scalar", "index_fill.int_Tensor", whole=True)
def index_fill(x: Array, dim: int, index: Array, value: float | Array) -> Array:
    """x with one number written at ``index`` along ``dim``."""
    return x.at[at_dim(x, dim, index)].set(value)


@aten("masked_scatter.default", whole=True)
def masked_scatter(x: Array, mask: Array, source: Array) -> Array:
    """x where ``mask`` does not hold, else the next of the numbers in ``source``."""
    x, mask = jnp.broadcast_arrays(x, mask)
    order = jnp.cumsum(mask.ravel()) - 1  # the how-manieth place of the mask
    return jnp.where(mask, source.ravel()[order].reshape(x.shape), x)


# Order. At ties, the first comes first.


@aten("argmax.default")
def argmax(x: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    return jnp.argmax(x, axis=dim, keepdims=keepdim)


@aten("argmin.default")
def argmin(x: Array, dim: int | None = None, keepdim: bool = False) -> Array:
    return jnp.argmin(x, axis=dim, keepdims=keepdim)


@aten("argsort.default")
def argsort(x: Array, dim: int = -1, descending: bool = False) -> Array:
    return jnp.argsort(x, axis=dim, descending=True) if descending else jnp.argsort(x, axis=dim)


@aten("argsort.stable")
def argsort_stable(x: Array, *, stable: bool = True, dim: int = -1, descending: bool = False) -> Array:
    return jnp.argsort(x, axis=dim, descending=True) if descending else jnp.argsort(x, axis=dim)


@aten("sort.default", whole=True)
def sort_with_places(x: Array, dim: int = -1, descending: bool = False) -> tuple[Array, Array]:
    """x in order along ``dim``, and from where each came."""
    places = jnp.argsort(x, axis=dim, descending=descending)
    return jnp.take_along_axis(x, places, axis=dim), places


@aten("sort.stable")
def sort_stable(
    x: Array, *, stable: bool | None = True, dim: int = -1, descending: bool = False
) -> tuple[Array, Array]:
    return sort_with_places(x, dim, descending)


@aten("topk.default", whole=True)
def topk(x: Array, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Array, Array]:
    """The k largest or smallest of x along ``dim`` in order, and their places."""
    places = jnp.argsort(x, axis=dim, descending=largest)[at_dim(x, dim, slice(k))]
    return jnp.take_along_axis(x, places, axis=dim), places


@aten("kthvalue.default", whole=True)
def kth_value(x: Array, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Array, Array]:
    """The k-th smallest of x along ``dim``, and its place."""
    places = jnp.argsort(x, axis=dim)[at_dim(x, dim, slice(k - 1, k))]
    values = jnp.take_along_axis(x, places, axis=dim)
    return (values, places) if keepdim else (values.squeeze(dim), places.squeeze(dim))


@aten("searchsorted.Tensor", "searchsorted.Scalar", whole=True)
def searchsorted(
    sorted_sequence: Array,
    x: Array,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Array | None = None,
) -> Array:
    """Where each x belongs in the sorted numbers: in one sequence, or in that of its row."""
    if sorter is not None:
        sorted_sequence = jnp.take_along_axis(sorted_sequence, sorter, axis=-1)
    search = partial(jnp.searchsorted, side="right" if right else side or "left")
    if sorted_sequence.ndim > 1:
        search = jnp.vectorize(search, signature="(n),(m)->(m)")
    return search(sorted_sequence, x).astype(jnp.int32 if out_int32 else int)


@aten("bucketize.Tensor", "bucketize.Scalar", whole=True)
def bucketize(x: Array, boundaries: Array, *, out_int32: bool = False, right: bool = False) -> Array:
    """Between which sorted boundaries each x lies."""
    return searchsorted(boundaries, x, out_int32=out_int32, right=right)
