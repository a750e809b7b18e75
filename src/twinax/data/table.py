"""Tables with numbers and categories: read from a CSV file or a Hugging Face data set, and encoded.

A cell is text until the training rows have shown what its column is: numbers (standardised) or
categories (one input each, 1 where the row has it). What was found is JSON, and encodes later files alike.
"""

from __future__ import annotations

import csv
import importlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np

from twinax.errors import BadInput
from twinax.records import Json
from twinax.twin import Array

GERMAN_CREDIT = (
    *("status", "duration_months", "credit_history", "purpose", "credit_amount", "savings"),
    *("employment_since", "installment_rate", "personal_status_sex", "other_debtors", "residence_since"),
    *("property", "age", "other_installment_plans", "housing", "existing_credits", "job", "people_liable"),
    *("telephone", "foreign_worker", "class"),
)
"""Columns of ``german.data`` (Statlog, H. Hofmann), which has no header; the class is 1 = good, 2 = bad."""

HUB = "hf:"
INDICES = ("sp500", "nasdaq")  # of prices, by name: see twinax.data.ohlcv
MISSING = frozenset({"", "?", "na", "n/a", "nan", "null"})
MOST_CATEGORIES = 100
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")


@dataclass(frozen=True)
class Table:
    """Cells as text.

    Attributes:
        source: What messages call it.
        columns: By name, in order; all of one length.
        headed: Whether the source itself named its columns.
        lines: The line of the file on which each row ends; empty: it is no file.
    """

    source: str
    columns: Mapping[str, Sequence[str]]
    headed: bool = True
    lines: Sequence[int] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))


@dataclass(frozen=True)
class Source:
    """What ``data`` names: ``file.csv``, ``file.csv#target=default``, ``hf:ID#target=y&positive=bad``.

    Attributes:
        place: The file, or ``hf:ID``.
        target: The target column's name, or its place (1 is the first, -1 the last); empty: not stated.
        positive: The target's value that counts as 1; empty: not stated.
    """

    place: str
    target: str = ""
    positive: str = ""


def parse(data: str) -> Source:
    """Take ``data`` apart.

    Raises:
        BadInput: Something else than ``target`` and ``positive`` is stated.
    """
    place, mark, stated = data.rpartition("#")
    if not mark or "=" not in stated:
        return Source(data)
    keys = dict(parse_qsl(stated, keep_blank_values=True))
    if unknown := sorted(set(keys) - {"target", "positive"}):
        raise BadInput(
            f"{data} states {', '.join(unknown)}, which is unknown.",
            "After # only target and positive are known, as in file.csv#target=class&positive=bad.",
        )
    return Source(place, keys.get("target", ""), keys.get("positive", ""))


def read(place: str, names: Sequence[str] = ()) -> Table:
    """The table in a file, or in a Hugging Face data set.

    Args:
        place: A path or ``hf:ID``. The first line tells the delimiter (semicolon, tab, comma, else blanks)
            and whether it is a header: it is one when its cells differ and none is a number or empty.
        names: Names for a file without a header that has as many columns, where they are known.

    Raises:
        BadInput: It cannot be read, has no rows, or a row has too few or too many cells.
    """
    if place.startswith(HUB):
        return _from_hub(place.removeprefix(HUB))
    lines = _cells(place)
    if not lines:
        raise BadInput(f"{place} is empty.", "Give a CSV file with a row for each loan.")
    head = lines[0][1]
    headed = len(set(head)) == len(head) and not any(_is_number(c) or _is_missing(c) for c in head)
    if not headed:
        _refuse_doubled(place, lines)
    rows = lines[1:] if headed else lines
    if not rows:
        raise BadInput(f"{place} has a header and no rows.", "Give a CSV file with a row for each loan.")
    for line, cells in rows:
        if len(cells) != len(head):
            has = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
            raise BadInput(
                f"{place}, line {line}: {has}; the first line has {len(head)}.",
                "Give every row as many cells, and put cells that hold the delimiter in quotes.",
            )
    columns = zip(*(cells for _, cells in rows), strict=True)
    named = dict(zip(_names(head, headed, names), columns, strict=True))
    return Table(place, named, headed, [line for line, _ in rows])


