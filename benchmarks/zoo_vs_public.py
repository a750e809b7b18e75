"""Each zoo twin against public implementations of the same model in the same framework.

Forward in eval mode, and loss with gradient in train mode; every implementation in a process of its own,
taking turns in random order. A ratio above 1 means that the zoo's is slower. What is not installed is
listed as such; torchvision, timm (which needs it) and Keras' models are at hand after

    pip install keras torchvision regex sentencepiece kagglehub==0.3.12 && pip install --no-deps keras-hub

    python benchmarks/zoo_vs_public.py
"""

from __future__ import annotations

import random
from itertools import chain
from statistics import median

from support import heading, table, workers

from twinax.measure.stats import ratio_interval, verdict
from twinax.records import Cell, Size
from twinax.run.launch import LocalCrew
from twinax.sources import resolve
from twinax.studies.speed import take_turn

PUBLIC = {
    ("resnet50", "torch"): ("timm", "torchvision"),
    ("resnet50", "jax"): ("keras",),
    ("bert", "torch"): ("transformers",),
    ("bert", "jax"): ("keras-hub",),
}
SIZES = {
    "resnet50": Size(batch=4, dims={"image": 224}),
    "bert": Size(batch=4, dims={"sequence": 128}),
}
NOTES = (
    "keras' ResNet50 strides in the first 1x1 convolution and has biases in its convolutions; torchvision's, "
    "timm's and the zoo's do not: it does somewhat less work in some layers.",
    "transformers' BERT runs its attention through scaled_dot_product_attention; the zoo writes it out.",
)
PROCESSES = 3
ROUNDS = 5


def main() -> None:
    heading("The zoo's twins against public implementations")
    rows = []
    for name, side in PUBLIC:
        for program in ("forward", "grad"):
            rows += compare(name, side, program)
            print(*(" ".join(row) for row in rows[-len(PUBLIC[name, side]) :]), sep="\n", flush=True)
    print()
    header = [
        "model",
        "side",
        "program",
        "against",
        "theirs",
        "the zoo's",
        "zoo / theirs",
        "95 %",
        "the zoo is",
    ]
    table(header, rows)
    print(*NOTES, sep="\n")


def compare(name: str, side: str, program: str) -> list[list[str]]:
    """A row per public implementation."""
    found: dict[str, list[list[float]]] = {}
    missing: dict[str, str] = {}
    with workers(resolve(name).info, "support.public_verbs", "nothing") as crew:
        for repeat in range(PROCESSES):
            cells = {
                which: Cell(twin=name, study="public", side=side, mode=which, size=SIZES[name], repeat=repeat)
                for which in ("twinax", *PUBLIC[name, side])
                if which not in missing
            }
            for which, samples in one_process_each(crew, cells, program, missing).items():
                found.setdefault(which, []).append(samples)
    rows = []
    for which in PUBLIC[name, side]:
        if which in missing:
            rows.append([name, side, program, which, "not at hand", "", "", "", missing[which][:60]])
            continue
        interval = ratio_interval(found["twinax"], found[which], seed=0)
        theirs, ours = (f"{median(chain(*found[w])) * 1e3:.0f} ms" for w in (which, "twinax"))
        between = f"{interval.low:.2f} to {interval.high:.2f}"
        rows.append(
            [name, side, program, which, theirs, ours, f"{interval.ratio:.2f}", between, verdict(interval)]
        )
    return rows


def one_process_each(
    crew: LocalCrew, cells: dict[str, Cell], program: str, missing: dict[str, str]
) -> dict[str, list[float]]:
    """Undisturbed samples of each implementation; all samples where every one was disturbed."""
    seconds, rng = {}, random.Random(program)
    for which, cell in cells.items():
        answer = crew.worker(cell).call("prepare_public", program=program)
        if "missing" in answer:
            missing[which] = answer["missing"]
        else:
            seconds[which] = answer["iteration_s"]
    samples: dict[str, list[float]] = {which: [] for which in seconds}
    calm: dict[str, list[float]] = {which: [] for which in seconds}
    for index in range(ROUNDS):
        for which in rng.sample(list(seconds), len(seconds)):
            crew.settle()
            answer = take_turn(crew.worker(cells[which]), program, seconds[which], index)
            samples[which] += answer["samples_s"]
            calm[which] += [] if answer["disturbed"] else answer["samples_s"]
    for cell in cells.values():
        crew.stop(cell)
    return {which: calm[which] or samples[which] for which in samples}


if __name__ == "__main__":
    main()
