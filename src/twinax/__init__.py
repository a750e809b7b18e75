"""PyTorch or JAX, for my model, on my hardware? Answered with proof and measurement.

>>> import twinax
>>> answer = twinax.compare("xor", quick=True)      # doctest: +SKIP
>>> print(answer)                                   # doctest: +SKIP

The public names are those in ``__all__``. Importing twinax imports neither framework.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from twinax.api import (
        Comparison,
        autodiff,
        compare,
        evaluate,
        graph,
        load,
        parallel,
        parity,
        port,
        predict,
        report,
        speed,
        train,
        usability,
    )
    from twinax.errors import TwinaxError

__all__ = [
    "Comparison",
    "TwinaxError",
    "autodiff",
    "compare",
    "evaluate",
    "graph",
    "load",
    "parallel",
    "parity",
    "port",
    "predict",
    "report",
    "speed",
    "train",
    "usability",
]

_HOMES = dict.fromkeys(__all__, "twinax.api") | {"TwinaxError": "twinax.errors"}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, so that ``import twinax`` stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'twinax' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """Keeps ``twinax.compare`` and ``twinax.report`` the functions.

    Modules of the same names exist, and whoever imports one would put it in the function's place.
    ``from twinax.report import html`` finds the module as ever.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
