"""Counting FLOPs with torch's own counter, and what it does not know."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

Shape = tuple[int, ...]


def _recurrent(x: Shape, weight_ih: Shape, weight_hh: Shape, *args: Any, **kwargs: Any) -> int:
    """Matrix products of a recurrent layer over (time, batch, inputs), forward."""
    time, batch, _ = x
    return 2 * time * batch * (weight_ih[0] * weight_ih[1] + weight_hh[0] * weight_hh[1])


def _recurrent_backward(*args: Any, **kwargs: Any) -> int:
    """Each product of the forward pass has two: for its inputs and for its weights."""
    return 2 * _recurrent(*args, **kwargs)


KERNELS = {
    torch.ops.aten.mkldnn_rnn_layer: _recurrent,
    torch.ops.aten.mkldnn_rnn_layer_backward: _recurrent_backward,
}
"""The kernel of an eager float32 LSTM on a CPU, which the counter takes for nothing."""


def flop_counter() -> FlopCounterMode:
    """A counter of the FLOPs of matrix products, convolutions and recurrent kernels."""
    return FlopCounterMode(display=False, custom_mapping=KERNELS)
