"""What the autodiff study does inside its workers."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Mapping

from twinax.compare import difference
from twinax.probes.conventions.points import POINTS
from twinax.probes.derivatives.reference import REFERENCE, inputs
from twinax.records import Json
from twinax.studies.base import Context, Verb
from twinax.twin import Array

MOMENT_S = 0.02


def derivatives(context: Context) -> dict[str, Json]:
    """Every task: how far its answer lies from the closed form, and the shortest time that it took."""
    side = importlib.import_module(f"twinax.probes.derivatives.{context.cell.side}_side")
    given = inputs(context.options.seed)
    rows = []
    for name, expected in REFERENCE.items():
        row: dict[str, Json] = {"task": name, "error": None, "seconds": None, "said": ""}
        try:
            answer, again = side.run(side.TASKS[name], given)
            error = difference(expected(given), answer).error
            row |= {"error": error if math.isfinite(error) else None, "seconds": shortest(again)}
        except Exception as error:  # what a framework refuses is an answer too
            row["said"] = f"{type(error).__name__}: {_first_line(error)}"
        rows.append(row)
    return {"derivatives": rows}


def shortest(call: Callable[[], None]) -> float:
    """The shortest of the calls that fit into a moment, in seconds."""
    best, deadline = math.inf, time.perf_counter() + MOMENT_S
    while time.perf_counter() < deadline:
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
    return best


def conventions(context: Context) -> dict[str, Json]:
    """Value and gradient at every special point; where a function raises, what it says."""
    side = importlib.import_module(f"twinax.probes.conventions.{context.cell.side}_side")
    rows = []
    for point in POINTS:
        row: dict[str, Json] = {"function": point.function, "what": point.what, "at": plain(point.at)}
        try:
            value, gradient = side.value_and_gradient(side.FUNCTIONS[point.function], point.at)
            row |= {"value": plain(value), "gradient": plain(gradient), "error": ""}
        except Exception as error:  # what a framework refuses is an answer too
            row |= {"value": [], "gradient": [], "error": f"{type(error).__name__}: {_first_line(error)}"}
        rows.append(row)
    return {"conventions": rows}


def plain(array: Array) -> list[float | str]:
    """The numbers in a row; what JSON cannot hold is written out: ``nan``, ``inf``, ``-inf``."""
    return [x if math.isfinite(x) else str(x) for x in array.ravel().tolist()]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["no message"])[0][:200]


VERBS: Mapping[str, Verb] = {"derivatives": derivatives, "conventions": conventions}