def _refuse_doubled(place: str, lines: Sequence[tuple[int, list[str]]]) -> None:
    """Refuse a first line of names one of which stands there twice.

    It is no row when no such name is found again below.

    Raises:
        BadInput: It names a column twice.
    """
    (_, head), *rows = lines
    doubled = [name for name in dict.fromkeys(head) if head.count(name) > 1]
    if any(_is_number(cell) or _is_missing(cell) for cell in head) or not rows:
        return
    at = {name: [i for i, cell in enumerate(head) if cell == name] for name in doubled}
    for name, places in at.items():
        if not any(cells[i] == name for _, cells in rows for i in places if i < len(cells)):
            raise BadInput(
                f"{place} names the column {name} {len(places)} times, at places "
                f"{', '.join(str(i + 1) for i in places)}.",
                "Give every column a name of its own.",
            )


def _where_from(place: str) -> str:
    if place in INDICES:
        return f"{place} is a series of prices, for lstm and gru; give a CSV file with a row for each loan."
    return "Give a CSV file with a row for each loan, or hf:ID."


def delimiter_of(line: str) -> str | None:
    """What stands between a line's cells: semicolon, tab or comma, in this order; None: it has none of them."""
    return next((mark for mark in ";\t," if mark in line), None)


def _cells(place: str) -> list[tuple[int, list[str]]]:
    """Each line that is not blank: its number in the file, and its cells."""
    try:
        text = Path(place).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise BadInput(f"{place} cannot be read: {error.strerror}.", _where_from(place)) from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{place} is no UTF-8 text: {error.reason}.", "Save it as UTF-8.") from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = delimiter_of(first)
    if delimiter is None:
        return [(i, line.split()) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    try:
        return [(reader.line_num, [c.strip() for c in row]) for row in reader if any(c.strip() for c in row)]
    except csv.Error as error:
        raise BadInput(f"{place}, line {reader.line_num}: {error}.", "Close every quote.") from error


def _names(head: Sequence[str], headed: bool, names: Sequence[str]) -> list[str]:
    if headed:
        return list(head)
    if len(head) == len(names):
        return list(names)
    if len(head) == len(GERMAN_CREDIT) and re.fullmatch(r"A1[1-4]", head[0]):
        return list(GERMAN_CREDIT)
    return [f"column_{number}" for number in range(1, len(head) + 1)]


def _from_hub(name: str) -> Table:
    """The ``train`` split of a data set on the Hugging Face hub."""
    try:
        datasets = importlib.import_module("datasets")
    except ImportError as error:
        raise BadInput(
            f"{HUB}{name} needs the package datasets, which is not installed.", "pip install datasets"
        ) from error
    try:
        found = datasets.load_dataset(name, split="train")
        columns = {column: [_text(value) for value in found[column]] for column in found.column_names}
    except Exception as error:  # the hub's client raises errors of many kinds: all mean that there are no data
        raise BadInput(
            f"{HUB}{name} cannot be loaded: {type(error).__name__}: {error}", "Check the id and the network."
        ) from error
    table = Table(HUB + name, columns)
    if not len(table):
        raise BadInput(f"{HUB}{name} has no rows.", "Give another data set.")
    return table


def _text(value: object) -> str:
    """A cell as text; a truth value as 0 or 1, no value as an empty cell."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value).strip()


def target_of(table: Table, stated: str, usual: Sequence[str]) -> str:
    """The target column's name.

    Args:
        table: The table.
        stated: A name, or a place counted from 1 (or from the end: -1); empty: one of ``usual`` that is there.
        usual: Names to look for where none is stated.

    Raises:
        BadInput: There is no such column.
    """
    names = list(table.columns)
    if stated in names:
        return stated
    if re.fullmatch(r"-?\d+", stated):
        place = int(stated) - 1 if int(stated) > 0 else int(stated) + len(names)
        if stated != "0" and 0 <= place < len(names):
            return names[place]
    if not stated and (found := [name for name in usual if name in names]):
        return found[0]
    what = f"no column {stated}" if stated else f"no column named {' or '.join(usual)}"
    raise BadInput(
        f"{table.source} has {what}; its {len(names)} columns are {', '.join(names)}.",
        "Name the target: file.csv#target=NAME, or its place, #target=-1 for the last.",
    )


def numbers(table: Table, column: str, rows: Array | None = None) -> Array:
    """A column as float64; of some rows, or all.

    Raises:
        BadInput: A cell is empty or no finite number; names the file, the column and the line.
    """
    cells = table.columns[column]
    wanted = range(len(cells)) if rows is None else rows
    return np.array([_number(table, column, row) for row in wanted], np.float64)


def _number(table: Table, column: str, row: int) -> float:
    cell = _present(table, column, row)
    if not _is_number(cell):
        hint = "Write numbers as 1234.5." if _DECIMAL_COMMA.fullmatch(cell) else "Give a number in every row."
        raise BadInput(f"{_where(table, column, row)}: {cell!r} is no finite number.", hint)
    return float(cell)


def _present(table: Table, column: str, row: int) -> str:
    cell = table.columns[column][row]
    if _is_missing(cell):
        raise BadInput(
            f"{_where(table, column, row)}: the cell is empty ({cell!r}).", "Fill it in, or leave the row out."
        )
    return cell


def _where(table: Table, column: str, row: int) -> str:
    place = f"line {table.lines[row]}" if len(table.lines) else f"row {row + 1}"
    return f"{table.source}, column {column}, {place}"


def _is_missing(cell: str) -> bool:
    return cell.lower() in MISSING


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is not None and np.isfinite(float(cell))


def texts(table: Table, column: str) -> list[str]:
    """A column's cells.

    Raises:
        BadInput: One is empty; names the file, the column and the line.
    """
    return [_present(table, column, row) for row in range(len(table))]


def learn(table: Table, features: Sequence[str], rows: Array) -> dict[str, Json]:
    """What the training rows tell of the feature columns: ``{column: [mean, deviation] | [category, …]}``.

    A column is numbers when most of its cells are, and categories otherwise; a constant has deviation 1.

    Raises:
        BadInput: A cell is empty; a column of numbers holds something else; there are too many categories.
    """
    found: dict[str, Json] = {}
    for column in features:
        cells = [_present(table, column, int(row)) for row in rows]
        if 2 * sum(_is_number(cell) or bool(_DECIMAL_COMMA.fullmatch(cell)) for cell in cells) > len(cells):
            values = numbers(table, column, rows)
            found[column] = [float(values.mean()), float(values.std()) or 1.0]
            continue
        found[column] = sorted(set(cells))
        if len(found[column]) > MOST_CATEGORIES:
            raise BadInput(
                f"{table.source}, column {column}: {len(found[column])} different texts in {len(rows)} "
                f"training rows, more than the {MOST_CATEGORIES} categories that a column may have.",
                "Leave out columns that name rather than describe (identifiers, dates), or group the values.",
            )
    return found


def encode(table: Table, learned: Mapping[str, Json]) -> tuple[Array, list[list[str]]]:
    """Feature columns as model inputs.

    Args:
        table: May hold other columns too.
        learned: What :func:`learn` found.

    Returns:
        The inputs (rows, features), float64; and by row the columns whose category was not among those of
        the training rows: it has none of the known categories, so its inputs are all 0.

    Raises:
        BadInput: A column is missing, a cell is empty, or a column of numbers holds something else.
    """
    if missing := [column for column in learned if column not in table.columns]:
        raise BadInput(
            f"{table.source} lacks {', '.join(missing)}; it has {', '.join(table.columns)}.",
            "Give the columns that the model was trained on.",
        )
    parts: list[Array] = []
    unknown: list[list[str]] = [[] for _ in range(len(table))]
    for column, known in learned.items():
        if not isinstance(known[0], str):
            mean, deviation = known
            parts.append(((numbers(table, column) - mean) / deviation)[:, None])
            continue
        cells = texts(table, column)
        place = {category: index for index, category in enumerate(known)}
        hot = np.zeros((len(cells), len(known)))
        for row, cell in enumerate(cells):
            if cell in place:
                hot[row, place[cell]] = 1.0
            else:
                unknown[row].append(column)
        parts.append(hot)
    return np.concatenate(parts, axis=1), unknown
