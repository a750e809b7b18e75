"""The high-water mark rises with what is held, stays when it is given back, and can begin anew."""

import sys

import numpy as np
import pytest

from twinax.measure import memory

MIB = 1 << 20


def test_peak_remembers_what_was_given_back():
    before = memory.resident_bytes()
    held = np.ones(64 * MIB // 8)
    assert memory.resident_bytes() - before > 50 * MIB
    del held
    assert memory.peak_bytes() - before > 50 * MIB


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can begin anew")
def test_peak_can_begin_anew():
    held = np.ones(64 * MIB // 8)
    del held
    memory.reset_peak()
    assert memory.peak_bytes() - memory.resident_bytes() < 40 * MIB


def test_peak_falls_back_where_proc_is_missing(monkeypatch):
    class Missing:
        def __init__(self, path: str) -> None: ...

        def read_text(self) -> str:
            raise FileNotFoundError

    monkeypatch.setattr(memory, "Path", Missing)
    assert memory.peak_bytes() > 10 * MIB
