"""The order follows from the seed and the step alone, and uses every example once an epoch."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from twinax.frameworks.base import DropoutSite
from twinax.records import Recipe
from twinax.train.order import Order
from twinax.twin import ArrayExamples


def order(count, seed=0, **recipe):
    return Order(ArrayExamples({"x": np.arange(count)}), Recipe(**recipe), seed)


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 4))
def test_an_epoch_uses_each_example_at_most_once(count, batch, epochs):
    it = order(count, batch=batch, epochs=epochs)
    assert it.batch == min(batch, count) and it.steps == epochs * (count // it.batch)
    for epoch in range(epochs):
        steps = range(epoch * it.steps_per_epoch, (epoch + 1) * it.steps_per_epoch)
        seen = np.concatenate([it.rows(step) for step in steps])
        assert len(set(seen)) == len(seen) == it.steps_per_epoch * it.batch


def test_steps_can_be_drawn_in_any_order():
    rows = {step: order(50, batch=8, epochs=3).rows(step) for step in (17, 3, 11)}
    again = order(50, batch=8, epochs=3)
    assert all(np.array_equal(again.rows(step), rows[step]) for step in sorted(rows))
    assert not np.array_equal(order(50, 1, batch=8).rows(3), rows[3])
    assert not np.array_equal(again.rows(0), again.rows(6))  # another epoch, another order


def test_parts_are_the_batch_cut_and_masks_are_drawn_by_step_part_and_path():
    it = order(40, batch=8, accumulate=2)
    sites = [DropoutSite("a", 0.25, (4, 500)), DropoutSite("b", 0.25, (4, 500))]
    parts = it.parts(2, sites)
    assert np.array_equal(np.concatenate([p.batch["x"] for p in parts]), it.rows(2))
    again = it.parts(2, sites)
    assert np.array_equal(parts[0].masks["a"], again[0].masks["a"])
    others = [parts[1].masks["a"], parts[0].masks["b"], it.parts(3, sites)[0].masks["a"]]
    assert not any(np.array_equal(parts[0].masks["a"], other) for other in others)
    assert abs(parts[0].masks["a"].mean() - 0.75) < 0.05
