"""Products of vectors and matrices. Linear algebra is in ``algebra``, Fourier transforms in ``fourier``."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from twinax.port.torch_to_jax.ops.base import aten


@aten("linear.default")
def linear(input: Array, weight: Array, bias: Array | None = None) -> Array:
    return input @ weight.T if bias is None else input @ weight.T + bias


@aten("matmul.default", "linalg_matmul.default")
def matmul(x: Array, other: Array) -> Array:
    return x @ other


@aten("mm.default", "bmm.default")
def matrix_product(x: Array, mat2: Array) -> Array:
    return x @ mat2


@aten("mv.default")
def matrix_by_vector(x: Array, vec: Array) -> Array:
    return x @ vec


@aten("dot.default")
def vector_product(x: Array, tensor: Array) -> Array:
    return x @ tensor


@aten("vdot.default")
def conjugate_product(x: Array, other: Array) -> Array:
    return jnp.vdot(x, other)


@aten("inner.default")
def inner_product(x: Array, other: Array) -> Array:
    return jnp.inner(x, other)


@aten("linalg_vecdot.default")
def vector_products(x: Array, y: Array, *, dim: int = -1) -> Array:
    return jnp.vecdot(x, y, axis=dim)


@aten("addmm.default")
def add_product(x: Array, mat1: Array, mat2: Array, *, beta: float = 1, alpha: float = 1) -> Array:
    return (0 if beta == 0 else x if beta == 1 else beta * x) + (
        mat1 @ mat2 if alpha == 1 else alpha * (mat1 @ mat2)
    )


@aten("baddbmm.default")
def add_products(x: Array, batch1: Array, batch2: Array, *, beta: float = 1, alpha: float = 1) -> Array:
    return (0 if beta == 0 else x if beta == 1 else beta * x) + (
        batch1 @ batch2 if alpha == 1 else alpha * (batch1 @ batch2)
    )


@aten("addbmm.default")
def add_sum_of_products(x: Array, batch1: Array, batch2: Array, *, beta: float = 1, alpha: float = 1) -> Array:
    return (0 if beta == 0 else x if beta == 1 else beta * x) + (
        jnp.einsum("bij,bjk->ik", batch1, batch2)
        if alpha == 1
        else alpha * jnp.einsum("bij,bjk->ik", batch1, batch2)
    )


@aten("addmv.default")
def add_matrix_by_vector(x: Array, mat: Array, vec: Array, *, beta: float = 1, alpha: float = 1) -> Array:
    return (0 if beta == 0 else x if beta == 1 else beta * x) + (
        mat @ vec if alpha == 1 else alpha * (mat @ vec)
    )


@aten("addr.default", promote=True)
def add_outer(x: Array, vec1: Array, vec2: Array, *, beta: float = 1, alpha: float = 1) -> Array:
    return (0 if beta == 0 else x if beta == 1 else beta * x) + (
        jnp.outer(vec1, vec2) if alpha == 1 else alpha * jnp.outer(vec1, vec2)
    )


@aten("outer.default", "ger.default", promote=True)
def outer_product(x: Array, vec2: Array) -> Array:
    return jnp.outer(x, vec2)


@aten("einsum.default")
def einsum(equation: str, tensors: list[Array], *, path: list[int] | None = None) -> Array:
    return jnp.einsum(equation, *tensors)


@aten("tensordot.default")
def tensordot(x: Array, other: Array, dims_self: list[int], dims_other: list[int]) -> Array:
    return jnp.tensordot(x, other, (dims_self, dims_other))


@aten("chain_matmul.default", "linalg_multi_dot.default")
def chain_of_products(tensors: list[Array]) -> Array:
    return jnp.linalg.multi_dot(tensors) if len(tensors) > 1 else tensors[0]


@aten("bilinear.default")
def bilinear(input1: Array, input2: Array, weight: Array, bias: Array | None = None) -> Array:
    return (
        jnp.einsum("...i,oij,...j->...o", input1, weight, input2)
        if bias is None
        else jnp.einsum("...i,oij,...j->...o", input1, weight, input2) + bias
    )


@aten("linalg_cross.default", promote=True)
def cross_product(x: Array, other: Array, *, dim: int = -1) -> Array:
    return jnp.cross(x, other, axis=dim)


@aten("cross.default", promote=True, whole=True)
def cross_product_along(x: Array, other: Array, dim: int | None = None) -> Array:
    """Cross product along a dimension of size 3, the first one unless it is given."""
    return jnp.cross(x, other, axis=x.shape.index(3) if dim is None else dim)


@aten("kron.default", promote=True)
def kronecker(x: Array, other: Array) -> Array:
    return jnp.kron(x, other)


@aten("trace.default")
def trace(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.trace(x, dtype=dtype)


@aten("_grouped_mm.default", "transformers.grouped_mm_fallback.default", whole=True)
def grouped_product(
    x: Array,
    mat2: Array,
    offs: Array | None = None,
    bias: Array | None = None,
    out_dtype: jnp.dtype | None = None,
) -> Array:
    """Product of each group of x's rows, which ends before offs[group], with the group's matrix."""
    if bias is not None or (out_dtype is not None and out_dtype != x.dtype):
        raise NotImplementedError(
            "aten._grouped_mm with bias or out_dtype is not ported: add or cast afterwards"
        )
    if offs is None:
        return x @ mat2  # (groups, rows, K) by (groups, K, N)
    if x.ndim != 2 or mat2.ndim != 3:
        raise NotImplementedError("aten._grouped_mm of groups of columns is not ported: loop over the groups")
    return lax.ragged_dot(x, mat2, jnp.diff(offs, prepend=0))
