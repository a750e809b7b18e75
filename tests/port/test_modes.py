"""Eval mode derived from train mode is eval mode as torch.export gives it."""

import pytest
from emitted import example
from torch import nn

from twinax.port.torch_to_jax import capture, convert


class Own(nn.Module):
    """Reads its mode itself."""

    def forward(self, x):
        return x * 2 if self.training else x


class Overridden(nn.Sequential):
    """Has a hand in its mode."""

    def train(self, mode=True):
        return super().train(mode)


def layers():
    return (
        nn.Linear(3, 4),
        nn.BatchNorm1d(4),
        nn.Dropout(0.1),
        nn.BatchNorm1d(4, track_running_stats=False),
        nn.BatchNorm1d(4, affine=False),
    )


class Always(nn.Module):
    """Normalises by the batch in either mode."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x):
        mean, var = self.norm.running_mean.clone(), self.norm.running_var.clone()
        return nn.functional.batch_norm(self.norm(x), mean, var, training=True)


class Twice(nn.Module):
    """Normalises twice with one layer."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, input):
        return self.norm(self.norm(input) * 2 + 1)


class Read(nn.Module):
    """Reads the statistics that its layer has just moved."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, input):
        return self.norm(input) + self.norm.running_mean


@pytest.mark.parametrize(
    ("module", "exports"),
    [
        (nn.Sequential(*layers()), 1),
        (Always(), 1),
        (Twice(), 1),
        (Read(), 2),
        (nn.Linear(3, 2), 1),
        (nn.Sequential(nn.Linear(3, 3), Own()), 2),
        (Overridden(*layers()), 2),
    ],
    ids=["layers", "always", "twice", "read", "one mode", "own", "overridden"],
)
def test_what_is_derived_is_what_is_exported(module, exports, monkeypatch):
    asked = []
    whole = capture._program
    monkeypatch.setattr(capture, "_program", lambda *a: (asked.append(a[2]), whole(*a))[1])
    inputs = example({"x" if isinstance(module, Always) else "input": (5, 3)})
    derived = convert(module, inputs).source
    assert len(asked) == exports
    monkeypatch.setattr(capture, "eval_follows", lambda *_: False)
    assert convert(module, inputs).source == derived
