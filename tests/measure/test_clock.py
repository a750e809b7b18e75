"""The clock: what is timed, who disturbed it, and waiting until others are silent."""

import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from twinax.measure import clock


def test_samples_are_means_of_consecutive_calls_on_new_data():
    seen = []
    block = clock.measure(lambda i: (seen.append(i), time.sleep(0.002)), samples=3, calls=4, start=8)
    assert seen == list(range(8, 20))  # different data every iteration
    assert len(block.samples) == 3
    assert all(0.002 <= sample < 0.1 for sample in block.samples)  # a mean per call, not a sum


def test_own_work_is_not_foreign(monkeypatch):
    """Two cores and an own process that fills one: the counters say 0.5 s busy, all of it ours."""
    busy, own = iter([100.0, 100.5]), iter([7.0, 7.5])
    monkeypatch.setattr(clock, "_busy_seconds", lambda: next(busy))
    monkeypatch.setattr(clock.time, "process_time", lambda: next(own))
    block = clock.measure(lambda i: time.sleep(0.01), samples=2, calls=1, start=0)
    assert block.foreign_cpu == 0.0 and not block.disturbed


def test_foreign_work_is_seen(monkeypatch):
    busy, own = iter([100.0, 100.5]), iter([7.0, 7.0])
    monkeypatch.setattr(clock, "_busy_seconds", lambda: next(busy))
    monkeypatch.setattr(clock.time, "process_time", lambda: next(own))
    block = clock.measure(lambda i: time.sleep(0.01), samples=2, calls=1, start=0)
    assert block.foreign_cpu > 1 and block.disturbed


def _spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads Linux's counters")
def test_a_process_that_really_spins_is_foreign():
    others = [
        multiprocessing.get_context("spawn").Process(target=_spin, args=(3.0,))
        for _ in range(os.cpu_count() or 1)
    ]
    for other in others:
        other.start()
    try:
        time.sleep(1.0)  # until they have started
        block = clock.measure(lambda i: time.sleep(0.2), samples=1, calls=1, start=0)
    finally:
        for other in others:
            other.kill()
            other.join()
    assert block.disturbed


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_settle_waits_for_a_busy_process_and_not_for_a_sleeping_one():
    busy = "import time\nprint('on', flush=True)\nend = time.time() + 0.1\nwhile time.time() < end: pass\n"
    worker = subprocess.Popen(
        [sys.executable, "-c", f"{busy}time.sleep(30)"], stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    worker.stdout.readline()
    try:
        begin = time.monotonic()
        clock.settle([worker.pid])
        waited = time.monotonic() - begin
        assert waited > 0.05  # it spun for a tenth of a second
        time.sleep(0.3)
        begin = time.monotonic()
        clock.settle([worker.pid])
        assert time.monotonic() - begin < clock.PATIENCE
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()


def test_settle_loses_patience():
    begin = time.monotonic()
    spins = iter(range(10**6))

    def forever(pid: int) -> int:
        return next(spins)

    original, clock._thread_nanoseconds = clock._thread_nanoseconds, forever
    try:
        clock.settle([1])
    finally:
        clock._thread_nanoseconds = original
    assert clock.PATIENCE <= time.monotonic() - begin < clock.PATIENCE + 1


def test_a_process_that_is_gone_is_silent():
    clock.settle([2**22 + 1])
