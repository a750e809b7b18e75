"""Layers that torch.export takes apart: attention and recurrent layers, as users call them."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from emitted import agrees, example, load
from torch import nn

from twinax.port.torch_to_jax import convert, obstacles


class Attention(nn.Module):
    """Calls nn.MultiheadAttention with its options."""

    def __init__(self, across=False, padding="", mask="", need=False, average=True, **options):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, **options)
        self.across, self.padding, self.mask, self.need, self.average = across, padding, mask, need, average

    def forward(self, x, memory, padded):
        first = self.attention.batch_first
        x, memory = (x, memory) if first else (x.transpose(0, 1), memory.transpose(0, 1))
        key = memory if self.across else x
        padding = {"": None, "bool": padded > 1, "float": padded}[self.padding]
        mask = torch.ones(x.shape[1 if first else 0], key.shape[1 if first else 0], dtype=x.dtype).tril()
        mask = {"": None, "bool": mask == 0, "float": mask, "heads": mask.expand(2 * 3, -1, -1)}[self.mask]
        y, weights = self.attention(
            x, key, key, padding, need_weights=self.need, attn_mask=mask, average_attn_weights=self.average
        )
        return (y, weights) if self.need else y


BOTH = pytest.mark.parametrize(
    "train", [pytest.param(False, marks=pytest.mark.slow), True], ids=["eval", "train"]
)
USUAL = ("across", "weights", "padding")
OPTIONS = {
    "itself": {"batch_first": True},
    "across": {"across": True, "batch_first": True, "dropout": 0.1},
    "length first": {"across": True},
    "length first, itself": {"dropout": 0.1},
    "weights": {"need": True, "batch_first": True, "dropout": 0.1},
    "weights of each head": {"need": True, "average": False, "across": True, "batch_first": True},
    "padding": {"padding": "bool", "batch_first": True},
    "padding as numbers": {"padding": "float", "need": True, "batch_first": True},
    "mask": {"mask": "bool", "batch_first": True},
    "mask as numbers": {"mask": "float", "padding": "bool", "batch_first": True},
    "mask of each head": {"mask": "heads", "across": True, "batch_first": True},
    "other sizes": {"kdim": 8, "vdim": 8, "across": True, "batch_first": True, "bias": False},
    "zeros and biases": {"add_zero_attn": True, "add_bias_kv": True, "batch_first": True},
}


@BOTH
@pytest.mark.parametrize(
    "name", [n if n in USUAL else pytest.param(n, marks=pytest.mark.slow) for n in OPTIONS]
)
def test_attention_is_torchs(name, train, tmp_path):
    torch.manual_seed(0)
    inputs = example({"x": (3, 5, 8), "memory": (3, 5, 8), "padded": (3, 5)})
    agrees(Attention(**OPTIONS[name]), inputs, tmp_path, train=train)


def test_attention_is_written_plainly_and_once():
    inputs = example({"x": (3, 5, 8), "memory": (3, 7, 8), "padded": (3, 5)})
    source = convert(Attention(across=True, batch_first=True, dropout=0.1), inputs).source
    assert "q = query @ w_q.T + b_q" in source and "def __call__(self, query: Array, key: Array)" in source
    assert source.count("scaled_dot_product_attention(q, k, v, dropout=self.attention_dropout)") == 1


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x, seen, padded):
        return self.encoder(x, mask=seen > 1, src_key_padding_mask=padded > 1)


def test_inputs_are_called_what_they_are():
    inputs = example({"x": (3, 5, 8), "seen": (5, 5), "padded": (3, 5)})
    source = convert(Encoder(), inputs).source
    assert "def __call__(self, query: Array, key_padding_mask: Array, attn_mask: Array)" in source
    assert "def __call__(self, src: Array, src_key_padding_mask: Array, src_mask: Array)" in source
    assert "output = layer(output, src_key_padding_mask, mask)" in source


class Translation(nn.Module):
    def __init__(self):
        super().__init__()
        self.transformer = nn.Transformer(8, 2, 1, 2, 16, batch_first=True)

    def forward(self, source, target, padded):
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1], dtype=target.dtype)
        return self.transformer(source, target, tgt_mask=mask, src_key_padding_mask=padded > 1)


@pytest.mark.slow
@BOTH
def test_a_transformer_is_torchs(train, tmp_path):
    torch.manual_seed(0)
    inputs = example({"source": (3, 5, 8), "target": (3, 4, 8), "padded": (3, 5)})
    agrees(Translation(), inputs, tmp_path, train=train)


RECURRENT = {
    "lstm": lambda: nn.LSTM(4, 6, num_layers=2, dropout=0.1, batch_first=True),
    "both ways": lambda: nn.LSTM(4, 6, bidirectional=True, bias=False),
    "gru": lambda: nn.GRU(4, 6, batch_first=True),
    "tanh": lambda: nn.RNN(4, 6),
    "relu": lambda: nn.RNN(4, 6, nonlinearity="relu"),
}


class Last(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        y, state = self.layer(x)
        return y, state[0] if isinstance(state, tuple) else state


@BOTH
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_are_torchs(name, train, tmp_path):
    torch.manual_seed(0)
    agrees(Last(RECURRENT[name]()), example({"x": (3, 5, 4)}), tmp_path, train=train)


@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_take_every_length(name, tmp_path):
    module = Last(RECURRENT[name]()).eval()
    model = load(convert(module, example({"x": (3, 5, 4)})), tmp_path).load(tmp_path / "weights.safetensors")
    x = example({"x": (2, 9, 4)})["x"]
    for got, wanted in zip(model(jnp.asarray(x.numpy())), module(x), strict=True):
        np.testing.assert_allclose(got, wanted.detach(), rtol=1e-5, atol=1e-6)


class Projected(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(4, 6, proj_size=2)

    def forward(self, x):
        return self.layer(x)[0]


def test_projections_are_found_before_anything_runs():
    (found,) = obstacles(Projected(), example({"x": (3, 5, 4)}))
    assert found.operation == "aten.lstm.input with proj_size" and "test_whole_layers.py" in found.where
