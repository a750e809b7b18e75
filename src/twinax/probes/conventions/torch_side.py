"""The functions in PyTorch, as a person would first write them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as nn

from twinax.twin import Array

xp = torch  # what the safe forms are written with


def value_and_gradient(function: Callable[[Tensor], Tensor], at: Array) -> tuple[Array, Array]:
    """The function's value, and the gradient of its sum."""
    x = torch.tensor(at, requires_grad=True)
    value = function(x)
    (gradient,) = torch.autograd.grad(value.sum(), x, allow_unused=True)
    gradient = torch.zeros_like(x) if gradient is None else gradient
    return value.detach().numpy(), gradient.numpy()


FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    # --- kinks
    "abs": torch.abs,
    "relu": torch.relu,
    "relu6": nn.relu6,
    "leaky_relu": nn.leaky_relu,
    "elu": nn.elu,
    "selu": nn.selu,
    "celu": nn.celu,
    "hard_tanh": nn.hardtanh,
    "hard_sigmoid": nn.hardsigmoid,
    "hard_swish": nn.hardswish,
    "clip": lambda x: torch.clamp(x, 0.0, 1.0),
    "sign": torch.sign,
    "floor": torch.floor,
    "round": torch.round,
    "trunc": torch.trunc,
    "remainder": lambda x: torch.remainder(x, 2.0),
    "huber": lambda x: nn.huber_loss(x, torch.zeros_like(x), reduction="none"),
    "l1_loss": lambda x: nn.l1_loss(x, torch.zeros_like(x)),
    "hinge": lambda x: torch.clamp(1.0 - x, min=0.0),
    "logaddexp_of_equal": lambda x: torch.logaddexp(x, x),
    # --- ties
    "maximum": lambda x: torch.maximum(x[0], x[1]),
    "minimum": lambda x: torch.minimum(x[0], x[1]),
    "max": torch.max,
    "min": torch.min,
    "amax": torch.amax,
    "max_along_axis": lambda x: torch.max(x, dim=1).values,
    "sort_then_first": lambda x: torch.sort(x).values[0],
    "median": torch.median,
    "top_k": lambda x: torch.topk(x, 1).values,
    "norm_infinity": lambda x: torch.linalg.vector_norm(x, float("inf")),
    "cumulative_maximum": lambda x: torch.cummax(x, dim=0).values,
    "max_pool": lambda x: nn.max_pool1d(x[None, None], 2),
    # --- singular points
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "log": torch.log,
    "log1p": torch.log1p,
    "zero_over_zero": lambda x: x / x,
    "x_log_x": lambda x: x * torch.log(x),
    "entropy": lambda x: torch.special.entr(x).sum(),
    "xlogy": lambda x: torch.xlogy(x[0], x[1]),
    "power_zero": lambda x: x**0.0,
    "power_half": lambda x: x**0.5,
    "zero_to_the_x": lambda x: torch.pow(0.0, x),
    "x_to_the_x": lambda x: x**x,
    "atan2": lambda x: torch.atan2(x[0], x[1]),
    "hypot": lambda x: torch.hypot(x[0], x[1]),
    "asin": torch.asin,
    "acos": torch.acos,
    "acosh": torch.acosh,
    "atanh": torch.atanh,
    "erfinv": torch.erfinv,
    "lgamma": torch.lgamma,
    "digamma": torch.digamma,
    "sinc": torch.sinc,
    "norm": torch.linalg.vector_norm,
    "norm_1": lambda x: torch.linalg.vector_norm(x, 1),
    "norm_3": lambda x: torch.linalg.vector_norm(x, 3),
    "unit_vector": lambda x: x / torch.linalg.vector_norm(x),
    "cosine_similarity": lambda x: nn.cosine_similarity(x, torch.ones_like(x), dim=0),
    "std_of_a_constant": torch.std,
    "std_of_one": torch.std,
    "product_with_a_zero": torch.prod,
    "product_with_two_zeros": torch.prod,
    "cumulative_product": lambda x: torch.cumprod(x, dim=0),
    "sqrt_behind_where": lambda x: torch.where(x > 0, torch.sqrt(x), 0.0),
    "determinant": torch.linalg.det,
    "inverse": torch.linalg.inv,
    "eigenvalues_of_equal": lambda x: torch.linalg.eigvalsh(x)[0],
    "eigenvectors_of_equal": lambda x: torch.linalg.eigh(x).eigenvectors.abs()[0],
    "singular_vectors_of_equal": lambda x: torch.linalg.svd(x).U.abs()[0],
    "cholesky": torch.linalg.cholesky,
    # --- infinite values
    "exp": torch.exp,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": nn.softplus,
    "gelu": nn.gelu,
    "silu": nn.silu,
    "softmax": lambda x: torch.softmax(x, dim=0)[0],
    "softmax_all_masked": lambda x: torch.softmax(x, dim=0)[0],
    "log_softmax": lambda x: torch.log_softmax(x, dim=0)[0],
    "logsumexp": lambda x: torch.logsumexp(x, dim=0),
    "logaddexp": lambda x: torch.logaddexp(x[0], x[1]),
    "nan_to_num": torch.nan_to_num,
    "clip_nan": lambda x: torch.clamp(x, 0.0, 1.0),
    "maximum_with_nan": lambda x: torch.maximum(x[0], x[1]),
    "mean_with_infinity": torch.mean,
    # --- nothing at all
    "sum_of_nothing": torch.sum,
    "mean_of_nothing": torch.mean,
    "max_of_nothing": torch.max,
    "product_of_nothing": torch.prod,
    "logsumexp_of_nothing": lambda x: torch.logsumexp(x, dim=0),
    "norm_of_nothing": torch.linalg.vector_norm,
    "std_of_nothing": torch.std,
}
