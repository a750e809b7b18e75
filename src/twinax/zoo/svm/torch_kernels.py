"""Kernels in PyTorch, and the kernel matrix of the training examples."""

from __future__ import annotations

import torch
from torch import Tensor

from twinax.zoo.svm.problem import Config


def kernel(c: Config, gamma: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """K(a, b): (m, d), (n, d) -> (m, n).

    linear: a·b; rbf: exp(−γ ‖a − b‖²); poly: (γ a·b + r)^degree; sigmoid: tanh(γ a·b + r).
    """
    products = a @ b.T  # (m, n)
    if c.kernel == "linear":
        return products
    if c.kernel == "rbf":  # ‖a − b‖² = ‖a‖² + ‖b‖² − 2 a·b; in place: one matrix in memory, not five
        squares = products.mul_(-2.0).add_((a * a).sum(1)[:, None]).add_((b * b).sum(1))
        return squares.mul_(-gamma).exp_()
    scaled = gamma * products + c.coef0
    return scaled**c.degree if c.kernel == "poly" else torch.tanh(scaled)


class Gram:
    """K of the training examples: as a matrix where it fits the budget, else row by row."""

    def __init__(self, c: Config, gamma: Tensor, features: Tensor) -> None:
        """``features``: (n, d)."""
        self.c, self.gamma, self.features = c, gamma, features
        n, bytes_ = len(features), features.element_size()
        # the matrix, and one more of its size while it is made
        self.matrix = self.block(features) if 2 * n * n * bytes_ <= c.budget_mib * 2**20 else None
        self.rows = max(1, int(c.budget_mib * 2**20 / (2 * n * bytes_)))  # that fit at a time
        self.diagonal = torch.cat([torch.diagonal(kernel(c, gamma, x, x)) for x in features.split(16)])  # (n,)

    def block(self, some: Tensor) -> Tensor:
        """K between some points (m, d) and the training examples: (m, n)."""
        return kernel(self.c, self.gamma, some, self.features)

    def row(self, i: int) -> Tensor:
        """Row i of K: (n,)."""
        return self.block(self.features[i : i + 1])[0] if self.matrix is None else self.matrix[i]

    def times(self, beta: Tensor) -> Tensor:
        """K β: (n,) -> (n,)."""
        if self.matrix is not None:
            return self.matrix @ beta
        return torch.cat([self.block(some) @ beta for some in self.features.split(self.rows)])
