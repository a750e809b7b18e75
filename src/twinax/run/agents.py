"""Worker processes on other machines, where a cluster's own starter began one twinax on each.

``torchrun``, Slurm or MPI start the same command several times. The first (rank 0) conducts the run; each of
the others becomes an *agent*: it connects to the first one, starts worker processes when it is told to, and
ends them. A worker inherits the connection on which the conductor speaks to it, so that a worker far away is
spoken to like one at home; whoever dies closes its connections, and the rest follows from that.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from twinax.errors import BadInput, TwinaxError
from twinax.records import Json
from twinax.run.process import Process, end, machine_id, spawn, usable_cores

MEETING_S = 120.0
"""Seconds that the conductor and its agents wait for each other."""
REPLY_S = 30.0
NEXT = 1
"""The conductor listens at the starter's port plus this: the starter itself holds its own."""


class NoMeeting(BadInput):
    """The processes that a cluster's starter began did not find each other."""


@dataclass(frozen=True)
class Place:
    """Which of the processes that a cluster's starter began this one is.

    Attributes:
        rank: Its number, from 0.
        world: How many there are.
        address: Where rank 0 can be met.
        port: At which port.
        starter: Who started it, in words.
    """

    rank: int
    world: int
    address: str
    port: int
    starter: str


STARTERS = {
    "torchrun": ("RANK", "WORLD_SIZE"),
    "Open MPI": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    "MPICH": ("PMI_RANK", "PMI_SIZE"),
    "Slurm": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
}
"""The variables of rank and size that each starter sets; the first that are there hold.

Slurm's come last: inside a job, ranks that another starter began inherit those of its own daemons.
"""


def place(environment: Mapping[str, str]) -> Place | None:
    """This process's place, from a starter's variables; None where it was started alone.

    ``MASTER_ADDR`` and ``MASTER_PORT`` say where rank 0 is met. torchrun sets them; under Slurm the
    launching node's address and a port made from the job's number stand in for them.

    Raises:
        NoMeeting: The variables contradict each other, or do not say where rank 0 is.
    """
    found = [s for s, names in STARTERS.items() if all(name in environment for name in names)]
    if not found:
        return None
    starter = found[0]
    rank, world = STARTERS[starter]
    try:
        mine, size = int(environment[rank]), int(environment[world])
        address = environment.get("MASTER_ADDR") or environment.get("SLURM_LAUNCH_NODE_IPADDR", "")
        job = environment.get("SLURM_JOB_ID", "")
        port = int(environment.get("MASTER_PORT") or (20000 + int(job) % 20000 if job else 0))
    except ValueError as error:
        raise NoMeeting(f"{starter}'s variables cannot be read: {error}.", f"See {rank}, {world}.") from None
    if size == 1:
        return None
    if not 0 <= mine < size or not address or not 0 < port < 65535:
        raise NoMeeting(
            f"{starter} says rank {mine} of {size}, meeting at {address or 'no address'}:{port}.",
            "Set MASTER_ADDR and MASTER_PORT to rank 0's address and a free port, the same for every rank.",
        )
    return Place(mine, size, address, port, starter)


class AgentProcess:
    """A worker's process on an agent's machine."""

    def __init__(self, agent: Agent, number: int, connection: socket.socket) -> None:
        self.pid: int | None = None  # its number says nothing on this machine
        self._agent, self._number, self._connection = agent, number, connection
        self.answers = self.orders = connection.fileno()

    def wait(self) -> int:
        return self._agent.ask("wait", self._number)

    def kill(self) -> None:
        if self.answers == -1:
            return
        with contextlib.suppress(TwinaxError):  # an agent that is gone took its workers with it
            self._agent.ask("kill", self._number)
        self._connection.close()
        self.answers = self.orders = -1


class Agent:
    """One agent, seen from the conductor: a host on which workers are started."""

    def __init__(self, rank: int, control: socket.socket, listener: socket.socket) -> None:
        self.rank, self._listener = rank, listener
        self._control, self._lines = control, control.makefile("rw")
        self._count = 0
        here = self._order("describe")
        self.machine, self.cores = here["machine"], here["cores"]

    def start(self, environment: Mapping[str, str], cores: Sequence[int], log: Path) -> Process:
        self._count += 1
        token = secrets.token_hex(16)
        self.ask(
            "start",
            self._count,
            token=token,
            environment=dict(environment),
            cores=list(cores),
            log=str(log),
        )
        return AgentProcess(self, self._count, _accept(self._listener, token, time.monotonic() + REPLY_S))

    def ask(self, what: str, number: int, **more: object) -> int:
        """Order something of one of the agent's workers, and wait until it is done."""
        return self._order(what, worker=number, **more)["code"]

    def _order(self, what: str, **more: object) -> dict[str, Json]:
        try:
            self._control.settimeout(REPLY_S)
            self._lines.write(json.dumps({"do": what, **more}) + "\n")
            self._lines.flush()
            return {"code": 0, **json.loads(self._lines.readline())}
        except (OSError, ValueError, TypeError) as error:
            raise NoMeeting(
                f"The agent of rank {self.rank} is gone: {type(error).__name__}: {error}.",
                "See what that rank printed, and start the job again; --resume runs only what is missing.",
            ) from error

    def dismiss(self) -> None:
        """Let the agent end."""
        self._control.close()
        self._lines.close()


