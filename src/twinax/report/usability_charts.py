"""Pictures of ease of use: tokens block by block, and seconds of the first hour."""

from __future__ import annotations

from twinax.analyse import Findings, words
from twinax.report.charts import COLOURS, Chart, figure_of, finished, label
from twinax.report.usability_tables import SIDES, STARTS, about

SHOWN = 14  # blocks in the picture: those in which the sides differ most


def code_charts(findings: Findings) -> list[Chart]:
    """Tokens of the blocks in which the two sources differ most."""
    import plotly.graph_objects as go

    finding = about(findings, "code", "blocks")
    blocks = [b for b in (finding.figures["blocks"] if finding else []) if b["extra"]][:SHOWN]
    if not blocks:
        return []
    figure = figure_of(height=80 + 34 * len(blocks), barmode="group", hovermode="closest")
    for side in SIDES:
        figure.add_trace(
            go.Bar(
                orientation="h",
                x=[block[side]["tokens"] if block[side] else 0 for block in blocks],
                y=[label(block["title"]) for block in blocks],
                name=words.SIDES[side],
                marker={"color": COLOURS[side]},
                hovertemplate=f"%{{y}}<br>{words.SIDES[side]}: %{{x:,}} tokens<extra></extra>",
            )
        )
    figure.update_xaxes(title_text="tokens")
    figure.update_yaxes(autorange="reversed")
    note = "Blocks whose tokens differ, those that differ most first. A side without a bar has no such block."
    return [finished("blocks", "Which idea costs what", note, figure)]


def first_hour_charts(findings: Findings) -> list[Chart]:
    """Seconds from the start of a fresh process to what it prints."""
    import plotly.graph_objects as go

    finding = about(findings, "first_hour", "times")
    rows = [r for r in (finding.figures["rows"] if finding else []) if any(r[s]["samples_s"] for s in SIDES)]
    if not rows:
        return []
    figure = figure_of(height=80 + 44 * len(rows), barmode="group", hovermode="closest")
    for side in SIDES:
        known = [row for row in rows if row[side]["samples_s"]]
        figure.add_trace(
            go.Bar(
                orientation="h",
                x=[row[side]["seconds"] for row in known],
                y=[STARTS[row["what"]] for row in known],
                text=[words.seconds(row[side]["seconds"]) for row in known],
                textposition="auto",
                customdata=[len(row[side]["samples_s"]) for row in known],
                name=words.SIDES[side],
                marker={"color": COLOURS[side]},
                hovertemplate="%{y}: %{text}, %{customdata} of them<extra></extra>",
            )
        )
    figure.update_xaxes(title_text="seconds")
    figure.update_yaxes(autorange="reversed")
    note = "From the start of a fresh process to its first line of output: medians. Lower is better."
    return [finished("first-hour", "The first hour, in seconds", note, figure)]
