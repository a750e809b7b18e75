"""Tables, pictures and whole reports of parallel computing: what is shown is what was measured."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

import runs
from parallel_records import (
    PARAMETERS,
    around,
    both_sides,
    failed,
    proof,
    rows,
    run_of,
    single,
    strategy,
)
from twinax.analyse import analyse, parallel, recommend
from twinax.analyse.base import Findings
from twinax.records import Outcome, Record, Run
from twinax.report import html, markdown, parallel_charts, parallel_tables
from twinax.report.tables import Row, Table

BAD = "<script>alert(1)</script>"
HOSTILE = f"a|b`c`\n{BAD}\x1b[31m</script><img src=x onerror=alert(2)>"
TABLES = (
    parallel_tables.proof,
    parallel_tables.steps,
    parallel_tables.between,
    parallel_tables.memory,
    parallel_tables.traffic,
    parallel_tables.lines,
)
Make = Callable[[Findings], Table | None]


def found(made: list[Record], sides: tuple[str, ...] = ("torch", "jax")) -> Findings:
    run = run_of(made, sides)
    return Findings(twin=run.twin.name, seed=0, items=tuple(parallel.findings(run)))


def table(make: Make, made: list[Record] | None = None) -> Table:
    shown = make(found(both_sides() if made is None else made))
    assert shown is not None
    return shown


def row(shown: Table, *first: str) -> Row:
    """The one row that begins so."""
    (only,) = [r for r in shown.rows if r.cells[: len(first)] == first]
    return only


# --- tables ----------------------------------------------------------------------------------------


def test_every_row_is_as_wide_as_its_head():
    for make in TABLES:
        shown = table(make)
        assert shown.rows and {len(r.cells) for r in shown.rows} == {len(shown.columns)}, shown.title
        assert all(column < len(shown.columns) for column in shown.numeric)


def test_nothing_is_shown_of_nothing():
    empty = found([])
    assert [make(empty) for make in TABLES] == [None] * len(TABLES)
    assert parallel_charts.charts(empty) == []


def test_the_proof_of_each_cell_and_why_there_is_none():
    wrong = failed("torch", "data", Outcome.MISMATCH, "Gradients differ.", parity=proof(3e-4, failed=True))
    late = failed("torch", "pipeline", Outcome.TIMED_OUT, "Silence.", parity=proof())
    nan = failed("jax", "data", Outcome.MISMATCH, "NaN.", parity=proof(None, failed=True))
    left = failed("jax", "data_local", Outcome.SKIPPED, "No BatchNorm.")
    none = failed("jax", "tensor", Outcome.UNSUPPORTED, "No plan.")
    made = [single("torch"), wrong, late, strategy("torch", "fully_sharded"), nan, left, none]
    shown = table(parallel_tables.proof, made)
    assert row(shown, "data parallel", "PyTorch") == Row(
        ("data parallel", "PyTorch", "2 ranks", "mismatch", "3.0e-04", "2", "Gradients differ."), "problem"
    )
    assert row(shown, "pipeline").mark == "warning" and row(shown, "pipeline").cells[4] == "2.0e-15"
    assert row(shown, "fully sharded") == Row(
        ("fully sharded", "PyTorch", "2 ranks", "ok", "2.0e-15", "2", ""), ""
    )
    assert row(shown, "data parallel", "JAX").cells[3:6] == ("mismatch", "not comparable", "2")
    assert row(shown, "data parallel, BatchNorm local") == Row(
        ("data parallel, BatchNorm local", "JAX", "2 ranks", "skipped", "–", "0", "No BatchNorm."), ""
    )
    assert row(shown, "tensor parallel").mark == "warning"


def test_step_times_and_scaling():
    shown = table(parallel_tables.steps)
    assert row(shown, "one device", "PyTorch").cells[2:] == ("1 rank", "8", "100 ms", "1.00×", "–", "–")
    assert row(shown, "data parallel", "PyTorch").cells[2:] == (
        "2 ranks",
        "8",
        "125 ms",
        "0.800×",
        "40 %",
        "25 %",
    )
    apart = [r.cells[2] for r in shown.rows if r.cells[:2] == ("data parallel", "JAX")]
    assert apart == ["2 ranks", "2 devices in one process"]
    assert "tensor parallel" not in {r.cells[0] for r in shown.rows if r.cells[1] == "JAX"}


def test_a_step_on_a_busy_machine_is_marked():
    made = [single("torch"), strategy("torch", "data", foreign_cpu=[0.3]), strategy("torch", "tensor")]
    shown = table(parallel_tables.steps, made)
    assert [r.mark for r in shown.rows] == ["", "warning", ""]


@pytest.mark.parametrize(
    ("torch", "jax", "winner"), [(0.1, 0.2, "PyTorch"), (0.2, 0.1, "JAX"), (0.1, 0.1, "equivalent")]
)
def test_the_faster_side_is_named(torch, jax, winner):
    made = [single("torch"), single("jax")]
    made += [strategy("torch", "data", step_s=around(torch)), strategy("jax", "data", step_s=around(jax))]
    (only,) = table(parallel_tables.between, made).rows
    assert only.cells[:2] == ("data parallel", "2 ranks") and only.cells[-1] == winner
    low, high = (float(part) for part in only.cells[3].split("–"))
    assert low <= float(only.cells[2]) <= high


def test_memory_of_the_fullest_rank():
    shown = table(parallel_tables.memory)
    assert row(shown, "one device", "JAX").cells[3:] == (*("3.81 MiB",) * 3, "8.58 MiB", "0 bytes", "20.0 MiB")
    assert row(shown, "fully sharded", "JAX").cells[3:6] == ("1.91 MiB",) * 3


def test_traffic_beside_its_formula():
    shown = table(parallel_tables.traffic)
    exact = row(shown, "data parallel", "PyTorch", "2 ranks", "all-reduce")
    assert exact.cells[4:] == ("4", "4,000,000", "4,000,000", "exact")
    less = row(shown, "fully sharded", "PyTorch", "2 ranks", "all-gather")
    assert less.cells[4:] == ("3", "6,000,000", "8,000,000", "-2,000,000")
    assert row(shown, "pipeline", "JAX", "2 ranks", "send").cells[4:] == ("4", "2,000", "–", "–")
    more = [single("torch"), strategy("torch", "data", traffic=rows(("all_reduce", PARAMETERS + 5, 1)))]
    assert table(parallel_tables.traffic, more).rows[0].cells[-1] == "+5"


def test_lines_of_each_side_and_a_dash_where_there_is_no_program():
    shown = table(parallel_tables.lines)
    assert shown.columns == ("Strategy", "PyTorch", "JAX")
    assert row(shown, "data parallel").cells[1:] == ("9 new, 1 gone, 40 in all", "5 new, 2 gone, 36 in all")
    assert row(shown, "pipeline").cells[1:] == ("31 new, 4 gone, 60 in all", "–")
    alone = parallel_tables.lines(found([single("jax")], ("jax",)))
    assert alone is not None and alone.columns == ("Strategy", "JAX")


# --- pictures --------------------------------------------------------------------------------------


def drawn(made: list[Record]) -> dict[str, dict[str, Any]]:
    return {chart.name: json.loads(chart.figure) for chart in parallel_charts.charts(found(made))}


def test_bars_are_the_median_steps():
    figure = drawn(both_sides())["parallel-steps"]
    torch, jax = figure["data"]
    assert (torch["name"], jax["name"]) == ("PyTorch", "JAX") and figure["layout"]["barmode"] == "group"
    assert dict(zip(torch["x"], torch["y"], strict=True)) == pytest.approx(
        {
            "one device<br>1 rank": 0.1,
            "data parallel<br>2 ranks": 0.125,
            "data parallel, BatchNorm local<br>2 ranks": 0.12,
            "fully sharded<br>2 ranks": 0.16,
            "tensor parallel<br>2 ranks": 0.2,
            "pipeline<br>2 ranks": 0.25,
        }
    )
    assert (
        "data parallel<br>2 devices in one process" in jax["x"] and "tensor parallel<br>2 ranks" not in jax["x"]
    )
    assert torch["customdata"][0] == "100 ms"
    assert figure["layout"]["yaxis"]["rangemode"] == "tozero"
    assert torch["marker"]["color"] != jax["marker"]["color"]


def test_memory_is_stacked_by_part_and_paler_towards_activations():
    figure = drawn(both_sides())["parallel-memory"]
    assert figure["layout"]["barmode"] == "stack"
    torch = [trace for trace in figure["data"] if trace["name"].startswith("PyTorch")]
    assert [trace["name"].split(": ")[1] for trace in torch] == list(parallel_charts.PARTS)
    shades = [trace["marker"]["opacity"] for trace in torch]
    assert shades == sorted(shades, reverse=True) and len(set(shades)) == 5
    held = dict(zip(torch[0]["y"], torch[0]["x"], strict=True))
    assert held["PyTorch, one device, 1 rank"] == PARAMETERS
    assert held["PyTorch, fully sharded, 2 ranks"] == PARAMETERS / 2
    assert all(trace["y"] == torch[0]["y"] for trace in torch)


def test_one_side_alone_has_its_own_picture():
    made = [r for r in both_sides() if r.cell.side == "jax"]
    figures = {c.name: json.loads(c.figure) for c in parallel_charts.charts(found(made, ("jax",)))}
    assert [trace["name"] for trace in figures["parallel-steps"]["data"]] == ["JAX"]
    assert {trace["name"].split(":")[0] for trace in figures["parallel-memory"]["data"]} == {"JAX"}


def test_where_nothing_was_timed_only_memory_is_drawn():
    made = [single("torch"), strategy("torch", "data", step_s=None)]
    assert list(drawn(made)) == ["parallel-memory"]


# --- names -----------------------------------------------------------------------------------------


def hostile() -> Run:
    """Messages and a kind of collective that would be markup, script or a terminal's command."""
    wrong = failed("torch", "data", Outcome.MISMATCH, HOSTILE, parity=proof(1.0, failed=True))
    odd = strategy("torch", "pipeline", traffic=rows((HOSTILE, 8, 1)))
    made = [single("torch"), single("jax"), wrong, odd, strategy("jax", "pipeline")]
    return run_of([*made, failed("jax", "tensor", Outcome.UNSUPPORTED, HOSTILE)])


