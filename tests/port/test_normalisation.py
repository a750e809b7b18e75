"""Normalisation is torch's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_testing import EXAMPLES, agree, draw, kinds, seeds, shapes

import twinax.port.torch_to_jax.ops.normalisation  # noqa: F401 - declares the operations

# torch's own kernels end the process at an empty batch: none here
DTYPES = st.sampled_from([torch.float64, torch.float64, torch.float32, torch.bfloat16, torch.float16])
EPS = st.sampled_from([1e-5, 1e-3])
SPATIAL = shapes(0, 3, side=4, smallest=1)


def affine(channels, seed, dtype, which):
    """Weight and bias; ``which`` says which of them are there."""
    weight = draw((channels,), seed + 1, dtype=dtype) if which & 1 else None
    bias = draw((channels,), seed + 2, dtype=dtype) if which & 2 else None
    return weight, bias


def running(channels, seed, dtype):
    return draw((channels,), seed + 3, dtype=dtype), draw((channels,), seed + 4, dtype=dtype).abs() + 0.5


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    batch=st.integers(1, 3), channels=st.integers(1, 4), spatial=SPATIAL, seed=seeds, kinked=kinds,
    strided=st.booleans(), dtype=DTYPES, which=st.integers(0, 3), eps=EPS,
)  # fmt: skip
def test_batch_norm_in_eval(batch, channels, spatial, seed, kinked, strided, dtype, which, eps):
    x = draw((batch, channels, *spatial), seed, kinked, dtype, strided)
    statistics = running(channels, seed, dtype)
    args = (x, *affine(channels, seed, dtype, which), *statistics)
    agree("_native_batch_norm_legit_no_training.default", *args, 0.1, eps, constants=statistics)
    agree("batch_norm.default", *args, False, 0.1, eps, False, constants=statistics)
    agree("instance_norm.default", *args, False, 0.1, eps, False, constants=statistics)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    batch=st.integers(2, 4), channels=st.integers(1, 4), spatial=SPATIAL, seed=seeds, kinked=kinds,
    strided=st.booleans(), dtype=DTYPES, which=st.integers(0, 3), eps=EPS, momentum=st.sampled_from([0.1, 0.7]),
)  # fmt: skip
def test_batch_norm_in_training(batch, channels, spatial, seed, kinked, strided, dtype, which, eps, momentum):
    x = draw((batch, channels, *spatial), seed, kinked, dtype, strided)
    both, statistics = affine(channels, seed, dtype, which), running(channels, seed, dtype)
    # two values of a channel that lie close amplify rounding by 1 / √eps
    tolerance = {torch.float64: 1e-8, torch.float32: 2e-4}.get(dtype)
    agree(
        "_native_batch_norm_legit_functional.default",
        x, *both, *statistics, True, momentum, eps, tolerance=tolerance, constants=statistics,
    )  # fmt: skip
    agree("_native_batch_norm_legit.no_stats", x, *both, True, momentum, eps, tolerance=tolerance)
    agree("batch_norm.default", x, *both, None, None, True, momentum, eps, False, tolerance=tolerance)


def test_batch_norm_of_half_precision_beside_float32_parameters():
    x = draw((3, 2, 4), dtype=torch.bfloat16)
    both = affine(2, 0, torch.float32, 3)
    agree("_native_batch_norm_legit_no_training.default", x, *both, *running(2, 0, torch.float32), 0.1, 1e-5)
    agree(
        "_native_batch_norm_legit_functional.default", x, *both, *running(2, 0, torch.float32), True, 0.1, 1e-5
    )


def test_what_is_refused():
    x, both = draw((3, 2, 4)), running(2, 0, torch.float64)
    for name, args in [
        ("_native_batch_norm_legit_functional.default", (False, 0.1, 1e-5)),
        ("batch_norm.default", (True, 0.1, 1e-5, False)),
        ("instance_norm.default", (True, 0.1, 1e-5, False)),
    ]:
        with pytest.raises(NotImplementedError, match=name.split(".")[0]):
            agree(name, x, None, None, *both, *args, constants=both)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    shape=shapes(1, 4, side=4), seed=seeds, kinked=kinds, strided=st.booleans(), dtype=DTYPES,
    which=st.integers(0, 3), eps=EPS, dims=st.integers(1, 2),
)  # fmt: skip
def test_layer_and_rms_norm(shape, seed, kinked, strided, dtype, which, eps, dims):
    x = draw(shape, seed, kinked, dtype, strided)
    inner = shape[-dims:]
    weight = draw(inner, seed + 1, dtype=dtype) if which & 1 else None
    bias = draw(inner, seed + 2, dtype=dtype) if which & 2 else None
    tolerance = {torch.float64: 1e-8, torch.float32: 2e-4}.get(dtype)  # close values: amplified by 1 / √eps
    agree("layer_norm.default", x, inner, weight, bias, eps, tolerance=tolerance)
    agree("native_layer_norm.default", x, inner, weight, bias, eps, tolerance=tolerance)
    agree("rms_norm.default", x, inner, weight, eps, tolerance=tolerance)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_rms_norm_without_an_epsilon_takes_that_of_the_dtype(dtype):
    """Numbers so small that the epsilon decides the result."""
    x = draw((3, 4), dtype=torch.float64) * {torch.float64: 1e-8}.get(dtype, 3e-4)
    agree("rms_norm.default", x.to(dtype), (4,))


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    batch=st.integers(1, 3), groups=st.integers(1, 3), per=st.integers(1, 3), spatial=SPATIAL, seed=seeds,
    kinked=kinds, strided=st.booleans(), dtype=DTYPES, which=st.sampled_from([0, 3]), eps=EPS,
)  # fmt: skip
def test_group_and_instance_norm(batch, groups, per, spatial, seed, kinked, strided, dtype, which, eps):
    channels = groups * per
    x = draw((batch, channels, *spatial), seed, kinked, dtype, strided)
    both = affine(channels, seed, dtype, which)
    tolerance = {torch.float64: 1e-8, torch.float32: 2e-4}.get(dtype)  # close values: amplified by 1 / √eps
    agree("group_norm.default", x, groups, *both, eps, tolerance=tolerance)
    size = x.numel() // batch // channels
    agree(
        "native_group_norm.default",
        x.contiguous(), *both, batch, channels, size, groups, eps, tolerance=tolerance,
    )  # fmt: skip
    if size > 1:
        agree("instance_norm.default", x, *both, None, None, True, 0.1, eps, False, tolerance=tolerance)
