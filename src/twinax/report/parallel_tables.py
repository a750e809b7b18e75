"""The tables of parallel computing: proof, time, memory, traffic and lines of each strategy."""

from __future__ import annotations

from collections.abc import Mapping

from twinax.analyse import Findings, words
from twinax.analyse.cluster_calibration import PARTS
from twinax.analyse.parallel import NAMES
from twinax.records import Json
from twinax.report.tables import Row, Table


def proof(findings: Findings) -> Table | None:
    """Each cell's proof, or why there is none."""
    finding = findings.one("parallel_parity")
    if finding is None:
        return None
    rows = tuple(
        Row(
            (
                *_who(row),
                row["outcome"],
                words.error(row["worst"]) if row["checks"] else "–",
                str(row["checks"]),
                row["message"],
            ),
            "problem"
            if row["outcome"] == "mismatch"
            else ""
            if row["outcome"] in ("ok", "skipped")
            else "warning",
        )
        for row in finding.figures["rows"]
    )
    columns = ("Strategy", "Side", "Where", "Outcome", "Largest error", "Checks", "Message")
    return Table("One step in float64 against the single device's", columns, rows, (4, 5))


def _who(row: Mapping[str, Json]) -> tuple[str, str, str]:
    return NAMES[row["strategy"]], words.SIDES[row["side"]], row["where"]


def steps(findings: Findings) -> Table | None:
    """Step time, scaling, and what the collectives would take alone."""
    found = [f for f in findings.of("parallel_step") if f.figures["side"] != "both"]
    rows = tuple(
        Row(
            (
                *_who(row),
                str(row["batch"]),
                words.seconds(row["step_s"]),
                words.times(row["strong"]),
                "–" if row["weak"] is None else words.percent(row["weak"]),
                "–" if row["communication_share"] is None else words.percent(row["communication_share"]),
            ),
            "warning" if row["disturbed"] else "",
        )
        for finding in found
        for row in finding.figures["rows"]
    )
    columns = ("Strategy", "Side", "Where", "Batch", "Step", "Speed-up", "Weak efficiency", "Communication")
    note = (
        "Medians. Speed-up: one device's time over this one, for the same global batch. Weak efficiency: the "
        "same with as many examples on each rank as one device had. Communication: the step's collectives "
        "alone, as a share of the step (100 % where they would take longer than it). A marked row was timed on "
        "a busy machine."
    )
    return Table("Time of a training step", columns, rows, (3, 4, 5, 6, 7), note) if rows else None


def between(findings: Findings) -> Table | None:
    """The two sides' step times under each strategy."""
    found = [f for f in findings.of("parallel_step") if f.figures["side"] == "both"]
    rows = tuple(
        Row(
            (
                NAMES[row["strategy"]],
                row["where"],
                words.three(row["ratio"]),
                f"{words.three(row['low'])}–{words.three(row['high'])}",
                _winner(row["verdict"]),
            )
        )
        for finding in found
        for row in finding.figures["rows"]
    )
    columns = ("Strategy", "Where", "PyTorch / JAX", "95 % interval", "Faster")
    return Table("The two sides, in turn", columns, rows, (2, 3)) if rows else None


def _winner(verdict: str) -> str:
    return {"faster": "PyTorch", "slower": "JAX"}.get(verdict, verdict)


def memory(findings: Findings) -> Table | None:
    """Bytes that the fullest rank holds."""
    rows = tuple(
        Row(
            (
                *_who(row),
                *(words.memory(row[part]) for part in (*PARTS, "total")),
            )
        )
        for finding in findings.of("parallel_memory")
        for row in finding.figures["rows"]
    )
    columns = ("Strategy", "Side", "Where", *(part.capitalize() for part in PARTS), "Total")
    note = (
        "PyTorch: activations are the tensors kept for the backward pass, buffers DistributedDataParallel's "
        "second copy of the gradients. JAX: XLA tells what a step's temporary buffers need at one time, and "
        "lets each gradient go once its weight is updated; gradients count as far as they have room there, and "
        "what is left, activations and all that collectives work in, stands under activations. Optimizer: "
        "of SGD with momentum, a copy of the parameters; Adam keeps two."
    )
    return Table("Memory of a rank", columns, rows, tuple(range(3, 9)), note) if rows else None


def traffic(findings: Findings) -> Table | None:
    """Bytes of one rank in one step by kind of collective."""
    rows = tuple(
        Row(
            (
                *_who(row),
                row["kind"].replace("_", "-"),
                f"{row['calls']:,}",
                f"{row['bytes']:,}",
                "–" if row["expected"] is None else f"{row['expected']:,.0f}",
                _gap(row),
            )
        )
        for finding in findings.of("parallel_traffic")
        for row in finding.figures["rows"]
    )
    columns = ("Strategy", "Side", "Where", "Collective", "Calls", "Bytes", "Formula", "Difference")
    note = (
        "PyTorch: counted as they are called. JAX: read from the compiled program. Formulas: data parallel "
        "sums every gradient once. Fully sharded: PyTorch gathers every parameter in the forward and again in "
        "the backward pass and scatters every gradient once; JAX gathers once and, on a CPU, sums gradients "
        "whole. JAX sums the loss with them. More can be BatchNorm's statistics, padding, which parameters had "
        "a gradient (DistributedDataParallel must be told to look), or activations that a compiler gathers; "
        "less can be an embedding whose gradient is sent as activations, a parameter that the loss does not "
        "depend on, or one that is kept between the passes."
    )
    return Table("What is sent", columns, rows, (4, 5, 6, 7), note) if rows else None


def _gap(row: Mapping[str, Json]) -> str:
    if row["expected"] is None:
        return "–"
    gap = row["bytes"] - row["expected"]
    return "exact" if gap == 0 else f"{gap:+,.0f}"


def lines(findings: Findings) -> Table | None:
    """Lines of code that each strategy takes beyond one device's program."""
    finding = findings.one("parallel_lines")
    if finding is None:
        return None
    sides = [s for s in ("torch", "jax") if any(s in row for row in finding.figures["rows"])]
    rows = tuple(
        Row((NAMES[row["strategy"]], *(_changed(row.get(side)) for side in sides)))
        for row in finding.figures["rows"]
    )
    note = (
        "The programs are in twinax.probes.parallel; each runs, and a test holds that all give the same losses."
    )
    return Table("Lines changed", ("Strategy", *(words.SIDES[side] for side in sides)), rows, (), note)


def _changed(found: Mapping[str, Json] | None) -> str:
    return "–" if not found else f"{found['added']} new, {found['removed']} gone, {found['lines']} in all"
