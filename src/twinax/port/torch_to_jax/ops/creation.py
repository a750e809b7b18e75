"""Arrays made of numbers, copies, casts, and complex numbers."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array, lax

from twinax.port.torch_to_jax.ops.base import aten


@aten("full.default")
def full(size: Sequence[int], fill_value: float, *, dtype: jnp.dtype) -> Array:
    return jnp.full(size, fill_value, dtype)


@aten("zeros.default", "empty.memory_format")
def zeros(size: Sequence[int], *, dtype: jnp.dtype) -> Array:
    return jnp.zeros(size, dtype)


@aten("empty_strided.default")
def zeros_strided(size: Sequence[int], stride: Sequence[int], *, dtype: jnp.dtype) -> Array:
    return jnp.zeros(size, dtype)


@aten("empty_permuted.default")
def zeros_permuted(size: Sequence[int], physical_layout: Sequence[int], *, dtype: jnp.dtype) -> Array:
    return jnp.zeros(size, dtype)


@aten("ones.default")
def ones(size: Sequence[int], *, dtype: jnp.dtype) -> Array:
    return jnp.ones(size, dtype)


@aten("new_full.default")
def new_full(x: Array, size: Sequence[int], fill_value: float, *, dtype: jnp.dtype | None = None) -> Array:
    return jnp.full(size, fill_value, x.dtype if dtype is None else dtype)


@aten("new_zeros.default", "new_empty.default")
def new_zeros(x: Array, size: Sequence[int], *, dtype: jnp.dtype | None = None) -> Array:
    return jnp.zeros(size, x.dtype if dtype is None else dtype)


@aten("new_empty_strided.default")
def new_zeros_strided(
    x: Array, size: Sequence[int], stride: Sequence[int], *, dtype: jnp.dtype | None = None
) -> Array:
    return jnp.zeros(size, x.dtype if dtype is None else dtype)


@aten("new_ones.default")
def new_ones(x: Array, size: Sequence[int], *, dtype: jnp.dtype | None = None) -> Array:
    return jnp.ones(size, x.dtype if dtype is None else dtype)


@aten("full_like.default")
def full_like(x: Array, fill_value: float, dtype: jnp.dtype | None = None) -> Array:
    return jnp.full_like(x, fill_value) if dtype is None else jnp.full_like(x, fill_value, dtype=dtype)


@aten("zeros_like.default", "empty_like.default", "zero.default")
def zeros_like(x: Array, dtype: jnp.dtype | None = None) -> Array:
    return jnp.zeros_like(x) if dtype is None else jnp.zeros_like(x, dtype=dtype)


@aten("ones_like.default")
def ones_like(x: Array, dtype: jnp.dtype | None = None) -> Array:
    return jnp.ones_like(x) if dtype is None else jnp.ones_like(x, dtype=dtype)


@aten("scalar_tensor.default")
def scalar_tensor(s: float, *, dtype: jnp.dtype) -> Array:
    return jnp.asarray(s, dtype)


@aten("arange.default")
def arange_to(end: float, *, dtype: jnp.dtype) -> Array:
    return jnp.arange(end, dtype=dtype)


@aten("arange.start")
def arange_from(start: float, end: float, *, dtype: jnp.dtype) -> Array:
    return jnp.arange(start, end, dtype=dtype)


@aten("arange.start_step")
def arange(start: float, end: float, step: float = 1, *, dtype: jnp.dtype) -> Array:
    return jnp.arange(start, end, dtype=dtype) if step == 1 else jnp.arange(start, end, step, dtype)


@aten("linspace.default")
def linspace(start: float, end: float, steps: int, *, dtype: jnp.dtype) -> Array:
    return jnp.linspace(start, end, steps, dtype=dtype)


@aten("eye.default")
def eye(n: int, *, dtype: jnp.dtype) -> Array:
    return jnp.eye(n, dtype=dtype)


@aten("eye.m")
def eye_rectangular(n: int, m: int, *, dtype: jnp.dtype) -> Array:
    return jnp.eye(n, m, dtype=dtype)


@aten("tril_indices.default")
def tril_indices(row: int, col: int, offset: int = 0, *, dtype: jnp.dtype) -> Array:
    return jnp.stack(jnp.tril_indices(row, offset, col)).astype(dtype)


@aten("triu_indices.default")
def triu_indices(row: int, col: int, offset: int = 0, *, dtype: jnp.dtype) -> Array:
    return jnp.stack(jnp.triu_indices(row, offset, col)).astype(dtype)


@aten("tril.default")
def tril(x: Array, diagonal: int = 0) -> Array:
    return jnp.tril(x) if diagonal == 0 else jnp.tril(x, diagonal)


@aten("triu.default")
def triu(x: Array, diagonal: int = 0) -> Array:
    return jnp.triu(x) if diagonal == 0 else jnp.triu(x, diagonal)


@aten("diag_embed.default", whole=True)
def diag_embed(x: Array, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Array:
    """Matrices over dim1 and dim2, zero but for a diagonal that is the last axis of x."""
    n = x.shape[-1] + abs(offset)
    rows = jnp.arange(x.shape[-1]) + max(-offset, 0)
    matrices = jnp.zeros((*x.shape[:-1], n, n), x.dtype).at[..., rows, rows + offset].set(x)
    return jnp.moveaxis(matrices, (-2, -1), (dim1, dim2))


@aten("clone.default", "contiguous.default", "lift_fresh.default")
def clone(x: Array) -> Array:
    return x


@aten("detach.default", "detach_copy.default")
def detach(x: Array) -> Array:
    return lax.stop_gradient(x)


@aten("_to_copy.default", "to.dtype", "to.dtype_layout", "to.device")
def cast(x: Array, dtype: jnp.dtype | None = None, copy: bool = False) -> Array:
    return x if dtype is None else x.astype(dtype)


@aten("type_as.default", "to.other")
def cast_as(x: Array, other: Array, copy: bool = False) -> Array:
    return x.astype(other.dtype)


@aten("complex.default")
def complex_of(real: Array, imag: Array) -> Array:
    return lax.complex(*jnp.broadcast_arrays(real, imag))


@aten("polar.default", whole=True)
def polar(abs: Array, angle: Array) -> Array:
    """The complex numbers of these lengths and angles."""
    return lax.complex(abs * jnp.cos(angle), abs * jnp.sin(angle))


@aten("view_as_complex.default")
def view_as_complex(x: Array) -> Array:
    return lax.complex(x[..., 0], x[..., 1])


@aten("view_as_real.default")
def view_as_real(x: Array) -> Array:
    return jnp.stack([jnp.real(x), jnp.imag(x)], axis=-1)


@aten("real.default")
def real_part(x: Array) -> Array:
    return jnp.real(x)


@aten("imag.default")
def imaginary_part(x: Array) -> Array:
    return jnp.imag(x)


@aten("conj.default", "_conj.default", "_conj_physical.default", "conj_physical.default")
def conjugate(x: Array) -> Array:
    return jnp.conj(x)


@aten("resolve_conj.default", "resolve_neg.default")
def resolved(x: Array) -> Array:
    return x


@aten("angle.default")
def angle(x: Array) -> Array:
    return jnp.angle(x)
