"""The targets of xor are reached, and what it cannot reach is not reached, with several seeds."""

import math

import numpy as np
import pytest
import torch
from sides import runner

from twinax.data.points import LABELS, POINTS
from twinax.sources import zoo


def train(twin, seed):
    """Plain torch, so that nothing of twinax but the model is involved."""
    code = twin.code("torch")
    model = code.build(twin.config)
    weights = {name: torch.from_numpy(array) for name, array in twin.init(twin.config, seed).items()}
    model.load_state_dict(weights)
    batch = {"points": torch.from_numpy(POINTS), "labels": torch.from_numpy(LABELS)}
    recipe = twin.task.recipes["tiny"]
    rule = torch.optim.SGD(model.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum)
    for _ in range(recipe.epochs):
        rule.zero_grad()
        code.loss(model(batch["points"]), batch).backward()
        rule.step()
    outputs = model(batch["points"])
    return float(code.loss(outputs, batch).detach()), outputs["probability"].detach().numpy()


@pytest.mark.parametrize("seed", range(3))
def test_a_hidden_layer_learns_it(seed):
    twin = zoo.resolve("xor")
    loss, predictions = train(twin, seed)
    assert loss <= twin.task.goal["at_most"]["loss"]
    assert ((predictions > 0.5) == (LABELS > 0.5)).mean() == twin.task.goal["at_least"]["accuracy"]


@pytest.mark.parametrize("seed", range(2))
def test_a_straight_line_cannot(seed):
    twin = zoo.resolve("xor/logistic")
    loss, predictions = train(twin, seed)
    assert loss == pytest.approx(math.log(2), abs=1e-6)
    assert twin.task.goal["near"]["loss"][0] == pytest.approx(loss, abs=1e-6)
    np.testing.assert_allclose(predictions, 0.5, atol=1e-4)


@pytest.mark.parametrize("side", ["torch", "jax"])
def test_gradient_is_right_where_the_logits_are_zero(side):
    # d loss / d bias = mean(sigmoid(0) - y) = 0 over all points; 0.5 - 1 over a point of class 1
    twin = zoo.resolve("xor/logistic")
    zeros = {name: np.zeros_like(array) for name, array in twin.init(twin.config, 0).items()}
    point = {"points": POINTS[1:2], "labels": LABELS[1:2]}
    found = runner(twin, side, zeros).evaluate(point, train=True)
    np.testing.assert_allclose(found.gradients["output.bias"], [-0.5], rtol=1e-12)
    assert found.loss == pytest.approx(math.log(2), rel=1e-12)


@pytest.mark.parametrize("side", ["torch", "jax"])
def test_loss_is_finite_where_probabilities_round_to_one(side):
    twin = zoo.resolve("xor/logistic")
    huge = {"output.weight": np.full((1, 2), 400, np.float32), "output.bias": np.zeros(1, np.float32)}
    found = runner(twin, side, huge, "float32").evaluate({"points": POINTS, "labels": LABELS}, train=True)
    assert found.loss == pytest.approx((math.log(2) + 0 + 0 + 800) / 4)
