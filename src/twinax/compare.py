"""Two trees of arrays, compared by name. NumPy only.

The measure is norm-relative, per tensor::

    error(a, b) = ‖a − b‖₂ / ‖a‖₂          (‖a‖₂ = 0: 0 where b = 0 too, else infinite)

It is insensitive to single small entries, and a tensor that is wrong anywhere that matters shows it.
NaN or Inf on either side is an infinite error: nothing that is not a number agrees with anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Num

Array = Num[np.ndarray, "..."]


@dataclass(frozen=True)
class Difference:
    """How far a tensor lies from its reference.

    Attributes:
        error: Norm-relative; infinite where the two cannot be compared.
        norm: ‖reference‖₂.
        gap: ‖other − reference‖₂.
        fault: Why they cannot be compared (``missing``, ``unexpected``, shapes, NaN); else empty.
    """

    error: float
    norm: float
    gap: float
    fault: str = ""


def difference(reference: Array, other: Array) -> Difference:
    """Compare one tensor with its reference, in float64."""
    if reference.shape != other.shape:
        return _incomparable(f"shape {list(reference.shape)} in torch, {list(other.shape)} in jax")
    a, b = (np.asarray(x, dtype=np.float64).ravel() for x in (reference, other))
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is looked at again below
        norm, gap = float(np.linalg.norm(a)), float(np.linalg.norm(a - b))
    if not (math.isfinite(norm) and math.isfinite(gap) and norm > 1e-150):
        for side, x in (("torch", a), ("jax", b)):
            if not np.isfinite(x).all():
                wrong = int((~np.isfinite(x)).sum())
                return _incomparable(f"{wrong} of {x.size} values in {side} are NaN or Inf")
        # all are numbers, but their squares under- or overflow
        scale = max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0)) or 1.0
        norm, gap = (float(scale * np.linalg.norm(x)) for x in (a / scale, a / scale - b / scale))
    error = gap / norm if norm > 0 else (0.0 if gap == 0 else math.inf)
    return Difference(error, norm, gap)


def compare(reference: Mapping[str, Array], other: Mapping[str, Array]) -> dict[str, Difference]:
    """Compare two trees; every name of either appears once, the reference's order first."""
    found = {
        name: difference(array, other[name]) if name in other else _incomparable("missing in jax")
        for name, array in reference.items()
    }
    return found | {name: _incomparable("missing in torch") for name in other if name not in reference}


def worst(differences: Mapping[str, Difference]) -> tuple[str, float]:
    """Name and error of the tensor that differs most; ("", 0) of nothing."""
    if not differences:
        return "", 0.0
    name = max(differences, key=lambda n: differences[n].error)
    return name, differences[name].error


def together(differences: Iterable[Difference]) -> float:
    """Norm-relative error of several tensors taken as one long vector."""
    found = list(differences)
    if any(d.fault for d in found):
        return math.inf
    norm = math.sqrt(sum(d.norm**2 for d in found))
    gap = math.sqrt(sum(d.gap**2 for d in found))
    return gap / norm if norm > 0 else (0.0 if gap == 0 else math.inf)


def _incomparable(fault: str) -> Difference:
    return Difference(math.inf, 0.0, math.inf, fault)
