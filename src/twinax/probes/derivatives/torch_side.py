"""The tasks in PyTorch: ``torch.func`` where it has the transform, autograd where it has not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap
from torch.utils.checkpoint import checkpoint

from twinax.probes.derivatives.reference import STEPS, H
from twinax.twin import Array, Arrays

Data = Mapping[str, Tensor]


def run(task: Callable[[Data], Tensor], inputs: Arrays) -> tuple[Array, Callable[[], None]]:
    """A task's answer, and a call that computes it again."""
    data = {name: torch.tensor(array) for name, array in inputs.items()}
    return task(data).detach().numpy(), lambda: (task(data), None)[1]


def f(x: Tensor, w: Tensor) -> Tensor:
    return torch.sin(w @ x)


def vector(x: Tensor, matrix: Tensor) -> Tensor:
    return torch.tanh(matrix @ x)


def loss(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return (theta @ x - y) ** 2


# The tape: for a single derivative it costs a third of what the transforms of torch.func do.


def gradient(d: Data) -> Tensor:
    x = d["x"].detach().requires_grad_()
    return torch.autograd.grad(f(x, d["w"]), x)[0]


def vector_jacobian(d: Data) -> Tensor:
    x = d["x"].detach().requires_grad_()
    return torch.autograd.grad(vector(x, d["W"]), x, d["v"])[0]


def reverse_over_reverse(d: Data) -> Tensor:
    x = d["x"].detach().requires_grad_()
    (slope,) = torch.autograd.grad(f(x, d["w"]), x, create_graph=True)
    return torch.autograd.grad(slope, x, d["v"])[0]


def through_a_loop(d: Data) -> Tensor:
    x = d["x"].detach().requires_grad_()
    return torch.autograd.grad(loop(x), x)[0]


def gradient_penalty(d: Data) -> Tensor:
    theta = d["theta"].clone().requires_grad_()
    x = d["x"].clone().requires_grad_()
    (inner,) = torch.autograd.grad(f(x, theta), x, create_graph=True)
    return torch.autograd.grad(inner @ inner, theta)[0]


def third_derivative(d: Data) -> Tensor:
    def along(t: Tensor) -> Tensor:
        return f(d["x"] + t * d["v"], d["w"])

    return grad(grad(grad(along)))(torch.zeros((), dtype=d["x"].dtype))


def loop(x: Tensor) -> Tensor:
    for _ in range(STEPS):
        x = x + H * torch.sin(x)
    return x.sum()


class FixedPoint(torch.autograd.Function):
    """z = cos(z) / 2 + a; the implicit function theorem gives the derivative."""

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        z = a.clone()
        for _ in range(200):
            z = 0.5 * torch.cos(z) + a
        ctx.save_for_backward(z)
        return z

    @staticmethod
    def backward(ctx: Any, *cotangent: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return cotangent[0] / (1 + 0.5 * torch.sin(z))


def fixed_point(d: Data) -> Tensor:
    a = d["a"].clone().requires_grad_()
    return torch.autograd.grad(FixedPoint.apply(a), a)[0]


def ode(k: Tensor) -> Tensor:
    y = torch.ones_like(k)
    for _ in range(STEPS):
        k1 = -k * y
        k2 = -k * (y + H / 2 * k1)
        k3 = -k * (y + H / 2 * k2)
        k4 = -k * (y + H * k3)
        y = y + H / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y


class Softplus(torch.autograd.Function):
    """log(1 + eˣ) with the derivative written down, which does not overflow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.log1p(torch.exp(x))

    @staticmethod
    def backward(ctx: Any, *cotangent: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return cotangent[0] * torch.sigmoid(x)


def custom_rule(d: Data) -> Tensor:
    x = d["x"].clone().requires_grad_()
    return torch.autograd.grad(Softplus.apply(x).sum(), x)[0]


def rematerialised(d: Data) -> Tensor:
    x = d["x"].clone().requires_grad_()
    outputs = checkpoint(vector, x, d["W"], use_reentrant=False)
    return torch.autograd.grad(outputs, x, d["v"])[0]


def straight_through(x: Tensor, v: Tensor) -> Tensor:
    return (x + (torch.round(x) - x).detach()) @ v


def complex_step(d: Data) -> Tensor:
    h = 1e-100
    return f(torch.complex(d["x"], h * d["v"]), d["w"].to(torch.complex128)).imag / h


TASKS: Mapping[str, Callable[[Data], Tensor]] = {
    "gradient": gradient,
    "jvp": lambda d: jvp(lambda x: vector(x, d["W"]), (d["x"],), (d["v"],))[1],
    "vjp": vector_jacobian,
    "jacobian_forward": lambda d: jacfwd(vector)(d["x"], d["W"]),
    "jacobian_reverse": lambda d: jacrev(vector)(d["x"], d["W"]),
    "hessian": lambda d: hessian(f)(d["x"], d["w"]),
    "hessian_vector_product": lambda d: jvp(lambda x: grad(f)(x, d["w"]), (d["x"],), (d["v"],))[1],
    "hessian_vector_product_reverse": reverse_over_reverse,
    "per_sample_gradients": lambda d: vmap(grad(loss), (None, 0, 0))(d["theta"], d["X"], d["y"]),
    "gradient_penalty": gradient_penalty,
    "third_derivative": third_derivative,
    "through_a_loop": through_a_loop,
    "through_a_fixed_point": fixed_point,
    "through_an_ode": lambda d: grad(ode)(d["a"]),
    "custom_rule": custom_rule,
    "rematerialised": rematerialised,
    "stop_gradient": lambda d: grad(lambda x: x @ x.detach())(d["x"]),
    "straight_through": lambda d: grad(straight_through)(d["x"], d["v"]),
    "complex_step": complex_step,
}
