"""The tables of ease of use: figures of the sources, their blocks side by side, and a beginner's first hour."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest

from twinax.analyse import Finding, Findings, words
from twinax.analyse.base import Kind
from twinax.records import Json, Run
from twinax.report.tables import MOST, Row, Table

SIDES = ("torch", "jax")
HEADS = tuple(words.SIDES[side] for side in SIDES)
STARTS = {
    "python": "The interpreter alone, in all of these",
    "import": "Importing (torch; jax, flax.nnx, optax)",
    "result": "Two matrices multiplied and printed",
    "step": "One training step of a small net",
    "compiled": "The same, compiled (torch.compile; nnx.jit)",
}
FIGURES = {
    "statements": "Logical lines",
    "tokens": "Tokens",
    "complexity": "Cyclomatic complexity, all functions",
    "volume": "Halstead volume",
    "difficulty": "Halstead difficulty",
    "effort": "Halstead effort",
    "nesting": "Control structures inside one another",
    "calls_deep": "Calls inside one another's arguments",
}


def about(findings: Findings, kind: Kind, subject: str) -> Finding | None:
    """The finding of that kind about one subject."""
    return next((f for f in findings.of(kind) if f.figures["about"] == subject), None)


# --- code --------------------------------------------------------------------------------------------


def code(findings: Findings) -> Table | None:
    """Figures of both sources."""
    sides = _sources(findings)
    if not any(sides.values()):
        return None
    rows = [
        (name, *(_number(known[key]) if known else "–" for known in sides.values()))
        for key, name in FIGURES.items()
    ]
    hardest = [
        f"{k['hardest']}: {k['hardest_complexity']}" if k and k["hardest"] else "–" for k in sides.values()
    ]
    rows.insert(3, ("Hardest function", *hardest))
    for key, name in (("api", "Distinct names of the framework"), ("methods", "Distinct methods of values")):
        rows.append((name, *(str(len(known[key])) if known else "–" for known in sides.values())))
    for key, name in (("state", "Parameters and state"), ("keys", "Random keys")):
        rows.append((f"{name}: received, passed, returned", *(_places(known, key) for known in sides.values())))
    note = (
        "Without comments and docstrings. Complexity and Halstead by radon, whose operators are those of "
        "arithmetic, logic and comparison: calls and assignments are none. Names of the framework are dotted "
        "names, resolved through the imports; methods are those called on anything but self, super() and "
        "imported modules. State and keys are found by their usual names, such as params, opt_state, rngs, key."
    )
    return Table("The two sources in figures", ("Figure", *HEADS), tuple(map(Row, rows)), (1, 2), note)


def names(findings: Findings) -> Table | None:
    """What of the framework each source names."""
    sides = _sources(findings)
    columns = [known["api"] if known else [] for known in sides.values()]
    rows = tuple(Row(pair) for pair in zip_longest(*columns, fillvalue=""))
    return Table("What of the framework each side names", HEADS, rows) if rows else None


def _sources(findings: Findings) -> dict[str, dict[str, Json] | None]:
    """The figures of each side's source, where it could be read."""
    known = {
        f.figures["side"]: f.figures["figures"] for f in findings.of("code") if f.figures["about"] == "side"
    }
    return {side: known.get(side) for side in SIDES}


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else words.three(value)


def _places(known: dict[str, Json] | None, key: str) -> str:
    return ", ".join(str(count) for count in known[key].values()) if known else "–"


def blocks(findings: Findings) -> Table | None:
    """The sources block by block, what costs one side most first."""
    finding = about(findings, "code", "blocks")
    found = finding.figures["blocks"] if finding else []
    rows = tuple(
        Row(
            (
                block["title"],
                *(_cost(block[side], key) for key in ("statements", "tokens", "complexity") for side in SIDES),
                f"{block['extra']:+,}" if block["extra"] else "0",
            )
        )
        for block in found[:MOST]
    )
    kinds = ("lines", "tokens", "complexity")
    columns = ("Block", *(f"{head}: {kind}" for kind in kinds for head in HEADS), "JAX's extra tokens")
    more = f" {len(found) - MOST} more are in run.json." if len(found) > MOST else ""
    note = f"A class stands for all of it but its methods. What one side lacks is a dash.{more}"
    return Table("Which idea costs what", columns, rows, tuple(range(1, 8)), note) if rows else None


def _cost(block: dict[str, Json] | None, key: str) -> str:
    if block is None:
        return "–"
    return f"{block[key]:,}" if block[key] or key != "complexity" else "–"  # no function, no decisions


@dataclass(frozen=True)
class SideBySide:
    """A block of both sources, as written.

    Attributes:
        title: Its path; both paths where they differ.
        remark: Its cost on both sides, in words.
        texts: Source text by side; "" where a side has none.
    """

    title: str
    remark: str
    texts: dict[str, str]


