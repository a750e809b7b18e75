"""Statistics of timings: a ratio with its interval, a verdict, and the break-even of compiling.

The unit that is repeated is the *process*: memory layout, thread placement and compile decisions are
drawn once per process and shared by all of its samples, so samples of one process are not independent
(Kalibera & Jones, "Rigorous benchmarking in reasonable time", ISMM 2013). The bootstrap follows that
hierarchy: processes first, then iterations within a process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

MARGIN = 0.03
Verdict = Literal["faster", "slower", "equivalent", "inconclusive"]


@dataclass(frozen=True)
class Interval:
    """A ratio with its confidence interval."""

    ratio: float
    low: float
    high: float


def ratio_interval(
    a: Sequence[Sequence[float]],
    b: Sequence[Sequence[float]],
    seed: int,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Interval:
    """Ratio a / b of two sets of timings, with a hierarchical bootstrap interval.

    The estimate is the geometric mean over processes of the process medians, divided. Where both sets
    have equally many processes, process i of ``a`` and process i of ``b`` ran interleaved and shared the
    host's state: they are drawn together. A bootstrap over P processes is too narrow by √((P − 1) / P)
    (Davison & Hinkley, *Bootstrap Methods and their Application*, 1997, §2.3); the interval is widened by
    that factor. With one process only the iterations are drawn, and the interval knows nothing of how
    processes differ.

    Args:
        a: Seconds per iteration, by process.
        b: Likewise.
        seed: Seed of the resampling.
        confidence: Coverage of the interval.
        resamples: Number of bootstrap draws.

    Raises:
        ValueError: A set is empty, or a time is not a positive number.
    """
    for samples in (*a, *b):
        if not len(samples) or not all(math.isfinite(s) and s > 0 for s in samples):
            raise ValueError(f"every process needs positive, finite times; got {list(samples)[:5]}")
    if not a or not b:
        raise ValueError("each set needs at least one process")
    rng = np.random.default_rng(seed)
    estimate = _log_center(a) - _log_center(b)
    chosen_a = rng.integers(len(a), size=(resamples, len(a)))
    chosen_b = chosen_a if len(a) == len(b) else rng.integers(len(b), size=(resamples, len(b)))
    drawn = _draw(a, chosen_a, rng) - _draw(b, chosen_b, rng)
    processes = min(len(a), len(b))
    widen = math.sqrt(processes / (processes - 1)) if processes > 1 else 1.0
    tail = (1 - confidence) / 2
    low, high = np.quantile(estimate + widen * (drawn - estimate), [tail, 1 - tail])
    return Interval(math.exp(estimate), float(np.exp(low)), float(np.exp(high)))


def _log_center(processes: Sequence[Sequence[float]]) -> float:
    return float(np.mean([math.log(np.median(samples)) for samples in processes]))


def _draw(processes: Sequence[Sequence[float]], chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Log centers of bootstrap draws; ``chosen[draw, slot]`` names the process in each slot."""
    logs = np.empty(chosen.shape)
    for index, samples in enumerate(processes):
        slots = chosen == index
        values = np.asarray(samples)
        picks = rng.integers(len(values), size=(int(slots.sum()), len(values)))
        logs[slots] = np.log(np.median(values[picks], axis=1))
    return logs.mean(axis=1)


def verdict(interval: Interval, margin: float = MARGIN) -> Verdict:
    """What an interval of the time ratio a / b says of a: no winner when it crosses the margin."""
    if interval.high < 1 / (1 + margin):
        return "faster"
    if interval.low > 1 + margin:
        return "slower"
    if interval.low >= 1 / (1 + margin) and interval.high <= 1 + margin:
        return "equivalent"
    return "inconclusive"


def break_even_steps(extra_s: float, slow_step_s: float, fast_step_s: float) -> float | None:
    """Steps after which ``extra_s`` of compiling has paid for itself: extra / (slow − fast).

    None means never: the compiled step is not the faster one.
    """
    if fast_step_s >= slow_step_s:
        return None
    return max(extra_s, 0.0) / (slow_step_s - fast_step_s)
