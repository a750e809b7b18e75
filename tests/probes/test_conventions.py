"""The special points: both sides answer all of them, and what is known of some is what they say."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from twinax.analyse.autodiff import convention
from twinax.probes.conventions import jax_side, torch_side
from twinax.probes.conventions.points import POINTS
from twinax.probes.conventions.safe import SAFE, safe_function
from twinax.records import Size
from twinax.studies import autodiff_verbs
from twinax.studies.base import Context

SIDES = {"torch": torch_side, "jax": jax_side}


@pytest.fixture(scope="module")
def answers():
    jax.config.update("jax_enable_x64", True)

    class Cell:
        size = Size(batch=1)

    found = {}
    for side in SIDES:
        Cell.side = side
        context = Context(None, Cell, None, None, {}, None, None)
        rows = autodiff_verbs.conventions(context)["conventions"]
        found[side] = {row["function"]: row for row in rows}
    return found


def test_there_are_enough_points_and_both_sides_know_them():
    names = [point.function for point in POINTS]
    assert len(names) >= 40 and len(set(names)) == len(names)
    for side in SIDES.values():
        assert list(side.FUNCTIONS) == names  # in the same order: to be read next to each other


def test_a_gradient_has_the_shape_of_its_input_and_the_values_agree_away_from_special_points():
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(0)
    for point in POINTS:
        if point.what in ("kink", "tie") and point.at.size:
            at = point.at + 0.01 * rng.uniform(0.5, 1.0, point.at.shape)
            found = [side.value_and_gradient(side.FUNCTIONS[point.function], at) for side in SIDES.values()]
            (value, gradient), (other_value, other_gradient) = found
            assert gradient.shape == other_gradient.shape == at.shape
            # the same function on both sides, up to the axes that pooling adds
            np.testing.assert_allclose(value.ravel(), other_value.ravel(), rtol=1e-9, err_msg=point.function)
            # torch 2.13 keeps hardsigmoid's 1/6 in float32, in the gradient of a float64 input too
            near = 1e-7 if point.function == "hard_sigmoid" else 1e-9
            np.testing.assert_allclose(gradient, other_gradient, rtol=near, err_msg=point.function)


@pytest.mark.parametrize(
    ("function", "torch", "jax_"),
    [
        ("abs", [0.0], [1.0]),
        ("clip", [1.0, 1.0], [0.5, 0.5]),
        ("leaky_relu", [0.01], [1.0]),
        ("norm", [0.0, 0.0], ["nan", "nan"]),
        ("max_along_axis", [1.0, 0.0, 1.0, 0.0], [0.5, 0.5, 0.5, 0.5]),
        ("sqrt_behind_where", ["nan", "nan"], ["nan", "nan"]),
        ("sqrt", ["inf"], ["inf"]),
    ],
)
def test_what_is_known(answers, function, torch, jax_):
    assert answers["torch"][function]["gradient"] == torch
    assert answers["jax"][function]["gradient"] == jax_


def test_refusals_are_told_with_their_reason(answers):
    said = [answers[side]["max_of_nothing"]["error"] for side in SIDES]
    assert all(said)
    assert convention(*(answers[side]["max_of_nothing"] for side in SIDES)) == "both raise"


@pytest.mark.parametrize(
    ("torch", "jax_", "verdict"),
    [
        ([0.0], [0.0], "same"),
        ([1.0], [1.0 + 1e-12], "same"),
        (["inf"], ["inf"], "same"),
        (["inf"], ["-inf"], "differ"),
        ([0.0], [1.0], "differ"),
        (["nan"], [0.0], "NaN in torch"),
        ([0.0], ["nan"], "NaN in jax"),
        (["nan"], ["nan"], "NaN in both"),
        ([], [], "same"),
        ([1.0], [1.0, 1.0], "differ"),
    ],
)
def test_verdicts(torch, jax_, verdict):
    assert convention({"gradient": torch, "error": ""}, {"gradient": jax_, "error": ""}) == verdict
    assert convention({"gradient": torch, "error": "x"}, {"gradient": jax_, "error": ""}) == "torch raises"


@pytest.mark.parametrize("function", SAFE)
def test_a_safe_form_is_the_same_function_with_a_finite_gradient_that_both_sides_share(function, answers):
    torch, jax_ = (answers[side][function] for side in SIDES)
    assert torch["safe_gradient"] and np.isfinite(np.asarray(torch["safe_gradient"], dtype=float)).all()
    np.testing.assert_allclose(torch["safe_gradient"], jax_["safe_gradient"], atol=1e-9)

    (point,) = (p for p in POINTS if p.function == function)
    draw = np.random.default_rng(0).uniform(0.3, 0.9, point.at.shape)
    for side in SIDES.values():
        if function not in ("silu", "std_of_one"):  # one at infinity, the other of one number
            value, _ = side.value_and_gradient(side.FUNCTIONS[function], draw)
            safe, _ = side.value_and_gradient(safe_function(function, side.xp), draw)
            np.testing.assert_allclose(safe.ravel(), value.ravel(), rtol=1e-9, err_msg=function)


def test_what_parts_has_a_safe_form_but_for_those_that_have_none(answers):
    parted = {
        name
        for name, row in answers["torch"].items()
        if convention(row, answers["jax"][name]) not in ("same", "both raise")
    }
    assert parted - set(SAFE) == {
        "median", "cumulative_maximum", "lgamma", "inverse", "cholesky", "gelu",
        "eigenvectors_of_equal", "singular_vectors_of_equal",
    }  # fmt: skip
