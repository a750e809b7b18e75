"""One worker process, seen from the parent: started, spoken to, and never left behind.

Death and silence are turned into named outcomes here.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from twinax.errors import BadInput, CellFailed, DiskFull, TwinaxError, by_name
from twinax.records import Cell, Json, Options


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


def _oom_kills() -> int:
    """How often the kernel killed for memory, in this control group and at all, where that can be read."""
    kills = 0
    for counters in ("/sys/fs/cgroup/memory.events", "/proc/vmstat"):
        with contextlib.suppress(OSError, ValueError):
            for line in Path(counters).read_text().splitlines():
                if line.startswith("oom_kill "):
                    kills += int(line.split()[1])
    return kills
