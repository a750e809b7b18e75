"""Parallel computing: what does it take, and what does it cost, to leave one device?

Every strategy runs by each framework's own engine. It is proved first: one optimizer step in float64 equals
the single device's. Then it is timed, the two sides in turn; what it sends and holds is counted.

What a record measures, by mode: ``single`` (one device: what the others are held against), ``replicas`` (ranks
that each train alone at the same time, and collectives alone: what the cost model is fitted to), else a
strategy. See ``docs/run-format.md`` and :mod:`twinax.frameworks.parallel`.
"""

from __future__ import annotations

import contextlib
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar

from twinax.errors import CellFailed
from twinax.frameworks.parallel import MICRO_BATCHES, STRATEGIES
from twinax.measure import clock
from twinax.records import Cell, Json, Options, Outcome, Record, Side, Size, TwinInfo
from twinax.studies.base import Crew, Group, Study, Worker
from twinax.studies.parallel_verbs import SMALL

RANKS = {"quick": (2,), "cluster": (1, 2), "full": (1, 2, 4)}
"""With one rank a strategy shows what its engine adds: a prediction needs that."""
ROUNDS = {"quick": (3, 4.0), "full": (5, 20.0)}
"""Turns of each side per strategy at most, and the seconds that all of them together should take."""
SAMPLES = 8  # steps per turn at most
LONG_S = 0.3  # a turn of this many seconds is long enough
REPLAYED = 5  # how often a strategy's collective is repeated alone
IN_A_ROW = 8  # so many small collectives in a row are timed to calibrate: some wait for a core
ROW = 1 << 22  # and as many of the larger ones as have so many bytes together
IN_RHYTHM = 12  # and so many that come after some work, each of the times that this is done
SIZES = {"quick": (1 << 12, 1 << 18, 1 << 22, 1 << 25), "full": (1 << 12, 1 << 16, 1 << 20, 1 << 22, 1 << 25)}
"""Bytes of the collectives that the cost model is calibrated with; the largest are beyond any cache."""
PACES_S = (0.001, 0.004, 0.016)
"""Seconds of work before each of the collectives that are timed in rhythm with computing."""
FRESH = 1 << 28
"""Bytes that are taken from the system to see what that costs."""
CALIBRATED = ("all_reduce", "all_gather", "reduce_scatter", "send")
OPTIMIZERS = {"quick": ["sgd"], "full": ["sgd", "adamw"]}


class ParallelStudy(Study):
    """Parity, step time, traffic, memory and lines of every strategy on every number of ranks."""

    name: ClassVar[str] = "parallel"
    needs: ClassVar[frozenset[str]] = frozenset({"grad", "step"})
    timed: ClassVar[bool] = True
    loads: ClassVar = "nothing"
    verbs_module: ClassVar[str] = "twinax.studies.parallel_verbs"

    def plan(self, info: TwinInfo, options: Options) -> list[Group]:
        how = "quick" if options.quick else "full"
        ranks = options.ranks or RANKS["cluster" if options.quick and options.cluster else how]
        size = sized(info, "parity_quick" if options.quick else "speed_quick", options, ranks)
        cells = [self._cell(info, options, size, side, "single", 1, 1) for side in info.sides]
        # what the cost model is fitted to; a quick run makes predictions only for a stated cluster
        calibrated = [] if options.quick and options.cluster is None else [n for n in ranks if n > 1]
        for count in calibrated:
            cells += [self._cell(info, options, size, side, "replicas", count, count) for side in info.sides]
        for count in ranks:
            for strategy in STRATEGIES:
                if strategy == "data_tensor" and count < 4:
                    continue  # two axes of one device each are another strategy's
                cells += [self._cell(info, options, size, side, strategy, count, count) for side in info.sides]
                if "jax" in info.sides and count > 1 and not options.quick:
                    cells.append(self._cell(info, options, size, "jax", strategy, count, 1))
        return [Group(self.name, tuple(cells))]

    def _cell(
        self, info: TwinInfo, options: Options, size: Size, side: Side, mode: str, ranks: int, processes: int
    ) -> Cell:
        return Cell(
            twin=info.name,
            study=self.name,
            side=side,
            mode=mode,
            size=size,
            dtype=options.dtype,
            device=options.device,
            ranks=ranks,
            processes=processes,
        )

    def conduct(self, group: Group, crew: Crew) -> Iterator[Record]:
        singles = Singles([c for c in group.cells if c.mode == "single"], group, crew)
        yield from singles.run()
        yield from singles.stranded()
        rest = [c for c in group.cells if c.mode != "single" and c.side in singles.batch_norm]
        for cell in (c for c in rest if c.mode == "replicas" and c in group.missing):
            yield from attempted(crew, cell, replicas)
            crew.stop(cell)
        for cells in taking_turns(c for c in rest if c.mode != "replicas"):
            if any(c in group.missing for c in cells):
                yield from Contest(cells, singles, crew).run()


