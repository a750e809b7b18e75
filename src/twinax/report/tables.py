"""The tables of the report: plain text in rows, the same for HTML and Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from twinax.analyse import Finding, Findings, words
from twinax.records import MODES, Json, Run

Mark = Literal["", "good", "warning", "problem"]
MOST = 40  # rows of differing tensors that are listed; the rest is counted


@dataclass(frozen=True)
class Row:
    """One line of a table; ``mark`` says how much it should worry the reader."""

    cells: tuple[str, ...]
    mark: Mark = ""


@dataclass(frozen=True)
class Table:
    """A table with its title; ``numeric`` columns are right-aligned."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    numeric: tuple[int, ...] = ()
    note: str = ""


def compared(run: Run) -> dict[str, Json]:
    """What the parity study measured; empty where it did not get that far."""
    return next((r.measurements for r in run.of("parity") if r.cell.side == "both"), {})


# --- parity ----------------------------------------------------------------------------------------


def mismatches(run: Run) -> Table | None:
    """Every tensor that differs, the first ones first."""
    found = compared(run).get("mismatches", [])
    rows = tuple(
        Row(
            (
                str(m["what"]),
                str(m["path"]),
                words.error(m["error"]),
                words.error(m["bound"]),
                f"{m.get('setting', '')}, step {m.get('step', 0) + 1}",
                str(m.get("detail", "")),
            ),
            "problem",
        )
        for m in found[:MOST]
    )
    columns = ("What", "Where", "Error", "Bound", "Setting", "Why")
    note = f"{len(found) - MOST} more are in run.json." if len(found) > MOST else ""
    return Table("Tensors that differ", columns, rows, (2, 3), note) if rows else None


def unproved(run: Run) -> Table | None:
    """Parameters that no output depends on."""
    rows = tuple(Row((name,), "warning") for name in compared(run).get("unproved", []))
    title = "Parameters about which nothing was proved: no output depends on them"
    return Table(title, ("Parameter",), rows) if rows else None


def checks(run: Run) -> Table | None:
    """Every check, with its worst tensor."""
    rows = tuple(
        Row(
            (
                check["name"],
                "yes" if check["passed"] else "NO",
                words.error(check["worst"]),
                words.error(check["bound"]),
                str(check["where"]),
                f"{check['count']:,}",
                str(check.get("detail", "")),
            ),
            "good" if check["passed"] else "problem",
        )
        for check in compared(run).get("checks", [])
    )
    columns = ("Check", "Holds", "Worst", "Bound", "Worst at", "Tensors", "Remark")
    return Table("Every check", columns, rows, (2, 3, 5)) if rows else None


def float32(run: Run) -> Table | None:
    """Each side's distance to the float64 result."""
    rows = tuple(
        Row(
            (
                f"{row['group']}, {row['mode']} mode",
                words.error(row["torch"]),
                words.error(row["jax"]),
                words.error(row["envelope"]) if "envelope" in row else "–",
                words.times(row["ratio"]) if row["ratio"] is not None else "–",
            ),
            "good" if row["passed"] else "problem",
        )
        for row in compared(run).get("float32", [])
    )
    columns = ("What", "PyTorch", "JAX", "Nudged weights", "Ratio")
    note = (
        "Distance to the float64 result; neither side may be much farther than the other, "
        "or than nudging the weights by a few units in float32's last place moves it."
    )
    return Table("float32 against float64", columns, rows, (1, 2, 3, 4), note) if rows else None


def dropout(run: Run) -> Table | None:
    """Each side's own dropout layers: rate and scale as found."""
    rows = []
    for site in compared(run).get("dropout", []):
        own = [_dropped(site.get(side)) for side in ("torch", "jax")]
        rows.append(Row((site["path"], f"{site['rate']:g}", *own), "good" if site["passed"] else "problem"))
    columns = ("Layer", "Rate", "PyTorch", "JAX")
    return Table("Dropout layers", columns, tuple(rows), (1,)) if rows else None


