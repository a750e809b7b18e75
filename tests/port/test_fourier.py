"""Fourier transforms are torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_testing import EXAMPLES, agree, draw, seeds

import twinax.port.torch_to_jax.ops.fourier  # noqa: F401 - declares the operations
from twinax.port.torch_to_jax.ops.base import FUNCTIONS

pytestmark = pytest.mark.slow  # rarely in a model; each shape is compiled anew

REAL = ["rfft", "rfft2", "rfftn"]
TO_REAL = ["irfft", "irfft2", "irfftn", "hfft"]
COMPLEX = ["fft", "ifft", "fft2", "ifft2", "fftn", "ifftn"]
NORMS = st.sampled_from([None, "backward", "ortho", "forward"])


def numbers(shape, seed, complex_, double=True):
    x = draw(shape, seed, dtype=torch.float64 if double else torch.float32)
    return torch.complex(x, draw(shape, seed + 1, dtype=x.dtype)) if complex_ else x


def same_gradient(name, x, *args):
    """Of a real number made of the result, with respect to real and imaginary part."""
    operation = getattr(torch.ops.aten, name.split(".")[0]).default
    parts = [x.real, x.imag] if x.is_complex() else [x]
    theirs = [p.clone().requires_grad_(True) for p in parts]
    y = operation(torch.complex(*theirs) if x.is_complex() else theirs[0], *args)
    (y.abs().square() * torch.arange(1.0, y.numel() + 1).reshape(y.shape)).sum().backward()

    def total(parts):
        z = FUNCTIONS[name](lax_complex(parts), *args)
        square = z.real**2 + z.imag**2
        return (square * jnp.arange(1.0, z.size + 1).reshape(z.shape)).sum()

    def lax_complex(parts):
        return parts[0] + 1j * parts[1] if len(parts) == 2 else parts[0]

    with jax.enable_x64(True):
        ours = jax.grad(total)([jnp.asarray(p.numpy()) for p in parts])
    for here, there in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(here, there.grad.numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", [*REAL, *TO_REAL, *COMPLEX])
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    shape=st.lists(st.integers(2, 5), min_size=2, max_size=3).map(tuple), seed=seeds, norm=NORMS,
    double=st.booleans(), resized=st.booleans(), given_dims=st.booleans(),
)  # fmt: skip
def test_transforms(name, shape, seed, norm, double, resized, given_dims):
    x = numbers(shape, seed, name not in REAL, double)
    many = name[-1] in "2n"
    sizes = ([4, 3] if many else 4) if resized else None
    dims = ([0, -1] if many else 0) if given_dims else (None if name[-1] == "n" else [-2, -1] if many else -1)
    agree(f"fft_{name}.default", x, sizes, dims, norm, gradients=False)
    if double:
        same_gradient(f"fft_{name}.default", x, sizes, dims, norm)
    agree(f"fft_{name}.default", x, gradients=False)
    if name in COMPLEX:
        agree(f"fft_{name}.default", x.real.clone(), sizes, dims, norm, gradients=False)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    shape=st.lists(st.integers(2, 5), min_size=2, max_size=3).map(tuple), seed=seeds, code=st.integers(0, 2),
    dims=st.sampled_from([[0], [1], [0, 1]]), flag=st.booleans(),
)  # fmt: skip
def test_primitive_transforms(shape, seed, code, dims, flag):
    real, complex_ = numbers(shape, seed, False), numbers(shape, seed, True)
    agree("_fft_r2c.default", real, dims, code, flag, gradients=False)
    agree("_fft_c2c.default", complex_, dims, code, flag, gradients=False)
    size = 2 * (shape[dims[-1]] - 1) + flag
    agree("_fft_c2r.default", complex_, dims, code, size, gradients=False)
    same_gradient("_fft_r2c.default", real, dims, code, flag)
    same_gradient("_fft_c2r.default", complex_, dims, code, size)


@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 4)])
def test_shifts_and_frequencies(shape):
    for name in ("fft_fftshift.default", "fft_ifftshift.default"):
        agree(name, draw(shape))
        agree(name, draw(shape), [-1])
    for name in ("fft_fftfreq.default", "fft_rfftfreq.default"):
        agree(name, sum(shape))
        agree(name, sum(shape), 0.3, dtype=torch.float64)
