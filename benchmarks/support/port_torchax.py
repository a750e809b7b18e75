"""One model of ``port_coverage.py`` through torchax: ``python -m support.port_torchax LIBRARY NAME FOLDER``.

The same module, weights, inputs and comparisons as ``port_torch`` and ``port_jax``; torchax runs the module
itself on JAX arrays, so it needs torch and jax in one process. Dropout is switched off beforehand.
"""

from __future__ import annotations

import copy
import json
import sys
import traceback
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from support import port_jax, port_torch
from support.port_models import Example
from twinax.sources.torch_only.exact import Exact


def main(library: str, name: str, folder: Path) -> dict[str, Any]:
    """``proved``, or what differs first."""
    example = port_torch.example(library, name)
    reference = port_torch.reference(example)
    import torchax

    jax.config.update("jax_enable_x64", True)
    wrong: list[tuple[str, float]] = []
    worst = 0.0
    for mode in ("eval", "train"):
        found = computed(torchax, example, mode)
        for key, error, passed in port_jax.compared(reference, found, mode):
            if not passed:
                wrong.append((key, error))
            else:
                worst = max(worst, error)
    statistics = [key for key, _ in wrong if "|buffers|" in key]
    if statistics and len(statistics) == len(wrong):
        return {"outcome": "proved but for running statistics", "worst": worst}
    if wrong:
        key, error = port_jax.first(wrong)
        return {"outcome": "mismatch", "reason": f"{key} ({error:.1e}; {len(wrong)} in all)"}
    return {"outcome": "proved", "worst": worst}


def computed(torchax: Any, example: Example, mode: str) -> dict[str, port_jax.Arrays]:
    """Outputs, gradients and buffers; torchax gives no buffers back: in train mode they are what they were."""
    module = copy.deepcopy(example.module).double().train(mode == "train")
    for layer in module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    states, call = torchax.extract_jax(module)
    first = {id(p): n for n, p in module.named_parameters()}  # of tied weights torchax may keep another name
    learned = {n: first[id(p)] for n, p in module.named_parameters(remove_duplicate=False)}
    inputs = {n: t.double() if t.is_floating_point() else t for n, t in example.inputs.items()}
    arrays = {n: jnp.asarray(t.numpy()) for n, t in inputs.items()}

    def objective(params: dict[str, jax.Array], rest: dict[str, jax.Array]) -> Any:
        outputs = dict(port_jax.named(call({**params, **rest}, (), arrays)))
        return port_jax.loss(outputs), outputs

    params = {n: a for n, a in states.items() if n in learned}
    rest = {n: a for n, a in states.items() if n not in learned}
    with Exact():  # as in the reference: nothing is rounded to float32
        gradients, outputs = jax.jit(jax.grad(objective, has_aux=True))(params, rest)
    found = {"outputs": outputs, "gradients": {learned[n]: g for n, g in gradients.items()}, "buffers": rest}
    return {kind: {n: np.asarray(a) for n, a in each.items()} for kind, each in found.items()}


if __name__ == "__main__":
    try:
        answer = main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    except Exception as error:
        traceback.print_exc()
        answer = {"outcome": "failed", "reason": f"{type(error).__name__}: {str(error).strip()[:200]}"}
    print(json.dumps(answer))
