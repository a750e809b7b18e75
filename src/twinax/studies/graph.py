"""Graph: what each framework captures of the model, kept as files, with operation counts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import ClassVar

from twinax.errors import CellFailed
from twinax.records import COMPILED, Cell, Json, Options, Outcome, Record, Size, TwinInfo
from twinax.studies.base import Crew, Group, Study

PROGRAMS = ("forward", "grad", "step")


class GraphStudy(Study):
    """torch.export, the joint ATen graph, dynamo and inductor; jaxpr, StableHLO and XLA's optimised HLO."""

    name: ClassVar[str] = "graph"
    needs: ClassVar[frozenset[str]] = frozenset({"forward"})
    verbs_module: ClassVar[str] = "twinax.studies.graph_verbs"

    def plan(self, info: TwinInfo, options: Options) -> list[Group]:
        # the speed study's own size and type: what is captured is what was timed
        preset = info.presets.get("speed_quick" if options.quick else "speed", Size(batch=8))
        size = preset.model_copy(update={"batch": options.batch or preset.batch})
        cells = [
            Cell(
                twin=info.name,
                study=self.name,
                side=side,
                mode=COMPILED[side],
                size=size,
                dtype=options.dtype,
                device=options.device,
            )
            for side in info.sides
        ]
        return [Group(self.name, tuple(cells))]

    def conduct(self, group: Group, crew: Crew) -> Iterator[Record]:
        crew.say("capturing graphs")
        with contextlib.suppress(CellFailed):  # met again below, by its own cell
            crew.start(*group.cells)
        for cell in group.cells:
            with contextlib.suppress(CellFailed):
                for program in programs(crew.info, crew.options):  # both sides at once: nothing is timed here
                    kernels = not crew.options.quick  # inductor takes half a minute for a large model
                    crew.worker(cell).send("capture", program=program, kernels=kernels)
        for cell in group.cells:
            found: dict[str, Json] = {}
            files: dict[str, str] = {}
            try:
                for program in programs(crew.info, crew.options):
                    answer = crew.worker(cell).receive()
                    found[program] = answer["found"]
                    files |= answer["files"]
            except CellFailed as error:
                outcome = Outcome(error.outcome)
                known = {"message": error.what, "hint": error.hint, "files": files}
                yield crew.record(cell, {"programs": found}, outcome=outcome, **known)
            else:
                yield crew.record(cell, {"programs": found}, files=files)
            crew.stop(cell)


def programs(info: TwinInfo, options: Options) -> list[str]:
    """The programs to capture; a quick run leaves out the step, which takes dynamo longest to trace."""
    return [p for p in (PROGRAMS[:2] if options.quick else PROGRAMS) if p in info.programs]
