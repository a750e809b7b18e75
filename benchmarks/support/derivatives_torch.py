"""Derivatives by the tape, as lean as PyTorch lets one write them."""

from __future__ import annotations

import torch
from torch.func import jvp

from twinax.twin import Arrays


def gradient(given: Arrays):
    x, w = torch.tensor(given["x"]), torch.tensor(given["w"])

    def call():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(torch.sin(w @ leaf), leaf)[0]

    return call


def vector_jacobian(given: Arrays):
    x, w, v = (torch.tensor(given[name]) for name in ("x", "W", "v"))

    def call():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(torch.tanh(w @ leaf), leaf, v)[0]

    return call


def jacobian_vector(given: Arrays):
    x, w, v = (torch.tensor(given[name]) for name in ("x", "W", "v"))
    return lambda: jvp(lambda x: torch.tanh(w @ x), (x,), (v,))[1]


def hessian_vector(given: Arrays):
    x, w, v = (torch.tensor(given[name]) for name in ("x", "w", "v"))

    def call():
        leaf = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(torch.sin(w @ leaf), leaf, create_graph=True)
        return torch.autograd.grad(slope, leaf, v)[0]

    return call


def through_a_loop(given: Arrays):
    from twinax.probes.derivatives.reference import STEPS, H

    x = torch.tensor(given["x"])

    def call():
        leaf = y = x.detach().requires_grad_()
        for _ in range(STEPS):
            y = y + H * torch.sin(y)
        return torch.autograd.grad(y.sum(), leaf)[0]

    return call


BARE = {
    "gradient": gradient,
    "jvp": jacobian_vector,
    "vjp": vector_jacobian,
    "hessian_vector_product_reverse": hessian_vector,
    "through_a_loop": through_a_loop,
}
