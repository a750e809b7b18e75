"""Operations on each element of one array.

Where torch makes floats of integers, ``dtype`` says which: ``astype`` changes nothing for floats.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax

from twinax.port.torch_to_jax.ops.arithmetic import clamp
from twinax.port.torch_to_jax.ops.base import aten


@aten("abs.default", "absolute.default", whole=True)
def absolute(x: Array) -> Array:
    """|x|, with torch's gradient at 0, which is 0 (jnp.abs: 1)."""
    return jnp.abs(x) if jnp.iscomplexobj(x) else x * lax.stop_gradient(jnp.sign(x))


@aten("exp.default")
def exp(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.exp(x.astype(dtype))


@aten("exp2.default")
def exp2(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.exp2(x.astype(dtype))


@aten("expm1.default")
def expm1(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.expm1(x.astype(dtype))


@aten("log.default")
def log(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.log(x.astype(dtype))


@aten("log2.default")
def log2(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.log2(x.astype(dtype))


@aten("log10.default")
def log10(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.log10(x.astype(dtype))


@aten("log1p.default")
def log1p(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.log1p(x.astype(dtype))


@aten("sqrt.default")
def sqrt(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.sqrt(x.astype(dtype))


@aten("rsqrt.default")
def rsqrt(x: Array, *, dtype: jnp.dtype) -> Array:
    return lax.rsqrt(x.astype(dtype))


@aten("reciprocal.default")
def reciprocal(x: Array, *, dtype: jnp.dtype) -> Array:
    return 1 / x.astype(dtype)


@aten("square.default")
def square(x: Array) -> Array:
    return jnp.square(x)


@aten("sin.default")
def sin(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.sin(x.astype(dtype))


@aten("cos.default")
def cos(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.cos(x.astype(dtype))


@aten("tan.default")
def tan(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.tan(x.astype(dtype))


@aten("sinh.default")
def sinh(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.sinh(x.astype(dtype))


@aten("cosh.default")
def cosh(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.cosh(x.astype(dtype))


@aten("tanh.default")
def tanh(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.tanh(x.astype(dtype))


@aten("asin.default")
def arcsin(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.arcsin(x.astype(dtype))


@aten("acos.default")
def arccos(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.arccos(x.astype(dtype))


@aten("atan.default")
def arctan(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.arctan(x.astype(dtype))


@aten("asinh.default")
def arcsinh(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.arcsinh(x.astype(dtype))


@aten("acosh.default")
def arccosh(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.arccosh(x.astype(dtype))


@aten("atanh.default")
def arctanh(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.arctanh(x.astype(dtype))


@aten("erf.default")
def erf(x: Array, *, dtype: jnp.dtype) -> Array:
    return lax.erf(x.astype(dtype))


@aten("erfc.default")
def erfc(x: Array, *, dtype: jnp.dtype) -> Array:
    return lax.erfc(x.astype(dtype))


@aten("erfinv.default")
def erfinv(x: Array, *, dtype: jnp.dtype) -> Array:
    return lax.erf_inv(x.astype(dtype))


@aten("lgamma.default")
def lgamma(x: Array, *, dtype: jnp.dtype) -> Array:
    return lax.lgamma(x.astype(dtype))


@aten("digamma.default")
def digamma(x: Array, *, dtype: jnp.dtype) -> Array:
    return lax.digamma(x.astype(dtype))


@aten("deg2rad.default")
def deg2rad(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.deg2rad(x.astype(dtype))


@aten("rad2deg.default")
def rad2deg(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.rad2deg(x.astype(dtype))


@aten("sinc.default")
def sinc(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.sinc(x.astype(dtype))


@aten("i0.default")
def bessel_i0(x: Array, *, dtype: jnp.dtype) -> Array:
    return jnp.i0(x.astype(dtype))


@aten("neg.default", "negative.default")
def negative(x: Array) -> Array:
    return -x


@aten("positive.default")
def positive(x: Array) -> Array:
    return x


@aten("sign.default", "sgn.default")
def sign(x: Array) -> Array:
    return jnp.sign(x)


@aten("floor.default")
def floor(x: Array) -> Array:
    return jnp.floor(x)


@aten("ceil.default")
def ceil(x: Array) -> Array:
    return jnp.ceil(x)


@aten("trunc.default")
def trunc(x: Array) -> Array:
    return jnp.trunc(x)


@aten("frac.default")
def frac(x: Array) -> Array:
    return x - jnp.trunc(x)


@aten("isnan.default")
def isnan(x: Array) -> Array:
    return jnp.isnan(x)


@aten("isinf.default")
def isinf(x: Array) -> Array:
    return jnp.isinf(x)


@aten("isfinite.default")
def isfinite(x: Array) -> Array:
    return jnp.isfinite(x)


@aten("isposinf.default")
def isposinf(x: Array) -> Array:
    return jnp.isposinf(x)


@aten("isneginf.default")
def isneginf(x: Array) -> Array:
    return jnp.isneginf(x)


@aten("signbit.default")
def signbit(x: Array) -> Array:
    return jnp.signbit(x)


@aten("logical_not.default")
def logical_not(x: Array) -> Array:
    return jnp.logical_not(x)


@aten("bitwise_not.default")
def bitwise_not(x: Array) -> Array:
    return ~x


@aten("sigmoid.default")
def sigmoid(x: Array, *, dtype: jnp.dtype) -> Array:
    return jax.nn.sigmoid(x.astype(dtype))


@aten("logit.default", whole=True)
def logit(x: Array, eps: float | None = None, *, dtype: jnp.dtype) -> Array:
    """log(x / (1 - x)), of x kept within eps and 1 - eps."""
    p = x.astype(dtype)
    if eps is not None:
        p = clamp(p, eps, 1 - eps)
    p = p * jnp.where((p < 0) | (p > 1), jnp.nan, 1)  # neither a value nor a gradient
    return jnp.log(p) - jnp.log1p(-p)


@aten("round.default", "round.decimals")
def rounded(x: Array, decimals: int = 0) -> Array:
    return jnp.round(x) if decimals == 0 else jnp.round(x, decimals)


@aten("nan_to_num.default")
def nan_to_num(
    x: Array, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Array:
    return jnp.nan_to_num(x, nan=0.0 if nan is None else nan, posinf=posinf, neginf=neginf)


@aten("special_entr.default")
def entropy(x: Array, *, dtype: jnp.dtype) -> Array:
    return jax.scipy.special.entr(x.astype(dtype))


@aten("special_ndtri.default")
def normal_quantile(x: Array, *, dtype: jnp.dtype) -> Array:
    return jax.scipy.special.ndtri(x.astype(dtype))


@aten("special_log_ndtr.default")
def normal_log_probability(x: Array, *, dtype: jnp.dtype) -> Array:
    return jax.scipy.special.log_ndtr(x.astype(dtype))
