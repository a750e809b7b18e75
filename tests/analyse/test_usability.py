"""What follows from sources and from a first hour; no winner where figures are close, few or disturbed."""

import copy

import pytest

import runs
from twinax.analyse import usability
from twinax.records import Outcome, Record
from usability_records import JAX, TORCH, code_record, hour_record


def found(*records: Record):
    return usability.findings(runs.run(records))


# --- code --------------------------------------------------------------------------------------------


def test_each_side_is_told_and_the_two_are_compared():
    torch, jax, both = found(code_record())
    assert "4 logical lines" in torch.title and "neither state nor random keys" in torch.title
    assert "random keys at 1 place" in jax.title and jax.figures["side"] == "jax"
    assert both.verdict == "torch shorter"
    assert "most of the difference is in BatchNorm, which only JAX's side has" in both.title
    assert both.title.startswith("PyTorch's side has 4 logical lines and 22 tokens, JAX's 9 and 66")
    assert both.evidence == ("code.both.read.float32.b8.0",)
    extras = [abs(block["extra"]) for block in both.figures["blocks"]]
    assert extras == sorted(extras, reverse=True)


def test_one_block_is_named_where_it_makes_the_difference():
    longer = TORCH.replace("return x", "return x.reshape(1, 2, 3, 4, 5, 6, 7, 8, 9)")
    *_, both = found(code_record(TORCH, longer.replace("torch import nn", "flax import nnx as nn")))
    assert "most of the difference is in Net.forward." in both.title


def test_the_longer_side_may_be_torch():
    *_, both = found(code_record(JAX.replace("__call__", "forward"), TORCH))
    assert both.verdict == "jax shorter" and "BatchNorm, which only PyTorch's side has" in both.title


def test_close_sources_have_no_winner():
    *_, both = found(code_record(TORCH, TORCH.replace("return x", "return +x")))
    assert both.verdict == "alike" and "within 10 % of each other" in both.title
    *_, same = found(code_record(TORCH, TORCH))
    assert same.verdict == "alike" and "difference" not in same.title


def test_parts_that_cancel_do_not_hide_the_idea_that_costs():
    both_sides = "\n\ndef a(x):\n    return x\n\ndef b(x):\n    return x\n"
    torch = both_sides.replace("def a(x):\n    return x", "def a(x):\n    return x + x + x")
    jax = both_sides.replace("def b(x):\n    return x", "def b(x):\n    return x + x + x + x")
    *_, both = found(code_record(torch, jax))
    assert both.title.endswith("most of the difference is in b.")


@pytest.mark.parametrize(("jax", "said"), [("def f(:", "Line 1"), ("", "There is no source")])
def test_a_side_that_was_not_read_is_told_and_nothing_is_compared(jax, said):
    torch, other = found(code_record(TORCH, jax))
    assert torch.verdict == "read" and other.verdict == "not read"
    assert other.severity == "warning" and said in other.title


def test_records_without_measurements_say_nothing():
    cell = runs.cell("code", "both", "read")
    assert found(Record(cell=cell, outcome=Outcome.SKIPPED)) == []
    assert found(*(Record(cell=hour_record(s).cell, outcome=Outcome.CRASHED) for s in ("torch", "jax"))) == []


# --- first hour --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("torch", "jax", "choice"),
    [
        ([1.0, 1.02], [2.0, 2.1], "torch"),
        ([2.0, 2.1], [1.0, 1.02], "jax"),
        ([1.0, 1.02], [1.05, 1.08], "alike"),
        ([1.0, 1.9], [1.5, 2.5], "undecided"),  # they overlap
        ([1.0, 1.0], [1.09, 1.3], "undecided"),  # apart, by less than the margin
        ([1.0], [20.0], "undecided"),  # one process each
        ([], [1.0, 1.0], "undecided"),
    ],
)
def test_the_sooner_side_is_sooner_in_every_process(torch, jax, choice):
    times, *_ = found(hour_record("torch", step=torch), hour_record("jax", step=jax))
    (row,) = times.figures["rows"]
    assert row["sooner"] == choice
    assert ("sooner)" in times.title) == (choice in ("torch", "jax"))


def test_nothing_is_decided_while_others_used_the_cpu():
    torch, jax = hour_record("torch", step=[1.0, 1.0]), hour_record("jax", step=[2.0, 2.0])
    measured = copy.deepcopy(jax.measurements)
    measured["times"]["step"][1]["foreign_cpu"] = 0.4
    times, *_ = found(torch, jax.model_copy(update={"measurements": measured}))
    assert times.figures["rows"][0]["sooner"] == "undecided" and times.figures["rows"][0]["jax"]["disturbed"]


def test_times_sizes_and_tracebacks_are_told_with_their_numbers():
    times, size, tracebacks = found(hour_record("torch"), hour_record("jax", step=[1.0, 1.01]))
    assert "a training step PyTorch 2.01 s, JAX 1.00 s (JAX sooner)" in times.title
    assert times.verdict == "jax sooner" and "importing PyTorch 1.00 s" in times.title
    assert size.verdict == "jax smaller" and "PyTorch takes 700 MiB in 1 package" in size.title
    assert "PyTorch prints 23 lines and shows the program's own line 13 lines from the end" in tracebacks.title
    assert "lets pass: integers" in tracebacks.title and tracebacks.verdict == "some pass in jax"


def test_one_process_each_decides_nothing_and_says_so():
    times, *_ = found(hour_record("torch", step=[1.0]), hour_record("jax", step=[9.0]))
    assert "which side is sooner is not decided" in times.title and times.verdict == "undecided"


def test_a_program_that_failed_has_no_time():
    times, *_ = found(hour_record("torch", step=["no compiler"]), hour_record("jax", step=[1.0]))
    (row,) = times.figures["rows"]
    assert row["torch"]["seconds"] is None and row["torch"]["said"] == "no compiler"
    assert "a training step JAX 1.00 s" in times.title


def test_programs_that_all_failed_are_told():
    times, *_ = found(hour_record("torch", step=["no compiler"]), hour_record("jax", step=["killed"]))
    assert "no program came to its end" in times.title and times.verdict == "undecided"


def test_one_side_alone_is_told_and_not_compared():
    times, size, tracebacks = found(hour_record("torch"))
    assert "JAX" not in times.title + size.title + tracebacks.title
    assert times.verdict == size.verdict == "undecided" and tracebacks.verdict == "all raise"


def test_what_a_failed_side_had_measured_is_still_told():
    broken = hour_record("jax")
    partial = {key: broken.measurements[key] for key in ("left_out", "install")}
    broken = broken.model_copy(update={"measurements": partial, "outcome": Outcome.CRASHED})
    times, size, tracebacks = found(hour_record("torch"), broken)
    assert "JAX takes" in size.title and "JAX" not in times.title + tracebacks.title


def test_a_traceback_without_the_programs_line_is_told():
    torch = hour_record("torch")
    measured = copy.deepcopy(torch.measurements)
    measured["mistakes"][0]["own_from_end"] = None
    *_, tracebacks = found(torch.model_copy(update={"measurements": measured}))
    assert "does not show it in 1 of 1" in tracebacks.title
    measured["mistakes"][0] |= {"raised": None, "said": "it was ended for taking too long"}
    *_, tracebacks = found(torch.model_copy(update={"measurements": measured}))
    assert "did not end in time with shapes" in tracebacks.title
