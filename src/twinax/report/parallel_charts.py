"""Pictures of parallel computing: step times by strategy, and what a rank holds."""

from __future__ import annotations

from twinax.analyse import Findings, words
from twinax.analyse.cluster_calibration import PARTS
from twinax.analyse.parallel import NAMES
from twinax.report.charts import COLOURS, Chart, figure_of, finished

SHADES = (1.0, 0.8, 0.6, 0.4, 0.2)


def charts(findings: Findings) -> list[Chart]:
    """Step times and memory."""
    return [*_steps(findings), *_memory(findings)]


def _steps(findings: Findings) -> list[Chart]:
    import plotly.graph_objects as go

    found = [f for f in findings.of("parallel_step") if f.figures["side"] != "both"]
    if not found:
        return []
    figure = figure_of(height=380, barmode="group", hovermode="closest")
    for finding in found:
        rows = finding.figures["rows"]
        figure.add_trace(
            go.Bar(
                x=[f"{NAMES[row['strategy']]}<br>{row['where']}" for row in rows],
                y=[row["step_s"] for row in rows],
                customdata=[words.seconds(row["step_s"]) for row in rows],
                name=words.SIDES[finding.figures["side"]],
                marker={"color": COLOURS[finding.figures["side"]]},
                hovertemplate="%{x}: %{customdata}<extra></extra>",
            )
        )
    figure.update_yaxes(title_text="seconds per step", rangemode="tozero")
    note = "The same global batch everywhere. Lower is better."
    return [finished("parallel-steps", "Time of a training step", note, figure)]


def _memory(findings: Findings) -> list[Chart]:
    import plotly.graph_objects as go

    found = findings.of("parallel_memory")
    if not found:
        return []
    figure = figure_of(height=120 + 26 * sum(len(f.figures["rows"]) for f in found), barmode="stack")
    figure.update_layout(hovermode="closest")
    for finding in found:
        side, rows = finding.figures["side"], finding.figures["rows"]
        for part, shade in zip(PARTS, SHADES, strict=True):
            figure.add_trace(
                go.Bar(
                    y=[f"{words.SIDES[side]}, {NAMES[row['strategy']]}, {row['where']}" for row in rows],
                    x=[row[part] for row in rows],
                    orientation="h",
                    customdata=[words.memory(row[part]) for row in rows],
                    name=f"{words.SIDES[side]}: {part}",
                    marker={"color": COLOURS[side], "opacity": shade},
                    hovertemplate=f"%{{y}}<br>{part}: %{{customdata}}<extra></extra>",
                )
            )
    figure.update_xaxes(title_text="bytes", exponentformat="SI")
    figure.update_yaxes(autorange="reversed")
    note = (
        "Darkest to lightest: parameters, gradients, optimizer state, activations, buffers of the fullest rank."
    )
    return [finished("parallel-memory", "What a rank holds", note, figure)]
