"""Groups on the machines of a Ray cluster: for sweeps of many cells.

Each group is one Ray task that has a machine to itself and runs it there with the ordinary
:class:`~twinax.run.launch.LocalLauncher`; records and files come back when the group has ended. A group
whose machine dies is run again elsewhere; its records are taken once, and only when all of them are there.

Ray carries text and bytes alone: the group as JSON, the weights as the bytes of their file.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinax.errors import BadInput, FrameworkMissing, by_name
from twinax.measure import host
from twinax.records import Cell, Json, Options, Outcome, Record, TwinInfo, write_atomically
from twinax.run.launch import Listener
from twinax.run.ray_task import Mailbox, fingerprint, run_group
from twinax.sources import is_file
from twinax.studies.base import Group

TRIES = 3
"""Machines (or Ray's processes on them) that may die under a group before it ends ``crashed``."""
POLL_S = 1.0
REACH_S = 10.0
"""Seconds for a first connection; Ray itself would try for minutes."""
STRANDED_S = 60.0
"""Seconds without any machine that is large enough, after which a group ends: a cluster may grow again."""
CANCEL_S = 10.0
"""Seconds in which a cancelled group ends its workers and removes its folders; then its process is killed."""
STORE = 256 << 20
"""Bytes of memory for Ray's objects in a cluster that is started here; larger ones go to disk."""
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}


@dataclass
class Job:
    """One group on its way: what it asks of a machine, and what became of its tries."""

    group: Group
    ref: Any = None
    cores: float = 0.0
    gpus: int = 0
    deaths: list[str] = field(default_factory=list)
    outcome: Outcome = Outcome.CRASHED
    stranded_since: float | None = None


class RayLauncher:
    """Groups at the same time on several machines, one group per machine.

    Args:
        info: The twin.
        options: What the user chose.
        folder: The run's folder, on this machine.
        weights: The file of the weights in it; empty for initial ones.
        listener: Hears what happens.
        address: ``host:port`` of the cluster; ``auto`` for the one that runs on this machine; ``local`` to
            start one here that only this machine can reach. None takes ``RAY_ADDRESS``; where that is not
            set either, ``auto`` if there is one, else ``local``.

    Raises:
        FrameworkMissing: Ray is not installed.
        BadInput: The cluster cannot be reached.
    """

    def __init__(
        self,
        info: TwinInfo,
        options: Options,
        folder: Path,
        weights: str,
        listener: Listener,
        *,
        address: str | None = None,
    ) -> None:
        self.info, self.folder, self.listener = info, folder, listener
        weighted = str(Path(options.weights).resolve()) if options.weights else ""
        self.options = options.model_copy(update={"weights": weighted})  # a task's folder is another one
        self._ray, self._connected = connect(address)
        self._jobs: dict[Any, Job] = {}
        self._weights = self._ray.put(Path(weights).read_bytes()) if weights else None
        given = [name for name in (info.name if is_file(info.name) else "", weighted) if name]
        self._same = {name: fingerprint(Path(name)) for name in given}
        self._mailbox = self._near(self._ray.remote(Mailbox)).remote()

    def launch(self, groups: Iterable[Group]) -> Iterator[Record]:
        """Records as groups end, in any order; all of a group's at once, after its files."""
        try:
            for group in groups:
                self._submit(Job(group))
            while self._jobs:
                done, _ = self._ray.wait(list(self._jobs), timeout=POLL_S)
                self._hear()
                for ref in done:
                    yield from self._ended(self._jobs.pop(ref))
                yield from self._stranded()
        finally:
            self._cancel()

    def close(self) -> None:
        """Stop what still runs, and leave the cluster; one that was started here ends."""
        self._cancel()
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(self._mailbox)
        if self._connected:
            self._ray.shutdown()

    # --- tasks -----------------------------------------------------------------------------------

    def _submit(self, job: Job) -> None:
        """Ask for a machine as large as the largest there is, so that no other group runs beside it."""
        cells = job.group.cells
        job.gpus = max(cell.ranks for cell in cells) if self.options.device == "cuda" else 0
        job.cores = self._largest(job.gpus) or job.cores  # where none is left, as before: one may come back
        if job.cores == 0:
            wanted = f"{job.gpus} GPUs" if job.gpus else "CPU cores"
            raise BadInput(
                f"No machine of the Ray cluster offers {wanted}.", "See `ray status`, and add a machine."
            )
        order: Json = {
            "group": {
                "study": job.group.study,
                "cells": [cell.model_dump() for cell in cells],
                "ended": sorted(job.group.ended),
            },
            "info": self.info.model_dump(),
            "options": self.options.model_dump(),
            "folder": str(self.folder),
            "version": importlib.metadata.version("twinax"),
            "same": self._same,
        }
        # twinax tries again itself: Ray would do so without end where memory runs out, and in silence
        task = self._ray.remote(run_group).options(
            num_cpus=job.cores, num_gpus=job.gpus, max_retries=0, scheduling_strategy="SPREAD"
        )
        job.ref = task.remote(json.dumps(order), self._weights, self._mailbox)
        self._jobs[job.ref] = job

    def _largest(self, gpus: int) -> float:
        """Cores of the largest machine that is alive and has that many GPUs; 0 where there is none."""
        alive = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return max((found.get("CPU", 0.0) for found in alive if found.get("GPU", 0.0) >= gpus), default=0.0)

    def _ended(self, job: Job) -> Iterator[Record]:
        """The records of a task that has ended; of one that died none, where it may try again."""
        errors = self._ray.exceptions
        try:
            reply, files = self._ray.get(job.ref)
        except errors.RayTaskError as error:
            last = str(error).strip().splitlines()[-1][:500]
            yield from self._given_up(job, f"Ray could not run it: {last}", Outcome.CRASHED)
            return
        except errors.RayError as error:
            job.deaths.append(f"{type(error).__name__}: {brief(error)}")
            memory = isinstance(error, errors.OutOfMemoryError)
            job.outcome = Outcome.OUT_OF_MEMORY if memory else Outcome.CRASHED
            told = f"{job.group.study}, try {len(job.deaths)} of {TRIES} ended: {job.deaths[-1]}"
            self.listener.said(None, told)
            if len(job.deaths) < TRIES:
                self._submit(job)
            else:
                what = f"What ran it on the cluster died {TRIES} times: {'; '.join(job.deaths)}"
                yield from self._given_up(job, what, job.outcome)
            return
        yield from self._accepted(json.loads(reply), files)

    def _accepted(self, reply: dict[str, Json], files: dict[str, bytes]) -> Iterator[Record]:
        """Write a group's files into the run, then give its records."""
        if "error" in reply:
            error = reply["error"]
            raise by_name(error["type"])(f"On {reply['machine']}: {error['what']}", error["hint"])
        for name, data in files.items():
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, data)
        for text in reply["records"]:
            yield Record.model_validate_json(text)

    def _given_up(self, job: Job, what: str, outcome: Outcome) -> Iterator[Record]:
        hint = "Run it without --launcher ray to see what its model does; --resume runs it again."
        for cell in job.group.missing:
            yield Record(cell=cell, outcome=outcome, message=what, hint=hint)

    def _stranded(self) -> Iterator[Record]:
        """Groups that wait for a machine as large as none is any more go to a smaller one, or end."""
        for job in list(self._jobs.values()):
            largest = self._largest(job.gpus)
            if largest >= job.cores:
                job.stranded_since = None
                continue
            job.stranded_since = job.stranded_since or time.monotonic()
            if time.monotonic() - job.stranded_since < STRANDED_S:
                continue
            del self._jobs[job.ref]
            self._ray.cancel(job.ref)
            if largest:
                self._submit(job)
            else:
                what = f"The cluster lost every machine that could run it, and none came in {STRANDED_S:.0f} s."
                yield from self._given_up(job, what, Outcome.CRASHED)

    def _cancel(self) -> None:
        """End every task that is not over, and wait until they have cleared up."""
        refs, self._jobs = list(self._jobs), {}
        for ref in refs:
            self._ray.cancel(ref)
        if refs:
            _, left = self._ray.wait(refs, num_returns=len(refs), timeout=CANCEL_S)
            for ref in left:
                self._ray.cancel(ref, force=True)

    # --- what tasks tell -------------------------------------------------------------------------

    def _near(self, actor: Any) -> Any:
        """The actor on this process's own machine, whose death is the run's anyway."""
        strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        here = self._ray.get_runtime_context().get_node_id()
        return actor.options(num_cpus=0, scheduling_strategy=strategy(here, soft=True))

    def _hear(self) -> None:
        """Pass on what the tasks have told since the last time."""
        going_on = {cell.id for job in self._jobs.values() for cell in job.group.cells}
        with contextlib.suppress(self._ray.exceptions.RayError):  # a run goes on without being watched
            for text in self._ray.get(self._mailbox.take.remote(), timeout=REACH_S):
                told = json.loads(text)
                cell = Cell.model_validate(told["cell"]) if told["cell"] else None
                if told["event"] == "said":
                    self.listener.said(cell, told["text"])
                elif cell and cell.id in going_on:  # a letter may come after its cell's end
                    self.listener.started(cell)


