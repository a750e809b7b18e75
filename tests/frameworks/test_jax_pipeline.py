"""The JAX pipeline on several devices of one process, against one that sees micro-batch after micro-batch."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cases import small
from twinax.errors import CellFailed
from twinax.frameworks.jax_backend import JaxRunner
from twinax.frameworks.jax_models import as_jax_model
from twinax.frameworks.jax_parallel.engine import Setting
from twinax.frameworks.jax_parallel.pipeline import Pipeline
from twinax.frameworks.jax_parallel.stages import form
from twinax.frameworks.jax_recording import Tap
from twinax.sources.file import resolve
from twinax.twin import Arrays, Twin

PAIR = str(Path(__file__).parents[2] / "examples/encoder_pair.py")
BOUND = 1e-9
BATCH = 8


def twin_of(name: str) -> Twin:
    if name == "pair":
        return resolve(PAIR)
    twin = small(name.removesuffix(", deep"))
    return replace(twin, config={**twin.config, "num_hidden_layers": 4}) if name.endswith(", deep") else twin


class Tied(nnx.Module):
    """An embedding that the first stage reads and the last one too; BatchNorm; a count of the calls."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.embed = nnx.Param(jax.random.normal(rngs.params(), (11, 6)))
        self.first, self.second = (nnx.Linear(6, 6, rngs=rngs) for _ in range(2))
        self.norm = nnx.BatchNorm(6, rngs=rngs)
        self.calls = nnx.BatchStat(jnp.zeros((), jnp.int32))

    def __call__(self, ids: jax.Array) -> jax.Array:
        x = self.norm(jnp.tanh(self.first(self.embed[ids])))
        self.calls[...] = self.calls[...] + 1
        return jnp.tanh(self.second(x)) @ self.embed[...].T


class TiedCode:
    def loss(self, outputs: Any, batch: Any) -> Any:
        return jnp.square(outputs - 1.0).mean()


class Code:
    """A twin's JAX side; a pair's loss, where it has none of its own, is no mean over examples."""

    def __init__(self, name: str) -> None:
        self.pair, self.code = name == "pair", twin_of(name).code("jax")
        self.rename = getattr(self.code, "rename", {})

    def build(self, config: Any) -> Any:
        return self.code.build(config)

    def loss(self, outputs: Any, batch: Any) -> Any:
        return jnp.square(outputs - 1.0).mean() if self.pair else self.code.loss(outputs, batch)


class Single:
    """What a test needs of a runner, of a model that is no twin's."""

    def __init__(self) -> None:
        jax.config.update("jax_enable_x64", True)
        self.model, self.code, self.inputs = as_jax_model(Tied()), TiedCode(), ("ids",)
        self.params, self.state = (
            jax.tree.map(lambda x: x.astype("float64") if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)
            for tree in (self.model.params, self.model.state)
        )

    def _torch_path(self, path: str) -> str:
        return path


def runner_of(name: str) -> tuple[Any, Arrays]:
    """A runner whose weights hide nothing (no zero, no one), and a batch."""
    if name == "tied":
        return Single(), {"ids": np.random.default_rng(0).integers(0, 11, BATCH)}
    twin = twin_of(name)
    weights = {
        name: array + 0.02 * np.random.default_rng([i, 7]).standard_normal(array.shape)
        for i, (name, array) in enumerate(twin.init(twin.config, 0).items())
    }
    size = twin.presets["parity"].model_copy(update={"batch": BATCH})
    made = JaxRunner(
        Code(name), twin.config, weights, twin.inputs, dtype="float64", channels_last=twin.channels_last
    )
    batch = twin.batches(twin.config, size, 3, 1)[0]
    return made, {n: np.asarray(a) for n, a in made._on_device(batch).items()}


def engine_of(runner: Any, data: Arrays, ranks: int, fault: str = "") -> Pipeline:
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:ranks]), ("pipe",))
    tap = Tap({}, False, runner._torch_path)
    kind = FAULTS.get(fault, Pipeline)
    engine = kind(Setting(runner.code, runner.model, runner.inputs, tap, mesh, {}, {}, {}))
    engine.fit_to(data)
    return engine


def expected(engine: Pipeline, runner: Any, data: Any) -> dict[str, np.ndarray]:
    """One device: gradients averaged over the micro-batches, state carried from one to the next."""
    function = jax.jit(jax.value_and_grad(engine.setting.objective, has_aux=True))
    state, found = runner.state, []
    for part in range(engine.micro_batches):
        size = BATCH // engine.micro_batches
        piece = {n: a[part * size : (part + 1) * size] for n, a in data.items()}
        (loss, state), grads = function(runner.params, state, piece)
        found.append((loss, grads))
    mean = jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *found)
    return named(runner, mean[0], mean[1], state)


def named(runner: Any, loss: Any, gradients: Any, state: Any) -> dict[str, np.ndarray]:
    trees = {"gradient": runner.model.arrays(gradients), "state": runner.model.arrays(state)}
    flat = {f"{kind} {n}": np.asarray(a) for kind, arrays in trees.items() for n, a in arrays.items()}
    return {"loss": np.asarray(loss), **flat}


def computed(engine: Pipeline, runner: Any, data: Any) -> dict[str, np.ndarray]:
    params, state = engine.place(runner.params, runner.state)
    loss, state, gradients = jax.jit(engine.value_and_grad)(params, state, engine.place_data(data))
    assert jax.tree.map(jnp.shape, gradients) == jax.tree.map(jnp.shape, params)
    assert gradients["stages"].sharding.is_equivalent_to(params["stages"].sharding, 2)
    return named(runner, loss, *jax.jit(engine.whole)(gradients, state))


