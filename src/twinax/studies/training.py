"""Training: does each side, trained from the same weights, reach what the twin promises?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from twinax.records import PROVED, Cell, Options, Outcome, Record, Size, TwinInfo
from twinax.studies.base import Crew, Group, Study


class TrainingStudy(Study):
    """For twins with a target; the others have no cells."""

    name: ClassVar[str] = "training"
    needs: ClassVar[frozenset[str]] = frozenset({"step"})
    verbs_module: ClassVar[str] = "twinax.studies.training_verbs"

    def plan(self, info: TwinInfo, options: Options) -> list[Group]:
        if not info.target:
            return []
        size = info.presets.get("parity", Size(batch=4))
        cells = [
            Cell(twin=info.name, study=self.name, side=s, mode=PROVED[s], size=size, device=options.device)
            for s in info.sides
        ]
        return [Group(self.name, tuple(cells))]

    def conduct(self, group: Group, crew: Crew) -> Iterator[Record]:
        crew.say("training both sides to the twin's target")
        crew.start(*group.cells)
        for cell in group.cells:
            crew.worker(cell).send("train")
        for cell in group.cells:
            found = crew.worker(cell).receive()
            if found["met"]:
                yield crew.record(cell, found)
                continue
            result = f"loss {found['final_loss']:.6f}, accuracy {found['accuracy']:.2f}"
            yield crew.record(
                cell,
                found,
                outcome=Outcome.MISMATCH,
                message=f"Training ended at {result}; promised: {found['claim']}",
                hint="The report shows the loss curve of both sides.",
            )