def _dropped(own: Mapping[str, Json] | None) -> str:
    if own is None:
        return "not there"
    scale = f"{own['scale']:.4f}" if own.get("scale") is not None else "–"
    identity = "" if own.get("identity_in_eval", True) else ", also active in eval mode"
    return f"drops {own['dropped'] * 100:.1f} %, scales by {scale}{identity}"


# --- speed -----------------------------------------------------------------------------------------

VERDICTS = {"faster": "PyTorch faster", "slower": "JAX faster"}


def ratios(findings: Findings) -> Table | None:
    """Every pair of modes with its interval and verdict."""
    rows = []
    for finding in findings.of("speed"):
        known = finding.figures
        if finding.verdict != "withheld":
            cells = (
                known["program"] + (" ★" if known["best"] else ""),
                f"{known['torch_mode']} {words.seconds(known['torch_s'])}",
                f"{known['jax_mode']} {words.seconds(known['jax_s'])}",
                f"{known['ratio']:.3f}",
                words.between(known["low"], known["high"], 3),
                VERDICTS.get(finding.verdict, finding.verdict),
            )
            rows.append(Row(cells, "warning" if finding.verdict == "inconclusive" else ""))
    columns = ("Program", "PyTorch", "JAX", "Ratio", "95 % interval", "Verdict")
    note = "PyTorch's time over JAX's. ★ compares the fastest mode of each side."
    return Table("Speed ratios", columns, tuple(rows), (3, 4), note) if rows else None


def times(findings: Findings) -> Table | None:
    """Seconds of every program in every mode."""
    rows = [
        Row(
            (
                f["program"],
                words.side_mode(f["side"], f["mode"]),
                words.seconds(f["seconds"]),
                f"{words.seconds(f['low'])} to {words.seconds(f['high'])}",
                f"{f['samples']} in {f['processes']}",
                words.percent(f["disturbed"]),
            ),
            finding.severity if finding.severity == "warning" else "",
        )
        for finding in findings.of("time")
        for f in [finding.figures]
    ]
    columns = ("Program", "Mode", "Median", "90 % of samples", "Samples in processes", "Disturbed")
    note = "Each process's median; over processes their geometric mean."
    return Table("Time per iteration", columns, tuple(rows), (2, 3, 4, 5), note) if rows else None


def phases(findings: Findings) -> Table | None:
    """From a new process to the first result."""
    names = ("import", "build", "trace", "compile", "first", "warm_first")
    rows = [
        Row(
            (
                f["program"],
                words.side_mode(f["side"], f["mode"]),
                *(words.seconds(f["phases"].get(n)) for n in names),
            )
        )
        for finding in findings.of("time")
        for f in [finding.figures]
    ]
    columns = ("Program", "Mode", "Import", "Build", "Trace", "Compile", "First result", "First, warm cache")
    return Table("From nothing to the first result", columns, tuple(rows), (2, 3, 4, 5, 6, 7)) if rows else None


def break_even(findings: Findings) -> Table | None:
    """After how many iterations compiling has paid."""
    rows = [
        Row(
            (
                f["program"],
                words.side_mode(f["side"], f["mode"]),
                f["against"],
                words.seconds(max(0.0, f["extra_s"])),
                f"{f['steps']:,}" if f["steps"] is not None else "never",
                words.steps(f["low"], f["high"]),
                _warm_steps(f),
            )
        )
        for finding in findings.of("break_even")
        for f in [finding.figures]
    ]
    columns = ("Program", "Compiled", "Against", "Extra start", "Pays after", "95 % interval", "Warm cache")
    title = "When compiling has paid for itself, in iterations"
    return Table(title, columns, tuple(rows), (3, 4, 5, 6)) if rows else None


def _warm_steps(figures: dict[str, Json]) -> str:
    """After how many iterations it pays when the compile cache is warm; ``–`` where that was not measured."""
    if figures["warm_extra_s"] is None:
        return "–"
    return "never" if figures["warm_steps"] is None else f"{figures['warm_steps']:,}"


