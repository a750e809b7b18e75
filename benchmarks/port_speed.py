"""Ported models against the same models through torchax, and against the zoo's JAX sides that people wrote.

The port is of the zoo twin's torch side. Forward in eval mode, and loss with gradient in train mode, without
dropout, under jax.jit; each in a process of its own, taking turns in random order. A ratio below 1 means that
the port is faster. Before each, how long converting took.

torchax: ``pip install --pre torchax`` (0.0.13 does not import beside torch 2.13).

    python benchmarks/port_speed.py [NAME …]
"""

from __future__ import annotations

import random
import sys
import tempfile
from itertools import chain
from statistics import median

from support import heading, table, workers

from twinax.measure.stats import ratio_interval, verdict
from twinax.records import Cell, Size
from twinax.run.launch import LocalCrew
from twinax.sources import resolve
from twinax.studies.speed import take_turn

SIZES = {
    "resnet50": Size(batch=4, dims={"image": 224}),
    "bert": Size(batch=4, dims={"sequence": 128}),
    "lstm": Size(batch=32, dims={"time": 64}),
}
WAYS = ("ported", "zoo", "torchax")
PROCESSES = 3
ROUNDS = 5


def main() -> None:
    heading("Ported models against torchax and against the zoo")
    rows = []
    for name in sys.argv[1:] or SIZES:
        with tempfile.TemporaryDirectory() as folder:
            told = port(name, folder)
            print(f"{name}: ported in {told['seconds']:.1f} s, {told['lines']} lines", flush=True)
            for program in ("forward", "grad"):
                found = compare(name, program, folder)
                rows += found
                print(*(" ".join(row) for row in found), sep="\n", flush=True)
    print()
    table(["model", "program", "against", "theirs", "the port's", "port / theirs", "95 %", "the port is"], rows)


def port(name: str, folder: str) -> dict:
    """Port the twin's torch side in a torch worker: seconds and lines."""
    cell = Cell(twin=name, study="port", side="torch", mode="port", size=SIZES[name])
    with workers(resolve(name).info, "support.port_speed_verbs", "nothing") as crew:
        return crew.worker(cell).call("port", folder=folder)


def compare(name: str, program: str, folder: str) -> list[list[str]]:
    """A row for each other way."""
    found: dict[str, list[list[float]]] = {}
    missing: dict[str, str] = {}
    with workers(resolve(name).info, "support.port_speed_verbs", "nothing") as crew:
        for repeat in range(PROCESSES):
            cells = {
                way: Cell(twin=name, study="port", side="jax", mode=way, size=SIZES[name], repeat=repeat)
                for way in WAYS
                if way not in missing
            }
            for way, samples in one_process_each(crew, cells, program, folder, missing).items():
                found.setdefault(way, []).append(samples)
    rows = []
    for way in WAYS[1:]:
        if way in missing:
            rows.append([name, program, way, "not at hand", "", "", "", missing[way][:60]])
            continue
        interval = ratio_interval(found["ported"], found[way], seed=0)
        theirs, ours = (f"{median(chain(*found[w])) * 1e3:.1f} ms" for w in (way, "ported"))
        between = f"{interval.low:.2f} to {interval.high:.2f}"
        rows.append([name, program, way, theirs, ours, f"{interval.ratio:.2f}", between, verdict(interval)])
    return rows


def one_process_each(
    crew: LocalCrew, cells: dict[str, Cell], program: str, folder: str, missing: dict[str, str]
) -> dict[str, list[float]]:
    """Undisturbed samples of each way; all samples where every one was disturbed."""
    seconds, rng = {}, random.Random(program)
    for way, cell in cells.items():
        answer = crew.worker(cell).call("prepare_port", program=program, folder=folder)
        if "missing" in answer:
            missing[way] = answer["missing"]
        else:
            seconds[way] = answer["iteration_s"]
    samples: dict[str, list[float]] = {way: [] for way in seconds}
    calm: dict[str, list[float]] = {way: [] for way in seconds}
    for index in range(ROUNDS):
        for way in rng.sample(list(seconds), len(seconds)):
            crew.settle()
            answer = take_turn(crew.worker(cells[way]), program, seconds[way], index)
            samples[way] += answer["samples_s"]
            calm[way] += [] if answer["disturbed"] else answer["samples_s"]
    for cell in cells.values():
        crew.stop(cell)
    return {way: calm[way] or samples[way] for way in samples}


if __name__ == "__main__":
    main()
