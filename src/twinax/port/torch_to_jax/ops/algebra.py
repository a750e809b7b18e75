"""Linear algebra. Where torch raises (a singular matrix, one that is not positive definite), JAX gives NaN."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from twinax.port.torch_to_jax.ops.base import aten


@aten("linalg_inv.default")
@aten("linalg_inv_ex.default", results=(0,))
def inverse_of(A: Array, *, check_errors: bool = False) -> Array:
    return jnp.linalg.inv(A)


@aten("inverse.default")
def inverse(x: Array) -> Array:
    return jnp.linalg.inv(x)


@aten("linalg_solve.default", whole=True)
@aten("linalg_solve_ex.default", "_linalg_solve_ex.default", whole=True, results=(0,))
def solve(A: Array, B: Array, *, left: bool = True, check_errors: bool = False) -> Array:
    """X with A·X = B (``left``) or X·A = B; B may be a vector, or a batch of them as large as A's."""
    if B.ndim == 1 or (B.ndim == A.ndim - 1 and B.shape == A.shape[:-1]):
        return jnp.linalg.solve(A, B[..., None])[..., 0]
    return jnp.linalg.solve(A, B) if left else jnp.linalg.solve(A.mT, B.mT).mT


@aten("linalg_solve_triangular.default", whole=True)
def solve_triangular(
    x: Array, B: Array, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Array:
    """Y with x·Y = B (``left``) or Y·x = B, of which only the upper or lower triangle is read."""
    batch = jnp.broadcast_shapes(x.shape[:-2], B.shape[:-2])
    x, B = jnp.broadcast_to(x, (*batch, *x.shape[-2:])), jnp.broadcast_to(B, (*batch, *B.shape[-2:]))
    return lax.linalg.triangular_solve(x, B, left_side=left, lower=not upper, unit_diagonal=unitriangular)


@aten("linalg_cholesky.default")
@aten("linalg_cholesky_ex.default", results=(0,))
def cholesky_of(x: Array, *, upper: bool = False, check_errors: bool = False) -> Array:
    return jnp.linalg.cholesky(x, upper=upper)


@aten("cholesky.default")
def cholesky(x: Array, upper: bool = False) -> Array:
    return jnp.linalg.cholesky(x, upper=upper)


@aten("linalg_qr.default", whole=True)
def qr(A: Array, mode: str = "reduced") -> tuple[Array, Array]:
    """Q and R; of mode "r", Q is empty."""
    if mode == "r":
        return jnp.zeros((0,), A.dtype), jnp.linalg.qr(A, mode="r")
    Q, R = jnp.linalg.qr(A, mode=mode)
    return Q, R


@aten("linalg_svd.default", whole=True)
def svd(A: Array, full_matrices: bool = True, *, driver: str | None = None) -> tuple[Array, Array, Array]:
    """U, S and Vᴴ. As torch's, the vectors' signs are not determined."""
    U, S, Vh = jnp.linalg.svd(A, full_matrices)
    return U, S, Vh


@aten("svd.default", whole=True)
def svd_with_v(x: Array, some: bool = True, compute_uv: bool = True) -> tuple[Array, Array, Array]:
    """U, S and V. As torch's, the vectors' signs are not determined."""
    if not compute_uv:
        raise NotImplementedError("aten.svd without compute_uv is not ported: call torch.linalg.svdvals")
    U, S, Vh = jnp.linalg.svd(x, not some)
    return U, S, Vh.mT.conj()


@aten("linalg_svdvals.default")
def singular_values(A: Array, *, driver: str | None = None) -> Array:
    return jnp.linalg.svd(A, compute_uv=False)


@aten("linalg_eigh.default", whole=True)
def eigh(x: Array, UPLO: str = "L") -> tuple[Array, Array]:
    """Eigenvalues in ascending order and eigenvectors of a symmetric matrix, whose signs are not determined."""
    values, vectors = jnp.linalg.eigh(x, UPLO)
    return values, vectors


@aten("linalg_eigvalsh.default")
def eigenvalues_of_symmetric(x: Array, UPLO: str = "L") -> Array:
    return jnp.linalg.eigvalsh(x, UPLO)


@aten("linalg_det.default")
@aten("_linalg_det.default", results=(0,))
def determinant_of(A: Array) -> Array:
    return jnp.linalg.det(A)


@aten("det.default")
def determinant(x: Array) -> Array:
    return jnp.linalg.det(x)


@aten("linalg_slogdet.default")
@aten("_linalg_slogdet.default", results=(0, 1))
def sign_and_log_determinant_of(A: Array) -> tuple[Array, Array]:
    return jnp.linalg.slogdet(A)


@aten("slogdet.default")
def sign_and_log_determinant(x: Array) -> tuple[Array, Array]:
    return jnp.linalg.slogdet(x)


@aten("logdet.default", whole=True)
def log_determinant(x: Array) -> Array:
    """log det x; NaN where the determinant is negative."""
    sign, log_size = jnp.linalg.slogdet(x)
    return log_size + jnp.log(sign)


@aten("matrix_power.default", "linalg_matrix_power.default")
def matrix_power(x: Array, n: int) -> Array:
    return jnp.linalg.matrix_power(x, n)


@aten("linalg_matrix_exp.default")
def matrix_exponential(x: Array) -> Array:
    return jax.scipy.linalg.expm(x)


@aten("linalg_pinv.atol_rtol_float", "linalg_pinv.atol_rtol_tensor", whole=True)
def pseudo_inverse(
    x: Array, *, atol: float | None = None, rtol: float | None = None, hermitian: bool = False
) -> Array:
    """Pseudo-inverse, without singular values up to max(atol, rtol · the largest)."""
    if atol is not None or hermitian:
        raise NotImplementedError("aten.linalg_pinv with atol or hermitian is not ported: give rtol alone")
    if rtol is None:
        rtol = max(x.shape[-2:]) * float(jnp.finfo(x.dtype).eps)
    return jnp.linalg.pinv(x, rtol=rtol)
