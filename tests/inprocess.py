"""Parity without processes: the study's own conducting and verbs, both sides in the test's process.

Workers keep the frameworks apart; a test that injects dozens of faults into small models need not. What
is replaced is only the crew: plan, conduct, verbs, judge and verdict are the ones that users run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from twinax.errors import CellFailed
from twinax.frameworks.base import Runner
from twinax.frameworks.make import make_runner
from twinax.records import Cell, Options, Outcome, Record, TwinInfo
from twinax.run.worker import describe
from twinax.studies.base import Context
from twinax.studies.parity import ParityStudy
from twinax.studies.parity_verbs import VERBS
from twinax.twin import Twin

Wrap = Callable[[Runner], Runner]


class InProcessWorker:
    """Runs each verb at once, where it is sent."""

    def __init__(self, cell: Cell, context: Context) -> None:
        self.cell, self.context = cell, context
        self.ready: dict[str, Any] = {}
        self.answers: list[Any] = []

    def send(self, verb: str, **arguments: Any) -> None:
        jax.config.update("jax_enable_x64", self.cell.dtype == "float64")
        self.answers.append(VERBS[verb](self.context, **arguments))

    def receive(self, timeout: float | None = None) -> dict[str, Any]:
        return self.answers.pop(0)

    def call(self, verb: str, timeout: float | None = None, **arguments: Any) -> dict[str, Any]:
        self.send(verb, **arguments)
        return self.receive()


class InProcessCrew:
    """A crew whose workers are objects; ``wrap`` may put a faulty runner in place of a side's own."""

    def __init__(self, twin: Twin, options: Options, scratch: Path, wrap: Mapping[str, Wrap]) -> None:
        self.twin, self.options, self.wrap = twin, options, wrap
        self.info: TwinInfo = twin.info
        self.scratch = self.folder = scratch
        self.workers: dict[str, InProcessWorker] = {}

    def worker(self, cell: Cell) -> InProcessWorker:
        if cell.id not in self.workers:
            weights = self.twin.init(self.twin.config, self.options.seed)
            runner = None if cell.side == "both" else make_runner(cell, self.twin, weights)
            if runner is not None and cell.side in self.wrap:
                runner = self.wrap[cell.side](runner)
            context = Context(self.twin, cell, self.options, runner, weights, self.scratch, self.folder)
            self.workers[cell.id] = InProcessWorker(cell, context)
        return self.workers[cell.id]

    def start(self, *cells: Cell) -> None:
        for cell in cells:
            self.worker(cell)

    def stop(self, cell: Cell) -> None:
        self.workers.pop(cell.id, None)

    def settle(self) -> None: ...

    def say(self, text: str) -> None: ...

    def record(self, cell: Cell, measurements: Any = None, **more: Any) -> Record:
        return Record(
            cell=cell, measurements=measurements or {}, outcome=more.pop("outcome", Outcome.OK), **more
        )


def prove(
    twin: Twin,
    scratch: Path,
    wrap: Mapping[str, Wrap] | None = None,
    options: Options | None = None,
) -> Record:
    """The record of the comparison, or of the failure that ended it."""
    options = options or Options(quick=True)
    (group,) = ParityStudy().plan(twin.info, options)
    crew = InProcessCrew(twin, options, scratch, wrap or {})
    # one process that compiles hundreds of programs runs out of memory maps: start each proof afresh
    jax.clear_caches()
    try:
        return list(ParityStudy().conduct(group, crew))[-1]
    except CellFailed as error:
        found = describe(error)
        return Record(cell=group.cells[-1], outcome=Outcome(found["outcome"]), message=found["what"])