@contextlib.contextmanager
def gathered(where: Place) -> Iterator[list[Agent]]:
    """The agents of all other ranks, in their order; they end with the block.

    Raises:
        NoMeeting: One of them did not come in time.
    """
    listener = socket.create_server(("", where.port + NEXT), backlog=where.world)
    agents: dict[int, Agent] = {}
    deadline = time.monotonic() + MEETING_S
    try:
        while len(agents) < where.world - 1:
            missing = sorted(set(range(1, where.world)) - set(agents))
            control, said = _next(listener, deadline, f"rank {', '.join(map(str, missing))}")
            if said.startswith("agent ") and said[6:].isdigit() and int(said[6:]) in missing:
                agents[int(said[6:])] = Agent(int(said[6:]), control, listener)
            else:
                control.close()
        yield [agents[rank] for rank in sorted(agents)]
    finally:
        for agent in agents.values():
            agent.dismiss()
        listener.close()


def _accept(listener: socket.socket, token: str, deadline: float) -> socket.socket:
    """The connection that brings the token; strangers are turned away."""
    while True:
        connection, said = _next(listener, deadline, "a worker that was started")
        if secrets.compare_digest(said, token):
            return connection
        connection.close()


def _next(listener: socket.socket, deadline: float, awaited: str) -> tuple[socket.socket, str]:
    """The next connection and the first line that came over it; what comes after it stays in the pipe."""
    try:
        listener.settimeout(max(deadline - time.monotonic(), 0.01))
        connection, _ = listener.accept()
        connection.settimeout(REPLY_S)
        said = b""
        while not said.endswith(b"\n") and len(said) < 100:
            byte = connection.recv(1)
            if not byte:
                break
            said += byte
        connection.settimeout(None)
    except TimeoutError as error:
        port = listener.getsockname()[1]
        raise NoMeeting(
            f"Nothing came from {awaited} at port {port} in time.",
            f"Check that every rank runs the same command and can reach port {port} of rank 0.",
        ) from error
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return connection, said.decode(errors="replace").strip()


def serve(where: Place) -> None:
    """Be an agent until the conductor lets go: start, await and end workers as it orders.

    Raises:
        NoMeeting: The conductor cannot be reached.
    """
    control = _connect(where, f"agent {where.rank}", MEETING_S)
    workers: dict[int, subprocess.Popen[bytes]] = {}
    try:
        with control.makefile("rw") as lines:
            for line in lines:
                answer = _obey(json.loads(line), workers, where)
                lines.write(json.dumps(answer) + "\n")
                lines.flush()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the conductor died: what it had started ends here too
    finally:
        for process in workers.values():
            end(process)


def _obey(
    order: Mapping[str, object], workers: dict[int, subprocess.Popen[bytes]], where: Place
) -> dict[str, Json]:
    if order["do"] == "describe":
        return {"machine": machine_id(), "cores": usable_cores()}
    number = int(str(order["worker"]))
    if order["do"] == "start":
        connection = _connect(where, str(order["token"]), REPLY_S)
        log = Path(str(order["log"]))
        if not os.access(log.parents[1], os.W_OK):  # the run's folder is on the conductor's disk alone
            log = Path(tempfile.gettempdir()) / log.name
        pipe = connection.fileno()
        workers[number] = spawn(pipe, pipe, order["environment"], order["cores"], log)  # type: ignore[arg-type]
        connection.close()
        return {}
    if order["do"] == "kill":
        end(workers[number])
        return {}
    return {"code": workers[number].wait(timeout=REPLY_S)}


def _connect(where: Place, first_line: str, patience_s: float) -> socket.socket:
    """A connection to the conductor, which may not listen yet."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            connection = socket.create_connection((where.address, where.port + NEXT), timeout=REPLY_S)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise NoMeeting(
                    f"Rank {where.rank} cannot reach rank 0 at {where.address}:{where.port + NEXT}: {error}.",
                    "Check that rank 0 runs the same command, and that this port is open.",
                ) from error
            time.sleep(0.2)
    connection.settimeout(None)
    connection.sendall(f"{first_line}\n".encode())
    return connection
