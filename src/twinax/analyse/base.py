"""What a finding is: one thing that follows from the records, with its evidence."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from twinax.records import Frozen, Json

Kind = Literal[
    "parity",
    "speed",
    "time",
    "break_even",
    "memory",
    "compile",
    "warm_start",
    "calibration",
    "peak_share",
    "busy_host",
    "fairness",
    "training",
    "training_curves",
    "graph",
    "work",
    "breaks",
    "constants",
    "promotions",
    "recompiles",
    "shape_break_even",
    "workload",
    "control_flow",
    "cost_of_derivatives",
    "derivatives",
    "workloads",
    "conventions",
    "parallel_parity",
    "parallel_step",
    "parallel_memory",
    "parallel_traffic",
    "parallel_lines",
    "batch_norm",
    "cluster",
    "code",
    "mistakes",
    "first_hour",
    "cells",
]
Severity = Literal["good", "note", "warning", "problem"]


class Finding(Frozen):
    """One thing that follows from the records.

    Attributes:
        kind: What it is about.
        title: One plain sentence with its numbers.
        verdict: The short answer, in the words of its kind: ``holds``, ``faster``, ``never`` …
        severity: How much it should worry the reader.
        evidence: Ids of the records it rests on.
        figures: The numbers behind the sentence; seconds, bytes, FLOP.
    """

    kind: Kind
    title: str
    verdict: str
    severity: Severity = "note"
    evidence: tuple[str, ...] = ()
    figures: dict[str, Json] = Field(default_factory=dict)


class Findings(Frozen):
    """The findings of a run, in the order in which they are shown."""

    twin: str
    seed: int
    items: tuple[Finding, ...]

    def of(self, kind: Kind) -> tuple[Finding, ...]:
        """The findings of one kind."""
        return tuple(item for item in self.items if item.kind == kind)

    def one(self, kind: Kind) -> Finding | None:
        """The first finding of a kind, or None."""
        return next(iter(self.of(kind)), None)

    def best(self, program: str) -> Finding | None:
        """The speed ratio of a program between each side's fastest mode; None where it is not shown."""
        return next(
            (f for f in self.of("speed") if f.figures.get("program") == program and f.figures["best"]), None
        )
