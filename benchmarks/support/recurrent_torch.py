"""One recurrent layer in PyTorch: the zoo's and torch's own, with the same weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from twinax.zoo.gru.torch_model import GRU
from twinax.zoo.lstm.torch_model import LSTM, Config


def gradients(kind: str, hidden: int, data: np.ndarray) -> dict[str, Callable[[int], None]]:
    """``call(i)`` of each: the gradient on batch i of ``data`` (batches, batch, time, features)."""
    features = data.shape[-1]
    config = Config(features, hidden, layers=1, bidirectional=False, dropout=0.0, horizon=1)
    ours = {"lstm": LSTM, "gru": GRU}[kind](config)
    theirs = {"lstm": nn.LSTM, "gru": nn.GRU}[kind](features, hidden, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    lengths = torch.full((data.shape[1],), data.shape[2])
    batches = [torch.from_numpy(batch) for batch in data]

    def call(model: nn.Module, *rest: torch.Tensor) -> Callable[[int], None]:
        def run(i: int) -> None:
            model.zero_grad(set_to_none=True)
            model(batches[i % len(batches)], *rest)[0].square().mean().backward()

        return run

    calls = {"ours": call(ours, lengths), f"torch.nn.{kind.upper()}": call(theirs)}
    for run in calls.values():
        run(0)
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name).grad, parameter.grad, rtol=1e-3, atol=1e-6)
    return calls
