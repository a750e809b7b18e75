"""Training in PyTorch, as a loop over a torch.optim optimizer has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from twinax.frameworks.training import Part, Training
from twinax.twin import Arrays

if TYPE_CHECKING:
    from twinax.frameworks.torch_backend import TorchRunner


@dataclass(frozen=True)
class Given:
    """A step's loss and gradient norm, still on the device."""

    loss: Tensor
    norm: Tensor

    def read(self) -> tuple[float, float]:
        return float(self.loss), float(self.norm)


class TorchTraining(Training):
    """Steps of the runner's model; the optimizer is the one that its ``load`` was given."""

    def __init__(self, runner: TorchRunner, clip: float | None) -> None:
        assert runner.optimizer is not None, "load() an optimizer before training"
        self.runner, self.clip = runner, clip
        self.parameters = list(runner.model.parameters())

    def step(self, parts: Sequence[Part], learning_rate: float) -> Given:
        runner, optimizer = self.runner, self.runner.optimizer
        assert optimizer is not None
        runner.model.train()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.zero_grad(set_to_none=True)
        total: Any = 0.0
        for part in parts:
            data = runner._on_device(part.batch)
            with runner._masked(part.masks):
                loss = runner._objective(runner._arguments(data), data) / len(parts)
            loss.backward()
            total = total + loss.detach()
        norm = self._clipped()
        optimizer.step()
        return Given(total, norm)

    def _clipped(self) -> Tensor:
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.clip, norm)
        return norm

    def optimizer_state(self) -> Arrays:
        return {name: array.copy() for name, array in self.runner._optimizer_state().items()}
