"""Train a small residual network on several devices, each with its stage of the network."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from optax import softmax_cross_entropy_with_integer_labels as cross_entropy

WIDTH, HIDDEN, BLOCKS, CLASSES = 64, 256, 4, 10
MICRO_BATCHES = 4


class Block(nnx.Module):
    """A feed-forward layer with its residual connection."""

    def __init__(self, rngs):
        self.norm = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs)
        self.up = nnx.Linear(WIDTH, HIDDEN, rngs=rngs)
        self.down = nnx.Linear(HIDDEN, WIDTH, rngs=rngs)

    def __call__(self, x):  # (batch, tokens, width)
        return x + self.down(jax.nn.gelu(self.up(self.norm(x)), approximate=False))


class Network(nnx.Module):
    """The blocks, a mean over the tokens, a classifier."""

    def __init__(self, rngs):
        self.blocks = nnx.vmap(Block)(rngs.split(BLOCKS))  # weights: (block, …)
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, x, mesh):  # (batch, tokens, width) → (batch, classes)
        graph, weights = nnx.split(self.blocks)
        stages = functools.partial(pipelined, graph)
        stages = jax.shard_map(stages, mesh=mesh, in_specs=(P("pipe"), P()), out_specs=P(), check_vma=False)
        return self.head(stages(weights, x).mean(axis=1))


def pipelined(graph, weights, x):  # this device's blocks; (batch, tokens, width)
    rank, size = jax.lax.axis_index("pipe"), jax.lax.axis_size("pipe")
    parts = x.reshape(MICRO_BATCHES, -1, *x.shape[1:])

    def tick(arrived, now):
        part = jnp.where(rank == 0, parts[jnp.minimum(now, MICRO_BATCHES - 1)], arrived)
        part, _ = jax.lax.scan(lambda y, block: (nnx.merge(graph, block)(y), None), part, weights)
        return jax.lax.ppermute(part, "pipe", [(i, i + 1) for i in range(size - 1)]), part

    _, made = jax.lax.scan(tick, jnp.zeros_like(parts[0]), jnp.arange(MICRO_BATCHES + size - 1))
    made = jnp.where(rank == size - 1, made[size - 1 :], 0.0)  # the last stage's, once it is reached
    return jax.lax.psum(made, "pipe").reshape(x.shape)


@nnx.jit(static_argnames="mesh")
def train(model, optimizer, x, labels, mesh):
    def loss(model):
        return cross_entropy(model(x, mesh), labels).mean()

    value, gradients = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradients)
    return value


def main(steps: int = 5) -> list[float]:
    if "RANK" in os.environ:  # one of several processes
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        jax.distributed.initialize(address, int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"]))
    draw = np.random.default_rng(0)
    model = Network(nnx.Rngs(0))
    layers = [(part, i) for i in range(BLOCKS) for part in (model.blocks.up, model.blocks.down)]
    for layer, i in [*layers, (model.head, ...)]:
        kernel, bias = layer.kernel[i], layer.bias[i]
        layer.kernel[i] = jnp.asarray(draw.standard_normal(kernel.shape[::-1]).T * 0.05, "float32")
        layer.bias[i] = jnp.asarray(draw.standard_normal(bias.shape) * 0.05, "float32")
    x = draw.standard_normal((8, 16, WIDTH)).astype("float32")
    labels = draw.integers(0, CLASSES, 8)

    mesh = Mesh(jax.devices(), ("pipe",))
    nnx.update(model.blocks, jax.device_put(nnx.state(model.blocks), NamedSharding(mesh, P("pipe"))))
    nnx.update(model.head, jax.device_put(nnx.state(model.head), NamedSharding(mesh, P())))
    x, labels = jax.device_put((x, labels), NamedSharding(mesh, P()))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)
    losses = []
    for _ in range(steps):
        losses.append(train(model, optimizer, x, labels, mesh).item())
        print(losses[-1])
    return losses


if __name__ == "__main__":
    main()
