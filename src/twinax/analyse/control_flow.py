"""What the compilers did with programs as people first write them."""

from __future__ import annotations

from collections import Counter

from twinax.analyse import words
from twinax.analyse.base import Finding
from twinax.records import Run

MANY = {
    "works": "work",
    "works after a break": "work after a break",
    "runs uncompiled": "run uncompiled",
    "silently different": "differ silently",
    "error": "fail",
    "error in every mode": "fail uncompiled too",
}


def findings(run: Run) -> list[Finding]:
    """One finding per side: how many programs work, break, fail, or silently change."""
    found = []
    for record in run.of("control_flow"):
        rows = record.measurements.get("programs", [])
        if not rows:
            continue
        counts = Counter(row["naive"]["verdict"] for row in rows)
        told = words.listing(
            [f"{counts[verdict]} {plural}" for verdict, plural in MANY.items() if counts[verdict]], 6
        )
        silent = [row["program"] for row in rows if row["naive"]["verdict"] == "silently different"]
        warned = f". What differs silently: {words.listing(silent)}" if silent else ""
        found.append(
            Finding(
                kind="control_flow",
                title=f"{words.setup(record.cell.side, record.cell.mode)}, of "
                f"{words.count(len(rows), 'program')} as first written: {told}{warned}.",
                verdict="silently different" if silent else "loud",
                severity="warning" if silent else "note",
                evidence=(record.cell.id,),
                figures={"side": record.cell.side, "rows": rows},
            )
        )
    return found
