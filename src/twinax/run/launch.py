"""Where cells run: processes on this machine.

The contract is small, so that another launcher (:mod:`twinax.run.ray_launcher`) can take this one's place::

    launch(groups) -> records

A group's study conducts its workers; this module starts them, carries messages, turns death and
silence into named outcomes, and leaves no process behind.
"""

from __future__ import annotations

import importlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from twinax.errors import CellFailed, DiskFull
from twinax.measure import clock
from twinax.records import Cell, Json, Options, Outcome, Record, TwinInfo
from twinax.run.gang import Gang, cores_of, free_port, rank_variables, seat, threads_of
from twinax.run.process import (
    Host,
    LocalWorker,
    ThisMachine,
    devices,
    threads,
    worker_environment,
)
from twinax.studies.base import STUDIES, Crew, Group, Study
from twinax.temporary import own_folder

SCRATCH_PREFIX = "twinax-scratch-"
ROOM = 4 << 30  # bytes free in the memory file system below which scratch goes to the run's disk


class Listener(Protocol):
    """Hears what happens while a run goes on; shows it to a person."""

    def planned(self, cells: tuple[Cell, ...]) -> None: ...
    def started(self, cell: Cell) -> None: ...
    def said(self, cell: Cell | None, text: str) -> None: ...
    def ended(self, record: Record) -> None: ...


class Launcher(Protocol):
    """Runs groups of cells somewhere; every cell of every group ends in exactly one record."""

    def launch(self, groups: Iterable[Group]) -> Iterator[Record]: ...

    def close(self) -> None:
        """Let go of whatever it started."""


def load_study(name: str) -> Study:
    """The study of that name."""
    module, _, attribute = STUDIES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)()


class LocalLauncher:
    """Groups one after the other, each cell in a process of this machine.

    Cells of several processes are spread over ``hosts``, the first of which is this machine (and the only one
    where none are given); they meet at ``address``.
    """

    def __init__(
        self,
        info: TwinInfo,
        options: Options,
        folder: Path,
        weights: str,
        listener: Listener,
        *,
        hosts: Sequence[Host] = (),
        address: str = "127.0.0.1",
    ) -> None:
        self.hosts, self.address = hosts or [ThisMachine()], address
        self.info, self.options, self.folder = info, options, folder
        self.weights, self.listener = weights, listener
        self.caches = make_scratch(folder)

    def launch(self, groups: Iterable[Group]) -> Iterator[Record]:
        for group in groups:
            study = load_study(group.study)
            with LocalCrew(study.verbs_module, self, timed=study.timed, loads=study.loads) as crew:
                yield from self._conduct(study, group, crew)

    def close(self) -> None:
        """Remove the compile caches; a launcher starts with none, and its groups share them."""
        shutil.rmtree(self.caches, ignore_errors=True)

    def _conduct(self, study: Study, group: Group, crew: LocalCrew) -> Iterator[Record]:
        open_cells = {cell.id: cell for cell in group.cells}
        failure: CellFailed | None = None
        try:
            for record in study.conduct(group, crew):
                open_cells.pop(record.cell.id, None)
                yield record
        except CellFailed as error:
            failure = error
        failed = failure.cell if failure else None
        if failure and failed and open_cells.pop(failed.id, None):
            yield crew.failed(failed, failure)
        for cell in open_cells.values():
            if cell.id in group.ended:
                continue
            yield crew.record(
                cell,
                outcome=Outcome.SKIPPED,
                message=f"{failed.id} ended {failure.outcome}, and this cell needs it."
                if failure and failed
                else f"Nothing came of it{': ' + failure.what if failure else ''}.",
                hint="See that cell's message.",
            )


