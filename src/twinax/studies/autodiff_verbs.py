"""What the autodiff study does inside its workers."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Callable, Mapping

import numpy as np

from twinax.compare import difference
from twinax.measure import clock, memory
from twinax.probes.conventions.points import POINTS
from twinax.probes.conventions.safe import SAFE, safe_function
from twinax.probes.derivatives.reference import REFERENCE, inputs
from twinax.probes.workloads.problems import PROBLEMS, along, direction
from twinax.records import Json
from twinax.studies.base import Context, Verb
from twinax.twin import Array

MOMENT_S = 0.02


def derivatives(context: Context, *, sizes: list[int]) -> dict[str, Json]:
    """Every task at every size: how far its answer lies from the closed form, its time and its memory."""
    side = importlib.import_module(f"twinax.probes.derivatives.{context.cell.side}_side")
    rows = []
    for name, expected in REFERENCE.items():
        row: dict[str, Json] = {"task": name, "error": None, "points": [], "said": ""}
        try:
            errors = []
            for size in sizes:
                given = inputs(context.options.seed, size)
                answer, again = side.run(side.TASKS[name], given)
                errors.append(difference(expected(given), answer).error)
                seconds, held = shortest(again), memory.needed_by(again)
                row["points"].append({"size": size, "seconds": seconds, "peak_bytes": held})
            row["error"] = max(errors) if all(map(math.isfinite, errors)) else None
        except Exception as error:  # what a framework refuses is an answer too
            row["said"] = f"{type(error).__name__}: {_first_line(error)}"
        rows.append(row)
    return {"derivatives": rows}


def workloads(context: Context) -> dict[str, Json]:
    """Each workload's objective and Jacobian: errors against NumPy and complex step, times."""
    side = importlib.import_module(f"twinax.probes.workloads.{context.cell.side}_side")
    rows = []
    for name, problem in PROBLEMS.items():
        given, constants = problem.data(problem.size, context.options.seed)
        v = direction(given, context.options.seed)
        row: dict[str, Json] = {
            "workload": name,
            "title": problem.title,
            "size": dict(problem.size),
            "said": "",
        }
        try:
            placed = side.place(given, constants)
            objective, jacobian = (
                side.ready(functions[name], constants) for functions in (side.OBJECTIVES, side.JACOBIANS)
            )
            value, slope = objective(*placed), problem.product(jacobian(*placed), v, constants)
            errors = (
                difference(problem.objective(given, constants), np.asarray(value)).error,
                difference(along(problem, given, constants, v), slope).error,
            )
            row["errors"] = [error if math.isfinite(error) else None for error in errors]
            row["objective_s"] = clock.steady(lambda i, f=objective, a=placed: f(*a))
            row["jacobian_s"] = clock.steady(lambda i, f=jacobian, a=placed: f(*a))
        except Exception as error:  # what a framework refuses is an answer too
            row |= {"said": f"{type(error).__name__}: {_first_line(error)}", "errors": [None, None]}
        rows.append(row)
    return {"workloads": rows}


def shortest(call: Callable[[], None]) -> float:
    """The shortest of the calls that fit into a moment, in seconds."""
    best, deadline = math.inf, time.perf_counter() + MOMENT_S
    while time.perf_counter() < deadline:
        begin = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - begin)
    return best


def conventions(context: Context) -> dict[str, Json]:
    """Value and gradient at every special point, and the safe form's; where a function raises, what it says."""
    side = importlib.import_module(f"twinax.probes.conventions.{context.cell.side}_side")
    rows = []
    for point in POINTS:
        row: dict[str, Json] = {"function": point.function, "what": point.what, "at": plain(point.at)}
        safe = safe_function(point.function, side.xp)
        try:
            value, gradient = side.value_and_gradient(side.FUNCTIONS[point.function], point.at)
            row |= {"value": plain(value), "gradient": plain(gradient), "error": ""}
        except Exception as error:  # what a framework refuses is an answer too
            row |= {"value": [], "gradient": [], "error": f"{type(error).__name__}: {_first_line(error)}"}
        row["safe"] = SAFE.get(point.function, "")
        row["safe_gradient"] = plain(side.value_and_gradient(safe, point.at)[1]) if safe else []
        rows.append(row)
    return {"conventions": rows}


def plain(array: Array) -> list[float | str]:
    """The numbers in a row; what JSON cannot hold is written out: ``nan``, ``inf``, ``-inf``."""
    return [x if math.isfinite(x) else str(x) for x in array.ravel().tolist()]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["no message"])[0][:200]


VERBS: Mapping[str, Verb] = {"derivatives": derivatives, "workloads": workloads, "conventions": conventions}
