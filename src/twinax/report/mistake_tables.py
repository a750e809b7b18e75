"""The tables of the mistakes: what happens after each on both sides, and where people are warned of it."""

from __future__ import annotations

from twinax.analyse import Findings, words
from twinax.analyse.mistakes import SILENT
from twinax.records import Json
from twinax.report.tables import Mark, Row, Table


def mistakes(findings: Findings) -> Table | None:
    """Every mistake with its verdict, message and tool on each side; silent ones are marked."""
    sides = _sides(findings)
    names = dict.fromkeys(name for rows in sides.values() for name in rows)
    rows = tuple(
        Row(
            (name, _what(sides, name), *(_told(rows.get(name)) for rows in sides.values())),
            _mark([rows[name]["verdict"] for rows in sides.values() if name in rows]),
        )
        for name in names
    )
    note = (
        "Every program was run with the mistake and without it, and compared with a reference. "
        "“Error later” is raised at another line than the mistaken one."
    )
    columns = ("Mistake", "What", *(words.SIDES[side] for side in sides))
    return Table("Mistakes that people make", columns, rows, note=note) if rows else None


def citations(findings: Findings) -> Table | None:
    """Where each mistake is warned of, or was seen."""
    cited = {
        name: row["citation"] for rows in reversed(_sides(findings).values()) for name, row in rows.items()
    }
    order = dict.fromkeys(name for rows in _sides(findings).values() for name in rows)
    rows = tuple(Row((name, cited[name]["title"], cited[name]["address"])) for name in order)
    columns = ("Mistake", "Page or thread", "Address")
    return Table("Where people are warned of these mistakes, or made them", columns, rows) if rows else None


def _sides(findings: Findings) -> dict[str, dict[str, dict[str, Json]]]:
    """Rows by mistake, by side."""
    return {
        f.figures["side"]: {row["mistake"]: row for row in f.figures["rows"]}
        for f in findings.of("mistakes")
        if "side" in f.figures
    }


def _what(sides: dict[str, dict[str, dict[str, Json]]], name: str) -> str:
    return next(rows[name]["what"] for rows in sides.values() if name in rows)


def _mark(verdicts: list[str]) -> Mark:
    if "not judged" in verdicts:
        return "problem"
    return "warning" if SILENT in verdicts else ""


def _told(row: dict[str, Json] | None) -> str:
    """``error at once: TypeError: … at `line`, without the shapes; torch.autograd.detect_anomaly finds it``."""
    if row is None:
        return "–"
    if row.get("why"):
        return f"{row['verdict']}: {row['why']}"
    details = [": ".join(part for part in (row["raised"], row["said"]) if part)]
    if row["raised"]:
        named = f"at `{row['line']}`" if row["line"] else "no line of the program in the traceback"
        shapes = "with shapes" if row["shapes"] else "without shapes"
        details.append(f"{named}, {shapes}, {words.count(row['traceback_lines'], 'line')} of traceback")
    if row["verdict"] == SILENT:
        details.append(f"returned {row['returned']}")
    if row["verdict"] == "slow":
        details.append(f"takes {words.times(row['ratio'])} as long")
    tool = row["tool"]
    if tool:
        false = ", but speaks without the mistake too" if tool["false_alarm"] else ""
        details.append(f"{tool['name']} {'finds' if tool['found'] else 'does not find'} it{false}")
    return f"{row['verdict']}: {'; '.join(part for part in details if part)}".removesuffix(": ")
