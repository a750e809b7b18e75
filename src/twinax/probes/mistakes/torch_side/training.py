"""Mistakes in losses, gradients and steps, in PyTorch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from twinax.probes.mistakes.base import LABELS, LOGITS, TARGETS, WEIGHTS, X


def forgotten_zero_grad(mistake: bool) -> Tensor:
    w = torch.tensor(WEIGHTS, requires_grad=True)
    optimiser = torch.optim.SGD([w], lr=0.1)
    for _ in range(3):
        if not mistake:
            optimiser.zero_grad()
        (w**2).sum().backward()
        optimiser.step()
    return w


def forgotten_eval(mistake: bool) -> Tensor:
    model = nn.Sequential(nn.Dropout(0.5))
    if not mistake:
        model.eval()
    return model(torch.tensor(X))


def forgotten_detach(mistake: bool) -> Tensor:
    w = torch.tensor(WEIGHTS, requires_grad=True)
    target = 0.9 * w.flip(0)
    ((w - (target if mistake else target.detach())) ** 2).sum().backward()
    assert w.grad is not None
    return w.grad


def history_kept(mistake: bool) -> int:
    w = torch.tensor(WEIGHTS, requires_grad=True)
    total = torch.zeros(())
    for _ in range(4):
        loss = (w**2).sum()
        total = total + (loss if mistake else loss.detach())
    return _nodes(total.grad_fn)


def _nodes(node: object) -> int:
    """How many additions of losses the graph behind a sum still holds."""
    if node is None:
        return 0
    return 1 + sum(_nodes(before) for before, _ in getattr(node, "next_functions", ()))


def softmax_twice(mistake: bool) -> Tensor:
    logits = torch.tensor(LOGITS)
    scores = logits.softmax(1) if mistake else logits
    return functional.cross_entropy(scores, torch.tensor(LABELS))


def loss_on_logits(mistake: bool) -> Tensor:
    logits = torch.tensor(LOGITS[:, 0])
    return functional.binary_cross_entropy(logits if mistake else logits.sigmoid(), torch.tensor(TARGETS))


def wrong_reduction(mistake: bool) -> Tensor:
    logits = torch.tensor(LOGITS, requires_grad=True)
    functional.cross_entropy(logits, torch.tensor(LABELS), reduction="sum" if mistake else "mean").backward()
    assert logits.grad is not None
    return logits.grad


def same_numbers_twice(mistake: bool) -> int:
    torch.manual_seed(0)
    first = torch.rand(8)
    if mistake:
        torch.manual_seed(0)
    second = torch.rand(8)
    return int(torch.equal(first, second))


def in_place_on_a_leaf(mistake: bool) -> Tensor:
    w = torch.tensor(WEIGHTS, requires_grad=True)
    (w**2).sum().backward()
    assert w.grad is not None
    with torch.set_grad_enabled(mistake):
        w -= 0.1 * w.grad
    return w


def in_place_before_backward(mistake: bool) -> Tensor:
    w = torch.tensor(WEIGHTS, requires_grad=True)
    y = w.exp()
    z = y.mul_(2) if mistake else y.mul(2)
    z.sum().backward()
    assert w.grad is not None
    return w.grad


def optimiser_of_something_else(mistake: bool) -> Tensor:
    model = nn.Linear(3, 1, bias=False)
    early = torch.optim.SGD(model.parameters(), lr=0.1)
    model.weight = nn.Parameter(torch.tensor(WEIGHTS)[None])
    optimiser = early if mistake else torch.optim.SGD(model.parameters(), lr=0.1)
    (model.weight**2).sum().backward()
    optimiser.step()
    return model.weight[0]


def layers_in_a_list(mistake: bool) -> int:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers = [nn.Linear(2, 2), nn.Linear(2, 2)]
            self.layers = layers if mistake else nn.ModuleList(layers)

    return sum(p.numel() for p in Model().parameters())


def graph_used_twice(mistake: bool) -> Tensor:
    w = torch.tensor(WEIGHTS, requires_grad=True)
    loss = (w**2).sum()
    loss.backward(retain_graph=not mistake)
    loss.backward()
    assert w.grad is not None
    return w.grad


def gradient_of_a_vector(mistake: bool) -> Tensor:
    w = torch.tensor(WEIGHTS, requires_grad=True)
    losses = w**2
    (losses if mistake else losses.sum()).backward()
    assert w.grad is not None
    return w.grad


def schedule_before_step(mistake: bool) -> Tensor:
    w = torch.tensor(WEIGHTS, requires_grad=True)
    optimiser = torch.optim.SGD([w], lr=0.1)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, gamma=0.5)
    (w**2).sum().backward()
    if mistake:
        schedule.step()
    optimiser.step()
    if not mistake:
        schedule.step()
    return w


def weights_not_copied(mistake: bool) -> np.ndarray:
    model = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(WEIGHTS)[None])
    best = model.state_dict() if mistake else {k: v.clone() for k, v in model.state_dict().items()}
    with torch.no_grad():
        model.weight.mul_(0)
    return best["weight"][0].numpy()


PROGRAMS = {
    "forgotten zero_grad": forgotten_zero_grad,
    "forgotten eval": forgotten_eval,
    "forgotten detach": forgotten_detach,
    "history kept in a running total": history_kept,
    "softmax twice": softmax_twice,
    "probabilities' loss on logits": loss_on_logits,
    "wrong reduction": wrong_reduction,
    "the same random numbers twice": same_numbers_twice,
    "in-place step on a parameter": in_place_on_a_leaf,
    "in-place on what backward needs": in_place_before_backward,
    "the optimiser steps something else": optimiser_of_something_else,
    "layers in a plain list": layers_in_a_list,
    "the same graph used twice": graph_used_twice,
    "gradient of a vector": gradient_of_a_vector,
    "schedule stepped before the optimiser": schedule_before_step,
    "best weights kept without a copy": weights_not_copied,
}
CANNOT: dict[str, str] = {}
