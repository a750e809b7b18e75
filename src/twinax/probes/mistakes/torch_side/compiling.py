"""Mistakes with what is traced, compiled and dispatched, in PyTorch.

The code generator plays no part in them: what is captured is run as it is.
"""

from __future__ import annotations

import functools
import time

import numpy as np
import torch
from torch import Tensor, nn

from twinax.probes.mistakes.base import STEPS, X

compiled = functools.partial(torch.compile, backend="eager")


def branch_on_a_value(mistake: bool) -> Tensor:
    @compiled
    def step(x: Tensor) -> Tensor:
        if mistake:
            return x * 2 if x.sum() > 0 else x
        return torch.where(x.sum() > 0, x * 2, x)

    return step(torch.tensor(X))


def side_effect(mistake: bool) -> list[float]:
    seen: list[float] = []

    @compiled
    def step(x: Tensor) -> Tensor:
        if mistake:
            seen.append(1.0)
        return x + 1

    for _ in range(STEPS):
        step(torch.tensor(X))
        if not mistake:
            seen.append(1.0)
    return seen


def value_kept_outside(mistake: bool) -> Tensor:
    kept: list[Tensor] = []

    @compiled
    def step(x: Tensor) -> tuple[Tensor, Tensor]:
        mean = x.mean()
        if mistake:
            kept.append(mean)
        return x - mean, mean

    _, mean = step(torch.tensor(X))
    kept.append(mean)
    return kept[0] + 1


def changing_closure(mistake: bool) -> Tensor:
    settings = {"rate": 1.0}

    @compiled
    def step(x: Tensor, rate: float) -> Tensor:
        return x * (settings["rate"] if mistake else rate)

    step(torch.tensor(X), settings["rate"])
    settings["rate"] = 0.1
    return step(torch.tensor(X), settings["rate"])


def compiled_at_every_step(mistake: bool) -> Tensor:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            if mistake:
                self.calls += 1
            return torch.tanh(x) * 2 + torch.sin(x)

    x, model = torch.tensor(X), Model()
    step = compiled(model)
    for _ in range(STEPS):
        x = step(x)
    return x


def shape_from_data(mistake: bool) -> Tensor:
    @compiled
    def total(x: Tensor) -> Tensor:
        return x[x > 1].sum() if mistake else torch.where(x > 1, x, 0).sum()

    return total(torch.tensor(X))


def list_as_a_setting(mistake: bool) -> Tensor:
    scaled = compiled(lambda x, factors: x * factors[0])
    return scaled(torch.tensor(X), [2.0] if mistake else (2.0,))


def numpy_inside(mistake: bool) -> Tensor:
    return compiled(lambda x: torch.as_tensor(np.sin(x.numpy())) if mistake else torch.sin(x))(torch.tensor(X))


def numpy_random_inside(mistake: bool) -> int:
    generator = np.random.default_rng(0)

    @compiled
    def noisy(x: Tensor) -> Tensor:
        noise = torch.as_tensor(generator.normal(size=3)) if mistake else torch.randn(3)
        return x + noise

    first, second = (noisy(torch.tensor(X)) for _ in range(2))
    return int(torch.equal(first, second))


def unblocked_timing(mistake: bool) -> bool:
    x = torch.ones(300, 300)
    y = x @ x
    start = time.perf_counter()
    for _ in range(40):
        y = torch.tanh(y @ x)
    if not mistake:
        torch.cpu.synchronize()
    told = time.perf_counter() - start
    torch.cpu.synchronize()
    return told > (time.perf_counter() - start) / 2


PROGRAMS = {
    "Python if on a traced value": branch_on_a_value,
    "side effect in a compiled function": side_effect,
    "traced value kept outside": value_kept_outside,
    "closure over what changes later": changing_closure,
    "compiled anew at every step": compiled_at_every_step,
    "shape from data": shape_from_data,
    "a list as a static setting": list_as_a_setting,
    "NumPy inside a compiled function": numpy_inside,
    "NumPy's random numbers inside": numpy_random_inside,
    "timing without waiting": unblocked_timing,
}
CANNOT = {"donated buffer used again": "an argument cannot be given away: it lives while a name holds it"}
