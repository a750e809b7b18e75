"""What happens on each side after the mistakes that people make."""

from __future__ import annotations

from collections import Counter

from twinax.analyse import words
from twinax.analyse.base import Finding
from twinax.records import Json, Run

SILENT = "silently wrong"
UNCOMPARED = ("cannot be made", "not judged")
TOLD = {
    "error at once": ("raises at once", "raise at once"),
    "error later": ("raises later, at another line", "raise later, at another line"),
    "warning": ("warns", "warn"),
    SILENT: ("is silently wrong", "are silently wrong"),
    "slow": ("is slow", "are slow"),
    "no harm": ("does no harm", "do no harm"),
    "cannot be made": ("cannot be made", "cannot be made"),
    "not judged": ("was not judged", "were not judged"),
}
"""Each verdict as it is told of one mistake, and of several."""

Row = dict[str, Json]


NAMED = 6  # mistakes that a sentence names; the table has all


def findings(run: Run) -> list[Finding]:
    """One finding per side: what its mistakes lead to, the silent ones by name; then one that compares."""
    found, sides = [], {}
    for record in run.of("mistakes"):
        rows = record.measurements.get("mistakes", [])
        if rows:
            found.append(_side(record.cell.side, rows, record.cell.id))
            sides[record.cell.side] = (rows, record.cell.id)
    if len(sides) == 2:
        found.append(
            _compared({side: rows for side, (rows, _) in sides.items()}, [c for _, c in sides.values()])
        )
    return found


def _side(side: str, rows: list[Row], evidence: str) -> Finding:
    counts = Counter(row["verdict"] for row in rows)
    told = words.listing([words.count(counts[v], *TOLD[v]) for v in TOLD if counts[v]], len(TOLD))
    silent = [row["mistake"] for row in rows if row["verdict"] == SILENT]
    seen = [row["mistake"] for row in rows if row["verdict"] == SILENT and _found(row)]
    tools = f"; a tool of the framework finds {len(seen)} of them" if silent else ""
    named = f". Silently wrong{tools}: {words.listing(silent, NAMED)}" if silent else ""
    unjudged = counts["not judged"]
    return Finding(
        kind="mistakes",
        title=f"{words.SIDES[side]}, of {words.count(len(rows), 'mistake')}: {told}{named}.",
        verdict="not judged" if unjudged else SILENT if silent else "loud",
        severity="problem" if unjudged else "warning" if silent else "good",
        evidence=(evidence,),
        figures={"side": side, "rows": rows},
    )


def _found(row: Row) -> bool:
    return bool(row.get("tool")) and row["tool"]["found"]


def _compared(sides: dict[str, list[Row]], evidence: list[str]) -> Finding:
    """Among the mistakes that both sides can make, and that were judged: which side keeps silent."""
    verdicts = {
        side: {row["mistake"]: row["verdict"] for row in rows if row["verdict"] not in UNCOMPARED}
        for side, rows in sides.items()
    }
    both = [name for name in verdicts["torch"] if name in verdicts["jax"]]
    silent = {side: {name for name in both if verdicts[side][name] == SILENT} for side in sides}
    only = {
        "torch": [name for name in both if name in silent["torch"] - silent["jax"]],
        "jax": [name for name in both if name in silent["jax"] - silent["torch"]],
    }
    counts = {side: len(only[side]) for side in only}
    shared = len(silent["torch"] & silent["jax"])
    alone = [
        f"only {words.SIDES[side]} is with {counts[side]}"
        + (f" ({words.listing(only[side], NAMED)})" if only[side] else "")
        for side in ("torch", "jax")
    ]
    verdict = "alike"
    if counts["torch"] != counts["jax"]:
        verdict = f"{min(counts, key=lambda side: counts[side])} says more"
    return Finding(
        kind="mistakes",
        title=f"Of the {words.count(len(both), 'mistake')} that both sides can make, both are silently wrong "
        f"with {shared}, {alone[0]}, {alone[1]}.",
        verdict=verdict,
        evidence=tuple(evidence),
        figures={"both": len(both), "shared": shared, "only": only},
    )
