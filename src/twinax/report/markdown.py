"""The report as Markdown: for pull requests, issues and terminals without a browser."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

from twinax.analyse import Findings, Recommendation, words
from twinax.records import Run
from twinax.report.sections import Section, sections
from twinax.report.tables import Row, Table

SIGNS = {"": "", "good": "✓ ", "warning": "⚠ ", "problem": "✗ "}


def render(run: Run, findings: Findings, recommendation: Recommendation) -> str:
    """The report as GitHub-flavoured Markdown; the same run gives the same text."""
    lines = [f"# {escaped(run.twin.name)}: PyTorch or JAX?", "", escaped(run.twin.title), ""]
    lines += [f"**{escaped(recommendation.answer)}**", ""]
    for title, reasons in (
        ("It rests on", recommendation.because),
        ("It does not know", recommendation.does_not_know),
        ("What would change it", recommendation.would_change),
    ):
        lines += _list(title, reasons)
    for section in sections(run, findings):
        lines += _section(section)
    if run.twin.notes:
        lines += ["## Known differences and limits", "", *(f"- {escaped(note)}" for note in run.twin.notes), ""]
    return "\n".join(lines).rstrip() + "\n"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no table border, one line."""
    safe = html.escape(words.printable(text), quote=False)
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", safe)


def _list(title: str, lines: Iterable[str]) -> list[str]:
    items = [f"- {escaped(line)}" for line in lines]
    return [f"### {title}", "", *items, ""] if items else []


def _section(section: Section) -> list[str]:
    lines = [f"## {section.title}", ""]
    lines += [f"- {SIGNS[mark]}{escaped(text)}" for mark, text in section.says]
    lines += [""] if section.says else []
    for table in (*section.tables, *section.folded):
        lines += _table(table)
    return lines


def _table(table: Table) -> list[str]:
    rules = ["---:" if i in table.numeric else "---" for i in range(len(table.columns))]
    lines = [f"### {escaped(table.title)}", ""] if table.title else []
    lines += [_line(map(escaped, table.columns)), _line(rules), *(_row(row) for row in table.rows), ""]
    return [*lines, escaped(table.note), ""] if table.note else lines


def _row(row: Row) -> str:
    first, *rest = map(escaped, row.cells)
    sign = SIGNS[row.mark] if row.mark in ("warning", "problem") else ""
    return _line([f"{sign}{first}", *rest])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
