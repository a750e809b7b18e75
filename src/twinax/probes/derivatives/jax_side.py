"""The tasks in JAX: transforms of functions, composed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array as JaxArray
from jax import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from jax.lax import stop_gradient

from twinax.probes.derivatives.reference import STEPS, H
from twinax.twin import Array, Arrays

Data = Mapping[str, JaxArray]


def run(task: Callable[[Data], JaxArray], inputs: Arrays) -> tuple[Array, Callable[[], None]]:
    """A task's answer, and a call that computes it again."""
    data = Noted({name: jnp.asarray(array) for name, array in inputs.items()})
    jax.eval_shape(lambda: task(data))
    # only what a task reads, and no dictionary around it: taking that apart takes as long as small tasks do
    names, used = tuple(data.read), tuple(data[name] for name in data.read)
    compiled = jax.jit(lambda *arrays: task(dict(zip(names, arrays, strict=True))))
    return np.asarray(compiled(*used)), lambda: (jax.block_until_ready(compiled(*used)), None)[1]


class Noted(dict[str, JaxArray]):
    """A dictionary that notes what is read from it."""

    def __init__(self, items: Mapping[str, JaxArray]) -> None:
        super().__init__(items)
        self.read: dict[str, None] = {}

    def __getitem__(self, name: str) -> JaxArray:
        self.read[name] = None
        return super().__getitem__(name)


def f(x: JaxArray, w: JaxArray) -> JaxArray:
    return jnp.sin(w @ x)


def vector(x: JaxArray, matrix: JaxArray) -> JaxArray:
    return jnp.tanh(matrix @ x)


def loss(theta: JaxArray, x: JaxArray, y: JaxArray) -> JaxArray:
    return (theta @ x - y) ** 2


def gradient_penalty(d: Data) -> JaxArray:
    def penalty(theta: JaxArray) -> JaxArray:
        inner = grad(f)(d["x"], theta)
        return inner @ inner

    return grad(penalty)(d["theta"])


def third_derivative(d: Data) -> JaxArray:
    def along(t: JaxArray) -> JaxArray:
        return f(d["x"] + t * d["v"], d["w"])

    return grad(grad(grad(along)))(0.0)


def loop(x: JaxArray) -> JaxArray:
    return jax.lax.scan(lambda x, _: (x + H * jnp.sin(x), None), x, length=STEPS)[0].sum()


@jax.custom_vjp
def solve(a: JaxArray) -> JaxArray:
    """z = cos(z) / 2 + a; the implicit function theorem gives the derivative."""
    return jax.lax.fori_loop(0, 200, lambda _, z: 0.5 * jnp.cos(z) + a, a)


def _solve_forward(a: JaxArray) -> tuple[JaxArray, JaxArray]:
    z = solve(a)
    return z, z


def _solve_backward(z: JaxArray, cotangent: JaxArray) -> tuple[JaxArray]:
    return (cotangent / (1 + 0.5 * jnp.sin(z)),)


solve.defvjp(_solve_forward, _solve_backward)


def ode(k: JaxArray) -> JaxArray:
    def step(y: JaxArray, _: Any) -> tuple[JaxArray, None]:
        k1 = -k * y
        k2 = -k * (y + H / 2 * k1)
        k3 = -k * (y + H / 2 * k2)
        k4 = -k * (y + H * k3)
        return y + H / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

    return jax.lax.scan(step, jnp.ones_like(k), length=STEPS)[0]


@jax.custom_vjp
def softplus(x: JaxArray) -> JaxArray:
    """log(1 + eˣ) with the derivative written down, which does not overflow."""
    return jnp.log1p(jnp.exp(x))


softplus.defvjp(lambda x: (softplus(x), x), lambda x, cotangent: (cotangent * jax.nn.sigmoid(x),))


def straight_through(x: JaxArray, v: JaxArray) -> JaxArray:
    return (x + stop_gradient(jnp.round(x) - x)) @ v


def complex_step(d: Data) -> JaxArray:
    h = 1e-100
    return f(d["x"] + 1j * h * d["v"], d["w"]).imag / h


TASKS: Mapping[str, Callable[[Data], JaxArray]] = {
    "gradient": lambda d: grad(f)(d["x"], d["w"]),
    "jvp": lambda d: jvp(lambda x: vector(x, d["W"]), (d["x"],), (d["v"],))[1],
    "vjp": lambda d: vjp(lambda x: vector(x, d["W"]), d["x"])[1](d["v"])[0],
    "jacobian_forward": lambda d: jacfwd(vector)(d["x"], d["W"]),
    "jacobian_reverse": lambda d: jacrev(vector)(d["x"], d["W"]),
    "hessian": lambda d: hessian(f)(d["x"], d["w"]),
    "hessian_vector_product": lambda d: jvp(lambda x: grad(f)(x, d["w"]), (d["x"],), (d["v"],))[1],
    "hessian_vector_product_reverse": lambda d: grad(lambda x: grad(f)(x, d["w"]) @ d["v"])(d["x"]),
    "per_sample_gradients": lambda d: vmap(grad(loss), (None, 0, 0))(d["theta"], d["X"], d["y"]),
    "gradient_penalty": gradient_penalty,
    "third_derivative": third_derivative,
    "through_a_loop": lambda d: grad(loop)(d["x"]),
    "through_a_fixed_point": lambda d: grad(solve)(d["a"]),
    "through_an_ode": lambda d: grad(ode)(d["a"]),
    "custom_rule": lambda d: grad(lambda x: softplus(x).sum())(d["x"]),
    "rematerialised": lambda d: vjp(jax.checkpoint(lambda x: vector(x, d["W"])), d["x"])[1](d["v"])[0],
    "stop_gradient": lambda d: grad(lambda x: x @ stop_gradient(x))(d["x"]),
    "straight_through": lambda d: grad(straight_through)(d["x"], d["v"]),
    "complex_step": complex_step,
}
