"""The mistakes in PyTorch: each a program that is right without its one visible edit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twinax.probes.mistakes.torch_side import compiling, data, numbers, shapes, training
from twinax.probes.mistakes.torch_side.tools import LOGGERS, TOOLS, clean, fetched

Program = Callable[[bool], Any]
"""``program(mistake)`` returns an array or a number; without the mistake it is the case's reference."""

_THEMES = (training, numbers, shapes, compiling, data)
PROGRAMS: Mapping[str, Program] = {name: p for theme in _THEMES for name, p in theme.PROGRAMS.items()}
CANNOT: Mapping[str, str] = {name: why for theme in _THEMES for name, why in theme.CANNOT.items()}
"""Mistakes that cannot be made in PyTorch, and why."""

__all__ = ["CANNOT", "LOGGERS", "PROGRAMS", "TOOLS", "clean", "fetched"]
