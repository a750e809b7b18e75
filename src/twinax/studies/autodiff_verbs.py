"""What the autodiff study does inside its workers."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping

from twinax.probes.conventions.points import POINTS
from twinax.records import Json
from twinax.studies.base import Context, Verb
from twinax.twin import Array


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
            said = (str(error).splitlines() or ["no message"])[0]
            row |= {"value": [], "gradient": [], "error": f"{type(error).__name__}: {said[:200]}"}
        rows.append(row)
    return {"conventions": rows}


def plain(array: Array) -> list[float | str]:
    """The numbers in a row; what JSON cannot hold is written out: ``nan``, ``inf``, ``-inf``."""
    return [x if math.isfinite(x) else str(x) for x in array.ravel().tolist()]


VERBS: Mapping[str, Verb] = {"conventions": conventions}
