"""What the control-flow study does inside its workers: run programs plainly and compiled, and look.

Nothing is known beforehand: every verdict follows from what the two runs returned, printed, raised and
left behind.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from twinax.measure import clock
from twinax.probes.control_flow.cases import CASES, RANDOM, SEEN
from twinax.records import Json
from twinax.studies.base import Context, Verb
from twinax.twin import Array

NEAR = 1e-9
MOMENT_S = 0.02


@dataclass
class Observed:
    """What a program did over its calls.

    Attributes:
        results: What each call returned; None where it raised.
        raised: Type of what each call raised; "" where it returned.
        said: First line of the first error.
        line: The program's own line in that error's traceback, as text; "" where it is not in there.
        printed: Lines on standard output.
        effects: What was left outside.
    """

    results: list[Array | None] = field(default_factory=list)
    raised: list[str] = field(default_factory=list)
    said: str = ""
    line: str = ""
    printed: list[str] = field(default_factory=list)
    effects: list[int] = field(default_factory=list)


def control_flow(context: Context) -> dict[str, Json]:
    """Every program in its naive form, and in the framework's idiom where that differs."""
    side = importlib.import_module(f"twinax.probes.control_flow.{context.cell.side}_side")
    rows = []
    for name, cases in CASES.items():
        arguments = [placed(side.place, case) for case in cases]
        row: dict[str, Json] = {"program": name, "idiom": None}
        row["naive"] = looked_at(side, side.NAIVE[name], arguments, name)
        if name in side.IDIOM:
            given = side.IDIOM_ARGUMENTS.get(name, list)(arguments)
            row["idiom"] = looked_at(side, side.IDIOM[name], given, name, real=True)
        rows.append(row)
    return {"programs": rows}


def placed(place: Callable[[Array], Any], case: Any) -> Any:
    """The case's arrays on the framework's side, its nesting kept."""
    return tuple(placed(place, part) for part in case) if isinstance(case, tuple) else place(case)


def looked_at(
    side: Any, program: Callable[[Any], Any], arguments: Sequence[Any], name: str, *, real: bool = False
) -> dict[str, Json]:
    """A program's verdict, with the reason, the line that an error names, the source's length, and its time.

    ``real`` compiles with the framework's own code generator, whose programs can be timed; without it only what
    is captured is looked at.
    """
    plain = observe(side, program, arguments)
    compiled = side.compiled(program, real=real)
    mode = observe(side, compiled, arguments)
    timed = not any(mode.raised) and (real or side.REAL)
    seconds = {
        "plain": None if any(plain.raised) else shortest(side, program, arguments[0]),
        "compiled": shortest(side, compiled, arguments[0]) if timed else None,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        count, breaks = (0, []) if mode.raised[0] else side.graphs(program, arguments[0])
    SEEN.clear()
    verdict, why = judge(plain, mode, count, len(breaks), random=name in RANDOM)
    failed = plain if plain.raised[0] else mode
    return {
        "verdict": verdict,
        "why": why,
        "said": failed.said if verdict.startswith("error") else "",
        "line": failed.line if verdict.startswith("error") else "",
        "breaks": breaks,
        "seconds": seconds,
        "lines": len(inspect.getsource(program).splitlines()) - 1,  # without its def
    }


def shortest(side: Any, program: Callable[[Any], Any], argument: Any) -> float:
    """The shortest of some calls, in seconds; what they print and leave behind is thrown away."""
    with contextlib.redirect_stdout(io.StringIO()):
        found = min(clock.steady(lambda i: (np.asarray(program(argument)), None)[1], moment_s=MOMENT_S))
        side.finish()
    SEEN.clear()
    return found


def observe(side: Any, program: Callable[[Any], Any], arguments: Sequence[Any]) -> Observed:
    """Call a program on each argument in turn, and keep what happens."""
    SEEN.clear()
    seen, out = Observed(), io.StringIO()
    with contextlib.redirect_stdout(out):
        for argument in arguments:
            try:
                seen.results.append(np.asarray(program(argument)).copy())
                seen.raised.append("")
            except Exception as error:  # what a compiler refuses is what is asked here
                seen.results.append(None)
                seen.raised.append(type(error).__name__)
                seen.said = seen.said or (str(error).splitlines() or [""])[0][:200]
                seen.line = seen.line or _own_line(error, side.__file__)
        side.finish()
    seen.printed, seen.effects = out.getvalue().splitlines(), list(SEEN.effects)
    return seen


def judge(plain: Observed, mode: Observed, graphs: int, breaks: int, *, random: bool) -> tuple[str, str]:
    """How the compiled program stands to the plain one: a verdict, and why.

    Args:
        plain: What it did uncompiled.
        mode: What it did compiled.
        graphs: How many graphs the compiler made of it.
        breaks: How often it left a graph.
        random: Two calls must differ, instead of giving what the plain ones gave.
    """
    if plain.raised[0]:
        return "error in every mode", plain.raised[0]
    if mode.raised != plain.raised:
        return "error", next(
            m for m, p in zip(mode.raised, plain.raised, strict=True) if m != p
        ) or "nothing raised"
    if random:
        if _same(mode.results[0], mode.results[1]):
            return "silently different", "the same numbers at every call"
    elif not all(_same(p, m) for p, m in zip(plain.results, mode.results, strict=True)):
        return "silently different", "another result"
    if plain.printed != mode.printed:
        return "silently different", f"printed {len(mode.printed)} of {len(plain.printed)} lines as before"
    if plain.effects != mode.effects:
        return "silently different", f"{len(mode.effects)} of {len(plain.effects)} effects took place"
    if not graphs:
        return "runs uncompiled", "the compiler gave up on all of it"
    return ("works after a break", "") if breaks else ("works", "")


def _same(a: Array | None, b: Array | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=NEAR, atol=NEAR, equal_nan=True))


def _own_line(error: Exception, file: str) -> str:
    """The innermost line of the program itself in the traceback."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return (own[-1].line or "") if own else ""


VERBS: Mapping[str, Verb] = {"control_flow": control_flow}
