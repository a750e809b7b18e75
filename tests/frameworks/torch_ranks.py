"""Real processes, one per rank, that wait for work: starting them once is most of what a test would take."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

from twinax.errors import CellFailed
from twinax.frameworks.parallel import Membership


class Ranks:
    """A number of processes; a job runs on the first few of them, as one group."""

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        for _ in range(count):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there,), daemon=True)
            process.start()
            there.close()  # so that the end of the process is seen here
            self.pipes.append(here)
            self.processes.append(process)

    def run(self, job: Callable[..., Any], ranks: int, *arguments: Any, timeout: float = 30.0) -> list[Any]:
        """``job(membership, *arguments)`` on each rank; what each returned.

        Raises:
            CellFailed: A rank raised it.
            RuntimeError: A rank raised anything else; with its traceback.
        """
        address = f"127.0.0.1:{_free_port()}"
        for rank, pipe in enumerate(self.pipes[:ranks]):
            pipe.send((job, Membership(rank, ranks, address, timeout), arguments))
        answers = [pipe.recv() for pipe in self.pipes[:ranks]]
        for failed, _ in answers:
            if isinstance(failed, tuple):
                raise CellFailed(*failed)
        if told := [failed for failed, _ in answers if failed]:
            raise RuntimeError("\n".join(told))
        return [result for _, result in answers]

    def stop(self) -> None:
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            pipe.send(None)
            process.join(10)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _serve(pipe: Any) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    while (work := pipe.recv()) is not None:
        job, membership, arguments = work
        os.environ.update(RANK=str(membership.process), WORLD_SIZE=str(membership.processes))
        host, port = membership.address.split(":")
        os.environ.update(MASTER_ADDR=host, MASTER_PORT=port)
        try:
            pipe.send(("", job(membership, *arguments)))
        except CellFailed as error:
            pipe.send(((error.outcome, error.what, error.hint), None))
        except Exception:
            pipe.send((traceback.format_exc(), None))
        if dist.is_initialized():  # a job that failed did not leave
            dist.destroy_process_group()
