"""What a function's forward pass keeps for its backward pass, as flat arrays: one for each type of number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

Flat = dict[str, jax.Array]
"""Type of number → all arrays of that type, behind one another."""


@dataclass(frozen=True)
class Residuals:
    """How to put a function that ``jax.vjp`` returned (a pytree) together again.

    Attributes:
        form: The pytree's structure.
        leaves: Of each leaf its shape and type; or its number among the arrays that are there anyhow
            (parameters, data), which are not kept a second time.
    """

    form: Any
    leaves: list[jax.ShapeDtypeStruct | int]

    @classmethod
    def of(cls, pull: Callable[..., Any], given: Sequence[Any]) -> tuple[Residuals, Flat]:
        """Of a pulled-back function, when ``given`` are there anyhow."""
        found, form = jax.tree.flatten(pull)
        numbers = {id(array): i for i, array in enumerate(given)}
        leaves: list[jax.ShapeDtypeStruct | int] = []
        kept: dict[str, list[Any]] = {}
        for leaf in found:
            number = numbers.get(id(leaf))
            leaf = jnp.asarray(leaf)
            leaves.append(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if number is None else number)
            if number is None:
                kept.setdefault(str(leaf.dtype), []).append(jnp.ravel(leaf))
        return cls(form, leaves), {kind: jnp.concatenate(parts) for kind, parts in kept.items()}

    def pull(self, flat: Mapping[str, Any], given: Sequence[Any]) -> Callable[..., Any]:
        """The function again; ``flat`` may have anything behind what was kept."""
        starts, found = dict.fromkeys(flat, 0), []
        for leaf in self.leaves:
            if isinstance(leaf, int):
                found.append(given[leaf])
                continue
            kind, size = str(leaf.dtype), math.prod(leaf.shape)
            found.append(flat[kind][starts[kind] : starts[kind] + size].reshape(leaf.shape))
            starts[kind] += size
        return jax.tree.unflatten(self.form, found)


def padded(flat: Flat, lengths: Mapping[str, int]) -> Flat:
    """With zeros up to these lengths; of every type one array."""
    return {
        kind: jnp.concatenate([flat[kind], jnp.zeros(length - flat[kind].size, kind)])
        if kind in flat
        else jnp.zeros(length, kind)
        for kind, length in lengths.items()
    }


def longest(flats: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Of each type the most numbers that any has."""
    kinds = sorted({kind for flat in flats for kind in flat})
    return {kind: max(flat[kind].size if kind in flat else 0 for flat in flats) for kind in kinds}
