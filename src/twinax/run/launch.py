"""Where cells run: processes on this machine.

The contract is small, so that another launcher (many machines) can take this one's place::

    launch(groups) -> records

A group's study conducts its workers; this module starts them, carries messages, turns death and
silence into named outcomes, and leaves no process behind.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import psutil

from twinax.errors import BadInput, CellFailed, DiskFull, TwinaxError, by_name
from twinax.measure import clock
from twinax.records import Cell, Json, Options, Outcome, Record, TwinInfo
from twinax.studies.base import STUDIES, Crew, Group, Study

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


def load_study(name: str) -> Study:
    """The study of that name."""
    module, _, attribute = STUDIES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)()


class LocalLauncher:
    """Groups one after the other, each cell in a process of this machine."""

    def __init__(
        self, info: TwinInfo, options: Options, folder: Path, weights: str, listener: Listener
    ) -> None:
        self.info, self.options, self.folder = info, options, folder
        self.weights, self.listener = weights, listener
        self.caches = make_scratch(folder)

    def launch(self, groups: Iterable[Group]) -> Iterator[Record]:
        for group in groups:
            study = load_study(group.study)
            with LocalCrew(study.verbs_module, self, timed=study.timed) as crew:
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

    def __init__(self, verbs: str, launcher: LocalLauncher, *, timed: bool = False) -> None:
        self.info, self.options, self.folder = launcher.info, launcher.options, launcher.folder
        self._verbs, self._weights, self._listener = verbs, launcher.weights, launcher.listener
        self._environment = worker_environment(launcher.options, launcher.caches, timed)
        self._workers: dict[str, LocalWorker] = {}
        self._begun: dict[str, float] = {}
        self._facts: dict[str, dict[str, Json]] = {}
        self._broken: dict[str, CellFailed] = {}  # cells whose worker could not be made ready, and why
        self.scratch = make_scratch(self.folder)

    def __enter__(self) -> LocalCrew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.kill()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def worker(self, cell: Cell, *, build: bool = True) -> LocalWorker:
        if cell.id in self._broken:
            raise self._broken[cell.id]
        self._ask(cell, build)
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
            self._ask(cell, build=True)
        for cell in cells:
            self.worker(cell)

    def _ask(self, cell: Cell, build: bool) -> None:
        """Start the cell's process, unless it is there, and tell it what it is for."""
        if cell.id in self._workers:
            return
        self._listener.started(cell)
        self._begun[cell.id] = time.perf_counter()
        worker = LocalWorker(cell, self.options, self.folder / self._log(cell), self._environment)
        self._workers[cell.id] = worker
        worker.post(
            cell=cell.model_dump(),
            options=self.options.model_dump(),
            verbs=self._verbs,
            weights=self._weights,
            build=build,
            scratch=str(self.scratch),
            folder=str(self.folder),
        )

    def stop(self, cell: Cell) -> None:
        worker = self._workers.pop(cell.id, None)
        if worker:
            worker.kill()

    def settle(self) -> None:
        clock.settle([worker.process.pid for worker in self._workers.values()])

    def say(self, text: str) -> None:
        self._listener.said(None, text)

    def _log(self, cell: Cell) -> str:
        return f"logs/{cell.id}.log"

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
        return Record(
            cell=cell,
            outcome=outcome,
            message=message,
            hint=hint,
            measurements=measurements or {},
            files={**(files or {}), **kept},
            environment=facts.get("environment", {}),
            fairness=facts.get("fairness", {}),
            seconds=time.perf_counter() - self._begun[cell.id] if cell.id in self._begun else 0.0,
        )

    def failed(self, cell: Cell, error: CellFailed) -> Record:
        """The record of a cell that did not end ``ok``."""
        return self.record(cell, outcome=Outcome(error.outcome), message=error.what, hint=error.hint)


