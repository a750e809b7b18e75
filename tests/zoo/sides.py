"""Both sides of a small twin in one process: what each returns, for comparison."""

from dataclasses import replace

import numpy as np

from twinax.frameworks.jax_backend import JaxRunner
from twinax.frameworks.torch_backend import TorchRunner
from twinax.records import Size
from twinax.studies.parity_verbs import perturb

RUNNERS = {"torch": TorchRunner, "jax": JaxRunner}


def runner(twin, side, weights, dtype="float64"):
    mode = {"torch": "eager", "jax": "jit"}[side]
    return RUNNERS[side](
        twin.code(side),
        twin.config,
        weights,
        twin.inputs,
        mode=mode,
        dtype=dtype,
        channels_last=twin.channels_last,
    )


def small(twin, **config):
    return replace(twin, config={**twin.config, **config})


def distances(twin, size: Size, train: bool) -> dict[str, float]:
    """Norm-relative distance between the sides of every output, buffer and activation, float64."""
    weights = perturb(twin.init(twin.config, 0), 0)
    batch = twin.batches(twin.config, size, 0, 2)[1]
    a, b = (
        runner(twin, side, weights).evaluate(batch, train=train, gradients=True, record=True)
        for side in ("torch", "jax")
    )
    assert list(a.activations) == list(b.activations)
    kinds = ("outputs", "buffers", "activations")
    assert all(getattr(a, kind).keys() == getattr(b, kind).keys() for kind in kinds)
    assert a.gradients.keys() == b.gradients.keys()
    found = {
        f"{kind} {name}": float(np.linalg.norm(x - getattr(b, kind)[name]) / np.linalg.norm(x))
        for kind in kinds
        for name, x in getattr(a, kind).items()
    }
    # of the gradients together: single ones may be truly zero
    flat = [np.concatenate([e.gradients[name].ravel() for name in a.gradients]) for e in (a, b)]
    found["gradients"] = float(np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[0]))
    found["loss"] = abs(a.loss - b.loss) / abs(a.loss)
    return found
