"""One process at a time works in a run's folder."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from twinax.errors import RunError
from twinax.records import RUN_FILE

LOCK_FILE = ".lock"


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep the folder for this process, until the block or the process ends, however it ends.

    The kernel holds the lock, so that it goes with the process; the file stays, and means nothing by itself.
    Where there is no run, or the folder or its file system takes no lock, nothing is kept: what is done there
    next says what is wrong.

    Raises:
        RunError: Another process has it.
    """
    try:
        import fcntl  # not on every system

        (folder / RUN_FILE).stat()  # a folder that is no run is left as it is
        lock = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    except (ImportError, OSError):
        yield
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            who = os.read(lock, 200).decode(errors="replace").strip()
            raise RunError(
                f"Another twinax{f' ({who})' if who else ''} works in {folder}; nothing was changed there.",
                "Wait until it has ended, or stop it, and go on with --resume then.",
            ) from error
        except OSError:
            pass
        else:
            os.ftruncate(lock, 0)
            os.write(lock, f"process {os.getpid()} on {platform.node()}\n".encode())
        yield
    finally:
        os.close(lock)
