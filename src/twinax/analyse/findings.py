"""What follows from the records of a run.

``analyse`` is pure: the same run gives the same findings, in the same order (the bootstrap is
seeded from the run's options).
"""

from __future__ import annotations

from twinax.analyse import (
    autodiff,
    calibration,
    cluster,
    conditions,
    control_flow,
    cost,
    derivative_cost,
    graph,
    mistakes,
    parallel,
    parity,
    shapes,
    speed,
    training,
    usability,
)
from twinax.analyse.base import Findings
from twinax.records import Run


def analyse(run: Run) -> Findings:
    """Everything that follows from a run, complete or not."""
    verdict = parity.judge(run)
    timings = speed.collect(run)
    ratios = speed.ratios(run, timings, verdict)
    compared = {"parity", "speed"} & set(run.studies)  # else nobody asked which one to choose
    items = [
        *([verdict, *ratios] if compared else []),
        *speed.times(timings),
        *cost.findings(run, timings),
        *calibration.findings(run, timings, ratios),
        *training.findings(run),
        *graph.findings(run),
        *shapes.findings(run),
        *control_flow.findings(run),
        *derivative_cost.findings(run),
        *autodiff.findings(run),
        *parallel.findings(run),
        *cluster.findings(run),
        *usability.findings(run),
        *mistakes.findings(run),
        *conditions.findings(run, timings),
    ]
    return Findings(twin=run.twin.name, seed=run.options.seed, items=tuple(items))
