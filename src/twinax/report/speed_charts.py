"""Charts of time, memory and the libraries' own rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from twinax.analyse import Findings, words
from twinax.records import Json
from twinax.report.charts import COLOURS, NEUTRAL, Chart, figure_of, finished, label

PHASES = {
    "import": "#9aa0a8",
    "build": "#c3b06a",
    "trace": "#5aa9a0",
    "compile": "#7a6fb0",
    "first run": "#c98bb0",
}


def speed_charts(findings: Findings) -> list[Chart]:
    """Ratios with their intervals, and seconds; only where ratios may be shown."""
    ratios = [f.figures for f in findings.of("speed") if f.verdict != "withheld"]
    return [_ratios(ratios), _seconds(findings)] if ratios else []


def _ratios(rows: list[dict[str, Json]]) -> Chart:
    import plotly.graph_objects as go

    height = 120 + 30 * len(rows)
    figure = figure_of(height=height, hovermode="closest")
    margin = rows[0]["margin"]
    names = [f"{r['program']}: {r['torch_mode']} / {r['jax_mode']}" for r in rows]
    figure.add_vrect(x0=1 / (1 + margin), x1=1 + margin, fillcolor=NEUTRAL, opacity=0.25, line_width=0)
    figure.add_vline(x=1, line={"color": NEUTRAL, "width": 1})
    for legend, winner, colour in (
        ("PyTorch faster", "torch", COLOURS["torch"]),
        ("JAX faster", "jax", COLOURS["jax"]),
        ("neither", None, NEUTRAL),
    ):
        mine = [(name, r) for name, r in zip(names, rows, strict=True) if r["faster"] == winner]
        if mine:
            figure.add_trace(
                go.Scatter(
                    x=[r["ratio"] for _, r in mine],
                    y=[label(name) for name, _ in mine],
                    error_x={
                        "type": "data",
                        "symmetric": False,
                        "array": [r["high"] - r["ratio"] for _, r in mine],
                        "arrayminus": [r["ratio"] - r["low"] for _, r in mine],
                        "thickness": 2,
                        "width": 5,
                    },
                    text=[f"{r['ratio']:.3f} ({r['low']:.3f} to {r['high']:.3f})" for _, r in mine],
                    hovertemplate="%{y}<br>%{text}<extra></extra>",
                    mode="markers",
                    name=legend,
                    marker={"color": colour, "size": [10 if r["best"] else 6 for _, r in mine]},
                )
            )
    low, high = min(0.8, *(r["low"] for r in rows)), max(1.25, *(r["high"] for r in rows))
    ends = [max(low, 0.01) / 1.1, min(high, 100.0) * 1.1]  # an interval that knows nothing fills the chart
    ticks = _ratio_ticks(*ends)
    figure.update_xaxes(
        type="log",
        title_text="PyTorch's time ÷ JAX's",
        range=_logs(ends),
        tickvals=ticks,
        ticktext=[f"{t:g}" for t in ticks],
    )
    figure.update_yaxes(categoryorder="array", categoryarray=[label(n) for n in reversed(names)])
    note = f"Left of 1 PyTorch is faster. Bars: 95 % interval; band: ±{words.percent(margin)}. "
    note += "Large points: each side's fastest mode."
    return finished("ratios", "Speed ratio with its interval", note, figure)


def _logs(values: Sequence[float]) -> list[float]:
    return [math.log10(value) for value in values]


def _ratio_ticks(low: float, high: float) -> list[float]:
    ticks = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50]
    near = [0.8, 0.9, 1, 1.1, 1.25]
    return near if high / low < 2.5 else [t for t in ticks if low <= t <= high]


def _seconds(findings: Findings) -> Chart:
    """Median seconds by program and mode, with the range of the samples."""
    import plotly.graph_objects as go

    rows = [f.figures for f in findings.of("time")]
    programs = list(dict.fromkeys(r["program"] for r in rows))
    setups = list(dict.fromkeys((r["side"], r["mode"]) for r in rows))
    figure = figure_of(height=340, barmode="group")
    for side, mode in setups:
        mine = [r for r in rows if (r["side"], r["mode"]) == (side, mode)]
        figure.add_trace(
            go.Bar(
                x=[r["program"] for r in mine],
                y=[r["seconds"] for r in mine],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [r["high"] - r["seconds"] for r in mine],
                    "arrayminus": [r["seconds"] - r["low"] for r in mine],
                    "color": NEUTRAL,
                    "thickness": 1.2,
                    "width": 3,
                },
                name=words.side_mode(side, mode),
                marker=_bar(side, mode),
                text=[words.seconds(r["seconds"]) for r in mine],
                textposition="none",
                hovertemplate="%{text}",
            )
        )
    figure.update_yaxes(title_text="time per iteration", rangemode="tozero", tickformat="~s", ticksuffix="s")
    figure.update_xaxes(categoryorder="array", categoryarray=programs)
    note = "Median; whiskers: 90 % of the samples. Pale: the modes that do not compile."
    return finished("seconds", "Time per iteration", note, figure)


def _bar(side: str, mode: str) -> dict[str, Any]:
    """The side's colour, pale where the mode does not compile."""
    return {"color": COLOURS[side], "opacity": 0.45 if mode in ("eager", "op_by_op") else 1.0}