def sized(info: TwinInfo, preset: str, options: Options, ranks: Sequence[int]) -> Size:
    """The preset's size, its batch enlarged until every number of ranks and the micro-batches divide it."""
    size = info.presets.get(preset, Size(batch=8))
    if options.batch:
        return size.model_copy(update={"batch": options.batch})
    batch = size.batch
    while any(batch % n for n in (*ranks, MICRO_BATCHES)):
        batch += 1
    return size.model_copy(update={"batch": batch})


def proof_size(info: TwinInfo, cell: Cell, options: Options) -> dict[str, Json]:
    """As many examples as are timed, each as small as parity takes it."""
    small = info.presets.get("parity_quick" if options.quick else "parity", cell.size)
    return {"batch": cell.size.batch, "dims": small.dims}


def taking_turns(cells: Iterator[Cell]) -> list[list[Cell]]:
    """Cells that are timed in turn: both sides under one strategy, in processes; JAX in one process alone."""
    groups: dict[tuple[str, int, int], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.mode, cell.ranks, cell.processes), []).append(cell)
    return list(groups.values())


def attempted(crew: Crew, cell: Cell, work: Callable[[Crew, Cell], dict[str, Json]]) -> Iterator[Record]:
    """The cell's record, whatever became of it."""
    try:
        yield crew.record(cell, work(crew, cell))
    except CellFailed as error:
        yield failure(crew, cell, error)


def failure(crew: Crew, cell: Cell, error: CellFailed) -> Record:
    """The record of a cell that failed."""
    return crew.record(cell, outcome=Outcome(error.outcome), message=error.what, hint=error.hint)


def with_weights(crew: Crew, cell: Cell) -> Worker:
    """The cell's worker, started, with the twin and the weights that all cells start from."""
    worker = crew.worker(cell)
    worker.call("take", file=str(crew.scratch / "start.safetensors"))
    return worker


class Singles:
    """One device of each side: its step in float64 as a reference, and timed."""

    def __init__(self, cells: Sequence[Cell], group: Group, crew: Crew) -> None:
        self.cells, self.group, self.crew = cells, group, crew
        self.batch_norm: dict[str, bool] = {}  # by side; a side that failed is not in it

    def reference(self, side: str) -> str:
        """Where the side's arrays lie."""
        return str(self.crew.scratch / f"reference-{side}")

    def run(self) -> Iterator[Record]:
        for cell in self.cells:
            yield from attempted(self.crew, cell, self._measure)
            self.crew.stop(cell)

    def _measure(self, crew: Crew, cell: Cell) -> dict[str, Json]:
        crew.say(f"{cell.side}, one device: a step in float64")
        how = "quick" if crew.options.quick else "full"
        worker, ranks = with_weights(crew, cell), {c.ranks for c in self.group.cells}
        parts = sorted({n for n in (*ranks, MICRO_BATCHES) if n > 1 and cell.size.batch % n == 0})
        answer = worker.call(
            "reference",
            output=self.reference(cell.side),
            size=proof_size(crew.info, cell, crew.options),
            optimizers=OPTIMIZERS[how],
            parts=parts,
            other=self.reference(next(iter(self.batch_norm))) if self.batch_norm else "",
        )
        crew.say(f"{cell.side}, one device: timing")
        found = worker.call("single", size=cell.size.model_dump())
        crew.settle()
        found |= timed(crew, [cell], {cell.id: found["first_s"]})[cell.id]
        if any(c.mode == "replicas" for c in self.group.cells):  # else nobody fits a cost model
            found["new_memory"] = new_memory(worker)
        self.batch_norm[cell.side] = answer["batch_norm"]
        return found | answer

    def stranded(self) -> Iterator[Record]:
        """Records of cells whose side has no reference."""
        for cell in self.group.missing:
            if cell.mode != "single" and cell.side not in self.batch_norm:
                yield self.crew.record(
                    cell,
                    outcome=Outcome.SKIPPED,
                    message=f"On one device {cell.side} did not end well; nothing can be held against it.",
                    hint="See the cell of mode single.",
                )


