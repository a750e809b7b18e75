"""Training in PyTorch, as a loop over a torch.optim optimizer has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from twinax.frameworks.training import Part, Training
from twinax.twin import Arrays, Config

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
        self.masks: dict[str, Tensor] = {}

    def step(self, parts: Sequence[Part], learning_rate: float) -> Given:
        runner, optimizer = self.runner, self.runner.optimizer
        assert optimizer is not None
        runner.model.train()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        optimizer.zero_grad(set_to_none=True)
        total: Any = 0.0
        with replayed(runner, self.masks):
            for part in parts:
                self.masks.clear()
                self.masks |= {path: torch.from_numpy(m).to(runner.device) for path, m in part.masks.items()}
                data = runner._on_device(part.batch)
                loss = runner.code.loss(runner.model(*runner._arguments(data)), data) / len(parts)
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


def fit(code: Any, config: Config, batch: Arrays, dtype: str, device: str) -> Arrays:
    """The weights that the side's own solver finds for these training examples."""
    data = {}
    for name, array in batch.items():
        tensor = torch.from_numpy(np.array(array, order="C")).to(device)
        data[name] = tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor
    with torch.no_grad():
        return {name: tensor.cpu().numpy() for name, tensor in code.fit(config, data).items()}


class replayed:  # noqa: N801 - read as a statement: with replayed(…)
    """Every dropout layer multiplies by the mask that lies in ``masks`` under its path, over (1 − rate)."""

    def __init__(self, runner: TorchRunner, masks: dict[str, Tensor]) -> None:
        self.layers, self.masks = list(runner._dropout_layers()), masks

    def __enter__(self) -> None:
        for path, layer in self.layers:
            layer.forward = self._keeping(path, layer.p)

    def __exit__(self, *error: object) -> None:
        for _, layer in self.layers:
            del layer.forward

    def _keeping(self, path: str, rate: float) -> Callable[[Tensor], Tensor]:
        return lambda x: x * self.masks[path] / (1.0 - rate) if rate else x