def shares(findings: Findings) -> Table | None:
    """Share of the highest rate that was measured on this machine."""
    rows = [
        Row(
            (
                f["program"],
                words.side_mode(f["side"], f["mode"]),
                words.quantity(f["flops"], "FLOP"),
                words.quantity(f["rate"], "FLOP/s"),
                words.percent(f["share"]),
            )
        )
        for finding in findings.of("peak_share")
        for f in [finding.figures]
    ]
    columns = ("Program", "Mode", "Work", "Rate", "Of the measured peak")
    return Table("How much of the machine is used", columns, tuple(rows), (2, 3, 4)) if rows else None


# --- the rest --------------------------------------------------------------------------------------


def fairness(findings: Findings) -> Table | None:
    """What could tilt the comparison, a column per mode; rows in which the sides differ are marked."""
    facts = findings.of("fairness")
    modes = [words.side_mode(side, mode) for side, known in MODES.items() for mode in known]
    modes = [mode for mode in modes if any(mode in f.figures["values"] for f in facts)]
    rows = tuple(
        Row(
            (
                f.figures["fact"],
                *(f.figures["values"].get(mode, "–") for mode in modes),
                "differs" if f.verdict == "asymmetric" else "same",
            ),
            "warning" if f.verdict == "asymmetric" else "",
        )
        for f in facts
    )
    return Table("", ("Fact", *modes, "Sides"), rows) if rows else None


def cells(run: Run) -> Table:
    """Every planned cell with its outcome: nothing is silently missing."""
    rows = []
    for cell in run.planned:
        record = run.record(cell)
        outcome = record.outcome.value if record else "not run"
        mark: Mark = "good" if outcome == "ok" else "" if outcome in ("skipped", "unsupported") else "problem"
        told = (
            " ".join(filter(None, (record.message, record.hint)))
            if record
            else "Continue the run with --resume."
        )
        took = words.seconds(record.seconds) if record and record.seconds else "–"
        rows.append(Row((cell.id, outcome, took, told), mark))
    title = f"All {words.count(len(rows), 'cell')}"
    return Table(title, ("Cell", "Outcome", "Took", "What happened, what to do"), tuple(rows), (2,))


def environment(run: Run) -> list[Table]:
    """Versions as each worker read them, and the host."""
    by_side: dict[str, dict[str, list[str]]] = {}
    for record in run.records:
        for key, value in record.environment.items():
            values = by_side.setdefault(key, {}).setdefault(record.cell.side, [])
            if (text := plain(value)) not in values:
                values.append(text)
    sides = [side for side in ("torch", "jax", "both") if any(side in found for found in by_side.values())]
    rows = tuple(
        Row((key, *(" / ".join(found.get(s, ["–"])) for s in sides))) for key, found in by_side.items()
    )
    workers = Table(
        "Inside the workers",
        ("", *(words.SIDES[s].capitalize() if s == "both" else words.SIDES[s] for s in sides)),
        rows,
    )
    host = Table(
        "The host", ("", "Value"), tuple(Row((key, _host(key, value))) for key, value in run.host.items())
    )
    return [table for table in (workers, host) if table.rows]


def options(run: Run) -> Table:
    """What the user chose, and what made the run."""
    chosen = run.options.model_dump()
    made = {
        "command": run.command,
        "created": run.created,
        "twinax": run.twinax_version,
        "schema": run.schema_version,
    }
    return Table(
        "All options", ("", "Value"), tuple(Row((key, plain(value))) for key, value in (made | chosen).items())
    )


def _host(key: str, value: Json) -> str:
    return words.memory(value) if key.endswith("_bytes") and value is not None else plain(value)


def plain(value: Json) -> str:
    """A JSON value as a person would write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "" or value == () or value == []:
        return "–"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(v) for v in value)
    if isinstance(value, dict):
        return "; ".join(f"{key}: {plain(v)}" for key, v in value.items())
    return str(value)


def marked(finding: Finding) -> Mark:
    """A finding's severity as a mark; a note is unmarked."""
    return "" if finding.severity == "note" else finding.severity
