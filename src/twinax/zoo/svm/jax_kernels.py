"""Kernels in JAX, and the kernel matrix of the training examples."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from twinax.zoo.svm.problem import Config


class Kernel(NamedTuple):
    """What a kernel is but for γ: a compiled solver serves every γ, C and tolerance."""

    name: str
    degree: int
    coef0: float

    @classmethod
    def of(cls, c: Config) -> Kernel:
        """The configuration's."""
        return cls(c.kernel, c.degree, c.coef0)


def kernel(k: Kernel, gamma: Array, a: Array, b: Array) -> Array:
    """K(a, b): (m, d), (n, d) -> (m, n).

    linear: a·b; rbf: exp(−γ ‖a − b‖²); poly: (γ a·b + r)^degree; sigmoid: tanh(γ a·b + r).
    """
    products = a @ b.T  # (m, n)
    if k.name == "linear":
        return products
    if k.name == "rbf":  # ‖a − b‖² = ‖a‖² + ‖b‖² − 2 a·b
        squares = -2.0 * products + (a * a).sum(1)[:, None] + (b * b).sum(1)
        return jnp.exp(-gamma * squares)
    scaled = gamma * products + k.coef0
    return scaled**k.degree if k.name == "poly" else jnp.tanh(scaled)


class Gram(NamedTuple):
    """K of the training examples: as a matrix where it fits the budget, else row by row."""

    gamma: Array
    features: Array  # (n, d)
    diagonal: Array  # (n,)
    matrix: Array | None  # (n, n)

    @classmethod
    def of(cls, c: Config, gamma: Array, features: Array) -> Gram:
        """``features``: (n, d)."""
        k, n = Kernel.of(c), len(features)
        diagonal = jax.jit(jax.vmap(lambda x: kernel(k, gamma, x[None], x[None])[0, 0]))(features)
        # the matrix, and one more of its size while it is made
        fits = 2 * n * n * features.dtype.itemsize <= c.budget_mib * 2**20
        matrix = jax.jit(partial(kernel, k))(gamma, features, features) if fits else None
        return cls(gamma, features, diagonal, matrix)

    def row(self, k: Kernel, i: Array) -> Array:
        """Row i of K: (n,)."""
        if self.matrix is None:
            return kernel(k, self.gamma, self.features[i][None], self.features)[0]
        return self.matrix[i]

    def times(self, k: Kernel, beta: Array) -> Array:
        """K β: (n,) -> (n,)."""
        if self.matrix is None:
            return jax.lax.map(lambda x: kernel(k, self.gamma, x[None], self.features)[0] @ beta, self.features)
        return self.matrix @ beta
