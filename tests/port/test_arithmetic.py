"""Operations on the elements of two or more arrays are torch's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_testing import EXAMPLES, agree, draw, kinds, seeds, shapes

import twinax.port.torch_to_jax.ops.arithmetic  # noqa: F401 - declares the operations

ORDERED = ["eq", "ne", "lt", "le", "gt", "ge"]
OF_NUMBERS_TOO = ["add", "sub", "rsub", "mul", "div", "fmod", "remainder", *ORDERED]
OF_ARRAYS = [
    *[f"{name}.Tensor" for name in (*OF_NUMBERS_TOO, "xlogy", "copysign")],
    *["maximum.default", "minimum.default", "fmax.default", "fmin.default", "atan2.default", "hypot.default"],
    *["logical_and.default", "logical_or.default", "logical_xor.default", "floor_divide.default"],
    *["logaddexp.default", "logaddexp2.default"],
]
POWERS = [-1, -0.5, 0, 0.5, 1, 1.5, 2, 2.0, 3, 4.0]
BY_ZERO = ["div.Tensor", "fmod.Tensor", "remainder.Tensor", "floor_divide.default"]
ONLY_FLOATS = ["logaddexp2.default", "logaddexp.default", "hypot.default"]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.int16]
BITS = [torch.bool, torch.uint8, torch.int32, torch.int64]


small = shapes(most=3, side=3)


def stretched(shape, seed):
    """A shape that broadcasts with this one."""
    return tuple(1 if seed >> i & 1 else n for i, n in enumerate(shape))[seed % 2 :]


def truths(shape, seed):
    return draw(shape, seed) > 0


@pytest.mark.parametrize("name", OF_ARRAYS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=small, seed=seeds, kinked=kinds)
def test_of_two(name, shape, seed, kinked):
    x, y = draw(shape, seed, kinked), draw(stretched(shape, seed), seed + 1, kinked)
    if name in BY_ZERO:
        y = torch.where(y == 0, 1.5, y)
    if name == "xlogy.Tensor":  # the gradient at (0, 0): NaN in torch, 0 in ours
        y = torch.where((x == 0) & (y == 0), 0.5, y.abs())
    if name == "hypot.default":
        x = torch.where(x == 0, 1.5, x)  # the gradient at (0, 0): NaN in torch, and in JAX
    agree(name, x, y, gradients=name != "floor_divide.default")  # which has none in torch


@pytest.mark.parametrize("name", OF_ARRAYS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(dtypes=st.tuples(st.sampled_from(DTYPES), st.sampled_from(DTYPES)), scalar=st.booleans(), seed=seeds)
def test_of_two_dtypes(name, dtypes, scalar, seed):
    """The dtype of the result is torch's: 0-d arrays count less."""
    x, y = draw((3, 2), seed, dtype=dtypes[0]), draw(() if scalar else (2,), seed + 1, dtype=dtypes[1])
    if name in ONLY_FLOATS and not any(d.is_floating_point for d in dtypes):
        x = x.float()
    if name in BY_ZERO:  # and no quotient near a whole number, from which rounding might take it
        x, y = x.abs() + 0.25 if x.is_floating_point() else x, y.abs() + 1
    if name == "xlogy.Tensor":
        y = y.abs()
    loose = torch.bfloat16 in dtypes or torch.float16 in dtypes
    agree(name, x, y, gradients=False, tolerance=5e-2 if loose and name in BY_ZERO else None)


@pytest.mark.parametrize("name", OF_NUMBERS_TOO)
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    shape=small,
    seed=seeds,
    kinked=kinds,
    number=st.sampled_from([1, -2, 0.5, 3]),
    dtype=st.sampled_from(DTYPES),
)
def test_with_a_number(name, shape, seed, kinked, number, dtype):
    x = draw(shape, seed, kinked, dtype)
    agree(f"{name}.Scalar", x, number)
    if name in ("add", "sub", "mul", "div"):  # as torch.export writes them
        agree(f"{name}.Tensor", x, number)
    if name == "remainder":
        y = draw(shape, seed, kinked, dtype)
        agree("remainder.Scalar_Tensor", number, torch.where(y == 0, y + 1, y), gradients=False)


