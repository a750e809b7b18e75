"""What the mistakes study does inside its workers: run each mistake, and the same program without it, and look.

Nothing is known beforehand: every verdict follows from what the two runs returned, raised and said.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import logging
import re
import textwrap
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from twinax.probes.mistakes.base import Case, Tool
from twinax.probes.mistakes.cases import CASES
from twinax.records import Json
from twinax.studies.base import Context, Verb
from twinax.twin import Array

SLOW = 3.0  # times the right program's time
MOMENT_S = 0.01  # a difference below this is noise, whatever the ratio
SHAPE = re.compile(r"[(\[]\d+(, ?\d+)*,?[)\]]|\b\d+x\d+\b|\bsize \d+")
FOLDERS = re.compile(r"(?:/[\w.+-]+)+/(?=[\w.-]+\.py)")
ADDRESS = re.compile(r"\b0x[0-9a-f]{5,}|\bid[= ]\d+")

Program = Callable[[bool], Any]


@dataclass
class Observed:
    """What one run of a program did.

    Attributes:
        result: What it returned; None where it raised.
        raised: Type of what it raised; "" where it returned.
        said: Every warning, log line and error, first lines, without addresses and folders.
        whole: The error's whole message.
        lines: Numbers of the program's own lines in the traceback, outermost first.
        length: Lines of the traceback as it is printed.
    """

    result: Array | None = None
    raised: str = ""
    said: list[str] = field(default_factory=list)
    whole: str = ""
    lines: list[int] = field(default_factory=list)
    length: int = 0


def mistakes(context: Context) -> dict[str, Json]:
    """Every mistake on the cell's side."""
    side = importlib.import_module(f"twinax.probes.mistakes.{context.cell.side}_side")
    return {"mistakes": [looked_at(side, case) for case in CASES]}


def looked_at(side: Any, case: Case) -> dict[str, Json]:
    """One mistake's verdict, what was said, and whether the framework's tool finds it."""
    about = {"mistake": case.name, "what": case.what, "citation": asdict(case.citation)}
    if case.name in side.CANNOT:
        return {**about, "verdict": "cannot be made", "why": side.CANNOT[case.name]}
    program = side.PROGRAMS[case.name]
    right, wrong = observe(side, program, False), observe(side, program, True)
    sound = same(right.result, case.reference, case.rtol)
    heard = new(wrong, right)
    wrongly = not same(wrong.result, case.reference, case.rtol)
    ratio = None if wrong.raised or heard or wrongly else slowdown(side, program)
    own = mistaken_lines(program)
    return {
        **about,
        "verdict": judge(wrong, own, heard=bool(heard), wrong_result=wrongly, ratio=ratio)
        if sound
        else "not judged",
        "why": "" if sound else f"the program is not right without the mistake either: {told(right)}",
        "returned": "" if wrong.raised or not wrongly else told(wrong),
        "raised": wrong.raised,
        "said": wrong.said[-1] if wrong.raised else (heard or [""])[0],
        "line": text_of(program, wrong.lines[-1]) if wrong.lines else "",
        "shapes": bool(SHAPE.search(wrong.whole)) if wrong.raised else None,
        "traceback_lines": wrong.length,
        "ratio": ratio,
        "tool": found_by(side, program, case, right, wrong),
        "source": textwrap.dedent(inspect.getsource(program)),
    }


def observe(side: Any, program: Program, mistake: bool, tool: Tool | None = None) -> Observed:
    """Run a program in a clean state, and keep what happens."""
    seen = Observed()
    with side.clean(), listening(side.LOGGERS, seen.said):
        try:
            run = lambda: program(mistake)  # noqa: E731
            seen.result = side.fetched(tool.use(run) if tool else run())
        except Exception as error:  # what a framework refuses is what is asked here
            seen.raised, seen.whole = type(error).__name__, str(error)
            file = inspect.getsourcefile(program)
            frames = traceback.extract_tb(error.__traceback__)
            seen.lines = [f.lineno for f in frames if f.filename == file and f.lineno]
            seen.length = len("".join(traceback.format_exception(error)).splitlines())
    if seen.raised:
        seen.said.append(first_line(seen.whole))
    return seen


