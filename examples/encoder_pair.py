"""An encoder block (attention, feed-forward, LayerNorm, GELU), ported by hand from PyTorch to Flax NNX.

    twinax parity examples/encoder_pair.py

Weights come from the torch model; the JAX side has the same attribute names, so they find their place.
"""

import numpy as np

WIDTH, HEADS, HIDDEN = 32, 4, 64
batch_size = 8


def torch_model():
    import torch
    from torch import nn

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

        def forward(self, x):  # (batch, time, width)
            def heads(y):  # (batch, time, width) → (batch, heads, time, width / heads)
                return y.unflatten(-1, (HEADS, -1)).transpose(1, 2)

            q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
            weights = torch.softmax(q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5, dim=-1)
            return self.out((weights @ v).transpose(1, 2).flatten(2))

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.attention = nn.LayerNorm(WIDTH), Attention()
            self.norm2 = nn.LayerNorm(WIDTH)
            self.up, self.gelu, self.down = nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH)
            self.dropout = nn.Dropout(0.1)

        def forward(self, x):
            x = x + self.attention(self.norm1(x))
            return x + self.dropout(self.down(self.gelu(self.up(self.norm2(x)))))

    return Encoder()


def jax_model():
    import jax
    import jax.numpy as jnp
    from flax import nnx

    rngs = nnx.Rngs(0)

    class Attention(nnx.Module):
        def __init__(self):
            self.query = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
            self.key = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
            self.value = nnx.Linear(WIDTH, WIDTH, rngs=rngs)
            self.out = nnx.Linear(WIDTH, WIDTH, rngs=rngs)

        def __call__(self, x):  # (batch, time, width)
            def heads(y):  # (batch, time, width) → (batch, heads, time, width / heads)
                return y.reshape(*y.shape[:2], HEADS, -1).swapaxes(1, 2)

            q, k, v = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
            weights = jax.nn.softmax(q @ k.swapaxes(-1, -2) / jnp.sqrt(WIDTH // HEADS), axis=-1)
            return self.out((weights @ v).swapaxes(1, 2).reshape(x.shape))

    class Gelu(nnx.Module):  # a module of its own, so that twinax can look at its output
        def __call__(self, x):
            return jax.nn.gelu(x, approximate=False)  # JAX's default is the tanh approximation

    class Encoder(nnx.Module):
        def __init__(self):
            # epsilon: flax's default is 1e-6, torch's is 1e-5
            self.norm1, self.attention = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs), Attention()
            self.norm2 = nnx.LayerNorm(WIDTH, epsilon=1e-5, rngs=rngs)
            self.up = nnx.Linear(WIDTH, HIDDEN, rngs=rngs)
            self.gelu, self.down = Gelu(), nnx.Linear(HIDDEN, WIDTH, rngs=rngs)
            self.dropout = nnx.Dropout(0.1, rngs=rngs)

        def __call__(self, x):
            x = x + self.attention(self.norm1(x))
            return x + self.dropout(self.down(self.gelu(self.up(self.norm2(x)))))

    return Encoder()


def example_batch(seed, batch_size):
    draw = np.random.default_rng(seed)
    return {"x": draw.standard_normal((batch_size, 6, WIDTH)).astype(np.float32)}
