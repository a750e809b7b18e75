"""The JAX side of a pair that a port wrote. Run only in a worker; no framework is imported by itself."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from twinax.sources.file import execute_file


def built(file: Path, silent: Sequence[str]) -> Any:
    """The model that ``build()`` of the file gives; dropout layers at these paths do nothing."""
    model = execute_file(file)[1]["build"]()
    for path in silent:
        reduce(_below, path.split("."), model).rate = 0.0
    return model


def _below(module: Any, name: str) -> Any:
    if name.isdigit():
        return module[int(name)]
    return module[name] if not hasattr(module, name) else getattr(module, name)
