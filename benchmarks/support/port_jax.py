"""The JAX side of one model of ``port_coverage.py``: ``python -m support.port_jax FOLDER``.

Runs the port that ``port_torch`` wrote, in a process without torch, and compares it with what torch computed.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from twinax.compare import difference
from twinax.studies.parity_verdict import BOUND, is_rounding

Arrays = dict[str, np.ndarray]


def main(folder: Path) -> dict[str, Any]:
    """``proved``, or what differs first in each mode."""
    jax.config.update("jax_enable_x64", True)
    with np.load(folder / "reference.npz") as stored:
        reference = dict(stored)
    begin = time.perf_counter()
    model = load(folder)
    inputs = [jnp.asarray(a) for name, a in reference.items() if name.startswith("inputs|")]
    wrong, worst, flat = [], 0.0, set()
    for mode in ("eval", "train"):
        found = computed(model, inputs, mode)
        for key, error, passed in compared(reference, found, mode):
            if not passed:
                wrong.append((key, error))
            elif error > BOUND:
                flat.add(key.split("|", 2)[2])
            else:
                worst = max(worst, error)
    seconds = round(time.perf_counter() - begin, 2)
    told = {"prove_s": seconds, "worst": worst, "flat": len(flat)}
    if wrong:
        key, error = first(wrong)
        return told | {"outcome": "mismatch", "reason": f"{key} ({error:.1e}; {len(wrong)} in all)"}
    return told | {"outcome": "proved"}


def compared(reference: Arrays, found: dict[str, Arrays], mode: str) -> Iterator[tuple[str, float, bool]]:
    """Key, error, and whether it passes, of everything that torch computed in this mode."""
    for key in (k for k in reference if k.startswith(f"{mode}|") and "|floors|" not in k):
        _, kind, name = key.split("|", 2)
        floor = float(reference.get(f"{mode}|floors|{name}", 0.0)) if kind == "gradients" else 0.0
        yield key, *judged(reference[key], found[kind].get(name), floor)


def judged(expected: np.ndarray, got: np.ndarray | None, floor: float) -> tuple[float, bool]:
    """Error, and whether it passes: within the bound, or nothing but rounding on both sides."""
    if got is None:  # a parameter that nothing depends on is left out
        return (math.inf, False) if np.any(expected) else (0.0, True)
    found = difference(expected, got)
    rounding = bool(floor) and is_rounding("", found.norm, found.gap, floor)
    return found.error, found.error <= BOUND or rounding


def first(wrong: list[tuple[str, float]]) -> tuple[str, float]:
    """The first output that differs, else the buffer, else the gradient that is nearest to the outputs."""
    for kind in ("outputs", "buffers"):
        for key, error in wrong:
            if f"|{kind}|" in key:
                return key, error
    mode = wrong[0][0].split("|")[0]
    return [pair for pair in wrong if pair[0].startswith(mode)][-1]


def load(folder: Path) -> nnx.Module:
    """The ported model, without dropout."""
    spec = importlib.util.spec_from_file_location("ported_model", folder / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    model = module.load(folder / "weights.safetensors")
    for _, layer in nnx.iter_modules(model):
        if isinstance(layer, nnx.Dropout):
            layer.rate = 0.0
    return model


def computed(model: Any, inputs: list[jax.Array], mode: str) -> dict[str, Arrays]:
    """Outputs, gradients and buffers of one call."""
    model.train() if mode == "train" else model.eval()
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def objective(params: Any, rest: Any) -> Any:
        merged = nnx.merge(graph, params, rest, copy=True)
        outputs = dict(named(merged(*inputs)))
        return loss(outputs), (outputs, nnx.state(merged, nnx.Not(nnx.RngState)))

    gradients, (outputs, state) = jax.jit(jax.grad(objective, has_aux=True))(params, rest)
    found = {"outputs": outputs, "gradients": by_path(gradients), "buffers": by_path(state)}
    return {kind: {n: np.asarray(a) for n, a in arrays.items()} for kind, arrays in found.items()}


def loss(outputs: Mapping[str, jax.Array]) -> jax.Array:
    """A curved function of every output; ``port_torch`` has the same."""
    terms = []
    for name, value in outputs.items():
        if jnp.issubdtype(value.dtype, jnp.floating):
            phase = sum(i * ord(letter) for i, letter in enumerate(name, 1)) % 1000
            wave = jnp.cos(phase + jnp.arange(math.prod(value.shape[1:]), dtype=jnp.float64))
            terms.append((value * wave.reshape(value.shape[1:]) + jnp.tanh(value)).mean())
    return sum(terms[1:], terms[0]) / len(terms)


def named(outputs: Any, prefix: str = "output") -> Iterator[tuple[str, jax.Array]]:
    """The arrays in the outputs by name."""
    if isinstance(outputs, jax.Array):
        yield prefix, outputs
    elif isinstance(outputs, dict):
        for name, value in outputs.items():
            yield from named(value, name if prefix == "output" else f"{prefix}.{name}")
    elif isinstance(outputs, list | tuple):
        for index, value in enumerate(outputs):
            yield from named(value, f"{prefix}.{index}")


def by_path(state: Any) -> dict[str, jax.Array]:
    return {".".join(map(str, path)): variable[...] for path, variable in nnx.to_flat_state(state)}


if __name__ == "__main__":
    try:
        answer = main(Path(sys.argv[1]))
    except Exception as error:
        traceback.print_exc()
        message = (str(error).strip().splitlines() or [""])[0]
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.endswith("/model.py")]
        where = f" at {frames[-1].line}" if frames else ""
        answer = {"outcome": "jax failed", "reason": f"{type(error).__name__}: {message[:250]}{where}"}
    print(json.dumps(answer))
