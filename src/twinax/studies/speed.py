"""Speed: how long each program takes in each mode, what it costs to get there, and why.

Several processes per side and mode, interleaved: of all workers alive only one works at a time, in an
order drawn anew for each round, after the others' CPU clocks have come to rest. The first process of
each mode finds empty compile caches, the later ones find what it left (a warm start).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

from twinax.errors import CellFailed
from twinax.records import MODES, PROVED, Cell, Json, Options, Outcome, Record, Side, Size, TwinInfo
from twinax.studies.base import Crew, Group, Study, Worker
from twinax.studies.speed_verbs import BLOCK_S

PROGRAMS = ("forward", "grad", "step")
ROUNDS = {"quick": (3, 6, 3.0), "full": (3, 10, 20.0)}
"""Turns of each worker per program: at least, at most, and the seconds that all of them together may take."""
SAMPLES = 10  # per turn at most; a sample of a short program is the mean of many calls
AGREE = {"float64": 1e-9, "float32": 1e-3, "bfloat16": 5e-2}
"""How far, of its norm, an output may move from mode to mode: a compiler may add in another order."""
PEAK = ("matmul", [1024, 768, 3072])
TRIAD = ("bandwidth", [1 << 24])


class SpeedStudy(Study):
    """Seconds per iteration of ``forward``, ``grad`` and ``step``; compile phases; memory; calibration."""

    name: ClassVar[str] = "speed"
    needs: ClassVar[frozenset[str]] = frozenset({"forward"})
    timed: ClassVar[bool] = True
    verbs_module: ClassVar[str] = "twinax.studies.speed_verbs"

    def plan(self, info: TwinInfo, options: Options) -> list[Group]:
        preset = info.presets.get("speed_quick" if options.quick else "speed", Size(batch=8))
        size = preset.model_copy(update={"batch": options.batch or preset.batch})

        def cell(side: Side, mode: str, repeat: int) -> Cell:
            return Cell(
                twin=info.name,
                study=self.name,
                side=side,
                mode=mode,
                size=size,
                dtype=options.dtype,
                device=options.device,
                repeat=repeat,
            )

        repeats = range(processes(options))
        cells = [cell(side, mode, i) for i in repeats for side in info.sides for mode in MODES[side]]
        calibration = [cell(side, "calibrate", 0) for side in info.sides]
        return [Group(self.name, tuple(cells)), Group(self.name, tuple(calibration))]

    def conduct(self, group: Group, crew: Crew) -> Iterator[Record]:
        if group.cells[0].mode == "calibrate":
            yield from calibrate(group.cells, crew)
            return
        chosen = crew.options.modes or (tuple(PROVED.values()) if crew.options.quick else ())
        wanted = [cell for cell in group.cells if not chosen or cell.mode in chosen]
        for cell in group.cells:
            if cell not in wanted:
                hint = f"Measure it with --modes {cell.mode}, or without --quick."
                yield crew.record(
                    cell, outcome=Outcome.SKIPPED, message=f"Mode {cell.mode} was not asked for.", hint=hint
                )
        for repeat in range(processes(crew.options)):
            cells = [cell for cell in wanted if cell.repeat == repeat]
            yield from Contest(cells, crew, repeat).run()


class Contest:
    """One process of every mode, taking turns. A cell that fails leaves; the others go on."""

    def __init__(self, cells: Sequence[Cell], crew: Crew, repeat: int) -> None:
        self.crew, self.repeat, self.cells = crew, repeat, list(cells)
        self.order = random.Random(f"{crew.options.seed}-{repeat}")
        self.workers: dict[str, Worker] = {}
        self.found: dict[str, dict[str, Json]] = {}
        self.seconds: dict[str, float] = {}  # about what a call of the current program takes
        self.outputs: dict[str, dict[str, list[float]]] = {}  # by cell: see `fingerprint`
        self.failed: list[Record] = []

    def run(self) -> Iterator[Record]:
        where = f"process {self.repeat + 1} of {processes(self.crew.options)}"
        self.order.shuffle(self.cells)
        for cell in list(self.cells):
            self.crew.say(f"{cell.side} {cell.mode}, {where}: import and build")
            self._attempt(cell, self._build)
        for program in (p for p in PROGRAMS if p in self.crew.info.programs):
            for cell in list(self.cells):
                self.crew.say(f"{cell.side} {cell.mode}, {where}: first {program}")
                self._attempt(cell, self._prepare, program)
            if program == "forward":
                self._compare_modes()
            self.crew.say(f"timing {program}, {where}")
            self._rounds(program)
        for cell in list(self.cells):
            self._attempt(cell, self._finish)
        yield from self.failed
        for cell in self.cells:
            yield self.crew.record(cell, self.found[cell.id])
            self.crew.stop(cell)

    def _attempt(self, cell: Cell, action: Callable[..., None], *arguments: Json) -> None:
        """Do something with a cell's worker; on failure the cell has its record and is out."""
        try:
            action(cell, *arguments)
        except CellFailed as error:
            outcome = Outcome(error.outcome)
            self.failed.append(self.crew.record(cell, outcome=outcome, message=error.what, hint=error.hint))
            self.cells.remove(cell)
            self.crew.stop(cell)

    def _build(self, cell: Cell) -> None:
        self.crew.settle()
        worker = self.workers[cell.id] = self.crew.worker(cell)
        times = {name: worker.ready[name] for name in ("import_s", "build_s")}
        self.found[cell.id] = {"process": self.repeat, "warm": self.repeat > 0, **times, "programs": {}}

    def _prepare(self, cell: Cell, program: str) -> None:
        self.crew.settle()
        answer = self.workers[cell.id].call("prepare", program=program)
        self.seconds[cell.id] = answer.pop("iteration_s")
        empty = {"samples_s": [], "disturbed": [], "foreign_cpu": [], "rounds": []}
        self.found[cell.id]["programs"][program] = {**answer, **empty}

    def _compare_modes(self) -> None:
        """A mode that computes something else than its side's proved one leaves: its speed means nothing."""
        for cell in list(self.cells):
            self._attempt(cell, self._fingerprint)
        for cell in list(self.cells):
            proved = next((c for c in self.cells if (c.side, c.mode) == (cell.side, PROVED[cell.side])), None)
            if proved and proved is not cell:
                self._attempt(cell, self._agree, proved)

    def _fingerprint(self, cell: Cell) -> None:
        self.outputs[cell.id] = self.workers[cell.id].call("fingerprint")["outputs"]

    def _agree(self, cell: Cell, proved: Cell) -> None:
        mine, theirs = self.outputs[cell.id], self.outputs[proved.id]
        for name, (norm, along) in theirs.items():
            gap = max(abs(mine[name][0] - norm), abs(mine[name][1] - along)) / (norm or 1.0)
            if not gap <= AGREE[cell.dtype]:
                raise CellFailed(
                    "mismatch",
                    f"In mode {cell.mode} the output '{name}' moves by {gap:.1e} of its norm from mode "
                    f"{proved.mode}; {AGREE[cell.dtype]:.0e} is allowed. Its speed was not measured.",
                    f"The compiler changes the model: report it, or measure with --modes {proved.mode}.",
                    cell,
                )

    def _rounds(self, program: str) -> None:
        """Rounds in which every worker has one turn; after the first it is known what a round takes."""
        least, most, budget_s = ROUNDS["quick" if self.crew.options.quick else "full"]
        count, index = 1, 0
        while index < count and self.cells:
            turn = list(self.cells)
            self.order.shuffle(turn)
            for cell in turn:
                self._attempt(cell, self._turn, program, index)
            index += 1
            if index == 1:
                round_s = sum(max(self.seconds[cell.id], BLOCK_S) for cell in self.cells)
                count = max(least, min(most, int(budget_s / max(round_s, BLOCK_S))))

    def _turn(self, cell: Cell, program: str, index: int) -> None:
        self.crew.settle()
        answer = take_turn(self.workers[cell.id], program, self.seconds[cell.id], index)
        count = len(answer["samples_s"])
        self.seconds[cell.id] = min(self.seconds[cell.id], *answer["samples_s"])
        found = self.found[cell.id]["programs"][program]
        found["samples_s"] += answer["samples_s"]
        found["disturbed"] += [answer["disturbed"]] * count
        found["foreign_cpu"] += [answer["foreign_cpu"]] * count
        found["rounds"] += [index] * count

    def _finish(self, cell: Cell) -> None:
        self.found[cell.id]["memory"] = self.workers[cell.id].call("peak")


