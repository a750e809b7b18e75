"""How often two identical sides are told apart, and how often a 5 % slowdown is found.

Each comparison draws ten processes from a pool of twenty identical ones (torch, eager, the step of the
twin ``xor``), five for each side, and times them as the speed study does: its rounds, its blocks, its
order, its interval and its verdict. Any winner is a false one. Then the first five are slowed down by
5 % and compared again with the others.

    python benchmarks/aa.py [comparisons]        200 comparisons take about 25 minutes
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Sequence
from statistics import median

from support import heading, table, workers

from twinax.measure import clock
from twinax.measure.stats import Interval, ratio_interval, verdict
from twinax.records import Cell, Options
from twinax.run.launch import LocalCrew
from twinax.sources import resolve
from twinax.studies.speed import processes, take_turn

POOL = 20  # processes that are alive
SLOWDOWN = 1.05
ROUNDS = 3  # turns of each process, the fewest that the study makes; up to ten where a step is short
PROGRAM = "step"

Samples = dict[str, list[float]]


def main(comparisons: int) -> None:
    heading("Identical sides, and a slowdown of 5 %")
    each = processes(Options())
    info = resolve("xor").info
    size = info.presets["speed"]
    cells = [Cell(twin="xor", study="aa", side="torch", mode="eager", size=size, repeat=i) for i in range(POOL)]
    rng = random.Random(0)
    with workers(info, "support.slowed_verbs") as crew:
        seconds = median(crew.worker(cell).call("prepare", program=PROGRAM)["iteration_s"] for cell in cells)
        same, slow, shares = [], [], []
        for seed in range(comparisons):
            drawn = rng.sample(cells, 2 * each)
            for results, factor in ((same, 1.0), (slow, SLOWDOWN)):
                for cell in drawn[:each]:
                    crew.worker(cell).call("slow_down", program=PROGRAM, factor=factor)
                found, disturbed = times(crew, drawn, seconds, rng)
                left, right = ([found[c.id] for c in half] for half in (drawn[:each], drawn[each:]))
                results.append(ratio_interval(left, right, seed))
                shares.append(disturbed)
            for cell in drawn[:each]:
                crew.worker(cell).call("slow_down", program=PROGRAM, factor=1.0)
    show(same, slow)
    busy = sum(share > 0.05 for share in shares)
    print(f"{each} processes per side, {ROUNDS} rounds; a step takes {seconds * 1e6:.0f} µs.")
    print(f"In {busy} of {len(shares)} comparisons others used the CPU during more than 5 % of the turns.")


def times(crew: LocalCrew, cells: Sequence[Cell], seconds: float, rng: random.Random) -> tuple[Samples, float]:
    """Samples by process, and the share of turns that others disturbed."""
    found: Samples = {cell.id: [] for cell in cells}
    disturbed = 0
    for index in range(ROUNDS):
        for cell in rng.sample(cells, len(cells)):
            crew.settle()
            answer = take_turn(crew.worker(cell), PROGRAM, seconds, index)
            found[cell.id] += answer["samples_s"]
            disturbed += answer["foreign_cpu"] > clock.DISTURBED
    return found, disturbed / (ROUNDS * len(cells))


def show(same: Sequence[Interval], slow: Sequence[Interval]) -> None:
    """One row per experiment: how the verdicts fell, and what the intervals were like."""
    rows = []
    for name, truth, found in (("identical", 1.0, same), ("slowed by 5 %", SLOWDOWN, slow)):
        counts = Counter(verdict(interval) for interval in found)
        width = median((i.high - i.low) / 2 for i in found)
        covered = sum(i.low <= truth <= i.high for i in found)
        kinds = ("faster", "slower", "equivalent", "inconclusive")
        share = [f"{counts[kind] / len(found):.1%}" for kind in kinds]
        rows.append([name, *share, f"±{width:.2%}", f"{covered / len(found):.0%}", str(len(found))])
    header = [
        "sides",
        "faster",
        "slower",
        "equivalent",
        "inconclusive",
        "half width",
        "coverage",
        "comparisons",
    ]
    table(header, rows)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
