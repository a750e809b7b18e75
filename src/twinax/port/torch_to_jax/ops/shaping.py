"""Operations that only move numbers: shapes, orders, pieces, borders."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from twinax.port.torch_to_jax.ops.base import aten

# Shape and order.


@aten("view.default", "view_copy.default")
def view(x: Array, size: tuple[int, ...]) -> Array:
    return x.reshape(size)


@aten("reshape.default")
def reshape_to(x: Array, shape: tuple[int, ...]) -> Array:
    return x.reshape(shape)


@aten("view_as.default", "reshape_as.default")
def view_as(x: Array, other: Array) -> Array:
    return x.reshape(other.shape)


@aten("flatten.using_ints")
def flatten(x: Array, start_dim: int = 0, end_dim: int = -1) -> Array:
    """Dimensions ``start_dim`` to ``end_dim`` as one; a number becomes a vector."""
    if x.ndim == 0:
        return x.reshape(1)
    start, end = start_dim % x.ndim, end_dim % x.ndim + 1
    return x.reshape(*x.shape[:start], math.prod(x.shape[start:end]), *x.shape[end:])


@aten("unflatten.int")
def unflatten(x: Array, dim: int, sizes: tuple[int, ...]) -> Array:
    """Dimension ``dim`` as several of ``sizes``."""
    dim = dim % x.ndim
    known = math.prod(size for size in sizes if size != -1)
    found = [x.shape[dim] // known if size == -1 else size for size in sizes]
    return x.reshape(*x.shape[:dim], *found, *x.shape[dim + 1 :])


@aten("expand.default", "broadcast_to.default", "expand_copy.default")
def expand(x: Array, size: tuple[int, ...], implicit: bool = False) -> Array:
    return jnp.broadcast_to(x, size) if -1 not in size else expand_keeping(x, size)


def expand_keeping(x: Array, size: tuple[int, ...]) -> Array:
    """x broadcast to ``size``, where -1 keeps a dimension as it is."""
    own = (1,) * (len(size) - x.ndim) + x.shape
    return jnp.broadcast_to(x, [n if s == -1 else s for s, n in zip(size, own, strict=True)])


@aten("expand_as.default")
def expand_as(x: Array, other: Array) -> Array:
    return jnp.broadcast_to(x, other.shape)


@aten("broadcast_tensors.default")
def broadcast_tensors(tensors: list[Array]) -> list[Array]:
    return jnp.broadcast_arrays(*tensors)


@aten("permute.default", "permute_copy.default")
def permute(x: Array, dims: tuple[int, ...]) -> Array:
    return jnp.transpose(x, dims)


@aten("transpose.int", "swapaxes.default", "swapdims.default", "transpose_copy.int")
def swap_dims(x: Array, dim0: int, dim1: int) -> Array:
    return jnp.swapaxes(x, dim0, dim1)


@aten("t.default", "numpy_T.default", "t_copy.default")
def transpose_matrix(x: Array) -> Array:
    return x.T


@aten("mT.default")
def transpose_matrices(x: Array) -> Array:
    return x.mT


@aten("movedim.int", "movedim.intlist", "moveaxis.int", "moveaxis.intlist")
def move_dims(x: Array, source: int | tuple[int, ...], destination: int | tuple[int, ...]) -> Array:
    return jnp.moveaxis(x, source, destination)


@aten("unsqueeze.default", "unsqueeze_copy.default")
def unsqueeze(x: Array, dim: int) -> Array:
    return jnp.expand_dims(x, dim)


@aten("squeeze.default", "squeeze_copy.default")
def squeeze_all(x: Array) -> Array:
    return x.squeeze()


@aten("squeeze.dim", "squeeze_copy.dim")
def squeeze_dim(x: Array, dim: int) -> Array:
    return x.squeeze(dim) if x.shape[dim] == 1 else x


@aten("squeeze.dims", "squeeze_copy.dims", whole=True)
def squeeze_dims(x: Array, dim: tuple[int, ...]) -> Array:
    """x without those dimensions among ``dim`` whose size is 1."""
    return x.squeeze(tuple(d for d in dim if x.shape[d] == 1))


@aten("flip.default")
def flip_dims(x: Array, dims: tuple[int, ...]) -> Array:
    return jnp.flip(x, dims)


@aten("fliplr.default")
def flip_columns(x: Array) -> Array:
    return jnp.fliplr(x)


@aten("flipud.default")
def flip_rows(x: Array) -> Array:
    return jnp.flipud(x)


@aten("rot90.default")
def rotate_90(x: Array, k: int = 1, dims: tuple[int, int] = (0, 1)) -> Array:
    return jnp.rot90(x, k, dims)


@aten("roll.default")
def roll_dims(x: Array, shifts: tuple[int, ...], dims: tuple[int, ...] = ()) -> Array:
    return jnp.roll(x, shifts, dims) if dims else jnp.roll(x.ravel(), shifts).reshape(x.shape)


# Several into one, one into several. JAX joins arrays in the dtype that torch does.


@aten("cat.default", "concat.default", "concatenate.default")
def concatenate(tensors: list[Array], dim: int = 0) -> Array:
    return jnp.concatenate(tensors, axis=dim)


@aten("stack.default")
def stack(tensors: list[Array], dim: int = 0) -> Array:
    return jnp.stack(tensors, axis=dim)


@aten("hstack.default")
def stack_horizontally(tensors: list[Array]) -> Array:
    return jnp.hstack(tensors)


@aten("vstack.default")
def stack_vertically(tensors: list[Array]) -> Array:
    return jnp.vstack(tensors)


@aten("dstack.default")
def stack_in_depth(tensors: list[Array]) -> Array:
    return jnp.dstack(tensors)


@aten("column_stack.default")
def stack_columns(tensors: list[Array]) -> Array:
    return jnp.column_stack(tensors)


@aten("split.Tensor")
def split_evenly(x: Array, split_size: int, dim: int = 0) -> list[Array]:
    return jnp.split(x, [*range(split_size, x.shape[dim], split_size)], axis=dim)


@aten("split_with_sizes.default", "split.sizes")
def split_with_sizes(x: Array, split_sizes: tuple[int, ...], dim: int = 0) -> list[Array]:
    return jnp.split(x, np.cumsum(split_sizes)[:-1], axis=dim)


@aten("chunk.default", whole=True)
def chunk(x: Array, chunks: int, dim: int = 0) -> list[Array]:
    """At most ``chunks`` pieces along ``dim``, equally long but for the last."""
    size = max(1, -(-x.shape[dim] // chunks))
    return jnp.split(x, np.arange(size, x.shape[dim], size), axis=dim)


@aten("unbind.int")
def unbind(x: Array, dim: int = 0) -> tuple[Array, ...]:
    return jnp.unstack(x, axis=dim)


@aten("tensor_split.sections")
def split_in_sections(x: Array, sections: int, dim: int = 0) -> list[Array]:
    return jnp.array_split(x, sections, axis=dim)


@aten("tensor_split.indices")
def split_at(x: Array, indices: tuple[int, ...], dim: int = 0) -> list[Array]:
    return jnp.split(x, indices, axis=dim)


@aten("meshgrid.indexing")
def meshgrid(tensors: list[Array], indexing: str) -> list[Array]:
    return jnp.meshgrid(*tensors, indexing=indexing)


@aten("meshgrid.default")
def meshgrid_ij(tensors: list[Array]) -> list[Array]:
    return jnp.meshgrid(*tensors, indexing="ij")


# Repetition.


@aten("repeat.default")
def repeat_whole(x: Array, repeats: tuple[int, ...]) -> Array:
    return jnp.tile(x, repeats)


@aten("tile.default")
def tile(x: Array, dims: tuple[int, ...]) -> Array:
    return jnp.tile(x, dims)


@aten("repeat_interleave.self_int")
def repeat_each(x: Array, repeats: int, dim: int | None = None, output_size: int | None = None) -> Array:
    return jnp.repeat(x, repeats, axis=dim)


@aten("repeat_interleave.self_Tensor", whole=True)
def repeat_by(x: Array, repeats: Array, dim: int | None = None, output_size: int | None = None) -> Array:
    """Each element along ``dim`` as often as ``repeats`` says."""
    if output_size is None:
        raise NotImplementedError(
            "aten.repeat_interleave with a tensor of repeats is not ported: its shape depends on data; "
            "give output_size"
        )
    return jnp.repeat(x, repeats, axis=dim, total_repeat_length=output_size)


@aten("repeat_interleave.Tensor", whole=True)
def repeated_positions(repeats: Array, output_size: int | None = None) -> Array:
    """Position i as often as ``repeats[i]`` says."""
    return repeat_by(jnp.arange(len(repeats), dtype=repeats.dtype), repeats, 0, output_size)


# Pieces of one tensor.


def at_dim(x: Array, dim: int, index: object) -> tuple[object, ...]:
    """What to write in x[…] for ``index`` along ``dim`` and everything along the others."""
    return (slice(None),) * (dim % x.ndim) + (index,)


@aten("select.int", "select_copy.int")
def select(x: Array, dim: int, index: int) -> Array:
    return x[at_dim(x, dim, index)]


@aten("slice.Tensor", "slice_copy.Tensor")
def slice_dim(x: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Array:
    return x[at_dim(x, dim, slice(start, end, step))]


@aten("narrow.default", "narrow.Tensor", "narrow_copy.default")
def narrow(x: Array, dim: int, start: int | Array, length: int) -> Array:
    return lax.dynamic_slice_in_dim(x, start, length, axis=dim)


@aten("diagonal.default", "diagonal_copy.default")
def diagonal(x: Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Array:
    return jnp.diagonal(x, offset, dim1, dim2)


@aten("as_strided.default", "as_strided_copy.default", whole=True)
def as_strided(
    x: Array, size: tuple[int, ...], stride: tuple[int, ...], storage_offset: int | None = None
) -> Array:
    """x's numbers in C order, read from ``storage_offset`` on in steps of ``stride``."""
    steps = zip(stride, np.indices(size, sparse=True), strict=True)
    return x.ravel()[sum((step * i for step, i in steps), np.asarray(storage_offset or 0))]


