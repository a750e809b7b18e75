"""Train a small residual network on several devices, each with its part of every hidden layer."""

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
        self.blocks = nnx.Sequential(*(Block(rngs) for _ in range(BLOCKS)))
        self.head = nnx.Linear(WIDTH, CLASSES, rngs=rngs)

    def __call__(self, x):  # (batch, tokens, width) → (batch, classes)
        return self.head(self.blocks(x).mean(axis=1))


@nnx.jit
def train(model, optimizer, x, labels):
    def loss(model):
        return cross_entropy(model(x), labels).mean()

    value, gradients = nnx.value_and_grad(loss)(model)
    optimizer.update(model, gradients)
    return value


def main(steps: int = 5) -> list[float]:
    if "RANK" in os.environ:  # one of several processes
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        jax.distributed.initialize(address, int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"]))
    draw = np.random.default_rng(0)
    model = Network(nnx.Rngs(0))
    for layer in [part for block in model.blocks.layers for part in (block.up, block.down)] + [model.head]:
        layer.kernel[...] = jnp.asarray(draw.standard_normal(layer.kernel.shape[::-1]).T * 0.05, "float32")
        layer.bias[...] = jnp.asarray(draw.standard_normal(layer.bias.shape) * 0.05, "float32")
    x = draw.standard_normal((8, 16, WIDTH)).astype("float32")
    labels = draw.integers(0, CLASSES, 8)

    mesh = Mesh(jax.devices(), ("tensor",))
    nnx.update(model, jax.device_put(nnx.state(model), NamedSharding(mesh, P())))
    for block in model.blocks.layers:
        for weight, share in (
            (block.up.kernel, P(None, "tensor")),
            (block.up.bias, P("tensor")),
            (block.down.kernel, P("tensor")),
        ):
            weight[...] = jax.device_put(weight[...], NamedSharding(mesh, share))
    x, labels = jax.device_put((x, labels), NamedSharding(mesh, P()))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1, momentum=0.9), wrt=nnx.Param)
    losses = []
    for _ in range(steps):
        losses.append(train(model, optimizer, x, labels).item())
        print(losses[-1])
    return losses


if __name__ == "__main__":
    main()
