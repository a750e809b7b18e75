"""Derivatives of a model's loss beyond the gradient, in PyTorch's own ways.

Imports torch: only torch workers import this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from twinax.frameworks.base import Derivative, direction, example_weights, outermost_blocks
from twinax.twin import Arrays

Named = dict[str, Tensor]
Objective = Callable[[Named, Named], Tensor]
"""``objective(parameters, data) -> loss``; the model's buffers and mode are as they are."""


def make(
    kind: str, model: nn.Module, objective: Objective, data: Named, host: Callable[[Tensor], Any]
) -> Derivative:
    """One of ``DERIVATIVES``; ``host`` moves a tensor to NumPy."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    arrays = partial(_arrays, host)
    match kind:
        case "loss":
            return Derivative(torch.no_grad()(lambda: objective(parameters, data)), lambda _: {})
        case "gradient":
            return Derivative(lambda: _gradient(objective, parameters, data), arrays)
        case "rematerialised":
            return Derivative(_rematerialised(model, objective, parameters, data), arrays)
        case "hvp":
            v = {n: torch.from_numpy(a).to(parameters[n]) for n, a in direction(_shapes(parameters)).items()}
            return _hessian_vector(objective, parameters, data, v, arrays)
        case "per_sample_loop":
            single = [{name: a[i : i + 1] for name, a in data.items()} for i in range(_count(data))]
            return Derivative(
                lambda: _stacked([_gradient(objective, parameters, one) for one in single]),
                lambda found: arrays(_weighted(found)),
            )
        case "per_sample":
            return Derivative(
                lambda: _per_sample(objective, parameters, data), lambda found: arrays(_weighted(found))
            )
    raise ValueError(f"no derivative {kind!r}")


def _gradient(objective: Objective, parameters: Named, data: Named) -> Named:
    leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
    loss = objective(leaves, data)
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(leaves.items(), found, strict=True)}


def _hessian_vector(
    objective: Objective, parameters: Named, data: Named, v: Named, arrays: Callable[[Named], Arrays]
) -> Derivative:
    """H v as the derivative of the gradient along v; where an operation lacks forward mode, ∇(∇L · v)."""

    def forward_over_reverse() -> Named:
        gradient = torch.func.grad(lambda p: objective(p, data))
        return torch.func.jvp(gradient, (parameters,), (v,))[1]

    def reverse_over_reverse() -> Named:
        leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
        values = list(leaves.values())
        found = torch.autograd.grad(objective(leaves, data), values, create_graph=True, allow_unused=True)
        along = sum((g * v[n]).sum() for n, g in zip(leaves, found, strict=True) if g is not None)
        assert isinstance(along, Tensor)
        twice = torch.autograd.grad(along, values, allow_unused=True)
        pairs = zip(leaves.items(), twice, strict=True)
        return {n: torch.zeros_like(p) if g is None else g for (n, p), g in pairs}

    try:
        forward_over_reverse()
    except (NotImplementedError, RuntimeError) as error:
        missing = str(error).splitlines()[0][:200]
        return Derivative(reverse_over_reverse, arrays, f"reverse over reverse, since: {missing}")
    return Derivative(forward_over_reverse, arrays, "forward over reverse")


def _per_sample(objective: Objective, parameters: Named, data: Named) -> Named:
    def one(parameters: Named, example: Named) -> Tensor:
        return objective(parameters, {name: a.unsqueeze(0) for name, a in example.items()})

    return torch.func.vmap(torch.func.grad(one), in_dims=(None, 0))(parameters, data)


def _rematerialised(
    model: nn.Module, objective: Objective, parameters: Named, data: Named
) -> Callable[[], Named]:
    """The gradient with each block's activations computed again in the backward pass."""
    blocks = [model.get_submodule(path) for path in outermost_blocks(n for n, _ in model.named_modules())]
    if not blocks:
        raise NotImplementedError("the model has no repeated blocks to rematerialise")

    def call() -> Named:
        for block in blocks:
            block.forward = partial(checkpoint, type(block).forward.__get__(block), use_reentrant=False)
        try:
            return _gradient(objective, parameters, data)
        finally:
            for block in blocks:
                del block.forward

    return call


def _stacked(found: list[Named]) -> Named:
    return {name: torch.stack([one[name] for one in found]) for name in found[0]}


def _weighted(found: Named) -> Named:
    count = _count(found)
    return {n: torch.tensordot(torch.as_tensor(example_weights(count)).to(g), g, 1) for n, g in found.items()}


def _count(data: Mapping[str, Tensor]) -> int:
    return len(next(iter(data.values())))


def _shapes(parameters: Named) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in parameters.items()}


def _arrays(host: Callable[[Tensor], Any], found: Named) -> Arrays:
    return {name: host(value) for name, value in found.items()}
