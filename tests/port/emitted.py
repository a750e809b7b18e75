"""Ports of small modules, loaded and compared with torch."""

from __future__ import annotations

import copy
import importlib.util
import sys

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from safetensors.numpy import save_file
from torch import nn

from twinax.port.torch_to_jax import convert


def example(shapes, seed=0):
    random = np.random.default_rng(seed)
    return {
        name: torch.from_numpy(random.integers(0, 11, shape)) if name == "ids"
        else torch.from_numpy(random.standard_normal(shape).astype(np.float32))
        for name, shape in shapes.items()
    }  # fmt: skip


def load(ported, folder):
    (folder / "model.py").write_text(ported.source)
    save_file(ported.weights, folder / "weights.safetensors")
    if ported.constants:
        save_file(ported.constants, folder / "constants.safetensors")
    spec = importlib.util.spec_from_file_location(f"ported_{folder.name}", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def leaves(outputs):
    return (
        list(outputs.values())
        if isinstance(outputs, dict)
        else outputs
        if isinstance(outputs, tuple)
        else [outputs]
    )


def perturbed(module):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in module.named_buffers():
            if "running" in name:
                buffer.add_(0.5 * torch.rand_like(buffer))
    return module


def agrees(module, inputs, folder, *, train):
    """Outputs, gradients and running statistics, without dropout, in float64."""
    with jax.enable_x64(True):
        ported = convert(module, inputs)
        model = load(ported, folder).load(folder / "weights.safetensors")
        wide = copy.deepcopy(module).double().train(train)
        for layer in wide.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
            if isinstance(layer, nn.MultiheadAttention | nn.LSTM):
                layer.dropout = 0.0
        inputs = {n: t.double() if t.is_floating_point() else t for n, t in inputs.items()}
        expected = leaves(wide(**inputs))
        sum((v * v.detach().cos()).sum() for v in expected).backward()
        model.train() if train else model.eval()
        for _, layer in nnx.iter_modules(model):
            if isinstance(layer, nnx.Dropout):
                layer.deterministic = True
        graph, params, rest = nnx.split(model, nnx.Param, ...)
        params, rest = (jax.tree.map(widened, tree) for tree in (params, rest))
        cotangents = [jnp.cos(v.detach().numpy()) for v in expected]

        def objective(params):
            merged = nnx.merge(graph, params, rest, copy=True)
            got = leaves(merged(**{n: jnp.asarray(t.numpy()) for n, t in inputs.items()}))
            return sum((v * c).sum() for v, c in zip(got, cotangents, strict=True)), (got, nnx.state(merged))

        (_, (got, state)), grads = jax.jit(jax.value_and_grad(objective, has_aux=True))(params)
        for there, here in zip(expected, got, strict=True):
            np.testing.assert_allclose(here, there.detach(), rtol=1e-12, atol=1e-12)
        named = {".".join(map(str, path)): value[...] for path, value in nnx.to_flat_state(grads)}
        for path, parameter in wide.named_parameters():
            wanted = np.zeros(parameter.shape) if parameter.grad is None else parameter.grad
            np.testing.assert_allclose(named.pop(path), wanted, rtol=1e-9, atol=1e-12, err_msg=path)
        assert not named
        held = {".".join(map(str, path)): value[...] for path, value in nnx.to_flat_state(state)}
        for path, buffer in wide.named_buffers():
            if "running" in path:
                np.testing.assert_allclose(held[path], buffer, rtol=1e-12, err_msg=path)


def widened(array):
    return array.astype(jnp.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array