def cost_charts(findings: Findings) -> list[Chart]:
    """From a new process to the first result, and peak memory."""
    return [chart for chart in (_phases(findings), _memory(findings)) if chart]


def _phases(findings: Findings) -> Chart | None:
    """Stacked phases of the largest program, cold, with the warm start beside it."""
    times = [f.figures for f in findings.of("time")]
    program = next((p for p in ("step", "grad", "forward") if any(t["program"] == p for t in times)), None)
    rows = [t for t in times if t["program"] == program]
    if not rows:
        return None
    import plotly.graph_objects as go

    bars: list[tuple[str, dict[str, float]]] = []
    for row in rows:
        phases, name = row["phases"], words.side_mode(row["side"], row["mode"])
        start = {key: phases.get(key, 0.0) for key in ("import", "build")}
        known = {key: phases.get(key, 0.0) for key in ("trace", "compile")}
        rest = max(0.0, phases.get("first", 0.0) - sum(known.values()))
        bars.append((name, start | known | {"first run": rest}))
        if "warm_first" in phases and row["mode"] != "eager":  # which compiles nothing that could be kept
            bars.append((f"{name}, warm", start | {"first run": phases["warm_first"]}))
    height = 120 + 28 * len(bars)
    figure = figure_of(height=height, barmode="stack")
    for phase, colour in PHASES.items():
        values = [found.get(phase, 0.0) for _, found in bars]
        figure.add_trace(
            go.Bar(
                y=[name for name, _ in bars],
                x=values,
                orientation="h",
                name=phase,
                marker={"color": colour},
                text=[words.seconds(v) for v in values],
                textposition="none",
                hovertemplate="%{text}",
            )
        )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(title_text="seconds", rangemode="tozero")
    note = "A new process, until the first result; “warm” found its compiler's cache filled."
    return finished("phases", f"From nothing to the first {program}", note, figure)


def _memory(findings: Findings) -> Chart | None:
    found = findings.one("memory")
    if found is None:
        return None
    import plotly.graph_objects as go

    rows = found.figures["rows"]
    height = 110 + 34 * len(rows)
    figure = figure_of(height=height, barmode="stack", hovermode="closest")
    for legend, opacity in (("before the programs ran", 0.4), ("at the peak", 1.0)):
        base = [min(row["baseline_bytes"], row["peak_bytes"]) for row in rows]
        sizes = base if opacity < 1 else [row["peak_bytes"] - b for row, b in zip(rows, base, strict=True)]
        shown = base if opacity < 1 else [row["peak_bytes"] for row in rows]
        figure.add_trace(
            go.Bar(
                y=[words.side_mode(row["side"], row["mode"]) for row in rows],
                x=[size / 2**30 for size in sizes],
                orientation="h",
                name=legend,
                marker={"color": [COLOURS[row["side"]] for row in rows], "opacity": opacity},
                text=[words.memory(size) for size in shown],
                textposition="none",
                hovertemplate=f"{legend}: %{{text}}<extra></extra>",
                showlegend=False,
            )
        )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(title_text="GiB", rangemode="tozero")
    note = f"{rows[0]['method'].capitalize()}. Pale: what the process held before its programs ran."
    return finished("memory", "Peak memory", note, figure)


def calibration_charts(findings: Findings) -> list[Chart]:
    """Each library's rate at the model's own sizes, one chart per kind of work."""
    return [_calibration(f.figures) for f in findings.of("calibration")]


def _calibration(figures: dict[str, Json]) -> Chart:
    import plotly.graph_objects as go

    kind, rows = figures["kind"], figures["rows"]
    factor, unit = (1e9, "GFLOP/s") if kind != "bandwidth" else (1e9, "GB/s")
    height = 110 + 44 * len(rows)
    figure = figure_of(height=height, barmode="group")
    for side, colour in COLOURS.items():
        mine = [row for row in rows if side in row]
        figure.add_trace(
            go.Bar(
                y=[shape_text(kind, row["shape"]) for row in mine],
                x=[row[side]["rate"] / factor for row in mine],
                orientation="h",
                name=words.SIDES[side],
                marker={"color": colour},
                hovertemplate=f"%{{x:.3g}} {unit}",
            )
        )
    figure.update_yaxes(autorange="reversed", type="category")
    figure.update_xaxes(title_text=unit, rangemode="tozero")
    titles = {
        "matmul": "Matrix products at the model's sizes",
        "convolution": "Convolutions at the model's sizes",
        "bandwidth": "Memory bandwidth",
    }
    return finished(f"calibration-{kind}", titles[kind], "Higher is faster.", figure)


def shape_text(kind: str, shape: list[int]) -> str:
    """``8×2048×1000``; ``64→64, 3×3, 56×56`` for a convolution: channels, kernel, image."""
    if kind == "convolution":
        _, channels, high, wide, out, kernel, *_ = shape
        return f"{channels}→{out}, {kernel}×{kernel}, {high}×{wide}"
    if kind == "bandwidth":
        return f"{math.prod(shape):,} elements"
    return "×".join(f"{n}" for n in shape)
