"""Does twinax's training loop cost what a bare loop costs, and what does a checkpoint cost?

The LSTM forecaster at both of its presets: the loop with its NumPy order and dropout masks, against the loop
that one would write by hand (``support/training_verbs.py``), which draws dropout in the framework. Both live in
one process and take turns. A checkpoint (weights, optimizer state, histograms, a picture) is timed by itself.

    python benchmarks/training.py
"""

from __future__ import annotations

import statistics

from harness_truth import row
from support import heading, table, workers

from twinax.records import PROVED, Cell, Size
from twinax.sources import resolve

PROCESSES = 3
ROUNDS = 8
MINUTE = 60.0


def main() -> None:
    heading("Training loop against a bare loop: seconds per step")
    rows, costs = [], []
    for name in ("lstm", "gru"):
        with workers(resolve(name).info, "support.training_verbs", "twin") as crew:
            for preset in ("tiny", "full"):
                for side, mode in PROVED.items():
                    answers = []
                    for i in range(PROCESSES):
                        cell = Cell(
                            twin=name, study=preset, side=side, mode=mode, size=Size(batch=32), repeat=i
                        )
                        answers.append(crew.worker(cell).call("compare", preset=preset, rounds=ROUNDS))
                        crew.stop(cell)
                    rows.append([name, preset, side, *row(answers, within=0.03)])
                    seconds = statistics.median(s for answer in answers for s in answer["checkpoint_s"])
                    share = f"{100 * seconds / MINUTE:.2f} %"
                    costs.append([name, preset, side, f"{seconds * 1e3:.0f} ms", share])
    table(["twin", "preset", "side", "bare", "twinax / bare", "95 % interval", "0.97 to 1.03", "samples"], rows)
    table(["twin", "preset", "side", "a checkpoint", "of a minute"], costs)


if __name__ == "__main__":
    main()
