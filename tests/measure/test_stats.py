"""Ratios against closed forms, intervals against the truth they claim to cover, verdicts at their edges."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinax.measure.stats import Interval, break_even_interval, break_even_steps, ratio_interval, verdict

times = st.floats(1e-6, 1e3)
process = st.lists(times, min_size=1, max_size=6)
processes = st.lists(process, min_size=1, max_size=4)


def drawn(rng, seconds, processes=4, samples=40, between=0.004, within=0.02):
    """Log-normal timings: processes differ from each other, and iterations within a process."""
    shifts = rng.normal(0, between, processes)
    return [list(seconds * np.exp(s + rng.normal(0, within, samples))) for s in shifts]


# --- the estimate --------------------------------------------------------------------------------


def test_ratio_is_the_geometric_mean_of_process_ratios():
    found = ratio_interval([[2.0, 2.0, 9.0], [8.0]], [[1.0], [1.0]], seed=0)
    assert found.ratio == pytest.approx(math.sqrt(2 * 8))  # medians 2 and 8; one hiccup of 9 changes nothing


def test_without_any_noise_the_interval_is_a_point():
    found = ratio_interval([[3.0] * 5] * 3, [[2.0] * 5] * 3, seed=0)
    assert (found.low, found.ratio, found.high) == pytest.approx((1.5, 1.5, 1.5))


def test_two_processes_without_iteration_noise_give_students_interval():
    # log ratios ±0.01: mean 0, s = 0.01 √2; t(0.975, 1) = 12.7062 (closed form: tan(0.475 π))
    found = ratio_interval([[math.exp(0.01)], [math.exp(-0.01)]], [[1.0], [1.0]], seed=1, resamples=200_000)
    half = math.tan(0.475 * math.pi) * 0.01
    assert math.log(found.high) == pytest.approx(half, rel=0.05)
    assert math.log(found.low) == pytest.approx(-half, rel=0.05)


def test_one_process_of_two_iterations_has_the_bootstraps_closed_form():
    # resampling {1, 4} gives medians 1, 2.5 (half of the time) and 4: the ends hold a quarter each
    found = ratio_interval([[1.0, 4.0]], [[1.0]], seed=0)
    assert (found.low, found.ratio, found.high) == pytest.approx((1.0, 2.5, 4.0))


def test_what_both_sides_of_a_process_met_cancels():
    slow_host = [[1.0] * 9, [3.0] * 9, [2.0] * 9]
    found = ratio_interval([[1.1 * s for s in p] for p in slow_host], slow_host, seed=0)
    assert (found.low, found.high) == pytest.approx((1.1, 1.1))


def test_sets_of_different_length_do_not_pretend_to_be_pairs():
    found = ratio_interval([[1.0], [3.0], [2.0]], [[1.0], [3.0]], seed=0)
    assert found.low < 0.5 and found.high > 2


# --- its properties ------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(processes, processes, st.integers(0, 99))
def test_interval_holds_its_estimate_and_is_reproducible(a, b, seed):
    found = ratio_interval(a, b, seed, resamples=200)
    assert 0 < found.low <= found.high
    assert found == ratio_interval(a, b, seed, resamples=200)


@settings(max_examples=40, deadline=None)
@given(processes, processes, st.floats(0.1, 10))
def test_the_unit_of_time_does_not_matter(a, b, unit):
    plain = ratio_interval(a, b, 0, resamples=200)
    scaled = ratio_interval(
        [[unit * s for s in p] for p in a], [[unit * s for s in p] for p in b], 0, 0.95, 200
    )
    assert (scaled.ratio, scaled.low, scaled.high) == pytest.approx((plain.ratio, plain.low, plain.high))


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("between", [0.0, 0.01])
def test_intervals_cover_the_truth(count, between):
    rng = np.random.default_rng(count)
    covered = 0
    for seed in range(300):
        a = drawn(rng, 1.2, count, between=between)
        b = drawn(rng, 1.0, count, between=between)
        found = ratio_interval(a, b, seed, resamples=500)
        covered += found.low <= 1.2 <= found.high
    assert covered / 300 > 0.86  # 95 % is claimed; a bootstrap that ignores processes covers about 30 %


def test_identical_sides_have_no_winner_and_five_percent_is_found():
    rng = np.random.default_rng(0)
    same = [verdict(ratio_interval(drawn(rng, 1.0), drawn(rng, 1.0), i, resamples=500)) for i in range(200)]
    slow = [verdict(ratio_interval(drawn(rng, 1.05), drawn(rng, 1.0), i, resamples=500)) for i in range(200)]
    assert sum(v in ("faster", "slower") for v in same) <= 10
    assert slow.count("slower") >= 160  # for these spreads; benchmarks/aa.py says what a real host reaches
    assert "faster" not in slow


@pytest.mark.parametrize("bad", [[], [[]], [[1.0, 0.0]], [[math.nan]], [[math.inf]], [[-1.0]]])
def test_what_is_no_time_is_refused(bad):
    with pytest.raises(ValueError):
        ratio_interval(bad, [[1.0]], seed=0)
    with pytest.raises(ValueError):
        ratio_interval([[1.0]], bad, seed=0)


# --- verdicts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.50, 0.60, "faster"),
        (1.04, 1.20, "slower"),
        (0.98, 1.02, "equivalent"),
        (1 / 1.03, 1.03, "equivalent"),
        (0.90, 0.98, "inconclusive"),  # crosses the lower margin
        (1.01, 1.09, "inconclusive"),  # surely slower, perhaps by less than what counts
        (0.50, 2.00, "inconclusive"),
        (1.03, 1.09, "inconclusive"),  # touches the margin
    ],
)
def test_verdicts(low, high, expected):
    assert verdict(Interval(math.sqrt(low * high), low, high)) == expected


@given(st.floats(0.2, 5), st.floats(0.2, 5))
def test_verdict_seen_from_the_other_side_is_the_mirror(x, y):
    low, high = min(x, y), max(x, y)
    mirror = {"faster": "slower", "slower": "faster"}
    here = verdict(Interval(low, low, high))
    there = verdict(Interval(1 / low, 1 / high, 1 / low))
    assert there == mirror.get(here, here)


# --- break-even ----------------------------------------------------------------------------------


def test_break_even():
    assert break_even_steps(30.0, slow_step_s=0.5, fast_step_s=0.2) == pytest.approx(100.0)
    assert break_even_steps(30.0, slow_step_s=0.2, fast_step_s=0.2) is None
    assert break_even_steps(30.0, slow_step_s=0.2, fast_step_s=0.5) is None
    assert break_even_steps(-1.0, slow_step_s=0.5, fast_step_s=0.2) == 0.0  # compiled and sooner ready


def test_break_even_has_an_interval_that_holds_the_truth():
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(100):
        slow = [list(0.02 * rng.lognormal(0, 0.05, 20))]
        fast = [list(0.01 * rng.lognormal(0, 0.05, 20))]
        low, high = break_even_interval(1.0, slow, fast, seed)
        held += low <= 100 <= high
    assert held >= 88  # of 95 that are expected


def test_where_compiling_may_not_pay_the_interval_says_so():
    low, high = break_even_interval(1.0, [[1.0, 1.1, 0.9]], [[1.0, 1.1, 0.9]], 0)
    assert low > 0 and high == float("inf")
    assert break_even_interval(1.0, [[1.0] * 5], [[2.0] * 5], 0) == (float("inf"), float("inf"))
