"""What a JAX model does on its way: activations, dropout layers and their masks, outputs by name.

Imports jax: only JAX workers import this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp

from twinax.twin import Arrays


class Later(Mapping[str, Any]):
    """Arrays that are moved to the host, in torch's layout, only when someone reads them."""

    def __init__(self, make: Callable[[], Arrays]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> Arrays:
        return self._make()

    def __getitem__(self, name: str) -> Any:
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


class Tap:
    """Replays dropout masks (or switches dropout off) and keeps activations."""

    def __init__(self, masks: Mapping[str, Any], record: bool, name: Callable[[str], str]) -> None:
        """``name`` gives what torch calls the module at a path; everything is kept under that name."""
        self.masks, self.record, self.name = masks, record, name
        self.own_paths: dict[str, str] = {}
        self.activations: dict[str, Any] = {}
        self.sites: list[tuple[str, float, tuple[int, ...]]] = []

    def __call__(self, path: str, rate: float | None, call: Callable[[], Any], x: Any) -> Any:
        own_path, path = path, self.name(path)
        if rate is None:
            output = call()
        else:
            self.sites.append((path, rate, tuple(x.shape)))
            self.own_paths[path] = own_path
            mask = self.masks.get(path)
            output = x if mask is None else x * mask / (1.0 - rate)
        if self.record:
            for name, value in named_outputs(output, path):
                if jnp.issubdtype(value.dtype, jnp.floating):
                    repeats = sum(1 for seen in self.activations if seen.split("#")[0] == name)
                    self.activations[f"{name}#{repeats + 1}" if repeats else name] = value
        return output


def named_outputs(outputs: Any, prefix: str = "output") -> Iterator[tuple[str, jax.Array]]:
    """The arrays in a model's outputs, by name: a lone array is ``output``."""
    if isinstance(outputs, jax.Array):
        yield prefix, outputs
    elif isinstance(outputs, Mapping):
        for name, value in outputs.items():
            yield from named_outputs(value, str(name) if prefix == "output" else f"{prefix}.{name}")
    elif isinstance(outputs, list | tuple):
        for i, value in enumerate(outputs):
            yield from named_outputs(value, f"{prefix}.{i}")