@contextmanager
def listening(loggers: tuple[str, ...], said: list[str]) -> Iterator[None]:
    """Keep the first line of every warning and of every log line from a warning on."""
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(first_line(record.getMessage()))
    for name in loggers:
        logging.getLogger(name).addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            yield
    finally:
        for name in loggers:
            logging.getLogger(name).removeHandler(handler)
        said.extend(first_line(str(warning.message)) for warning in heard)


def first_line(message: str) -> str:
    """Without addresses and folders, which differ from run to run; at most 200 characters."""
    return FOLDERS.sub("", ADDRESS.sub("…", (message.strip().splitlines() or [""])[0]))[:200]


def new(run: Observed, *before: Observed) -> list[str]:
    """What one run said that the others did not, in its order."""
    known = {line for other in before for line in other.said}
    return [line for line in dict.fromkeys(run.said) if line not in known]


def judge(wrong: Observed, own: set[int], *, heard: bool, wrong_result: bool, ratio: float | None) -> str:
    """The verdict on a mistake.

    Args:
        wrong: What the program with the mistake did.
        own: Numbers of the lines that hold the mistake.
        heard: It said something that the right program does not say.
        wrong_result: It returned something else than the reference.
        ratio: Its time over the right program's; None where that does not matter any more.
    """
    if wrong.raised:
        return "error at once" if own & set(wrong.lines) else "error later"
    if heard:
        return "warning"
    if wrong_result:
        return "silently wrong"
    return "slow" if ratio is not None and ratio >= SLOW else "no harm"


def mistaken_lines(program: Program) -> set[int]:
    """The lines of the statements that hold the mistake: a whole block where its head asks for it."""
    source, start = inspect.getsourcelines(program)
    found: set[int] = set()
    for node in ast.walk(ast.parse(textwrap.dedent("".join(source)))):
        if isinstance(node, ast.If):
            asked = _mentions(node.test)
        elif isinstance(node, ast.With):
            asked = any(_mentions(item) for item in node.items)
        else:
            asked = isinstance(node, ast.stmt) and not hasattr(node, "body") and _mentions(node)
        if asked and isinstance(node, ast.stmt):
            found |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return {line + start - 1 for line in found}


def _mentions(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Name) and part.id == "mistake" for part in ast.walk(node))


def text_of(program: Program, line: int) -> str:
    """A line of the program by its number in the file; "" where it lies outside."""
    source, start = inspect.getsourcelines(program)
    return source[line - start].strip() if 0 <= line - start < len(source) else ""


def same(result: Array | None, reference: Array, rtol: float) -> bool:
    """NaN is not the same as anything."""
    return (
        result is not None
        and result.shape == reference.shape
        and bool(np.allclose(result, reference, rtol=rtol, atol=0.0))
    )


def told(seen: Observed) -> str:
    """What a run returned or raised, in short."""
    if seen.raised:
        return f"{seen.raised}: {seen.said[-1]}"
    result = np.asarray(seen.result)
    values = result.reshape(-1)
    numbers = ", ".join(f"{float(value):.6g}" for value in values[:4])
    return f"{numbers}{', …' if values.size > 4 else ''} in shape {result.shape}"


def slowdown(side: Any, program: Program) -> float:
    """How many times the right program's time the wrong one takes; 1 where the difference is below a moment."""
    best = {True: float("inf"), False: float("inf")}
    for _ in range(3):
        for mistake in best:
            with side.clean(), listening(side.LOGGERS, []):
                start = time.perf_counter()
                side.fetched(program(mistake))
                best[mistake] = min(best[mistake], time.perf_counter() - start)
    return best[True] / best[False] if best[True] - best[False] >= MOMENT_S else 1.0


def found_by(
    side: Any, program: Program, case: Case, right: Observed, wrong: Observed
) -> dict[str, Json] | None:
    """Whether the framework's tool speaks of the mistake and stays quiet without it; None where it has none."""
    tool = side.TOOLS.get(case.name)
    if tool is None:
        return None
    with_right, with_wrong = observe(side, program, False, tool), observe(side, program, True, tool)
    idle = observe(side, lambda mistake: 0, False, tool)  # what it says on being switched on
    said = new(with_wrong, wrong, idle)
    alarm = bool(new(with_right, right, idle)) or not same(with_right.result, case.reference, case.rtol)
    return {"name": tool.name, "found": bool(said), "said": (said or [""])[0], "false_alarm": alarm}


VERBS: Mapping[str, Verb] = {"mistakes": mistakes}
