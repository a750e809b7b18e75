"""A stacked GRU in PyTorch, with the names of ``torch.nn.GRU``: the LSTM's layers and heads, another cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from twinax.zoo.lstm.torch_model import Config, Forecaster, Recurrent, loss

__all__ = ["build", "loss"]


class GRU(Recurrent):
    """Gated recurrent unit (Cho et al., arXiv:1406.1078), the reset gate after the product as in cuDNN.

    r, z = σ(W x + b + U h + d), n = tanh(W x + b + r (U h + d)), each gate with rows of its own;
    h ← (1 − z) n + z h.
    """

    gates = 3  # r, z, n

    def recur(self, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], self.hidden)
        if not torch.compiler.is_compiling() or torch.compiler.is_exporting():
            # the equations below in one call, as nn.GRU makes it; torch.compile sees the equations
            return torch.gru(x, h[None], (w_ih, w_hh, b_ih, b_hh), True, 1, 0.0, True, False, True)[0]
        # r and z: both biases at once; n: the hidden side's own stays with the reset gate
        (u_rz, u_n), (d_rz, d_n) = (w.split([2 * self.hidden, self.hidden]) for w in (w_hh, b_hh))
        projected = nn.functional.linear(x, w_ih, b_ih)  # (batch, time, 3 · hidden)
        states = []
        for gates in projected.unbind(1):
            rz, n = gates.split([2 * self.hidden, self.hidden], 1)
            r, z = torch.sigmoid(rz + torch.addmm(d_rz, h, u_rz.T)).chunk(2, 1)
            n = torch.tanh(n + r * torch.addmm(d_n, h, u_n.T))
            h = (1 - z) * n + z * h  # (batch, hidden)
            states.append(h)
        return torch.stack(states, 1)


def build(config: Mapping[str, Any]) -> nn.Module:
    """The forecaster that the configuration describes; its recurrent weights are zero until they are loaded."""
    c = Config(**{field.name: config[field.name] for field in fields(Config)})
    return Forecaster(GRU(c), c)
