"""Both sides train alike, a checkpoint of one is continued by the other, and what goes wrong is named."""

import math

import numpy as np
import pytest
from lanes import loop_of, until

from cases import small
from twinax.errors import BadInput
from twinax.frameworks.base import Optimizer
from twinax.train import checkpoint

OTHER = {"torch": "jax", "jax": "torch"}
RULES = {
    "sgd with momentum": {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.1},
    "sgd, decay, clipped": {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.01, "clip": 0.05},
    "adam": {"optimizer": "adam", "learning_rate": 0.01, "weight_decay": 0.01},
    "adamw, in parts, warmed up": {
        "optimizer": "adamw",
        "learning_rate": 0.01,
        "weight_decay": 0.01,
        "accumulate": 2,
        "warmup": 5,
        "schedule": "cosine",
    },
}
STEPS, CUT = 24, 10


@pytest.mark.parametrize("side", ["torch", "jax"])
@pytest.mark.parametrize("rule", RULES)
def test_the_other_side_continues_the_same_run(rule, side, tmp_path):
    twin = small("xor")
    settings = {"epochs": STEPS, **RULES[rule]}
    whole = until(loop_of(twin, side, tmp_path / "whole", **settings), STEPS)
    until(loop_of(twin, side, tmp_path / "cut", **settings), CUT)
    start = checkpoint.newest(tmp_path / "cut" / "checkpoints" / side / "fold-1")
    assert start.facts.step == CUT
    rest = until(loop_of(twin, OTHER[side], tmp_path / "rest", start, **settings), STEPS)
    np.testing.assert_allclose(rest.losses, whole.losses, rtol=1e-9)
    assert len(rest.losses) == STEPS and rest.losses[0] != rest.losses[-1]
    assert rest.finish()["sides"] == [(side, 0, CUT), (OTHER[side], CUT, STEPS)]


@pytest.mark.parametrize("fault", ["no optimizer state", "one step off", "another learning rate"])
def test_a_faulty_continuation_is_seen(fault, tmp_path):
    twin, settings = small("xor"), {"epochs": STEPS, "optimizer": "adam", "learning_rate": 0.01}
    whole = until(loop_of(twin, "torch", tmp_path / "whole", **settings), STEPS)
    until(loop_of(twin, "torch", tmp_path / "cut", **settings), CUT)
    start = checkpoint.newest(tmp_path / "cut" / "checkpoints" / "torch" / "fold-1")
    if fault == "no optimizer state":
        start = checkpoint.Checkpoint(start.facts, start.weights, {}, start.best, start.history)
    elif fault == "one step off":
        state = {**start.optimizer, "step": start.optimizer["step"] + 1}
        start = checkpoint.Checkpoint(start.facts, start.weights, state, start.best, start.history)
    else:
        settings["learning_rate"] = 0.0101
    rest = until(loop_of(twin, "jax", tmp_path / "rest", start, **settings), STEPS)
    assert not np.allclose(rest.losses, whole.losses, rtol=1e-9)


@pytest.mark.parametrize("side", ["torch", "jax"])
def test_it_is_a_bare_loop_of_the_framework(side, tmp_path):
    """The same losses as Runner.evaluate(step=True), which the parity study proves."""
    twin = small("xor")
    loop = until(loop_of(twin, side, tmp_path, epochs=12, optimizer="adamw", weight_decay=0.1), 12)
    runner = loop_of(twin, side, tmp_path / "bare", epochs=12).runner
    runner.load(twin.init(twin.config, 0), Optimizer("adamw", loop.recipe.learning_rate, weight_decay=0.1))
    batches = [loop.order.parts(step, ())[0].batch for step in range(12)]
    bare = [runner.evaluate(batch, train=True, step=True).loss for batch in batches]
    np.testing.assert_allclose(loop.losses, bare, rtol=1e-12)


@pytest.mark.parametrize("side", ["torch", "jax"])
def test_clipping_bounds_the_norm_and_reports_the_one_before(side, tmp_path):
    twin = small("xor")
    free = until(loop_of(twin, side, tmp_path / "a", epochs=1, learning_rate=1.0, momentum=0.0), 1)
    clipped = until(
        loop_of(twin, side, tmp_path / "b", epochs=1, learning_rate=1.0, momentum=0.0, clip=1e-3), 1
    )
    assert free.norms == pytest.approx(clipped.norms, rel=1e-12) and free.norms[0] > 1e-2
    start, end = twin.init(twin.config, 0), clipped.runner.weights()
    moved = math.sqrt(sum(float(np.sum((end[n] - start[n].astype(np.float64)) ** 2)) for n in start))
    assert moved == pytest.approx(1e-3, rel=1e-4)


@pytest.mark.parametrize("side", ["torch", "jax"])
def test_a_loss_that_is_no_number_is_named_with_its_step_and_writes_nothing(side, tmp_path):
    twin = small("xor")
    loop = loop_of(twin, side, tmp_path, epochs=50, learning_rate=1.0)
    until(loop, 3)
    folder = tmp_path / "checkpoints" / side / "fold-1"
    before = checkpoint.newest(folder).facts.step
    weights = {name: np.full_like(array, np.nan) for name, array in loop.runner.weights().items()}
    loop.runner.load(weights, Optimizer("sgd", 1.0, 0.9))
    with pytest.raises(BadInput, match="loss is nan at step 4 of 50"):
        loop.advance(1e9)
    assert checkpoint.newest(folder).facts.step == before


def test_early_stopping_keeps_the_best_weights(tmp_path):
    loop = loop_of(small("xor/logistic"), "torch", tmp_path, epochs=400, patience=5, learning_rate=5.0)
    loop.advance(1e9)
    assert loop.done and loop.step < 400 and loop.waited == 5
    score, step = loop.best
    assert score == min(row["loss"] for row in loop.valid) and step == loop.step - 5
    assert loop.finish()["test"]["loss"] == pytest.approx(score, rel=1e-12)


def test_event_files_hold_curves_histograms_and_a_picture(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loop = until(loop_of(small("xor"), "torch", tmp_path, epochs=20), 20)
    loop.finish()
    events = EventAccumulator(str(tmp_path / "tensorboard" / "torch" / "fold-1"))
    events.Reload()
    tags = events.Tags()
    assert {"loss/train", "learning_rate", "gradient_norm", "valid/accuracy", "test/loss"} <= set(
        tags["scalars"]
    )
    assert {"weights/hidden.weight", "gradients/hidden.weight"} <= set(tags["histograms"])
    assert tags["images"] == ["predictions/probability"]
    curve = [event.value for event in events.Scalars("loss/train")]
    np.testing.assert_allclose(curve, loop.losses, rtol=1e-6)


def test_it_is_stopped_and_goes_on_at_any_step(tmp_path):
    whole = until(loop_of(small("xor"), "jax", tmp_path / "whole", epochs=STEPS), STEPS)
    start = None
    for step in (1, 2, 9, STEPS):
        until(loop_of(small("xor"), "jax", tmp_path / "cut", start, epochs=STEPS), step)
        start = checkpoint.newest(tmp_path / "cut" / "checkpoints" / "jax" / "fold-1")
    assert start.history["loss"].tolist() == whole.losses
    assert [row["loss"] for row in start.facts.valid] == [row["loss"] for row in whole.valid]
