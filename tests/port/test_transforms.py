"""A ported model under JAX's transformations: jit, grad, vmap, checkpoint, a mesh of devices."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_emitted_source import Stack, example, load, perturbed

from twinax.port.torch_to_jax import convert

SHARDED = """
import sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from flax import nnx
sys.path.insert(0, {folder!r})
import model as ported
assert len(jax.devices()) == 4
model = ported.load({folder!r} + "/weights.safetensors")
graph, state = nnx.split(model)
run = jax.jit(lambda state, x: nnx.merge(graph, state)(x))
mesh = Mesh(np.array(jax.devices()), ("data",))
x = jax.device_put(jnp.arange(64.0).reshape(8, 8) / 64, NamedSharding(mesh, P("data")))
state = jax.device_put(state, NamedSharding(mesh, P()))
y = run(state, x)
assert len(y.sharding.device_set) == 4, y.sharding
np.save({folder!r} + "/y.npy", y)
"""


@pytest.fixture(scope="module")
def ported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stack")
    module = perturbed(Stack()).eval()
    return folder, load(convert(module, example({"x": (4, 8)})), folder).load(folder / "weights.safetensors")


@pytest.fixture
def objective(ported):
    graph, params, rest = nnx.split(ported[1], nnx.Param, ...)

    def objective(params, x):
        return jnp.square(nnx.merge(graph, params, rest)(x)).sum()

    return objective, params


X = jnp.arange(64.0).reshape(8, 8) / 64


def close(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, other)


def test_one_gradient_per_example_by_vmap(objective):
    function, params = objective
    each = jax.vmap(jax.grad(function), in_axes=(None, 0))(params, X[:, None])
    close(jax.tree.map(lambda g: g.sum(0), each), jax.jit(jax.grad(function))(params, X))


def test_checkpoint_gives_the_same_gradient(objective):
    function, params = objective
    close(jax.grad(jax.checkpoint(function))(params, X), jax.grad(function)(params, X))


def test_the_batch_shards_over_a_mesh(ported):
    folder, model = ported
    flags = "--xla_force_host_platform_device_count=4"
    script = SHARDED.format(folder=str(folder))
    subprocess.run([sys.executable, "-c", script], env={**os.environ, "XLA_FLAGS": flags}, check=True)
    np.testing.assert_allclose(np.load(folder / "y.npy"), model(X), rtol=1e-4, atol=1e-5)
