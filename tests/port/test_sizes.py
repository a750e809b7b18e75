"""Sizes that an export takes for constants: a port refuses others where the model computes with them."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from emitted import example, load
from torch import nn
from torch.nn import functional

from twinax.port.torch_to_jax import convert
from twinax.port.torch_to_jax.sizes import computed_with

PICTURE = {"x": (2, 1, 12, 16)}


class Model(nn.Module):
    def __init__(self, compute, axes=2):
        super().__init__()
        kind, self.compute = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[axes], compute
        self.conv, self.norm = kind(1, 4, 3, padding=1), nn.GroupNorm(2, 4)

    def forward(self, x):
        return self.compute(self.norm(self.conv(x)))


def padded(x):
    return functional.pad(x, (0, -x.shape[3] % 4, 0, -x.shape[2] % 4))


def windows(x):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 4, 4, w // 4, 4).transpose(3, 4).reshape(-1, c, 4, 4)


READ = {
    "divided": (lambda x: x.sum((2, 3)) / x.shape[2], [2]),
    "to a tensor": (lambda x: x * torch.tensor(float(x.shape[3])), [3]),
    "resized": (lambda x: functional.interpolate(functional.max_pool2d(x, 2), size=x.shape[-2:]), [2, 3]),
    "padded": (padded, [2, 3]),
    "sliced": (lambda x: x[:, :, x.shape[2] // 4 :], [2]),
    "rolled": (lambda x: x.roll(x.shape[3] // 2, 3), [3]),
    "pooled": (lambda x: functional.avg_pool2d(x, x.shape[2:]), [2, 3]),
    "in windows": (windows, [2, 3]),
    "tokens to pictures": (lambda x: x.flatten(2).tanh().view(x.shape), [3]),  # JAX refuses another height
    "positions": (lambda x: x + torch.arange(x.shape[3]), [3]),
    "free": (lambda x: functional.adaptive_avg_pool2d(x, 1).flatten(1), []),
    "scaled": (lambda x: functional.interpolate(x, scale_factor=2.0), []),
    "tokens": (lambda x: x.flatten(2).transpose(1, 2).softmax(-1), []),
    "cut": (lambda x: x[:, :, 1:-1, ::2], []),
}


@pytest.mark.parametrize("name", READ)
def test_sizes_that_are_computed_with_are_found(name):
    compute, axes = READ[name]
    found = computed_with(Model(compute).eval(), example(PICTURE), [("x", 1), ("x", 2), ("x", 3)])
    assert found == [("x", axis) for axis in axes]


def test_a_port_refuses_other_sizes_where_torch_computes_with_them(tmp_path):
    torch.manual_seed(0)
    module, inputs = Model(READ["divided"][0]).eval(), example(PICTURE)
    model = load(convert(module, inputs), tmp_path).load(tmp_path / "weights.safetensors")
    wide = example({"x": (3, 1, 12, 20)})["x"].numpy()  # ones would have almost no variance to divide by
    np.testing.assert_allclose(model(jnp.asarray(wide)), module(torch.from_numpy(wide)).detach(), rtol=2e-5)
    with pytest.raises(AssertionError):
        model(jnp.ones((3, 1, 24, 16)))


def test_the_last_size_of_a_sequence_counts_too():
    compute, axes = (lambda x: x.sum(-1) / x.shape[-1]), [("x", 2)]
    assert computed_with(Model(compute, 1).eval(), example({"x": (2, 1, 11)}), [("x", 1), ("x", 2)]) == axes


def test_where_numbers_decide_nothing_is_known():
    module = Model(lambda x: x * 2 if x.sum() > 0 else x).eval()
    assert computed_with(module, example(PICTURE), [("x", 3)]) == [("x", 3)]


class Masked(nn.Module):
    def forward(self, x, mask):
        return (x @ x.mT).masked_fill(mask, 0.0).sum(-1) / mask.shape[-1]


def test_a_mask_changes_with_its_sequence():
    inputs = {"x": torch.randn(2, 5, 4), "mask": torch.rand(2, 5, 5) > 0.5}
    assert ("mask", 2) in computed_with(Masked(), inputs, [("x", 2), ("mask", 2)])


class Caching(nn.Module):
    """Keeps what it computed, as rotary embeddings do."""

    def __init__(self):
        super().__init__()
        self.kept, self.by_size = None, {}

    def forward(self, x):
        if self.kept is None or self.kept.shape[-1] != x.shape[-1]:
            self.kept = self.by_size[int(x.shape[-1])] = torch.arange(x.shape[-1]).cos()
        return x * self.kept


def test_what_a_model_keeps_is_taken_back():
    module = Caching()
    assert computed_with(module, example(PICTURE), [("x", 3)]) == [("x", 3)]
    assert module.kept is None and module.by_size == {}
    assert "cos" in convert(module, example(PICTURE)).source


SQUARE = {
    "divided": (lambda x: x.sum((2, 3)) / (x.shape[2] * x.shape[3]), [2, 3]),
    "a ratio": (lambda x: x.mean((2, 3)) * (x.shape[2] / x.shape[3]), [2, 3]),
    "free": (lambda x: x.mean((2, 3)), []),
}


@pytest.mark.parametrize("name", SQUARE)
def test_as_many_features_as_pixels_hide_nothing(name):
    compute, axes = SQUARE[name]
    module = nn.Sequential(nn.Conv2d(4, 4, 1), Model(compute))
    module[1].conv, module[1].norm = nn.Identity(), nn.Identity()
    found = computed_with(module.eval(), {"input": torch.randn(2, 4, 4, 4)}, [("input", a) for a in (1, 2, 3)])
    assert found == [("input", axis) for axis in axes]


def bounded(x):
    assert max(x.shape[2:]) <= 12  # its table has no more
    return x * (x.shape[2] / x.shape[3])


@pytest.mark.parametrize(
    "compute", [bounded, lambda x: x * (1 + x.shape[2] % x.shape[3])], ids=["bounded", "a rest"]
)
def test_relations_of_sizes_are_found_where_some_sizes_do_not_run(compute):
    found = computed_with(Model(compute).eval(), example({"x": (2, 1, 8, 8)}), [("x", 2), ("x", 3)])
    assert found == [("x", 2), ("x", 3)]
