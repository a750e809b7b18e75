"""The tables of the probes: what compilers do with control flow, and what can be differentiated."""

from __future__ import annotations

from twinax.analyse import Findings, words
from twinax.records import Json
from twinax.report.tables import Row, Table

ALIKE = ("same", "NaN in both", "both raise")


def control_flow(findings: Findings, form: str) -> Table | None:
    """What each side's compiler did with every program in one form."""
    sides = {
        f.figures["side"]: {row["program"]: row[form] for row in f.figures["rows"]}
        for f in findings.of("control_flow")
    }
    programs = dict.fromkeys(name for found in sides.values() for name in found)
    rows = tuple(
        Row(
            (name, *(_verdict(sides[side].get(name)) for side in sides)),
            "warning" if any(_silent(sides[side].get(name)) for side in sides) else "",
        )
        for name in programs
        if any(sides[side].get(name) for side in sides)
    )
    titles = {"naive": "As a person would first write it", "idiom": "As the framework wants it"}
    columns = ("Program", *(words.SIDES[side] for side in sides))
    return Table(titles[form], columns, rows) if rows else None


def _silent(found: dict[str, Json] | None) -> bool:
    return bool(found) and found["verdict"] == "silently different"


def _verdict(found: dict[str, Json] | None) -> str:
    if not found:
        return "–"
    reasons = [f"line {b['line']}: {b['reason']}" for b in found["breaks"]]
    where = f", at `{found['line']}`" if found["line"] else ""
    details = [found["why"], found["said"] + where if found["said"] else "", *reasons[:2]]
    return ": ".join([found["verdict"], "; ".join(d for d in details if d)]).removesuffix(": ")


def derivatives(findings: Findings) -> Table | None:
    """Every task with its error against the closed form, and the time that it takes."""
    finding = findings.one("derivatives")
    rows = tuple(
        Row(
            (
                row["task"].replace("_", " "),
                *(row[side]["said"] or words.error(row[side]["error"]) for side in ("torch", "jax")),
                *(words.seconds(row[side]["seconds"]) for side in ("torch", "jax")),
            )
        )
        for row in (finding.figures["rows"] if finding else [])
    )
    columns = ("Task", "PyTorch's error", "JAX's error", "PyTorch", "JAX")
    note = "Errors against a closed form, float64; the shortest time of a call, PyTorch eager and JAX jit."
    return Table("Differentiation tasks", columns, rows, (1, 2, 3, 4), note) if rows else None


def conventions(findings: Findings, *, alike: bool) -> Table | None:
    """Gradients at special points: those that part, or those that are alike."""
    finding = findings.one("conventions")
    found = finding.figures["rows"] if finding else []
    rows = tuple(
        Row(
            (
                row["function"].replace("_", " "),
                row["what"],
                _numbers(row["at"]),
                row["torch"]["error"] or _numbers(row["torch"]["gradient"]),
                row["jax"]["error"] or _numbers(row["jax"]["gradient"]),
                row["verdict"],
            )
        )
        for row in found
        if (row["verdict"] in ALIKE) == alike
    )
    title = "Points at which both answer alike" if alike else "Points at which the gradients part"
    return Table(title, ("Function", "What", "At", "PyTorch", "JAX", "Verdict"), rows) if rows else None


def _numbers(values: list[float | str]) -> str:
    """``0, nan, 0.5``; nothing is ``(empty)``."""
    return ", ".join(v if isinstance(v, str) else f"{v:.4g}" for v in values) or "(empty)"
