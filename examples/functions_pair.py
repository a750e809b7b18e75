"""Plain JAX: a function of a dictionary of arrays, beside a torch module, with a loss of their own.

    twinax parity examples/functions_pair.py

The dictionary nests as the module does. ``weight`` is laid out as torch has it, (out, in); a leaf called
``kernel`` would be read as (in, out).
"""

from itertools import pairwise

import numpy as np

SIZES = (10, 32, 16, 3)
inputs = ("x",)  # the labels go to the loss, not to the model


def torch_model():
    from torch import nn

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(SIZES))

        def forward(self, x):  # (batch, 10) → (batch, 3)
            for layer in self.layers[:-1]:
                x = layer(x).tanh()
            return self.layers[-1](x)

    return Classifier()


def jax_model():
    import jax.numpy as jnp

    # only the shapes matter here: the values come from the torch model
    layers = [{"weight": jnp.zeros((b, a)), "bias": jnp.zeros(b)} for a, b in pairwise(SIZES)]

    def apply(params, x):  # (batch, 10) → (batch, 3)
        for layer in params["layers"][:-1]:
            x = jnp.tanh(x @ layer["weight"].T + layer["bias"])
        last = params["layers"][-1]
        return x @ last["weight"].T + last["bias"]

    return apply, {"layers": layers}


def torch_loss(outputs, batch):
    from torch.nn import functional

    return functional.cross_entropy(outputs, batch["label"])


def jax_loss(outputs, batch):
    import optax

    return optax.softmax_cross_entropy_with_integer_labels(outputs, batch["label"]).mean()


def example_batch(seed, batch_size):
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((batch_size, SIZES[0])).astype(np.float32)
    return {"x": x, "label": draw.integers(0, SIZES[-1], batch_size)}
