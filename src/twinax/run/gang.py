"""The worker processes of one cell whose ranks compute together: to a study they are one worker.

Ranks wait for each other inside collectives, so the death or silence of one stops them all: whichever
of them is found out, all are ended, and the cell's outcome names the rank that was the cause.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Mapping, Sequence

from twinax.errors import CellFailed, TwinaxError
from twinax.records import Cell, Json
from twinax.run.process import PATIENCE, Host, LocalWorker

GRACE_S = 2.0
"""Seconds in which the true cause may show itself once a rank has complained of another."""
COLLECTIVE_S = 120.0
"""Seconds that a collective may take; the engines raise then (or ``--timeout``, where that is shorter)."""
LATE = ("timed out", "timeout", "deadline")
"""What an engine says when another rank did not come."""
LOST = "connection closed by peer"
"""What gloo says in every rank but the one that has gone."""
WAYS = (
    "Do all ranks call the same layers, whatever their data? Ranks that take different ways lose each other; "
    "the logs of all ranks hold their tracebacks."
)


class Gang:
    """One worker per process of a cell.

    ``receive`` gives process 0's answer, with those of the others, in order, under ``others``.
    """

    def __init__(self, members: Sequence[LocalWorker]) -> None:
        self.members = members
        self.cell: Cell = members[0].cell
        self.ready: dict[str, Json] = {}

    @property
    def pids(self) -> list[int]:
        """The processes that are on this machine."""
        return [pid for member in self.members for pid in member.pids]

    def post(self, **message: Json) -> None:
        """Write one message to every process."""
        for member in self.members:
            member.post(**message)

    def send(self, verb: str, **arguments: Json) -> None:
        self.post(verb=verb, arguments=arguments)

    def call(self, verb: str, timeout: float | None = None, **arguments: Json) -> dict[str, Json]:
        self.send(verb, **arguments)
        return self.receive(timeout)

    def receive(self, timeout: float | None = None) -> dict[str, Json]:
        limit = timeout or self.members[0].timeout
        answers: dict[int, dict[str, Json]] = {}
        try:
            self._collect(answers, time.monotonic() + limit)
        except TwinaxError as error:
            cause = self._cause(error, answers)
            self.kill()
            raise cause from error
        silent = self._without(answers)
        if silent:
            self.kill()
            raise self.members[silent[0]].failure(
                "timed_out", f"{self._named(silent)} gave no answer within {limit:.0f} s.", PATIENCE
            )
        return {**answers[0], "others": [answers[i] for i in range(1, len(self.members))]}

    def _collect(self, answers: dict[int, dict[str, Json]], deadline: float) -> None:
        """Answers by process, until all are there or time is up."""
        while open_ones := self._without(answers):
            for i in list(open_ones):
                reply = self.members[i].take()
                if reply is not None:
                    answers[i] = reply
                    open_ones.remove(i)
            if not open_ones:
                return
            by_pipe = {self.members[i].process.answers: i for i in open_ones}
            ready, _, _ = select.select(list(by_pipe), [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                return
            for pipe in ready:
                self.members[by_pipe[pipe]].read()

    def _cause(self, first: TwinaxError, answers: dict[int, dict[str, Json]]) -> TwinaxError:
        """What really happened: a rank that died is the cause of what the others complain of."""
        if not isinstance(first, CellFailed) or self._died(first):
            return first
        deadline = time.monotonic() + GRACE_S
        while time.monotonic() < deadline:
            try:
                self._collect(answers, deadline)
                break
            except CellFailed as error:
                if self._died(error):
                    return error
        if any(sign in first.what.lower() for sign in LATE):
            silent = [i for i in self._without(answers) if not self.members[i].complained]
            who = self._named(silent) if silent else f"A rank of {self.cell.id}"
            return CellFailed(
                "timed_out", f"{who} did not take part in time: {first.what}", PATIENCE, self.cell
            )
        if LOST in first.what.lower():
            return CellFailed(first.outcome, first.what, WAYS, self.cell)
        return first

    @staticmethod
    def _died(error: CellFailed) -> bool:
        return " died: " in error.what or error.outcome == "out_of_memory"

    def _without(self, answers: Mapping[int, object]) -> list[int]:
        return [i for i, member in enumerate(self.members) if i not in answers and not member.complained]

    def _named(self, processes: Sequence[int]) -> str:
        return " and ".join(self.members[i].name for i in processes)

    def kill(self) -> None:
        """End every process and everything it started."""
        for member in self.members:
            member.kill()


def rank_variables(process: int, processes: int, address: str, port: int, local: int) -> dict[str, str]:
    """The variables that ``torchrun`` sets, which every rank reads; ``local`` is its number on its machine."""
    return {
        "RANK": str(process),
        "LOCAL_RANK": str(local),
        "WORLD_SIZE": str(processes),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
    }


def free_port(address: str) -> int:
    """A port of this machine that nobody listens on now."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def seat(process: int, hosts: Sequence[Host]) -> tuple[int, int]:
    """A process's number among those that share its cores, and their number; ``hosts``: of each process."""
    mine = hosts[process]
    beside = [i for i, h in enumerate(hosts) if (h.machine, h.cores) == (mine.machine, mine.cores)]
    return beside.index(process), len(beside)


def cores_of(process: int, processes: int, cores: Sequence[int], threads: int | None) -> list[int]:
    """The cores of one process: a share of its own where it has two or more, else all ranks share theirs.

    A rank on a single core makes no use of it while it talks: gloo's thread waits until what computes, and
    waits for it, has had its slice of the core. A collective of 2 KiB took 4 ms so, and 0.4 ms on shared cores.
    """
    each = threads_of(processes, cores, threads)
    if each == 1 or each * processes > len(cores):
        return list(cores[: each * processes])
    return list(cores[process * each : (process + 1) * each])


def threads_of(processes: int, cores: Sequence[int], threads: int | None) -> int:
    """Threads that each process computes with: no more than there are cores."""
    return min(threads or max(len(cores) // processes, 1), len(cores))
