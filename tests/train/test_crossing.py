"""A training of each twin is continued by the other side: the same losses as if nothing had happened."""

import numpy as np
import pytest
from lanes import loop_of, until

from twinax.api import train
from twinax.frameworks.base import draw_masks
from twinax.sources import resolve
from twinax.train import checkpoint, order

OTHER = {"torch": "jax", "jax": "torch"}
RULES = {
    "sgd": {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.01},
    "adam": {"optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 1e-3},
    "adamw": {"optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 1e-2},
}
SIZES = {"hidden": 8, "layers": 2, "dropout": 0.25, "batch": 16, "clip": 1.0, "schedule": "cosine"}
STEPS, CUT = 14, 6


@pytest.mark.parametrize("side", ["torch", "jax"])
@pytest.mark.parametrize("rule", ["sgd", pytest.param("adam", marks=pytest.mark.slow), "adamw"])
@pytest.mark.parametrize("name", ["lstm", pytest.param("gru", marks=pytest.mark.slow)])
def test_losses_after_the_change_are_those_of_an_uninterrupted_run(name, rule, side, tmp_path):
    twin, settings = resolve(name), {**SIZES, **RULES[rule], "bidirectional": name == "gru"}
    whole = until(loop_of(twin, side, tmp_path / "whole", **settings), STEPS)
    assert whole.sites, "dropout between the layers is part of what crosses over"
    until(loop_of(twin, side, tmp_path / "cut", **settings), CUT)
    start = checkpoint.newest(tmp_path / "cut" / "checkpoints" / side / "fold-1")
    rest = until(loop_of(twin, OTHER[side], tmp_path / "rest", start, **settings), STEPS)
    np.testing.assert_allclose(rest.losses, whole.losses, rtol=1e-9)
    assert start.facts.step == CUT and len(set(rest.losses)) == STEPS


def test_a_mask_drawn_otherwise_is_seen(tmp_path, monkeypatch):
    twin, settings = resolve("lstm"), {**SIZES, **RULES["sgd"]}
    whole = until(loop_of(twin, "torch", tmp_path / "whole", **settings), STEPS)
    other = loop_of(twin, "jax", tmp_path / "other", **settings)
    monkeypatch.setattr(order, "draw_masks", lambda sites, seed, step, part: draw_masks(sites, seed, 0, part))
    until(other, STEPS)
    assert not np.allclose(other.losses, whole.losses, rtol=1e-9)


@pytest.mark.parametrize(
    "name",
    [
        "svm",
        *(
            pytest.param(n, marks=pytest.mark.slow)
            for n in ("knn", "knn/regressor", "svm/linear", "svm/regressor")
        ),
    ],
)
def test_weights_that_one_side_found_answer_alike_on_the_other(name, tmp_path):
    first = train(name, sides=("torch",), dtype="float64", output=tmp_path / "run")
    again = train(resume=tmp_path / "run", sides=("jax",))
    torch, jax = (record.measurements["folds"][0] for record in again.run.records)
    assert first.passed and again.passed and [tuple(s) for s in jax["sides"]] == [("torch", 0, 1)]
    assert jax["test"] == pytest.approx(torch["test"], rel=1e-9)
