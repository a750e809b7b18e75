"""Code: what does the source of each side look like, and which idea takes how much of it?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from twinax.errors import CellFailed
from twinax.records import Cell, Options, Outcome, Record, Size, TwinInfo
from twinax.studies.base import Crew, Group, Study


class CodeStudy(Study):
    """Figures of both sources, and the two beside each other block by block; nothing is run."""

    name: ClassVar[str] = "code"
    needs: ClassVar[frozenset[str]] = frozenset()
    verbs_module: ClassVar[str] = "twinax.studies.code_verbs"

    def plan(self, info: TwinInfo, options: Options) -> list[Group]:
        cell = Cell(
            twin=info.name,
            study=self.name,
            side="both",
            mode="read",
            size=Size(batch=1),
            dtype=options.dtype,
            device=options.device,
        )
        return [Group(self.name, (cell,))]

    def conduct(self, group: Group, crew: Crew) -> Iterator[Record]:
        (cell,) = group.cells
        crew.say("reading the sources")
        if not crew.info.sources:
            yield crew.record(
                cell,
                outcome=Outcome.SKIPPED,
                message=f"{crew.info.name} has no source that could be read.",
                hint="Compare a model of the zoo, or a file of your own.",
            )
            return
        try:
            found = crew.worker(cell).call("read", sources=crew.info.sources)
        except CellFailed as error:
            yield crew.record(cell, outcome=Outcome(error.outcome), message=error.what, hint=error.hint)
            return
        finally:
            crew.stop(cell)
        if any(side["figures"] for side in found["sides"].values()):
            yield crew.record(cell, found)
            return
        said = " ".join(f"{side}: {known['said']}" for side, known in found["sides"].items())
        yield crew.record(
            cell,
            found,
            outcome=Outcome.UNSUPPORTED,
            message=f"Neither source can be read. {said}",
            hint="Give sources that Python can parse.",
        )
