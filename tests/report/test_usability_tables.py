"""Tables and pictures of ease of use: what is shown is what was measured, and names are only names."""

import copy
import json
from dataclasses import dataclass

import pytest

import runs
from twinax.analyse import usability
from twinax.analyse.base import Findings
from twinax.records import Outcome, Record
from twinax.report import markdown, usability_charts, usability_tables
from twinax.report.tables import Table
from usability_records import JAX, TORCH, code_record, hour_record

BAD = "<script>alert(1)</script>"
TABLES = (
    usability_tables.code,
    usability_tables.names,
    usability_tables.blocks,
    usability_tables.first_hour,
    usability_tables.packages,
    usability_tables.tracebacks,
)


@dataclass
class Shown:
    findings: Findings

    def table(self, make) -> dict[str, tuple[str, ...]]:
        table = make(self.findings)
        return {row.cells[0]: row.cells[1:] for row in table.rows} if table else {}


def shown(*records: Record) -> Shown:
    run = runs.run(records)
    return Shown(Findings(twin=run.twin.name, seed=0, items=tuple(usability.findings(run))))


def whole() -> Shown:
    times = {"python": [0.01], "import": [1.0, 1.1], "result": [1.2], "step": [2.0, 2.1], "compiled": [20.0]}
    torch, jax = hour_record("torch", **times), hour_record("jax", **{**times, "step": [1.0, 1.05]})
    return shown(code_record(), torch, jax)


def every_table(found: Shown) -> list[Table]:
    return [table for make in TABLES if (table := make(found.findings))]


def test_every_row_is_as_wide_as_its_head():
    tables = every_table(whole())
    assert len(tables) == len(TABLES)
    for table in tables:
        assert {len(row.cells) for row in table.rows} == {len(table.columns)}, table.title
        assert all(column < len(table.columns) for column in table.numeric)


def test_figures_of_both_sources_are_shown():
    table = whole().table(usability_tables.code)
    assert table["Tokens"] == ("22", "66")
    assert table["Cyclomatic complexity, all functions"] == ("1", "3")
    assert table["Hardest function"] == ("forward: 1", "__call__: 1")
    assert table["Distinct names of the framework"] == ("1", "2")
    assert table["Random keys: received, passed, returned"] == ("0, 0, 0", "1, 0, 0")


def test_a_source_that_was_not_read_is_a_column_of_dashes():
    table = shown(code_record(TORCH, "def f(:")).table(usability_tables.code)
    assert table["Tokens"] == ("22", "–") and table["Halstead volume"][1] == "–"
    assert not shown(code_record("def f(:", "def f(:")).table(usability_tables.code)


def test_blocks_come_with_the_largest_difference_first():
    rows = list(whole().table(usability_tables.blocks).items())
    assert rows[0] == ("BatchNorm.__init__", ("–", "2", "–", "22", "–", "1", "+22"))
    assert rows[-1][1][-1] == "0"
    # a class without its methods makes no decisions
    assert dict(rows)["Net"] == ("1", "1", "8", "8", "–", "–", "0")


def test_more_blocks_than_fit_are_counted():
    many = "\n".join(f"def f{i}(x):\n    return x" for i in range(50))
    table = usability_tables.blocks(shown(code_record(many, many)).findings)
    assert len(table.rows) == 40 and "10 more are in run.json" in table.note


def test_both_texts_of_every_block_are_at_hand():
    found = {block.title: block for block in usability_tables.aligned(runs.run([code_record()]))}
    pair = found["Net.forward / Net.__call__"]
    assert pair.texts == {
        "torch": "def forward(self, x):\n    return x",
        "jax": "def __call__(self, x):\n    return x",
    }
    assert pair.remark == "PyTorch 10 tokens, JAX 10 tokens"
    alone = found["BatchNorm.__init__"]
    assert alone.texts["torch"] == "" and alone.remark.startswith("not in PyTorch, JAX ")
    assert usability_tables.aligned(runs.full()) == []


def test_the_first_hour_shows_times_sizes_and_who_was_sooner():
    table = whole().table(usability_tables.first_hour)
    step = table["One training step of a small net"]
    assert step == ("2.05 s (2.00 s to 2.10 s)", "1.02 s (1.00 s to 1.05 s)", "9", "9", "JAX")
    assert table["The interpreter alone, in all of these"][-1] == ""
    assert table["The same, compiled (torch.compile; nnx.jit)"] == ("20.0 s", "20.0 s", "9", "9", "undecided")
    assert table["Installed, the framework itself"][:2] == ("700 MiB", "400 MiB")
    assert table["Installed, with all that it needs"][-1] == "JAX"


