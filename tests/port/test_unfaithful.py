"""What an export leaves out, fixes or forgets without a word: refused, or told."""

import random

import pytest
import torch
from emitted import example
from torch import nn
from torch.nn import functional

from twinax.errors import CannotPort
from twinax.port.torch_to_jax import convert, obstacles


class Layer(nn.Module):
    def __init__(self, then):
        super().__init__()
        self.line, self.then = nn.Linear(6, 4), then

    def forward(self, x):
        return self.then(self, x)


def follows(self, x):
    with torch.no_grad():
        self.line.weight.mul_(0.9)
    return self.line(x)


def mixed(self, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return self.line(x)


def unmixed(self, x):
    with torch.autocast("cpu", enabled=False):
        return self.line(x)


def seeded(self, x):
    return self.line(x @ torch.randn(6, 6, generator=torch.Generator().manual_seed(7)))


def writes(self, x):
    x[:, 0] = 0
    return self.line(x)


REFUSED = {
    "a parameter is changed": (follows, "changes its own parameters (line.weight)"),
    "lower precision": (mixed, "torch.autocast at test_unfaithful.py:"),
    "Python draws": (lambda self, x: self.line(x) * random.random(), "Python's random"),
    "its own generator": (seeded, "holds a Generator"),
    "whole numbers alone": (lambda self, x: self.line(x).argmax(-1), "returns no floats"),
    "a text": (lambda self, x: {"y": self.line(x), "name": "text"}, "returns a text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(name):
    then, what = REFUSED[name]
    with pytest.raises(CannotPort) as raised:
        convert(Layer(then), example({"x": (2, 6)}))
    found = [f"{one.operation} at {one.where.rpartition('/')[2]}" for one in raised.value.unsupported]
    assert what in f"{raised.value} {found}"


def test_autocast_that_is_off_is_none():
    assert "bfloat16" not in convert(Layer(unmixed), example({"x": (2, 6)})).source


def test_an_input_that_is_written_into_is_told():
    (note,) = convert(Layer(writes), example({"x": (2, 6)})).notes
    assert "writes into its input x" in note


class Named(nn.Module):
    """Its parameters are called as operations are."""

    def __init__(self):
        super().__init__()
        self.mean, self.t, self.exp = (nn.Parameter(torch.rand(4) + i) for i in range(3))

    def forward(self, x):
        return (x - x.mean(1, keepdim=True)) * self.mean + (x.t() @ x).exp() * self.exp / self.t


def test_a_parameter_may_be_called_as_an_operation_is():
    source = convert(Named(), example({"x": (4, 4)})).source
    assert all(source.count(f"self.{name}[...]") == 1 for name in ("mean", "t", "exp"))


def test_a_root_of_a_length():
    module = Layer(lambda self, x: functional.softmax(x @ x.transpose(1, 2) / x.shape[1] ** 0.5, -1) @ x)
    assert "float(" in convert(module, example({"x": (2, 5, 6)})).source


def test_fixed_sizes_are_told():
    def pictures(self, x):
        return x.mean((2, 3)) * (x.shape[2] / x.shape[3])

    ported = convert(Layer(pictures), example({"x": (2, 3, 8, 8)}))
    assert "x.shape[2] == 8, x.shape[3] == 8" in ported.notes[0]
    assert "assert x.shape[2] == 8" in ported.source


def once(self, x):
    """What a second call finds done."""
    with torch.no_grad():
        self.line.weight.copy_(functional.normalize(self.line.weight, dim=1))
    return self.line(x)


def test_a_parameter_that_is_changed_once_and_for_all_is_told():
    (note,) = convert(Layer(once), example({"x": (2, 6)})).notes
    assert "line.weight" in note and "the same when called again" in note


class Unused(nn.Module):
    """Has a buffer that is called as the input is, and is not used."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.ones(4))
        self.sort = nn.ParameterList([nn.Parameter(torch.rand(4)) for _ in range(2)])

    def forward(self, mask):
        values, places = torch.sort(mask, -1)
        return values * self.sort[0] + places * self.sort[1]


def test_names_of_weights_that_are_used_alone_are_kept_free():
    source = convert(Unused(), example({"mask": (2, 4)})).source
    assert "jnp.sort(" in source or "argsort" in source
    assert all(source.count(f"self.sort[{i}][...]") == 1 for i in (0, 1))


def test_what_is_refused_does_not_pass_a_check():
    with pytest.raises(CannotPort, match="returns no floats"):
        obstacles(Layer(lambda self, x: self.line(x).argmax(-1)), example({"x": (2, 6)}))


def test_a_fraction_of_a_batch_asserts_in_python():
    def stretched(self, x):
        return self.line(x) * int(x.shape[0] * 1.5)

    source = convert(Layer(stretched), example({"x": (3, 6)})).source
    assert "torch." not in source.partition("class Layer")[2]
