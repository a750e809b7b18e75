"""The tools with which PyTorch finds mistakes, and a clean state to run a program in."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from twinax.probes.mistakes.base import Tool, within

LOGGERS = ("torch", "torch._dynamo")

ANOMALY = within("torch.autograd.detect_anomaly", torch.autograd.detect_anomaly)
GRAPH_BREAKS = within(
    "torch._dynamo.error_on_graph_break", functools.partial(torch._dynamo.error_on_graph_break, True)
)
RECOMPILES = within(
    "torch._dynamo.config.error_on_recompile",
    functools.partial(torch._dynamo.config.patch, error_on_recompile=True),
)

TOOLS: Mapping[str, Tool] = {
    "in-place on what backward needs": ANOMALY,
    "where after the log": ANOMALY,
    "square root of zero": ANOMALY,
    "Python if on a traced value": GRAPH_BREAKS,
    "shape from data": GRAPH_BREAKS,
    "compiled anew at every step": RECOMPILES,
}


@contextmanager
def clean() -> Iterator[None]:
    """PyTorch as it is after import, whatever ran before; put back as it was."""
    dtype, always = torch.get_default_dtype(), torch.is_warn_always_enabled()
    torch.set_default_dtype(torch.float32)
    torch.set_warn_always(True)  # what is said once per process would be heard once per process
    torch.compiler.reset()
    try:
        with torch.random.fork_rng(devices=()), torch.enable_grad():
            torch.manual_seed(0)
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_warn_always(always)
        torch.compiler.reset()


def fetched(value: Any) -> np.ndarray:
    """What a program returned, in NumPy."""
    return value.detach().numpy().copy() if isinstance(value, torch.Tensor) else np.array(value)
