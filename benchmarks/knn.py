"""Does the exact k-nearest-neighbour search answer as many queries a second as scikit-learn's brute force?

20,000 points of 32 features, 10 neighbours, 4,096 queries at a time, probabilities included; on one thread and
on every core. Each process also checks that its probabilities are scikit-learn's.

    python benchmarks/knn.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from statistics import median

import numpy as np
from support import heading, table

ROWS, FEATURES, K, QUERIES = 20_000, 32, 10, 4096
PROCESSES, CALLS = 3, 5
WHO = ("scikit-learn", "torch", "jax")


def main() -> None:
    heading(f"Nearest neighbours: queries a second, n = {ROWS:,}, d = {FEATURES}, k = {K}")
    cores = sorted(os.sched_getaffinity(0))
    rows = []
    for threads in sorted({1, len(cores)}):
        for dtype in ("float32", "float64"):
            found: dict[str, list[float]] = {who: [] for who in WHO}
            for turn in range(PROCESSES):
                for who in WHO[turn:] + WHO[:turn]:  # each comes first once
                    found[who].append(rate(who, dtype, threads, cores[:threads]))
            rates = {who: median(some) for who, some in found.items()}
            for who in WHO:
                spread = f"{min(found[who]):,.0f} to {max(found[who]):,.0f}"
                ratio = f"{rates[who] / rates['scikit-learn']:.2f}×"
                rows.append([str(threads), dtype, who, f"{rates[who]:,.0f}", spread, ratio])
    table(["threads", "dtype", "", "queries / s", "of 3 processes", "over scikit-learn"], rows)


def rate(who: str, dtype: str, threads: int, cores: list[int]) -> float:
    """Queries a second in a process of its own."""
    count = str(threads)
    limits = {"OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "MKL_NUM_THREADS": count}
    command = ["taskset", "-c", ",".join(map(str, cores)), sys.executable, __file__, who, dtype]
    told = subprocess.run(command, env={**os.environ, **limits}, check=True, capture_output=True, text=True)
    return float(json.loads(told.stdout.splitlines()[-1]))


def worker(who: str, dtype: str) -> float:
    """Median queries a second of one of them, whose probabilities are checked."""
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(0)
    points = rng.standard_normal((ROWS, FEATURES)).astype(dtype)
    labels = (points[:, 0] + rng.standard_normal(ROWS) > 0).astype(np.int64)
    queries = rng.standard_normal((QUERIES, FEATURES)).astype(dtype)
    theirs = KNeighborsClassifier(K, algorithm="brute").fit(points, labels)
    if who == "scikit-learn":
        return measured(lambda: theirs.predict_proba(queries))
    runner = ours(who, dtype, points, labels)
    batch = {"features": queries, "labels": np.zeros(QUERIES, np.int64)}
    ready = runner.prepare("forward", [batch])
    found = measured(lambda: ready.call(0))  # before the check: scikit-learn leaves threads behind
    np.testing.assert_allclose(ready.outputs()["probability"], theirs.predict_proba(queries), atol=1e-6)
    return found


def ours(side, dtype, points, labels):
    """A side of the twin that holds these points."""
    from twinax.frameworks.make import make_runner
    from twinax.records import PROVED, Cell, Size
    from twinax.sources import resolve
    from twinax.zoo.knn.twin import fitted

    twin = resolve("knn")
    weights = {"points": points, "labels": labels, "calibration": np.array([[1.0, 0.0]] * 2)}
    sized = replace(twin, config=fitted({**twin.config, "k": K}, weights))
    cell = Cell(twin="knn", study="speed", side=side, mode=PROVED[side], size=Size(batch=QUERIES), dtype=dtype)
    return make_runner(cell, sized, weights)


def measured(call) -> float:
    """Median queries a second over some calls."""
    call()
    seconds = []
    for _ in range(CALLS):
        begin = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begin)
    return QUERIES / median(seconds)


if __name__ == "__main__":
    print(json.dumps(worker(*sys.argv[1:]))) if len(sys.argv) > 1 else main()
