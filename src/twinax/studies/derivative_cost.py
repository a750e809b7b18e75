"""What the model's own derivatives cost: gradient, Hessian-vector product, one gradient per example."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from twinax.errors import CellFailed
from twinax.frameworks.base import DERIVATIVES
from twinax.records import PROVED, Cell, Json, Options, Outcome, Record, Size, TwinInfo
from twinax.studies.base import Crew, Group, Study

AGREE = {"float64": 1e-9, "float32": 1e-3, "bfloat16": 5e-2}
"""How far, of its norm, a derivative may lie from the same one taken another way, or on the other side."""
SAME = (("rematerialised", "gradient"), ("per_sample", "per_sample_loop"))
"""Two ways to the same numbers on one side."""


class DerivativeCostStudy(Study):
    """Each derivative of the loss in eval mode: time, memory, and whether all ways give the same numbers."""

    name: ClassVar[str] = "derivative_cost"
    needs: ClassVar[frozenset[str]] = frozenset({"grad"})
    timed: ClassVar[bool] = True
    verbs_module: ClassVar[str] = "twinax.studies.derivative_cost_verbs"

    def plan(self, info: TwinInfo, options: Options) -> list[Group]:
        preset = info.presets.get("speed_quick" if options.quick else "speed", Size(batch=8))
        size = preset.model_copy(update={"batch": options.batch or preset.batch})
        cells = [
            Cell(
                twin=info.name,
                study=self.name,
                side=side,
                mode=PROVED[side],
                size=size,
                dtype=options.dtype,
                device=options.device,
            )
            for side in info.sides
        ]
        return [Group(self.name, tuple(cells))]

    def conduct(self, group: Group, crew: Crew) -> Iterator[Record]:
        first: dict[str, Json] = {}
        for cell in group.cells:
            yield self._measured(cell, crew, first)
            crew.stop(cell)  # alone, so that nothing else computes while it is timed

    def _measured(self, cell: Cell, crew: Crew, first: dict[str, Json]) -> Record:
        """One side; ``first`` holds what the side before it found, to compare with."""
        rows: dict[str, Json] = {}
        try:
            for kind in DERIVATIVES:
                crew.say(f"{cell.side} {cell.mode}: {kind.replace('_', ' ')}")
                rows[kind] = crew.worker(cell).call("derivative", kind=kind)
        except CellFailed as error:
            known = {"outcome": Outcome(error.outcome), "message": error.what, "hint": error.hint}
            return crew.record(cell, {"derivatives": rows}, **known)
        wrong = disagreements(rows, first, AGREE[cell.dtype])
        if not first:
            first |= rows
        if not wrong:
            return crew.record(cell, {"derivatives": rows})
        return crew.record(
            cell,
            {"derivatives": rows},
            outcome=Outcome.MISMATCH,
            message=f"Derivatives that are not the same: {'; '.join(wrong)}.",
            hint="Run twinax parity: it names the layer. If it holds, the framework's transform is wrong.",
        )


def disagreements(rows: dict[str, Json], other: dict[str, Json], bound: float) -> list[str]:
    """What differs between two ways on one side, and between the sides; NaN always does."""
    pairs = [(f"{a} and {b}", rows.get(a), rows.get(b)) for a, b in SAME]
    pairs += [(f"{kind} on both sides", row, other.get(kind)) for kind, row in rows.items()]
    found = []
    for name, a, b in pairs:
        if not (a and b and a["numbers"] and b["numbers"]):
            continue
        scale = max(abs(b["numbers"][0]), 1e-30)
        gap = max(abs(x - y) for x, y in zip(a["numbers"], b["numbers"], strict=True)) / scale
        if not gap <= bound:
            found.append(f"{name.replace('_', ' ')} (by {gap:.1e} of the norm; {bound:.0e} is allowed)")
    return found
