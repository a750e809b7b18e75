"""Pictures of the cost model: predicted against measured, and what a cluster would do."""

from __future__ import annotations

from typing import Any

from twinax.analyse import Finding, Findings, words
from twinax.analyse.cluster import SCALINGS, label
from twinax.records import Json
from twinax.report import charts as page
from twinax.report.charts import BAD, COLOURS, NEUTRAL, Chart, figure_of, finished

LINES = {
    "data": ("solid", "circle"),
    "data_local": ("longdashdot", "hexagon"),
    "fully_sharded": ("dash", "square"),
    "tensor": ("dot", "triangle-up"),
    "pipeline": ("dashdot", "diamond"),
    "data_tensor": ("longdash", "star"),
}
PARTS = {
    "parameters": "#7a6fb0",
    "gradients": "#c98bb0",
    "optimizer": "#c3b06a",
    "activations": "#5aa9a0",
    "buffers": "#6d8fc7",
    "gathered": "#9aa0a8",
}


def charts(findings: Findings) -> list[Chart]:
    """The error first; then, where a cluster was stated, its curves and its memory."""
    stated = [f for f in findings.of("cluster") if f.figures.get("curves")]
    made = [_predicted(findings)]
    if stated:
        made += [_scaling(stated, "weak", "throughput"), _scaling(stated, "strong", "step_s"), _memory(stated)]
    return [chart for chart in made if chart]


def _predicted(findings: Findings) -> Chart | None:
    import plotly.graph_objects as go

    found = [row for f in findings.of("cluster") for row in f.figures.get("rows", [])]
    rows = [row for row in found if row["predicted_s"]]
    if not rows:
        return None
    figure = figure_of(height=340, hovermode="closest")
    times = [row[key] for row in rows for key in ("measured_s", "predicted_s")]
    ends = [min(times) / 1.5, max(times) * 1.5]
    diagonal = {"color": NEUTRAL, "width": 1}
    figure.add_trace(go.Scatter(x=ends, y=ends, mode="lines", name="exact", line=diagonal, hoverinfo="skip"))
    for side in COLOURS:
        mine = [row for row in rows if row["side"] == side]
        if mine:
            figure.add_trace(
                go.Scatter(
                    x=[row["measured_s"] for row in mine],
                    y=[row["predicted_s"] for row in mine],
                    mode="markers",
                    name=words.SIDES[side],
                    marker={
                        "color": COLOURS[side],
                        "size": 10,
                        "symbol": [LINES[row["strategy"]][1] for row in mine],
                    },
                    text=[
                        f"{words.SIDES[side]}, {label(row['strategy'])}, {words.count(row['ranks'], 'rank')}: "
                        f"{words.seconds(row['predicted_s'])} for {words.seconds(row['measured_s'])}"
                        for row in mine
                    ],
                    hovertemplate="%{text}<extra></extra>",
                )
            )
    figure.update_xaxes(type="log", title_text="measured, seconds", dtick="D2")
    figure.update_yaxes(type="log", title_text="predicted, seconds", dtick="D2")
    note = "Steps whose times the model had not seen. Below the line: it promised too much."
    return finished("predicted", "Predicted against measured", note, figure)


def _scaling(found: list[Finding], scaling: str, key: str) -> Chart:
    """One line per side and strategy; what is not possible is crossed out, and no line leads there."""
    import plotly.graph_objects as go

    figure = figure_of(height=400, hovermode="closest")
    crossed: list[dict[str, Json]] = []
    for f in found:
        side = f.figures["side"]
        rows = [{**row, "side": side} for row in f.figures["curves"] if row["scaling"] == scaling]
        crossed += [row for row in rows if row["why"]]
        for strategy, (dash, symbol) in LINES.items():
            mine = [row for row in rows if row["strategy"] == strategy]
            if not mine:
                continue
            figure.add_trace(
                go.Scatter(
                    x=[row["devices"] for row in mine],
                    y=[None if row["why"] else row[key] for row in mine],
                    mode="lines+markers",
                    name=f"{words.SIDES[side]}, {label(strategy)}",
                    line={"color": COLOURS[side], "dash": dash, "width": 1.5},
                    marker={"symbol": symbol, "size": 6},
                    text=[_point(row, side) for row in mine],
                    hovertemplate="%{text}<extra></extra>",
                )
            )
    if crossed:
        figure.add_trace(_crossed(go, crossed, key))
    ticks = sorted({row["devices"] for f in found for row in f.figures["curves"]})
    ticks = ticks[:: 1 + len(ticks) // 8]
    figure.update_xaxes(type="log", title_text="devices", tickvals=ticks, ticktext=[f"{n:,}" for n in ticks])
    title = "examples per second" if key == "throughput" else "seconds a step"
    figure.update_yaxes(type="log", title_text=title, exponentformat="power", nticks=6)
    cluster = page.label(found[0].figures["cluster"]["name"])
    note = f"Predicted for {cluster}. Crosses: does not fit, or cannot be split so far."
    name = f"cluster-{scaling}"
    return finished(name, f"More devices, {SCALINGS[scaling]}", note, figure)


def _crossed(go: Any, rows: list[dict[str, Json]], key: str) -> Any:
    return go.Scatter(
        x=[row["devices"] for row in rows],
        y=[row[key] for row in rows],
        mode="markers",
        name="not possible",
        marker={"symbol": "x-thin", "size": 8, "line": {"color": BAD, "width": 1.5}},
        text=[f"{_point(row, row['side'])}: {row['why']}" for row in rows],
        hovertemplate="%{text}<extra></extra>",
    )


def _point(row: dict[str, Json], side: str) -> str:
    return (
        f"{words.SIDES[side]}, {label(row['strategy'])}, {words.count(row['devices'], 'device')}: "
        f"{words.seconds(row['step_s'])}, {words.three(row['throughput'])} examples/s"
    )


def _memory(found: list[Finding]) -> Chart:
    """What a device holds at the whole cluster's size, by part; the same batch per device."""
    import plotly.graph_objects as go

    bars: list[tuple[str, dict[str, float]]] = []
    for f in found:
        side, devices = words.SIDES[f.figures["side"]], f.figures["devices"]
        rows = [r for r in f.figures["curves"] if r["scaling"] == "weak" and r["devices"] == devices]
        bars += [(f"{side}, {label(row['strategy'])}", row["held"]) for row in rows]
    figure = figure_of(height=110 + 26 * len(bars), barmode="stack", hovermode="closest")
    for part, colour in PARTS.items():
        values = [held[part] for _, held in bars]
        figure.add_trace(
            go.Bar(
                y=[name for name, _ in bars],
                x=[value / 2**30 for value in values],
                orientation="h",
                name=part,
                marker={"color": colour},
                text=[words.memory(value) for value in values],
                textposition="none",
                hovertemplate=f"%{{y}}<br>{part}: %{{text}}<extra></extra>",
            )
        )
    limit = found[0].figures["cluster"]["device"]["memory_bytes"]
    end = min(1.1 * max(sum(held.values()) for _, held in bars), 2 * limit)  # what is far too long is cut
    figure.add_vline(x=limit / 2**30, line={"color": BAD, "width": 2})
    figure.update_xaxes(title_text="GiB on the fullest device", range=[0, end / 2**30])
    figure.update_yaxes(autorange="reversed", type="category")
    beyond = " lies beyond the picture" if limit > end else " is the red line"
    note = (
        f"On all {words.count(found[0].figures['devices'], 'device')}, {SCALINGS['weak']}. "
        f"A device's {words.memory(limit)}{beyond}."
    )
    return finished("cluster-memory", "What a device holds", note, figure)
