"""How long each program takes, and the ratio between the sides.

A ratio is PyTorch's time over JAX's: below 1, PyTorch is the faster one. The four verdicts are
written from PyTorch's point of view: ``faster`` means that PyTorch is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import geometric_mean, median

import numpy as np

from twinax.analyse import words
from twinax.analyse.base import Finding
from twinax.measure import stats
from twinax.records import MODES, Json, Outcome, Record, Run

DISTURBED = 0.25  # above this share of disturbed samples nothing is decided
PROGRAMS = ("forward", "grad", "step")

Key = tuple[str, str, str]
"""Program, side, mode."""


@dataclass(frozen=True)
class Timing:
    """One program in one mode of one side, over all of its processes.

    Attributes:
        samples: Undisturbed seconds per iteration, by process; all samples where none is undisturbed.
        seconds: Geometric mean over the processes of each one's median, as in the ratio.
        disturbed: Share of all samples during which others used the CPU.
        phases: Median seconds of ``import``, ``build``, ``trace``, ``compile`` and ``first`` in cold
            processes, and ``warm_first``: the first call of a process that found a warm cache.
        flops: Floating-point operations per iteration, where the compiler counts them.
        evidence: Ids of the records.
    """

    program: str
    side: str
    mode: str
    samples: Mapping[int, tuple[float, ...]]
    seconds: float
    disturbed: float
    phases: Mapping[str, float]
    flops: float | None
    evidence: tuple[str, ...]

    @property
    def name(self) -> str:
        """``PyTorch (compile)``."""
        return words.setup(self.side, self.mode)


Timings = Mapping[Key, Timing]


def collect(run: Run) -> dict[Key, Timing]:
    """Every program that was timed, in the order of programs, sides and modes."""
    records = [r for r in run.of("speed") if r.outcome is Outcome.OK and "programs" in r.measurements]
    timings = {}
    for program in _programs(records):
        for side, modes in MODES.items():
            for mode in modes:
                mine = [r for r in records if (r.cell.side, r.cell.mode) == (side, mode)]
                mine = [r for r in mine if program in r.measurements["programs"]]
                if any(r.measurements["programs"][program].get("samples_s") for r in mine):
                    timings[program, side, mode] = _timing(program, side, mode, mine)
    return timings


def _programs(records: Iterable[Record]) -> list[str]:
    found = {program for record in records for program in record.measurements["programs"]}
    return [p for p in PROGRAMS if p in found] + sorted(found - set(PROGRAMS))


def _timing(program: str, side: str, mode: str, records: Sequence[Record]) -> Timing:
    measured = [r.measurements["programs"][program] for r in records]
    every = [list(m.get("samples_s", [])) for m in measured]
    marks = [list(m.get("disturbed", [])) or [False] * len(s) for m, s in zip(measured, every, strict=True)]
    calm = [[s for s, bad in zip(ss, bs, strict=True) if not bad] for ss, bs in zip(every, marks, strict=True)]
    repeats = [r.cell.repeat for r in records]
    kept = {i: tuple(s) for i, s in zip(repeats, calm, strict=True) if s}
    kept = kept or {i: tuple(s) for i, s in zip(repeats, every, strict=True) if s}
    return Timing(
        program=program,
        side=side,
        mode=mode,
        samples=kept,
        seconds=geometric_mean(median(samples) for samples in kept.values()),
        disturbed=sum(map(sum, marks)) / sum(map(len, every)),
        phases=_phases(program, records),
        flops=next((m["flops"] for m in measured if m.get("flops")), None),
        evidence=tuple(r.cell.id for r in records),
    )


def _phases(program: str, records: Sequence[Record]) -> dict[str, float]:
    cold = [r.measurements for r in records if not r.measurements.get("warm")]
    warm = [r.measurements for r in records if r.measurements.get("warm")]
    keys = ("trace_s", "compile_s", "first_s")
    found: dict[str, list[float]] = {
        "import": [m["import_s"] for m in cold if m.get("import_s") is not None],
        "build": [m["build_s"] for m in cold if m.get("build_s") is not None],
        **{key.removesuffix("_s"): _values(cold, program, key) for key in keys},
        "warm_first": _values(warm, program, "first_s"),
    }
    return {name: median(values) for name, values in found.items() if values}


def _values(measured: Iterable[Mapping[str, Json]], program: str, key: str) -> list[float]:
    values = [m["programs"][program].get(key) for m in measured]
    return [value for value in values if value is not None]


def fastest(timings: Timings, program: str, side: str) -> Timing | None:
    """The side's fastest mode for a program."""
    mine = [t for t in timings.values() if (t.program, t.side) == (program, side)]
    return min(mine, key=lambda t: t.seconds, default=None)


def programs(timings: Timings) -> list[str]:
    """The programs that were timed on any side, in order."""
    return list(dict.fromkeys(program for program, _, _ in timings))


