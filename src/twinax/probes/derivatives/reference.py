"""The tasks' inputs, and their answers from closed forms. NumPy, float64.

The functions behind the tasks::

    f(x) = sin(w · x)                 gradient w cos(w · x), Hessian −w wᵀ sin(w · x)
    F(x) = tanh(W x)                  Jacobian diag(1 − tanh²(W x)) W
    ℓᵢ(θ) = (θ · xᵢ − yᵢ)²            gradient 2 (θ · xᵢ − yᵢ) xᵢ
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from twinax.twin import Array, Arrays

STEPS, H = 20, 0.05  # of the loop, and of the Runge-Kutta method


def inputs(seed: int, size: int = 6) -> Arrays:
    """What every task takes what it needs from."""
    draw = np.random.default_rng([seed, 0xAD])
    return {
        "x": draw.standard_normal(size),
        "v": draw.standard_normal(size),
        "w": draw.standard_normal(size),
        "W": draw.standard_normal((size, size)) / np.sqrt(size),
        "theta": draw.standard_normal(size),
        "X": draw.standard_normal((8, size)),
        "y": draw.standard_normal(8),
        "a": np.asarray(draw.uniform(0.2, 0.8)),
    }


def _jacobian(d: Arrays) -> Array:
    return (1 - np.tanh(d["W"] @ d["x"]) ** 2)[:, None] * d["W"]


def _gradient_penalty(d: Arrays) -> Array:
    # ‖∇ₓ sin(θ · x)‖² = |θ|² cos²(θ · x)
    theta, x = d["theta"], d["x"]
    cosine, sine = np.cos(theta @ x), np.sin(theta @ x)
    return 2 * theta * cosine**2 - 2 * (theta @ theta) * cosine * sine * x


def _loop(d: Arrays) -> Array:
    # xₜ₊₁ = xₜ + h sin xₜ
    x, slope = d["x"], np.ones_like(d["x"])
    for _ in range(STEPS):
        slope, x = slope * (1 + H * np.cos(x)), x + H * np.sin(x)
    return slope


def _fixed_point(d: Arrays) -> Array:
    # z = cos(z) / 2 + a, so dz/da = 1 / (1 + sin(z) / 2)
    z = d["a"]
    for _ in range(200):
        z = 0.5 * np.cos(z) + d["a"]
    return np.asarray(1 / (1 + 0.5 * np.sin(z)))


def _ode(d: Arrays) -> Array:
    # y' = −k y, y(0) = 1, by Runge and Kutta: y = R(−k h)ⁿ with R(z) = 1 + z + z²/2 + z³/6 + z⁴/24
    z = -d["a"] * H
    r, slope = 1 + z + z**2 / 2 + z**3 / 6 + z**4 / 24, 1 + z + z**2 / 2 + z**3 / 6
    return np.asarray(STEPS * r ** (STEPS - 1) * slope * -H)


REFERENCE: Mapping[str, Callable[[Arrays], Array]] = {
    "gradient": lambda d: d["w"] * np.cos(d["w"] @ d["x"]),
    "jvp": lambda d: _jacobian(d) @ d["v"],
    "vjp": lambda d: d["v"] @ _jacobian(d),
    "jacobian_forward": _jacobian,
    "jacobian_reverse": _jacobian,
    "hessian": lambda d: -np.outer(d["w"], d["w"]) * np.sin(d["w"] @ d["x"]),
    "hessian_vector_product": lambda d: -d["w"] * (d["w"] @ d["v"]) * np.sin(d["w"] @ d["x"]),
    "hessian_vector_product_reverse": lambda d: -d["w"] * (d["w"] @ d["v"]) * np.sin(d["w"] @ d["x"]),
    "per_sample_gradients": lambda d: 2 * (d["X"] @ d["theta"] - d["y"])[:, None] * d["X"],
    "gradient_penalty": _gradient_penalty,
    "third_derivative": lambda d: np.asarray(-((d["w"] @ d["v"]) ** 3) * np.cos(d["w"] @ d["x"])),
    "through_a_loop": _loop,
    "through_a_fixed_point": _fixed_point,
    "through_an_ode": _ode,
    "custom_rule": lambda d: 1 / (1 + np.exp(-d["x"])),
    "rematerialised": lambda d: d["v"] @ _jacobian(d),
    "stop_gradient": lambda d: d["x"],
    "straight_through": lambda d: d["v"],
    "complex_step": lambda d: np.asarray((d["w"] @ d["v"]) * np.cos(d["w"] @ d["x"])),
}
