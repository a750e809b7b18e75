"""What follows from the strategies on several devices: proof, step time, memory, traffic, lines of code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from twinax.analyse import words
from twinax.analyse.base import Finding
from twinax.analyse.cluster_calibration import fullest, machines_of
from twinax.measure import cost_model, stats
from twinax.records import Json, Outcome, Record, Run

NAMES: Mapping[str, str] = {
    "single": "one device",
    "data": "data parallel",
    "data_local": "data parallel, BatchNorm local",
    "fully_sharded": "fully sharded",
    "tensor": "tensor parallel",
    "pipeline": "pipeline",
    "data_tensor": "data × tensor parallel",
}
DISTURBED = 0.05  # share of all cores that others used, above which a step's time is worth little


def findings(run: Run) -> list[Finding]:
    """Everything but the cost model's predictions, which :mod:`twinax.analyse.cluster` has."""
    records = [r for r in run.of("parallel") if r.cell.mode != "replicas"]
    strategies = [r for r in records if r.cell.mode != "single"]
    if not records:
        return []
    singles = [r for r in records if r.cell.mode == "single"]
    found = [_parity(strategies, singles)] if strategies else []
    found += _batch_norm(strategies)
    for side in run.twin.sides:
        found += _steps(run, side, [r for r in records if r.cell.side == side])
    found += [_between(run, records)] if len(run.twin.sides) == 2 else []
    return [*(f for f in found if f is not None), *_memory(records), *_traffic(records), *_lines(records)]


def _ranks(count: int) -> str:
    return words.count(count, "rank")


def _without_gradient(singles: Sequence[Record]) -> list[str]:
    """Parameters whose gradient is 0 on one device: no output depends on them."""
    return list(dict.fromkeys(name for r in singles for name in r.measurements.get("unproved", [])))


def _parity(records: Sequence[Record], singles: Sequence[Record]) -> Finding:
    """Whether every strategy's step is the single device's."""
    proved = [r for r in records if "parity" in r.measurements]
    wrong = [r for r in proved if r.outcome is Outcome.MISMATCH]
    unproved = [r for r in records if "parity" not in r.measurements and r.outcome is not Outcome.SKIPPED]
    errors = [r.measurements["parity"]["worst"] for r in proved]
    worst = None if None in errors else max(errors, default=None)  # None: something could not be compared
    rows = [
        {
            "side": r.cell.side,
            "strategy": r.cell.mode,
            "where": r.cell.where,
            "outcome": r.outcome.value,
            "worst": r.measurements.get("parity", {}).get("worst"),
            "checks": len(r.measurements.get("parity", {}).get("checks", [])),
            "message": r.message,
        }
        for r in records
    ]
    said = (
        f"Under {words.listing([called(r) for r in wrong])} a step is not the single device's"
        if wrong
        else f"In {words.count(len(proved), 'proved cell')} a step in float64 equals the single device's "
        f"(loss, gradients, buffers, weights, optimizer state); the largest error is {words.error(worst)}"
        if proved
        else "No strategy was proved"
    )
    if idle := _without_gradient(singles):
        said += f"; nothing is proved of {words.listing(idle)}: the gradient is 0 everywhere"
    if unproved:
        told = [f"{called(r)} ({r.outcome.value.replace('_', ' ')})" for r in unproved]
        said += f"{'; not proved' if proved else ''}: {words.listing(told)}"
    verdict, severity = (
        ("mismatch", "problem") if wrong else ("holds", "good") if proved else ("no proof", "warning")
    )
    return Finding(
        kind="parallel_parity",
        title=f"{said}.",
        verdict=verdict,
        severity=severity,
        evidence=tuple(r.cell.id for r in proved),
        figures={"rows": rows, "worst": worst},
    )


def called(record: Record) -> str:
    """A cell for people: ``JAX tensor parallel on 2 ranks``."""
    name = NAMES.get(record.cell.mode, "training by themselves")  # replicas: no strategy
    return f"{words.SIDES[record.cell.side]} {name} on {record.cell.where}"


