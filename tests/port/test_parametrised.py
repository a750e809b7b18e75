"""Weights that are computed from others are torch's."""

import pytest
import torch
from op_testing import agree, draw

import twinax.port.torch_to_jax.ops.parametrised  # noqa: F401 - declares the operations

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("shape", [(3, 4), (5, 2, 3), (1, 7)])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_weight_norm(shape, dim):
    v = draw(shape, 1)
    sizes = [size if axis == dim else 1 for axis, size in enumerate(shape)]
    g = draw(() if dim == -1 else tuple(sizes), 2)
    agree("_weight_norm.default", v, g, dim)
    agree("_weight_norm.default", v.float(), g.float(), dim)
    assert torch.isfinite(v).all()
