"""The workloads: both sides against NumPy and complex step; a wrong sign and a slipped carry are seen."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from twinax.compare import difference
from twinax.probes.workloads import jax_side, torch_side
from twinax.probes.workloads.problems import PROBLEMS, along, direction

SIDES = {"torch": torch_side, "jax": jax_side}
SMALL = {
    "gmm": {"d": 3, "K": 4, "n": 20},
    "ba": {"n": 3, "m": 10, "p": 25},
    "ht": {"vertices": 30, "points": 12},
    "lstm": {"layers": 2, "n": 9, "bits": 5},
}


@pytest.fixture(autouse=True)
def _float64():
    jax.config.update("jax_enable_x64", True)


def errors(side, name, *, objective=None, jacobian=None, inputs=None, seed=0):
    """How far a side's objective and its Jacobian along a direction lie from the reference."""
    problem, side = PROBLEMS[name], SIDES[side]
    given, constants = problem.data(SMALL[name], seed)
    given = {**given, **(inputs or {})}
    v, placed = direction(given, seed), side.place(given, constants)
    value = side.ready(objective or side.OBJECTIVES[name], constants)(*placed)
    slopes = side.ready(jacobian or side.JACOBIANS[name], constants)(*placed)
    return (
        difference(problem.objective(given, constants), np.asarray(value)).error,
        difference(along(problem, given, constants, v), problem.product(slopes, v, constants)).error,
    )


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", PROBLEMS)
def test_both_sides_compute_the_reference(name, side):
    for seed in range(3):
        assert max(errors(side, name, seed=seed)) < 1e-11


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_reference_is_a_slope(name):
    problem = PROBLEMS[name]
    given, constants = problem.data(SMALL[name], 0)
    v, h = direction(given, 0), 1e-6
    ahead, behind = (
        problem.objective({k: a + sign * h * v[k] for k, a in given.items()}, constants) for sign in (1, -1)
    )
    np.testing.assert_allclose(
        (ahead - behind) / (2 * h), along(problem, given, constants, v), rtol=1e-5, atol=1e-6
    )


def test_published_sizes_have_their_shapes():
    shapes = {name: {k: a.shape for k, a in p.data(p.size, 0)[0].items()} for name, p in PROBLEMS.items()}
    assert shapes["gmm"] == {"alphas": (25,), "means": (25, 10), "icf": (25, 55)}
    assert shapes["ba"] == {"cams": (21, 11), "points": (11315, 3), "w": (36455,)}
    assert shapes["ht"] == {"theta": (26,)}
    assert shapes["lstm"] == {"main": (2, 2, 56), "extra": (3, 14)}


@pytest.mark.parametrize("side", SIDES)
def test_no_rotation_is_no_singular_point(side):
    given, _ = PROBLEMS["ba"].data(SMALL["ba"], 0)
    still = given["cams"].copy()
    still[0, :3] = 0.0
    assert max(errors(side, "ba", inputs={"cams": still})) < 1e-11


@pytest.mark.parametrize("side", SIDES)
def test_a_wrong_sign_is_seen(side):
    right = SIDES[side].JACOBIANS["ba"]

    def wrong(inputs, constants):
        found = right(inputs, constants)
        return {**found, "weights": -found["weights"]}

    assert errors(side, "ba", jacobian=wrong)[1] > 1e-3


@pytest.mark.parametrize("side", SIDES)
def test_a_dropped_term_is_seen(side):
    right = SIDES[side].OBJECTIVES["gmm"]
    assert (
        errors(side, "gmm", objective=lambda i, c: right(i, c) - 0.5 * (i["icf"][:, 3:] ** 2).sum())[0] > 1e-3
    )


@pytest.mark.parametrize("side", SIDES)
def test_a_carry_that_slips_by_one_is_seen(side):
    right = SIDES[side].OBJECTIVES["lstm"]

    def slipped(inputs, constants):
        return right(inputs, {**constants, "sequence": constants["sequence"][1:]})

    assert errors(side, "lstm", objective=slipped)[0] > 1e-3
