"""Where the two sides' derivatives part by convention."""

from __future__ import annotations

import math
from statistics import median
from typing import Literal

from twinax.analyse import words
from twinax.analyse.base import Finding
from twinax.records import Json, Run

Convention = Literal[
    "same", "differ", "NaN in both", "NaN in torch", "NaN in jax", "torch raises", "jax raises", "both raise"
]
NEAR = 1e-9
LEAST_BYTES = 1 << 20  # below, the pages that the process happens to touch hide the growth


def findings(run: Run) -> list[Finding]:
    """What follows from the tasks, the workloads and the special points; nothing where a side is missing."""
    tasks, workloads, points = (
        _paired(run, study, what)
        for study, what in (
            ("autodiff", "derivatives"),
            ("autodiff", "workloads"),
            ("conventions", "conventions"),
        )
    )
    found = [_tasks(*tasks)] if tasks[0] else []
    found += _workloads(*workloads)
    return [*found, _conventions(*points)] if points[0] else found


def _paired(run: Run, study: str, what: str) -> tuple[Pairs, tuple[str, ...]]:
    """What both sides measured, row by row, with the records' ids; nothing where one is missing."""
    sides = {r.cell.side: r for r in run.of(study) if what in r.measurements}
    if set(sides) != {"torch", "jax"}:
        return [], ()
    both = [sides["torch"], sides["jax"]]
    pairs = list(zip(*(r.measurements[what] for r in both), strict=True))
    return pairs, tuple(r.cell.id for r in both)


Pairs = list[tuple[dict[str, Json], dict[str, Json]]]


def _tasks(pairs: Pairs, evidence: tuple[str, ...]) -> Finding:
    """How right the tasks are, and how their time grows."""
    rows = [{"task": t["task"], "torch": _grown(t), "jax": _grown(j)} for t, j in pairs]
    errors = [side["error"] for pair in pairs for side in pair]
    worst = None if None in errors else max(errors)
    wrong = sorted(
        {torch["task"] for torch, jax in pairs for e in (torch["error"], jax["error"]) if not _right(e)}
    )
    said = (
        f"{words.listing(wrong)} is not what the closed form says"
        if wrong
        else f"both sides answer as the closed form does; the largest error is {words.error(worst)}"
    )
    return Finding(
        kind="derivatives",
        title=f"Of {words.count(len(rows), 'differentiation task')}: {said}.",
        verdict="wrong" if wrong else "right",
        severity="problem" if wrong else "good",
        evidence=evidence,
        figures={"rows": rows},
    )


def _grown(row: dict[str, Json]) -> dict[str, Json]:
    """The row with the exponents of its time and memory in the size."""
    sizes = [point["size"] for point in row["points"]]
    seconds = [point["seconds"] for point in row["points"]]
    held = [point["peak_bytes"] for point in row["points"]]
    return {
        **row,
        "time_growth": growth(sizes, seconds),
        "memory_growth": growth(sizes, held, least=LEAST_BYTES),
    }


def growth(sizes: list[int], values: list[float], least: float = 0.0) -> float | None:
    """p in value ∝ sizeᵖ between the two largest sizes; None where a value is too small to tell.

    At small sizes the overhead of a call hides the growth, so that a line through all points would be flat.
    """
    known = [(n, v) for n, v in zip(sizes, values, strict=True) if v > least]
    if len(known) < 2:
        return None
    (a, low), (b, high) = known[-2:]
    return math.log(high / low) / math.log(b / a)


def _workloads(pairs: Pairs, evidence: tuple[str, ...]) -> list[Finding]:
    """How right the standard workloads are, and the Jacobian's time as a multiple of the objective's."""
    if not pairs:
        return []
    rows = [
        {
            "workload": torch["workload"],
            "title": torch["title"],
            "size": torch["size"],
            "torch": torch,
            "jax": jax,
        }
        for torch, jax in pairs
    ]
    wrong = [
        r["workload"] for r in rows if not all(_right(e) for s in ("torch", "jax") for e in r[s]["errors"])
    ]
    told = [
        f"{r['workload']} {' and '.join(words.times(multiple(r[s])) for s in ('torch', 'jax'))}"
        for r in rows
        if all(multiple(r[s]) for s in ("torch", "jax"))
    ]
    said = f"{words.listing(wrong)} is not what the reference says; " if wrong else ""
    return [
        Finding(
            kind="workloads",
            title=f"Standard workloads: {said}a Jacobian takes, in objectives, PyTorch and JAX: "
            f"{words.listing(told)}.",
            verdict="wrong" if wrong else "right",
            severity="problem" if wrong else "note",
            evidence=evidence,
            figures={"rows": rows},
        )
    ]


def multiple(row: dict[str, Json]) -> float:
    """A Jacobian's time in objectives; 0 where it was not measured."""
    return median(row["jacobian_s"]) / median(row["objective_s"]) if row.get("jacobian_s") else 0.0


def _right(error: float | None) -> bool:
    return error is not None and error <= NEAR


def _conventions(pairs: Pairs, evidence: tuple[str, ...]) -> Finding:
    """Where the two sides' gradients part."""
    rows = [{**torch, "torch": torch, "jax": jax, "verdict": convention(torch, jax)} for torch, jax in pairs]
    differ = [
        row["function"].replace("_", " ")
        for row in rows
        if row["verdict"] not in ("same", "NaN in both", "both raise")
    ]
    both = [row["function"].replace("_", " ") for row in rows if row["verdict"] == "NaN in both"]
    return Finding(
        kind="conventions",
        title=f"At {len(differ)} of {words.count(len(rows), 'special point')} the gradients are not the same: "
        f"{words.listing(differ, 8)}. Both are NaN at {len(both)}: {words.listing(both, 4)}.",
        verdict="differ" if differ else "same",
        evidence=evidence,
        figures={"rows": rows},
    )


def convention(torch: dict[str, Json], jax: dict[str, Json]) -> Convention:
    """How two answers at one point stand to each other."""
    if torch["error"] or jax["error"]:
        return (
            "both raise"
            if torch["error"] and jax["error"]
            else "torch raises"
            if torch["error"]
            else "jax raises"
        )
    a, b = ([float(x) for x in side["gradient"]] for side in (torch, jax))
    lost = [any(map(math.isnan, gradient)) for gradient in (a, b)]
    if any(lost):
        return "NaN in both" if all(lost) else "NaN in torch" if lost[0] else "NaN in jax"
    same = len(a) == len(b) and all(math.isclose(x, y, rel_tol=NEAR) for x, y in zip(a, b, strict=True))
    return "same" if same else "differ"