@cache
def single(name: str) -> tuple[Any, Arrays, dict[str, np.ndarray]]:
    """A runner, a batch, and what one device makes of them."""
    runner, data = runner_of(name)
    return runner, data, expected(engine_of(runner, data, 2), runner, data)


def differences(name: str, ranks: int, fault: str = "") -> tuple[dict[str, float], dict[str, Any]]:
    """Norm-relative difference of every tensor, and how the engine cut the model."""
    runner, data, right = single(name)
    engine = engine_of(runner, data, ranks, fault)
    found = computed(engine, runner, data)
    assert found.keys() == right.keys()
    facts = {
        "parameters": [len(stage.params) for stage in engine.stages],
        "shared": len(engine.shared),
        "crossing": [sum(form(v).size for v in stage.outgoing) for stage in engine.stages],
    }
    # a gradient that is truly zero (an attention key's bias) is rounding noise beside the others
    floor = 1e-12 * max(np.linalg.norm(a) for n, a in right.items() if n.startswith("gradient"))
    return {n: relative(found[n], right[n], float(floor)) for n in right}, facts


def relative(found: np.ndarray, right: np.ndarray, floor: float) -> float:
    if not np.issubdtype(right.dtype, np.floating):
        return 0.0 if np.array_equal(found, right) else float("inf")
    distance, norm = np.linalg.norm(found - right), np.linalg.norm(right)
    return float(distance / norm) if norm > floor else float(distance > floor)


class Busy(Pipeline):
    """Idle ranks work on what lies in the buffer."""

    def _idle(self, *given: Any) -> Any:
        branches = [self._branch(i) for i in range(self.ranks)]
        return jax.lax.switch(jax.lax.axis_index("pipe"), branches, *given)


class Unaveraged(Pipeline):
    """Gradients are the micro-batches' sum."""

    def value_and_grad(self, params: Any, state: Any, data: Any) -> Any:
        loss, state, gradients = super().value_and_grad(params, state, data)
        return loss, state, jax.tree.map(lambda g: g * self.micro_batches, gradients)


class Unshared(Pipeline):
    """Each stage keeps its own gradient of a parameter that another one uses too."""

    def fit_to(self, data: Any) -> None:
        super().fit_to(data)
        self.shared = {}


class Backwards(Pipeline):
    """The last micro-batch goes first."""

    def place_data(self, data: Any) -> Any:
        return super().place_data({n: np.asarray(a)[::-1] for n, a in data.items()})


FAULTS = {kind.__name__: kind for kind in (Busy, Unaveraged, Unshared, Backwards)}


def _start() -> None:
    os.environ["XLA_FLAGS"] = (
        "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
        " --xla_llvm_disable_expensive_passes=true"  # most of the time would go into compiling
    )


@pytest.fixture(scope="module")
def devices() -> Iterator[ProcessPoolExecutor]:
    """A process with four devices: how many there are is fixed when JAX starts."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _start) as pool:
        yield pool


SLOW = pytest.mark.slow
CASES = [("bert, deep", 4), ("xor", 2), ("pair", 4), ("tied", 2)]
CASES += [
    pytest.param(name, ranks, marks=SLOW)
    for name, ranks in [
        ("bert", 2),
        ("bert", 4),
        ("bert, deep", 2),
        ("resnet50", 2),
        ("resnet50", 4),
        ("pair", 2),
    ]
]


@pytest.mark.parametrize(("name", "ranks"), CASES)
def test_it_is_one_device(devices: ProcessPoolExecutor, name: str, ranks: int):
    found, facts = devices.submit(differences, name, ranks).result()
    assert {n: d for n, d in found.items() if not d <= BOUND} == {}
    assert len(facts["parameters"]) == ranks and all(facts["parameters"])
    assert facts["shared"] == (1 if name == "tied" else 0)
    if name == "bert, deep":  # cut between its blocks: one hidden state of two examples crosses, (2, 12, 32)
        assert facts["crossing"] == [768] * (ranks - 1) + [0]


SEEN = {"Busy": "state norm.mean", "Unaveraged": "gradient embed", "Unshared": "gradient embed"}
SEEN["Backwards"] = "state norm.mean"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen(devices: ProcessPoolExecutor, fault: str):
    found, _ = devices.submit(differences, "tied", 2, fault).result()
    assert found[SEEN[fault]] > 1e-4


def test_the_copies_of_a_shared_parameter_have_one_gradient(devices: ProcessPoolExecutor):
    first, second = devices.submit(copies).result()
    assert np.array_equal(first, second) and np.linalg.norm(first) > 0


def copies() -> list[np.ndarray]:
    runner, data, _ = single("tied")
    engine = engine_of(runner, data, 2)
    params, state = engine.place(runner.params, runner.state)
    gradients = jax.jit(engine.value_and_grad)(params, state, engine.place_data(data))[2]
    ((leaf, places),) = engine.shared.items()
    rows = np.asarray(gradients["stages"])
    return [engine.rows.take(stage, rows[stage])[leaf] for stage, _ in places]


def test_more_ranks_than_stages_are_refused(devices: ProcessPoolExecutor):
    assert "2 stages" in devices.submit(refused, "xor", 4).result()


def refused(name: str, ranks: int) -> str:
    runner, data, _ = single(name)
    with pytest.raises(CellFailed) as raised:
        engine_of(runner, data, ranks)
    assert raised.value.outcome == "unsupported"
    return raised.value.what