class LocalCrew(Crew):
    """The live workers of one group, and the scratch folder between them."""

    def __init__(
        self, verbs: str, launcher: LocalLauncher, *, timed: bool = False, loads: str = "runner"
    ) -> None:
        self.info, self.options, self.folder = launcher.info, launcher.options, launcher.folder
        self._verbs, self._loads = verbs, loads
        self._weights, self._listener = launcher.weights, launcher.listener
        self._environment = worker_environment(launcher.options, launcher.caches, timed)
        self._hosts, self._address = launcher.hosts, launcher.address
        self._workers: dict[str, LocalWorker | Gang] = {}
        self._begun: dict[str, float] = {}
        self._facts: dict[str, dict[str, Json]] = {}
        self._machines: dict[str, int] = {}  # on how many the cell's processes are
        self._broken: dict[str, CellFailed] = {}  # cells whose worker could not be made ready, and why
        self.scratch = make_scratch(self.folder)

    def __enter__(self) -> LocalCrew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.kill()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def worker(self, cell: Cell) -> LocalWorker | Gang:
        if cell.id in self._broken:
            raise self._broken[cell.id]
        self._ask(cell)
        worker = self._workers[cell.id]
        if not worker.ready:
            try:
                self._facts[cell.id] = worker.ready = worker.receive()
            except CellFailed as error:
                self._broken[cell.id] = error
                raise
        return worker

    def start(self, *cells: Cell) -> None:
        for cell in cells:
            self._ask(cell)
        for cell in cells:
            self.worker(cell)

    def _ask(self, cell: Cell) -> None:
        """Start the cell's process, unless it is there, and tell it what it is for."""
        if cell.id in self._workers:
            return
        self._listener.started(cell)
        self._begun[cell.id] = time.perf_counter()
        worker = self._started(cell)
        self._workers[cell.id] = worker
        worker.post(
            cell=cell.model_dump(),
            options=self.options.model_dump(),
            verbs=self._verbs,
            weights=self._weights,
            loads=self._loads,
            scratch=str(self.scratch),
            folder=str(self.folder),
        )

    def _started(self, cell: Cell) -> LocalWorker | Gang:
        """The cell's process; where it has several, each on the next host."""
        options, hosts = self.options, [self._hosts[i % len(self._hosts)] for i in range(cell.processes)]
        self._machines[cell.id] = len({host.machine for host in hosts})
        if cell.processes == 1:
            cores = hosts[0].cores
            mine = cores[: options.threads] if options.threads else []
            environment = {**self._environment, **threads(len(mine or cores)), **devices(cell)}
            log = self.folder / self._log(cell)
            process = hosts[0].start(environment, mine, log)
            return LocalWorker(cell, options.timeout, process, log)
        port, members = free_port(self._address), []
        for i, host in enumerate(hosts):
            number, beside = seat(i, hosts)
            mine = cores_of(number, beside, host.cores, options.threads)
            local = sum(other.machine == host.machine for other in hosts[:i])
            ranked = rank_variables(i, cell.processes, self._address, port, local)
            each = threads_of(beside, host.cores, options.threads)
            environment = {**self._environment, **threads(each), **ranked}
            log = self.folder / self._log(cell, i)
            process = host.start(environment, mine, log)
            name = f"rank {i} of {cell.processes} of {cell.id}"
            members.append(LocalWorker(cell, options.timeout, process, log, name))
        return Gang(members)

    def stop(self, cell: Cell) -> None:
        worker = self._workers.pop(cell.id, None)
        if worker:
            worker.kill()

    def settle(self) -> None:
        clock.settle([pid for worker in self._workers.values() for pid in worker.pids])

    def say(self, text: str) -> None:
        self._listener.said(None, text)

    def _log(self, cell: Cell, process: int = 0) -> str:
        return f"logs/{cell.id}.log" if process == 0 else f"logs/{cell.id}.{process}.log"

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
        facts = self._facts.get(cell.id, {})
        log = self._log(cell)
        kept = {"log": log} if (self.folder / log).exists() else {}
        machines = {"machines": self._machines.get(cell.id, 1)} if cell.processes > 1 else {}
        return Record(
            cell=cell,
            outcome=outcome,
            message=message,
            hint=hint,
            measurements=measurements or {},
            files={**(files or {}), **kept},
            environment={**facts.get("environment", {}), **machines},
            fairness=facts.get("fairness", {}),
            seconds=time.perf_counter() - self._begun[cell.id] if cell.id in self._begun else 0.0,
        )

    def failed(self, cell: Cell, error: CellFailed) -> Record:
        """The record of a cell that did not end ``ok``."""
        return self.record(cell, outcome=Outcome(error.outcome), message=error.what, hint=error.hint)


def make_scratch(folder: Path) -> Path:
    """A new folder for arrays between workers: in memory where there is room, else beside the run.

    Folders that a killed twinax left behind are removed first.
    """
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM
    base = memory if roomy else folder
    try:
        return own_folder(base, SCRATCH_PREFIX)
    except OSError as error:
        raise DiskFull(
            f"{base} cannot be written: {error.strerror}.", "Choose another folder with -o."
        ) from error
