"""What a pass over many lengths costs: the buckets against every choice, and each way's arithmetic."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinax.analyse.workload import Curve, batched, best, cheapest_buckets, plans

LINEAR = Curve((1, 100), (0.01, 1.0), compile_s=2.0, once_s=4.0, every=True, limit=None)  # length / 100


def cost(met, edges, curve):
    padded = np.asarray(edges)[np.searchsorted(edges, met)]
    return float(curve.at(padded).sum())


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_buckets_are_the_cheapest_of_all(lengths):
    met = np.asarray(lengths)
    distinct = sorted(set(lengths))
    for count, edges in cheapest_buckets(met, LINEAR).items():
        if count > 4:
            break
        every = [
            cost(met, [*chosen, distinct[-1]], LINEAR)
            for chosen in itertools.combinations(distinct[:-1], count - 1)
        ]
        assert len(edges) == count and edges[-1] == distinct[-1]
        assert cost(met, edges, LINEAR) == pytest.approx(min(every))


def test_times_lie_on_the_line_between_and_beyond():
    assert LINEAR.at(np.array([1, 50, 100, 200])) == pytest.approx([0.01, 0.5, 1.0, 2.0])
    falling = Curve((10, 20), (2.0, 1.0), 0.0, 0.0, every=False, limit=None)
    assert falling.at(np.array([5, 40])) == pytest.approx([2.0, 1.0])  # never below what was measured


def test_a_batch_is_as_long_as_its_longest_example():
    lengths = list(range(1, 101))
    met = batched(lengths, 8, seed=0)
    assert len(met) == 13 and met.max() == 100
    assert batched(lengths, 1, seed=0).sum() == sum(lengths)
    assert (batched(lengths, 8, seed=0) == met).all()


def test_each_way_costs_what_it_runs_and_compiles():
    lengths = [10, 20, 20, 40]
    eager = Curve((1, 100), (0.02, 2.0), 0.0, 0.0, every=False, limit=None)
    symbols = Curve((1, 100), (0.01, 1.0), compile_s=3.0, once_s=6.0, every=False, limit=8)
    found = {
        (plan.mode, plan.way): plan
        for plan in plans(lengths, 1, {"eager": eager, "jit": LINEAR, "compile": symbols}, "eager", seed=0)
    }
    assert found["eager", "as they come"].total_s == pytest.approx(1.8)
    assert found["compile", "as they come"].programs == 2
    assert found["compile", "as they come"].total_s == pytest.approx(6.0 + 0.9)
    assert found["jit", "as they come"].total_s == pytest.approx(3 * 2.0 + 0.9)
    longest = found["jit", "padded to the longest"]
    assert longest.total_s == pytest.approx(2.0 + 1.6) and longest.wasted == pytest.approx(0.4375)
    two = found["jit", "2 buckets"]
    assert two.buckets == (20, 40) and two.run_s == pytest.approx(1.0)
    assert best(list(found.values())).mode == "eager"


def test_beyond_the_limit_batches_run_uncompiled():
    eager = Curve((1, 100), (0.1, 10.0), 0.0, 0.0, every=False, limit=None)
    static = Curve((1, 100), (0.01, 1.0), compile_s=2.0, once_s=4.0, every=True, limit=2)
    lengths = [10, 20, 30, 40]
    found = plans(lengths, 1, {"eager": eager, "compile_static": static}, "eager", seed=0)
    come = next(p for p in found if p.mode == "compile_static" and p.way == "as they come")
    assert come.programs == 2 and "2 batches run uncompiled" in come.remark
    met = batched(lengths, 1, 0)
    assert come.run_s == pytest.approx(met[:2].sum() / 100 + met[2:].sum() / 10)
    assert max(len(p.buckets) for p in found) <= 2


def test_a_curve_is_read_from_a_sweep():
    def point(length, first, steady, compilations, batch=4):
        size = {"batch": batch, "dims": {"sequence": length}}
        return {"size": size, "first_s": first, "samples_s": [steady] * 3, "compilations": compilations}

    points = [
        point(128, 5.0, 1.0, 1),
        point(64, 3.5, 0.5, 1),
        point(32, 0.25, 0.25, 0),
        point(128, 9, 9, 0, batch=2),
    ]
    curve = Curve.of({"points": points, "limit": 8})
    assert curve.lengths == (32, 64, 128) and curve.seconds == (0.25, 0.5, 1.0)
    assert curve.once_s == pytest.approx(7.0) and curve.compile_s == pytest.approx(3.5)
    assert not curve.every and curve.limit == 8
