"""What follows when sizes change: recompilations, what they cost, and to which lengths to pad."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from statistics import median

from twinax.analyse import words
from twinax.analyse.base import Finding
from twinax.analyse.workload import Curve, Plan, best, plans
from twinax.measure import stats
from twinax.records import COMPILED, Json, Record, Run

UNCOMPILED = {"torch": "eager", "jax": "op_by_op"}


def findings(run: Run) -> list[Finding]:
    """Recompilations per mode, break-even per shape, and the workload of each side."""
    records = [r for r in run.of("shapes") if r.measurements.get("points")]
    found = [_recompiles(r) for r in records if r.cell.mode != UNCOMPILED[r.cell.side]]
    for record in records:
        plain = next((r for r in records if _uncompiled(r, record.cell.side)), None)
        if plain is not None and plain is not record:
            found += _break_even(record, plain, run.options.seed)
    for side in COMPILED:
        found += _workload(side, [r for r in records if r.cell.side == side], run.options.seed)
    return found


def told(size: Json) -> str:
    """``batch 8, sequence 128``."""
    return ", ".join([f"batch {size['batch']}", *(f"{name} {value}" for name, value in size["dims"].items())])


def _uncompiled(record: Record, side: str) -> bool:
    return record.cell.side == side and record.cell.mode == UNCOMPILED[side]


def _name(record: Record) -> str:
    return words.setup(record.cell.side, record.cell.mode)


def _recompiles(record: Record) -> Finding:
    """At how many of the sizes it compiled, and what that took."""
    points = record.measurements["points"]
    rows = [{**p, "steady_s": median(p["samples_s"])} for p in points]
    anew = [row for row in rows if row["compilations"]]
    took = sum(row["first_s"] - row["steady_s"] for row in anew)
    every = len(anew) == len(rows)
    how = "at every one" if every else f"at {len(anew)}"
    return Finding(
        kind="recompiles",
        title=f"{record.measurements['program']}: {_name(record)} compiles {how} of "
        f"{words.count(len(rows), 'size')}, {words.seconds(took)} in all.",
        verdict="every size" if every and len(rows) > 1 else "some",
        evidence=(record.cell.id,),
        figures={
            "side": record.cell.side,
            "mode": record.cell.mode,
            "program": record.measurements["program"],
            "rows": rows,
            "compile_s": took,
        },
    )


def _break_even(fast: Record, plain: Record, seed: int) -> Iterator[Finding]:
    """At each size: after how many calls compiling for it has paid, with its interval."""
    known = {told(p["size"]): p for p in plain.measurements["points"]}
    for point in fast.measurements["points"]:
        name = told(point["size"])
        if name not in known or not point["compilations"]:
            continue
        slow_s, fast_s = known[name]["samples_s"], point["samples_s"]
        extra = point["first_s"] - known[name]["first_s"]
        steps = stats.break_even_steps(extra, median(slow_s), median(fast_s))
        low, high = stats.break_even_interval(extra, [slow_s], [fast_s], seed)
        program = fast.measurements["program"]
        if steps is None:
            said = f"never pays against {plain.cell.mode}"
        else:
            said = f"pays after {words.count(math.ceil(steps), 'call')} ({words.steps(low, high)})"
        yield Finding(
            kind="shape_break_even",
            title=f"{program} at {name}: compiling with {_name(fast)} {said}.",
            verdict="never" if steps is None else "pays",
            evidence=(fast.cell.id, plain.cell.id),
            figures={
                "side": fast.cell.side,
                "mode": fast.cell.mode,
                "size": name,
                "extra_s": extra,
                "steps": None if steps is None else math.ceil(steps),
                "low": words.whole(low),
                "high": words.whole(high),
                "slow_s": median(slow_s),
                "fast_s": median(fast_s),
            },
        )


def _workload(side: str, records: list[Record], seed: int) -> Iterator[Finding]:
    """What one pass over the workload costs under each way to deal with its lengths."""
    stated = next((r.measurements["workload"] for r in records if "workload" in r.measurements), None)
    if stated is None:
        return
    curves = {r.cell.mode: Curve.of(r.measurements) for r in records}
    ways = plans(stated["lengths"], stated["batch"], curves, UNCOMPILED[side], seed)
    if not ways:
        return
    first = best(ways)
    yield Finding(
        kind="workload",
        title=f"{words.SIDES[side]}, {words.count(len(stated['lengths']), 'length')} in batches of "
        f"{stated['batch']}: {_advice(side, first, ways)}.",
        verdict=first.way,
        evidence=tuple(r.cell.id for r in records),
        figures={
            "side": side,
            "stated": stated["stated"],
            "batch": stated["batch"],
            "program": records[0].measurements["program"],
            "rows": [{**asdict(way), "buckets": list(way.buckets), "total_s": way.total_s} for way in ways],
        },
    )


def _advice(side: str, first: Plan, ways: list[Plan]) -> str:
    """The cheapest way with its figures, and what the way without a thought costs."""
    buckets = f" ({', '.join(map(str, first.buckets))})" if first.buckets else ""
    parts = [f"cheapest for one pass is {first.mode}, {first.way}{buckets}: {words.seconds(first.total_s)}"]
    if first.compile_s:
        parts.append(f"{words.seconds(first.compile_s)} of it to compile")
    if first.wasted:
        parts.append(f"{words.percent(first.wasted)} of the tokens are padding")
    usual = next((w for w in ways if w.mode == COMPILED[side] and w.way == "as they come"), None)
    if usual and usual is not first:
        parts.append(f"{usual.mode} with lengths as they come costs {words.seconds(usual.total_s)}")
    return "; ".join(parts)
