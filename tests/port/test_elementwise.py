"""Operations on each element are torch's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_testing import agree, draw, kinds, seeds, shapes

import twinax.port.torch_to_jax.ops.elementwise  # noqa: F401 - declares the operations

UNARY = ["relu.default", "abs.default", "gelu.default"]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


@pytest.mark.parametrize("name", UNARY)
@settings(max_examples=20, deadline=None)
@given(shape=shapes(), seed=seeds, kinked=kinds, strided=st.booleans(), dtype=st.sampled_from(DTYPES))
def test_unary(name, shape, seed, kinked, strided, dtype):
    agree(name, draw(shape, seed, kinked, dtype, strided))


@settings(max_examples=20, deadline=None)
@given(shape=shapes(), seed=seeds, alpha=st.sampled_from([1, 2, 0.5]))
def test_add(shape, seed, alpha):
    agree("add.Tensor", draw(shape, seed), draw(shape, seed + 1), alpha=alpha)
    agree("add.Tensor", draw(shape, seed, dtype=torch.int64), draw(shape, seed + 1, dtype=torch.float32))
    agree("add.Tensor", draw(shape, seed, dtype=torch.float32), draw((), seed + 1))
    agree("add.Scalar", draw(shape, seed, dtype=torch.int64), 1.5)
