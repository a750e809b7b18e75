"""The built-in twins: whatever lies in ``twinax.zoo`` as a folder with a ``twin.py``."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from twinax import zoo
from twinax.twin import Twin


@cache
def _twins() -> dict[str, Twin]:
    """Every twin by name, in the order of the folders' names."""
    folders = sorted(module.name for module in pkgutil.iter_modules(zoo.__path__) if module.ispkg)
    modules = [importlib.import_module(f"{zoo.__name__}.{folder}.twin") for folder in folders]
    return {twin.name: twin for module in modules for twin in module.TWINS}


def names() -> list[str]:
    """Names that :func:`resolve` knows."""
    return list(_twins())


def titles() -> dict[str, str]:
    """One line for people, by name."""
    return {name: twin.title for name, twin in _twins().items()}


def resolve(name: str) -> Twin | None:
    """The twin of that name, or None."""
    return _twins().get(name)
