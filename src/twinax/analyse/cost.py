"""What it costs to get there: compiling, its break-even, the warm cache, and memory."""

from __future__ import annotations

import math
from statistics import median

from twinax.analyse import speed, words
from twinax.analyse.base import Finding
from twinax.analyse.speed import Timing, Timings
from twinax.measure import stats
from twinax.records import MODES, Json, Outcome, Run

HEAVIER = 1.1  # peaks closer than this are called about the same


def findings(run: Run, timings: Timings) -> list[Finding]:
    """Compile cost, break-even and warm start of each side; memory of both."""
    return [
        *_compile(timings),
        *_break_even(timings, run.options.seed),
        *_warm(timings),
        *_memory(run, timings),
    ]


def _compiled(timings: Timings) -> list[tuple[Timing, Timing | None]]:
    """Each program in a compiling mode, with the same side's mode that does not compile."""
    pairs = []
    for side, (plain, compiling) in MODES.items():
        for program in speed.programs(timings):
            if (program, side, compiling) in timings:
                pairs.append((timings[program, side, compiling], timings.get((program, side, plain))))
    return pairs


def _compile(timings: Timings) -> list[Finding]:
    found = []
    for fast, _ in _compiled(timings):
        trace, compiling = fast.phases.get("trace", 0.0), fast.phases.get("compile", 0.0)
        first = fast.phases.get("first", 0.0)
        found.append(
            Finding(
                kind="compile",
                title=f"{fast.program}: {fast.name} needs {words.seconds(first)} to its first result "
                f"(trace {words.seconds(trace)}, compile {words.seconds(compiling)}).",
                verdict="measured",
                evidence=fast.evidence,
                figures={
                    "program": fast.program,
                    "side": fast.side,
                    "mode": fast.mode,
                    "trace_s": trace,
                    "compile_s": compiling,
                    "first_s": first,
                },
            )
        )
    return found


def _break_even(timings: Timings, seed: int) -> list[Finding]:
    """After how many iterations compiling has paid for itself, against the same side uncompiled."""
    found = []
    for fast, plain in _compiled(timings):
        if plain is None or "first" not in fast.phases:
            continue
        known = _paid(fast, plain, seed)
        steps = known["steps"]
        if steps is None:
            told = (
                f"never pays: an iteration takes {words.seconds(fast.seconds)}, "
                f"{plain.mode} takes {words.seconds(plain.seconds)}"
            )
        else:
            after = f"after {words.count(steps, 'iteration')}" if steps else "at once"
            told = (
                f"pays {after} (it is then {words.times(plain.seconds / fast.seconds)} as fast as {plain.mode})"
            )
        found.append(
            Finding(
                kind="break_even",
                title=f"{fast.program}: compiling with {fast.name} {told}.",
                verdict="never" if steps is None else "pays",
                evidence=(*fast.evidence, *plain.evidence),
                figures=known,
            )
        )
    return found


def _paid(fast: Timing, plain: Timing, seed: int) -> dict[str, Json]:
    """What a compiled start costs more, cold and warm, and after how many iterations that is earned back."""
    plain_first = plain.phases.get("first", plain.seconds)
    extra = fast.phases["first"] - plain_first
    samples = list(plain.samples.values()), list(fast.samples.values())
    low, high = stats.break_even_interval(extra, *samples, seed)
    warm = None if "warm_first" not in fast.phases else fast.phases["warm_first"] - plain_first
    return {
        "program": fast.program,
        "side": fast.side,
        "mode": fast.mode,
        "against": plain.mode,
        "extra_s": extra,
        "steps": _steps(extra, plain, fast),
        "low": words.whole(low),
        "high": words.whole(high),
        "warm_extra_s": warm,
        "warm_steps": None if warm is None else _steps(warm, plain, fast),
    }


def _steps(extra: float, plain: Timing, fast: Timing) -> int | None:
    exact = stats.break_even_steps(extra, plain.seconds, fast.seconds)
    return None if exact is None else math.ceil(exact)


def _warm(timings: Timings) -> list[Finding]:
    return [
        Finding(
            kind="warm_start",
            title=f"{t.program}: with a warm cache {t.name} gives its first result after "
            f"{words.seconds(t.phases['warm_first'])} instead of {words.seconds(t.phases['first'])}.",
            verdict="measured",
            evidence=t.evidence,
            figures={
                "program": t.program,
                "side": t.side,
                "mode": t.mode,
                "cold_s": t.phases["first"],
                "warm_s": t.phases["warm_first"],
            },
        )
        for t in timings.values()
        if t.mode != "eager"  # which compiles nothing that could be kept
        and "warm_first" in t.phases
        and "first" in t.phases
    ]


def _memory(run: Run, timings: Timings) -> list[Finding]:
    """Peak memory of every mode; the sentence compares the modes that are fastest at the largest program."""
    rows = []
    for side, modes in MODES.items():
        for mode in modes:
            records = [
                r
                for r in run.of("speed")
                if (r.cell.side, r.cell.mode, r.outcome) == (side, mode, Outcome.OK)
                and r.measurements.get("memory")
            ]
            if records:
                found = [r.measurements["memory"] for r in records]
                rows.append(
                    {
                        "side": side,
                        "mode": mode,
                        "peak_bytes": median(m["peak_bytes"] for m in found),
                        "baseline_bytes": median(m.get("baseline_bytes") or 0 for m in found),
                        "method": found[0].get("method", ""),
                        "evidence": [r.cell.id for r in records],
                    }
                )
    if not rows:
        return []
    evidence = tuple(name for row in rows for name in row.pop("evidence"))
    title, verdict = _memory_title(rows, timings)
    return [Finding(kind="memory", title=title, verdict=verdict, evidence=evidence, figures={"rows": rows})]


def _memory_title(rows: list[dict], timings: Timings) -> tuple[str, str]:
    peaks = {}
    for side in MODES:
        largest = next((p for p in ("step", "grad", "forward") if speed.fastest(timings, p, side)), None)
        best = speed.fastest(timings, largest, side) if largest else None
        mine = [row for row in rows if row["side"] == side]
        row = next((r for r in mine if best and r["mode"] == best.mode), mine[0] if mine else None)
        if row:
            peaks[side] = row
    told = " and ".join(
        f"{words.memory(row['peak_bytes'])} in {words.setup(side, row['mode'])}" for side, row in peaks.items()
    )
    title = f"Peak memory is {told} ({next(iter(peaks.values()))['method']})."
    if len(peaks) < 2:
        return title, "measured"
    ratio = peaks["torch"]["peak_bytes"] / peaks["jax"]["peak_bytes"]
    verdict = "torch less" if ratio < 1 / HEAVIER else "jax less" if ratio > HEAVIER else "about the same"
    return title, verdict