@aten("select_scatter.default", whole=True)
def select_scatter(x: Array, src: Array, dim: int, index: int) -> Array:
    """x with ``src`` at ``index`` along ``dim``."""
    return x.at[at_dim(x, dim, index)].set(src.astype(x.dtype))


@aten("slice_scatter.default", whole=True)
def slice_scatter(
    x: Array, src: Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Array:
    """x with ``src`` at start:end:step along ``dim``."""
    return x.at[at_dim(x, dim, slice(start, end, step))].set(src.astype(x.dtype))


@aten("diagonal_scatter.default", whole=True)
def diagonal_scatter(x: Array, src: Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Array:
    """x with ``src`` on the diagonal of dimensions ``dim1`` and ``dim2``."""
    matrices = jnp.moveaxis(x, (dim1, dim2), (-2, -1))
    i = np.arange(src.shape[-1])
    matrices = matrices.at[..., i + max(-offset, 0), i + max(offset, 0)].set(src)
    return jnp.moveaxis(matrices, (-2, -1), (dim1, dim2))


@aten("alias.default", "alias_copy.default", "lift_fresh_copy.default")
def alias(x: Array) -> Array:
    return x


@aten("copy.default")
def copy_into(x: Array, src: Array) -> Array:
    return jnp.broadcast_to(src, x.shape).astype(x.dtype)


@aten("fill.Scalar", "fill.Tensor")
def fill(x: Array, value: float | Array) -> Array:
    return jnp.full_like(x, value)
