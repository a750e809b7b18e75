"""The twins of the support vector machine: parity, gradients, and the whole way from data to scores."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sides import RUNNERS, distances, runner, small

from twinax.frameworks import jax_backend, torch_backend
from twinax.records import Size
from twinax.zoo.credit_risk import _all
from twinax.zoo.svm.twin import TWINS

TWIN = {twin.name: twin for twin in TWINS}
NAMES = tuple(TWIN)
FITS = {"torch": torch_backend.fit, "jax": jax_backend.fit}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("svm", {}),
        ("svm", {"classes": 4}),
        ("svm", {"kernel": "poly", "coef0": 1.0}),
        ("svm", {"kernel": "sigmoid"}),
        ("svm", {"kernel": "linear"}),
        ("svm/linear", {}),
        ("svm/linear", {"classes": 3}),
        ("svm/regressor", {}),
    ],
)
def test_both_sides_compute_the_same(name, settings):
    found = distances(small(TWIN[name], **settings), Size(batch=9), train=True)
    assert max(found.values()) < 1e-12, max(found, key=found.get)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", RUNNERS)
def test_every_parameter_has_the_gradient_of_finite_differences(name, side):
    # no error is free, and an odd number of them cannot cancel in the intercept's gradient
    twin = small(TWIN[name], support_vectors=5, features=3, epsilon=0.0)
    weights = {key: array.astype(np.float64) for key, array in twin.init(twin.config, 0).items()}
    (batch,) = twin.batches(twin.config, Size(batch=9), 0, 1)
    batch = {key: a.astype(np.float64) if a.dtype == np.float32 else a for key, a in batch.items()}
    ours = runner(twin, side, weights)
    gradients = {key: np.array(a) for key, a in ours.evaluate(batch, train=True).gradients.items()}
    assert set(gradients) == set(weights) - {"gamma", "prob_a", "prob_b"}
    for key, gradient in gradients.items():
        assert np.abs(gradient).max() > 1e-3  # the loss notices every parameter
        at = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        losses = []
        for step in (1e-6, -1e-6):
            moved = {**weights, key: weights[key].copy()}
            moved[key][at] += step
            ours.load(moved)
            losses.append(ours.evaluate(batch, train=True, gradients=False).loss)
        assert (losses[0] - losses[1]) / 2e-6 == pytest.approx(gradient[at], rel=1e-6), key


@pytest.mark.parametrize("side", RUNNERS)
def test_losses_are_what_they_say(side):
    twin = small(TWIN["svm"], classes=3, support_vectors=5, features=3)
    (batch,) = twin.batches(twin.config, Size(batch=30), 0, 1)
    found = runner(twin, side, twin.init(twin.config, 0)).evaluate(batch, train=False, gradients=False)
    hinges = []
    for decision, (i, j) in zip(found.outputs["decision"].T, [(0, 1), (0, 2), (1, 2)], strict=True):
        hinges += [max(0, 1 + f) for f in decision[batch["labels"] == i]]
        hinges += [max(0, 1 - f) for f in decision[batch["labels"] == j]]
    assert len(hinges) == 60 and found.loss == pytest.approx(np.mean(hinges), rel=1e-12)

    twin = small(TWIN["svm/regressor"], support_vectors=5, features=3, epsilon=0.3)
    (batch,) = twin.batches(twin.config, Size(batch=30), 0, 1)
    found = runner(twin, side, twin.init(twin.config, 0)).evaluate(batch, train=False, gradients=False)
    errors = np.abs(found.outputs["prediction"] - batch["targets"])
    assert (errors < 0.3).any() and found.loss == pytest.approx(np.maximum(0, errors - 0.3).mean(), rel=1e-12)


def test_batches_have_every_class_and_something_to_learn():
    twin = small(TWIN["svm"], classes=4)
    (batch,) = twin.batches(twin.config, Size(batch=400), 0, 1)
    assert np.bincount(batch["labels"]).min() > 60
    assert np.corrcoef(batch["features"][:, 0], batch["labels"])[0, 1] > 0.5


# --- trained on credit data ----------------------------------------------------------------------


def solved(name, dtype, seed, data=""):
    """The test scores of each side, and the data, as ``twinax train`` goes about it."""
    twin = TWIN[name]
    twin = small(twin, **twin.task.recipes["tiny"].config)
    ds = twin.task.load(twin.config, data, 0, seed)
    twin = small(twin, **ds.config)
    found = {}
    for side, fit in FITS.items():
        weights = fit(twin.code(side), twin.config, _all(ds.train), dtype, "cpu")
        sized = replace(twin, config=twin.fitted(twin.config, weights))
        outputs = runner(sized, side, weights, dtype).evaluate(_all(ds.test), train=False, gradients=False)
        found[side] = (weights, outputs.outputs, outputs.loss)
    return twin, ds, found


@pytest.mark.parametrize(
    ("name", "seed"),
    [("svm", 0), ("svm/linear", 0), ("svm/regressor", 0), pytest.param("svm", 1, marks=pytest.mark.slow)],
)
def test_the_goal_is_reached_on_both_sides(name, seed):
    twin, ds, found = solved(name, "float32", seed)
    scores = {
        side: twin.task.scores(ds.preparation, ds.aside["test"], outputs)
        for side, (_, outputs, _) in found.items()
    }
    others = twin.task.baselines(ds)
    metric, goal = twin.task.metric, twin.task.goal
    for side in scores:
        reached = scores[side][metric]
        if twin.task.better == "higher":
            assert goal["at_least"][metric] <= reached < others["true probability"][metric], side
        else:
            assert goal["at_most"][metric] >= reached > others["true mean"][metric], side
            assert reached < others["linear regression"][metric]
    assert scores["torch"][metric] == pytest.approx(scores["jax"][metric], abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_both_sides_find_one_machine_in_float64(name):
    _, ds, found = solved(name, "float64", 0)
    (ours, outputs, loss), (theirs, others, other) = found["torch"], found["jax"]
    assert ours.keys() == theirs.keys()
    for key, array in {**ours, **outputs}.items():
        other_array = theirs[key] if key in theirs else others[key]
        assert array.shape == other_array.shape, key
        assert np.linalg.norm(array - other_array) <= 1e-9 * np.linalg.norm(array), key
    assert loss == pytest.approx(other, rel=1e-9)
    if "support_vectors" in ours:  # far fewer than examples
        assert 0 < len(ours["support_vectors"]) < 0.7 * len(ds.train)


GERMAN = Path(__file__).parents[3] / "shared/data/german_credit/german.data"


@pytest.mark.skipif(not GERMAN.exists(), reason="the German credit file is not here")
def test_german_credit_is_ranked_alike_on_both_sides_and_better_than_chance():
    twin, ds, found = solved("svm", "float64", 0, str(GERMAN))
    auc = {
        side: twin.task.scores(ds.preparation, ds.aside["test"], outputs)["auc"]
        for side, (_, outputs, _) in found.items()
    }
    assert auc["torch"] == auc["jax"] > 0.7
    for key, array in found["torch"][0].items():
        np.testing.assert_allclose(array, found["jax"][0][key], rtol=1e-8, atol=1e-9, err_msg=key)
