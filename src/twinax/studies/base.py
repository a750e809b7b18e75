"""The contract of a study: one question asked of a twin.

A study is planned and conducted in the parent, which holds no framework; its work is done by
*verbs*, functions that run inside a worker. Parent and worker find them by the study's name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from twinax.frameworks.base import Runner
from twinax.records import Cell, Json, Options, Outcome, Record, TwinInfo
from twinax.twin import Arrays, Twin


@dataclass(frozen=True)
class Group:
    """Cells that run together and take turns: the unit that is launched, and resumed.

    Attributes:
        study: The study that planned them.
        cells: In the order in which they are reported.
        ended: Ids of those whose records stand already, where a run is resumed. A study may leave out what
            nothing else needs; a new record takes the old one's place.
    """

    study: str
    cells: tuple[Cell, ...]
    ended: frozenset[str] = frozenset()

    @property
    def missing(self) -> tuple[Cell, ...]:
        """The cells that have no record yet."""
        return tuple(cell for cell in self.cells if cell.id not in self.ended)


class Worker(Protocol):
    """A live process that serves one cell, seen from the parent."""

    cell: Cell
    ready: dict[str, Json]
    """What the worker said once its model was built: ``import_s``, ``build_s``, ``pid``,
    ``environment`` and ``fairness``; empty for a worker of side ``both``, but for ``pid``."""

    @property
    def pids(self) -> list[int]:
        """Its processes on this machine; a cell of several ranks has several."""
        ...

    def send(self, verb: str, **arguments: Json) -> None:
        """Ask for a verb; returns at once."""

    def receive(self, timeout: float | None = None) -> dict[str, Json]:
        """The answer to the oldest question that is still open.

        Raises:
            CellFailed: The worker died, fell silent, or its framework failed: a named outcome.
            BadInput: The worker found that the user's input cannot be used.
        """
        ...

    def call(self, verb: str, timeout: float | None = None, **arguments: Json) -> dict[str, Json]:
        """``send``, then ``receive``."""
        ...


class Crew(Protocol):
    """The workers of a group, started on first use; all are stopped when the group ends.

    Attributes:
        scratch: A folder for arrays that pass between workers; removed when the group ends.
        folder: The run's folder: what is to be kept.
    """

    scratch: Path
    folder: Path
    info: TwinInfo
    options: Options

    def worker(self, cell: Cell) -> Worker:
        """The cell's worker, started if it is not alive yet."""
        ...

    def start(self, *cells: Cell) -> None:
        """Start several workers at once, and wait until all are ready.

        Raises:
            CellFailed: One of them failed; asking for it again raises the same. The others go on.
        """

    def stop(self, cell: Cell) -> None:
        """End the cell's worker and free its memory."""

    def settle(self) -> None:
        """Wait until no worker of the crew uses the CPU any more (see FAIRNESS in docs)."""

    def say(self, text: str) -> None:
        """Show what is being done now."""

    def record(
        self,
        cell: Cell,
        measurements: dict[str, Json] | None = None,
        *,
        outcome: Outcome = Outcome.OK,
        message: str = "",
        hint: str = "",
        files: dict[str, str] | None = None,
    ) -> Record:
        """The cell's record; environment, fairness, log file and seconds are filled in here."""
        ...


@dataclass
class Context:
    """What a verb works with, inside a worker.

    ``runner`` is None in a worker of side ``both``, which imports no framework, and where the study does not
    ask for it.
    """

    twin: Twin | None
    cell: Cell
    options: Options
    runner: Runner | None
    weights: Arrays
    scratch: Path
    folder: Path
    memory: dict[str, object] = field(default_factory=dict)
    """Whatever a verb wants to find again in the next call."""


Verb = Callable[..., dict[str, Json]]
"""``verb(context, **arguments) -> answer``: arguments and answer are JSON; arrays go by file."""


class Study(ABC):
    """One question. ``verbs`` is imported only in workers, from ``verbs_module``."""

    name: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    paired: ClassVar[bool] = False
    """Whether one side alone is of no use; then the whole group is skipped when a side is missing."""
    timed: ClassVar[bool] = False
    """Whether the workers are timed; if not, their idle threads need not spin for the next operation."""
    loads: ClassVar[Literal["runner", "twin", "nothing"]] = "runner"
    """What a worker makes before its first verb: the side built and its weights in place; the twin and its
    weights alone; or only the framework imported."""
    verbs_module: ClassVar[str]
    """Module with ``VERBS: Mapping[str, Verb]``; it may not import a framework either: it
    works through the context's runner."""

    @abstractmethod
    def plan(self, info: TwinInfo, options: Options) -> list[Group]:
        """The cells, in groups. What cannot run is planned too, and ends ``skipped`` with its reason."""

    @abstractmethod
    def conduct(self, group: Group, crew: Crew) -> Iterator[Record]:
        """Give the workers their turns; yield a record for each cell as it ends.

        A cell left without a record when this raises :class:`~twinax.errors.CellFailed` or returns
        gets one from the launcher.
        """


def missing_programs(study: Study, info: TwinInfo) -> frozenset[str]:
    """Programs that the study needs and the twin does not declare."""
    return study.needs - frozenset(info.programs)


STUDIES: Mapping[str, str] = {
    "parity": "twinax.studies.parity:ParityStudy",
    "speed": "twinax.studies.speed:SpeedStudy",
    "graph": "twinax.studies.graph:GraphStudy",
    "shapes": "twinax.studies.shapes:ShapesStudy",
    "training": "twinax.studies.training:TrainingStudy",
    "control_flow": "twinax.studies.control_flow:ControlFlowStudy",
    "derivative_cost": "twinax.studies.derivative_cost:DerivativeCostStudy",
    "autodiff": "twinax.studies.autodiff:AutodiffStudy",
    "conventions": "twinax.studies.autodiff:ConventionsStudy",
    "parallel": "twinax.studies.parallel:ParallelStudy",
    "code": "twinax.studies.code:CodeStudy",
    "mistakes": "twinax.studies.mistakes:MistakesStudy",
    "first_hour": "twinax.studies.first_hour:FirstHourStudy",
}
"""Every study by name, as ``module:class``; loaded when it is used."""
