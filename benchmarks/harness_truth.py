"""Is what twinax times the program, or twinax itself?

The step of every mode, as twinax prepares and times it, against a loop written by hand in the same
framework (``support/bare_torch.py``, ``support/bare_jax.py``). Both live in one process and take turns.

    python benchmarks/harness_truth.py
"""

from __future__ import annotations

from support import heading, table, workers

from twinax.measure.stats import ratio_interval
from twinax.records import MODES, Cell, Size
from twinax.sources import resolve

# the shortest step, where every microsecond of overhead shows, and one of a real model
MODELS = {"xor": Size(batch=4), "resnet50": Size(batch=4, dims={"image": 64})}
LEFT_OUT = {("resnet50", "op_by_op")}  # a step takes ten seconds, in which no overhead of ours could show
PROCESSES = 3
ROUNDS = 10


def main() -> None:
    heading("The harness against bare loops: seconds per step")
    rows = []
    for name, size in MODELS.items():
        with workers(resolve(name).info, "support.truth_verbs") as crew:
            for side, modes in MODES.items():
                for mode in modes:
                    if (name, mode) in LEFT_OUT:
                        continue
                    found = []
                    for i in range(PROCESSES):
                        cell = Cell(twin=name, study="truth", side=side, mode=mode, size=size, repeat=i)
                        found.append(crew.worker(cell).call("compare", rounds=ROUNDS))
                        crew.stop(cell)
                    rows.append([name, f"{side} {mode}", *row(found)])
                    print(*rows[-1], flush=True)
    print()
    table(["model", "mode", "bare", "twinax / bare", "95 % interval", "0.98 to 1.02", "samples"], rows)


def row(found: list[dict[str, list[float]]], within: float = 0.02) -> list[str]:
    """Seconds per step of the bare loop, the ratio with its interval, and whether it is near enough to 1."""
    calm = [f for f in found if f["twinax"] and f["bare"]]
    if not calm:
        return ["", "", "", "disturbed throughout", "0"]
    interval = ratio_interval([f["twinax"] for f in calm], [f["bare"] for f in calm], seed=0)
    bare = sorted(sample for f in calm for sample in f["bare"])
    near = "yes" if abs(interval.ratio - 1) <= within else "no"
    between = f"{interval.low:.3f} to {interval.high:.3f}"
    return [f"{bare[len(bare) // 2] * 1e3:.4g} ms", f"{interval.ratio:.3f}", between, near, str(len(bare))]


if __name__ == "__main__":
    main()
