"""The answer on one screen of the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from twinax.analyse import Finding, Findings, Recommendation, words
from twinax.analyse.base import Kind
from twinax.records import Run
from twinax.report import probe_tables, tables

if TYPE_CHECKING:
    from rich.console import Console
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

COLOURS = {"torch": "dark_orange3", "jax": "dodger_blue1", "either": "green", "undecided": "yellow"}
STYLES = {"good": "green", "note": "", "warning": "yellow", "problem": "bold red"}
SIGNS = {"good": "✓", "note": "·", "warning": "!", "problem": "✗"}
LONGEST = 190  # characters of one line of advice; the whole text is in the report
WARNING = 320  # of what warns: its end says what to do
MOST = 3  # lines of each kind
ANSWER = 500  # characters of the answer, at most
PROBED: tuple[Kind, ...] = (
    "work",
    "breaks",
    "constants",
    "promotions",
    "recompiles",
    "workload",
    "control_flow",
    "cost_of_derivatives",
    "derivatives",
    "workloads",
    "conventions",
    "parallel_parity",
    "batch_norm",
    "parallel_step",
    "parallel_memory",
    "parallel_traffic",
    "parallel_lines",
    "cluster",
    "code",
    "mistakes",
    "first_hour",
)


def show(run: Run, findings: Findings, recommendation: Recommendation, console: Console) -> None:
    """Print the answer, the ratios behind it, and what to beware of: at most 40 lines of 100 columns."""
    console.print(_answer(run, recommendation))
    table = _ratios(findings)
    if table.row_count:
        console.print(table)
    answer = _shortened(recommendation.answer, ANSWER)
    for finding in _beside(findings):
        if finding.title in answer and finding.severity in ("good", "note"):
            continue  # where nobody asked which side to choose, the answer is made of findings
        longest = LONGEST if finding.severity in ("good", "note") else WARNING
        what_to_do = (
            finding.figures["hint"] if finding.kind == "cells" and finding.severity == "problem" else ""
        )
        text = f"{finding.title} {what_to_do}".strip()
        console.print(_line(SIGNS[finding.severity], text, STYLES[finding.severity], longest))
    _advise(console, "It does not know", recommendation.does_not_know)
    _advise(console, "What would change it", recommendation.would_change)


def show_conventions(run: Run, findings: Findings, recommendation: Recommendation, console: Console) -> None:
    """Print every special point at which the gradients part, then those at which they are alike."""

    for alike in (False, True):
        found = probe_tables.conventions(findings, alike=alike)
        if found is not None:
            console.print(as_rich(found))
    for line in (recommendation.answer, *recommendation.because):
        console.print(_line("·", line, ""))


def as_rich(found: tables.Table) -> Table:
    """A report's table for the terminal. What it says may come from a stranger: no markup, no escape codes."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*found.columns, title=found.title, caption=found.note, expand=False, pad_edge=False)
    for row in found.rows:
        table.add_row(*(Text(words.printable(cell)) for cell in row.cells))
    return table


def _answer(run: Run, recommendation: Recommendation) -> Panel:
    from rich.panel import Panel
    from rich.text import Text

    colour = COLOURS[recommendation.choose]
    title = Text(_shortened(run.twin.name, 60))
    return Panel(
        Text(_shortened(recommendation.answer, ANSWER), style="bold"), title=title, border_style=colour
    )


def _ratios(findings: Findings) -> Table:
    """The fastest mode of each side, by program."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, expand=False, pad_edge=False)
    for column in ("Program", "PyTorch", "JAX", "Ratio", "95 % interval", "Verdict"):
        table.add_column(column, justify="right" if column in ("Ratio", "95 % interval") else "left")
    for finding in findings.of("speed"):
        known = finding.figures
        if known["best"]:
            table.add_row(
                known["program"],
                f"{words.seconds(known['torch_s'])} {known['torch_mode']}",
                f"{words.seconds(known['jax_s'])} {known['jax_mode']}",
                f"{known['ratio']:.3f}",
                f"{known['low']:.3f}–{known['high']:.3f}",
                _verdict(finding),
            )
    return table


def _verdict(finding: Finding) -> Text:
    from rich.text import Text

    winner = finding.figures["faster"]
    if winner:
        return Text(f"{words.SIDES[winner]} {words.times(finding.figures['times'])}", style=COLOURS[winner])
    return Text(finding.verdict, style="yellow" if finding.verdict == "inconclusive" else "")


def _beside(findings: Findings) -> list[Finding]:
    """What stands beside the ratios, the worst first within each kind."""
    rank = {"problem": 0, "warning": 1, "note": 2, "good": 3}
    withheld = [f for f in findings.of("speed") if f.verdict == "withheld"]
    steps = [f for f in findings.of("break_even") if f.figures["program"] == "step"]
    cells = sorted(findings.of("cells"), key=lambda f: rank[f.severity])[:MOST]
    products = [f for f in findings.of("calibration") if f.figures["kind"] != "bandwidth"]
    shown = [
        *findings.of("parity"),
        *withheld,
        *products,
        *steps,
        *findings.of("memory"),
        *findings.of("training"),
        *findings.of("training_curves"),
    ]
    probed = [f for kind in PROBED for f in findings.of(kind)]
    if findings.of("speed"):  # beside the answer to "which is faster" only what warns has room
        probed = [f for f in probed if f.severity in ("warning", "problem")]
    shown += probed
    return [*shown, *findings.of("busy_host"), *_uneven(findings), *cells]


def _uneven(findings: Findings) -> list[Finding]:
    """One line for all asymmetries."""
    uneven = [f for f in findings.of("fairness") if f.verdict == "asymmetric"]
    if not uneven:
        return []
    facts = words.listing([f.figures["fact"] for f in uneven])
    return [uneven[0].model_copy(update={"title": f"The sides are not treated alike in {facts}."})]


def _advise(console: Console, title: str, lines: Iterable[str]) -> None:
    from rich.text import Text

    shown = list(lines)
    if not shown:
        return
    console.print(Text(title, style="bold"))
    for line in shown[:MOST]:
        console.print(_line("·", line, "dim"))
    if len(shown) > MOST:
        console.print(_line("·", f"{len(shown) - MOST} more in the report", "dim"))


def _line(sign: str, text: str, style: str, longest: int = LONGEST) -> Table:
    """A sign and a sentence that wraps beside it, not under it."""
    from rich.table import Table
    from rich.text import Text

    line = Table.grid(padding=(0, 1, 0, 0))
    line.add_row(
        Text(sign, style=style), Text(_shortened(text, longest), style="dim" if style == "dim" else "")
    )
    return line


def _shortened(text: str, longest: int) -> str:
    """Text on one line without control characters, cut where it would fill the screen."""
    clean = words.printable(text)
    return clean if len(clean) <= longest else f"{clean[: longest - 1]}…"
