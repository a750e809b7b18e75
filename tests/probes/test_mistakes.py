"""Mistakes: each program is right without its mistake, and the verdict follows from what was seen."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import time
import warnings
from contextlib import nullcontext
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import torch

from twinax.probes.mistakes import jax_side, torch_side
from twinax.probes.mistakes.base import Case, Citation, Tool
from twinax.probes.mistakes.cases import CASES
from twinax.studies.mistakes_verbs import (
    Observed,
    first_line,
    judge,
    looked_at,
    mistaken_lines,
    mistakes,
    observe,
    same,
)

SIDES = {"torch": torch_side, "jax": jax_side}
NAMES = {case.name for case in CASES}
MADE = [(side, case) for side in SIDES for case in CASES if case.name in SIDES[side].PROGRAMS]

# --- the list ----------------------------------------------------------------------------------------


def test_there_are_enough_and_each_side_has_a_program_or_a_reason():
    assert len(CASES) >= 32 and len(NAMES) == len(CASES)
    for side in SIDES.values():
        assert set(side.PROGRAMS) | set(side.CANNOT) == NAMES
        assert not set(side.PROGRAMS) & set(side.CANNOT)
        assert set(side.TOOLS) <= set(side.PROGRAMS)
        assert all(len(why) > 20 for why in side.CANNOT.values())
    assert not set(torch_side.CANNOT) & set(jax_side.CANNOT)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_mistake_is_cited(case):
    assert case.what and case.citation.title
    assert re.fullmatch(r"https://[\w./#-]+", case.citation.address)
    if thread := re.match(r"([\w.-]+/[\w.-]+)#(\d+): \S", case.citation.title):
        assert case.citation.address == f"https://github.com/{thread[1]}/issues/{thread[2]}"


@pytest.mark.parametrize(("side", "other"), [("torch", "jax"), ("jax", "torch")])
def test_a_side_never_imports_the_other(side, other):
    code = f"import sys, twinax.probes.mistakes.{side}_side; print({other!r} in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["False"]


def test_the_cases_import_no_framework():
    code = "import sys, twinax.studies.mistakes_verbs; print({'torch', 'jax'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["set()"]


# --- the programs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "case"), MADE, ids=lambda part: getattr(part, "name", part))
def test_without_the_mistake_a_program_is_right_and_silent(side, case):
    seen = observe(SIDES[side], SIDES[side].PROGRAMS[case.name], False)
    assert same(seen.result, case.reference, case.rtol), (seen, case.reference)
    # JAX, which only this test's process holds beside torch, warns of torch's data loader that forks
    assert not [said for said in seen.said if "os.fork()" not in said]


@pytest.mark.parametrize(("side", "case"), MADE, ids=lambda part: getattr(part, "name", part))
def test_the_mistake_is_in_the_programs_text(side, case):
    assert mistaken_lines(SIDES[side].PROGRAMS[case.name])


def test_a_clean_state_is_put_back():
    jax.config.update("jax_enable_x64", True)
    torch.set_default_dtype(torch.float64)
    try:
        with jax_side.clean():
            assert not jax.config.read("jax_enable_x64")
        with torch_side.clean():
            assert torch.get_default_dtype() == torch.float32 and torch.is_warn_always_enabled()
        assert jax.config.read("jax_enable_x64") and torch.get_default_dtype() == torch.float64
        assert not torch.is_warn_always_enabled() and not torch.is_anomaly_enabled()
    finally:
        jax.config.update("jax_enable_x64", False)
        torch.set_default_dtype(torch.float32)


# --- the verdict, on programs made up for it ---------------------------------------------------------


def raises_at_once(mistake: bool):
    return [1.0][7] if mistake else 1.0


def raises_later(mistake: bool):
    index = 7 if mistake else 0
    return [1.0][index]


def warns(mistake: bool):
    if mistake:
        warnings.warn("beware", stacklevel=1)
    return 1.0


def logs(mistake: bool):
    if mistake:
        logging.getLogger("made up").warning("beware at 0x7f3a4c791678")
    return 1.0


def is_wrong(mistake: bool):
    return 2.0 if mistake else 1.0


def is_nan(mistake: bool):
    return np.nan if mistake else 1.0


def has_another_shape(mistake: bool):
    return [1.0] if mistake else 1.0


def is_slow(mistake: bool):
    time.sleep(0.05 if mistake else 0.001)
    return 1.0


def is_harmless(mistake: bool):
    return 1.0 + 0.0 * mistake


def always_warns(mistake: bool):
    warnings.warn("as ever", stacklevel=1)
    return 2.0 if mistake else 1.0


def is_never_right(mistake: bool):
    return 3.0 + mistake


def never_runs(mistake: bool):
    raise ValueError("broken")


def side_of(program, **changes):
    usual = {"PROGRAMS": {"it": program}, "CANNOT": {}, "TOOLS": {}, "LOGGERS": ("made up",)}
    return SimpleNamespace(**usual | changes, clean=nullcontext, fetched=np.array)


CASE = Case("it", "what", Citation("a page", "https://example.org"), np.asarray(1.0))


@pytest.mark.parametrize(
    ("program", "verdict"),
    [
        (raises_at_once, "error at once"),
        (raises_later, "error later"),
        (warns, "warning"),
        (logs, "warning"),
        (is_wrong, "silently wrong"),
        (is_nan, "silently wrong"),
        (has_another_shape, "silently wrong"),
        (is_slow, "slow"),
        (is_harmless, "no harm"),
        (always_warns, "silently wrong"),
        (is_never_right, "not judged"),
        (never_runs, "not judged"),
    ],
)
def test_the_verdict_follows_from_what_was_seen(program, verdict):
    row = looked_at(side_of(program), CASE)
    assert row["verdict"] == verdict, row
    assert row["source"].startswith("def ") and row["citation"]["address"] == "https://example.org"


def test_what_cannot_be_made_has_a_reason():
    row = looked_at(side_of(None, PROGRAMS={}, CANNOT={"it": "for this reason"}), CASE)
    assert row["verdict"] == "cannot be made" and row["why"] == "for this reason"


def test_an_error_comes_before_a_warning_and_a_warning_before_a_wrong_result():
    raised = Observed(raised="ValueError", lines=[3])
    assert judge(raised, {3}, heard=True, wrong_result=True, ratio=None) == "error at once"
    assert judge(Observed(), {3}, heard=True, wrong_result=True, ratio=None) == "warning"
    assert judge(Observed(), {3}, heard=False, wrong_result=False, ratio=2.9) == "no harm"


def test_an_error_is_told_with_its_line():
    row = looked_at(side_of(raises_later), CASE)
    assert row["line"] == "return [1.0][index]" and row["raised"] == "IndexError"
    assert row["said"] == "list index out of range" and row["shapes"] is False
    assert row["traceback_lines"] > 2


def test_messages_are_freed_of_what_differs_from_run_to_run():
    assert first_line("at 0x7f3a4c791678\nmore") == "at …"
    assert first_line("in /home/a b/x/y/program.py:3").endswith("program.py:3")
    assert first_line("in /home/x/program.py:3") == "in program.py:3"
    assert first_line("(1x120 and 60x1)") == "(1x120 and 60x1)"


def test_a_tool_must_speak_of_the_mistake_and_of_nothing_else():
    def finds(run):
        if (result := run()) == 2.0:
            raise ValueError("found")
        return result

    def always(run):
        result = run()
        warnings.warn(f"got {result}", stacklevel=1)
        return result

    def announces(run):
        warnings.warn("switched on", stacklevel=1)
        return run()

    def found(use):
        return looked_at(side_of(is_wrong, TOOLS={"it": Tool("tool", use)}), CASE)["tool"]

    assert found(finds) == {"name": "tool", "found": True, "said": "found", "false_alarm": False}
    assert found(always)["false_alarm"]
    assert found(announces) == {"name": "tool", "found": False, "said": "", "false_alarm": False}


# --- the real ones -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found():
    """What is seen on both sides, by name."""
    rows = {}
    for side in SIDES:
        context = SimpleNamespace(cell=SimpleNamespace(side=side))
        rows[side] = {row["mistake"]: row for row in mistakes(context)["mistakes"]}  # type: ignore[arg-type]
    return rows


@pytest.mark.parametrize(
    ("name", "torch_verdict", "jax_verdict"),
    [
        ("forgotten zero_grad", "silently wrong", "cannot be made"),
        ("integer input", "error later", "no harm"),
        ("index out of bounds", "error at once", "silently wrong"),
        ("(N, 1) against (N,) in the library's loss", "warning", "error at once"),
        ("(N, 1) against (N,) by hand", "silently wrong", "silently wrong"),
        ("traced value kept outside", "no harm", "error later"),
        ("closure over what changes later", "no harm", "silently wrong"),
        ("in-place on what backward needs", "error later", "cannot be made"),
        ("layers in a plain list", "silently wrong", "error at once"),
        ("donated buffer used again", "cannot be made", "error later"),
        ("schedule stepped before the optimiser", "warning", "cannot be made"),
        ("float64 asked for by name", "cannot be made", "warning"),
        ("NumPy array changed afterwards", "silently wrong", "silently wrong"),
    ],
)
def test_what_is_known_is_seen(found, name, torch_verdict, jax_verdict):
    assert (found["torch"][name]["verdict"], found["jax"][name]["verdict"]) == (torch_verdict, jax_verdict)


def test_a_branch_on_data_is_refused_by_jax_and_costs_torch_no_more_than_time(found):
    row = found["jax"]["Python if on a traced value"]
    assert (row["verdict"], row["raised"]) == ("error at once", "TracerBoolConversionError")
    assert found["torch"]["Python if on a traced value"]["verdict"] in ("no harm", "slow")


def test_every_mistake_is_judged_on_both_sides(found):
    for rows in found.values():
        assert set(rows) == NAMES
        assert not [name for name, row in rows.items() if row["verdict"] == "not judged"]


def test_every_tool_finds_its_mistake_and_raises_no_false_alarm(found):
    tools = [
        row["tool"] | {"of": name} for rows in found.values() for name, row in rows.items() if row.get("tool")
    ]
    assert len(tools) >= 15
    assert not [tool for tool in tools if not tool["found"] or tool["false_alarm"]]


def test_compiling_at_every_step_is_noticed(found):
    assert found["jax"]["compiled anew at every step"]["ratio"] >= 3
    assert "recompile_limit" in found["torch"]["compiled anew at every step"]["said"]


def test_the_traceback_holds_the_programs_line(found):
    raised = [row for rows in found.values() for row in rows.values() if row.get("raised")]
    assert raised and all(row["line"] for row in raised)
    assert (
        found["jax"]["sizes that do not fit"]["shapes"] and not found["torch"]["label out of range"]["shapes"]
    )
