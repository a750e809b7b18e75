"""What a person sees while a run goes on: one line per cell, live on a terminal, plain elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table

from twinax.records import Cell, Outcome, Record

MARKS = {Outcome.OK: "[green]✓[/]", Outcome.SKIPPED: "[dim]–[/]"}


class Progress:
    """A listener that shows which cells have ended, which run, and what is being done now."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.total = self.done = 0
        self.now = "starting"
        self.spinner = Spinner("dots")
        self.live = Live(console=console, get_renderable=self._render, refresh_per_second=8, transient=True)

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def planned(self, cells: tuple[Cell, ...]) -> None:
        self.total = len(cells)

    def started(self, cell: Cell) -> None: ...

    def said(self, cell: Cell | None, text: str) -> None:
        self.now = text
        if not self.console.is_terminal:
            self.console.print(f"  {escape(text)}", highlight=False)

    def ended(self, record: Record) -> None:
        self.done += 1
        mark = MARKS.get(record.outcome, "[red]✗[/]")
        why = f" {record.outcome}: {record.message}" if record.message else ""
        text = f"{record.cell.study} · {record.cell.side} {record.cell.mode} {record.cell.dtype}"
        seconds = f"[dim]{record.seconds:6.1f} s[/]" if record.seconds else " " * 8
        line = f"{mark} {seconds}  {escape(text)}[dim]{escape(why)}[/]"
        self.console.print(line, highlight=False, no_wrap=True, overflow="ellipsis")

    def _render(self) -> Table:
        row = Table.grid(padding=(0, 1))
        row.add_row(self.spinner, f"[dim]{self.done}/{self.total}[/]", escape(self.now))
        return row
