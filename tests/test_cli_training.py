"""The commands of training: what they print of what was found, and what they never replace."""

import json
import math

import pytest

from test_cli import call as call
from twinax import api
from twinax.run import trained


def test_scores_that_are_no_number_are_null_in_json(call, monkeypatch):
    def evaluated(*_, **__):
        return [{"fold": 0, "test": {"loss": math.nan, "r2": -math.inf}}]

    monkeypatch.setattr(api, "evaluate", evaluated)
    (row,) = json.loads(
        call("evaluate", "run", "--json").out,
        parse_constant=lambda name: pytest.fail(f"{name} is no JSON"),
    )
    assert row["test"] == {"loss": None, "r2": None}


def test_rows_are_counted_not_lines(call, monkeypatch, tmp_path):
    monkeypatch.setattr(api, "predict", lambda *_, **__: 'note,p\n"two\nlines",0.5\nplain,0.1\n')
    monkeypatch.setattr(trained, "chosen", lambda path: trained.Found(path, None))
    shown = call("predict", "run", "rows.csv", "-o", "answers.csv")
    assert shown.out.startswith("2 rows in answers.csv") and shown.code == 0


@pytest.fixture(scope="module")
def knn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("knn")
    rows = [f"{20 + i % 40},{'car' if i % 3 else 'home'},{int(i % 4 == 0)}" for i in range(80)]
    (folder / "loans.csv").write_text("\n".join(["age,purpose,default", *rows]) + "\n")
    api.train(
        "knn",
        sides=("torch",),
        data=str(folder / "loans.csv"),
        settings={"k": 5},
        output=folder / "run",
    )
    return folder


@pytest.mark.parametrize("taken", ["probability_of_default", "unknown_categories"])
def test_a_column_of_the_users_file_is_not_replaced(call, knn, tmp_path, taken):
    (tmp_path / "ask.csv").write_text(f"age,purpose,{taken}\n30,yacht,mine\n")
    shown = call("predict", str(knn / "run"), str(tmp_path / "ask.csv"), "-o", "answers.csv")
    assert shown.code == 2 and f"has the column {taken} already" in shown.err
    assert not (tmp_path / "answers.csv").exists()


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        (["train", "--resume", "none"], "Give the folder of a run"),
        (["train", "xor", "-o", "file"], "Choose another folder with -o.\n"),
        (["train", "knn", "--data", "sp500"], "for lstm and gru"),
        (["train", "lstm", "--data", "none.csv"], "Or name one of sp500, nasdaq, or hf:ID."),
        (["train", "lstm", "--set", "epochs=0"], "It is 20 by default."),
        (["predict", "run", "rows.csv", "-o", "none/answers.csv"], "Make it first"),
    ],
)
def test_the_hint_fits_what_was_done(call, tmp_path, line, hint):
    (tmp_path / "file").write_text("mine")
    shown = call(*line)
    assert shown.code == 2 and hint in shown.err
    assert "compare" not in shown.err and "Make room" not in shown.err and "--resume file" not in shown.err
