"""Linear algebra is torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_testing import EXAMPLES, agree, draw, seeds, shapes

import twinax.port.torch_to_jax.ops.algebra  # noqa: F401 - declares the operations
from twinax.port.torch_to_jax.ops.base import FUNCTIONS

pytestmark = pytest.mark.slow  # rarely in a model; each shape is compiled anew

BATCH = shapes(0, 2, side=3)
SIDE = st.integers(1, 4)
DTYPES = st.sampled_from([torch.float64, torch.float64, torch.float32])


def square(batch, side, seed, dtype=torch.float64):
    """Far from singular."""
    return draw((*batch, side, side), seed, dtype=dtype) * 0.3 + 2 * torch.eye(side, dtype=dtype)


def symmetric(batch, side, seed, dtype=torch.float64):
    """Positive definite, with eigenvalues that are apart."""
    x = draw((*batch, side, side), seed, dtype=dtype)
    return 0.05 * (x + x.mT) + torch.diag(torch.arange(1.0, side + 1).to(dtype))


def same_function(name, f, there, *xs):
    """What does not depend on signs of vectors: values and gradients of a function of the results."""
    packet, overload = name.split(".")
    operation = getattr(getattr(torch.ops.aten, packet), overload)
    theirs = [x.clone().requires_grad_(True) for x in xs]
    value = there(*operation(*theirs))
    value.backward()
    with jax.enable_x64(True):
        ours, gradients = jax.value_and_grad(lambda *a: f(*FUNCTIONS[name](*a)), tuple(range(len(xs))))(
            *(jnp.asarray(x.numpy()) for x in xs)
        )
    np.testing.assert_allclose(ours, value.item(), rtol=1e-9)
    for here, x in zip(gradients, theirs, strict=True):
        np.testing.assert_allclose(here, x.grad.numpy(), rtol=1e-8, atol=1e-8)


@settings(max_examples=EXAMPLES, deadline=None)
@given(batch=BATCH, side=SIDE, seed=seeds, dtype=DTYPES)
def test_inverses_and_determinants(batch, side, seed, dtype):
    x = square(batch, side, seed, dtype)
    for name in ["linalg_inv", "inverse", "linalg_det", "det", "linalg_slogdet", "slogdet", "logdet"]:
        agree(f"{name}.default", x)
        if 0 not in batch:
            agree(f"{name}.default", -x, gradients=name != "logdet")  # which may be NaN here
    agree("linalg_inv_ex.default", x)


@settings(max_examples=EXAMPLES, deadline=None)
@given(batch=shapes(0, 2, side=2, smallest=1), side=SIDE, seed=seeds)
def test_powers(batch, side, seed):
    x = square(batch, side, seed)
    for n in (0, 1, 2, 3, 5, -1, -2):
        agree("matrix_power.default", x, n)
    agree("linalg_matrix_exp.default", x, tolerance=1e-9)
    agree("linalg_pinv.atol_rtol_tensor", x, tolerance=1e-9)
    agree("linalg_pinv.atol_rtol_float", x[..., :1], rtol=1e-3, tolerance=1e-9)


def test_a_pseudo_inverse_leaves_out_what_is_rounding():
    x = torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=torch.float64)
    agree("linalg_pinv.atol_rtol_tensor", x, gradients=False)


@settings(max_examples=EXAMPLES, deadline=None)
@given(batch=BATCH, side=SIDE, columns=st.integers(1, 3), seed=seeds, dtype=DTYPES)
def test_solving(batch, side, columns, seed, dtype):
    A, B = square(batch, side, seed, dtype), draw((*batch, side, columns), seed + 1, dtype=dtype)
    agree("linalg_solve.default", A, B)
    agree("linalg_solve.default", A, B.mT.contiguous(), left=False)
    agree("linalg_solve.default", A, draw((*batch, side), seed + 1, dtype=dtype))
    agree("linalg_solve.default", A, draw((side, columns), seed + 1, dtype=dtype))
    for upper in (True, False):
        T = A.triu() if upper else A.tril()
        agree("linalg_solve_triangular.default", T, B, upper=upper)
        agree("linalg_solve_triangular.default", T, B.mT.contiguous(), upper=upper, left=False)
        unit = T - torch.diag_embed(T.diagonal(dim1=-2, dim2=-1)) + torch.eye(side, dtype=dtype)
        agree("linalg_solve_triangular.default", unit, B, upper=upper, unitriangular=True)


@settings(max_examples=EXAMPLES, deadline=None)
@given(batch=shapes(0, 2, side=2), side=SIDE, seed=seeds, dtype=DTYPES, upper=st.booleans())
def test_symmetric_matrices(batch, side, seed, dtype, upper):
    x = symmetric(batch, side, seed, dtype)
    agree("linalg_cholesky.default", x, upper=upper)
    agree("cholesky.default", x, upper)
    agree("linalg_cholesky_ex.default", x)
    agree("linalg_eigvalsh.default", x, "U" if upper else "L")


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 3, 3), (2, 4, 3)])
def test_qr(shape):
    agree("linalg_qr.default", draw(shape))
    agree("linalg_qr.default", draw(shape), "complete", gradients=shape[-1] == shape[-2])
    agree("linalg_qr.default", draw(shape), "r", gradients=False)
    agree("linalg_qr.default", draw(shape).mT, gradients=False)


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4), (2, 4, 3)])
def test_singular_vectors(shape):
    x = draw(shape)
    same_function(
        "linalg_svd.default" if shape[-1] == shape[-2] else "svd.default",
        lambda U, S, V: (U**4).sum() + (S**3).sum() + (V**4).sum(),
        lambda U, S, V: (U**4).sum() + (S**3).sum() + (V**4).sum(),
        x,
    )
    agree("linalg_svdvals.default", x)
    with jax.enable_x64(True):
        for full in (True, False):
            U, S, Vh = (np.asarray(a) for a in FUNCTIONS["linalg_svd.default"](jnp.asarray(x.numpy()), full))
            theirs = torch.linalg.svd(x, full_matrices=full)
            assert [a.shape for a in (U, S, Vh)] == [tuple(a.shape) for a in theirs]
            k = S.shape[-1]
            np.testing.assert_allclose((U[..., :k] * S[..., None, :]) @ Vh[..., :k, :], x, atol=1e-12)


@pytest.mark.parametrize("batch, side", [((), 3), ((2,), 2), ((), 1)])
def test_eigenvectors(batch, side):
    same_function(
        "linalg_eigh.default",
        lambda w, V: (w**3).sum() + (V**4).sum(),
        lambda w, V: (w**3).sum() + (V**4).sum(),
        symmetric(batch, side, 0),
    )


def test_what_is_refused():
    with pytest.raises(NotImplementedError, match="hermitian"):
        FUNCTIONS["linalg_pinv.atol_rtol_float"](jnp.eye(2), hermitian=True)
    with pytest.raises(NotImplementedError, match="compute_uv"):
        FUNCTIONS["svd.default"](jnp.eye(2), True, False)