def _batch_norm(records: Sequence[Record]) -> list[Finding]:
    """What normalising over less than the batch changes: it is another function of the same weights.

    Cells in which it changes as much are told of together: the sides agree, and often any number of ranks.
    """
    alike: dict[str, list[Record]] = {}
    for record in records:
        gap = record.measurements.get("parity", {}).get("batch_norm_gap")
        if not gap or None in gap.values():  # what is no number is a mismatch, and told there
            continue
        parts = "each rank's share" if record.cell.mode == "data_local" else "each micro-batch"
        said = (
            f"BatchNorm over {parts} moves the loss by {words.percent(gap['loss'])} and the gradients by "
            f"{words.percent(gap['gradients'])} of their norm from BatchNorm over the whole batch."
        )
        alike.setdefault(said, []).append(record)
    return [
        Finding(
            kind="batch_norm",
            title=f"{words.listing(list(map(called, same)))}: {said}",
            verdict="differs",
            severity="note",
            evidence=tuple(r.cell.id for r in same),
            figures={"rows": [_gap(r) for r in same]},
        )
        for said, same in alike.items()
    ]


def _gap(record: Record) -> dict[str, Json]:
    who = {"side": record.cell.side, "strategy": record.cell.mode, "where": record.cell.where}
    return {**who, **record.measurements["parity"]["batch_norm_gap"]}


def seconds(record: Record, name: str = "step_s") -> float | None:
    """The median step; None where it was not timed."""
    samples = record.measurements.get(name)
    return median(samples) if samples else None


def disturbed(record: Record) -> bool:
    """Whether others used the machine while it was timed."""
    return median(record.measurements.get("foreign_cpu") or [0.0]) > DISTURBED


def _steps(run: Run, side: str, records: Sequence[Record]) -> list[Finding]:
    """Step times beside one device's: strong scaling (same batch) and weak (same share of each rank)."""
    single = next((r for r in records if r.cell.mode == "single"), None)
    base = seconds(single) if single else None
    if single is None or base is None:
        return []
    rows = [_row(single, base)] + [_row(r, base) for r in records if r.cell.mode != "single" and seconds(r)]
    timed = [row for row in rows if row["ranks"] > 1]
    if not timed:
        return []
    best = min(timed, key=lambda row: row["step_s"])
    cores = run.host.get("usable_cores", 0)
    crowded = [r for r in records if machines_of(r) < r.cell.ranks]
    shared = ""
    if run.options.device == "cpu" and crowded:
        machines = max(map(machines_of, crowded))
        shared = f" Ranks shared the cores of {machines} machines: some were on the same one."
        if machines == 1:
            shared = f" The ranks share this machine's {cores:g} cores"
            slower = best["step_s"] > base
            shared += ", so no speed-up could be had: what is seen is what splitting costs." if slower else "."
    title = (
        f"{words.SIDES[side]}: a step takes {words.seconds(base)} on one device; of what ran on several ranks "
        f"{NAMES[best['strategy']]} on {best['where']} is fastest with {words.seconds(best['step_s'])}."
    )
    busy = any(disturbed(r) for r in records)
    return [
        Finding(
            kind="parallel_step",
            title=f"{title}{shared}{' The machine was busy: these times are worth little.' if busy else ''}",
            verdict=best["strategy"],
            severity="warning" if busy else "note",
            evidence=tuple(r.cell.id for r in records),
            figures={"side": side, "rows": rows, "disturbed": busy},
        )
    ]


def _row(record: Record, base: float) -> dict[str, Json]:
    step, weak = seconds(record), seconds(record, "weak_step_s")
    known = record.measurements
    apart = known.get("communication_s")
    assert step is not None
    return {
        "side": record.cell.side,
        "strategy": record.cell.mode,
        "where": record.cell.where,
        "ranks": record.cell.ranks,
        "batch": record.cell.size.batch,
        "step_s": step,
        "strong": base / step,
        "weak_step_s": weak,
        "weak": None if weak is None else base / weak,
        "communication_s": apart,
        "communication_share": None if apart is None else min(apart / step, 1.0),
        "disturbed": disturbed(record),
    }


