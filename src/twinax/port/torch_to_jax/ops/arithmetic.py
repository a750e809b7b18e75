"""Operations on the elements of two or more arrays: arithmetic, comparisons, choices."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array, lax

from twinax.port.torch_to_jax.ops.base import aten


@aten("add.Tensor", "add.Scalar", promote=True)
def add(x: Array, y: Array, alpha: float = 1) -> Array:
    return x + y if alpha == 1 else x + alpha * y


@aten("sub.Tensor", "sub.Scalar", "subtract.Tensor", "subtract.Scalar", promote=True)
def subtract(x: Array, y: Array, alpha: float = 1) -> Array:
    return x - y if alpha == 1 else x - alpha * y


@aten("rsub.Tensor", "rsub.Scalar", promote=True)
def subtract_from(x: Array, y: Array, alpha: float = 1) -> Array:
    return y - x if alpha == 1 else y - alpha * x


@aten("mul.Tensor", "mul.Scalar", "multiply.Tensor", "multiply.Scalar", promote=True)
def multiply(x: Array, y: Array) -> Array:
    return x * y


@aten(
    "div.Tensor",
    "div.Scalar",
    "true_divide.Tensor",
    "true_divide.Scalar",
    "divide.Tensor",
    "divide.Scalar",
    promote=True,
)
def divide(x: Array, y: Array, *, dtype: jnp.dtype) -> Array:
    return x.astype(dtype) / y


@aten("div.Tensor_mode", "div.Scalar_mode", "divide.Tensor_mode", "divide.Scalar_mode", promote=True)
def divide_rounded(x: Array, y: Array, rounding_mode: str | None, *, dtype: jnp.dtype) -> Array:
    return (
        jnp.floor_divide(x, y)
        if rounding_mode == "floor"
        else divide_toward_zero(x, y)
        if rounding_mode == "trunc"
        else x.astype(dtype) / y
    )


def divide_toward_zero(x: Array, y: Array) -> Array:
    """x / y without its fraction; of integers without a detour over floats."""
    x, y = jnp.broadcast_arrays(x, jnp.asarray(y, x.dtype))
    return jnp.trunc(lax.div(x, y))


@aten("floor_divide.default", "floor_divide.Scalar", promote=True)
def floor_divide(x: Array, y: Array) -> Array:
    return x // y


@aten("remainder.Tensor", "remainder.Scalar", "remainder.Scalar_Tensor", promote=True)
def remainder(x: Array, y: Array) -> Array:
    return x % y


@aten("fmod.Tensor", "fmod.Scalar", promote=True)
def fmod(x: Array, y: Array) -> Array:
    return jnp.fmod(x, y)


@aten("pow.Tensor_Tensor", "pow.Tensor_Scalar", "pow.Scalar", promote=True)
def power(x: Array, exponent: Array) -> Array:
    return x**exponent


@aten("maximum.default", promote=True)
def maximum(x: Array, y: Array) -> Array:
    return jnp.maximum(x, y)


@aten("minimum.default", promote=True)
def minimum(x: Array, y: Array) -> Array:
    return jnp.minimum(x, y)


@aten("fmax.default", promote=True, whole=True)
def fmax(x: Array, y: Array) -> Array:
    """The larger one, and the other one of a NaN; a tie is x's (jnp.fmax: y's), so its gradient is x's."""
    return jnp.where((x >= y) | jnp.isnan(y), x, y)


@aten("fmin.default", promote=True, whole=True)
def fmin(x: Array, y: Array) -> Array:
    """The smaller one, and the other one of a NaN; a tie is x's (jnp.fmin: y's), so its gradient is x's."""
    return jnp.where((x <= y) | jnp.isnan(y), x, y)


@aten("clamp.default", "clamp.Tensor", "clip.default", "clip.Tensor", promote=True, whole=True)
def clamp(x: Array, min: Array | float | None = None, max: Array | float | None = None) -> Array:
    """x kept within min and max. On an edge the gradient is all x's (jnp.clip: half of it)."""
    if min is not None:
        x = jnp.where(x < min, min, x)
    return x if max is None else jnp.where(x > max, max, x)


@aten("clamp_min.default", "clamp_min.Tensor", promote=True, whole=True)
def clamp_min(x: Array, min: Array) -> Array:
    """x kept from falling below min. On the edge the gradient is all x's (jnp.maximum: half of it)."""
    return jnp.where(x < min, min, x)


@aten("clamp_max.default", "clamp_max.Tensor", promote=True, whole=True)
def clamp_max(x: Array, max: Array) -> Array:
    """x kept from rising above max. On the edge the gradient is all x's (jnp.minimum: half of it)."""
    return jnp.where(x > max, max, x)


@aten("atan2.default", promote=True, whole=True)
def arctan2(x: Array, y: Array, *, dtype: jnp.dtype) -> Array:
    """The angle of the point (y, x); its gradient at (0, 0) is 0, as torch's (jnp.arctan2: NaN)."""
    x, y = x.astype(dtype), y.astype(dtype)
    origin = (x == 0) & (y == 0)
    angle = jnp.arctan2(jnp.where(origin, 1, x), jnp.where(origin, 1, y))
    return jnp.where(origin, lax.stop_gradient(jnp.arctan2(x, y)), angle)


