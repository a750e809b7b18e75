"""Convolutions are torch's, with groups, dilation and padding, forwards and transposed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_testing import EXAMPLES, agree, draw, seeds

import twinax.port.torch_to_jax.ops.convolution  # noqa: F401 - declares the operations

pytestmark = pytest.mark.slow

AXES = [1, 2, 3]


def sizes(axes, least, most):
    return st.lists(st.integers(least, most), min_size=axes, max_size=axes)


@st.composite
def problems(draws, axes, transposed=False, dtype=torch.float64):
    """Input, weight and bias, and the number of groups; sometimes without batch or bias, or an empty batch."""
    groups, per_in, per_out = draws(st.integers(1, 3)), draws(st.integers(1, 2)), draws(st.integers(1, 2))
    batch = draws(st.sampled_from([(), (0,), (1,), (2,)]))
    spatial, kernel = draws(sizes(axes, 4, 6)), draws(sizes(axes, 1, 3))
    seed = draws(seeds)
    first, second = (groups * per_in, per_out) if transposed else (groups * per_out, per_in)
    x = draw((*batch, groups * per_in, *spatial), seed, dtype=dtype, strided=draws(st.booleans()))
    weight = draw((first, second, *kernel), seed + 1, dtype=dtype)
    bias = draw((groups * per_out,), seed + 2, dtype=dtype) if draws(st.booleans()) else None
    return x, weight, bias, groups


def name_of(axes, transposed=False):
    if not transposed:
        return f"conv{axes}d.default"
    return "conv_transpose1d.default" if axes == 1 else f"conv_transpose{axes}d.input"


@pytest.mark.parametrize("axes", AXES)
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_convolution(axes, data):
    x, weight, bias, groups = data.draw(problems(axes))
    stride, padding = data.draw(sizes(axes, 1, 3)), data.draw(sizes(axes, 0, 2))
    dilation = [d if k < 3 else 1 for d, k in zip(data.draw(sizes(axes, 1, 2)), weight.shape[2:], strict=True)]
    agree(name_of(axes), x, weight, bias, stride, padding, dilation, groups)
    # batches only: torch's general operation takes no others
    if x.dim() == weight.dim():
        arguments = (stride, padding, dilation, False, [0] * axes, groups)
        agree("convolution.default", x, weight, bias, *arguments)


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("padding", ["same", "valid"])
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_convolution_with_named_padding(axes, padding, data):
    x, weight, bias, groups = data.draw(problems(axes))
    stride = [1] * axes if padding == "same" else data.draw(sizes(axes, 1, 3))
    dilation = data.draw(sizes(axes, 1, 2)) if padding == "same" else [1] * axes
    if x.numel() == 0:
        return  # torch's own backward refuses these
    agree(f"conv{axes}d.padding", x, weight, bias, stride, padding, dilation, groups)


@pytest.mark.parametrize("axes", AXES)
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_transposed_convolution(axes, data):
    x, weight, bias, groups = data.draw(problems(axes, transposed=True))
    stride, dilation = data.draw(sizes(axes, 1, 3)), data.draw(sizes(axes, 1, 2))
    padding = data.draw(sizes(axes, 0, 3))  # more than the kernel too: that cuts off what the input gives
    more = [
        min(m, max(s, d) - 1) for m, s, d in zip(data.draw(sizes(axes, 0, 2)), stride, dilation, strict=True)
    ]
    if any(
        (n - 1) * s - 2 * p + d * (k - 1) + m < 0
        for n, s, p, d, k, m in zip(
            x.shape[-axes:], stride, padding, dilation, weight.shape[2:], more, strict=True
        )
    ):
        padding = [0] * axes
    agree(name_of(axes, True), x, weight, bias, stride, padding, more, groups, dilation)
    if x.dim() == weight.dim():
        arguments = (stride, padding, dilation, True, more, groups)
        agree("convolution.default", x, weight, bias, *arguments)


@pytest.mark.parametrize("axes", AXES)
def test_one_number_stands_for_every_axis(axes):
    x, weight = draw((2, 4, *[6] * axes)), draw((4, 2, *[3] * axes), 1)
    agree(name_of(axes), x, weight, None, [2], [1], [1], 2)
    agree(name_of(axes), x, draw((4, 4, *[3] * axes), 1))
    agree(name_of(axes, True), x, weight, None, [2], [1], [1], 2, [2])
    agree(name_of(axes, True), x, draw((4, 4, *[3] * axes), 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64])
@pytest.mark.parametrize("axes", AXES)
def test_dtypes(axes, dtype):
    x, weight, bias = draw((2, 4, *[5] * axes), dtype=dtype), draw((4, 2, *[3] * axes), 1, dtype=dtype), None
    if dtype.is_floating_point:
        bias, weight = draw((4,), 2, dtype=dtype), weight / 4
    agree(name_of(axes), x, weight, bias, [2] * axes, [1] * axes, [1] * axes, 2)
    agree(name_of(axes, True), x, weight, bias, [2] * axes, [1] * axes, [1] * axes, 2)
