"""Every style of JAX model through the same runner: values against NumPy, under jit and grad."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from twinax.errors import CellFailed
from twinax.frameworks.jax_backend import JaxRunner
from twinax.frameworks.jax_models import as_jax_model

X = np.random.default_rng(0).standard_normal((4, 3))
W = np.random.default_rng(1).standard_normal((2, 3))
B = np.random.default_rng(2).standard_normal(2)
HIDDEN = X @ W.T + B
WEIGHTS = {"layers.0.weight": W, "layers.0.bias": B}
KEEP = np.arange(8).reshape(4, 2) % 3 > 0


@pytest.fixture(autouse=True)
def _precision() -> Iterator[None]:
    yield
    jax.config.update("jax_enable_x64", False)


def function_model() -> Any:
    params = {"layers": [{"weight": jnp.zeros((2, 3)), "bias": jnp.zeros(2)}], "power": 2}
    return (lambda p, x: (x @ p["layers"][0]["weight"].T + p["layers"][0]["bias"]) ** p["power"]), params


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x: Any, train: bool) -> Any:
        return linen.Dropout(0.5, name="dropout", deterministic=not train)(linen.Dense(2, name="dense")(x)) ** 2


def linen_model() -> Any:
    return Linen(), Linen().init(jax.random.key(0), jnp.ones((1, 3)), train=False)


class Equinox(eqx.Module):
    """Layers under vmap, dropout outside, or (``inside``) under vmap too."""

    layers: list[Any]
    dropout: eqx.nn.Dropout
    inside: bool = False

    def __call__(self, x: Any, key: Any = None) -> Any:
        hidden = jax.vmap(self.layers[0])(x)
        if not self.inside:
            return self.dropout(hidden, key=key) ** 2
        return jax.vmap(self.dropout)(hidden, key=jax.random.split(key, len(x))) ** 2


def equinox_model(inside: bool = False) -> Any:
    return Equinox([eqx.nn.Linear(3, 2, key=jax.random.key(0))], eqx.nn.Dropout(0.5), inside)


def vmapped_model() -> Any:
    return equinox_model(inside=True)


class Nnx(nnx.Module):
    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.layers = nnx.List([nnx.Linear(3, 2, rngs=rngs)])
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.dropout(self.layers[0](x)) ** 2


LAYERED = {"linen": linen_model, "equinox": equinox_model, "equinox, vmapped": vmapped_model, "nnx": Nnx}
STYLES = {"function": function_model, **LAYERED}


def runner(build: Any, weights: Any = WEIGHTS, inputs: tuple[str, ...] = ("x",), **options: Any) -> JaxRunner:
    rename = {"layers.0": "dense"} if build is linen_model else {}
    code = types.SimpleNamespace(
        build=lambda config: build(), loss=lambda outputs, batch: outputs.sum(), rename=rename
    )
    return JaxRunner(code, {}, weights, inputs, **options)


@pytest.mark.parametrize(("dtype", "close"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("style", STYLES)
def test_values_and_gradients(style: str, dtype: str, close: float) -> None:
    found = runner(STYLES[style], dtype=dtype).evaluate({"x": X}, train=False, record=True)
    np.testing.assert_allclose(found.outputs["output"], HIDDEN**2, atol=close)
    np.testing.assert_allclose(found.gradients["layers.0.weight"], (2 * HIDDEN).T @ X, atol=20 * close)
    np.testing.assert_allclose(found.gradients["layers.0.bias"], (2 * HIDDEN).sum(0), atol=20 * close)
    assert found.outputs["output"].dtype == found.gradients["layers.0.weight"].dtype == dtype


@pytest.mark.parametrize("style", LAYERED)
def test_layers_are_recorded_for_the_whole_batch(style: str) -> None:
    found = runner(STYLES[style], dtype="float64").evaluate({"x": X}, train=False, record=True)
    np.testing.assert_allclose(found.activations["layers.0"], HIDDEN, atol=1e-12)
    assert list(found.activations) == ["layers.0", "dropout"]  # linen's is called dense, and renamed


@pytest.mark.parametrize("style", LAYERED)
def test_dropout_is_found_replayed_and_drops(style: str) -> None:
    made = runner(STYLES[style], dtype="float64")
    (site,) = made.dropouts({"x": X})
    assert (site.path, site.rate, site.shape) == ("dropout", 0.5, (4, 2))
    found = made.evaluate({"x": X}, train=True, masks={"dropout": KEEP})
    np.testing.assert_allclose(found.outputs["output"], (HIDDEN * KEEP * 2) ** 2, atol=1e-12)
    np.testing.assert_allclose(found.gradients["layers.0.bias"], (8 * HIDDEN * KEEP).sum(0), atol=1e-12)
    kept = made.drop("dropout", np.ones((64, 64), np.float32), train=True)
    assert set(np.unique(kept)) == {0.0, 2.0}
    assert abs((kept == 0).mean() - 0.5) < 0.05
    np.testing.assert_array_equal(made.drop("dropout", np.ones((4, 4)), train=False), np.ones((4, 4)))


@pytest.mark.parametrize("style", LAYERED)
def test_dropout_differs_from_step_to_step(style: str) -> None:
    model = as_jax_model(STYLES[style]())
    apply = jax.jit(lambda state: model.apply(model.params, state, (jnp.ones((50, 3)),), train=True))
    first, state = apply(model.state)
    second, _ = apply(state)
    assert not np.array_equal(first == 0, second == 0)


def test_dropout_inside_scan_is_refused() -> None:
    class Scanned(eqx.Module):
        dropout: eqx.nn.Dropout

        def __call__(self, x: Any, key: Any) -> Any:
            return jax.lax.scan(lambda carry, row: (carry, self.dropout(row, key=key)), 0, x)[1]

    model = as_jax_model(Scanned(eqx.nn.Dropout(0.5)))
    tap = lambda path, rate, call, x: call()  # noqa: E731 - a tap is a callable
    with pytest.raises(CellFailed, match="dropout layer dropout is called inside"):
        model.apply(model.params, model.state, (jnp.asarray(X),), train=True, tap=tap)


def test_linen_statistics_are_state() -> None:
    class Norm(linen.Module):
        @linen.compact
        def __call__(self, x: Any, *, deterministic: bool) -> Any:
            return linen.BatchNorm(use_running_average=deterministic, momentum=0.9, name="norm")(x)

    def build() -> Any:
        return Norm(), Norm().init(jax.random.key(0), jnp.ones((1, 3)), deterministic=True)

    weights = {"norm.weight": np.ones(3), "norm.bias": np.zeros(3)}
    weights |= {"norm.running_mean": np.zeros(3), "norm.running_var": np.ones(3)}
    made = runner(build, weights, dtype="float64")
    still = made.evaluate({"x": X}, train=False)
    np.testing.assert_array_equal(still.buffers["norm.running_mean"], np.zeros(3))
    moved = made.evaluate({"x": X}, train=True)
    np.testing.assert_allclose(moved.buffers["norm.running_mean"], 0.1 * X.mean(0), atol=1e-12)
    assert set(moved.gradients) == {"norm.weight", "norm.bias"}


def test_equinox_state_is_carried() -> None:
    class Counter(eqx.Module):
        total: eqx.nn.StateIndex

        def __init__(self) -> None:
            self.total = eqx.nn.StateIndex(jnp.zeros(()))

        def __call__(self, x: Any, state: Any) -> Any:
            return x, state.set(self.total, state.get(self.total) + x.sum())

    made = runner(lambda: eqx.nn.make_with_state(Counter)(), {"state.0": np.zeros(())}, dtype="float64")
    for step in (1, 2):
        found = made.evaluate({"x": X}, train=True, gradients=False)
        np.testing.assert_allclose(found.buffers["state.0"], step * X.sum(), atol=1e-12)


def test_nnx_layers_follow_their_weights() -> None:
    class Model(nnx.Module):
        def __init__(self) -> None:
            rngs = nnx.Rngs(0)
            self.embed, self.linear = nnx.Embed(5, 3, rngs=rngs), nnx.Linear(3, 2, rngs=rngs)

        def __call__(self, ids: Any) -> Any:
            return self.linear(self.embed(ids))

    table, ids = np.random.default_rng(3).standard_normal((5, 3)), np.array([[0, 4], [2, 2]])
    weights = {"embed.weight": table, "linear.weight": W, "linear.bias": B}
    found = runner(Model, weights, ("ids",), dtype="float64").evaluate({"ids": ids}, train=False)
    np.testing.assert_allclose(found.outputs["output"], table[ids] @ W.T + B, atol=1e-12)


def test_a_dtype_of_the_authors_choice_stays() -> None:
    layer = nnx.Linear(3, 2, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    as_jax_model(layer)
    assert layer.dtype == jnp.bfloat16


@pytest.mark.parametrize("built", [3, (1, 2), len])
def test_anything_else_is_refused(built: Any) -> None:
    with pytest.raises(TypeError, match="expected a Flax NNX module"):
        as_jax_model(built)


def test_linen_without_variables_is_refused() -> None:
    with pytest.raises(TypeError, match=r"return \(module, variables\)"):
        as_jax_model(linen.Dense(2))
