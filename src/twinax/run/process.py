"""One worker process, seen from the parent: started, spoken to, and never left behind.

Death and silence are turned into named outcomes here.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from twinax.errors import BadInput, CellFailed, DiskFull, TwinaxError, by_name
from twinax.records import Cell, Json, Options


class Process(Protocol):
    """A worker's process, on this machine or another.

    Attributes:
        pid: Its number where it runs on this machine; else None.
        answers: File descriptor to read its answers from.
        orders: File descriptor to write its orders to.
    """

    pid: int | None
    answers: int
    orders: int

    def wait(self) -> int:
        """The exit code of a process that has ended; negative for a signal."""
        ...

    def kill(self) -> None:
        """End the process and everything it started."""


class Host(Protocol):
    """Where worker processes can be started.

    Attributes:
        machine: Which machine it is: several hosts may be on one, where a starter began several ranks there.
        cores: Numbers of the cores that it may use.
    """

    machine: str
    cores: Sequence[int]

    def start(self, environment: Mapping[str, str], cores: Sequence[int], log: Path) -> Process:
        """Start ``python -m twinax.run.worker``.

        Args:
            environment: What is set beside the host's own environment.
            cores: Numbers of the cores that it may use; empty for all.
            log: Where its standard output and error go; appended to.
        """
        ...


class LocalProcess:
    """A worker's process on this machine, spoken to through two pipes."""

    def __init__(self, environment: Mapping[str, str], cores: Sequence[int], log: Path) -> None:
        inbox, self.orders = os.pipe()
        self.answers, outbox = os.pipe()
        self._process = spawn(inbox, outbox, environment, cores, log)
        self.pid: int | None = self._process.pid
        os.close(inbox)
        os.close(outbox)

    def wait(self) -> int:
        return self._process.wait()

    def kill(self) -> None:
        end(self._process)
        for descriptor in {self.answers, self.orders} - {-1}:
            os.close(descriptor)
        self.answers = self.orders = -1


