"""PyTorch or JAX, for my model, on my hardware? Answered with proof and measurement.

>>> import twinax
>>> answer = twinax.compare("xor", quick=True)      # doctest: +SKIP
>>> print(answer)                                   # doctest: +SKIP

The public names are those in ``__all__``. Importing twinax imports neither framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twinax.api import Comparison, compare, graph, load, parity, speed
    from twinax.errors import TwinaxError

__all__ = ["Comparison", "TwinaxError", "compare", "graph", "load", "parity", "speed"]

_HOMES = dict.fromkeys(__all__, "twinax.api") | {"TwinaxError": "twinax.errors"}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, so that ``import twinax`` stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'twinax' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
