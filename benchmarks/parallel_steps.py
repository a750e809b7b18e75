"""Does twinax's distributed step cost what the framework's plain example of the same strategy costs?

Data parallel in two processes on ResNet-50 with 64-pixel images: DistributedDataParallel as torch's tutorial
writes it (``support/plain_torch.py``), a sharded batch under one jit as JAX's does (``support/plain_jax.py``).
Both live in one process group and take turns.

    python benchmarks/parallel_steps.py
"""

from __future__ import annotations

from harness_truth import row
from support import heading, table, workers

from twinax.records import Cell, Size
from twinax.sources import resolve

STRATEGIES = {"torch": "data_local", "jax": "data"}  # plain DDP leaves BatchNorm local, plain JAX does not
PROCESSES = 3  # process groups
ROUNDS = 6


def main() -> None:
    heading("Distributed steps against plain examples: seconds per step, 2 processes")
    rows = []
    with workers(resolve("resnet50").info, "support.parallel_step_verbs", "nothing") as crew:
        for side, mode in STRATEGIES.items():
            answers = []
            for i in range(PROCESSES):
                size = Size(batch=8, dims={"image": 64})
                cell = Cell(
                    twin="resnet50",
                    study="plain",
                    side=side,
                    mode=mode,
                    size=size,
                    repeat=i,
                    ranks=2,
                    processes=2,
                )
                answers.append(crew.worker(cell).call("compare", rounds=ROUNDS))
                crew.stop(cell)
            rows.append([side, mode.replace("_", " "), *row(answers, within=0.03)])
    table(["side", "strategy", "plain", "twinax / plain", "95 % interval", "0.97 to 1.03", "samples"], rows)


if __name__ == "__main__":
    main()