def page(run: Run) -> str:
    """The HTML report without plotly's own code."""
    findings = analyse(run)
    whole = html.render(run, findings, recommend(findings))
    return re.sub(r"<script>/\*\*.*?</script>", "", whole, flags=re.DOTALL)


def text(run: Run) -> str:
    findings = analyse(run)
    return markdown.render(run, findings, recommend(findings))


def test_hostile_messages_stay_text():
    shown = page(hostile())
    assert "<script>alert" not in shown and "<img src=x" not in shown and "\x1b" not in shown
    assert "&lt;script&gt;alert(1)" in shown.replace("<wbr>", "")
    assert len(re.findall("</script>", shown)) == len(re.findall("<script", shown))
    lines = text(hostile())
    assert "<script" not in lines and "\x1b" not in lines and "a\\|b\\`c\\`" in lines


def test_hostile_messages_break_no_table():
    width = 0
    for line in text(hostile()).splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert cells == 0 or width in (0, cells), line
        width = cells


# --- whole reports ---------------------------------------------------------------------------------

PARALLEL = "What it takes and costs to leave one device"
PARALLEL_TABLES = (
    "Time of a training step",
    "The two sides, in turn",
    "Lines changed",
    "One step in float64 against the single device's",
    "Memory of a rank",
    "What is sent",
)


