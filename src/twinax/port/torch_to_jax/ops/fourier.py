"""Fourier transforms."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from twinax.port.torch_to_jax.ops.base import aten

FFT_NORMS = ("backward", "ortho", "forward")
"""What a forward transform is divided by, by torch's code: nothing, √n, n."""
INVERSE_FFT_NORMS = ("forward", "ortho", "backward")
"""Of an inverse transform."""


@aten("fft_fft.default")
def fft(x: Array, n: int | None = None, dim: int = -1, norm: str | None = None) -> Array:
    return jnp.fft.fft(x, n, dim, norm)


@aten("fft_ifft.default")
def ifft(x: Array, n: int | None = None, dim: int = -1, norm: str | None = None) -> Array:
    return jnp.fft.ifft(x, n, dim, norm)


@aten("fft_rfft.default")
def rfft(x: Array, n: int | None = None, dim: int = -1, norm: str | None = None) -> Array:
    return jnp.fft.rfft(x, n, dim, norm)


@aten("fft_irfft.default")
def irfft(x: Array, n: int | None = None, dim: int = -1, norm: str | None = None) -> Array:
    return jnp.fft.irfft(x, n, dim, norm)


@aten("fft_hfft.default")
def hfft(x: Array, n: int | None = None, dim: int = -1, norm: str | None = None) -> Array:
    return jnp.fft.hfft(x, n, dim, norm)


@aten("fft_fft2.default")
def fft2(
    x: Array, s: list[int] | None = None, dim: tuple[int, ...] = (-2, -1), norm: str | None = None
) -> Array:
    return jnp.fft.fft2(x, s, dim, norm)


@aten("fft_ifft2.default")
def ifft2(
    x: Array, s: list[int] | None = None, dim: tuple[int, ...] = (-2, -1), norm: str | None = None
) -> Array:
    return jnp.fft.ifft2(x, s, dim, norm)


@aten("fft_rfft2.default")
def rfft2(
    x: Array, s: list[int] | None = None, dim: tuple[int, ...] = (-2, -1), norm: str | None = None
) -> Array:
    return jnp.fft.rfft2(x, s, dim, norm)


@aten("fft_irfft2.default")
def irfft2(
    x: Array, s: list[int] | None = None, dim: tuple[int, ...] = (-2, -1), norm: str | None = None
) -> Array:
    return jnp.fft.irfft2(x, s, dim, norm)


@aten("fft_fftn.default")
def fftn(x: Array, s: list[int] | None = None, dim: list[int] | None = None, norm: str | None = None) -> Array:
    return jnp.fft.fftn(x, s, dim, norm)


@aten("fft_ifftn.default")
def ifftn(x: Array, s: list[int] | None = None, dim: list[int] | None = None, norm: str | None = None) -> Array:
    return jnp.fft.ifftn(x, s, dim, norm)


@aten("fft_rfftn.default")
def rfftn(x: Array, s: list[int] | None = None, dim: list[int] | None = None, norm: str | None = None) -> Array:
    return jnp.fft.rfftn(x, s, dim, norm)


@aten("fft_irfftn.default")
def irfftn(
    x: Array, s: list[int] | None = None, dim: list[int] | None = None, norm: str | None = None
) -> Array:
    return jnp.fft.irfftn(x, s, dim, norm)


@aten("fft_fftshift.default")
def fftshift(x: Array, dim: list[int] | None = None) -> Array:
    return jnp.fft.fftshift(x, dim)


@aten("fft_ifftshift.default")
def ifftshift(x: Array, dim: list[int] | None = None) -> Array:
    return jnp.fft.ifftshift(x, dim)


@aten("fft_fftfreq.default")
def fftfreq(n: int, d: float = 1.0, *, dtype: jnp.dtype) -> Array:
    return jnp.fft.fftfreq(n, d, dtype=dtype)


@aten("fft_rfftfreq.default")
def rfftfreq(n: int, d: float = 1.0, *, dtype: jnp.dtype) -> Array:
    return jnp.fft.rfftfreq(n, d, dtype=dtype)


@aten("_fft_r2c.default", whole=True)
def real_to_complex(x: Array, dim: list[int], normalization: int, onesided: bool) -> Array:
    """Fourier transform of real numbers; ``onesided`` leaves out the half that is the other's conjugate."""
    transform = jnp.fft.rfftn if onesided else jnp.fft.fftn
    return transform(x, axes=dim, norm=FFT_NORMS[normalization])


@aten("_fft_c2c.default", whole=True)
def complex_to_complex(x: Array, dim: list[int], normalization: int, forward: bool) -> Array:
    """Fourier transform, forward or inverse."""
    if forward:
        return jnp.fft.fftn(x, axes=dim, norm=FFT_NORMS[normalization])
    return jnp.fft.ifftn(x, axes=dim, norm=INVERSE_FFT_NORMS[normalization])


@aten("_fft_c2r.default", whole=True)
def complex_to_real(x: Array, dim: list[int], normalization: int, last_dim_size: int) -> Array:
    """Inverse Fourier transform to real numbers, of which the last dimension has ``last_dim_size``."""
    sizes = [*(x.shape[d] for d in dim[:-1]), last_dim_size]
    return jnp.fft.irfftn(x, sizes, axes=dim, norm=INVERSE_FFT_NORMS[normalization])
