"""Charts that show whether the two sides compute the same thing, and train alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from twinax.analyse import words
from twinax.records import Json, Run
from twinax.report.charts import (
    BAD,
    COLOURS,
    GOOD,
    NEUTRAL,
    Chart,
    figure_of,
    finished,
    label,
    logarithmic,
    whole,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

SERIES = ("#2f86c9", "#d4652f", "#2b9c7f", "#b0569a", "#b58a1f", "#7d7d7d")
FLOOR = 1e-18  # errors of exactly 0 are drawn here: a logarithmic axis has no zero


def parity_charts(run: Run) -> list[Chart]:
    """Errors per layer, per gradient, per step, and the free-running drift."""
    found = next((r.measurements for r in run.of("parity") if r.cell.side == "both"), {})
    if "checks" not in found:
        return []
    bound = found.get("bound", 1e-9)
    charts = [
        _errors(
            "layers", "Error of each layer's output", "layer, in forward order", found, "layers", "path", bound
        ),
        _errors(
            "gradients",
            "Error of each gradient",
            "parameter, in backward order",
            found,
            "gradients",
            "name",
            bound,
        ),
        *(_steps(name, rows, bound) for name, rows in found.get("steps", {}).items() if rows),
        _trajectory(found.get("trajectory")),
    ]
    return [chart for chart in charts if chart]


def _errors(
    name: str, title: str, axis: str, found: dict[str, Json], key: str, names: str, bound: float
) -> Chart | None:
    """One point per tensor; those over the bound, and those not comparable, in another colour and shape."""
    rows = found.get(key) or []
    if not rows:
        return None
    import plotly.graph_objects as go

    figure = figure_of(height=300, hovermode="closest")
    top = max((row["error"] for row in rows if row["error"] is not None), default=bound)
    for legend, colour, symbol, inside in (
        ("within the bound", GOOD, "circle", True),
        ("differs", BAD, "x", False),
    ):
        mine = [(i, row) for i, row in enumerate(rows, start=1) if _within(row["error"], bound) is inside]
        if mine:
            figure.add_trace(
                go.Scatter(
                    x=[i for i, _ in mine],
                    y=[_drawn(row["error"], max(top, bound) * 10) for _, row in mine],
                    text=[f"{label(row[names])}<br>{words.error(row['error'])}" for _, row in mine],
                    hovertemplate="%{text}<extra></extra>",
                    mode="markers",
                    name=legend,
                    marker={"color": colour, "size": 7, "symbol": symbol},
                )
            )
    _bound(figure, bound)
    whole(figure, len(rows), axis)
    logarithmic(figure)
    over = next((row[names] for row in rows if not _within(row["error"], bound)), None)
    note = "Norm-relative, float64; exact agreement is drawn at the bottom."
    note = note if over is None else f"First that differs: {words.printable(over)}. {note}"
    return finished(name, title, note, figure)


def _within(error: float | None, bound: float) -> bool:
    return error is not None and error <= bound


def _drawn(error: float | None, top: float) -> float:
    return top if error is None else max(error, FLOOR)


def _bound(figure: go.Figure, bound: float) -> None:
    figure.add_hline(y=bound, line={"color": NEUTRAL, "width": 1, "dash": "dash"})
    figure.add_annotation(
        x=0,
        xref="x domain",
        xanchor="left",
        y=math.log10(bound),  # annotations on a logarithmic axis are placed by exponent
        yanchor="bottom",
        text=f"bound {bound:.0e}",
        showarrow=False,
    )


def _steps(optimizer: str, rows: list[dict[str, Json]], bound: float) -> Chart:
    import plotly.graph_objects as go

    figure = figure_of(height=300)
    kinds = list(dict.fromkeys(kind for row in rows for kind in row["errors"]))
    for kind, colour in zip(kinds, SERIES, strict=False):
        mine = [row for row in rows if kind in row["errors"]]
        figure.add_trace(
            go.Scatter(
                x=[row["step"] + 1 for row in mine],
                y=[_drawn(row["errors"][kind], bound * 1e9) for row in mine],
                mode="lines+markers",
                name=kind,
                line={"color": colour, "width": 1.5},
                marker={"size": 4},
                hovertemplate="%{y:.1e}",
            )
        )
    _bound(figure, bound)
    whole(figure, len(rows), "step")
    logarithmic(figure)
    titles = {"sgd": "Error per step of SGD with momentum", "adamw": "Error per step of AdamW"}
    title = titles.get(optimizer, f"Error per step of {optimizer}")
    return finished(
        f"steps-{optimizer}",
        title,
        "The worst tensor of each kind; every step starts from the same state on both sides.",
        figure,
    )


def _trajectory(found: dict[str, Json] | None) -> Chart | None:
    if not found:
        return None
    import plotly.graph_objects as go

    figure = figure_of(height=300)
    steps = [step + 1 for step in found["steps"]]
    for key, name, colour, fill in (
        ("envelope", "PyTorch from itself", NEUTRAL, "tozeroy"),
        ("twin", "JAX from PyTorch", COLOURS["jax"], None),
    ):
        figure.add_trace(
            go.Scatter(
                x=steps,
                y=[_drawn(e, 1e3) for e in found[key]],
                name=name,
                mode="lines+markers",
                fill=fill,
                fillcolor="rgba(138,143,152,0.18)",
                line={"color": colour, "width": 2},
                marker={"size": 5},
                hovertemplate="%{y:.1e}",
            )
        )
    whole(figure, len(steps), "free-running step")
    logarithmic(figure)
    note = "“From itself”: weights nudged by one unit in the last place. Twins agree when they part no faster."
    return finished("trajectory", "Free-running drift beside its envelope", note, figure)
