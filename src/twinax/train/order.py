"""Which examples a step sees, and what dropout keeps: drawn from the seed and the step's number alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from twinax.frameworks.base import DropoutSite, draw_masks
from twinax.frameworks.training import Part
from twinax.records import Recipe
from twinax.twin import Array, Examples


@dataclass(frozen=True)
class Order:
    """The order of a training: the same on both sides, and after a restart.

    Every epoch goes through the examples in an order drawn anew. What is left over at its end, fewer than
    a batch, waits for the next epoch's draw.
    """

    examples: Examples
    recipe: Recipe
    seed: int

    @property
    def batch(self) -> int:
        """Examples per step; fewer than asked for where there are fewer."""
        size = min(self.recipe.batch, len(self.examples))
        return size - size % self.recipe.accumulate

    @property
    def steps_per_epoch(self) -> int:
        return len(self.examples) // self.batch

    @property
    def steps(self) -> int:
        return self.recipe.epochs * self.steps_per_epoch

    def rows(self, step: int) -> Array:
        """Numbers of the examples of a step."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return _order(self.seed, epoch, len(self.examples))[place * self.batch : (place + 1) * self.batch]

    def parts(self, step: int, sites: Sequence[DropoutSite]) -> list[Part]:
        """The step's batch, in ``accumulate`` parts, with the masks of each part's dropout layers."""
        parts = np.split(self.rows(step), self.recipe.accumulate)
        return [
            Part(self.examples.take(rows, _seed(self.seed, step, i)), draw_masks(sites, self.seed, step, i))
            for i, rows in enumerate(parts)
        ]


@lru_cache(maxsize=1)
def _order(seed: int, epoch: int, count: int) -> Array:
    return np.random.default_rng([seed, 0x0D, epoch]).permutation(count)


def _seed(seed: int, step: int, part: int) -> int:
    return int(np.random.SeedSequence([seed, step, part]).generate_state(1)[0])