def test_what_failed_and_what_was_left_out_is_said():
    torch, jax = hour_record("torch", step=["no compiler"]), hour_record("jax", step=[1.0])
    left_out = {"compiled": "left out", "shapes_compiled": "left out"}
    torch = torch.model_copy(update={"measurements": {**torch.measurements, "left_out": left_out}})
    table = usability_tables.first_hour(shown(torch, jax).findings)
    rows = {row.cells[0]: row for row in table.rows}
    step = rows["One training step of a small net"]
    assert step.cells[1] == "no compiler" and step.mark == "warning"
    assert rows["The same, compiled (torch.compile; nnx.jit)"].cells[-1] == "left out"


def test_a_mistake_that_passes_shows_what_the_program_printed():
    table = usability_tables.tracebacks(whole().findings)
    rows = {row.cells[:2]: row.cells[2:] for row in table.rows}
    assert rows["Wrong shapes.", "JAX"][:4] == ("28", "7", "2", "9")
    assert rows["Integers.", "JAX"][-1] == "nothing: the program runs to its end and prints 0.35"
    assert ("Integers.", "PyTorch") not in rows  # it was not run there


def test_one_side_alone_has_its_tables():
    found = shown(hour_record("torch"))
    assert found.table(usability_tables.first_hour)["Packages"] == ("1", "–", "–", "–", "")
    assert all(row.cells[1] == "PyTorch" for row in usability_tables.tracebacks(found.findings).rows)


def test_a_run_without_the_studies_has_nothing():
    found = shown(*runs.full().records)
    assert every_table(found) == []
    assert (
        usability_charts.code_charts(found.findings) == usability_charts.first_hour_charts(found.findings) == []
    )


# --- charts ------------------------------------------------------------------------------------------


def test_charts_show_what_was_measured():
    (blocks,) = usability_charts.code_charts(whole().findings)
    (hour,) = usability_charts.first_hour_charts(whole().findings)
    torch, jax = json.loads(blocks.figure)["data"]
    assert torch["name"] == "PyTorch" and jax["name"] == "JAX"
    assert dict(zip(jax["y"], jax["x"], strict=True))["BatchNorm.__init__"] == 22
    assert dict(zip(torch["y"], torch["x"], strict=True))["BatchNorm.__init__"] == 0
    assert "Net" not in torch["y"]  # no difference, nothing to see
    torch, jax = json.loads(hour.figure)["data"]
    assert torch["x"] == pytest.approx([0.01, 1.05, 1.2, 2.05, 20.0])


def test_blocks_that_do_not_differ_make_no_chart():
    assert usability_charts.code_charts(shown(code_record(TORCH, TORCH)).findings) == []


def test_a_bar_that_was_not_measured_is_not_drawn_as_nothing():
    torch, jax = hour_record("torch", step=["no compiler"]), hour_record("jax", step=[1.0])
    (chart,) = usability_charts.first_hour_charts(shown(torch, jax).findings)
    assert json.loads(chart.figure)["data"][0]["x"] == []


# --- names -------------------------------------------------------------------------------------------


def test_hostile_texts_stay_text():
    torch = copy.deepcopy(hour_record("torch").measurements)
    torch["mistakes"][0] |= {"message": f"{BAD}|`x`\n\x1b[31m", "own_line": BAD, "title": BAD}
    torch["install"]["packages"][0]["name"] = BAD
    record = hour_record("torch").model_copy(update={"measurements": torch})
    source = f"def f(x):\n    return '{BAD}'\n"
    found = shown(code_record(source, JAX), record)
    lines = [line for table in every_table(found) for line in markdown._table(table)]
    assert not any("<script" in line or "\x1b" in line for line in lines)
    assert any("&lt;script&gt;" in line for line in lines)


def test_a_block_with_an_endless_name_is_shortened_in_the_chart():
    long = f"def {'very_' * 50}long(x):\n    return x\n"
    (chart,) = usability_charts.code_charts(shown(code_record(long, JAX)).findings)
    assert max(map(len, json.loads(chart.figure)["data"][0]["y"])) <= 48


def test_a_record_that_failed_shows_nothing():
    failed = Record(cell=hour_record("jax").cell, outcome=Outcome.CRASHED, message=BAD)
    assert every_table(shown(failed)) == []