@aten("hypot.default", promote=True)
def hypot(x: Array, y: Array) -> Array:
    return jnp.hypot(x, y)


@aten("copysign.Tensor", "copysign.Scalar", promote=True, whole=True)
def copysign(x: Array, y: Array, *, dtype: jnp.dtype) -> Array:
    """|x| with the sign of y. The gradient at x = 0 is 0."""
    x = x.astype(dtype)
    return x * lax.stop_gradient(jnp.sign(x) * jnp.copysign(1, y).astype(dtype))


@aten("logaddexp.default", promote=True)
def logaddexp(x: Array, y: Array) -> Array:
    return jnp.logaddexp(x, y)


@aten("logaddexp2.default", promote=True)
def logaddexp2(x: Array, y: Array) -> Array:
    return jnp.logaddexp2(x, y)


@aten("xlogy.Tensor", "xlogy.Scalar_Other", "xlogy.Scalar_Self", promote=True, whole=True)
def xlogy(x: Array, y: Array, *, dtype: jnp.dtype) -> Array:
    """x log y, and 0 where x is 0 and y is not positive."""
    x, y = jnp.asarray(x, dtype), jnp.asarray(y, dtype)
    zero = (x == 0) & (y <= 0)
    return jnp.where(zero, 0, x * jnp.log(jnp.where(zero, 1, y)))


@aten("lerp.Tensor", "lerp.Scalar", promote=True)
def lerp(x: Array, end: Array, weight: Array) -> Array:
    return x + weight * (end - x)


@aten("addcmul.default", promote=True)
def addcmul(x: Array, tensor1: Array, tensor2: Array, value: float = 1) -> Array:
    return x + tensor1 * tensor2 if value == 1 else x + value * tensor1 * tensor2


@aten("addcdiv.default", promote=True)
def addcdiv(x: Array, tensor1: Array, tensor2: Array, value: float = 1) -> Array:
    return x + tensor1 / tensor2 if value == 1 else x + value * tensor1 / tensor2


@aten("eq.Tensor", "eq.Scalar", promote=True)
def equal(x: Array, y: Array) -> Array:
    return x == y


@aten("ne.Tensor", "ne.Scalar", "not_equal.Tensor", "not_equal.Scalar", promote=True)
def not_equal(x: Array, y: Array) -> Array:
    return x != y


@aten("lt.Tensor", "lt.Scalar", "less.Tensor", "less.Scalar", promote=True)
def less(x: Array, y: Array) -> Array:
    return x < y


@aten("le.Tensor", "le.Scalar", "less_equal.Tensor", "less_equal.Scalar", promote=True)
def less_equal(x: Array, y: Array) -> Array:
    return x <= y


@aten("gt.Tensor", "gt.Scalar", "greater.Tensor", "greater.Scalar", promote=True)
def greater(x: Array, y: Array) -> Array:
    return x > y


@aten("ge.Tensor", "ge.Scalar", "greater_equal.Tensor", "greater_equal.Scalar", promote=True)
def greater_equal(x: Array, y: Array) -> Array:
    return x >= y


@aten("logical_and.default")
def logical_and(x: Array, y: Array) -> Array:
    return jnp.logical_and(x, y)


@aten("logical_or.default")
def logical_or(x: Array, y: Array) -> Array:
    return jnp.logical_or(x, y)


@aten("logical_xor.default")
def logical_xor(x: Array, y: Array) -> Array:
    return jnp.logical_xor(x, y)


@aten("bitwise_and.Tensor", "bitwise_and.Scalar", "__and__.Tensor", "__and__.Scalar", promote=True)
def bitwise_and(x: Array, y: Array) -> Array:
    return x & y


@aten("bitwise_or.Tensor", "bitwise_or.Scalar", "__or__.Tensor", "__or__.Scalar", promote=True)
def bitwise_or(x: Array, y: Array) -> Array:
    return x | y


@aten("bitwise_xor.Tensor", "bitwise_xor.Scalar", "__xor__.Tensor", "__xor__.Scalar", promote=True)
def bitwise_xor(x: Array, y: Array) -> Array:
    return x ^ y


@aten(
    "bitwise_left_shift.Tensor",
    "bitwise_left_shift.Tensor_Scalar",
    "__lshift__.Tensor",
    "__lshift__.Scalar",
    promote=True,
)
def left_shift(x: Array, y: Array) -> Array:
    return x << y


@aten(
    "bitwise_right_shift.Tensor",
    "bitwise_right_shift.Tensor_Scalar",
    "__rshift__.Tensor",
    "__rshift__.Scalar",
    promote=True,
)
def right_shift(x: Array, y: Array) -> Array:
    return x >> y


@aten("where.self", "where.ScalarOther", "where.ScalarSelf", promote=True)
def choose(condition: Array, x: Array, other: Array) -> Array:
    return jnp.where(condition, x, other)


@aten("where.Scalar")
def choose_number(condition: Array, x: float, other: float, *, dtype: jnp.dtype) -> Array:
    return jnp.where(condition, x, other).astype(dtype)


@aten("masked_fill.Scalar", "masked_fill.Tensor", whole=True)
def masked_fill(x: Array, mask: Array, value: Array) -> Array:
    """x, and value where the mask is true; in the dtype of x, also of truths that are filled with 0 or 1."""
    return jnp.where(mask, jnp.asarray(value, x.dtype), x)
