"""Where the two sides' derivatives part by convention."""

from __future__ import annotations

import math
from typing import Literal

from twinax.analyse import words
from twinax.analyse.base import Finding
from twinax.records import Json, Run

Convention = Literal[
    "same", "differ", "NaN in both", "NaN in torch", "NaN in jax", "torch raises", "jax raises", "both raise"
]
NEAR = 1e-9


def findings(run: Run) -> list[Finding]:
    """What follows from the tasks and from the special points; nothing where a side is missing."""
    sides = {r.cell.side: r for r in run.of("autodiff") if "conventions" in r.measurements}
    if set(sides) != {"torch", "jax"}:
        return []
    evidence = tuple(sides[side].cell.id for side in ("torch", "jax"))
    tasks, points = (
        list(zip(*(sides[side].measurements[what] for side in ("torch", "jax")), strict=True))
        for what in ("derivatives", "conventions")
    )
    return [_tasks(tasks, evidence), _conventions(points, evidence)]


Pairs = list[tuple[dict[str, Json], dict[str, Json]]]


def _tasks(pairs: Pairs, evidence: tuple[str, ...]) -> Finding:
    """How right and how fast the tasks are."""
    rows = [{"task": torch["task"], "torch": torch, "jax": jax} for torch, jax in pairs]
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
