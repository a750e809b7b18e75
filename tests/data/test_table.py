"""Tables: every format that is read, what columns are taken for, what is said of those that cannot be used."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from twinax.data import table
from twinax.data.table import Source, Table
from twinax.errors import BadInput

GERMAN = Path(__file__).parents[3] / "shared" / "data" / "german_credit" / "german.data"


def written(folder, text, name="loans.csv"):
    file = folder / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(file)


# --- reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "age,purpose\n30,car\n40,home\n",
        "age;purpose\n30;car\n40;home\n",
        "age\tpurpose\n30\tcar\n40\thome",
        "age purpose\n30   car\n\n40 home\n",
        '"age","purpose"\n"30","car"\r\n 40 , home \r\n',
        "\ufeffage,purpose\n30,car\n,\n40,home\n",  # byte-order mark, a row of empty cells
    ],
)
def test_formats(tmp_path, text):
    read = table.read(written(tmp_path, text))
    assert {name: list(cells) for name, cells in read.columns.items()} == {
        "age": ["30", "40"],
        "purpose": ["car", "home"],
    }
    assert read.headed and len(read) == 2


def test_quoted_delimiters_stay_in_their_cell(tmp_path):
    read = table.read(written(tmp_path, 'purpose,age\n"car, used",30\n'))
    assert list(read.columns["purpose"]) == ["car, used"]


def test_without_a_header(tmp_path):
    file = written(tmp_path, "30,car\n40,home\n")
    assert list(table.read(file).columns) == ["column_1", "column_2"]
    named = table.read(file, ["age", "purpose"])
    assert list(named.columns) == ["age", "purpose"] and not named.headed
    assert list(table.read(file, ["one", "two", "three"]).columns) == ["column_1", "column_2"]


def test_a_row_of_equal_texts_is_no_header_with_a_name_twice(tmp_path):
    read = table.read(written(tmp_path, "yes,yes,no\nno,yes,no\n"))
    assert not read.headed and len(read) == 2


def test_a_cell_is_named_by_the_line_of_the_file(tmp_path):
    read = table.read(written(tmp_path, 'age,note\n\n30,"two\nlines"\nold,x\n'))
    with pytest.raises(BadInput, match="column age, line 5: 'old' is no finite number"):
        table.numbers(read, "age")


def test_german_credit_is_known_by_its_layout(tmp_path):
    row = "A11 6 A34 A43 1169 A65 A75 4 A93 A101 4 A121 67 A143 A152 2 A173 1 A192 A201 1\n"
    assert tuple(table.read(written(tmp_path, row)).columns) == table.GERMAN_CREDIT
    assert "column_1" in table.read(written(tmp_path, row.replace("A11", "X1"))).columns


@pytest.mark.skipif(not GERMAN.exists(), reason="the real file is not here")
def test_the_real_german_credit():
    read = table.read(str(GERMAN))
    assert len(read) == 1000 and tuple(read.columns) == table.GERMAN_CREDIT
    learned = table.learn(read, table.GERMAN_CREDIT[:-1], np.arange(1000))
    numeric = {name for name, known in learned.items() if not isinstance(known[0], str)}
    assert len(numeric) == 7 and "credit_amount" in numeric and "status" not in numeric
    assert learned["credit_amount"][0] == pytest.approx(3271.258)
    inputs, unknown = table.encode(read, learned)
    assert inputs.shape == (1000, 61) and not any(unknown)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is empty"),
        (b"age,purpose\n", "no rows"),
        (b"age,purpose\n30,car\n40\n", "line 3: 1 cell; the first line has 2"),
        (b"age,purpose\n30,car\n\n40,car,new\n", "line 4: 3 cells"),
        (b"age,purpose\n\xff\xfe,car\n", "no UTF-8"),
        (b'age,purpose\n30,"car\n', "line 2"),
        (b"age,purpose,age\n30,car,30\n", "names the column age 2 times, at places 1, 3"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, text, said):
    with pytest.raises(BadInput, match=r"loans\.csv") as error:
        table.read(written(tmp_path, text))
    assert said in error.value.what


def test_no_file(tmp_path):
    with pytest.raises(BadInput, match="No such file"):
        table.read(str(tmp_path / "none.csv"))


# --- where the data come from -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "source"),
    [
        ("loans.csv", Source("loans.csv")),
        ("loans.csv#target=bad", Source("loans.csv", "bad")),
        ("a#b.csv", Source("a#b.csv")),
        ("hf:me/loans#target=class&positive=very bad", Source("hf:me/loans", "class", "very bad")),
    ],
)
def test_data_is_taken_apart(data, source):
    assert table.parse(data) == source


def test_unknown_statements_are_named():
    with pytest.raises(BadInput, match="targte, which is unknown"):
        table.parse("loans.csv#targte=bad")


def test_the_target_by_name_by_place_and_as_usual():
    some = Table("f", {"a": ["1"], "2": ["1"], "default": ["0"]})
    assert table.target_of(some, "a", ()) == "a"
    assert table.target_of(some, "2", ()) == "2"  # a name before a place
    assert table.target_of(some, "-1", ()) == "default"
    assert table.target_of(some, "1", ()) == "a"
    assert table.target_of(some, "", ("class", "default")) == "default"
    for stated in ("b", "0", "4", "-4"):
        with pytest.raises(BadInput, match=f"no column {stated}; its 3 columns are a, 2, default"):
            table.target_of(some, stated, ())
    with pytest.raises(BadInput, match="no column named class or label"):
        table.target_of(some, "", ("class", "label"))


class FakeHub:
    column_names = ("age", "purpose", "bad")

    def __init__(self, rows):
        self.rows = rows

    def __getitem__(self, column):
        return [row[self.column_names.index(column)] for row in self.rows]


def hub(monkeypatch, load):
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load))


def test_hugging_face(monkeypatch):
    asked = []
    rows = [(30, "car", True), (41.5, None, False)]
    hub(monkeypatch, lambda name, split: asked.append((name, split)) or FakeHub(rows))
    read = table.read("hf:me/loans")
    assert asked == [("me/loans", "train")]
    assert dict(read.columns) == {"age": ["30", "41.5"], "purpose": ["car", ""], "bad": ["1", "0"]}
    with pytest.raises(BadInput, match="hf:me/loans, column purpose, row 2"):
        table.texts(read, "purpose")


def test_hugging_face_that_fails(monkeypatch):
    def fail(name, split):
        raise ConnectionError("no route")

    hub(monkeypatch, fail)
    with pytest.raises(BadInput, match="hf:me/loans cannot be loaded: ConnectionError: no route"):
        table.read("hf:me/loans")
    hub(monkeypatch, lambda name, split: FakeHub([]))
    with pytest.raises(BadInput, match="has no rows"):
        table.read("hf:me/loans")
    monkeypatch.setitem(sys.modules, "datasets", None)  # as where it is not installed
    with pytest.raises(BadInput, match="not installed") as error:
        table.read("hf:me/loans")
    assert error.value.hint == "pip install datasets"


# --- columns ------------------------------------------------------------------------------------------


LOANS = Table("loans.csv", {"age": ["20", "40", "1e2"], "purpose": ["car", "home", "boat"], "same": ["7"] * 3})


def test_training_rows_alone_are_learnt_from():
    learned = table.learn(LOANS, ["age", "purpose", "same"], np.array([0, 1]))
    assert learned == {"age": [30.0, 10.0], "purpose": ["car", "home"], "same": [7.0, 1.0]}
    inputs, unknown = table.encode(LOANS, learned)
    np.testing.assert_array_equal(inputs, [[-1, 1, 0, 0], [1, 0, 1, 0], [7, 0, 0, 0]])
    assert unknown == [[], [], ["purpose"]]


@pytest.mark.parametrize("cell", ["", "?", "NaN", "NA", "null"])
def test_missing_cells_are_named(cell):
    holed = Table("loans.csv", {"age": ["20", "30", cell], "purpose": ["car", "car", cell]})
    for column in holed.columns:
        with pytest.raises(BadInput, match=f"loans.csv, column {column}, row 3: the cell is empty"):
            table.learn(holed, [column], np.arange(3))
        with pytest.raises(BadInput, match=f"loans.csv, column {column}, row 3: the cell is empty"):
            table.encode(holed, table.learn(holed, [column], np.arange(2)))


@pytest.mark.parametrize("cell", ["old", "inf", "1e999", "1_000", "0x10", "30 years"])
def test_what_is_no_number_is_named(cell):
    mixed = Table("loans.csv", {"age": ["20", "30", cell]})
    with pytest.raises(BadInput, match=f"loans.csv, column age, row 3: '{cell}' is no finite number"):
        table.learn(mixed, ["age"], np.arange(3))
    with pytest.raises(BadInput, match=f"column age, row 3: '{cell}'"):
        table.encode(mixed, table.learn(mixed, ["age"], np.arange(2)))


def test_decimal_commas_are_no_categories():
    with pytest.raises(BadInput, match="row 1: '1,5' is no finite number") as error:
        table.learn(Table("f", {"x": ["1,5", "2,5"]}), ["x"], np.arange(2))
    assert "1234.5" in error.value.hint


def test_identifiers_are_refused():
    names = Table("f", {"name": [f"person {i}" for i in range(table.MOST_CATEGORIES + 1)]})
    with pytest.raises(BadInput, match="column name: 101 different texts in 101 training rows"):
        table.learn(names, ["name"], np.arange(101))
    assert len(table.learn(names, ["name"], np.arange(100))["name"]) == 100


def test_missing_columns_are_named():
    learned = table.learn(LOANS, ["age", "purpose"], np.arange(3))
    with pytest.raises(BadInput, match="f lacks age; it has purpose, other"):
        table.encode(Table("f", {"purpose": ["car"], "other": ["1"]}), learned)
