"""The tables of the probes: what compilers do with control flow, and what can be differentiated."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from twinax.analyse import Findings, words
from twinax.analyse.autodiff import multiple
from twinax.analyse.derivative_cost import NAMES
from twinax.records import Json
from twinax.report.tables import Row, Table

ALIKE = ("same", "both raise")


def control_flow(findings: Findings, form: str) -> Table | None:
    """What each side's compiler did with every program in one form."""
    sides = {
        f.figures["side"]: {row["program"]: row[form] for row in f.figures["rows"]}
        for f in findings.of("control_flow")
    }
    naive = {
        f.figures["side"]: {row["program"]: row["naive"] for row in f.figures["rows"]}
        for f in findings.of("control_flow")
    }
    programs = dict.fromkeys(name for found in sides.values() for name in found)
    rows = tuple(
        Row(
            (name, *(_told(sides[side].get(name), naive[side].get(name)) for side in sides)),
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


def _told(found: dict[str, Json] | None, naive: dict[str, Json] | None) -> str:
    """The verdict; of an idiom also what it costs, in lines and in time, against what it stands for."""
    told = _verdict(found)
    if not found or not naive or found is naive:
        return told
    lines = f"{words.count(found['lines'], 'line')} instead of {naive['lines']}"
    best, before = found["seconds"]["compiled"], naive["seconds"]["plain"]
    took = f", {words.seconds(best)} compiled against {words.seconds(before)} as first written"
    return f"{told}; {lines}{took if best and before else ''}"


def _verdict(found: dict[str, Json] | None) -> str:
    if not found:
        return "–"
    reasons = [f"line {b['line']}: {b['reason']}" for b in found["breaks"]]
    where = f", at `{found['line']}`" if found["line"] else ""
    details = [found["why"], found["said"] + where if found["said"] else "", *reasons[:2]]
    return ": ".join([found["verdict"], "; ".join(d for d in details if d)]).removesuffix(": ")


def cost(findings: Findings) -> Table | None:
    """What each derivative of the model costs, against the one that it is made of."""
    rows = [
        Row(
            (
                words.side_mode(f.figures["side"], f.figures["mode"]),
                NAMES[row["name"]],
                words.seconds(row["seconds"]) if "ratio" in row else "–",
                words.times(row["ratio"]) if "ratio" in row else "–",
                words.between(row["low"], row["high"]) if "ratio" in row else "–",
                NAMES[row["base"]],
                words.memory(row["peak_bytes"]) if "ratio" in row else "–",
                row["said"] or row["how"],
            )
        )
        for f in findings.of("cost_of_derivatives")
        for row in f.figures["rows"]
    ]
    columns = ("Mode", "What", "Takes", "Times", "95 % interval", "Of", "Memory", "Remark")
    note = "Of the loss, by every parameter, in eval mode. Memory: the peak of one call beyond what was held."
    return (
        Table("What the model's derivatives cost", columns, tuple(rows), (2, 3, 4, 6), note) if rows else None
    )


def derivatives(findings: Findings) -> Table | None:
    """Every task with its error against the closed form, its time and how that grows."""
    finding = findings.one("derivatives")
    found = finding.figures["rows"] if finding else []
    sides = ("torch", "jax")
    rows = tuple(
        Row(
            (
                row["task"].replace("_", " "),
                *(row[side]["said"] or words.error(row[side]["error"]) for side in sides),
                *(_last(row[side], "seconds", words.seconds) for side in sides),
                *(_power(row[side]["time_growth"]) for side in sides),
                *(_last(row[side], "peak_bytes", words.memory) for side in sides),
                *(_power(row[side]["memory_growth"]) for side in sides),
            )
        )
        for row in found
    )
    heads = [
        f"{words.SIDES[s]}'s {what}" for what in ("error", "time", "growth", "memory", "growth") for s in sides
    ]
    largest = max((p["size"] for row in found for s in sides for p in row[s]["points"]), default=0)
    note = (
        f"Errors against a closed form, float64. Time and memory at vectors of {largest:,} numbers, "
        "PyTorch eager and JAX jit; growth is the power of the size between the two largest."
    )
    return Table("Differentiation tasks", ("Task", *heads), rows, tuple(range(1, 11)), note) if rows else None


def _last(row: dict[str, Json], key: str, told: Callable[[float], str]) -> str:
    return told(row["points"][-1][key]) if row["points"] else "–"


def _power(exponent: float | None) -> str:
    return "–" if exponent is None else f"n^{exponent:.1f}"


def workloads(findings: Findings) -> Table | None:
    """The standard workloads: how right, and the Jacobian's time as a multiple of the objective's."""
    finding = findings.one("workloads")
    rows = tuple(
        Row(
            (
                f"{row['workload']}: {row['title']}",
                ", ".join(f"{name} = {value:,}" for name, value in row["size"].items()),
                *(row[s]["said"] or words.error(_worst(row[s]["errors"])) for s in ("torch", "jax")),
                *(_times(row[s]) for s in ("torch", "jax")),
                *(words.times(multiple(row[s])) if multiple(row[s]) else "–" for s in ("torch", "jax")),
            )
        )
        for row in (finding.figures["rows"] if finding else [])
    )
    sides = [words.SIDES[s] for s in ("torch", "jax")]
    heads = [f"{side}: {what}" for what in ("error", "objective → Jacobian", "multiple") for side in sides]
    note = "Errors of objective and Jacobian against NumPy and complex step; sizes of the published suites."
    return Table("Standard workloads", ("Workload", "Size", *heads), rows, (2, 3, 6, 7), note) if rows else None


def _worst(errors: list[float | None]) -> float | None:
    known = [error for error in errors if error is not None]
    return max(known) if len(known) == len(errors) else None


def _times(row: dict[str, Json]) -> str:
    if not row.get("jacobian_s"):
        return "–"
    return f"{words.seconds(median(row['objective_s']))} → {words.seconds(median(row['jacobian_s']))}"


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
                *(() if alike else (_safe(row),)),
            )
        )
        for row in found
        if (row["verdict"] in ALIKE) == alike
    )
    beware = "Points to beware of: the gradients part, or are NaN"
    title = "Points at which both answer alike" if alike else beware
    columns = ("Function", "What", "At", "PyTorch", "JAX", "Verdict", *(() if alike else ("Safe form",)))
    note = (
        ""
        if alike
        else "A safe form is one text for both sides (xp is torch or jax.numpy); its gradient was taken."
    )
    return Table(title, columns, rows, note=note) if rows else None


def _safe(row: dict[str, Json]) -> str:
    """The safe form with the gradient that both sides gave for it."""
    safe, gradients = row.get("safe", ""), [row[side].get("safe_gradient", []) for side in ("torch", "jax")]
    if not safe:
        return "none known"
    if gradients[0] != gradients[1]:
        return f"{safe}: {_numbers(gradients[0])} and {_numbers(gradients[1])}"
    return f"{safe}: {_numbers(gradients[0])}"


def _numbers(values: list[float | str]) -> str:
    """``0, nan, 0.5``; nothing is ``(empty)``."""
    return ", ".join(v if isinstance(v, str) else f"{v + 0.0:.4g}" for v in values) or "(empty)"
