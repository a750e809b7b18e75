"""Loss curves of both sides on top of each other, their distance and its envelope, and validation scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twinax.analyse import words
from twinax.records import Json, Run
from twinax.report.charts import COLOURS, Chart, figure_of, finished, logarithmic

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from twinax.analyse import Findings


def charts(run: Run, findings: Findings) -> list[Chart]:
    """Everything that was drawn step by step, of the last fold."""
    records = [r for r in run.of("training") if r.measurements.get("folds")]
    folds = {r.cell.side: r.measurements["folds"][-1] for r in records if not r.cell.repeat}
    stepped = {side: fold for side, fold in folds.items() if fold["losses"]}
    if not stepped:
        return []
    metric = records[0].measurements["metric"]
    made = [_losses(stepped), _validation(stepped, metric)]
    curves = findings.one("training_curves")
    return [*made, _distance(curves.figures["curves"][-1])] if curves else made


def _line(figure: go.Figure, x: list[float], y: list[float], name: str, colour: str, dash: str) -> None:
    import plotly.graph_objects as go

    line = {"color": colour, "width": 2.5, "dash": dash}
    figure.add_trace(go.Scatter(x=x, y=y, name=name, mode="lines", line=line, hovertemplate="%{y:.4g}"))


def _losses(folds: dict[str, dict[str, Json]]) -> Chart:
    figure = figure_of(height=300)
    for (side, fold), dash in zip(folds.items(), ("solid", "dot"), strict=False):
        _line(figure, fold["loss_steps"], fold["losses"], words.SIDES[side], COLOURS[side], dash)
    figure.update_xaxes(title_text="step")
    figure.update_yaxes(title_text="loss", rangemode="tozero")
    return finished("training", "Training loss", "Dotted over solid where the two coincide.", figure)


def _validation(folds: dict[str, dict[str, Json]], metric: str) -> Chart:
    figure = figure_of(height=260)
    for (side, fold), dash in zip(folds.items(), ("solid", "dot"), strict=False):
        rows = fold["valid"]
        steps, scores = [row["step"] for row in rows], [row[metric] for row in rows]
        _line(figure, steps, scores, words.SIDES[side], COLOURS[side], dash)
    figure.update_xaxes(title_text="step")
    figure.update_yaxes(title_text=metric.replace("_", " "))
    return finished("validation", "Validation score by which the best weights are chosen", "", figure)


def _distance(curve: dict[str, Json]) -> Chart:
    figure = figure_of(height=260)
    shown = [  # a distance of exactly 0 has no place on a logarithmic axis
        ("PyTorch from JAX", "twin", COLOURS["jax"], "solid"),
        ("PyTorch from itself, nudged", "envelope", COLOURS["torch"], "dash"),
    ]
    for name, key, colour, dash in shown:
        points = [(s, d) for s, d in zip(curve["steps"], curve[key], strict=True) if d > 0]
        _line(figure, [s for s, _ in points], [d for _, d in points], name, colour, dash)
    figure.update_xaxes(title_text="step")
    logarithmic(figure)
    note = "“From itself”: weights nudged by one unit in the last place before the first step."
    return finished("training-distance", "How far apart the losses run", note, figure)