def figures(shown: str) -> dict[str, Any]:
    kept = re.findall(
        r'<script type="application/json" id="data-([\w-]+)">(.*?)</script>', shown, flags=re.DOTALL
    )
    return {name: json.loads(data) for name, data in kept}


def test_the_page_of_a_parallel_run_has_all_of_it():
    run = runs.parallel_only()
    shown = page(run)
    assert '<section id="parallel"' in shown and PARALLEL in shown
    assert {"parallel-steps", "parallel-memory"} <= set(figures(shown))
    plain = shown.replace("<wbr>", "").replace("&#39;", "'")
    assert all(title in plain for title in PARALLEL_TABLES)
    assert all(cell.id in plain for cell in run.planned)
    assert "ratios" not in figures(shown)  # nobody compared speed
    assert page(runs.parallel_only()) == shown


def test_the_markdown_of_a_parallel_run_has_all_of_it():
    lines = text(runs.parallel_only())
    assert f"## {PARALLEL}" in lines
    assert all(f"### {title}" in lines for title in PARALLEL_TABLES)
    assert "| data parallel | PyTorch | 2 ranks | 8 | 125 ms | 0.800× | 40 % | 25 % |" in lines
    assert "## Are they the same model?" not in lines
    assert text(runs.parallel_only()) == lines


def test_a_parallel_run_recommends_nothing_but_says_what_it_found():
    findings = analyse(runs.parallel_only())
    told = recommend(findings)
    assert told.choose == "undecided"
    assert "a step in float64 equals the single device's" in told.answer


def test_a_mismatch_is_a_problem_in_both_reports():
    wrong = failed("torch", "data", Outcome.MISMATCH, "Gradients differ.", parity=proof(3e-4, failed=True))
    run = run_of([single("torch"), wrong], ("torch",))
    said = "Under PyTorch data parallel on 2 ranks a step is not the single device's"
    assert f"✗ {said}" in text(run)
    assert said in page(run).replace("&#39;", "'") and "3.0e-04" in page(run)


def test_a_run_without_the_study_has_no_such_section():
    assert '<section id="parallel"' not in page(runs.full()) and PARALLEL not in text(runs.full())


def test_the_reports_of_a_usability_run_have_all_of_it():
    run = runs.usability_only()
    shown, lines = page(run), text(run)
    for name, title in (("code", "The code of both sides"), ("first-hour", "The first hour")):
        assert f'<section id="{name}"' in shown and f"## {title}" in lines
    drawn_now = figures(shown)
    assert any(json.dumps(figure).count("BatchNorm.__init__") for figure in drawn_now.values())
    plain = shown.replace("<wbr>", "")
    assert all(cell.id in plain and cell.id in lines.replace("\\_", "_") for cell in run.planned)
    assert "One training step of a small net" in plain and "One training step of a small net" in lines
    assert (page(run), text(run)) == (shown, lines)
