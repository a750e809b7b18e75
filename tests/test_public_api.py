"""The public Python functions and what they return."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import runs
import twinax
from made_up import Engine
from twinax.errors import BadInput, RunError
from twinax.records import Run

NOTEBOOK = Path(__file__).parents[1] / "examples" / "notebook.ipynb"


@pytest.fixture
def engine(monkeypatch, tmp_path) -> Engine:
    made_up = Engine(runs.full(), tmp_path / "run")
    monkeypatch.setattr("twinax.api.execute", made_up)
    return made_up


def test_the_public_names():
    functions = ["autodiff", "compare", "evaluate", "graph", "load", "parallel", "parity", "port", "predict"]
    functions += ["report", "speed", "train", "usability"]
    assert dir(twinax) == ["Comparison", "TwinaxError", *functions]
    assert all(getattr(twinax, name).__doc__ for name in twinax.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        twinax.nothing  # noqa: B018


def test_functions_keep_their_names_whatever_is_imported():
    """``twinax.compare`` and ``twinax.report`` are also modules."""
    code = (
        "import twinax, twinax.compare, twinax.report.html, twinax.testing\n"
        "from twinax.compare import __doc__ as module\n"
        "assert callable(twinax.compare) and callable(twinax.report) and 'NumPy' in module, module"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("command", ["compare", "parity", "speed", "graph"])
def test_a_function_runs_the_studies_of_its_command(engine, command):
    answer = getattr(twinax, command)("xor", quick=True, modes=["eager", "jit"], seed=3)
    (asked,) = engine.calls
    assert asked["studies"] == twinax.api.STUDIES[command]
    assert asked["options"].quick and asked["options"].modes == ("eager", "jit") and asked["options"].seed == 3
    assert answer.folder == engine.folder and (answer.folder / "report.html").exists()


def test_a_comparison_prints_as_the_answer(engine):
    answer = twinax.compare("xor")
    text = repr(answer)
    assert answer.recommendation.answer.split(".")[0][:40] in text
    assert "\x1b" not in text and len(text.splitlines()) <= 40


def test_a_notebook_shows_the_answer_without_running_what_is_in_it(engine):
    engine.run = runs.hostile()
    shown = twinax.compare("xor")._repr_html_()
    assert shown.startswith("<pre") and "<script" not in shown


def test_findings_as_a_table(engine):
    answer = twinax.compare("xor")
    table = answer.to_pandas()
    assert len(table) == len(answer.findings.items)
    ratios = table[table.kind == "speed"]
    assert (ratios.low <= ratios.ratio).all() and (ratios.ratio <= ratios.high).all()


def test_without_pandas_it_says_what_to_install(engine, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(BadInput, match=r"twinax\[pandas\]"):
        twinax.compare("xor").to_pandas()


@pytest.mark.parametrize("make", runs.MAKERS)
def test_load_and_report_give_the_same_as_the_run_did(engine, make):
    engine.run = make()
    first = twinax.compare("xor")
    assert twinax.load(first.folder) == first == twinax.report(first.folder)
    json.dumps(first.to_json(), allow_nan=False)


def test_load_writes_nothing(tmp_path):
    runs.full().save(tmp_path)
    twinax.load(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_there_is_no_run(tmp_path):
    with pytest.raises(RunError, match="holds no readable run"):
        twinax.load(tmp_path)


def test_every_option_that_cannot_be_used_is_named(engine):
    with pytest.raises(BadInput) as error:
        twinax.compare("xor", batch=0, dtype="int8", speed="fast")
    assert all(name in error.value.what for name in ("batch", "dtype", "speed", "int8", "fast"))
    assert not engine.calls


def test_an_unknown_twin_is_an_error_and_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(twinax.TwinaxError, match="Did you mean xor"):
        twinax.compare("xorr")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_example_notebook_runs(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)  # kept without results: they would age
    NotebookClient(notebook, timeout=240, kernel_name="python3").execute(cwd=str(tmp_path))
    shown = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    assert any("<pre" in out.get("data", {}).get("text/html", "") for out in shown)  # the answer
    assert any("<table" in out.get("data", {}).get("text/html", "") for out in shown)  # pandas
    (folder,) = (tmp_path / "runs").iterdir()
    assert Run.load(folder).complete
