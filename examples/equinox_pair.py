"""An equinox module beside a torch module.

    twinax parity examples/equinox_pair.py

The module is called on the whole batch, as torch's is. An equinox layer takes one example: map it over
the batch inside, with ``jax.vmap``. Weights have the same names and layout on both sides.
"""

import numpy as np

# a constant batch: twinax adds seeded noise to its floats, so that every step sees other data
example_batch = {"x": np.random.default_rng(0).standard_normal((8, 12)).astype(np.float32)}


def torch_model():
    from torch import nn

    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.gate, self.down = nn.Linear(12, 24), nn.Linear(12, 24), nn.Linear(24, 4)
            self.norm, self.dropout = nn.LayerNorm(24), nn.Dropout(0.2)

        def forward(self, x):  # (batch, 12) → (batch, 4)
            return self.down(self.dropout(self.norm(self.up(x) * self.gate(x).sigmoid())))

    return Gated()


def jax_model():
    import equinox as eqx
    import jax

    keys = jax.random.split(jax.random.key(0), 3)

    class Gated(eqx.Module):
        up: eqx.nn.Linear = eqx.nn.Linear(12, 24, key=keys[0])
        gate: eqx.nn.Linear = eqx.nn.Linear(12, 24, key=keys[1])
        down: eqx.nn.Linear = eqx.nn.Linear(24, 4, key=keys[2])
        norm: eqx.nn.LayerNorm = eqx.nn.LayerNorm(24)
        dropout: eqx.nn.Dropout = eqx.nn.Dropout(0.2)

        def __call__(self, x, key=None):  # (batch, 12) → (batch, 4)
            gated = jax.vmap(self.up)(x) * jax.nn.sigmoid(jax.vmap(self.gate)(x))
            return jax.vmap(self.down)(self.dropout(jax.vmap(self.norm)(gated), key=key))

    return Gated()
