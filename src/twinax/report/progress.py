"""What a run is doing, shown while it goes on: a table of cells on a terminal, plain lines elsewhere.

It is drawn when something happens and never by a clock: a thread that redraws would take processor
time from the cells that are being timed.
"""

from __future__ import annotations

from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from twinax.analyse import words
from twinax.records import Cell, Outcome, Record

SIGNS = {
    "waiting": ("·", "dim"),
    "running": ("▶", "cyan"),
    Outcome.OK: ("✓", "green"),
    Outcome.SKIPPED: ("–", "dim"),
    Outcome.MISMATCH: ("✗", "bold red"),
}
FAULT = ("!", "bold red")  # every other outcome


class Progress:
    """Listens to a run and shows it; a context manager, since a live table must be closed.

    Cells that differ only in their repeat share a line, with one sign each.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._cells: dict[str, Cell] = {}
        self._states: dict[str, str] = {}
        self._messages: dict[str, str] = {}
        self._doing = ""
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="ellipsis")

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._doing = ""
            self._draw()
            self._live.stop()

    def planned(self, cells: tuple[Cell, ...]) -> None:
        """The run's cells, in the order in which they are reported."""
        self._cells = {cell.id: cell for cell in cells}
        self._states = dict.fromkeys(self._cells, "waiting")
        self._show(f"{len(cells)} cells planned")

    def started(self, cell: Cell) -> None:
        """A worker was started for the cell; cells outside the plan (reading a file) pass by."""
        if cell.id in self._states:
            self._states[cell.id] = "running"
            self._show(f"{label(cell)}: started")

    def said(self, cell: Cell | None, text: str) -> None:
        """What is being done now, for one cell or for the run."""
        self._doing = f"{label(cell)}: {text}" if cell else text
        self._show(self._doing)

    def ended(self, record: Record) -> None:
        """A cell ended."""
        self._cells[record.cell.id] = record.cell
        self._states[record.cell.id] = record.outcome
        if record.outcome is not Outcome.OK:
            self._messages[record.cell.id] = record.message
        reason = f", {record.message}" if record.message else ""
        self._show(f"{label(record.cell)}: {record.outcome} after {words.seconds(record.seconds)}{reason}")

    def _show(self, line: str) -> None:
        if self.console.is_terminal:
            self._draw()
        else:
            self.console.print(Text(words.printable(line)), soft_wrap=True)

    def _draw(self) -> None:
        self._live.update(Group(self.table(), Text(words.printable(self._doing), style="dim")), refresh=True)

    def table(self) -> Table:
        """One line for each study, side, mode and type; one sign for each of its cells."""
        lines: dict[tuple[str, ...], list[str]] = {}
        for cell in self._cells.values():
            lines.setdefault((cell.study, cell.side, cell.mode, cell.dtype), []).append(cell.id)
        table = Table.grid(padding=(0, 2, 0, 0))
        for heading, ids in lines.items():
            signs = Text()
            for cell_id in ids:
                signs.append(*SIGNS.get(self._states[cell_id], FAULT))
            said = next((self._messages[i] for i in ids if i in self._messages), "")
            first_line = words.printable(said.partition("\n")[0])
            table.add_row(*map(Text, heading), signs, Text(first_line, style="dim", overflow="ellipsis"))
        return table


def label(cell: Cell) -> str:
    """A cell in a few words: ``speed torch eager float32 #2``."""
    again = f" #{cell.repeat + 1}" if cell.repeat else ""
    return f"{cell.study} {cell.side} {cell.mode} {cell.dtype}{again}"
