"""Folders that a process makes for itself alone."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import psutil


def own_folder(base: Path, prefix: str) -> Path:
    """A new folder in ``base`` whose name is the prefix, this process's id and something random.

    Folders of this prefix that killed processes left behind are removed first.

    Raises:
        OSError: It cannot be made.
    """
    for left in base.glob(f"{prefix}*"):
        owner = left.name.removeprefix(prefix).split("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=base))
