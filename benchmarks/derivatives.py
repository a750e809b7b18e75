"""Does a differentiation task cost what the same derivative costs in a loop written by hand?

Each side's idiom in ``twinax/probes/derivatives``, as the autodiff study calls it, against the leanest code for
the same numbers in the same framework (``support/derivatives_torch.py``, ``support/derivatives_jax.py``):
the tape where PyTorch has it, one compiled function in JAX. Both live in one process and take turns.

    python benchmarks/derivatives.py
"""

from __future__ import annotations

from harness_truth import row
from support import heading, table, workers

from twinax.records import PROVED, Cell, Size
from twinax.run.launch import LocalCrew
from twinax.sources import resolve

SIZES = (16, 512)  # where the overhead of a call shows, and where the work does
Answer = dict[str, list[float]]
PROCESSES = 3
ROUNDS = 10


def main() -> None:
    heading("Derivatives against bare code: seconds per call")
    rows = []
    with workers(resolve("xor").info, "support.derivative_verbs") as crew:
        for side, mode in PROVED.items():
            for (task, size), answers in compared(crew, side, mode).items():
                rows.append([side, task.replace("_", " "), str(size), *row(answers)])
    header = ["side", "task", "size", "bare", "twinax / bare", "95 % interval", "0.98 to 1.02", "samples"]
    table(header, rows)


def compared(crew: LocalCrew, side: str, mode: str) -> dict[tuple[str, int], list[Answer]]:
    """The samples of both, by task and size, one answer per process."""
    found: dict[tuple[str, int], list[Answer]] = {}
    for i in range(PROCESSES):
        one = Size(batch=1)
        cell = Cell(twin="xor", study="bare", side=side, mode=mode, size=one, dtype="float64", repeat=i)
        for task in crew.worker(cell).call("tasks")["tasks"]:
            for size in SIZES:
                answer = crew.worker(cell).call("compare", task=task, size=size, rounds=ROUNDS)
                found.setdefault((task, size), []).append(answer)
        crew.stop(cell)
    return found


if __name__ == "__main__":
    main()
