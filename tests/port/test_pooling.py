"""Pooling is torch's: windows, borders, and which of equal values takes the gradient."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_testing import EXAMPLES, agree, draw, kinds, seeds

import twinax.port.torch_to_jax.ops.pooling  # noqa: F401 - declares the operations

pytestmark = pytest.mark.slow

SIDES = {1: (9,), 2: (7, 8), 3: (5, 6, 5)}
numbers = st.integers(1, 3)


def lists(count, numbers):
    return st.lists(numbers, min_size=count, max_size=count)


@pytest.mark.parametrize("n", SIDES)
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data(), seed=seeds, kinked=kinds, ceil=st.booleans(), dilated=st.booleans())
def test_max_pool(n, data, seed, kinked, ceil, dilated):
    kernel, stride = data.draw(lists(n, numbers)), data.draw(lists(n, numbers))
    padding = [data.draw(st.integers(0, k // 2)) for k in kernel]
    dilation = data.draw(lists(n, st.integers(1, 2))) if dilated else [1] * n
    agree(
        f"max_pool{n}d.default", draw((2, 3, *SIDES[n]), seed, kinked), kernel, stride, padding, dilation, ceil
    )


@pytest.mark.parametrize("n", SIDES)
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    data=st.data(), seed=seeds, ceil=st.booleans(), counted=st.booleans(), divisor=st.sampled_from([None, 3])
)
def test_avg_pool(n, data, seed, ceil, counted, divisor):
    kernel, stride = data.draw(lists(n, numbers)), data.draw(lists(n, numbers))
    padding = [data.draw(st.integers(0, k // 2)) for k in kernel]
    extra = () if n == 1 else (divisor,)
    x = draw((2, 3, *SIDES[n]), seed)
    agree(f"avg_pool{n}d.default", x, kernel, stride, padding, ceil, counted, *extra)


@pytest.mark.parametrize("n", SIDES)
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data(), seed=seeds)
def test_adaptive_avg_pool(n, data, seed):
    x = draw((2, 3, *SIDES[n]), seed)
    agree(f"adaptive_avg_pool{n}d.default", x, data.draw(lists(n, st.integers(1, 9))))


@pytest.mark.parametrize("n", SIDES)
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data(), seed=seeds)
def test_adaptive_max_pool(n, data, seed):
    parts = data.draw(lists(n, st.integers(1, 9)))
    agree(f"adaptive_max_pool{n}d.default", draw((2, 3, *SIDES[n]), seed), parts)
    agree(f"adaptive_max_pool{n}d.default", torch.ones((2, 3, *SIDES[n])), parts)  # ties


def test_nan_and_the_lowest_numbers_are_kept():
    x = torch.tensor([[[float("nan"), 1.0, 2.0, float("-inf")]]], dtype=torch.float64)
    agree("max_pool1d.default", x, [2], gradients=False)
    agree("max_pool2d.default", draw((1, 1, 4, 4), dtype=torch.bfloat16), [2, 2])
