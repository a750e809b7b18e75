"""Daily prices: from a CSV file with open, high, low, close, from a real index, from Hugging Face."""

from __future__ import annotations

import csv
import importlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from twinax.data.table import INDICES, delimiter_of
from twinax.errors import BadInput
from twinax.twin import Array

PRICES = ("open", "high", "low", "close")
ADJUSTED, VOLUME = "adj close", "volume"
HINT = "Give a CSV file with the columns Date, Open, High, Low, Close and, where known, Adj Close and Volume."

Cells = Mapping[str, str]
"""One row: column in small letters → text."""

Row = tuple[str, Sequence[str]]
"""Where a row stands, as messages say it, and its cells."""


@dataclass(frozen=True)
class Prices:
    """Days in order, each array of shape (days,).

    Attributes:
        dates: ``datetime64[D]``.
        open: First price of the day; float64, as the other prices: above 0, low ≤ open, close ≤ high.
        high: Highest price.
        low: Lowest price.
        close: Last price.
        volume: Shares or contracts traded, at least 0; None where the source has none.
    """

    dates: Array
    open: Array
    high: Array
    low: Array
    close: Array
    volume: Array | None

    def __len__(self) -> int:
        return len(self.dates)


def load(data: str) -> Prices:
    """Prices by name: ``sp500``, ``nasdaq``, ``hf:ID``, or the path of a CSV file.

    Raises:
        BadInput: They cannot be read; the file, the column and the row are named.
    """
    if data in INDICES:
        return index(data)
    if data.startswith("hf:"):
        return hugging_face(data.removeprefix("hf:"))
    return read(Path(data))


def read(file: Path) -> Prices:
    """A CSV file: commas, semicolons or tabs, as its first line has them.

    Columns may have any case and order; others are left aside.

    With ``Adj Close``, all prices of a day are scaled by adjusted over plain close, so that dividends and
    splits are no returns.

    Raises:
        BadInput: The file, a column or a value cannot be used.
    """
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            delimiter = delimiter_of(lines.readline()) or ","
            lines.seek(0)
            rows = csv.reader(lines, delimiter=delimiter)
            header = next(rows, [])
            return _parsed(str(file), header, ((f"line {rows.line_num}", row) for row in rows))
    except OSError as error:
        hint = f"{HINT} Or name one of {', '.join(INDICES)}, or hf:ID."
        raise BadInput(f"{file} cannot be read: {error.strerror}.", hint) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{file} is no CSV text: {error}.", HINT) from error


def index(name: str) -> Prices:
    """The S&P 500 (``sp500``) or the NASDAQ Composite (``nasdaq``), 1999 to 2018, from the package arch.

    Raises:
        BadInput: The package is not installed.
    """
    try:
        module = importlib.import_module(f"arch.data.{name}")
    except ImportError as error:
        raise BadInput(
            f"{name} comes with the package arch, which is not installed.", "Install it: pip install arch"
        ) from error
    frame = module.load()
    rows = ([str(day), *map(str, row)] for day, *row in frame.itertuples())
    return _parsed(f"arch.data.{name}", ["Date", *frame.columns], _numbered(rows))


def hugging_face(name: str) -> Prices:
    """A data set of the Hugging Face Hub, its split ``train``, with the columns that :func:`read` takes.

    Raises:
        BadInput: The package datasets is not installed, or the data set cannot be had or used.
    """
    try:
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        raise BadInput(
            f"hf:{name} needs the package datasets, which is not installed.",
            "Install it: pip install datasets",
        ) from error
    try:
        found = datasets.load_dataset(name, split="train")
    except Exception as error:  # whatever the Hub, the network or a data set's own files raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"hf:{name} cannot be loaded: {reason}", "Check its name on huggingface.co.") from error
    columns = list(found.column_names)
    return _parsed(f"hf:{name}", columns, _numbered([str(row[column]) for column in columns] for row in found))


def _numbered(rows: Iterable[Sequence[str]]) -> Iterator[Row]:
    """Rows of what is no file, counted from 1."""
    return ((f"row {number}", row) for number, row in enumerate(rows, 1))


