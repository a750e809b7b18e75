"""The training step as a person writes it in PyTorch, without any of twinax around it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch


def step(runner: Any, batches: Sequence[Mapping[str, np.ndarray]]) -> Callable[[int], None]:
    """``call(i)``: one step of SGD with momentum on batch i, modulo their number."""
    model = copy.deepcopy(runner.model).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    data = [{name: torch.from_numpy(array) for name, array in batch.items()} for batch in batches]
    (name,) = runner.inputs

    def objective(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return runner.code.loss(model(batch[name]), batch)

    if runner.mode == "compile":
        objective = torch.compile(objective)

    def call(i: int) -> None:
        optimizer.zero_grad()
        objective(data[i % len(data)]).backward()
        optimizer.step()

    return call
