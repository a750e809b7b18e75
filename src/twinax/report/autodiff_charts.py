"""Pictures of differentiation: how tasks grow with their size, and what a Jacobian costs."""

from __future__ import annotations

from statistics import median

from twinax.analyse import Findings, words
from twinax.analyse.autodiff import multiple
from twinax.report.charts import COLOURS, Chart, figure_of, finished

SHOWN = {
    "gradient": "solid",
    "hessian_vector_product": "dot",
    "jacobian_reverse": "dash",
    "jacobian_forward": "dashdot",
    "hessian": "longdash",
}
"""Tasks in the picture: what grows alike with the size, and what does not."""


def charts(findings: Findings) -> list[Chart]:
    """Growth of the tasks, and the workloads' multiples."""
    return [*_growth(findings), *_multiples(findings)]


def _growth(findings: Findings) -> list[Chart]:
    import plotly.graph_objects as go

    finding = findings.one("derivatives")
    if finding is None:
        return []
    figure = figure_of(height=320, hovermode="closest")
    for row in finding.figures["rows"]:
        for side in ("torch", "jax"):
            points = row[side]["points"]
            if row["task"] not in SHOWN or not points:
                continue
            name = f"{words.SIDES[side]}, {row['task'].replace('_', ' ')}"
            figure.add_trace(
                go.Scatter(
                    x=[point["size"] for point in points],
                    y=[point["seconds"] for point in points],
                    mode="lines+markers",
                    name=name,
                    line={"color": COLOURS[side], "dash": SHOWN[row["task"]]},
                    hovertemplate=f"{name}<br>%{{x}} numbers: %{{y:.3g}} s<extra></extra>",
                )
            )
    figure.update_xaxes(type="log", title_text="numbers in a vector")
    figure.update_yaxes(type="log", title_text="seconds")
    note = "Solid: gradient; dotted: Hessian-vector product; dashed: Jacobians; long dashes: Hessian."
    return [finished("growth", "How a derivative's time grows with its size", note, figure)]


def _multiples(findings: Findings) -> list[Chart]:
    import plotly.graph_objects as go

    finding = findings.one("workloads")
    if finding is None:
        return []
    rows = [row for row in finding.figures["rows"] if all(multiple(row[s]) for s in ("torch", "jax"))]
    figure = figure_of(height=320, barmode="group", hovermode="closest")
    for side in ("torch", "jax"):
        figure.add_trace(
            go.Bar(
                x=[row["workload"] for row in rows],
                y=[multiple(row[side]) for row in rows],
                customdata=[words.seconds(median(row[side]["jacobian_s"])) for row in rows],
                name=words.SIDES[side],
                marker={"color": COLOURS[side]},
                hovertemplate="%{x}: %{y:.2f} objectives, %{customdata}<extra></extra>",
            )
        )
    figure.update_yaxes(title_text="objectives")
    note = (
        "A Jacobian's time as a multiple of its own objective's: lower is better, and not a ratio of the sides."
    )
    return [finished("multiples", "What a Jacobian costs", note, figure)]
