"""What every benchmark needs: a heading that says where and when, a table, and workers to time."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from twinax.measure import host
from twinax.records import Options, TwinInfo
from twinax.run.launch import LocalCrew, LocalLauncher
from twinax.run.plan import Silent


def heading(title: str) -> None:
    """Print what was measured, on which machine, when, and how busy that machine was."""
    facts = host.facts()
    busy = psutil.cpu_percent(interval=2.0)
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    print(f"{title}\n{'=' * len(title)}")
    print(f"{time.strftime('%Y-%m-%d %H:%M %Z')} · {facts['cpu']}, {facts['usable_cores']:g} cores, ", end="")
    print(f"{facts['memory_bytes'] / host.GIB:.0f} GiB · {facts['system']} · Python {facts['python']}")
    print(f"{packages}\nBefore it began: {busy:.0f} % of the CPU in use, load {facts['load']}\n", flush=True)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a header, in columns as wide as they need to be."""
    every = [header, ["-" * len(cell) for cell in header], *rows]
    widths = [max(len(row[column]) for row in every) for column in range(len(header))]
    for row in every:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(flush=True)


@contextlib.contextmanager
def workers(info: TwinInfo, verbs: str, loads: str = "runner") -> Iterator[LocalCrew]:
    """A crew as the studies have it; its workers find ``verbs`` in this folder."""
    here = str(Path(__file__).parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory() as folder:
        launcher = LocalLauncher(info, Options(), Path(folder), "", Silent())
        try:
            with LocalCrew(verbs, launcher, timed=True, loads=loads) as crew:
                yield crew
        finally:
            launcher.close()