class LocalWorker:
    """One worker process, seen from the parent: messages out, answers in, death and silence named."""

    def __init__(self, cell: Cell, options: Options, log: Path, environment: dict[str, str]) -> None:
        self.cell, self.options, self.log = cell, options, log
        self.ready: dict[str, Json] = {}
        self._ooms = _oom_kills()
        self._buffer = b""
        log.parent.mkdir(parents=True, exist_ok=True)
        inbox, self._out = os.pipe()
        self._in, outbox = os.pipe()
        with log.open("ab") as sink:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "twinax.run.worker", str(inbox), str(outbox)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                pass_fds=(inbox, outbox),
                env=environment,
                preexec_fn=_affinity(options.threads),
                start_new_session=True,
            )
        os.close(inbox)
        os.close(outbox)

    def post(self, **message: Json) -> None:
        """Write one message; a worker that is already dead is found out by ``receive``."""
        with contextlib.suppress(BrokenPipeError):
            data = (json.dumps(message) + "\n").encode()
            while data:
                data = data[os.write(self._out, data) :]

    def send(self, verb: str, **arguments: Json) -> None:
        self.post(verb=verb, arguments=arguments)

    def call(self, verb: str, timeout: float | None = None, **arguments: Json) -> dict[str, Json]:
        self.send(verb, **arguments)
        return self.receive(timeout)

    def receive(self, timeout: float | None = None) -> dict[str, Json]:
        limit = timeout or self.options.timeout
        deadline = time.monotonic() + limit
        while b"\n" not in self._buffer:
            readable, _, _ = select.select([self._in], [], [], max(deadline - time.monotonic(), 0))
            if not readable:
                self.kill()
                raise self._failure(
                    "timed_out",
                    f"{self.cell.id} gave no answer within {limit:.0f} s.",
                    "Raise --timeout, or choose a smaller --batch.",
                )
            chunk = os.read(self._in, 1 << 16)
            if not chunk:
                raise self._death()
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        reply = json.loads(line)
        if "error" in reply:
            raise self._reported(reply["error"])
        return reply["ok"]

    def _reported(self, error: dict[str, Json]) -> TwinaxError:
        kind = by_name(error["type"])
        if issubclass(kind, BadInput | DiskFull):
            return kind(error["what"], error["hint"])
        return self._failure(error.get("outcome", "crashed"), error["what"], error["hint"])

    def _death(self) -> CellFailed:
        code = self.process.wait()
        self.kill()
        if _oom_kills() > self._ooms:
            return self._failure(
                "out_of_memory",
                f"{self.cell.id} was killed by the system because memory ran out.",
                "Use a smaller --batch, or free memory.",
            )
        how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
        return self._failure("crashed", f"{self.cell.id} died: {how}.{self._last_words()}", f"Log: {self.log}")

    def _last_words(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return f" It last printed: {lines[-1][:300]}" if lines else ""

    def _failure(self, outcome: str, what: str, hint: str) -> CellFailed:
        return CellFailed(outcome, what, hint, self.cell)

    def kill(self) -> None:
        """End the process and everything it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for descriptor in (self._in, self._out):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._in = self._out = -1


UNTIMED = {
    "OMP_WAIT_POLICY": "passive",  # threads that spin while they wait take the cores from other workers
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),  # glibc then gives a freed array's memory back at once
}


def worker_environment(options: Options, caches: Path, timed: bool) -> dict[str, str]:
    """The worker's environment: threads, device, and where compile caches lie."""
    threads = str(options.threads or len(psutil.Process().cpu_affinity()))
    return {
        **os.environ,
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "JAX_PLATFORMS": options.device,
        "JAX_COMPILATION_CACHE_DIR": str(caches / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "TORCHINDUCTOR_CACHE_DIR": str(caches / "torch"),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONUNBUFFERED": "1",
        **({} if timed else UNTIMED),
    }


def _affinity(threads: int | None) -> Callable[[], None] | None:
    """XLA takes one thread per core it may run on, and has no other setting: so cores are what is given."""
    if threads is None or not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))[:threads]
    return lambda: os.sched_setaffinity(0, cores)


def make_scratch(folder: Path) -> Path:
    """A new folder for arrays between workers: in memory where there is room, else beside the run.

    Folders that a killed twinax left behind are removed first: their name holds its process id.
    """
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > ROOM
    base = memory if roomy else folder
    for left in base.glob(f"{SCRATCH_PREFIX}*"):
        owner = left.name.removeprefix(SCRATCH_PREFIX).split("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    try:
        return Path(tempfile.mkdtemp(prefix=f"{SCRATCH_PREFIX}{os.getpid()}-", dir=base))
    except OSError as error:
        raise DiskFull(
            f"{base} cannot be written: {error.strerror}.", "Choose another folder with -o."
        ) from error


def _oom_kills() -> int:
    """How often the kernel killed for memory, in this control group and at all, where that can be read."""
    kills = 0
    for counters in ("/sys/fs/cgroup/memory.events", "/proc/vmstat"):
        with contextlib.suppress(OSError, ValueError):
            for line in Path(counters).read_text().splitlines():
                if line.startswith("oom_kill "):
                    kills += int(line.split()[1])
    return kills
