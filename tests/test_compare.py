"""Array comparison: what it measures, and what it may never let through."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from twinax.compare import compare, difference, together, worst

FLOATS = st.floats(-1e6, 1e6, allow_subnormal=False)
VECTORS = hnp.arrays(np.float64, st.integers(1, 20), elements=FLOATS)


@given(VECTORS)
def test_an_array_agrees_with_itself(array):
    assert difference(array, array.copy()).error == 0


@given(VECTORS, st.floats(1e-6, 1.0))
def test_error_is_relative_to_the_norm_of_the_reference(array, share):
    found = difference(array, array * (1 + share))
    if np.linalg.norm(array) > 1e-3:
        assert found.error == pytest.approx(share, rel=1e-6)


@given(VECTORS, st.floats(1e-3, 1e3))
def test_error_does_not_depend_on_the_scale(array, scale):
    other = array + 1.0
    if np.linalg.norm(array) > 1e-3:
        assert difference(array * scale, other * scale).error == pytest.approx(
            difference(array, other).error, rel=1e-9
        )


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("side", ["torch", "jax", "both"])
def test_what_is_not_a_number_never_agrees(bad, side):
    clean, spoilt = np.ones(3), np.array([1.0, bad, 1.0])
    found = difference(
        spoilt if side in ("torch", "both") else clean, spoilt if side in ("jax", "both") else clean
    )
    assert found.error == math.inf and "NaN or Inf" in found.fault


def test_shapes_that_would_broadcast_do_not_agree():
    found = difference(np.ones((3, 1)), np.ones(3))
    assert found.error == math.inf and "[3, 1]" in found.fault and "[3]" in found.fault


def test_a_zero_reference_agrees_with_zero_alone():
    assert difference(np.zeros(3), np.zeros(3)).error == 0
    assert difference(np.zeros(3), np.full(3, 1e-300)).error == math.inf


def test_empty_arrays_agree():
    assert difference(np.zeros((0, 4)), np.zeros((0, 4))).error == 0


def test_every_name_of_either_side_is_accounted_for():
    found = compare({"a": np.ones(2), "b": np.ones(2)}, {"a": np.ones(2), "c": np.ones(2)})
    assert [found[n].fault for n in "abc"] == ["", "missing in jax", "missing in torch"]
    assert worst(found)[1] == math.inf


def test_together_is_the_error_of_the_long_vector():
    a, b = np.array([3.0, 4.0]), np.array([3.0, 4.1])
    parts = compare({"x": a[:1], "y": a[1:]}, {"x": b[:1], "y": b[1:]})
    assert together(parts.values()) == pytest.approx(difference(a, b).error)
    assert together(compare({"x": a}, {}).values()) == math.inf
