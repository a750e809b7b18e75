"""One way to run a zoo twin in JAX: the twin's own JAX side, the port of its torch side, or torchax."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from twinax.frameworks.base import Phases, Prepared
from twinax.frameworks.make import make_runner
from twinax.records import Json
from twinax.sources import resolve
from twinax.studies import speed_verbs
from twinax.studies.base import Context
from twinax.twin import Arrays, Twin


def port(context: Context, *, folder: str) -> dict[str, Json]:
    """In a torch worker: port the twin's torch side into a folder."""
    import torch
    from safetensors.numpy import save_file

    from twinax.port.torch_to_jax import convert

    twin = resolve(context.cell.twin)
    module = twin.code("torch").build(twin.config)
    batch = twin.batches(twin.config, context.cell.size, 0, 1)[0]
    begin = time.perf_counter()
    ported = convert(module, {name: torch.from_numpy(batch[name]) for name in twin.inputs})
    seconds = time.perf_counter() - begin
    Path(folder, "model.py").write_text(ported.source)
    for name, arrays in (("weights", ported.weights), ("constants", ported.constants)):
        save_file(dict(arrays), Path(folder, f"{name}.safetensors"))
    return {"seconds": seconds, "lines": ported.source.count("\n")}


def prepare_port(context: Context, *, program: str, folder: str) -> dict[str, Json]:
    """Get the way that the cell's mode names ready to be timed; ``missing`` says why it is not."""
    cell, twin = context.cell, resolve(context.cell.twin)
    batches = twin.batches(twin.config, cell.size, 0, speed_verbs.BATCHES)
    weights = twin.init(twin.config, 0)
    if cell.mode == "torchax":
        try:
            call = _torchax(twin, weights, batches, program)
        except ImportError as error:
            return {"missing": f"{type(error).__name__}: {error}".splitlines()[0]}
        call(0)
        prepared = Prepared(call, Phases(0.0, 0.0, 0.0), {})
    else:
        prepared = _runner(context, twin, weights, folder).prepare(program, batches, dropout=False)
    begin = time.perf_counter()
    prepared.call(1)
    context.memory[program] = prepared
    return {"iteration_s": time.perf_counter() - begin}


def _runner(context: Context, twin: Twin, weights: Arrays, folder: str) -> Any:
    if context.cell.mode == "zoo":
        return make_runner(context.cell, twin, weights)
    from twinax.frameworks.jax_backend import JaxRunner

    module = _ported(folder)
    code = SimpleNamespace(build=lambda config: module.build(), loss=twin.code("jax").loss)
    return JaxRunner(code, twin.config, weights, twin.inputs, mode="jit")


def _ported(folder: str) -> Any:
    path = Path(folder, "model.py")
    spec = importlib.util.spec_from_file_location("ported_model", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _torchax(twin: Twin, weights: Arrays, batches: list[Arrays], program: str) -> Callable[[int], None]:
    """The torch side through torchax, its parameters differentiated; dropout off, batch statistics not kept."""
    sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != "OneFramework"]  # it needs both
    import jax
    import jax.numpy as jnp
    import torch
    import torchax

    module = twin.code("torch").build(twin.config).train(program == "grad")
    for layer in module.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    module.load_state_dict({n: torch.from_numpy(np.array(a)) for n, a in weights.items()}, strict=False)
    trainable = {name for name, _ in module.named_parameters()}
    state, function = torchax.extract_jax(module)
    params = {n: a for n, a in state.items() if n in trainable}
    rest = {n: a for n, a in state.items() if n not in trainable}
    loss = twin.code("jax").loss
    data = [{name: jnp.asarray(array) for name, array in batch.items()} for batch in batches]

    def forward(params: Any, batch: Any) -> Any:
        return function({**params, **rest}, tuple(batch[name] for name in twin.inputs))

    def objective(params: Any, batch: Any) -> Any:
        return loss(forward(params, batch), batch)

    run = jax.jit(forward if program == "forward" else jax.value_and_grad(objective))

    def call(i: int) -> None:
        jax.block_until_ready(run(params, data[i % len(data)]))

    return call


VERBS = {**speed_verbs.VERBS, "port": port, "prepare_port": prepare_port}
