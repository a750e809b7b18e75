"""Memory of the current process, with the name of the method that measured it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

METHOD = "resident high-water mark"


def resident_bytes() -> int:
    """Memory that the process holds now."""
    return psutil.Process().memory_info().rss


def peak_bytes() -> int:
    """The most memory that the process held since it began, or since :func:`reset_peak`."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    scale = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def reset_peak() -> None:
    """Let the high-water mark begin anew at what is held now, where the kernel allows it (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def release() -> None:
    """Give freed memory back to the system (glibc): it would hide the next peak."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def needed_by(call: Callable[[], object]) -> int:
    """Bytes that a call holds at its peak, beyond what is held before it."""
    release()
    reset_peak()
    before = resident_bytes()
    call()
    return max(peak_bytes() - before, 0)
