"""The report as one self-contained HTML file: nothing is loaded from anywhere.

Every name in it may come from a stranger. Jinja escapes what is text; what is data for plotly goes
through :func:`embedded`, since ``</script>`` would end the element that holds it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from twinax.analyse import Findings, Recommendation, words
from twinax.records import Run
from twinax.report import (
    autodiff_charts,
    cluster_charts,
    graph_tables,
    parallel_charts,
    parity_charts,
    shape_tables,
    speed_charts,
    training_charts,
    usability_charts,
    usability_tables,
)
from twinax.report.charts import Chart
from twinax.report.sections import sections, tiles

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def render(run: Run, findings: Findings, recommendation: Recommendation) -> str:
    """The page; the same run gives the same bytes."""
    from plotly.offline import get_plotlyjs

    environment = _environment()
    return environment.get_template("report.html").render(
        run=run,
        recommendation=recommendation,
        parity=findings.one("parity"),
        tiles=tiles(findings),
        sections=sections(run, findings),
        charts=_charts(run, findings),
        sources={side: _highlighted(text) for side, text in run.twin.sources.items() if text},
        blocks=_blocks(run),
        side_names=words.SIDES,
        highlighting=_highlighting(),
        plotly=_trusted(get_plotlyjs()),
    )


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("twinax.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["embedded"] = embedded
    environment.filters["breakable"] = breakable
    return environment


def _charts(run: Run, findings: Findings) -> dict[str, list[Chart]]:
    """Charts by the section that shows them."""
    return {
        "parity": parity_charts.parity_charts(run),
        "speed": speed_charts.speed_charts(findings),
        "cost": speed_charts.cost_charts(findings),
        "calibration": speed_charts.calibration_charts(findings),
        "training": training_charts.charts(run, findings),
        "graph": graph_tables.charts(findings),
        "autodiff": autodiff_charts.charts(findings),
        "shapes": shape_tables.charts(findings),
        "parallel": parallel_charts.charts(findings),
        "cluster": cluster_charts.charts(findings),
        "code": usability_charts.code_charts(findings),
        "first-hour": usability_charts.first_hour_charts(findings),
    }


def embedded(json: str) -> Markup:
    """JSON that cannot end the script element it stands in, nor start a comment there."""
    return _trusted(json.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def breakable(text: str) -> Markup:
    """Text in which a long dotted or underscored name may break, so that it stays in its column."""
    from markupsafe import Markup, escape

    safe = str(escape(words.printable(text)))
    long = re.compile(r"[^\s;&]{20,}")  # leaves escapes such as &lt; whole
    return Markup(long.sub(lambda name: re.sub(r"([._/])(?=\w)", r"\1<wbr>", name.group()), safe))


def _highlighted(source: str) -> Markup:
    """Python source with its syntax coloured; pygments escapes the text."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    return _trusted(highlight(source, PythonLexer(), HtmlFormatter(nowrap=True)))


def _blocks(run: Run) -> list[tuple[str, str, dict[str, Markup]]]:
    """Blocks of the two sources that belong together: title, remark, and each side's highlighted text."""
    return [
        (block.title, block.remark, {s: _highlighted(text) for s, text in block.texts.items() if text})
        for block in usability_tables.aligned(run)
    ]


def _highlighting() -> dict[str, Markup]:
    """The colours of highlighted source in light and in dark mode, as CSS."""
    from pygments.formatters import HtmlFormatter

    styles = {"light": "friendly", "dark": "github-dark"}
    return {mode: _trusted(_rules(HtmlFormatter(style=style))) for mode, style in styles.items()}


def _rules(formatter: Any) -> str:
    """Only the rules of tokens: the page has its own background."""
    rules = formatter.get_style_defs(".source").splitlines()
    return "\n".join(rule for rule in rules if rule.startswith(".source .") and "linenos" not in rule)


def _trusted(text: str) -> Markup:
    from markupsafe import Markup

    return Markup(text)  # made here, or by a library that escapes