def times(timings: Timings) -> list[Finding]:
    """What each program takes in each mode, with what it took to get there."""
    return [
        Finding(
            kind="time",
            title=f"{t.name} runs {t.program} in {words.seconds(t.seconds)} "
            f"({words.count(sum(map(len, t.samples.values())), 'sample')} in "
            f"{words.count(len(t.samples), 'process', 'processes')}).",
            verdict="measured" if t.disturbed <= DISTURBED else "disturbed",
            severity="note" if t.disturbed <= DISTURBED else "warning",
            evidence=t.evidence,
            figures={
                "program": t.program,
                "side": t.side,
                "mode": t.mode,
                "seconds": t.seconds,
                "samples": sum(map(len, t.samples.values())),
                "processes": len(t.samples),
                **_spread(t),
                "disturbed": t.disturbed,
                "flops": t.flops,
                "phases": dict(t.phases),
            },
        )
        for t in timings.values()
    ]


def _spread(timing: Timing) -> dict[str, float]:
    """Where the middle 90 % of the samples lie: single hiccups tell nothing."""
    every = [sample for samples in timing.samples.values() for sample in samples]
    low, high = np.quantile(every, [0.05, 0.95])
    return {"low": float(low), "high": float(high)}


def ratios(run: Run, timings: Timings, parity: Finding) -> list[Finding]:
    """PyTorch over JAX for every pair of modes, the fastest of each side first.

    Where parity does not hold or was not shown there is no ratio, and the finding says why.
    """
    reason = _withheld(run, timings, parity)
    if reason:
        known = {"program": None, "best": False}
        return [Finding(kind="speed", title=reason, verdict="withheld", severity="warning", figures=known)]
    found = []
    for program in programs(timings):
        torch, jax = (fastest(timings, program, side) for side in ("torch", "jax"))
        if torch and jax:
            found.append(_ratio(run, torch, jax, best=True))
            pairs = [(a, b) for a in _modes(timings, program, "torch") for b in _modes(timings, program, "jax")]
            found += [_ratio(run, a, b, best=False) for a, b in pairs if (a, b) != (torch, jax)]
    return found


def _modes(timings: Timings, program: str, side: str) -> list[Timing]:
    return [t for t in timings.values() if (t.program, t.side) == (program, side)]


def _withheld(run: Run, timings: Timings, parity: Finding) -> str:
    if not timings:
        return "Speed was not measured." if "speed" in run.studies else "Speed was not part of this run."
    alone = {side for _, side, _ in timings}
    if len(alone) == 1:
        return f"No speed ratio: only {words.SIDES[alone.pop()]} was measured."
    if parity.verdict == "mismatch":
        return "No speed ratio is shown: the two sides are not the same model, so one may do less work."
    if parity.verdict == "absent":
        return f"No speed ratio is shown, since parity was not. {parity.title}"
    return ""


def _ratio(run: Run, torch: Timing, jax: Timing, *, best: bool) -> Finding:
    interval = stats.ratio_interval(*_paired(torch, jax), seed=run.options.seed)
    disturbed = max(torch.disturbed, jax.disturbed)
    verdict = stats.verdict(interval) if disturbed <= DISTURBED else "inconclusive"
    winner = {"faster": "torch", "slower": "jax"}.get(verdict)
    return Finding(
        kind="speed",
        title=_sentence(torch, jax, interval.ratio, interval.low, interval.high, verdict, disturbed),
        verdict=verdict,
        severity="warning" if verdict == "inconclusive" else "note",
        evidence=(*torch.evidence, *jax.evidence),
        figures={
            "program": torch.program,
            "best": best,
            "torch_mode": torch.mode,
            "jax_mode": jax.mode,
            "torch_s": torch.seconds,
            "jax_s": jax.seconds,
            "ratio": interval.ratio,
            "low": interval.low,
            "high": interval.high,
            "faster": winner,
            "margin": stats.MARGIN,
            "times": max(interval.ratio, 1 / interval.ratio),
            "disturbed": disturbed,
        },
    )


def _paired(torch: Timing, jax: Timing) -> tuple[list[Sequence[float]], list[Sequence[float]]]:
    """Samples by process, in the order in which the processes ran beside each other.

    Only processes that both sides have, where there are any: those took turns on the same host.
    """
    both = sorted(torch.samples.keys() & jax.samples.keys())
    if both:
        return [torch.samples[i] for i in both], [jax.samples[i] for i in both]
    return list(torch.samples.values()), list(jax.samples.values())


def _sentence(
    torch: Timing, jax: Timing, ratio: float, low: float, high: float, verdict: str, disturbed: float
) -> str:
    figures = (
        f"{words.seconds(torch.seconds)} against {words.seconds(jax.seconds)}; ratio {ratio:.2f}, "
        f"95 % interval {words.between(low, high)}"
    )
    pair = f"{torch.name} and {jax.name}"
    if verdict == "faster":
        return f"{torch.program}: {torch.name} is {words.times(1 / ratio)} as fast as {jax.name} ({figures})."
    if verdict == "slower":
        return f"{torch.program}: {jax.name} is {words.times(ratio)} as fast as {torch.name} ({figures})."
    if verdict == "equivalent":
        return f"{torch.program}: {pair} are equally fast within {words.percent(stats.MARGIN)} ({figures})."
    why = (
        f"others used the CPU during {words.percent(disturbed)} of the samples" if disturbed > DISTURBED else ""
    )
    why = why or "the interval crosses the margin"
    return f"{torch.program}: {pair}: inconclusive, {why} ({figures})."
