"""A PyTorch model at its plainest, for a proof. Imports torch: only torch workers import this."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

DROPOUTS = (
    functional.dropout,
    functional.dropout1d,
    functional.dropout2d,
    functional.dropout3d,
    functional.alpha_dropout,
    functional.feature_alpha_dropout,
    torch.dropout,
    torch.feature_dropout,
)
ATTENTION_P, SEQUENCE_P = 4, 5
"""Where the rate stands among the arguments of attention, and of a recurrent layer over a whole sequence."""
SEQUENCES = (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu)


class Silent(TorchFunctionMode):
    """Dropout does nothing, wherever it is called."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in DROPOUTS:
            return args[0] if args else kwargs["input"]
        if func is functional.multi_head_attention_forward:
            bound = inspect.signature(func).bind(*args, **kwargs)
            bound.arguments["dropout_p"] = 0.0
            args, kwargs = bound.args, bound.kwargs
        elif func is functional.scaled_dot_product_attention:
            args = _with_zero(args, ATTENTION_P)
            kwargs.pop("dropout_p", None)
        elif func in SEQUENCES:
            args = _with_zero(args, SEQUENCE_P)
        return self.called(func, args, kwargs)

    def called(self, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """The function's own result."""
        return func(*args, **kwargs)


class Exact(Silent):
    """Also, what a model asks to compute in float32 is in float64.

    A layer that turns to float32 means "no less than float32"; left alone, it would round the proof to that.
    So are arrays that it makes without stating a dtype. The gradient of torch's hard sigmoid has a sixth in
    float32 at any precision: its formula has none.
    """

    def __enter__(self) -> Exact:
        self.dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.set_default_dtype(self.dtype)

    def called(self, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        if func is Tensor.float:
            return args[0].double()
        if func is functional.hardsigmoid:
            return functional.relu6(args[0] + 3) / 6
        return func(*map(_wide, args), **{name: _wide(value) for name, value in kwargs.items()})


def _with_zero(args: Sequence[Any], place: int) -> Sequence[Any]:
    return (*args[:place], 0.0, *args[place + 1 :]) if len(args) > place else args


def _wide(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value
