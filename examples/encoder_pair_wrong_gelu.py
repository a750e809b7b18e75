"""The feed-forward half of an encoder block, with a mistake that is easily made in a port.

    twinax parity examples/encoder_pair_wrong_gelu.py

``nn.GELU()`` is exact and ``jax.nn.gelu`` approximates it by a tanh: the two differ by up to 5e-4, which
no look at the outputs shows. twinax reports a mismatch, and that ``gelu`` is where it begins.
"""

import numpy as np

WIDTH, HIDDEN = 32, 64
batch_size = 8


def torch_model():
    from torch import nn

    class FeedForward(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(WIDTH)
            self.up, self.gelu, self.down = nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH)

        def forward(self, x):  # (batch, time, width)
            return x + self.down(self.gelu(self.up(self.norm(x))))

    return FeedForward()


def jax_model():
    import jax
    from flax import nnx

    rngs = nnx.Rngs(0)

    class Gelu(nnx.Module):
        def __call__(self, x):
            return jax.nn.gelu(x)  # the mistake: approximate=False is missing

    class FeedForward(nnx.Module):
        def __init__(self):
            self.norm = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs)
            self.up = nnx.Linear(WIDTH, HIDDEN, rngs=rngs)
            self.gelu, self.down = Gelu(), nnx.Linear(HIDDEN, WIDTH, rngs=rngs)

        def __call__(self, x):  # (batch, time, width)
            return x + self.down(self.gelu(self.up(self.norm(x))))

    return FeedForward()


def example_batch(seed, batch_size):
    draw = np.random.default_rng(seed)
    return {"x": draw.standard_normal((batch_size, 6, WIDTH)).astype(np.float32)}
