"""The tables of the cost model: its error on held-out measurements, and the best strategy at every size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from twinax.analyse import Findings, words
from twinax.analyse.cluster import MEDIAN, SCALINGS, WORST, best_of, label
from twinax.records import Json
from twinax.report.tables import Mark, Row, Table


def held_out(findings: Findings) -> Table | None:
    """Every measurement that the model had not seen, beside its prediction."""
    rows = tuple(
        Row(
            (
                words.SIDES[row["side"]],
                label(row["strategy"]),
                f"{row['ranks']}",
                f"{row['batch']:,}",
                words.seconds(row["measured_s"]),
                words.seconds(row["predicted_s"]),
                signed(row["error"]),
                words.memory(row["measured_bytes"]),
                words.memory(row["predicted_bytes"]),
                signed(row["bytes_error"]),
                row["why"],
            ),
            _mark(row["error"], row["bytes_error"]),
        )
        for f in findings.of("cluster")
        if "median" in f.figures
        for row in f.figures["rows"]
    )
    columns = ("Side", "Strategy", "Ranks", "Batch", "Step", "Predicted", "Error", "Held", "Predicted", "Error")
    note = (
        "Fitted to one device, and to ranks that computed and communicated by themselves; no time of a "
        "strategy went in. Times: lower quartiles of the samples. Held: what the fullest rank keeps for a step."
    )
    title = "The cost model on measurements held out"
    return Table(title, (*columns, "Not predicted"), rows, tuple(range(2, 10)), note) if rows else None


def signed(error: float | None) -> str:
    """``+8 %``: predicted too long; ``–`` where nothing was predicted."""
    return "–" if error is None else f"{round(error * 100):+d} %"


def _mark(error: float | None, bytes_error: float | None) -> Mark:
    """By the larger of the errors; memory that nobody counted says nothing."""
    if error is None or (largest := max(abs(error), abs(bytes_error or 0.0))) > WORST:
        return "warning"
    return "good" if largest <= MEDIAN else ""


def best(findings: Findings, scaling: Literal["weak", "strong"]) -> Table | None:
    """The fastest strategy that fits at every size, and what speaks against the others."""
    rows = []
    for f in findings.of("cluster"):
        curves = f.figures.get("curves", [])
        for devices in sorted({row["devices"] for row in curves}):
            found = best_of(curves, scaling, devices)
            others = [r for r in curves if r["scaling"] == scaling and r["devices"] == devices and r["why"]]
            against = "; ".join(f"{label(r['strategy'])}: {r['why']}" for r in others)
            head = (words.SIDES[f.figures["side"]], f"{devices:,}")
            if found is None:
                rows.append(Row((*head, "none", *"–––––", against), "warning"))
            else:
                rows.append(Row((*head, *_told(found), against)))
    columns = ("Side", "Devices", "Best", "Batch", "Step", "Of it waiting", "Examples/s", "A device holds")
    title = f"The best strategy with {SCALINGS[scaling]}"
    note = "Predicted, not measured; the error on this machine's measurements stands in the table above."
    return Table(title, (*columns, "Not possible"), tuple(rows), tuple(range(3, 8)), note) if rows else None


def _told(row: Mapping[str, Json]) -> tuple[str, ...]:
    remark = f" ({row['tensor']} tensor)" if row["tensor"] else ""
    remark = f" ({row['micro_batches']:,} micro-batches)" if row["micro_batches"] else remark
    return (
        label(row["strategy"]) + remark,
        f"{row['batch']:,}",
        words.seconds(row["step_s"]),
        words.percent(max(0.0, 1 - row["compute_s"] / row["step_s"])),
        words.three(row["throughput"]),
        words.memory(row["bytes"]),
    )


def laws(findings: Findings) -> Table | None:
    """What was fitted."""
    rows = tuple(
        Row(
            (
                words.SIDES[f.figures["side"]],
                f"{row['ranks']}",
                row["what"].replace("_", " "),
                words.seconds(row["fixed_s"]),
                f"{words.seconds(row['slope_s'])} an example"
                if row["what"] == "step"
                else words.quantity(1 / row["slope_s"] if row["slope_s"] else None, "B/s"),
            )
        )
        for f in findings.of("cluster")
        for row in f.figures.get("laws", [])
    )
    columns = ("Side", "Ranks", "What", "Fixed", "And")
    note = "A step takes the fixed time and more for each example; a collective its latency and bytes by rate."
    return Table("What the cost model was fitted to", columns, rows, (1, 3, 4), note) if rows else None
