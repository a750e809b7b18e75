"""What all charts of the report share: plotly figures in JSON, their style, and names made harmless.

The page's own script sets text and grid colours, so that a chart follows the reader's light or dark
mode. Names come from users: :func:`label` keeps them from acting as plotly's own markup.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twinax.analyse import words

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Okabe & Ito (2008), darkened until both stand out on white and on black; safe for the colour-blind.
COLOURS = {"torch": "#d4652f", "jax": "#2f86c9"}
NEUTRAL = "#8a8f98"
BAD = "#c2306b"
GOOD = "#2b9348"
LONGEST = 48


@dataclass(frozen=True)
class Chart:
    """One chart: a name for its place in the page, a title, what to see in it, and the figure."""

    name: str
    title: str
    note: str
    figure: str
    height: int


def label(name: str, longest: int = LONGEST) -> str:
    """A name as plotly text: shortened in the middle, its markup escaped."""
    clean = words.printable(name)
    if len(clean) > longest:
        keep = (longest - 1) // 2
        clean = f"{clean[:keep]}…{clean[-keep:]}"
    return html.escape(clean, quote=False)


def figure_of(height: int, **layout: Any) -> go.Figure:
    """An empty figure in the report's style; the page's script adds the reader's colours."""
    import plotly.graph_objects as go

    figure = go.Figure()
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 8, "r": 12, "t": 8, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 12},
        showlegend=False,  # the page writes its own legend, which wraps on a phone
        dragmode=False,
        hovermode="x unified",
    )
    figure.update_layout(layout)
    figure.update_xaxes(fixedrange=True, automargin=True, zeroline=False, title_standoff=8)
    figure.update_yaxes(fixedrange=True, automargin=True, zeroline=False, title_standoff=8)
    return figure


def finished(name: str, title: str, note: str, figure: go.Figure) -> Chart:
    """The figure as a chart of the page."""
    return Chart(name, title, note, str(figure.to_json()), int(figure.layout.height))


def logarithmic(figure: go.Figure) -> None:
    """A logarithmic vertical axis for errors, with few grid lines."""
    figure.update_yaxes(type="log", exponentformat="power", nticks=6)


def whole(figure: go.Figure, count: int, title: str) -> None:
    """A horizontal axis that counts from 1: no ticks between whole numbers."""
    figure.update_xaxes(title_text=title, dtick=1 if count <= 12 else None)
