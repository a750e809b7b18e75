"""Which frameworks are here; found without importing one."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from twinax.records import Side

NEEDS: Mapping[Side, tuple[str, ...]] = {"torch": ("torch",), "jax": ("jax", "flax", "optax")}


def installed_sides() -> tuple[Side, ...]:
    """Sides whose framework is installed."""
    return tuple(side for side, modules in NEEDS.items() if all(importlib.util.find_spec(m) for m in modules))