def replicas(crew: Crew, cell: Cell) -> dict[str, Json]:
    """Ranks that each train alone, at the same time, and collectives with nothing between them."""
    how = "quick" if crew.options.quick else "full"
    worker = with_weights(crew, cell)
    crew.say(f"{cell.side}, {cell.ranks} ranks: collectives alone")
    worker.call("join")
    in_rhythm = paced(worker, cell)  # at three times: two ranks may share a core for a while
    rows = []
    for kind in CALIBRATED:
        for size in SIZES[how]:
            arrays = max(1, min(IN_A_ROW, ROW // size))
            each = [together / arrays for together in replayed(worker, kind, size, cell.ranks, arrays)]
            rows.append({"kind": kind, "bytes": size, "ranks": cell.ranks, "seconds": each})
    in_rhythm += paced(worker, cell)
    share = max(cell.size.batch // cell.ranks, 1)
    batches = sorted({max(share // 2, 1), share, cell.size.batch})
    steps = [alone(crew, cell, "step", batch) for batch in batches]
    gradients = alone(crew, cell, "grad", share)
    return {
        "threads": steps[0]["threads"],
        "local_steps": steps,
        "local_gradients": gradients,
        "collectives": rows,
        "paced": [*in_rhythm, *paced(worker, cell)],
        "new_memory": new_memory(worker),
    }


def paced(worker: Worker, cell: Cell) -> list[dict[str, Json]]:
    """Small all-reduces, each after some work."""
    rows = []
    for work_s in PACES_S:
        answer = worker.call("paced", work_s=work_s, count=IN_RHYTHM)
        times = {"work_s": slowest(answer, "work_s"), "paced_s": slowest(answer)}
        rows.append({"kind": "all_reduce", "bytes": SMALL, "ranks": cell.ranks, "pace_s": work_s, **times})
    return rows


def new_memory(worker: Worker) -> dict[str, Json]:
    """What it costs each process to be given memory by the system, all of them at once."""
    return {"bytes": FRESH, "seconds": slowest(worker.call("pages", size=FRESH, count=REPLAYED))}


def alone(crew: Crew, cell: Cell, program: str, batch: int) -> dict[str, Json]:
    """Seconds of a program of one device, while the other ranks run theirs."""
    what = {"step": "steps", "grad": "gradients alone"}[program]
    crew.say(f"{cell.side}, {cell.ranks} ranks by themselves: {what}, batch {batch}")
    size = cell.size.model_copy(update={"batch": batch})
    answer = crew.worker(cell).call("prepare_local", program=program, size=size.model_dump())
    known = {"batch": batch, "taken_bytes": answer["taken_bytes"], "threads": answer["threads"]}
    return {**known, **timed(crew, [cell], {cell.id: 1.0})[cell.id]}


def replayed(worker: Worker, kind: str, size: int, ranks: int, arrays: int) -> list[float]:
    """Seconds of a collective over some arrays alone, of the slowest process each time."""
    answer = worker.call("replay", kind=kind, size=size, ranks=ranks, arrays=arrays, count=REPLAYED)
    return slowest(answer)


def slowest(answer: Mapping[str, Json], name: str = "samples_s") -> list[float]:
    """A step lasts as long as its slowest process."""
    samples = [answer[name], *(other[name] for other in answer.get("others", []))]
    return [max(times) for times in zip(*samples, strict=True)]


class Contest:
    """The sides under one strategy: each proved, then timed in turn. Parity gates speed."""

    def __init__(self, cells: Sequence[Cell], singles: Singles, crew: Crew) -> None:
        self.cells, self.singles, self.crew = list(cells), singles, crew
        self.found: dict[str, dict[str, Json]] = {}
        self.ended: list[Record] = []

    def run(self) -> Iterator[Record]:
        for cell in list(self.cells):
            self._attempt(cell, self._have_reason)
        with contextlib.suppress(CellFailed):  # who did not start says so when it is asked
            self.crew.start(*self.cells)
        for work in (self._prove, self._ready):
            for cell in list(self.cells):
                self._attempt(cell, work)
        self._time("step_s", self.crew.options.seed)
        for cell in list(self.cells):
            self._attempt(cell, self._communication)
        weak = not self.crew.options.quick and self.cells and self.cells[0].mode == "data"
        if weak and self.cells[0].ranks > 1:
            for cell in list(self.cells):
                self._attempt(cell, self._enlarge)
            self._time("weak_step_s", self.crew.options.seed + 1)
        yield from self.ended
        for cell in self.cells:
            self.crew.stop(cell)
            yield self.crew.record(cell, self.found[cell.id])

    def _attempt(self, cell: Cell, work: Callable[[Cell], None]) -> None:
        """On failure the cell has its record, with what was found so far, and is out; the others go on."""
        try:
            work(cell)
        except CellFailed as error:
            known = self.found.get(cell.id, {})
            record = failure(self.crew, cell, error).model_copy(update={"measurements": known})
            self.ended.append(record)
            self.cells.remove(cell)
            self.crew.stop(cell)

    def _say(self, cell: Cell, text: str) -> None:
        self.crew.say(f"{cell.side}, {STRATEGIES[cell.mode]}, {cell.where}: {text}")

    def _have_reason(self, cell: Cell) -> None:
        if cell.mode == "data_local" and not self.singles.batch_norm[cell.side]:
            raise CellFailed("skipped", "The model has no BatchNorm: it is data parallel.", "", cell)

    def _prove(self, cell: Cell) -> None:
        how = "quick" if self.crew.options.quick else "full"
        batch_norm = self.singles.batch_norm[cell.side]
        part = 0
        if batch_norm and cell.ranks > 1:
            part = {"data_local": cell.ranks, "pipeline": micro_batch_count(cell)}.get(cell.mode, 0)
        elif batch_norm and cell.mode == "pipeline":
            part = micro_batch_count(cell)
        self._say(cell, "a step in float64 against one device")
        proof = with_weights(self.crew, cell).call(
            "prove",
            reference=self.singles.reference(cell.side),
            size=proof_size(self.crew.info, cell, self.crew.options),
            optimizers=OPTIMIZERS[how],
            part=part,
        )
        proof.pop("others", None)  # only process 0 holds whole arrays
        self.found[cell.id] = {"parity": proof}
        if not proof["checks"]:
            what = "Process 0 brought no arrays of the step: nothing was compared."
            raise CellFailed("crashed", what, "This is a fault of twinax: please report it.", cell)
        if proof["failed"]:
            failed = [check for check in proof["checks"] if not check["passed"]]
            raise CellFailed(
                "mismatch",
                f"A step under {STRATEGIES[cell.mode]} on {cell.where} is not the single device's: "
                f"{differing(failed[0])}.",
                OWN_SHARE if all(check["kind"] == "buffers" for check in failed) else MEAN,
                cell,
            )

    def _ready(self, cell: Cell) -> None:
        self._say(cell, "compiling and counting")
        answer = self.crew.worker(cell).call("ready", size=cell.size.model_dump())
        others = answer.pop("others", [])
        answer["others_traffic"] = [other["traffic"] for other in others]
        answer["others_held"] = [other["held"] for other in others]
        self.found[cell.id] |= answer
        facts = answer["facts"]
        self.found[cell.id]["sharded_share"] = facts.get("sharded share")
        self.found[cell.id]["micro_batches"] = facts.get("micro-batches")

    def _enlarge(self, cell: Cell) -> None:
        """As many examples on each rank as one device had."""
        size = cell.size.model_copy(update={"batch": cell.size.batch * cell.ranks})
        self._say(cell, f"batch {size.batch}")
        self.crew.worker(cell).call("enlarge", size=size.model_dump())

    def _time(self, name: str, seed: int) -> None:
        """Steps of every cell in turn, in an order drawn anew for each round."""
        for cell in self.cells[:1]:
            self._say(cell, "timing")
        guess = {cell.id: self.found[cell.id]["first_s"] for cell in self.cells}
        times: dict[str, dict[str, Json]] = {}
        try:
            times = timed(self.crew, self.cells, guess, seed)
        except CellFailed as error:
            culprit = next(c for c in self.cells if error.cell is not None and c.id == error.cell.id)
            self._attempt(culprit, lambda cell: _raise(error))
            if self.cells:
                self._time(name, seed)
        for cell in self.cells:
            if cell.id in times:
                self.found[cell.id][name] = times[cell.id]["step_s"]
                self.found[cell.id].setdefault("foreign_cpu", []).extend(times[cell.id]["foreign_cpu"])

    def _communication(self, cell: Cell) -> None:
        """The step's collectives alone, one after the other: what they would cost if nothing hid them."""
        self._say(cell, "its collectives alone")
        worker, total = self.crew.worker(cell), 0.0
        for row in self.found[cell.id]["traffic"]:
            each = row["bytes"] // row["arrays"]
            seconds = replayed(worker, row["kind"], each, row["ranks"], row["arrays"])
            total += row["count"] * statistics.fmean(seconds)  # of a step's many, some wait for a core
        self.found[cell.id]["communication_s"] = total


MEAN = (
    "Is the loss a mean over examples, each on its own, and nothing in the model computed over the whole "
    "batch? Else a split batch is another problem."
)
OWN_SHARE = (
    "Loss and gradients agree. A buffer that the forward pass changes counts or averages what a rank sees, or "
    "each micro-batch in turn."
)


def differing(check: Mapping[str, Json]) -> str:
    """What differs most in a check, and by how much: ``fc.bias in the gradients is off by 1.0e-03 …``."""
    what, path, error = check["kind"], check["where"], check["worst"]
    name = f"the {what}" if what == path else f"{path} in the {what}"
    return f"{name} cannot be compared" if error is None else f"{name} is off by {error:.1e} of its norm"


def _raise(error: Exception) -> None:
    raise error


def micro_batch_count(cell: Cell) -> int:
    """Micro-batches of a pipeline step, as the engines choose them."""
    return MICRO_BATCHES if cell.size.batch % MICRO_BATCHES == 0 else cell.ranks


def timed(
    crew: Crew, cells: Sequence[Cell], guess: Mapping[str, float], seed: int = 0
) -> dict[str, dict[str, Json]]:
    """Seconds per step of each cell, taking turns; the share of the CPU that others used meanwhile."""
    most, budget_s = ROUNDS["quick" if crew.options.quick else "full"]
    order, index, spent = random.Random(seed), 0, 0.0
    found: dict[str, dict[str, Json]] = {c.id: {"step_s": [], "foreign_cpu": []} for c in cells}
    seconds = {c.id: max(guess[c.id], 1e-4) for c in cells}
    while index < most and (index < 2 or spent < budget_s):
        turn = list(cells)
        order.shuffle(turn)
        for cell in turn:
            crew.settle()
            worker = crew.worker(cell)
            count = max(1, min(SAMPLES, int(LONG_S / seconds[cell.id])))
            with clock.watching(worker.pids) as watch:
                samples = slowest(worker.call("time_steps", start=index * SAMPLES, count=count))
            seconds[cell.id] = min(samples)
            spent += sum(samples)
            found[cell.id]["step_s"] += samples
            found[cell.id]["foreign_cpu"].append(watch.foreign_cpu)
        index += 1
    return found
