"""Show a run: terminal, Markdown, HTML. Render only; everything shown follows from the run."""

from twinax.report import html, markdown, terminal

__all__ = ["html", "markdown", "terminal"]
