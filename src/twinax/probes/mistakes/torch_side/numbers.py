"""Mistakes with number types, overflow and NaN, in PyTorch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from twinax.probes.mistakes.base import FINE, PIXELS, WEIGHTS, X


def integer_input(mistake: bool) -> Tensor:
    x = torch.tensor([1, 2, 3] if mistake else [1.0, 2.0, 3.0])
    return x @ torch.tensor(WEIGHTS)


def gradient_by_an_integer(mistake: bool) -> Tensor:
    x = torch.tensor([1, 2, 3] if mistake else [1.0, 2.0, 3.0], requires_grad=True)
    (x**2).sum().backward()
    assert x.grad is not None
    return x.grad


def log_of_zero(mistake: bool) -> Tensor:
    p = torch.tensor([0.0, 0.25, 0.75])
    return -(p * p.log() if mistake else torch.xlogy(p, p)).sum()


def where_after_log(mistake: bool) -> Tensor:
    x = torch.tensor([0.0, 1.0, 4.0], requires_grad=True)
    safe = x if mistake else torch.where(x > 0, x, torch.ones(()))
    torch.where(x > 0, safe.log(), torch.zeros(())).sum().backward()
    assert x.grad is not None
    return x.grad


def root_of_zero(mistake: bool) -> Tensor:
    x = torch.zeros(3, requires_grad=True)
    ((x**2).sum().sqrt() if mistake else torch.linalg.vector_norm(x)).backward()
    assert x.grad is not None
    return x.grad


def float64_cut(mistake: bool) -> Tensor:
    x = torch.Tensor(FINE) if mistake else torch.tensor(FINE)
    return x - 1


def float64_meets_float32(mistake: bool) -> Tensor:
    x = torch.from_numpy(np.asarray(X, dtype=np.float64 if mistake else np.float32))
    return x @ torch.tensor(WEIGHTS)


def integer_overflow(mistake: bool) -> Tensor:
    counts = torch.tensor([2**31 - 1, 1], dtype=torch.int32 if mistake else torch.int64)
    return counts[0] + counts[1]


def bytes_subtracted(mistake: bool) -> Tensor:
    a, b = torch.tensor(PIXELS[0]), torch.tensor(PIXELS[1])
    return a - b if mistake else a.int() - b.int()


def half_overflow(mistake: bool) -> Tensor:
    x = torch.full((4,), 300.0, dtype=torch.float16)
    return ((x if mistake else x.float()) ** 2).mean().sqrt()


def fraction_into_integers(mistake: bool) -> Tensor:
    x = torch.zeros(3, dtype=torch.int32 if mistake else torch.float32)
    x[0] = 0.75
    return x


PROGRAMS = {
    "integer input": integer_input,
    "gradient by an integer": gradient_by_an_integer,
    "log of zero": log_of_zero,
    "where after the log": where_after_log,
    "square root of zero": root_of_zero,
    "float64 cut": float64_cut,
    "float64 data meets float32 weights": float64_meets_float32,
    "integer overflow": integer_overflow,
    "bytes subtracted": bytes_subtracted,
    "overflow in half precision": half_overflow,
    "a fraction written into integers": fraction_into_integers,
}
CANNOT = {
    "float64 asked for by name": "float64 is on: a tensor asked for in it is in it",
}
