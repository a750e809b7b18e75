"""Operations on each element of one array are torch's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_testing import EXAMPLES, agree, draw, kinds, seeds, shapes

import twinax.port.torch_to_jax.ops.elementwise  # noqa: F401 - declares the operations

pytestmark = pytest.mark.slow

FLOATING = [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "cos",
    "cosh",
    "deg2rad",
    "digamma",
    "erf",
    "erfc",
    "erfinv",
    "exp",
    "exp2",
    "expm1",
    "i0",
    "lgamma",
    "log",
    "log10",
    "log1p",
    "log2",
    "logit",
    "rad2deg",
    "reciprocal",
    "rsqrt",
    "sigmoid",
    "sin",
    "sinc",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
]
KEEPING = ["abs", "ceil", "floor", "neg", "positive", "round", "sgn", "sign", "square", "trunc", "nan_to_num"]
OF_FLOATS = ["frac"]
POLES = ["digamma", "lgamma"]  # at 0, -1, -2, …, where JAX has NaN for some of torch's infinities
TRUTHS = ["isfinite", "isinf", "isnan", "isneginf", "isposinf", "logical_not", "signbit"]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
SPECIAL = torch.tensor([float("nan"), float("inf"), -float("inf"), -0.0, 1e30], dtype=torch.float64)


@pytest.mark.parametrize("name", FLOATING + KEEPING + OF_FLOATS + TRUTHS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=shapes(), seed=seeds, kinked=kinds, strided=st.booleans(), dtype=st.sampled_from(DTYPES))
def test_of_floats(name, shape, seed, kinked, strided, dtype):
    x = draw(shape, seed, kinked, dtype, strided)
    if name in POLES:  # torch's derivative of digamma is good to 1e-9
        agree(f"{name}.default", x.exp(), tolerance=1e-8 if dtype == torch.float64 else None)
    else:
        agree(f"{name}.default", x, gradients=name != "sgn")


@pytest.mark.parametrize("name", FLOATING + KEEPING + TRUTHS)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_of_integers(name, dtype):
    x = draw((3, 4), dtype=dtype)
    agree(f"{name}.default", x.abs() + 1 if name in POLES else x)


@pytest.mark.parametrize("name", [n for n in FLOATING if n not in ("erfinv", "logit", "digamma")])
def test_of_truths(name):
    agree(f"{name}.default", draw((3, 4), dtype=torch.bool))


@pytest.mark.parametrize(
    "name", [n for n in FLOATING + KEEPING + OF_FLOATS if n not in (*POLES, "sgn", "logit")]
)
def test_corners(name):
    agree(f"{name}.default", torch.tensor([-2, -1, -0.5, 0, 0.5, 1, 1.5, 2], dtype=torch.float64))


@pytest.mark.parametrize("name", FLOATING + KEEPING + TRUTHS)
def test_of_special_numbers(name):
    special = SPECIAL[1:] if name in ("sign", "sgn") else SPECIAL  # torch's sign of NaN is 0, jnp's NaN
    agree(f"{name}.default", special.clamp(min=1) if name in POLES else special, gradients=False)


@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=shapes(), seed=seeds, eps=st.sampled_from([None, 0.0, 0.5, 0.25]))
def test_logit(shape, seed, eps):
    p = draw(shape, seed).sigmoid()
    agree("logit.default", p, eps)
    agree("logit.default", (p * 4).round() / 4, eps)


@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=shapes(), seed=seeds, decimals=st.integers(-1, 3))
def test_round(shape, seed, decimals):
    agree("round.decimals", draw(shape, seed) * 10, decimals=decimals)
    agree("round.default", draw(shape, seed, kinked=True))


@pytest.mark.parametrize("numbers", [(), (1.5,), (None, 3.0), (0.5, None, -2.0)])
def test_nan_to_num(numbers):
    agree("nan_to_num.default", SPECIAL, *numbers)
    agree("nan_to_num.default", SPECIAL.float(), *numbers)
    agree("nan_to_num.default", draw((3,), dtype=torch.int64), *numbers)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.int8])
def test_bitwise_not(dtype):
    agree("bitwise_not.default", draw((3, 4), dtype=dtype))


def test_of_the_normal_distribution():
    x = draw((4, 5))
    agree("special_log_ndtr.default", x * 3, tolerance=1e-9)
    agree("special_ndtri.default", x.sigmoid(), tolerance=1e-9)
    agree("special_entr.default", x.sigmoid())
    agree("special_entr.default", x.sigmoid().float())
