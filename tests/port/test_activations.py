"""Activation functions are torch's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_testing import EXAMPLES, agree, draw, kinds, seeds, shapes

import twinax.port.torch_to_jax.ops.activations  # noqa: F401 - declares the operations
from twinax.port.torch_to_jax.ops.base import FUNCTIONS

pytestmark = pytest.mark.slow

PLAIN = [
    "relu",
    "silu",
    "mish",
    "gelu",
    "softplus",
    "log_sigmoid",
    "log_sigmoid_forward",
    "hardtanh",
    "relu6",
    "hardsigmoid",
    "hardswish",
    "elu",
    "selu",
    "celu",
    "leaky_relu",
    "rrelu",
    "softshrink",
    "hardshrink",
]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]
positive = st.sampled_from([0.25, 0.5, 1.0, 1.5, 2])
any_number = st.sampled_from([-1.0, -0.5, 0, 0.1, 0.5, 1])


@pytest.mark.parametrize("name", PLAIN)
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    shape=shapes(),
    seed=seeds,
    kinked=kinds,
    strided=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    scale=st.sampled_from([1, 3, 30]),  # 3: corners are at 3 and 6 too
)
def test_plain(name, shape, seed, kinked, strided, dtype, scale):
    sixth = name == "hardsigmoid" and dtype == torch.float64  # its gradient in torch is 1 / 6 in float32
    x = draw(shape, seed, kinked, dtype, strided) * scale
    agree(f"{name}.default", x, tolerance=1e-7 if sixth else None)


@pytest.mark.parametrize("name", PLAIN)
def test_corners(name):
    x = torch.tensor([-6, -3, -2, -1, -0.5, -0.0, 0, 0.5, 1, 2, 3, 6], dtype=torch.float64)
    agree(f"{name}.default", x, tolerance=1e-7 if name == "hardsigmoid" else None)


@pytest.mark.parametrize("name", PLAIN)
def test_far_out(name):
    """No overflow on the way, of values and of gradients."""
    agree(f"{name}.default", torch.tensor([-1e4, -800.0, 800.0, 1e4], dtype=torch.float64))
    agree(f"{name}.default", torch.tensor([-1e4, -100.0, 100.0, 1e4], dtype=torch.float32))


@pytest.mark.parametrize("name", ["relu", "hardtanh", "relu6", "hardsigmoid", "leaky_relu", "hardshrink"])
def test_nan_stays(name):
    agree(f"{name}.default", torch.tensor([float("nan"), 1.0]))


@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=shapes(), seed=seeds, kinked=kinds, a=positive, b=positive, c=positive, d=any_number)
def test_with_numbers(shape, seed, kinked, a, b, c, d):
    x = draw(shape, seed, kinked)
    agree("gelu.default", x, approximate="tanh")
    agree("softplus.default", x, a, b)
    agree("hardtanh.default", x, d, d + a)
    agree("elu.default", x, a, b, c)
    agree("elu.default", x, a)
    agree("celu.default", x, a)
    agree("leaky_relu.default", x, d)
    agree("rrelu.default", x, a, a + b)
    agree("softshrink.default", x, a)
    agree("hardshrink.default", x, a)
    agree("threshold.default", x, d, a)


@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=shapes(least=1), seed=seeds, kinked=kinds, single=st.booleans())
def test_prelu(shape, seed, kinked, single):
    x = draw(shape, seed, kinked)
    weight = draw((1,) if single or x.dim() < 2 else (shape[1],), seed + 1)
    agree("prelu.default", x, weight)
    if x.dim() > 1:
        agree("_prelu_kernel.default", x, weight.reshape(1, -1, *(1,) * (x.dim() - 2)))


def test_prelu_of_a_number():
    agree("prelu.default", draw(()), draw((1,)))
    agree("prelu.default", draw(()), draw(()))
    agree("prelu.default", draw((3, 2)), draw(()))


@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=shapes(least=1), seed=seeds, dim=st.integers(-4, 3))
def test_glu(shape, seed, dim):
    dim = dim % len(shape) - (len(shape) if dim < 0 else 0)
    shape = list(shape)
    shape[dim] *= 2
    agree("glu.default", draw(shape, seed), dim)


def test_random_slopes_are_refused():
    with pytest.raises(NotImplementedError, match="rrelu"):
        FUNCTIONS["rrelu.default"](1.0, 0.1, 0.3, True)
