"""A support vector machine fitted to 4,000 made-up loans: time and dual objective, against libsvm.

The same problem (RBF C-SVC in float64) is solved by SMO in PyTorch and in JAX, as the twin ``svm`` has it, and
by scikit-learn's SVC (libsvm), in turns. Each side has a process of its own and all cores; libsvm has one
thread. A fit includes the kernel matrix; none of them fits probabilities here. What the first fit took
beyond the others (JAX compiles in it) stands apart.

    python benchmarks/svm.py        takes about a minute
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median

import numpy as np
from sklearn.svm import SVC
from support import heading, table, workers
from support.svm_verbs import GAMMA, loans, objective

from twinax.records import PROVED, Cell, Json, Size
from twinax.sources import resolve

SETTINGS = ((1.0, 1e-3), (1.0, 1e-6), (100.0, 1e-3))  # C, tolerance; libsvm's tolerance is 1e-3
ROUNDS = 5  # the first apart


def main() -> None:
    heading("RBF support vector machine, 4,000 loans, 16 features, float64")
    info = resolve("svm").info
    cells = {
        side: Cell(twin="svm", study="fit", side=side, mode=mode, size=Size(batch=1), dtype="float64")
        for side, mode in PROVED.items()
    }
    rows = []
    with workers(info, "support.svm_verbs", loads="nothing") as crew:
        for C, tolerance in SETTINGS:
            found: dict[str, list[Mapping[str, Json]]] = {}
            for _ in range(ROUNDS):
                found.setdefault("scikit-learn", []).append(libsvm(C, tolerance))
                for side, cell in cells.items():
                    answer = crew.worker(cell).call("solve", C=C, tolerance=tolerance)
                    found.setdefault(side, []).append(answer)
            rows += [row(name, C, tolerance, answers, found) for name, answers in found.items()]
    header = ["C", "tolerance", "solver", "first fit adds", "fit", "libsvm / it", "support vectors"]
    table([*header, "dual objective", "against libsvm's"], rows)


def libsvm(C: float, tolerance: float) -> dict[str, Json]:
    """One fit by scikit-learn."""
    data = loans()
    start = time.perf_counter()
    machine = SVC(C=C, gamma=GAMMA, tol=tolerance).fit(data["features"], data["labels"])
    seconds = time.perf_counter() - start
    beta = np.zeros(len(data["labels"]))
    beta[machine.support_] = machine.dual_coef_[0]
    return {
        "seconds": seconds,
        "objective": objective(beta, data),
        "support_vectors": len(machine.support_),
    }


def row(
    name: str,
    C: float,
    tolerance: float,
    answers: list[Mapping[str, Json]],
    found: Mapping[str, list[Mapping[str, Json]]],
) -> list[str]:
    first, steady = answers[0]["seconds"], median(answer["seconds"] for answer in answers[1:])
    theirs = found["scikit-learn"]
    ratio = median(answer["seconds"] for answer in theirs[1:]) / steady
    reached, expected = answers[-1]["objective"], theirs[-1]["objective"]
    return [
        f"{C:g}",
        f"{tolerance:g}",
        name,
        f"{max(0.0, first - steady):.2f} s",
        f"{steady:.3f} s",
        f"{ratio:.2f}",
        str(answers[-1]["support_vectors"]),
        f"{reached:.6f}",
        f"{(reached - expected) / abs(expected):+.1e}",
    ]


if __name__ == "__main__":
    main()
