"""Mistakes: each side is told with its silent ones by name; the two are compared over what both can make."""

from __future__ import annotations

from typing import Any

import runs
from twinax.analyse import Findings, mistakes
from twinax.records import Outcome, Record
from twinax.report import mistake_tables

CITATION = {"title": "a page", "address": "https://example.org"}


def row(name: str, verdict: str, **changes: Any) -> dict[str, Any]:
    about = {"mistake": name, "what": f"what {name} is", "citation": CITATION, "verdict": verdict}
    if verdict == "cannot be made":
        return about | {"why": "nothing like it"}
    usual = {"why": "", "returned": "", "raised": "", "said": "", "line": "", "shapes": None}
    if verdict.startswith("error"):
        usual |= {"raised": "TypeError", "said": "no", "line": "x @ y", "shapes": True}
    if verdict == "silently wrong":
        usual |= {"returned": "nan in shape ()"}
    rest = {"traceback_lines": 12, "ratio": 4.0 if verdict == "slow" else None, "tool": None, "source": "def"}
    return about | usual | rest | changes


def record(side: str, *rows: dict[str, Any]) -> Record:
    cell = runs.cell("mistakes", side, {"torch": "compile", "jax": "jit"}[side])
    return Record(cell=cell, outcome=Outcome.OK, measurements={"mistakes": list(rows)})


TOOL = {"name": "debug_nans", "found": True, "said": "nan", "false_alarm": False}
TORCH = (
    row("zero_grad", "silently wrong"),
    row("nan", "silently wrong", tool=TOOL | {"name": "anomaly", "found": False}),
    row("bounds", "error at once"),
    row("donated", "cannot be made"),
    row("compiled", "warning", said="limit (8)"),
)
JAX = (
    row("zero_grad", "cannot be made"),
    row("nan", "silently wrong", tool=TOOL),
    row("bounds", "silently wrong", tool=TOOL | {"false_alarm": True}),
    row("donated", "error later", line=""),
    row("compiled", "slow"),
)


def found(*records: Record):
    return mistakes.findings(runs.run(records))


def test_each_side_is_told_with_its_silent_mistakes_by_name():
    torch, jax, _ = found(record("torch", *TORCH), record("jax", *JAX))
    assert torch.title == (
        "PyTorch, of 5 mistakes: 1 raises at once, 1 warns, 2 are silently wrong and 1 cannot be made. "
        "Silently wrong; a tool of the framework finds 0 of them: zero_grad and nan."
    )
    assert "finds 2 of them: nan and bounds." in jax.title and "1 is slow" in jax.title
    assert torch.severity == jax.severity == "warning" and torch.verdict == "silently wrong"
    assert torch.figures["side"] == "torch" and len(torch.figures["rows"]) == 5
    assert torch.evidence == ("mistakes.torch.compile.float32.b8.0",)


def test_the_sides_are_compared_over_what_both_can_make():
    *_, both = found(record("torch", *TORCH), record("jax", *JAX))
    assert both.title == (
        "Of the 3 mistakes that both sides can make, both are silently wrong with 1, "
        "only PyTorch is with 0, only JAX is with 1 (bounds)."
    )
    assert both.verdict == "torch says more" and len(both.evidence) == 2
    assert both.figures == {"both": 3, "shared": 1, "only": {"torch": [], "jax": ["bounds"]}}


def test_sides_that_are_alike_have_no_winner():
    rows = (row("nan", "silently wrong"), row("bounds", "error at once"))
    assert found(record("torch", *rows), record("jax", *rows))[-1].verdict == "alike"


def test_a_side_without_silent_mistakes_is_good_and_one_side_alone_is_not_compared():
    (only,) = found(record("torch", row("bounds", "error at once"), row("compiled", "no harm")))
    assert (only.severity, only.verdict) == ("good", "loud") and "ilently" not in only.title


def test_what_was_not_judged_is_a_problem_and_is_not_compared():
    odd = row("bounds", "not judged", why="the program is not right without the mistake either")
    torch, jax, both = found(record("torch", *TORCH), record("jax", odd, row("nan", "warning")))
    assert jax.severity == "problem" and jax.verdict == "not judged" and "1 was not judged" in jax.title
    assert both.figures["both"] == 1 and torch.severity == "warning"
    table = mistake_tables.mistakes(Findings(twin="x", seed=0, items=(torch, jax, both)))
    assert table and {r.cells[0]: r.mark for r in table.rows}["bounds"] == "problem"


def test_a_run_without_mistakes_says_nothing():
    cell = runs.cell("mistakes", "torch", "compile")
    assert found(Record(cell=cell, outcome=Outcome.CRASHED)) == []
    nothing = Findings(twin="x", seed=0, items=())
    assert mistake_tables.mistakes(nothing) is None and mistake_tables.citations(nothing) is None


def test_the_table_tells_verdict_message_and_tool_of_each_side():
    items = tuple(found(record("torch", *TORCH), record("jax", *JAX)))
    table = mistake_tables.mistakes(Findings(twin="x", seed=0, items=items))
    assert table and table.columns == ("Mistake", "What", "PyTorch", "JAX")
    rows = {r.cells[0]: r for r in table.rows}
    assert rows["bounds"].mark == rows["zero_grad"].mark == "warning" and rows["compiled"].mark == ""
    assert rows["bounds"].cells[1:3] == (
        "what bounds is",
        "error at once: TypeError: no; at `x @ y`, with shapes, 12 lines of traceback",
    )
    assert rows["bounds"].cells[3].endswith("debug_nans finds it, but speaks without the mistake too")
    assert rows["nan"].cells[2] == "silently wrong: returned nan in shape (); anomaly does not find it"
    assert rows["donated"].cells[2] == "cannot be made: nothing like it"
    assert "no line of the program in the traceback" in rows["donated"].cells[3]
    assert rows["compiled"].cells[2:] == ("warning: limit (8)", "slow: takes 4.00× as long")


def test_every_mistake_is_cited_once():
    items = tuple(found(record("jax", *JAX)))
    table = mistake_tables.citations(Findings(twin="x", seed=0, items=items))
    assert table and [r.cells[0] for r in table.rows] == [r["mistake"] for r in JAX]
    assert table.rows[0].cells[1:] == ("a page", "https://example.org")
