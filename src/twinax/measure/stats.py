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
from jaxtyping import Float

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
    resamples: int = 4000,
) -> Interval:
    """Ratio a / b of two sets of timings, with a hierarchical bootstrap interval.

    The estimate is the geometric mean over processes of the process medians, divided. Where both sets
    have equally many processes, process i of ``a`` and process i of ``b`` took turns on the same host:
    they are drawn together, which cancels what both met.

    Iterations are resampled. Processes are too few for that (two have three different means), so how far
    their mean may lie from the truth is drawn from Student's t at one degree of freedom less than there
    are processes: the interval then covers what it claims with two processes as with ten. Medians of
    processes differ also because their iterations are noisy; that part is drawn with the iterations and
    taken off here (the shrinkage of Davison & Hinkley, *Bootstrap Methods and their Application*, 1997,
    §3.8). With one process the interval knows nothing of how processes differ.

    Args:
        a: Seconds per iteration, by process.
        b: Likewise.
        seed: Seed of the resampling.
        confidence: Coverage of the interval.
        resamples: Number of bootstrap draws.

    Raises:
        ValueError: A set is empty, or a time is not a positive number.
    """
    if not len(a) or not len(b):
        raise ValueError("each set needs at least one process")
    for samples in (*a, *b):
        if not len(samples) or not all(math.isfinite(s) and s > 0 for s in samples):
            raise ValueError(f"every process needs positive, finite times; got {list(samples)[:5]}")
    rng = np.random.default_rng(seed)
    noise_a, noise_b = _iterations(a, resamples, rng), _iterations(b, resamples, rng)
    centers_a, centers_b = _log_medians(a), _log_medians(b)
    if len(a) == len(b):
        sets = [(centers_a - centers_b, noise_a - noise_b)]
    else:
        sets = [(centers_a, noise_a), (centers_b, noise_b)]
    estimate = float(centers_a.mean() - centers_b.mean())
    drawn = estimate + noise_a.mean(axis=0) - noise_b.mean(axis=0)
    for centers, noise in sets:
        drawn += _processes(centers, noise, rng)
    tail = (1 - confidence) / 2
    low, high = np.exp(np.quantile(drawn, [tail, 1 - tail]))
    return Interval(math.exp(estimate), float(low), float(high))


def _log_medians(processes: Sequence[Sequence[float]]) -> Float[np.ndarray, " process"]:
    return np.array([math.log(np.median(samples)) for samples in processes])


def _iterations(
    processes: Sequence[Sequence[float]], resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, "process draw"]:
    """How far each process's log median moves when its iterations are drawn anew."""
    noise = []
    for samples in processes:
        values = np.asarray(samples)
        picks = rng.integers(len(values), size=(resamples, len(values)))
        noise.append(np.log(np.median(values[picks], axis=1)) - math.log(np.median(values)))
    return np.stack(noise)


def _processes(
    centers: Float[np.ndarray, " process"], noise: Float[np.ndarray, "process draw"], rng: np.random.Generator
) -> Float[np.ndarray, " draw"]:
    """How far the mean of other processes may lie from these ones', beyond their iterations' noise."""
    count, draws = noise.shape
    if count == 1:
        return np.zeros(draws)
    variance = max(0.0, float(centers.var(ddof=1)) - float(noise.var(axis=1).mean()))
    return math.sqrt(variance / count) * rng.standard_t(count - 1, size=draws)


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


def break_even_interval(
    extra_s: float,
    slow: Sequence[Sequence[float]],
    fast: Sequence[Sequence[float]],
    seed: int,
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """The interval of :func:`break_even_steps` by bootstrap (processes, then iterations); ``inf`` is never.

    Args:
        extra_s: Seconds that compiling took.
        slow: Seconds of a step uncompiled, by process.
        fast: Seconds of a step compiled, by process.
        seed: Of the draws.
        resamples: How many.
        confidence: Share of the draws within the interval.
    """
    rng = np.random.default_rng(seed)
    gain = _drawn_medians(slow, resamples, rng) - _drawn_medians(fast, resamples, rng)
    with np.errstate(divide="ignore"):
        steps = np.where(gain > 0, max(extra_s, 0.0) / np.abs(gain), np.inf)
    tail = (1 - confidence) / 2
    # an order statistic each: between a number and never there is nothing to interpolate
    low = np.quantile(steps, tail, method="lower")
    high = np.quantile(steps, 1 - tail, method="higher")
    return float(low), float(high)


def _drawn_medians(
    processes: Sequence[Sequence[float]], resamples: int, rng: np.random.Generator
) -> Float[np.ndarray, " draw"]:
    """The mean of the processes' medians, each process and each iteration drawn anew."""
    medians = []
    for samples in processes:
        values = np.asarray(samples)
        picks = rng.integers(len(values), size=(resamples, len(values)))
        medians.append(np.median(values[picks], axis=1))
    chosen = rng.integers(len(medians), size=(len(medians), resamples))
    return np.stack(medians)[chosen, np.arange(resamples)].mean(axis=0)
