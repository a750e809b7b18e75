"""The tables and pictures of the shapes: what a new size costs, and what a workload of many costs."""

from __future__ import annotations

from twinax.analyse import Findings, words
from twinax.analyse.shapes import told
from twinax.records import Json
from twinax.report.charts import COLOURS, NEUTRAL, Chart, figure_of, finished, label
from twinax.report.tables import Row, Table

SHOWN = 5  # bucket edges in a table; the rest is counted


def sizes(findings: Findings) -> Table | None:
    """First call, compilations and steady state of every mode at every size."""
    rows = tuple(
        Row(
            (
                words.side_mode(f.figures["side"], f.figures["mode"]),
                told(row["size"]),
                words.seconds(row["first_s"]),
                f"{row['compilations']:,}",
                words.seconds(row["steady_s"]),
            )
        )
        for f in findings.of("recompiles")
        for row in f.figures["rows"]
    )
    columns = ("Mode", "Size", "First call", "Programs compiled", "Steady")
    note = "In the order in which the sizes were met, each mode in a process of its own with empty caches."
    return Table("A new size", columns, rows, (2, 3, 4), note) if rows else None


def break_even(findings: Findings) -> Table | None:
    """After how many calls compiling for a size has paid."""
    rows = tuple(
        Row(
            (
                words.side_mode(known["side"], known["mode"]),
                known["size"],
                words.seconds(known["extra_s"]) if known["extra_s"] > 0 else "nothing more",
                f"{words.seconds(known['slow_s'])} → {words.seconds(known['fast_s'])}",
                "never" if known["steps"] is None else f"{known['steps']:,}" if known["steps"] else "at once",
                words.steps(known["low"], known["high"]),
            )
        )
        for f in findings.of("shape_break_even")
        for known in [f.figures]
    )
    columns = ("Mode", "Size", "Costs", "A call", "Pays after", "95 % interval")
    return Table("When compiling for a size has paid, in calls", columns, rows, (2, 4, 5)) if rows else None


def workload(findings: Findings) -> Table | None:
    """Every way to deal with many lengths, and what one pass costs."""
    found = findings.of("workload")
    rows = []
    for f in found:
        least = min(row["total_s"] for row in f.figures["rows"])
        for row in f.figures["rows"]:
            cells = (
                words.side_mode(f.figures["side"], row["mode"]),
                "; ".join(filter(None, (row["way"], row["remark"]))),
                _edges(row["buckets"]),
                f"{row['programs']:,}",
                words.seconds(row["compile_s"]) if row["compile_s"] else "–",
                words.seconds(row["run_s"]),
                words.percent(row["wasted"]) if row["wasted"] else "–",
                words.seconds(row["total_s"]),
            )
            rows.append(Row(cells, "good" if row["total_s"] == least else ""))
    columns = ("Mode", "Lengths", "Padded to", "Programs", "Compiling", "Running", "Padding", "One pass")
    stated = f"Lengths: {found[0].figures['stated']}; batches of {found[0].figures['batch']}. " if found else ""
    note = stated + "Times between measured lengths are interpolated; in later passes only the running is paid."
    return Table("One pass over a workload", columns, tuple(rows), (3, 4, 5, 6, 7), note) if rows else None


def _edges(edges: list[int]) -> str:
    shown = [str(edge) for edge in edges]
    return words.listing(shown, SHOWN) if edges else "–"


def charts(findings: Findings) -> list[Chart]:
    """Seconds by size, and the workload's cost by way."""
    return [*_by_size(findings), *_by_way(findings)]


def _by_size(findings: Findings) -> list[Chart]:
    import plotly.graph_objects as go

    found = findings.of("recompiles")
    if not found:
        return []
    figure = figure_of(height=300, hovermode="closest")
    for i, f in enumerate(found):
        rows, name = f.figures["rows"], words.side_mode(f.figures["side"], f.figures["mode"])
        look = {"color": COLOURS[f.figures["side"]]}
        x = [label(told(row["size"])) for row in rows]
        dash = ("solid", "dash", "dot")[sum(g.figures["side"] == f.figures["side"] for g in found[:i]) % 3]
        for what, key, symbol in (("first call", "first_s", "circle-open"), ("steady", "steady_s", "circle")):
            figure.add_trace(
                go.Scatter(
                    x=x,
                    y=[row[key] for row in rows],
                    mode="lines+markers",
                    name=f"{name}, {what}",
                    line={**look, "dash": dash, "width": 2 if what == "steady" else 1},
                    marker={**look, "symbol": symbol, "size": 9},
                    hovertemplate=f"{name}, {what}<br>%{{x}}: %{{y:.3g}} s<extra></extra>",
                )
            )
    figure.update_yaxes(type="log", title_text="seconds")
    figure.update_xaxes(type="category")
    note = "Open circles: the first call at a size, with what it compiles; filled: the calls after it."
    return [finished("shapes", "What a new size costs", note, figure)]


def _by_way(findings: Findings) -> list[Chart]:
    import plotly.graph_objects as go

    rows = [{**row, "side": f.figures["side"]} for f in findings.of("workload") for row in f.figures["rows"]]
    if not rows:
        return []
    names = [label(_way(row)) for row in rows]
    figure = figure_of(height=90 + 24 * len(rows), barmode="stack", hovermode="closest")
    for side in ("torch", "jax"):
        mine = [row["run_s"] if row["side"] == side else 0 for row in rows]
        figure.add_trace(_bar(go, mine, names, f"{words.SIDES[side]}, running", COLOURS[side]))
    figure.add_trace(_bar(go, [row["compile_s"] for row in rows], names, "compiling", NEUTRAL))
    figure.update_yaxes(categoryorder="array", categoryarray=list(reversed(names)))
    figure.update_xaxes(title_text="seconds for one pass")
    note = "What each way to deal with the lengths costs, once: compiling is paid in the first pass only."
    return [finished("workload", "One pass over the workload", note, figure)]


def _way(row: dict[str, Json]) -> str:
    return f"{words.side_mode(row['side'], row['mode'])}: {row['way']}"


def _bar(go: Json, x: list[Json], y: list[str], name: str, colour: str) -> Json:
    return go.Bar(
        x=x,
        y=y,
        orientation="h",
        name=name,
        marker={"color": colour},
        hovertemplate=f"%{{y}}<br>{name}: %{{x:.3g}} s<extra></extra>",
    )
