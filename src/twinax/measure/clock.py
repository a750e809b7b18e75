"""The clock: samples with the share of the CPU that others used meanwhile, and waiting for silence."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

DISTURBED = 0.05  # share of all cores that others may use before a sample counts as disturbed
POLL = 0.012  # seconds; the kernel brings a running thread's CPU time up to date every 10 ms at most
PATIENCE = 0.25  # seconds to wait for silence at most


@dataclass(frozen=True)
class Block:
    """Consecutive samples, in seconds, and the share of all cores that others used during them."""

    samples: list[float]
    foreign_cpu: float

    @property
    def disturbed(self) -> bool:
        """Whether the samples are worth little."""
        return self.foreign_cpu > DISTURBED


def measure(call: Callable[[int], None], samples: int, calls: int, start: int) -> Block:
    """Time ``call(start)``, ``call(start + 1)``, …; each returns when all of its work is finished.

    A sample is the mean of ``calls`` calls in a row (several, where one is too short for the clock). The
    kernel accounts CPU time in ticks of 10 ms, so the foreign share is of the whole block, which should
    last a tenth of a second or more.
    """
    times = []
    busy, own, begin = _busy_seconds(), time.process_time(), time.perf_counter()
    for first in range(start, start + samples * calls, calls):
        before = time.perf_counter()
        for i in range(first, first + calls):
            call(i)
        times.append((time.perf_counter() - before) / calls)
    wall = time.perf_counter() - begin
    foreign = (_busy_seconds() - busy) - (time.process_time() - own)
    tick = 0.02  # two counters, each rounded to a tick
    return Block(times, max(foreign - tick, 0.0) / (wall * (psutil.cpu_count() or 1)))


def steady(call: Callable[[int], None], least: int = 3, most: int = 50, moment_s: float = 0.3) -> list[float]:
    """Seconds of ``call(0)``, ``call(1)``, …: as many as fit into a moment, within these bounds."""
    samples: list[float] = []
    deadline = time.perf_counter() + moment_s
    while len(samples) < least or (len(samples) < most and time.perf_counter() < deadline):
        begin = time.perf_counter()
        call(len(samples))
        samples.append(time.perf_counter() - begin)
    return samples


@dataclass
class Watch:
    """The share of all cores that others than the watched processes (and this one) used; filled at the end."""

    foreign_cpu: float = 0.0


@contextlib.contextmanager
def watching(pids: Iterable[int]) -> Iterator[Watch]:
    """Watch the machine while some processes work."""
    watched = [*pids, os.getpid()]
    watch, begin = Watch(), time.perf_counter()
    busy, own = _busy_seconds(), sum(map(_thread_nanoseconds, watched)) / 1e9
    yield watch
    wall = time.perf_counter() - begin
    mine = sum(map(_thread_nanoseconds, watched)) / 1e9 - own
    foreign = _busy_seconds() - busy - mine - 0.02 * len(watched)  # every counter is rounded to a tick
    watch.foreign_cpu = max(foreign, 0.0) / (wall * (psutil.cpu_count() or 1))


def _busy_seconds() -> float:
    """CPU seconds that this machine spent on anything, time stolen by its host included."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)


def settle(pids: Iterable[int]) -> None:
    """Wait until these processes use no CPU any more, or patience runs out."""
    watched = list(pids)
    deadline = time.monotonic() + PATIENCE
    before = [_thread_nanoseconds(pid) for pid in watched]
    while time.monotonic() < deadline:
        time.sleep(POLL)
        now = [_thread_nanoseconds(pid) for pid in watched]
        if now == before:
            return
        before = now


def _thread_nanoseconds(pid: int) -> int:
    """CPU time of all threads of a process, where the kernel tells it (Linux); else 0."""
    total = 0
    with contextlib.suppress(OSError, ValueError, IndexError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total
