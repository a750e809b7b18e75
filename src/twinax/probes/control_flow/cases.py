"""The programs' names and inputs: several calls each, so that what was baked in at the first shows later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Input = Any  # a float64 array, or a nested tuple of them


@dataclass
class Seen:
    """Where programs leave their effects: outside of the arrays that they return."""

    effects: list[int] = field(default_factory=list)
    calls: int = 0

    def clear(self) -> None:
        """Forget everything, in place: programs hold on to this object."""
        self.effects.clear()
        self.calls = 0


SEEN = Seen()


def _array(*values: float) -> np.ndarray:
    return np.asarray(values, dtype=np.float64)


CASES: Mapping[str, tuple[Input, ...]] = {
    "branch on data": (_array(1, 2), _array(-1, -2)),
    "loop to convergence": (np.asarray(2.0), np.asarray(900.0)),
    "early exit": (_array(1, 1, 1, 1), _array(5, 1, 1, 1)),
    "recursion over a tree": (
        (_array(1), (_array(2), _array(3))),
        ((_array(1), _array(2)), (_array(3), (_array(4), _array(5)))),
    ),
    "sequences of any length": (_array(1, 2, 3), _array(1, 2, 3, 4, 5)),
    "in-place update": (_array(1, 2, 3), _array(4, 5, 6)),
    "side effect in Python": (_array(1, 2), _array(3, 4), _array(5, 6)),
    "random numbers": (_array(0, 0, 0), _array(0, 0, 0)),
    "a list that grows": (_array(1, -1, 2), _array(-1, 3, -2)),
    "print": (_array(1, 2), _array(3, 4)),
    "NumPy inside": (_array(0.1, 0.2), _array(0.3, 0.4)),
    "shape from data": (_array(1, -1, 2), _array(-1, 3, -2)),
    "state in an object": (_array(1, 2), _array(1, 2), _array(1, 2)),
    "exception raised on data": (_array(1, 2), _array(-1, 2)),
}

RANDOM = frozenset({"random numbers"})
"""Programs of which two calls must differ, instead of giving the same numbers in every mode."""
