"""What the programs share: the numbers they work on, and what a mistake, a citation and a tool are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinax.twin import Array

# --- the numbers that both sides' programs work on ---------------------------------------------------

X = np.asarray([1.0, 2.0, 3.0], np.float32)
WEIGHTS = np.asarray([0.5, -1.0, 2.0], np.float32)
LOGITS = np.asarray([[2.0, -1.0, 0.5], [-3.0, 1.0, 4.0]], np.float32)
LABELS = np.asarray([0, 1])
TARGETS = np.asarray([1.0, 0.0], np.float32)
FINE = np.asarray([1.0 + 1e-10, 1.0 - 1e-10])
PIXELS = np.asarray([[10, 200], [20, 100]], np.uint8)
COLUMN = np.asarray([[1.0], [2.0], [4.0]], np.float32)
IMAGE = np.arange(2 * 4 * 5 * 3, dtype=np.float32).reshape(2, 4, 5, 3)
"""Two images: height 4, width 5, three channels last."""
TOKENS = np.sin(np.arange(24, dtype=np.float32)).reshape(1, 3, 2, 4)
"""Queries, keys and values at once: batch 1, three tokens, two heads, four features."""
BUFFER = np.linspace(1, 2, 1200, dtype=np.float32)
"""Long enough for its memory to be shared where a framework shares memory."""
STEPS = 12
"""Calls of a compiled function: more than the 8 that torch.compile compiles one for."""
KEEP = np.asarray([True, True, False])

# --- where people are warned -------------------------------------------------------------------------


@dataclass(frozen=True)
class Citation:
    """A page of documentation, or a thread of an issue tracker."""

    title: str
    address: str


@dataclass(frozen=True)
class Tool:
    """Something of the framework's own that should find a mistake.

    Attributes:
        name: As its documentation calls it.
        use: Runs a program under it, and returns what that returned; it speaks by raising, warning or logging.
    """

    name: str
    use: Callable[[Callable[[], Any]], Any]


def within(name: str, context: Callable[[], AbstractContextManager[Any]]) -> Tool:
    """A tool that is a context to run in."""

    def use(run: Callable[[], Any]) -> Any:
        with context():
            return run()

    return Tool(name, use)


@dataclass(frozen=True)
class Case:
    """A mistake.

    Attributes:
        name: What the tables call it.
        what: What is done, and what should be.
        citation: Where people are warned of it, or were seen to make it.
        reference: What the program returns without it.
        rtol: How near that must be, relatively.
    """

    name: str
    what: str
    citation: Citation
    reference: Array
    rtol: float = 1e-5