def spawn(
    inbox: int, outbox: int, environment: Mapping[str, str], cores: Sequence[int], log: Path
) -> subprocess.Popen[bytes]:
    """Start a worker that reads from one file descriptor and answers on another."""
    log.parent.mkdir(parents=True, exist_ok=True)
    pinned = cores and hasattr(os, "sched_setaffinity")
    with log.open("ab") as sink:
        return subprocess.Popen(
            [sys.executable, "-m", "twinax.run.worker", str(inbox), str(outbox)],
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            pass_fds={inbox, outbox},
            env={**os.environ, **environment},
            preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if pinned else None,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that :func:`spawn` started, and everything it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class ThisMachine:
    """The host that is always there."""

    def __init__(self) -> None:
        self.machine = machine_id()
        self.cores: Sequence[int] = usable_cores()

    def start(self, environment: Mapping[str, str], cores: Sequence[int], log: Path) -> Process:
        return LocalProcess(environment, cores, log)


class LocalWorker:
    """One worker process, seen from the parent: messages out, answers in, death and silence named."""

    def __init__(self, cell: Cell, timeout: float, process: Process, log: Path, name: str = "") -> None:
        self.cell, self.timeout, self.process, self.log = cell, timeout, process, log
        self.name = name or cell.id
        self.ready: dict[str, Json] = {}
        self.complained = False  # whether it has died, or answered with an error
        self._ooms = _oom_kills()
        self._buffer = b""

    def post(self, **message: Json) -> None:
        """Write one message; a worker that is already dead is found out by ``receive``."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            data = (json.dumps(message) + "\n").encode()
            while data:
                data = data[os.write(self.process.orders, data) :]

    def send(self, verb: str, **arguments: Json) -> None:
        self.post(verb=verb, arguments=arguments)

    def call(self, verb: str, timeout: float | None = None, **arguments: Json) -> dict[str, Json]:
        self.send(verb, **arguments)
        return self.receive(timeout)

    def receive(self, timeout: float | None = None) -> dict[str, Json]:
        limit = timeout or self.timeout
        deadline = time.monotonic() + limit
        while (reply := self.take()) is None:
            wait = max(deadline - time.monotonic(), 0)
            if not select.select([self.process.answers], [], [], wait)[0]:
                self.kill()
                raise self.failure("timed_out", f"{self.name} gave no answer within {limit:.0f} s.", PATIENCE)
            self.read()
        return reply

    def read(self) -> None:
        """Take in what lies in the pipe; waits where nothing does.

        Raises:
            CellFailed: The worker is dead.
        """
        try:
            chunk = os.read(self.process.answers, 1 << 16)
        except ConnectionResetError:
            chunk = b""
        if not chunk:
            raise self._death()
        self._buffer += chunk

    def take(self) -> dict[str, Json] | None:
        """The oldest answer that has come in whole, or None.

        Raises:
            CellFailed: The worker answered with an error.
        """
        if b"\n" not in self._buffer:
            return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        reply = json.loads(line)
        if "error" in reply:
            raise self._reported(reply["error"])
        return reply["ok"]

    def _reported(self, error: dict[str, Json]) -> TwinaxError:
        self.complained = True
        kind = by_name(error["type"])
        if issubclass(kind, BadInput | DiskFull):
            return kind(error["what"], error["hint"])
        return self.failure(error.get("outcome", "crashed"), error["what"], error["hint"])

    @property
    def pids(self) -> list[int]:
        """Its process, if it is on this machine."""
        return [] if self.process.pid is None else [self.process.pid]

    def _death(self) -> CellFailed:
        self.complained = True
        code = self.process.wait()
        self.kill()
        if _oom_kills() > self._ooms:
            return self.failure(
                "out_of_memory",
                f"{self.name} was killed by the system because memory ran out.",
                "Use a smaller --batch, or free memory.",
            )
        how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
        return self.failure("crashed", f"{self.name} died: {how}.{self._last_words()}", f"Log: {self.log}")

    def _last_words(self) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        lines = [line for line in text.splitlines() if line.strip()]
        return f" It last printed: {lines[-1][:300]}" if lines else ""

    def failure(self, outcome: str, what: str, hint: str) -> CellFailed:
        """The cell's end, by name."""
        return CellFailed(outcome, what, hint, self.cell)

    def kill(self) -> None:
        """End the process and everything it started."""
        self.process.kill()


PATIENCE = "Raise --timeout, or choose a smaller --batch."

UNTIMED = {
    "OMP_WAIT_POLICY": "passive",  # threads that spin while they wait take the cores from other workers
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),  # glibc then gives a freed array's memory back at once
}


def worker_environment(options: Options, caches: Path, timed: bool) -> dict[str, str]:
    """What is set for every worker: device, and where compile caches lie."""
    return {
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


def threads(count: int) -> dict[str, str]:
    """How many threads PyTorch and JAX take (XLA's pools read NPROC, and have no other setting)."""
    return {"OMP_NUM_THREADS": str(count), "MKL_NUM_THREADS": str(count), "NPROC": str(count)}


def devices(cell: Cell) -> dict[str, str]:
    """Several devices in one JAX process: on a CPU they have to be asked for."""
    if cell.ranks == 1 or cell.device != "cpu":
        return {}
    flags = os.environ.get("XLA_FLAGS", "")
    return {"XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={cell.ranks}".strip()}


def machine_id() -> str:
    """The same for every process of a machine, in whatever container: its kernel's; else its name."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return platform.node()


def usable_cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    return sorted(psutil.Process().cpu_affinity())


def _oom_kills() -> int:
    """How often the kernel killed for memory, in this control group and at all, where that can be read."""
    kills = 0
    for counters in ("/sys/fs/cgroup/memory.events", "/proc/vmstat"):
        with contextlib.suppress(OSError, ValueError):
            for line in Path(counters).read_text().splitlines():
                if line.startswith("oom_kill "):
                    kills += int(line.split()[1])
    return kills
