"""How fast each library is at the model's own products and convolutions, and what that explains."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import geometric_mean

from twinax.analyse import speed, words
from twinax.analyse.base import Finding
from twinax.analyse.speed import Timings
from twinax.records import Json, Outcome, Record, Run

KINDS = {
    "matmul": "matrix products (the model's own sizes and a large one)",
    "convolution": "convolutions of the model's own sizes",
    "bandwidth": "moving memory",
}
LEVEL = 1.1  # libraries closer than this are called level


def findings(run: Run, timings: Timings, ratios: Sequence[Finding]) -> list[Finding]:
    """The two libraries against each other, and each program's share of the measured peak."""
    records = {
        r.cell.side: r for r in run.of("speed") if r.cell.mode == "calibrate" and r.outcome is Outcome.OK
    }
    rows = _rows(records)
    found = [_kind(kind, rows, records, ratios) for kind in KINDS if any(r["kind"] == kind for r in rows)]
    return [*found, *_shares(records, timings)]


def _rows(records: dict[str, Record]) -> list[dict[str, Json]]:
    """One row per kind and shape, with each side's rate."""
    rows: dict[tuple, dict[str, Json]] = {}
    for side, record in records.items():
        for entry in record.measurements.get("calibration", []):
            key = (entry["kind"], tuple(entry["shape"]))
            row = rows.setdefault(key, {"kind": entry["kind"], "shape": entry["shape"], "unit": entry["unit"]})
            row[side] = {"rate": entry["rate"]}
    return list(rows.values())


def _kind(
    kind: str, rows: list[dict[str, Json]], records: dict[str, Record], ratios: Sequence[Finding]
) -> Finding:
    """Which library is faster at one kind of work, over all shapes that both measured."""
    mine = [row for row in rows if row["kind"] == kind]
    both = [row for row in mine if "torch" in row and "jax" in row]
    ratio = _ratio(both)
    if ratio is None:
        verdict, told = "one side", f"one side only measured {KINDS[kind]}"
    elif 1 / LEVEL <= ratio <= LEVEL:
        verdict, told = "level", f"the two libraries are level at {KINDS[kind]}"
    else:
        verdict = "torch" if ratio < 1 else "jax"
        faster = words.times(max(ratio, 1 / ratio))
        told = f"{words.SIDES[verdict]} is {faster} as fast at {KINDS[kind]}"
    link = _link(verdict, ratios) if kind != "bandwidth" else ""
    return Finding(
        kind="calibration",
        title=f"{told[0].upper()}{told[1:]}{link}.",
        verdict=verdict,
        evidence=tuple(r.cell.id for r in records.values()),
        figures={"kind": kind, "ratio": ratio, "rows": mine},
    )


def _ratio(rows: list[dict[str, Json]]) -> float | None:
    """PyTorch's time over JAX's for the same work: the geometric mean over the shapes that both measured."""
    return geometric_mean(row["jax"]["rate"] / row["torch"]["rate"] for row in rows) if rows else None


def _link(verdict: str, ratios: Sequence[Finding]) -> str:
    """How that stands to the verdict on the largest program: the same way, or the other."""
    best = {r.figures["program"]: r for r in ratios if r.figures["best"]}
    program = next((p for p in ("step", "grad", "forward") if p in best), None)
    winner = best[program].figures["faster"] if program else None
    if winner is None or verdict not in ("torch", "jax", "level"):
        return ""
    if verdict == "level":
        return f", so they do not explain why {words.SIDES[winner]} is faster at {program}"
    if winner == verdict:
        return f", which points the same way as the verdict on {program}"
    return f", which by itself would favour {words.SIDES[verdict]} at {program}"


def _shares(records: dict[str, Record], timings: Timings) -> list[Finding]:
    """How much of the highest rate measured on this machine each program reaches.

    The operations of a program are counted once and hold for both sides, so that the shares compare.
    """
    peaks = [r.measurements.get("peak_flops") for r in records.values()]
    peak = max((p for p in peaks if p), default=None)
    if peak is None:
        return []
    found = []
    for program in speed.programs(timings):
        counts = [t.flops for t in timings.values() if t.program == program and t.flops]
        for side in ("torch", "jax"):
            best = speed.fastest(timings, program, side)
            if not counts or best is None:
                continue
            rate = counts[0] / best.seconds
            found.append(
                Finding(
                    kind="peak_share",
                    title=f"{program}: {best.name} reaches {words.quantity(rate, 'FLOP/s')}, "
                    f"{words.percent(rate / peak)} of the {words.quantity(peak, 'FLOP/s')} measured here.",
                    verdict="measured",
                    evidence=best.evidence,
                    figures={
                        "program": program,
                        "side": side,
                        "mode": best.mode,
                        "rate": rate,
                        "peak": peak,
                        "share": rate / peak,
                        "flops": counts[0],
                    },
                )
            )
    return found
