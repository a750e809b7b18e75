"""What a pass over a workload of many lengths costs, from times measured at a few.

Batches are filled in a random order and padded to their longest example, as most input pipelines do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from jaxtyping import Float, Int

from twinax.records import Json

SYMBOLIC = (
    "compile",
    "compile_dynamic",
)  # modes that put a symbol in a size's place, at the second at the latest
COUNTS = (1, 2, 3, 4, 6, 8, 12, 16)
GRID = 64  # candidates for a bucket's edge: more would change the sum by little


@dataclass(frozen=True)
class Curve:
    """One mode's seconds per call by length, and what compiling for a length costs.

    Attributes:
        lengths: Measured lengths, ascending.
        seconds: Steady state at each.
        compile_s: What the first call took beyond a steady one, where it compiled; a mean.
        once_s: All of that together.
        every: Whether each measured length was compiled anew.
        limit: Sizes after which the framework compiles no more; None where it goes on.
    """

    lengths: tuple[int, ...]
    seconds: tuple[float, ...]
    compile_s: float
    once_s: float
    every: bool
    limit: int | None

    @classmethod
    def of(cls, measurements: Mapping[str, Json]) -> Curve:
        """From the record of a sweep: its points at the first one's batch size."""
        points = [
            p
            for p in measurements["points"]
            if p["size"]["batch"] == measurements["points"][0]["size"]["batch"]
        ]
        points.sort(key=lambda p: p["size"]["dims"]["sequence"])
        steady = [median(p["samples_s"]) for p in points]
        extra = [p["first_s"] - s for p, s in zip(points, steady, strict=True) if p["compilations"]]
        return cls(
            lengths=tuple(p["size"]["dims"]["sequence"] for p in points),
            seconds=tuple(steady),
            compile_s=sum(extra) / len(extra) if extra else 0.0,
            once_s=sum(extra),
            every=len(extra) == len(points),
            limit=measurements.get("limit"),
        )

    def at(self, lengths: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Seconds of a call: linear between measured lengths, and beyond the longest; constant below."""
        found = np.interp(lengths, self.lengths, self.seconds)
        if len(self.lengths) > 1:
            slope = (self.seconds[-1] - self.seconds[-2]) / (self.lengths[-1] - self.lengths[-2])
            found += np.maximum(lengths - self.lengths[-1], 0) * max(slope, 0.0)
        return found


@dataclass(frozen=True)
class Plan:
    """One way to deal with the lengths, and what a pass costs.

    Attributes:
        mode: The mode.
        way: ``as they come``, or to how many buckets batches are padded.
        buckets: The lengths padded to; empty where nothing is padded further.
        programs: How many are compiled.
        compile_s: Seconds for that.
        run_s: Seconds for the calls.
        wasted: Share of the tokens that is padding beyond the batch's own longest example.
        remark: What else to know.
    """

    mode: str
    way: str
    buckets: tuple[int, ...]
    programs: int
    compile_s: float
    run_s: float
    wasted: float = 0.0
    remark: str = ""

    @property
    def total_s(self) -> float:
        """Compiling and running, one pass."""
        return self.compile_s + self.run_s


def plans(
    lengths: Sequence[int], batch: int, curves: Mapping[str, Curve], uncompiled: str, seed: int
) -> list[Plan]:
    """Every way for every mode that was measured."""
    met = batched(lengths, batch, seed)
    found: list[Plan] = []
    for mode, curve in curves.items():
        if not curve.compile_s:
            found.append(Plan(mode, "as they come", (), 0, 0.0, float(curve.at(met).sum())))
        elif mode == uncompiled:  # op_by_op compiles each operation at each new size
            found.append(_as_they_come(mode, curve, met, None))
        elif mode in SYMBOLIC or not curve.every:  # what was compiled serves every length
            programs = max(1, round(curve.once_s / curve.compile_s))
            found.append(Plan(mode, "as they come", (), programs, curve.once_s, float(curve.at(met).sum())))
        else:
            found += [_as_they_come(mode, curve, met, curves.get(uncompiled)), *_bucketed(mode, curve, met)]
    return found


def best(ways: Sequence[Plan]) -> Plan:
    """The cheapest for one pass; of equal ones the simplest."""
    return min(ways, key=lambda way: (way.total_s, len(way.buckets)))


def batched(lengths: Sequence[int], batch: int, seed: int) -> Int[np.ndarray, " batches"]:
    """The longest example of each batch, in the order in which they are met."""
    shuffled = np.random.default_rng([seed, 0xBA7]).permutation(np.asarray(lengths))
    return np.array([shuffled[i : i + batch].max() for i in range(0, len(shuffled), batch)])


def _as_they_come(mode: str, curve: Curve, met: Int[np.ndarray, " n"], plain: Curve | None) -> Plan:
    """A program for each length; where the framework gives up, the lengths met later run uncompiled."""
    distinct = list(dict.fromkeys(met.tolist()))
    kept = distinct if curve.limit is None or plain is None else distinct[: curve.limit]
    late = ~np.isin(met, kept)
    seconds = curve.at(met)
    if plain is not None:
        seconds = np.where(late, plain.at(met), seconds)
    remark = f"{int(late.sum())} batches run uncompiled: no more than {curve.limit} sizes" if late.any() else ""
    return Plan(
        mode, "as they come", (), len(kept), len(kept) * curve.compile_s, float(seconds.sum()), remark=remark
    )


def _bucketed(mode: str, curve: Curve, met: Int[np.ndarray, " n"]) -> list[Plan]:
    """Padded to the best buckets, for several numbers of them."""
    found = []
    most = len(np.unique(met)) if curve.limit is None else min(curve.limit, len(np.unique(met)))
    for count, edges in cheapest_buckets(met, curve).items():
        if count > most:
            break
        padded = np.asarray(edges)[np.searchsorted(edges, met)]
        found.append(
            Plan(
                mode,
                "padded to the longest" if count == 1 else f"{count} buckets",
                tuple(edges),
                count,
                count * curve.compile_s,
                float(curve.at(padded).sum()),
                float(1 - met.sum() / padded.sum()),
            )
        )
    return found


def cheapest_buckets(met: Int[np.ndarray, " n"], curve: Curve) -> dict[int, list[int]]:
    """For each number of buckets the edges with the least time to run, by dynamic programming.

    With candidates e₁ < … < e_m and n(i, j) batches in (eᵢ, eⱼ], the least time to serve everything up to
    eⱼ with k buckets is T(k, j) = minᵢ T(k − 1, i) + n(i, j) · t(eⱼ).
    """
    distinct = np.unique(met)
    places = np.unique(np.linspace(0, len(distinct) - 1, min(GRID, len(distinct))).round().astype(int))
    edges = distinct[places]
    below = np.concatenate([[0], np.searchsorted(np.sort(met), edges, side="right")])  # batches up to each edge
    cost = (below[None, 1:] - below[:, None]) * curve.at(edges)[None, :]  # from an edge (0: none) to another
    later = np.arange(len(edges) + 1)[:, None] > np.arange(len(edges))[None, :]
    cost = np.where(later, np.inf, cost)
    least = np.concatenate([[0.0], np.full(len(edges), np.inf)])
    chosen: dict[int, list[int]] = {}
    steps: list[Int[np.ndarray, " m"]] = []
    for count in range(1, min(max(COUNTS), len(edges)) + 1):
        options = least[:, None] + cost
        steps.append(options.argmin(axis=0))
        least = np.concatenate([[np.inf], options.min(axis=0)])
        if count in COUNTS:
            chosen[count] = _traced(edges, steps)
    return chosen


def _traced(edges: Int[np.ndarray, " m"], steps: Sequence[Int[np.ndarray, " m"]]) -> list[int]:
    """The edges that were taken, from the last one back."""
    taken, at = [], len(edges)
    for step in reversed(steps):
        taken.append(int(edges[at - 1]))
        at = int(step[at - 1])
    return sorted(taken)
