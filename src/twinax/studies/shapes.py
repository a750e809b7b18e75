"""Shapes: what does each mode do when the size of the batch or of the sequence changes?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

from twinax.data.lengths import DISTRIBUTION, draw
from twinax.errors import BadInput, CellFailed
from twinax.records import SHAPE_MODES, Cell, Json, Options, Outcome, Record, Size, TwinInfo
from twinax.studies.base import Crew, Group, Study

SEQUENCE = "sequence"  # the dimension that varies from example to example
SHORTEST = 8  # tokens: a pair of sentences with its marks
QUICK = {"torch": ("eager", "compile"), "jax": ("op_by_op", "jit")}


class ShapesStudy(Study):
    """First call, compilations and steady state of one program at several sizes, one mode after the other."""

    name: ClassVar[str] = "shapes"
    needs: ClassVar[frozenset[str]] = frozenset({"forward", "grad"})
    timed: ClassVar[bool] = True
    verbs_module: ClassVar[str] = "twinax.studies.shapes_verbs"

    def plan(self, info: TwinInfo, options: Options) -> list[Group]:
        preset = info.presets.get("speed_quick" if options.quick else "speed", Size(batch=8))
        size = preset.model_copy(update={"batch": options.batch or preset.batch})
        modes = QUICK if options.quick else SHAPE_MODES
        cells = [
            Cell(
                twin=info.name,
                study=self.name,
                side=side,
                mode=mode,
                size=size,
                dtype=options.dtype,
                device=options.device,
            )
            for side in info.sides
            for mode in modes[side]
            if not options.modes or mode in options.modes
        ]
        return [Group(self.name, tuple(cells))] if cells else []

    def conduct(self, group: Group, crew: Crew) -> Iterator[Record]:
        for cell in group.cells:
            yield self._swept(cell, crew)
            crew.stop(cell)  # alone, so that nothing else computes while it is timed

    def _swept(self, cell: Cell, crew: Crew) -> Record:
        program = "forward" if crew.options.quick else "grad"
        points: list[Json] = []
        limit, note = None, ""
        try:
            for size in sizes(cell.size, quick=crew.options.quick):
                crew.say(f"{cell.side} {cell.mode}: {program} at {told(size)}")
                answer = crew.worker(cell).call("reshape", program=program, size=size.model_dump())
                limit = answer.pop("limit")
                points.append({"size": size.model_dump(), **answer})
        except BadInput as error:
            if not points:
                raise
            note = error.what  # example data of one size
        except CellFailed as error:
            known = {"outcome": Outcome(error.outcome), "message": error.what, "hint": error.hint}
            return crew.record(cell, {"program": program, "points": points} if points else {}, **known)
        found: dict[str, Json] = {"program": program, "points": points, "limit": limit, "note": note}
        if SEQUENCE in cell.size.dims:
            lengths = crew.options.lengths or draw(cell.size.dims[SEQUENCE], crew.options.seed)
            stated = "as given" if crew.options.lengths else DISTRIBUTION
            found["workload"] = {"lengths": list(lengths), "stated": stated, "batch": cell.size.batch}
        return crew.record(cell, found)


def sizes(size: Size, *, quick: bool) -> list[Size]:
    """The sizes of the sweep, the preset's own first: lengths where there is a sequence, and batches."""

    def resized(part: float, *, batch: bool = False) -> Size:
        if batch:
            return size.model_copy(update={"batch": max(1, math.ceil(size.batch * part))})
        length = max(min(SHORTEST, size.dims[SEQUENCE]), round(size.dims[SEQUENCE] * part))
        return size.model_copy(update={"dims": {**size.dims, SEQUENCE: length}})

    if SEQUENCE in size.dims:
        lengths = [resized(part) for part in ((1, 0.5, 0.25) if quick else (1, 0.75, 0.5, 0.25, 0.125))]
        wanted = [*lengths, *([] if quick else [resized(0.5, batch=True)])]
    else:
        wanted = [resized(part, batch=True) for part in ((1, 1.5, 2) if quick else (1, 1.5, 2, 0.5))]
    return [s for i, s in enumerate(wanted) if s not in wanted[:i]]


def told(size: Size) -> str:
    """``batch 8, sequence 128``."""
    return ", ".join([f"batch {size.batch}", *(f"{name} {value}" for name, value in size.dims.items())])
