"""What ``twinax port --check`` lists: everything, also behind a branch on data."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from twinax.errors import CannotPort
from twinax.port.torch_to_jax import obstacles
from twinax.port.torch_to_jax.program import is_own, is_torch


class Branching(nn.Module):
    def forward(self, x):
        if x.sum() > 1e9:  # a branch
            x = x + 1
        positive = (x > 0).sum().item()
        if positive > 3:  # a branch on a number
            x = x * 2
        x = x * x.max().item()  # a number that is computed with: no obstacle
        if torch.equal(x, x + 1) or 3.0 in x:  # two more
            x = x * 3
        if x[0].tolist()[0] > 1e9:  # a list
            x = x * 4
        if self.training and bool(x.min() > 1e9):  # in train mode alone
            x = x * 5
        if torch.tensor(3.0) > 2:  # a constant: no obstacle
            x = x * 6
        return torch.special.airy_ai(x)  # no counterpart


class OnASize(nn.Module):
    def forward(self, x):
        if x.sum() > 1e9:  # first
            x = x + 1
        if x[x > 0].shape[0] > 2:  # a size that depends on the data
            x = torch.special.airy_ai(x)
        return x


def lines(module, found):
    """The comments of the lines that were found."""
    start = inspect.getsourcelines(type(module))[1]
    source = inspect.getsource(type(module)).splitlines()
    numbers = [int(one.where.split(":")[1]) - start for one in found]
    return [source[n].split("# ")[1].split(":")[0] for n in numbers]


def test_everything_is_listed_behind_branches_on_data():
    module = Branching()
    found = obstacles(module, {"x": torch.randn(4, 3)})
    told = ["a branch", "a branch on a number", "two more", "a list", "in train mode alone", "no counterpart"]
    assert sorted(set(lines(module, found))) == sorted(told)
    assert {one.operation for one in found} == {"control flow", "aten.special_airy_ai.default"}
    assert module.training


def test_a_size_that_depends_on_the_data_ends_the_list_and_says_so():
    module = OnASize()
    found = obstacles(module, {"x": torch.randn(4, 3)})
    assert lines(module, found)[:2] == ["first", "a size that depends on the data"]
    assert "what lies behind was not looked at" in found[1].hint


class Straight(nn.Module):
    def forward(self, x):
        return x * x.max().item()


def test_a_number_that_is_computed_with_is_no_obstacle():
    assert obstacles(Straight(), {"x": torch.randn(4, 3)}) == ()


def test_a_model_may_lie_in_a_folder_of_any_name():
    for folder in ("/home/a/torch", "/home/a/twinax/port", "torchmodels"):
        assert is_own(f"{folder}/model.py") and not is_torch(f"{folder}/model.py")
    for file in (nn.__file__, "/elsewhere/site-packages/torch/nn/functional.py", "torch/nn/functional.py"):
        assert is_torch(file)
    assert not is_own(inspect.getsourcefile(obstacles))


class Averaging(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3, momentum=None)

    def forward(self, x):
        return self.norm(x)


def test_a_model_that_is_none_for_a_port_is_not_said_to_be_one():
    with pytest.raises(CannotPort, match="norm averages its statistics"):
        obstacles(Averaging(), {"x": torch.randn(4, 3)})
    with pytest.raises(CannotPort, match="fails on these inputs"):
        obstacles(nn.Linear(5, 3), {"input": torch.randn(4, 3)})
