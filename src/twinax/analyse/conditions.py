"""Under what conditions it was measured: fairness, the host, and how cells ended."""

from __future__ import annotations

from collections.abc import Iterable

from twinax.analyse import parallel, words
from twinax.analyse.base import Finding, Severity
from twinax.analyse.speed import DISTURBED, Timings
from twinax.records import MODES, Json, Outcome, Record, Run


def findings(run: Run, timings: Timings) -> list[Finding]:
    """Everything beside the figures that a reader must know."""
    return [*_busy(timings), *_fairness(run), *_cells(run)]


def _busy(timings: Timings) -> list[Finding]:
    """Whether others used the CPU while samples were taken."""
    bad = [t for t in timings.values() if t.disturbed > 0]
    if not bad:
        return []
    worst = max(bad, key=lambda t: t.disturbed)
    busy = worst.disturbed > DISTURBED
    tail = "what rests on them is inconclusive" if busy else "those samples were left out"
    return [
        Finding(
            kind="busy_host",
            title=f"Others used the CPU during up to {words.percent(worst.disturbed)} of the samples "
            f"({worst.name}, {worst.program}); {tail}.",
            verdict="too busy" if busy else "tolerable",
            severity="warning" if busy else "note",
            evidence=worst.evidence,
            figures={"worst": worst.disturbed, "limit": DISTURBED},
        )
    ]


def _fairness(run: Run) -> list[Finding]:
    """What could tilt the comparison, one finding per fact; asymmetric where the sides differ."""
    by_mode = _fairness_by_mode(run)
    facts = list(dict.fromkeys(fact for found in by_mode.values() for fact in found))
    present = {side for side, _ in by_mode}
    findings = []
    for fact in facts:
        values = {key: found[fact] for key, found in by_mode.items() if fact in found}
        torch, jax = ({_text(v) for (s, _), v in values.items() if s == side} for side in ("torch", "jax"))
        differs = len(present) == 2 and torch != jax
        told = "; ".join(
            f"{words.SIDES[s]}: {' / '.join(sorted(v))}" for s, v in (("torch", torch), ("jax", jax)) if v
        )
        findings.append(
            Finding(
                kind="fairness",
                title=f"{fact}: {told}.",
                verdict="asymmetric" if differs else "same",
                severity="warning" if differs else "good",
                evidence=tuple(r.cell.id for r in run.records if fact in r.fairness),
                figures={
                    "fact": fact,
                    "values": {words.side_mode(*key): _text(value) for key, value in values.items()},
                },
            )
        )
    return sorted(findings, key=lambda f: f.verdict != "asymmetric")


def _fairness_by_mode(run: Run) -> dict[tuple[str, str], dict[str, Json]]:
    """Facts per side and mode, from the study where they matter most."""
    known = [r for r in run.records if r.fairness and r.cell.mode in MODES.get(r.cell.side, ())]
    for study in ("speed", "parity", "graph", "training"):
        mine = [r for r in known if r.cell.study == study]
        if mine:
            found: dict[tuple[str, str], dict[str, Json]] = {}
            order = [(side, mode) for side, modes in MODES.items() for mode in modes]
            for record in sorted(mine, key=lambda r: order.index((r.cell.side, r.cell.mode))):
                found.setdefault((record.cell.side, record.cell.mode), {}).update(record.fairness)
            return found
    return {}


def _text(value: Json) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


ENDINGS: dict[Outcome, tuple[str, str, Severity]] = {
    Outcome.MISMATCH: ("gives another result", "give another result", "problem"),
    Outcome.UNSUPPORTED: ("is not supported here", "are not supported here", "note"),
    Outcome.OUT_OF_MEMORY: ("ran out of memory", "ran out of memory", "problem"),
    Outcome.TIMED_OUT: ("fell silent", "fell silent", "problem"),
    Outcome.CRASHED: ("crashed", "crashed", "problem"),
    Outcome.SKIPPED: ("was skipped", "were skipped", "note"),
}
"""What is said of one cell, and of several."""


def _cells(run: Run) -> list[Finding]:
    """Cells that did not end ``ok``, alike ones together; studies that judge tell of a mismatch themselves."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in run.records:
        judged = record.outcome is Outcome.MISMATCH and record.cell.study in ("parity", "training")
        if record.outcome in ENDINGS and not judged:
            groups.setdefault((record.outcome.value, record.message), []).append(record)
    found = [_ended(records) for records in groups.values()]
    return [*found, *_never_run(cell.id for cell in run.planned if run.record(cell) is None)]


def _called(record: Record) -> str:
    cell = record.cell
    return parallel.called(record) if cell.study == "parallel" else words.side_mode(cell.side, cell.mode)


def _ended(records: list[Record]) -> Finding:
    first = records[0]
    one, several, severity = ENDINGS[first.outcome]
    studies = words.listing(list(dict.fromkeys(r.cell.study for r in records)))
    modes = words.listing(list(dict.fromkeys(map(_called, records))))
    many = f", {words.count(len(records), 'cell')}," if len(records) > 1 else ""
    what = several if len(records) > 1 else one
    return Finding(
        kind="cells",
        title=f"{modes} ({studies}){many} {what}. {first.message}".strip(),
        verdict=first.outcome.value,
        severity=severity,
        evidence=tuple(r.cell.id for r in records),
        figures={"hint": first.hint},
    )


def _never_run(ids: Iterable[str]) -> list[Finding]:
    missing = tuple(ids)
    if not missing:
        return []
    verb = "was" if len(missing) == 1 else "were"
    return [
        Finding(
            kind="cells",
            title=f"The run was interrupted: {words.count(len(missing), 'planned cell')} {verb} not run.",
            verdict="not run",
            severity="problem",
            evidence=missing,
            figures={"hint": "Continue it with --resume."},
        )
    ]
