"""The contract of training: many optimizer steps in a row, the same on both sides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from twinax.twin import Arrays


@dataclass(frozen=True)
class Part:
    """A part of a step's batch, with what dropout keeps of it.

    Attributes:
        batch: Torch layout.
        masks: Keep-masks by dropout path (bool, True keeps); every dropout layer has one.
    """

    batch: Arrays
    masks: Arrays


class Pending(Protocol):
    """What a step gives, perhaps before it is finished."""

    def read(self) -> tuple[float, float]:
        """The loss, and the norm of all gradients together before they were clipped; waits for them."""
        ...


class Training(ABC):
    """Optimizer steps in train mode. Weights, buffers and optimizer state are the runner's, and move on."""

    @abstractmethod
    def step(self, parts: Sequence[Part], learning_rate: float) -> Pending:
        """One step on the mean of the parts' losses.

        Gradients g with ‖g‖₂ > clip become g · clip / (‖g‖₂ + 1e-6) (Pascanu et al., arXiv:1211.5063;
        the 1e-6 is torch's), all parameters taken as one vector.
        """

    @abstractmethod
    def optimizer_state(self) -> Arrays:
        """The optimizer's state now: see :attr:`twinax.frameworks.base.Evaluation.optimizer`."""


CLIP_EPS = 1e-6
