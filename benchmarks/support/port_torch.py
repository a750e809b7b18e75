"""The torch side of one model of ``port_coverage.py``: ``python -m support.port_torch LIBRARY NAME FOLDER``.

Ports the model, and writes what it computes itself in float64, in eval and in train mode without dropout:
outputs, the gradient of every parameter, the buffers afterwards, and how far the gradients move when the
weights move by one unit in the last place.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from support.port_models import Example, listed
from twinax.errors import CannotPort
from twinax.port.torch_to_jax import convert
from twinax.sources.torch_only import torchvision_operators
from twinax.sources.torch_only.exact import Exact
from twinax.studies.parity_verbs import nudge_wide, perturb
from twinax.twin import Arrays

SEED = 0
RATES = ("drop_prob", "drop_path_prob", "layerdrop", "drop_path_rate", "drop_path", "drop_rate")
"""Attributes that hold rates of stochastic depth: the proof is without it, as it is without dropout."""
LAYERDROP = ("layerdrop", "encoder_layerdrop", "decoder_layerdrop")
"""The same in a configuration: above zero a branch on a random number, which torch.export cannot follow."""
DRAWN = ("pos_embed_shift", "pos_embed_jitter", "pos_embed_rescale")
"""Other numbers of a configuration that are drawn in train mode, where not None."""


def main(library: str, name: str, folder: Path) -> dict[str, Any]:
    """Port the model and compute its reference; the outcome, empty where both went well."""
    found = example(library, name)
    begin = time.perf_counter()
    try:
        ported = convert(found.module, found.inputs, title=f"{name} in JAX (Flax NNX).")
    except CannotPort as error:
        return refused(error)
    except Exception as error:
        traceback.print_exc()
        return {"outcome": "converter failed", "reason": last_line(error)}
    seconds = time.perf_counter() - begin
    (folder / "model.py").write_text(ported.source)
    weights = {n: np.asarray(widened(a), order="C") for n, a in ported.weights.items()}
    save_file(weights, folder / "weights.safetensors")
    if ported.constants:
        save_file(dict(ported.constants), folder / "constants.safetensors")
    np.savez(folder / "reference.npz", **reference(found))
    size = sum(p.numel() for p in found.module.parameters())
    return {"lines": ported.source.count("\n"), "convert_s": round(seconds, 2), "parameters": size}


def example(library: str, name: str) -> Example:
    """The model of that name with moved weights, without stochastic depth."""
    torchvision_operators.define()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.manual_seed(SEED)
    (found,) = (one for one in listed() if (one.library, one.name) == (library, name))
    made = found.make()
    deterministic(made.module)
    move(made.module)
    return made


def refused(error: CannotPort) -> dict[str, Any]:
    """What stands in the way: what ``torch.export`` cannot follow, or operations without a counterpart."""
    operations = dict.fromkeys(one.operation for one in error.unsupported)
    if not operations:
        return {"outcome": "export failed", "reason": str(error).splitlines()[0][:300]}
    export = set(operations) & {"torch.export", "control flow"}
    where = error.unsupported[0].where.split("site-packages/")[-1]
    return {
        "outcome": "export failed" if export else "refused",
        "reason": f"{', '.join(operations)} at {where}"[:300],
    }


def last_line(error: Exception) -> str:
    """Type and message, and where in our own code it was raised."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "twinax" in f.filename]
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:200]}{where}"


def deterministic(module: torch.nn.Module) -> None:
    """Switch stochastic depth off."""
    for layer in module.modules():
        for owner, names in ((layer, RATES), (getattr(layer, "config", None), LAYERDROP)):
            for name in names:
                if isinstance(getattr(owner, name, None), float):
                    setattr(owner, name, 0.0)
        for name in DRAWN:
            if hasattr(getattr(layer, "config", None), name):
                setattr(layer.config, name, None)


def move(module: torch.nn.Module) -> None:
    """Move every weight and running statistic, so that nothing hides behind a zero."""
    own = {n: t for n, t in module.named_parameters()}
    own |= {n: t for n, t in module.named_buffers() if "running_" in n}
    replace(own, lambda arrays: perturb(arrays, SEED))


def reference(of: Example) -> dict[str, np.ndarray]:
    """``mode|kind|name`` → array."""
    wide = copy.deepcopy(of.module).double()
    inputs = {n: t.double() if t.is_floating_point() else t for n, t in of.inputs.items()}
    nudged = [nudged_by(wide, seed) for seed in (SEED, SEED + 1)]  # of a scalar, one may change nothing
    found = {f"inputs|{n}": t.numpy() for n, t in inputs.items()}
    for mode in ("eval", "train"):
        outputs, gradients, buffers = computed(wide, inputs, mode)
        others = [computed(one, inputs, mode)[1] for one in nudged]
        floors = {n: max(np.linalg.norm(other[n] - g) for other in others) for n, g in gradients.items()}
        for kind, arrays in zip(
            ("outputs", "gradients", "buffers", "floors"), (outputs, gradients, buffers, floors), strict=True
        ):
            found |= {f"{mode}|{kind}|{n}": np.asarray(a) for n, a in arrays.items()}
    return found


def nudged_by(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """The module with every weight moved by one unit in the last place of float64."""
    nudged = copy.deepcopy(module)
    replace(dict(nudged.named_parameters()), lambda arrays: nudge_wide(arrays, seed))
    return nudged


def replace(own: Mapping[str, torch.Tensor], by: Callable[[Arrays], Arrays]) -> None:
    """Give these tensors other numbers."""
    moved = by({name: tensor.detach().numpy().copy() for name, tensor in own.items()})
    with torch.no_grad():
        for name, array in moved.items():
            own[name].copy_(torch.from_numpy(np.asarray(array)))


def computed(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor], mode: str) -> tuple[dict, dict, dict]:
    """Outputs, gradients and running statistics; the module's own statistics stay as they were."""
    module = copy.deepcopy(module).train(mode == "train")
    with Exact():
        outputs = dict(named(module(**inputs)))
        loss(outputs).backward()
    learned = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
    gradients = {n: np.zeros(tuple(p.shape)) if p.grad is None else p.grad.numpy() for n, p in learned}
    buffers = {n: b.numpy() for n, b in module.named_buffers() if "running_" in n}
    return {n: v.detach().numpy() for n, v in outputs.items()}, gradients, buffers


def loss(outputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """A curved function of every output; ``port_jax`` has the same."""
    terms = []
    for name, value in outputs.items():
        if value.is_floating_point():
            phase = sum(i * ord(letter) for i, letter in enumerate(name, 1)) % 1000
            wave = torch.cos(phase + torch.arange(math.prod(value.shape[1:]), dtype=torch.float64))
            curved = value * wave.reshape(value.shape[1:]) + value.tanh()
            terms.append(curved.mean())
    return sum(terms[1:], terms[0]) / len(terms)


def named(outputs: Any, prefix: str = "output") -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in the outputs by name."""
    if isinstance(outputs, torch.Tensor):
        yield prefix, outputs
    elif isinstance(outputs, Mapping):
        for name, value in outputs.items():
            yield from named(value, name if prefix == "output" else f"{prefix}.{name}")
    elif isinstance(outputs, list | tuple):
        for index, value in enumerate(outputs):
            yield from named(value, f"{prefix}.{index}")


def widened(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype == np.float32 else array


if __name__ == "__main__":
    try:
        answer = main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    except Exception as error:  # the model itself cannot be made, or run in float64
        traceback.print_exc()
        answer = {"outcome": "torch failed", "reason": last_line(error)}
    print(json.dumps(answer))