@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=small, seed=seeds, number=st.sampled_from([1, 2, 0.5]), kinked=kinds)
def test_factors(shape, seed, number, kinked):
    """alpha, value, weight."""
    x, y, z = (draw(shape, seed + i, kinked) for i in range(3))
    for name in ("add", "sub", "rsub"):
        agree(f"{name}.Tensor", x, y, alpha=number)
        agree(f"{name}.Scalar", x, 3, number)
    agree("addcmul.default", x, y, z, value=number)
    agree("addcdiv.default", x, y, torch.where(z == 0, 1.5, z), value=number)
    agree("lerp.Scalar", x, y, number)
    agree("lerp.Tensor", x, y, z)


def test_addition_of_truths():
    x, y = draw((3, 4), dtype=torch.bool), draw((3, 4), 1, dtype=torch.bool)
    agree("add.Tensor", x, y)
    agree("mul.Tensor", x, y)
    agree("add.Tensor", x, draw((4,)))
    agree("mul.Tensor", draw((4,), dtype=torch.int32), y)
    agree("div.Tensor", x, draw((4,), dtype=torch.int32).abs() + 1)
    agree("eq.Tensor", x, y)
    agree("eq.Scalar", x, 1)


@pytest.mark.parametrize("mode", [None, "floor", "trunc"])
@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=small, seed=seeds, kinked=kinds, dtype=st.sampled_from([torch.float64, torch.int64, torch.int32]))
def test_rounded_quotients(mode, shape, seed, kinked, dtype):
    x, y = draw(shape, seed, kinked, dtype), draw(stretched(shape, seed), seed + 1, kinked, dtype)
    y = torch.where(y == 0, y + 1, y)
    agree("div.Tensor_mode", x, y, rounding_mode=mode)
    agree("div.Tensor_mode", x, -3, rounding_mode=mode)
    agree("div.Scalar_mode", x, 2, rounding_mode=mode)
    agree("div.Scalar_mode", x, 0.75, rounding_mode=mode)
    agree("floor_divide.Scalar", x, -2, gradients=False)


def test_large_integers_are_divided_exactly():
    x = torch.tensor([2**62 + 1, -(2**62) - 1])
    agree("div.Tensor_mode", x, torch.tensor([3]), rounding_mode="trunc")
    agree("div.Tensor_mode", x, torch.tensor([3]), rounding_mode="floor")


@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=small, seed=seeds, kinked=kinds)
def test_powers(shape, seed, kinked):
    x, y = draw(shape, seed, kinked), draw(shape, seed + 1, kinked)
    for exponent in POWERS:
        agree("pow.Tensor_Scalar", x, exponent)
    agree("pow.Tensor_Tensor", torch.where((x == 0) & (y < 0), 0.5, x), y)  # gradient at 0: -inf, in JAX NaN
    agree("pow.Tensor_Tensor", x.abs() + 0.5, y)
    for base in (0.5, 1, 2, 10.0):
        agree("pow.Scalar", base, y)


def test_powers_of_integers():
    x = draw((3, 4), dtype=torch.int64)
    agree("pow.Tensor_Scalar", x, 3)
    agree("pow.Tensor_Scalar", x, 0.5)
    agree("pow.Tensor_Scalar", x.bfloat16(), 2)
    agree("pow.Tensor_Tensor", x, x.abs())
    agree("pow.Tensor_Tensor", x, draw((3, 4), dtype=torch.float32))
    agree("pow.Scalar", 2, x.abs())
    agree("pow.Scalar", 2.0, x)


@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=small, seed=seeds, kinked=kinds)
def test_clamp(shape, seed, kinked):
    x = draw(shape, seed, kinked)
    for bounds in ((-1, 1), (0.5,), (None, 0.5), (0, 0), (1, -1), (-1.0, None)):
        agree("clamp.default", x, *bounds)
    agree("clamp_min.default", x, 0.5)
    agree("clamp_max.default", x, -0.5)
    low, high = draw(stretched(shape, seed), seed + 1, kinked), draw(shape, seed + 2, kinked)
    agree("clamp.Tensor", x, low, torch.maximum(high, low + 0.5))
    agree("clamp.Tensor", x, None, high)
    agree("clamp_min.Tensor", x, low)
    agree("clamp_max.Tensor", x, low)


