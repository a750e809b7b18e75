"""A stacked LSTM in PyTorch, with the names of ``torch.nn.LSTM``, and a forecaster on top of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """``features`` in, ``horizon`` steps of each forecast out; ``dropout`` is between the layers."""

    features: int
    hidden: int
    layers: int
    bidirectional: bool
    dropout: float
    horizon: int


def reversed_within(x: Tensor, lengths: Tensor) -> Tensor:
    """Each sequence from its own end to its start; padding stays where it is. Twice is the identity."""
    # x: (batch, time, features); lengths: (batch,)
    time = torch.arange(x.shape[1], device=x.device)
    index = torch.where(time < lengths[:, None], lengths[:, None] - 1 - time, time)  # (batch, time)
    return x.gather(1, index[:, :, None].expand(x.shape))


class Recurrent(nn.Module):
    """Layers of a recurrent cell over padded sequences; a subclass has the cell.

    Weights as in ``torch.nn.LSTM`` and ``torch.nn.GRU``: ``weight_ih_l0`` (gates · hidden, inputs),
    ``weight_hh_l0`` (gates · hidden, hidden), ``bias_ih_l0`` and ``bias_hh_l0`` (gates · hidden,); the other
    direction's end in ``_reverse``, the next layer's in ``_l1``.
    """

    gates: int

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.hidden, self.layers = config.hidden, config.layers
        self.directions = ("", "_reverse") if config.bidirectional else ("",)
        wide, inputs = self.gates * config.hidden, config.features
        for layer in range(config.layers):
            for direction in self.directions:
                suffix = f"l{layer}{direction}"
                self.register_parameter(f"weight_ih_{suffix}", nn.Parameter(torch.zeros(wide, inputs)))
                self.register_parameter(f"weight_hh_{suffix}", nn.Parameter(torch.zeros(wide, config.hidden)))
                self.register_parameter(f"bias_ih_{suffix}", nn.Parameter(torch.zeros(wide)))
                self.register_parameter(f"bias_hh_{suffix}", nn.Parameter(torch.zeros(wide)))
            inputs = len(self.directions) * config.hidden
        self.dropouts = nn.ModuleList([nn.Dropout(config.dropout) for _ in range(config.layers - 1)])

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        # x: (batch, time, features); lengths: (batch,), each at least 1
        for layer in range(self.layers):
            x = self.dropouts[layer - 1](x) if layer else x
            ways = [self.one(x, lengths, f"l{layer}{way}") for way in self.directions]
            x = torch.cat(ways, 2) if len(ways) > 1 else ways[0]  # (batch, time, directions · hidden)
        # neither direction has seen padding before a sequence's own steps: what it made of it is 0
        padding = torch.arange(x.shape[1], device=x.device) >= lengths[:, None]  # (batch, time)
        x = x.masked_fill(padding[:, :, None], 0)
        # forwards, the last state is that of each sequence's end; backwards, that of its start
        end = (lengths - 1)[:, None, None].expand(-1, 1, self.hidden)
        last = x[:, :, : self.hidden].gather(1, end)[:, 0]
        return x, torch.cat([last, x[:, 0, self.hidden :]], 1)  # … and (batch, directions · hidden)

    def one(self, x: Tensor, lengths: Tensor, suffix: str) -> Tensor:
        """One layer in one direction: (batch, time, inputs) -> (batch, time, hidden)."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = [getattr(self, f"{name}_{suffix}") for name in names]
        if not suffix.endswith("_reverse"):
            return self.recur(x, *weights)
        return reversed_within(self.recur(reversed_within(x, lengths), *weights), lengths)

    def recur(self, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
        """The cell from state zero, over every step: (batch, time, inputs) -> (batch, time, hidden)."""
        raise NotImplementedError


class LSTM(Recurrent):
    """Long short-term memory with a forget gate (Hochreiter & Schmidhuber, 1997; Gers et al., 2000).

    i, f, o = σ(W x + b + U h + d), g = tanh(W x + b + U h + d), each gate with rows of its own;
    c ← f c + i g;  h ← o tanh(c).
    """

    gates = 4  # i, f, g, o

    def recur(self, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
        zero = x.new_zeros(x.shape[0], self.hidden)
        if not torch.compiler.is_compiling() or torch.compiler.is_exporting():
            # the equations below in one kernel, as nn.LSTM calls it; torch.compile has no lowering for it
            state = (zero[None], zero[None])
            return torch.lstm(x, state, (w_ih, w_hh, b_ih, b_hh), True, 1, 0.0, True, False, True)[0]
        projected = nn.functional.linear(x, w_ih, b_ih + b_hh)  # (batch, time, 4 · hidden)
        h = c = zero  # (batch, hidden)
        states = []
        for gates in projected.unbind(1):
            i, f, g, o = torch.addmm(gates, h, w_hh.T).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            states.append(h)
        return torch.stack(states, 1)


class Forecaster(nn.Module):
    """Returns and log-volatility of the coming steps, linear in the last state."""

    def __init__(self, rnn: Recurrent, config: Config) -> None:
        super().__init__()
        width = len(rnn.directions) * config.hidden
        self.rnn = rnn
        self.returns = nn.Linear(width, config.horizon)
        self.log_volatility = nn.Linear(width, config.horizon)

    def forward(self, features: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        _, last = self.rnn(features, lengths)  # (batch, time, features) -> (batch, width)
        return {"returns": self.returns(last), "log_volatility": self.log_volatility(last)}


def loss(outputs: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Mean squared error of the returns plus that of the log-volatility, both in standard deviations."""
    returns = torch.square(outputs["returns"] - batch["returns"]).mean()
    return returns + torch.square(outputs["log_volatility"] - batch["log_volatility"]).mean()


def build(config: Mapping[str, Any]) -> nn.Module:
    """The forecaster that the configuration describes; its recurrent weights are zero until they are loaded."""
    c = Config(**{field.name: config[field.name] for field in fields(Config)})
    return Forecaster(LSTM(c), c)
