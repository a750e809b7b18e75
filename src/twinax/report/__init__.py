"""Show a run: terminal, Markdown, HTML. Render only."""