def _between(run: Run, records: Sequence[Record]) -> Finding | None:
    """PyTorch over JAX under each strategy that both sides did, in processes that took turns.

    Parity gates speed: no ratio where the sides' single devices do not agree, or were not compared. None where
    there is nothing to compare: no strategy was timed on both sides.
    """
    pairs = _timed_on_both(records)
    if not pairs:
        return None
    found = [r.measurements["across"] for r in records if r.measurements.get("across") is not None]
    if found != [[]]:
        differs = [name for names in found for name in names]
        why = f"they differ in {words.listing(differs)}" if differs else "they were not compared"
        return Finding(
            kind="parallel_step",
            title=f"No ratio of the two sides is shown: on one device {why}.",
            verdict="withheld",
            severity="warning",
            figures={"side": "both", "rows": []},
        )
    rows = [_ratio(run, torch, jax) for torch, jax in pairs]
    told = [
        f"{NAMES[row['strategy']]} on {row['where']} {words.three(row['ratio'])} "
        f"({words.three(row['low'])} to {words.three(row['high'])})"
        for row in rows
    ]
    return Finding(
        kind="parallel_step",
        title=f"Seconds of PyTorch's step over JAX's: {words.listing(told, 6)}. One process group each: the "
        "intervals know nothing of how processes differ.",
        verdict="compared",
        figures={"side": "both", "rows": rows},
    )


def _timed_on_both(records: Sequence[Record]) -> list[tuple[Record, Record]]:
    """PyTorch's and JAX's records of the same strategy on as many ranks and processes."""
    timed = [r for r in records if r.cell.ranks > 1 and seconds(r)]
    other = {r.cell.id: r for r in timed if r.cell.side == "jax"}
    pairs = [
        (r, other.get(r.cell.model_copy(update={"side": "jax"}).id)) for r in timed if r.cell.side == "torch"
    ]
    return [(torch, jax) for torch, jax in pairs if jax is not None]


def _ratio(run: Run, torch: Record, jax: Record) -> dict[str, Json]:
    interval = stats.ratio_interval(
        [torch.measurements["step_s"]], [jax.measurements["step_s"]], seed=run.options.seed
    )
    busy = disturbed(torch) or disturbed(jax)
    return {
        "strategy": torch.cell.mode,
        "where": torch.cell.where,
        "ratio": interval.ratio,
        "low": interval.low,
        "high": interval.high,
        "verdict": "inconclusive" if busy else stats.verdict(interval),
    }


def _memory(records: Sequence[Record]) -> list[Finding]:
    """Bytes per rank beside one device's."""
    found = []
    for side in dict.fromkeys(r.cell.side for r in records):
        mine = [r for r in records if r.cell.side == side and r.measurements.get("held")]
        single = next((r for r in mine if r.cell.mode == "single"), None)
        if single is None or len(mine) < 2:
            continue
        rows = [_held(single), *(_held(r) for r in mine if r is not single)]
        most = max(r.cell.ranks for r in mine)
        if most == 1:
            continue
        least = min((row for row in rows if row["ranks"] == most), key=lambda row: row["total"])
        share = least["total"] / max(rows[0]["total"], 1)
        found.append(
            Finding(
                kind="parallel_memory",
                title=f"{words.SIDES[side]}: one device keeps {words.memory(rows[0]['total'])} for a step; on "
                f"{_ranks(most)} {NAMES[least['strategy']]} needs least, {words.percent(share)} of that on the "
                "fullest rank.",
                verdict=least["strategy"],
                evidence=tuple(r.cell.id for r in mine),
                figures={"side": side, "rows": rows},
            )
        )
    return found


def _held(record: Record) -> dict[str, Json]:
    parts = fullest(record)
    return {
        "side": record.cell.side,
        "strategy": record.cell.mode,
        "where": record.cell.where,
        "ranks": record.cell.ranks,
        **parts,
        "total": sum(parts.values()),
    }


