"""Control-flow programs: the verdict follows from what was seen, and real compilers are seen as they are."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

from twinax.probes.control_flow import jax_side, torch_side
from twinax.probes.control_flow.cases import CASES, RANDOM, SEEN
from twinax.studies.control_flow_verbs import Observed, judge, looked_at, observe, placed

SIDES = {"torch": torch_side, "jax": jax_side}


def seen(**changes) -> Observed:
    usual = {"results": [np.ones(2), np.zeros(2)], "raised": ["", ""], "printed": ["a"], "effects": [1, 2]}
    return Observed(**{**usual, **changes})


@pytest.mark.parametrize(
    ("mode", "breaks", "verdict", "why"),
    [
        (seen(), 0, "works", ""),
        (seen(), 2, "works after a break", ""),
        (seen(results=[np.ones(2), np.ones(2)]), 0, "silently different", "another result"),
        (seen(results=[np.ones(2), np.full(2, np.nan)]), 0, "silently different", "another result"),
        (seen(results=[np.ones(2), np.zeros(3)]), 0, "silently different", "another result"),
        (seen(results=[np.ones(2), np.ones(2)]), 3, "silently different", "another result"),
        (seen(printed=[]), 0, "silently different", "printed 0 of 1 lines as before"),
        (seen(effects=[1]), 0, "silently different", "1 of 2 effects took place"),
        (seen(raised=["", "TypeError"], results=[np.ones(2), None]), 0, "error", "TypeError"),
    ],
)
def test_the_verdict_follows_from_what_was_seen(mode, breaks, verdict, why):
    assert judge(seen(), mode, 1, breaks, random=False) == (verdict, why)


def test_a_program_that_the_compiler_gave_up_on_does_not_count_as_working():
    assert judge(seen(), seen(), 0, 0, random=False)[0] == "runs uncompiled"


def test_an_exception_that_belongs_to_the_program_must_stay():
    plain = seen(raised=["", "ValueError"], results=[np.ones(2), None])
    assert judge(plain, plain, 1, 0, random=False)[0] == "works"
    assert judge(plain, seen(), 1, 0, random=False) == ("error", "nothing raised")
    assert (
        judge(seen(raised=["TypeError", "TypeError"]), seen(), 1, 0, random=False)[0] == "error in every mode"
    )


def test_random_numbers_must_change_from_call_to_call():
    assert judge(seen(), seen(), 1, 0, random=True)[0] == "works"
    baked = seen(results=[np.ones(2), np.ones(2)])
    assert judge(seen(), baked, 1, 0, random=True) == ("silently different", "the same numbers at every call")


def test_there_are_enough_programs_and_both_sides_have_them():
    assert len(CASES) >= 14 and set(CASES) > RANDOM
    for side in SIDES.values():
        assert list(side.NAIVE) == list(CASES)
        assert set(side.IDIOM) < set(CASES)


@pytest.fixture(scope="module")
def found():
    """What is seen on both sides."""
    jax.config.update("jax_enable_x64", True)
    rows = {}
    for name, side in SIDES.items():
        for case, inputs in CASES.items():
            arguments = [placed(side.place, part) for part in inputs]
            for form, programs in (("naive", side.NAIVE), ("idiom", side.IDIOM)):
                if case in programs:
                    own = side.IDIOM_ARGUMENTS.get(case) if form == "idiom" else None
                    given = own(arguments) if own else arguments
                    rows[name, form, case] = looked_at(side, programs[case], given, case)
    return rows


@pytest.mark.parametrize(
    ("side", "case", "verdict"),
    [
        ("torch", "branch on data", "works after a break"),
        ("torch", "early exit", "runs uncompiled"),
        ("torch", "print", "works after a break"),
        ("torch", "recursion over a tree", "works"),
        ("torch", "in-place update", "works"),
        ("torch", "exception raised on data", "works after a break"),
        ("jax", "branch on data", "error"),
        ("jax", "in-place update", "error in every mode"),
        ("jax", "side effect in Python", "silently different"),
        ("jax", "random numbers", "silently different"),
        ("jax", "print", "silently different"),
        ("jax", "state in an object", "silently different"),
        ("jax", "shape from data", "error"),
        ("jax", "sequences of any length", "works"),
    ],
)
def test_what_is_known_is_seen(found, side, case, verdict):
    assert found[side, "naive", case]["verdict"] == verdict, found[side, "naive", case]


def test_idioms_work(found):
    wrong = {
        key: row for key, row in found.items() if key[1] == "idiom" and not row["verdict"].startswith("works")
    }
    assert not wrong


def test_an_idiom_is_timed_and_measured_in_lines(found):
    for (side, form, case), row in found.items():
        assert row["lines"] >= 1
        if side == "jax" and form == "idiom":
            assert row["seconds"]["compiled"] > 0 and row["seconds"]["plain"] > 0, case
        if side == "torch":  # without its code generator a time would not be what users get
            assert row["seconds"]["compiled"] is None
    assert SEEN.effects == []


def test_every_silent_difference_has_an_idiom_that_works(found):
    silent = {k for k, row in found.items() if k[1] == "naive" and row["verdict"] == "silently different"}
    assert silent and all(found[side, "idiom", case]["verdict"] == "works" for side, _, case in silent)


def test_an_error_names_the_programs_line(found):
    assert found["jax", "naive", "branch on data"]["line"] == "if x.sum() > 0:"
    assert found["jax", "naive", "in-place update"]["line"].startswith("y[0] = 5")


def test_a_break_names_its_line_and_reason(found):
    (first, *_) = found["torch", "naive", "branch on data"]["breaks"]
    source = Path(torch_side.__file__).read_text().splitlines()
    assert source[first["line"] - 1].strip() == "if x.sum() > 0:"
    assert first["reason"]


@pytest.mark.parametrize("side", SIDES)
def test_idioms_compute_what_the_naive_forms_do(side):
    jax.config.update("jax_enable_x64", True)
    side = SIDES[side]
    for case in ("branch on data", "loop to convergence", "early exit", "NumPy inside"):
        arguments = [placed(side.place, part) for part in CASES[case]]
        naive, idiom = (observe(side, programs[case], arguments) for programs in (side.NAIVE, side.IDIOM))
        for a, b in zip(naive.results, idiom.results, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9)
    assert SEEN.effects == []