def take_turn(worker: Worker, program: str, seconds: float, index: int) -> dict[str, Json]:
    """One block of samples; ``seconds`` is about what a call takes, ``index`` the turns taken before."""
    samples = max(1, min(SAMPLES, math.ceil(BLOCK_S / seconds)))
    calls = max(1, round(BLOCK_S / (samples * seconds)))
    start = index * samples * calls
    return worker.call("time_block", program=program, samples=samples, calls=calls, start=start)


def calibrate(cells: Sequence[Cell], crew: Crew) -> Iterator[Record]:
    """Both libraries on the model's own largest matrix products and convolutions, and on memory."""
    crew.say("calibrating both libraries at the model's own sizes")
    crew.start(*cells)
    found: dict[str, list[Json]] = {cell.id: [] for cell in cells}
    most = 1 if crew.options.quick else 3
    own = crew.worker(cells[0]).call("shapes", most=most)
    kernels = [(kind, shape) for kind in ("matmul", "convolution") for shape in own[kind]]
    for kind, shape in [*kernels, PEAK, TRIAD]:
        for cell in cells:
            worker = crew.worker(cell)
            crew.settle()
            found[cell.id].append(worker.call("time_kernel", kind=kind, shape=shape))
    for cell in cells:
        rates = [row["rate"] for row in found[cell.id] if row["unit"] == "FLOP/s"]
        yield crew.record(cell, {"calibration": found[cell.id], "peak_flops": max(rates)})


def processes(options: Options) -> int:
    """Processes per side and mode."""
    return 2 if options.quick else 5
