"""Where JAX runs in tests: real processes of one device each, or one process with several devices.

How many devices a process has, and its group, are fixed when JAX starts. So both wait for work: starting them
and importing JAX is most of what a test would take.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

from twinax.errors import CellFailed
from twinax.frameworks.parallel import Membership

QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
"""Most of the time would go into compiling; where XLA puts collectives does not depend on it."""


class Ranks:
    """Processes that are one group for as long as they live."""

    def __init__(self, processes: int, devices: int = 1) -> None:
        """``devices``: of each process."""
        context = multiprocessing.get_context("spawn")
        address = f"127.0.0.1:{_free_port()}"
        self.pipes, self.processes = [], []
        for process in range(processes):
            here, there = context.Pipe()
            membership = Membership(process, processes, address, 60.0)
            child = context.Process(target=_serve, args=(there, membership, devices), daemon=True)
            child.start()
            there.close()  # so that the end of the process is seen here
            self.pipes.append(here)
            self.processes.append(child)

    def run(self, job: Callable[..., Any], *arguments: Any) -> list[Any]:
        """``job(membership, *arguments)`` in every process; what each returned.

        Raises:
            CellFailed: A process raised it.
            RuntimeError: A process raised anything else; with its traceback.
        """
        for pipe in self.pipes:
            pipe.send((job, arguments))
        answers = [pipe.recv() for pipe in self.pipes]
        for failed, _ in answers:
            if isinstance(failed, tuple):
                raise CellFailed(*failed)
        if told := [failed for failed, _ in answers if failed]:
            raise RuntimeError("\n".join(told))
        return [result for _, result in answers]

    def stop(self) -> None:
        for pipe in self.pipes:  # all at once: the processes leave their group together
            pipe.send(None)
        for process in self.processes:
            process.join(20)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _serve(pipe: Any, membership: Membership, devices: int) -> None:
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices} {QUICK}"
    while (work := pipe.recv()) is not None:
        job, arguments = work
        try:
            pipe.send(("", job(membership, *arguments)))
        except CellFailed as error:
            pipe.send(((error.outcome, error.what, error.hint), None))
        except Exception:
            pipe.send((traceback.format_exc(), None))