def _parsed(source: str, header: Sequence[str], rows: Iterable[Row]) -> Prices:
    """Prices from rows of text.

    Raises:
        BadInput: A column is missing or a value cannot be used: says source, place and column.
    """
    names = [name.strip().lower() for name in header]
    doubled = sorted({name for name in names if name and names.count(name) > 1})
    if doubled:
        raise BadInput(f"{source} has the column {doubled[0]} twice.", HINT)
    missing = [name for name in ("date", *PRICES) if name not in names]
    if missing:
        raise BadInput(
            f"{source} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"it has {', '.join(header) or 'no columns'}.",
            HINT,
        )
    volumes = VOLUME in names
    found = list(_days(source, names, rows))
    days = np.array([day for day, _, _ in found], dtype="datetime64[D]")
    prices = np.array([row for _, row, _ in found], dtype=np.float64).reshape(-1, len(PRICES))
    volume = np.array([v for _, _, v in found], dtype=np.float64) if volumes else None
    opened, high, low, close = prices.T
    return Prices(days, opened, high, low, close, volume)


def _days(source: str, names: Sequence[str], rows: Iterable[Row]) -> Iterator[tuple[date, list[float], float]]:
    """(day, [open, high, low, close], volume) of each row, checked; volume is 0 where there is no column."""
    before: date | None = None
    for place, row in rows:
        if not any(cell.strip() for cell in row):
            continue  # an empty line
        if len(row) != len(names):
            raise BadInput(f"{source}, {place}: {len(row)} values for {len(names)} columns.", HINT)
        cells, where = dict(zip(names, row, strict=True)), f"{source}, {place}"
        day = _date(where, cells["date"])
        if before is not None and day <= before:
            raise BadInput(
                f"{where}, column date: {day} comes after {before}; dates must grow from row to row.",
                "Sort the rows by date, oldest first, and keep one row per day.",
            )
        before = day
        yield day, _prices(where, cells), _number(where, VOLUME, cells) if VOLUME in cells else 0.0


def _date(where: str, text: str) -> date:
    try:
        return date.fromisoformat(text.strip()[:10])
    except ValueError as error:
        what = f"{where}, column date: {text[:40]!r} is no date."
        raise BadInput(what, "Write dates as year-month-day, for example 2018-12-31.") from error


def _number(where: str, column: str, cells: Cells) -> float:
    text = cells[column].strip()
    try:
        value = float(text)
    except ValueError as error:
        hint = "Write numbers as 1234.5." if "," in text else HINT
        raise BadInput(f"{where}, column {column}: {text[:40]!r} is no number.", hint) from error
    if not math.isfinite(value):
        what = f"{where}, column {column}: {text[:40]!r} is not finite."
        raise BadInput(what, "Leave days without prices out.")
    if value < 0 or (value == 0 and column != VOLUME):
        least = "at least 0" if column == VOLUME else "above 0"
        raise BadInput(f"{where}, column {column}: {value:g} must be {least}.", "Leave such days out.")
    return value


def _prices(where: str, cells: Cells) -> list[float]:
    """Open, high, low, close of one row; adjusted where the adjusted close is known."""
    values = [_number(where, column, cells) for column in PRICES]
    opened, high, low, close = values
    if high < low:
        raise BadInput(f"{where}: high {high:g} is below low {low:g}.", "Check the columns' names.")
    if not low <= min(opened, close) <= max(opened, close) <= high:
        # sources that round differ by a last digit; more than that is a fault
        if min(opened, close) < low * (1 - 1e-3) or max(opened, close) > high * (1 + 1e-3):
            raise BadInput(
                f"{where}: open {opened:g} or close {close:g} lies outside low {low:g} to high {high:g}.",
                "Check the columns' names.",
            )
        low, high = min(values), max(values)
    scale = _number(where, ADJUSTED, cells) / close if ADJUSTED in cells else 1.0
    return [price * scale for price in (opened, high, low, close)]