def test_clamp_of_integers():
    x = draw((3, 4), dtype=torch.int64)
    agree("clamp.default", x, 0, 2)
    agree("clamp.default", x, 0.5)
    agree("clamp_min.default", x, 1)
    agree("clamp.default", draw((5,), dtype=torch.bfloat16), 0.1, 0.3)
    agree("clamp.default", torch.tensor([float("nan"), 1.0]), 0, 0.5)


@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=small, seed=seeds, dtypes=st.tuples(st.sampled_from(DTYPES), st.sampled_from(DTYPES)))
def test_where(shape, seed, dtypes):
    condition = truths(stretched(shape, seed), seed)
    x, y = draw(shape, seed, dtype=dtypes[0]), draw(shape, seed + 1, dtype=dtypes[1])
    agree("where.self", condition, x, y, gradients=dtypes[0] == dtypes[1])
    agree("where.self", condition, x, draw((), dtype=dtypes[1]), gradients=dtypes[0] == dtypes[1])
    agree("where.ScalarOther", condition, x, -float("inf"))
    agree("where.ScalarSelf", condition, 0, y)
    agree("where.Scalar", condition, 0.5, 1.0)
    agree("where.Scalar", condition, 2, 1)


@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=small, seed=seeds, dtype=st.sampled_from(DTYPES))
def test_masked_fill(shape, seed, dtype):
    x = draw(shape, seed, dtype=dtype)
    mask = truths(stretched(shape, seed), seed)
    agree("masked_fill.Scalar", x, mask, -float("inf") if dtype.is_floating_point else 3)
    agree("masked_fill.Tensor", x, mask, draw((), seed + 1, dtype=dtype))
    agree("masked_fill.Scalar", truths(stretched(shape, seed), seed), mask, 0)
    agree("masked_fill.Scalar", draw((1,), seed, dtype=torch.bool), draw((3,), dtype=torch.bool), True)


@pytest.mark.parametrize("name", ["and", "or", "xor"])
@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=small, seed=seeds, dtypes=st.tuples(st.sampled_from(BITS), st.sampled_from(BITS)))
def test_bits(name, shape, seed, dtypes):
    x, y = draw(shape, seed), draw(stretched(shape, seed), seed + 1)
    x, y = (x * 4).to(dtypes[0]), (y * 4).to(dtypes[1])
    for operation in (f"bitwise_{name}", f"__{name}__"):
        agree(f"{operation}.Tensor", x, y)
        agree(f"{operation}.Scalar", x, 5)
    agree(f"bitwise_{name}.Scalar", x, True)
    agree(f"logical_{name}.default", x, y)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
@pytest.mark.parametrize("side", ["left", "right"])
def test_shifts(side, dtype):
    x, y = draw((3, 4), dtype=dtype), draw((3, 4), 1, dtype=dtype) % 7
    short = {"left": "__lshift__", "right": "__rshift__"}[side]
    agree(f"bitwise_{side}_shift.Tensor", x, y)
    agree(f"bitwise_{side}_shift.Tensor_Scalar", x, 2)
    agree(f"{short}.Tensor", x, y)
    agree(f"{short}.Scalar", x, 3)


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=seeds)
def test_xlogy_and_copysign_with_a_number(seed):
    x = draw((3, 4), seed, kinked=True)
    agree("xlogy.Scalar_Other", x, 2.5)
    agree("xlogy.Scalar_Self", 0.0, x, gradients=False)
    agree("xlogy.Scalar_Self", 1.5, x.abs())
    agree("copysign.Scalar", x, -0.0)
    agree("copysign.Scalar", draw((3,), dtype=torch.int64), -1)


def test_ties_with_nan():
    x, y = torch.tensor([float("nan"), 1.0, 0.0]), torch.tensor([1.0, float("nan"), 0.0])
    for name in ("maximum", "minimum", "fmax", "fmin"):
        agree(f"{name}.default", x, y)
