"""The recurrent layers of ``lstm`` and ``gru`` against the frameworks' own: seconds per gradient.

One layer, hidden 128, sequence 64, batch 32, float32: the gradient of the outputs' mean square with respect to
every weight; torch eager against ``torch.nn.LSTM`` and ``torch.nn.GRU``, JAX (jit) against ``flax.nnx.RNN``
with each of its cells. All of a side live in one process and take turns in random order. A ratio above 1 means
that ours is slower.

    python benchmarks/recurrent.py
"""

from __future__ import annotations

from statistics import median

from support import heading, table, workers

from twinax.measure.stats import ratio_interval, verdict
from twinax.records import PROVED, Cell, Size
from twinax.sources import resolve

SIZE = Size(batch=32, dims={"time": 64})
FEATURES = (4, 128)  # those of the twins, and those of a second layer
PROCESSES = 4
ROUNDS = 12


def main() -> None:
    heading("Recurrent layers against the frameworks' own: seconds per gradient")
    rows = []
    for name in ("lstm", "gru"):
        for side in PROVED:
            for features in FEATURES:
                rows += compared(name, side, features)
    header = [
        "layer",
        "side",
        "inputs",
        "against",
        "theirs",
        "ours",
        "ours / theirs",
        "95 %",
        "ours is",
        "samples",
    ]
    table(header, rows)
    print(
        "flax.nnx.GRUCell has no bias on the hidden side, so it does a little less than torch's GRU and ours."
    )


def compared(name: str, side: str, features: int) -> list[list[str]]:
    """A row per layer of the framework's own."""
    found: dict[str, list[list[float]]] = {}
    with workers(resolve(name).info, "support.recurrent_verbs", "nothing") as crew:
        for i in range(PROCESSES):
            cell = Cell(twin=name, study="recurrent", side=side, mode=PROVED[side], size=SIZE, repeat=i)
            answer = crew.worker(cell).call("take_turns", features=features, rounds=ROUNDS)
            crew.stop(cell)
            for which, samples in answer.items():
                found.setdefault(which, []).append(samples)
    ours = found.pop("ours")
    rows = []
    for which, theirs in found.items():
        calm = [(a, b) for a, b in zip(ours, theirs, strict=True) if a and b]
        start = [name, side, str(features), which]
        if not calm:
            rows.append([*start, "disturbed throughout", "", "", "", "", "0"])
            continue
        interval = ratio_interval([a for a, _ in calm], [b for _, b in calm], seed=0)
        between = f"{interval.low:.3f} to {interval.high:.3f}"
        times = [f"{1e3 * median([s for some in samples for s in some]):.2f} ms" for samples in (theirs, ours)]
        count = str(sum(len(b) for _, b in calm))
        rows.append([*start, *times, f"{interval.ratio:.3f}", between, verdict(interval), count])
    return rows


if __name__ == "__main__":
    main()
