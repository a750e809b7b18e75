"""Do the two sides compute the same thing? Everything else depends on it."""

from __future__ import annotations

from twinax.analyse import words
from twinax.analyse.base import Finding
from twinax.records import Outcome, Record, Run


def judge(run: Run) -> Finding:
    """The parity verdict: ``holds``, ``mismatch``, or ``absent`` with the reason."""
    record = next((r for r in run.of("parity") if r.cell.side == "both"), None)
    if record is not None and record.outcome in (Outcome.OK, Outcome.MISMATCH):
        return _judged(record)
    return Finding(
        kind="parity",
        title=f"Parity was not shown: {_reason(run, record)}",
        verdict="absent",
        severity="warning",
        evidence=(record.cell.id,) if record else (),
    )


def _reason(run: Run, record: Record | None) -> str:
    if record is not None:
        return f"the comparison ended {record.outcome.value}. {record.message}".strip()
    if "parity" not in run.studies:
        return "the parity study was not part of this run."
    if len(run.twin.sides) == 1:
        return f"the twin exists only in {words.SIDES[run.twin.sides[0]]}."
    return "the run ended before the comparison."


def _judged(record: Record) -> Finding:
    found = record.measurements
    checks = found.get("checks", [])
    failed = [check for check in checks if not check["passed"]]
    first = found.get("first_difference")
    holds = record.outcome is Outcome.OK and not failed and found.get("holds", True)
    figures = {
        "checks": len(checks),
        "failed": [check["name"] for check in failed],
        "worst": _worst(checks),
        "bound": found.get("bound"),
        "first_difference": first,
        "unproved": found.get("unproved", []),
        "special_point": found.get("special_point", False),
    }
    return Finding(
        kind="parity",
        title=_agreement(figures) if holds else _difference(figures, found.get("mismatches", [])),
        verdict="holds" if holds else "mismatch",
        severity=("warning" if figures["unproved"] else "good") if holds else "problem",
        evidence=(record.cell.id,),
        figures=figures,
    )


def _worst(checks: list[dict]) -> float | None:
    """The largest error among the checks that are held to the float64 bound."""
    kinds = ("outputs", "loss", "gradients", "buffers", "weights", "optimizer")
    errors = [check["worst"] for check in checks if check["kind"] in kinds and check["worst"] is not None]
    return max(errors, default=None)


def _agreement(figures: dict) -> str:
    worst = (
        f"; the largest float64 error is {words.error(figures['worst'])}"
        if figures["worst"] is not None
        else ""
    )
    unproved = figures["unproved"]
    gap = f". Nothing was proved about {words.listing(unproved)}" if unproved else ""
    return f"The two sides agree in all {words.count(figures['checks'], 'check')}{worst}{gap}."


def _pointer(figures: dict) -> str:
    """Where to read on, when a gradient differs only where it is a matter of convention."""
    if not figures["special_point"]:
        return ""
    return (
        " At inputs moved by a thousandth the gradients agree: the data sit on a kink, a tie or a singular "
        "point, where the frameworks differentiate differently (twinax autodiff --conventions)."
    )


def _difference(figures: dict, mismatches: list[dict]) -> str:
    start = f"The two sides differ in {len(figures['failed'])} of {words.count(figures['checks'], 'check')}"
    first = figures["first_difference"]
    if first:
        if first["kind"] == "randomness":
            return f"{start}; {first['path']} changes from one pass to the next: {first['detail']}."
        what = "layer" if first["kind"] == "activation" else first["kind"]
        where = f"first {what} that differs"
        return (
            f"{start}; the {where} is {first['path']} (error {words.error(first['error'])}).{_pointer(figures)}"
        )
    if mismatches:
        one = mismatches[0]
        return f"{start}; first in {one['what']}: {one['path']} (error {words.error(one['error'])})."
    return f"{start}: {words.listing(figures['failed'])}."