def _traffic(records: Sequence[Record]) -> list[Finding]:
    """Bytes of each kind of collective, beside the strategy's own formula where it has one."""
    found = []
    for side in dict.fromkeys(r.cell.side for r in records):
        single = next((r for r in records if r.cell.side == side and r.cell.mode == "single"), None)
        mine = [r for r in records if r.cell.side == side and r.cell.ranks > 1 and "traffic" in r.measurements]
        size = single.measurements.get("parameter_bytes") if single else None
        if not mine or size is None:
            continue
        rows = [row for r in mine for row in _sent(r, size)]
        known = [row for row in rows if row["expected"] is not None]
        exact = [row for row in known if row["bytes"] == row["expected"]]
        found.append(
            Finding(
                kind="parallel_traffic",
                title=f"{words.SIDES[side]}: of {words.count(len(known), 'amount')} of traffic for which the "
                f"strategy has a formula, {len(exact)} equal it to the byte."
                if known
                else f"{words.SIDES[side]}: no strategy that ended well has a formula for its traffic.",
                verdict=("exact" if len(exact) == len(known) else "differs") if known else "no formula",
                evidence=tuple(r.cell.id for r in mine),
                figures={"side": side, "rows": rows},
            )
        )
    return found


def _sent(record: Record, parameter_bytes: int) -> list[dict[str, Json]]:
    """Bytes by kind of one rank in a step, with the formula's."""
    total: dict[str, int] = {}
    calls: dict[str, int] = {}
    for row in record.measurements["traffic"]:
        total[row["kind"]] = total.get(row["kind"], 0) + row["bytes"] * row["count"]
        calls[row["kind"]] = calls.get(row["kind"], 0) + row["count"]
    formula = expected(record, parameter_bytes)
    return [
        {
            "side": record.cell.side,
            "strategy": record.cell.mode,
            "where": record.cell.where,
            "kind": kind,
            "calls": calls.get(kind, 0),
            "bytes": total.get(kind, 0),
            "expected": formula.get(kind),
        }
        for kind in dict.fromkeys([*formula, *total])
    ]


WIDTHS = {"float64": 8, "float32": 4, "bfloat16": 2}


def expected(record: Record, parameter_bytes: int) -> Mapping[str, float]:
    """Bytes by kind, as the strategy's paper has them and the framework's engine does it.

    JAX sums the loss with the gradients; of fully sharded parameters it gathers what is sharded once, and its
    CPU backend sums gradients whole (no reduce-scatter).
    """
    mode, loss = record.cell.mode, WIDTHS[record.cell.dtype]
    if mode not in ("data", "data_local", "fully_sharded"):
        return {}
    formula = cost_model.expected_traffic(mode, record.cell.ranks, parameter_bytes=parameter_bytes)
    if record.cell.side == "torch":
        return formula
    summed = {"all_reduce": parameter_bytes + loss}
    if mode != "fully_sharded":
        return summed
    share = record.measurements.get("sharded_share")
    return summed if share is None else {"all_gather": round(share * parameter_bytes), **summed}


def _lines(records: Sequence[Record]) -> list[Finding]:
    """What it takes in lines, by the plain programs of each framework."""
    sides = {
        r.cell.side: r.measurements["lines"]
        for r in records
        if r.cell.mode == "single" and r.measurements.get("lines")
    }
    if not sides:
        return []
    rows = [
        {"strategy": strategy, **{side: lines[strategy] for side, lines in sides.items() if strategy in lines}}
        for strategy in dict.fromkeys(name for lines in sides.values() for name in lines)
    ]
    told = [
        f"{NAMES[row['strategy']]} {' and '.join(str(row[s]['added']) for s in sides if s in row)}"
        for row in rows
    ]
    names = " and ".join(words.SIDES[side] for side in sides)
    return [
        Finding(
            kind="parallel_lines",
            title=f"Lines to write or change in a small training program, {names}: {words.listing(told, 6)}.",
            verdict="counted",
            figures={"rows": rows},
        )
    ]
