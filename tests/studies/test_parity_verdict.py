"""What counts as nothing but rounding, and what does not."""

import pytest

from twinax.studies.parity_verdict import Verdict

FLOORS = {"exp_avg.bias": 1e-18, "exp_avg_sq.bias": 1e-39}
"""What one unit in the last place does to a bias whose gradient is 0 but for rounding."""


@pytest.mark.parametrize(
    ("name", "norm", "excused"),
    [
        ("exp_avg.bias", 9e-17, True),
        ("exp_avg.bias", 2e-16, False),
        ("exp_avg_sq.bias", 9e-36, True),  # a gradient of 100 times the rounding, squared
        ("exp_avg_sq.bias", 2e-35, False),
    ],
)
def test_a_square_of_rounding_is_rounding(name, norm, excused):
    verdict = Verdict()
    found = {name: [0.7, norm, 0.7 * norm, None]}
    errors = verdict.judged("optimizer", found, "adamw", lambda kind, names: FLOORS)
    assert errors == {name: 0.0 if excused else 0.7}
    assert bool(verdict.mismatches) is not excused


@pytest.mark.parametrize(("gap", "excused"), [(9e-18, True), (2e-17, False)])
def test_a_gradient_that_cancels_is_held_against_rounding(gap, excused):
    verdict = Verdict()
    found = {"weight": [gap / 6e-13, 6e-13, gap, None]}
    errors = verdict.judged("gradients", found, "train", lambda kind, names: {"weight": 1e-18})
    assert errors == {"weight": 0.0 if excused else gap / 6e-13}
