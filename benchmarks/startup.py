"""What it costs to begin, how long the commands take, and how much memory the parent process needs.

python benchmarks/startup.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil
from support import heading, table

TWINAX = [str(Path(sys.executable).parent / "twinax")]  # the command as installed
REPEATS = 10
JOBS = (
    ("compare", "xor", "30 s"),
    ("compare", "resnet50", "120 s"),
    ("graph", "resnet50", "180 s"),
    ("autodiff", "bert", "180 s"),
    ("parallel", "xor", "60 s"),
    ("parallel", "bert", "180 s"),
    ("usability", "xor", "60 s"),
)


def main() -> None:
    heading("Starting, and the commands")
    rows = [
        ["import twinax", f"{started([sys.executable, '-c', 'import twinax']):.2f} s", "0.5 s", ""],
        ["twinax --help", f"{started([*TWINAX, '--help']):.2f} s", "0.5 s", ""],
    ]
    for command, name, limit in JOBS:
        seconds, peak, code = job([*TWINAX, command, name, "--quick"])
        note = f"parent at most {peak / (1 << 20):.0f} MiB (limit 150), exit code {code}"
        rows.append([f"twinax {command} {name} --quick", f"{seconds:.0f} s", limit, note])
    table(["command", "took", "limit", ""], rows)


def started(command: list[str]) -> float:
    """Median wall time of a command, in seconds."""
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - begin)
    return median(times)


def job(command: list[str]) -> tuple[float, int, int]:
    """Wall time, the parent's largest resident memory in bytes, and the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        begin, peak = time.perf_counter(), 0
        running = subprocess.Popen([*command, "-o", str(Path(folder) / "run")], stdout=subprocess.DEVNULL)
        parent = psutil.Process(running.pid)
        while running.poll() is None:
            try:
                peak = max(peak, parent.memory_info().rss)
            except psutil.NoSuchProcess:
                break  # it ended between the two calls
            time.sleep(0.05)
        return time.perf_counter() - begin, peak, running.wait()


if __name__ == "__main__":
    main()