# --- the cluster ---------------------------------------------------------------------------------


def connect(address: str | None) -> tuple[Any, bool]:
    """Ray, connected; and whether this call connected it (and its end is ours).

    Raises:
        FrameworkMissing: Ray is not installed.
        BadInput: There is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # its reports of a death go to standard output
    try:
        import ray
        import ray.exceptions
        import ray.util.scheduling_strategies
    except ModuleNotFoundError as error:
        raise FrameworkMissing(
            "Ray is not installed here.", "Install it with: pip install 'twinax[ray]'"
        ) from error
    if ray.is_initialized():
        return ray, False
    asked = address or os.environ.get("RAY_ADDRESS") or ""
    if asked == "local":
        _start(ray)
        return ray, True
    if asked not in ("", "auto"):
        check_reachable(asked)
    try:
        ray.init(address=asked or "auto", **QUIET)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        if asked or not isinstance(error, ConnectionError):
            raise _unreachable(asked or "auto", brief(error)) from error
        _start(ray)
    return ray, True


def _start(ray: Any) -> None:
    """A cluster of this machine alone, which listens to this machine alone."""
    from ray._private import ray_constants

    cores = max(int(host.usable_cores()), 1)
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False  # Ray's own name for: bind to 127.0.0.1; no option says it
    try:
        ray.init(address="local", num_cpus=cores, object_store_memory=STORE, include_dashboard=False, **QUIET)
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def check_reachable(address: str) -> None:
    """Refuse an address where nobody answers.

    Raises:
        BadInput: It is no ``host:port``, or nothing listens there.
    """
    where, _, port = address.rpartition(":")
    if not where or not port.isdigit():
        raise _unreachable(address, "it is no host:port")
    try:
        socket.create_connection((where, int(port)), timeout=REACH_S).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(address, str(error)) from error


def _unreachable(address: str, why: str) -> BadInput:
    return BadInput(
        f"There is no Ray cluster at {address}: {why}.",
        "Start one with `ray start --head` and set RAY_ADDRESS to the address that it prints.",
    )


def brief(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())[:300] or "no message"
