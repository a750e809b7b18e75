"""Layers that an export takes apart, kept whole or written plainly. Imports torch: runs in torch workers.

A recurrent layer is an operation of its own, for any length; torch's own would be traced for one length.
``nn.MultiheadAttention`` is traced as the mathematics that it documents; torch's own forward is a page of
reshapes for the sake of kernels. The proof of a port compares with torch's own forward.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules import transformer

from twinax.port.torch_to_jax.function_mode import FunctionMode

LIBRARY = "twinax_port"
RECURRENT = ("lstm", "gru", "rnn_tanh", "rnn_relu")
ORIGINAL = nn.MultiheadAttention.forward
Attended = tuple[Tensor, Tensor | None]


@contextmanager
def whole_layers() -> Iterator[None]:
    """Within the block such layers are whole."""
    detect = transformer._detect_is_causal_mask
    fast = torch.backends.mha.get_fastpath_enabled()
    nn.MultiheadAttention.forward = forward
    # whether a mask is causal is a hint alone, found by looking at its numbers
    transformer._detect_is_causal_mask = lambda mask, is_causal=None, size=None: is_causal is True
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _Functions():
            yield
    finally:
        nn.MultiheadAttention.forward, transformer._detect_is_causal_mask = ORIGINAL, detect
        torch.backends.mha.set_fastpath_enabled(fast)


# --- recurrent layers --------------------------------------------------------------------------------


def _define() -> None:
    """``twinax_port::lstm.input`` and its like: torch's own signatures, and the shapes of their results."""
    for name in RECURRENT:
        schema = str(getattr(torch.ops.aten, name).input._schema)
        torch.library.define(f"{LIBRARY}::{name}.input", schema[schema.index("(") :])
        torch.library.register_fake(f"{LIBRARY}::{name}.input", _shapes)


def _shapes(
    input: Tensor,
    hx: Tensor | list[Tensor],
    params: list[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    states = hx if isinstance(hx, list) else [hx]
    size = states[0].shape[-1] * (2 if bidirectional else 1)
    return input.new_empty(*input.shape[:2], size), *(torch.empty_like(state) for state in states)


_define()


class _Functions(FunctionMode):
    """Sends torch's recurrent functions to operations that stay whole; packed sequences go the old way.

    A quotient of two sizes, which torch makes an array of, stays a size.
    """

    def called(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        padded = len(args) == 9 and isinstance(args[3], bool)  # a packed one has its batch sizes second
        if padded and func in [getattr(torch, name) for name in RECURRENT]:
            return getattr(getattr(torch.ops, LIBRARY), func.__name__).input(*args)
        rounded = func is torch.div and kwargs.get("rounding_mode") in ("floor", "trunc")
        if rounded and all(isinstance(n, int | torch.SymInt) and n >= 0 for n in args):
            return args[0] // args[1]  # which floor and trunc are
        return func(*args, **kwargs)


# --- attention ---------------------------------------------------------------------------------------


def forward(
    self: nn.MultiheadAttention,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> Attended:
    """What ``nn.MultiheadAttention`` computes. Each line gives its result the name that it has in the port."""
    rare = self.bias_k is not None or self.add_zero_attn or query.dim() != 3
    if rare or (is_causal and attn_mask is None):
        return ORIGINAL(
            self, query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
        )
    if not self.batch_first:
        same = query is key, key is value
        query = query.transpose(0, 1)
        key = query if same[0] else key.transpose(0, 1)
        value = key if same[1] else value.transpose(0, 1)
    if self._qkv_same_embed_dim and query is key and key is value:
        q, k, v = functional.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
    else:
        w_q, w_k, w_v = _weights(self)
        b_q, b_k, b_v = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        q = functional.linear(query, w_q, b_q)
        k = functional.linear(key, w_k, b_k)
        v = functional.linear(value, w_v, b_v)
    q = q.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (batch, heads, length, size)
    k = k.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
    v = v.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
    mask = _mask(self, query, key_padding_mask, attn_mask)
    if need_weights:
        scores = q @ k.transpose(-2, -1) * (1 / math.sqrt(q.shape[-1]))
        weights = (scores if mask is None else scores + mask).softmax(-1)
        weights = functional.dropout(weights, self.dropout, self.training)
        y = weights @ v
    else:
        weights, rate = None, self.dropout if self.training else 0.0
        y = functional.scaled_dot_product_attention(q, k, v, mask, rate)
    y = self.out_proj(y.transpose(1, 2).flatten(2))
    y = y if self.batch_first else y.transpose(0, 1)
    return y, weights.mean(1) if weights is not None and average_attn_weights else weights


def _weights(self: nn.MultiheadAttention) -> tuple[Tensor, ...]:
    """Those of query, key and value."""
    if self._qkv_same_embed_dim:
        return self.in_proj_weight.chunk(3)
    return self.q_proj_weight, self.k_proj_weight, self.v_proj_weight


def _mask(
    self: nn.MultiheadAttention, query: Tensor, padding: Tensor | None, mask: Tensor | None
) -> Tensor | None:
    """Both masks as one that is added to the scores: (batch or 1, heads or 1, queries or 1, keys)."""
    if padding is not None:
        padding = _added(padding, query)[:, None, None, :]
    if mask is not None:
        mask = _added(mask, query)
        mask = mask.unflatten(0, (-1, self.num_heads)) if mask.dim() == 3 else mask
    if padding is None or mask is None:
        return mask if padding is None else padding
    return padding + mask


def _added(mask: Tensor, like: Tensor) -> Tensor:
    """A mask as numbers that are added to scores: −∞ where it is True."""
    if mask.is_floating_point():
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -math.inf)