def aligned(run: Run) -> list[SideBySide]:
    """Every pair of blocks with its texts, in the order of the source: for showing them side by side."""
    found = [block for record in run.of("code") for block in record.measurements.get("blocks", [])]
    return [
        SideBySide(
            title=block["title"],
            remark=", ".join(
                f"{words.SIDES[s]} {words.count(block[s]['tokens'], 'token')}"
                if block[s]
                else f"not in {words.SIDES[s]}"
                for s in SIDES
            ),
            texts={side: block[side]["text"] if block[side] else "" for side in SIDES},
        )
        for block in found
    ]


# --- first hour --------------------------------------------------------------------------------------


def first_hour(findings: Findings) -> Table | None:
    """What a beginner waits for, and what is put on their disk."""
    rows = [*_times(findings), *_sizes(findings)]
    note = (
        "From the start of a fresh process to its first line of output, on the CPU; the median, and the range "
        "of several. Files were in the system's memory, compile caches were empty. Written: logical lines of "
        "the program."
    )
    columns = ("What", *HEADS, *(f"{head}: written" for head in HEADS), "Sooner or smaller")
    return Table("The first hour", columns, tuple(rows), (1, 2, 3, 4), note) if rows else None


def _times(findings: Findings) -> list[Row]:
    finding = about(findings, "first_hour", "times")
    if finding is None:
        return []
    rows = []
    for row in finding.figures["rows"]:
        written = [str(row[s]["statements"] or "–") for s in SIDES]
        judged = "" if row["what"] == "python" else _chosen(row["sooner"])
        failed = any(row[s]["said"] for s in SIDES)
        cells = (STARTS[row["what"]], *(_took(row[s]) for s in SIDES), *written, judged)
        rows.append(Row(cells, "warning" if failed else ""))
    left = finding.figures["left_out"]
    return [
        *rows,
        *(Row((STARTS[what], "–", "–", "–", "–", why)) for what, why in left.items() if what in STARTS),
    ]


def _chosen(choice: str) -> str:
    return words.SIDES[choice] if choice in SIDES else choice


def _took(found: dict[str, Json]) -> str:
    """``1.02 s (991 ms to 1.10 s)``; why it failed where it did."""
    samples = found["samples_s"]
    if not samples:
        return found["said"] or "–"
    told = words.seconds(found["seconds"])
    spread = f" ({words.seconds(min(samples))} to {words.seconds(max(samples))})" if len(samples) > 1 else ""
    return f"{told}{spread}{', others used the CPU' if found['disturbed'] else ''}"


def _sizes(findings: Findings) -> list[Row]:
    finding = about(findings, "first_hour", "size")
    if finding is None:
        return []
    known = {side: finding.figures.get(side) for side in SIDES}
    chosen = finding.verdict.removesuffix(" smaller")
    rows = {
        "Installed, the framework itself": [words.memory(k["own_bytes"]) if k else "–" for k in known.values()],
        "Installed, with all that it needs": [
            f"{words.memory(k['bytes'])}, {k['build']}" if k else "–" for k in known.values()
        ],
        "Packages": [str(len(k["packages"])) if k else "–" for k in known.values()],
    }
    judged = {"Installed, with all that it needs": _chosen(chosen)}
    return [Row((name, *values, "–", "–", judged.get(name, ""))) for name, values in rows.items()]


def packages(findings: Findings) -> Table | None:
    """Everything that a framework brings, the largest first."""
    finding = about(findings, "first_hour", "size")
    found = {s: finding.figures[s]["packages"] for s in SIDES if s in finding.figures} if finding else {}
    rows = tuple(
        Row(
            (
                words.SIDES[side],
                p["name"],
                p["version"],
                words.memory(p["bytes"]) if p["bytes"] is not None else "not known",
            )
        )
        for side, installed in found.items()
        for p in installed
    )
    return Table("What is installed", ("For", "Package", "Version", "Size"), rows, (3,)) if rows else None


def tracebacks(findings: Findings) -> Table | None:
    """What each side prints after a beginner's mistake."""
    finding = about(findings, "first_hour", "tracebacks")
    rows = tuple(
        Row(
            (row["title"], words.SIDES[side], *_printed(row[side])),
            "warning" if row[side]["raised"] is None else "",
        )
        for row in (finding.figures["rows"] if finding else [])
        for side in SIDES
        if row[side]
    )
    columns = (
        "Mistake",
        "Side",
        "Lines",
        "Frames",
        "Own frames",
        "Own line from the end",
        "Own line",
        "It says",
    )
    note = "Of all that is printed on standard error. The own line is the innermost one of the program itself."
    return Table("What a beginner reads after a mistake", columns, rows, (2, 3, 4, 5), note) if rows else None


def _printed(found: dict[str, Json]) -> tuple[str, ...]:
    if not found["raised"]:
        told = found["said"] or f"nothing: the program runs to its end and prints {found['output']}"
        return ("–", "–", "–", "–", "–", told)
    place = "not shown" if found["own_from_end"] is None else str(found["own_from_end"])
    counts = (str(found[key]) for key in ("lines", "frames", "own_frames"))
    return (*counts, place, found["own_line"] or "–", found["message"] or "–")
