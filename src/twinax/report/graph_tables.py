"""The tables and the picture of the captured graphs."""

from __future__ import annotations

from twinax.analyse import Findings, words
from twinax.analyse.graph import place
from twinax.records import Json
from twinax.report.charts import COLOURS, Chart, figure_of, finished, label
from twinax.report.tables import Row, Table

DEPTH = 2  # of modules that stand open; the whole tree is folded
MOST_BARS = 16


def modules(findings: Findings, *, whole: bool) -> Table | None:
    """The module tree with operations and FLOPs of both sides, next to each other."""
    finding = findings.one("work")
    if finding is None:
        return None
    known, rows = finding.figures, []
    sides = [side for side in ("torch", "jax") if side in known["whole"]]
    for row in known["rows"]:
        depth = row["path"].count(".") + bool(row["path"])
        if not whole and depth > DEPTH:
            continue
        kind = next((row[s]["type"] for s in sides if row[s] and row[s]["type"]), "")
        counts = [f"{row[s]['operations']:,}" if row[s] else "–" for s in sides]
        flops = [words.quantity(row[s]["flops"], "FLOP") if row[s] else "–" for s in sides]
        share = [_share(row[s], known["whole"][s]) for s in sides]
        rows.append(Row((row["path"] or "(whole model)", kind, *counts, *flops, *share)))
    heads = [f"{words.SIDES[s]}: {what}" for what in ("operations", "work", "share") for s in sides]
    title = "Every module" if whole else "Modules, with all that they hold"
    note = (
        "Operations as each side captures them: ATen in PyTorch, jaxpr equations in JAX. " if not whole else ""
    )
    note += "Work counts matrix products and convolutions, two per multiply-add." if not whole else ""
    return Table(title, ("Module", "Type", *heads), tuple(rows), tuple(range(2, 2 + len(heads))), note)


def _share(row: dict[str, Json] | None, whole: float) -> str:
    return words.percent(row["flops"] / whole) if row and whole else "–"


def charts(findings: Findings) -> list[Chart]:
    """Where the work is: the share of each outermost block."""
    import plotly.graph_objects as go

    finding = findings.one("work")
    if finding is None or not any(finding.figures["whole"].values()):
        return []
    rows = _blocks(finding.figures["rows"])
    figure = figure_of(height=70 + 26 * len(rows), barmode="group", hovermode="closest")
    for side, whole in finding.figures["whole"].items():
        figure.add_trace(
            go.Bar(
                x=[100 * (row[side]["flops"] if row[side] else 0) / (whole or 1) for row in rows],
                y=[label(row["path"]) for row in rows],
                orientation="h",
                name=words.SIDES[side],
                marker={"color": COLOURS[side]},
                hovertemplate="%{y}: %{x:.1f} %<extra></extra>",
            )
        )
    figure.update_xaxes(title_text="share of the forward pass's work, %")
    figure.update_yaxes(categoryorder="array", categoryarray=[label(row["path"]) for row in reversed(rows)])
    note = (
        "Matrix products and convolutions. Where the two bars of a block differ, the sides do different work."
    )
    return [finished("work", "Where the work is", note, figure)]


def _blocks(rows: list[dict[str, Json]]) -> list[dict[str, Json]]:
    """The modules at the level at which there are several, but no more than fit into a picture."""
    chosen = [row for row in rows if row["path"]]
    for depth in range(1, 8):
        level = [row for row in rows if row["path"] and _level(row, rows, depth)]
        if 2 <= len(level) <= MOST_BARS:
            chosen = level
        if len(level) > MOST_BARS:
            break
    return chosen[:MOST_BARS]


def _level(row: dict[str, Json], rows: list[dict[str, Json]], depth: int) -> bool:
    """Whether a module lies at this depth, or above it and holds nothing more; and does any work."""
    mine = row["path"].count(".") + 1
    leaf = not any(other["path"].startswith(f"{row['path']}.") for other in rows)
    works = any(row.get(side) and row[side]["flops"] for side in ("torch", "jax"))
    return works and (mine == depth or (mine < depth and leaf))


def breaks(findings: Findings) -> Table | None:
    """Every place at which dynamo leaves a graph."""
    rows = tuple(
        Row((f.figures["program"], b["reason"], place(b), b["code"]))
        for f in findings.of("breaks")
        for b in f.figures["breaks"]
    )
    return Table("Where dynamo leaves the graph", ("Program", "Why", "Where", "Code"), rows) if rows else None


def promotions(findings: Findings) -> Table | None:
    """Every change of type, alike ones counted."""
    counts: dict[tuple[str, ...], int] = {}
    for f in findings.of("promotions"):
        for row in f.figures["rows"]:
            change = f"{' and '.join(row['from'])} → {row['to']}"
            key = (f.figures["program"], words.SIDES[f.figures["side"]], change, place(row), row["code"])
            counts[key] = counts.get(key, 0) + 1
    rows = tuple(Row((*key[:3], f"{n:,}", *key[3:])) for key, n in counts.items())
    columns = ("Program", "Side", "Change", "Times", "Where", "Code")
    return Table("Where arrays change their type", columns, rows, (3,)) if rows else None


def constants(findings: Findings) -> Table | None:
    """Every array that became part of a graph."""
    rows = tuple(
        Row(
            (
                f.figures["program"],
                words.SIDES[f.figures["side"]],
                row["name"],
                f"{row['dtype']}[{', '.join(map(str, row['shape']))}]",
                words.memory(row["bytes"]),
            )
        )
        for f in findings.of("constants")
        for row in f.figures["rows"]
    )
    columns = ("Program", "Side", "Name", "Array", "Size")
    return Table("Arrays baked into the graph", columns, rows, (4,)) if rows else None


def operations(findings: Findings) -> list[Table]:
    """Operation counts of both sides, next to each other by rank, one table per program."""
    tables = []
    for program in dict.fromkeys(f.figures["program"] for f in findings.of("graph")):
        mine = [f for f in findings.of("graph") if f.figures["program"] == program]
        columns = [(f, form) for f in mine for form in f.figures["counts"]]
        ranked = [
            sorted(f.figures["counts"][form].items(), key=lambda kv: (-kv[1], kv[0])) for f, form in columns
        ]
        rows = [
            Row(tuple(f"{counts[i][1]:,} × {counts[i][0]}" if i < len(counts) else "" for counts in ranked))
            for i in range(max(map(len, ranked), default=0))
        ]
        heads = [
            f"{words.SIDES[f.figures['side']]}: {form} ({f.figures['totals'][form]:,})" for f, form in columns
        ]
        tables.append(Table(f"Operations in {program}", tuple(heads), tuple(rows)))
    return tables
