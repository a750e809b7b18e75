"""First hour: what does a beginner wait for, and what do they read when something is wrong?"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import ClassVar

from twinax.errors import CellFailed
from twinax.records import PROVED, Cell, Json, Options, Outcome, Record, Size, TwinInfo
from twinax.studies.base import Crew, Group, Study

STARTS = {"python": 1, "import": 2, "result": 1, "step": 1, "compiled": 1}
"""Fresh processes of each kind. ``python`` is the interpreter alone: what every other one contains."""

QUICK_STARTS = {"python": 1, "import": 1, "result": 1, "step": 1}
MISTAKES = ("shapes", "shapes_compiled", "integers", "integer_gradient")
QUICK_MISTAKES = ("shapes", "integers")
LEFT_OUT = "left out of a quick run: torch.compile takes tens of seconds in a process without a cache"


class FirstHourStudy(Study):
    """Install size, import, first result, first training step, tracebacks: of small, fresh processes."""

    name: ClassVar[str] = "first_hour"
    needs: ClassVar[frozenset[str]] = frozenset()
    timed: ClassVar[bool] = True
    loads: ClassVar = "nothing"
    verbs_module: ClassVar[str] = "twinax.studies.first_hour_verbs"

    def plan(self, info: TwinInfo, options: Options) -> list[Group]:
        cells = [
            Cell(
                twin=info.name,
                study=self.name,
                side=side,
                mode=PROVED[side],
                size=Size(batch=1),
            )
            for side in info.sides
        ]
        return [Group(self.name, tuple(cells))]

    def conduct(self, group: Group, crew: Crew) -> Iterator[Record]:
        with contextlib.suppress(CellFailed):  # met again below, by its own cell
            crew.start(*group.cells)
        quick = crew.options.quick
        found: dict[str, dict[str, Json]] = {cell.id: {"left_out": {}} for cell in group.cells}
        if quick:
            for known in found.values():
                known["left_out"] = {"compiled": LEFT_OUT, "shapes_compiled": LEFT_OUT}
        failed: dict[str, CellFailed] = {}
        for step in (_install, _times, _mistakes):
            alive = [cell for cell in group.cells if cell.id not in failed]
            step(alive, crew, found, failed)
        for cell in group.cells:
            if error := failed.get(cell.id):
                known = {"outcome": Outcome(error.outcome), "message": error.what, "hint": error.hint}
                yield crew.record(cell, found[cell.id], **known)
            else:
                yield crew.record(cell, found[cell.id])
            crew.stop(cell)


Found = dict[str, dict[str, Json]]
"""What each cell has measured so far, by its id."""

Failed = dict[str, CellFailed]
"""Cells whose worker is gone, and why."""


def _install(cells: list[Cell], crew: Crew, found: Found, failed: Failed) -> None:
    crew.say("adding up what is installed")
    for cell in cells:
        try:
            found[cell.id]["install"] = crew.worker(cell).call("install")
        except CellFailed as error:
            failed[cell.id] = error


def _times(cells: list[Cell], crew: Crew, found: Found, failed: Failed) -> None:
    """Every process of both sides alone, one after the other, in one random order."""
    counts = QUICK_STARTS if crew.options.quick else STARTS
    jobs = [(cell, what) for cell in cells for what, count in counts.items() for _ in range(count)]
    random.Random(crew.options.seed).shuffle(jobs)
    for cell in cells:
        found[cell.id]["times"] = {what: [] for what in counts}
    for index, (cell, what) in enumerate(jobs):
        if cell.id in failed:
            continue
        crew.say(f"fresh process {index + 1} of {len(jobs)}: {cell.side}, {what}")
        crew.settle()
        try:
            found[cell.id]["times"][what].append(crew.worker(cell).call("start", what=what))
        except CellFailed as error:
            failed[cell.id] = error


def _mistakes(cells: list[Cell], crew: Crew, found: Found, failed: Failed) -> None:
    """Programs with a mistake; they are not timed, so that all run at once."""
    crew.say("running beginners' mistakes")
    names = QUICK_MISTAKES if crew.options.quick else MISTAKES
    for cell in cells:
        found[cell.id]["mistakes"] = []
        crew.worker(cell).send("mistakes", names=names)
    for cell in cells:
        try:
            answer = crew.worker(cell).receive(crew.options.timeout * len(names))
            found[cell.id]["mistakes"] = answer["mistakes"]
        except CellFailed as error:
            failed[cell.id] = error
