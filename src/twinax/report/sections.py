"""What a report says, in which order; HTML and Markdown only lay it out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from twinax.analyse import Finding, Findings, words
from twinax.analyse.base import Kind
from twinax.analyse.conditions import DISTURBED
from twinax.records import Run
from twinax.report import (
    cluster_tables,
    graph_tables,
    mistake_tables,
    parallel_tables,
    probe_tables,
    shape_tables,
    tables,
    training_tables,
    usability_tables,
)
from twinax.report.tables import Mark, Table, marked

GRAPH: tuple[Kind, ...] = ("work", "breaks", "graph", "constants", "promotions")
AUTODIFF: tuple[Kind, ...] = ("cost_of_derivatives", "workloads", "derivatives", "conventions")
PARALLEL: tuple[Kind, ...] = (
    "parallel_parity",
    "batch_norm",
    "parallel_step",
    "parallel_memory",
    "parallel_traffic",
    "parallel_lines",
)


@dataclass(frozen=True)
class Section:
    """One section: what follows first, then charts (by group name) and tables.

    ``folded`` tables lie behind a fold; ``charts`` names the group that HTML draws.
    """

    name: str
    title: str
    says: tuple[tuple[Mark, str], ...] = ()
    charts: str = ""
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = field(default=())


def sections(run: Run, findings: Findings) -> list[Section]:
    """Everything below the answer, the proof first; a section with nothing in it is left out."""
    made = [
        _parity(run, findings),
        _speed(findings),
        _cost(findings),
        _calibration(findings),
        _training(findings),
        _fairness(findings),
        _graph(findings),
        _shapes(findings),
        _control_flow(findings),
        _autodiff(findings),
        _parallel(findings),
        _cluster(findings),
        _code(findings),
        _mistakes(findings),
        _first_hour(findings),
        Section("environment", "Environment", folded=tuple(tables.environment(run))),
        _cells(run, findings),
        Section("options", "Options", folded=(tables.options(run),)),
    ]
    return [s for s in made if s.says or s.tables or s.folded]


def _said(found: Iterable[Finding]) -> tuple[tuple[Mark, str], ...]:
    return tuple((marked(finding), finding.title) for finding in found)


def _some(*found: Table | None) -> tuple[Table, ...]:
    return tuple(table for table in found if table is not None)


def _parity(run: Run, findings: Findings) -> Section:
    parity = findings.one("parity")
    wrong = parity is not None and parity.verdict == "mismatch"
    return Section(
        "parity",
        "Where they differ" if wrong else "Are they the same model?",
        _said(findings.of("parity")),
        "parity",
        _some(tables.mismatches(run), tables.unproved(run)),
        _some(tables.checks(run), tables.float32(run), tables.dropout(run)),
    )


def _speed(findings: Findings) -> Section:
    shown = [f for f in findings.of("speed") if f.verdict == "withheld" or f.figures["best"]]
    says = _said((*shown, *findings.of("busy_host")))
    return Section(
        "speed",
        "Which is faster?",
        says,
        "speed",
        _some(tables.ratios(findings)),
        _some(tables.times(findings)),
    )


def _cost(findings: Findings) -> Section:
    return Section(
        "cost",
        "What does it cost to get there?",
        _said((*findings.of("break_even"), *findings.of("memory"))),
        "cost",
        _some(tables.break_even(findings)),
        _some(tables.phases(findings)),
    )


def _calibration(findings: Findings) -> Section:
    return Section(
        "calibration",
        "Why? The libraries underneath",
        _said(findings.of("calibration")),
        "calibration",
        _some(tables.shares(findings)),
    )


def _training(findings: Findings) -> Section:
    return Section(
        "training",
        "Does it learn what it must?",
        _said((*findings.of("training"), *findings.of("training_curves"))),
        "training",
        _some(training_tables.of_test(findings), training_tables.runs(findings)),
    )


def _fairness(findings: Findings) -> Section:
    uneven = [f.figures["fact"] for f in findings.of("fairness") if f.verdict == "asymmetric"]
    says: list[tuple[Mark, str]] = []
    if uneven:
        says.append(("warning", f"The sides differ in {words.listing(uneven, len(uneven))}."))
    return Section("fairness", "What could tilt it", tuple(says), "", _some(tables.fairness(findings)))


def _graph(findings: Findings) -> Section:
    said = [f for kind in GRAPH for f in findings.of(kind)]
    return Section(
        "graph",
        "What becomes of the model as a graph",
        _said(said),
        "graph",
        _some(graph_tables.modules(findings, whole=False), graph_tables.breaks(findings)),
        _some(
            graph_tables.modules(findings, whole=True),
            graph_tables.promotions(findings),
            graph_tables.constants(findings),
            *graph_tables.operations(findings),
        ),
    )


def _shapes(findings: Findings) -> Section:
    return Section(
        "shapes",
        "What happens when sizes change",
        _said((*findings.of("recompiles"), *findings.of("workload"))),
        "shapes",
        _some(shape_tables.workload(findings), shape_tables.break_even(findings)),
        _some(shape_tables.sizes(findings)),
    )


def _control_flow(findings: Findings) -> Section:
    return Section(
        "control-flow",
        "What compilers do with code as first written",
        _said(findings.of("control_flow")),
        tables=_some(probe_tables.control_flow(findings, "naive")),
        folded=_some(probe_tables.control_flow(findings, "idiom")),
    )


def _autodiff(findings: Findings) -> Section:
    return Section(
        "autodiff",
        "What can be differentiated, how right and how fast",
        _said(f for kind in AUTODIFF for f in findings.of(kind)),
        "autodiff",
        _some(
            probe_tables.cost(findings),
            probe_tables.workloads(findings),
            probe_tables.conventions(findings, alike=False),
        ),
        _some(probe_tables.derivatives(findings), probe_tables.conventions(findings, alike=True)),
    )


def _parallel(findings: Findings) -> Section:
    return Section(
        "parallel",
        "What it takes and costs to leave one device",
        _said(f for kind in PARALLEL for f in findings.of(kind)),
        "parallel",
        _some(
            parallel_tables.steps(findings), parallel_tables.between(findings), parallel_tables.lines(findings)
        ),
        _some(
            parallel_tables.proof(findings), parallel_tables.memory(findings), parallel_tables.traffic(findings)
        ),
    )


def _cluster(findings: Findings) -> Section:
    return Section(
        "cluster",
        "Past this machine: what the cost model says",
        _said(findings.of("cluster")),
        "cluster",
        _some(cluster_tables.best(findings, "weak"), cluster_tables.best(findings, "strong")),
        _some(cluster_tables.held_out(findings), cluster_tables.laws(findings)),
    )


def _code(findings: Findings) -> Section:
    return Section(
        "code",
        "The code of both sides",
        _said(findings.of("code")),
        "code",
        _some(usability_tables.code(findings), usability_tables.blocks(findings)),
        _some(usability_tables.names(findings)),
    )


def _mistakes(findings: Findings) -> Section:
    return Section(
        "mistakes",
        "Mistakes that people make, run",
        _said(findings.of("mistakes")),
        tables=_some(mistake_tables.mistakes(findings)),
        folded=_some(mistake_tables.citations(findings)),
    )


def _first_hour(findings: Findings) -> Section:
    return Section(
        "first-hour",
        "The first hour",
        _said(findings.of("first_hour")),
        "first-hour",
        _some(usability_tables.first_hour(findings), usability_tables.tracebacks(findings)),
        _some(usability_tables.packages(findings)),
    )


def _cells(run: Run, findings: Findings) -> Section:
    return Section(
        "cells", "Every cell and how it ended", _said(findings.of("cells")), folded=(tables.cells(run),)
    )


def tiles(findings: Findings) -> list[tuple[str, str, str, str]]:
    """The key figures under the answer: name, figure, remark, and the side (or mark) that colours it."""
    found = [_parity_tile(parity) for parity in findings.of("parity")]
    for program, name in (("step", "Training step"), ("forward", "Inference")):
        if finding := findings.best(program):
            found.append(_speed_tile(name, finding))
    if memory := findings.one("memory"):
        colour = {"torch less": "torch", "jax less": "jax"}.get(memory.verdict, "")
        rows = memory.figures["rows"]
        lowest = {
            s: min((r["peak_bytes"] for r in rows if r["side"] == s), default=None) for s in ("torch", "jax")
        }
        told = " / ".join(words.memory(value) for value in lowest.values() if value is not None)
        remark = "PyTorch / JAX, leanest mode" if None not in lowest.values() else "leanest mode"
        found.append(("Peak memory", told, remark, colour))
    return found


def _parity_tile(parity: Finding) -> tuple[str, str, str, str]:
    match parity.verdict:
        case "holds":
            worst = words.error(parity.figures["worst"])
            return ("Parity", "holds", f"{parity.figures['checks']} checks, worst {worst}", "good")
        case "mismatch":
            return (
                "Parity",
                "fails",
                f"in {len(parity.figures['failed'])} of {parity.figures['checks']} checks",
                "problem",
            )
        case _:
            return ("Parity", "not shown", "no speed ratio without it", "warning")


def _speed_tile(name: str, finding: Finding) -> tuple[str, str, str, str]:
    known = finding.figures
    modes = f"{known['torch_mode']} / {known['jax_mode']}"
    interval = f"ratio {words.between(known['low'], known['high'])}, {modes}"
    winner = known["faster"]
    if winner:
        return (name, f"{words.SIDES[winner]} {words.times(known['times'])}", interval, winner)
    busy = known["disturbed"] > DISTURBED
    return (name, finding.verdict, f"{interval}{', busy host' if busy else ''}", "warning" if busy else "")
