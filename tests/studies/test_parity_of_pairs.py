"""Parity on pairs as people write them: tied weights, every style of JAX model, randomness of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

import runs
from inprocess import prove
from twinax.analyse import analyse
from twinax.records import Outcome
from twinax.sources.file import resolve

START = """
import numpy as np

def example_batch(seed, batch_size):
    return {"x": np.random.default_rng(seed).standard_normal((batch_size, 3)).astype(np.float32)}
"""

TIED = """
def torch_model():
    from torch import nn
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    return model

def jax_model():
    import jax.numpy as jnp
    def apply(p, x):
        hidden = jnp.tanh(x @ p["0"]["weight"].T + p["0"]["bias"])
        return hidden @ p["0"]["weight"].T + p["2"]["bias"]
    return apply, {"0": {"weight": jnp.ones((3, 3)), "bias": jnp.ones(3)}, "2": {"bias": jnp.ones(3)}}
"""

LINEN = """
def torch_model():
    from torch import nn
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.norm, self.drop, self.out = (
                nn.Linear(3, 8), NORM, nn.Dropout(0.3), nn.Linear(8, 2))
        def forward(self, x):
            return self.out(self.drop(self.norm(self.hidden(x)).relu()))
    return Model()

def jax_model():
    import jax, jax.numpy as jnp
    from flax import linen as nn
    class Model(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool):
            x = nn.Dense(8, name="hidden")(x)
            x = NORM
            x = nn.Dropout(0.3, deterministic=not train, name="drop")(nn.relu(x))
            return nn.Dense(2, name="out")(x)
    model = Model()
    return model, model.init(jax.random.key(0), jnp.ones((1, 3)), train=False)
"""

LAYER_NORM = ("nn.LayerNorm(8)", 'nn.LayerNorm(epsilon=1e-5, name="norm")(x)')
BATCH_NORM = (
    "nn.BatchNorm1d(8)",
    'nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, name="norm")(x)',
)

NNX = """
def jax_model():
    from flax import nnx
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.a, self.b = nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)
        def __call__(self, x):
            return self.b(nnx.tanh(self.a(x)))
    return Model(nnx.Rngs(0))
"""

TORCH = """
def torch_model():
    from torch import nn
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)
            self.noise = nn.Dropout(0.0)
        def forward(self, x):
            return self.b(BEFORE_B)
    return Model()
"""


def proved(folder: Path, *parts: str):
    file = folder / "pair.py"
    file.write_text(START + "".join(parts))
    return prove(resolve(str(file)), folder)


def with_norm(torch: str, linen: str) -> str:
    start, middle, end = LINEN.split("NORM")
    return f"{start}{torch}{middle}{linen}{end}"


@pytest.mark.parametrize("style", [TIED, with_norm(*LAYER_NORM)], ids=["tied weights", "linen with dropout"])
def test_a_right_pair_holds(style: str, tmp_path: Path) -> None:
    record = proved(tmp_path, style)
    assert record.outcome == "ok", record.message
    assert record.measurements["holds"]


RENAMED = """
def torch_model():
    from torch import nn
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.lin, self.act, self.drop = nn.Linear(3, 3), nn.GELU(), nn.Dropout(0.2)
        def forward(self, x):
            return self.drop(self.act(self.lin(x)))
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = Block(), Block()
        def forward(self, x):
            return self.second(self.first(x))
    return Model()

def jax_model():
    import jax
    from flax import nnx
    class Gelu(nnx.Module):
        def __call__(self, x):
            return jax.nn.gelu(x, approximate=APPROXIMATE)
    class Block(nnx.Module):
        def __init__(self, rngs):
            self.dense, self.act = nnx.Linear(3, 3, rngs=rngs), Gelu()
            self.dropout = nnx.Dropout(0.2, rngs=rngs)
        def __call__(self, x):
            return self.dropout(self.act(self.dense(x)))
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.one, self.two = Block(rngs), Block(rngs)
        def __call__(self, x):
            return self.two(self.one(x))
    return Model(nnx.Rngs(0))

rename = {
    "first.lin": "one.dense", "first.drop": "one.dropout", "first": "one",
    "second.lin": "two.dense", "second.drop": "two.dropout", "second": "two",
}
"""


def test_renamed_layers_are_met_under_torchs_names(tmp_path: Path) -> None:
    record = proved(tmp_path, RENAMED.replace("APPROXIMATE", "False"))
    assert record.outcome == "ok", record.message
    assert [row["path"] for row in record.measurements["dropout"]] == ["first.drop", "second.drop"]
    layers = [row["path"] for row in record.measurements["layers"]]
    assert layers == [
        *("first.lin", "first.act", "first.drop", "first"),
        *("second.lin", "second.act", "second.drop", "second"),
    ]


def test_a_fault_in_a_renamed_layer_is_located(tmp_path: Path) -> None:
    record = proved(tmp_path, RENAMED.replace("APPROXIMATE", "True"))
    assert record.measurements["first_difference"]["path"] == "first.act"


def test_linens_running_variance_is_not_torchs(tmp_path: Path) -> None:
    record = proved(tmp_path, with_norm(*BATCH_NORM))
    found = record.measurements
    wrong = {
        (m["what"], m["path"]) for m in found["mismatches"] if m["what"] != "buffers" or m["path"] != "all"
    }
    assert record.outcome == "mismatch"
    assert wrong == {("buffers", "norm.running_var")}  # torch divides by n - 1, flax by n


def test_a_dropout_layer_of_rate_0_may_be_left_out(tmp_path: Path) -> None:
    record = proved(tmp_path, NNX, TORCH.replace("BEFORE_B", "self.noise(self.a(x).tanh())"))
    assert record.outcome == "ok", record.message


@pytest.mark.parametrize(
    ("drawing", "modes"),
    [
        ("nn.functional.dropout(self.a(x).tanh(), 0.5, self.training)", {"train"}),
        ("nn.functional.dropout(self.a(x).tanh(), 0.5)", {"eval", "train"}),
    ],
)
def test_randomness_that_no_mask_replays_is_named(drawing: str, modes: set[str], tmp_path: Path) -> None:
    record = proved(tmp_path, NNX, TORCH.replace("BEFORE_B", drawing))
    assert record.outcome == "mismatch"
    failed = {check["name"] for check in record.measurements["checks"] if not check["passed"]}
    assert {name for name in failed if "repeats" in name} == {
        f"each side repeats itself, {m} mode" for m in modes
    }
    first = record.measurements["first_difference"]
    assert (first["kind"], first["path"]) == ("randomness", "b")
    assert "outside dropout layers" in first["detail"]


KINK = """
import numpy as np

def example_batch(seed, batch_size):
    x = np.random.default_rng(seed).standard_normal((batch_size, 3)).astype(np.float32)
    x[0] = 0.0  # a padded row
    return {"x": x}

def torch_model():
    import torch
    from torch import nn
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.out = nn.Parameter(torch.ones(3)), nn.Linear(3, 2)
        def forward(self, x):
            return self.out(TORCH)
    return Model()

def jax_model():
    import jax.numpy as jnp
    def apply(p, x):
        return JAX @ p["out"]["weight"].T + p["out"]["bias"]
    return apply, {"scale": jnp.ones(3), "out": {"weight": jnp.ones((2, 3)), "bias": jnp.ones(2)}}
"""


@pytest.mark.parametrize(
    ("torch", "jax_", "at_a_point"),
    [
        # the row's length, 0 where it is padded: its gradient is 0 in torch and NaN in JAX
        (
            "x * self.scale / (1 + torch.linalg.vector_norm(x * self.scale, dim=1, keepdim=True))",
            'x * p["scale"] / (1 + jnp.linalg.norm(x * p["scale"], axis=1, keepdims=True))',
            True,
        ),
        # a gradient that is wrong everywhere
        ("x * self.scale", '__import__("jax").lax.stop_gradient(x * p["scale"])', False),
    ],
)
def test_a_gradient_that_differs_at_a_special_point_only_is_told_from_a_wrong_one(
    tmp_path, torch, jax_, at_a_point
):
    file = tmp_path / "pair.py"
    file.write_text(KINK.replace("TORCH", torch).replace("JAX", jax_))
    record = prove(resolve(str(file)), tmp_path)
    assert record.outcome is Outcome.MISMATCH
    assert record.measurements["first_difference"]["kind"] == "gradient"
    assert record.measurements["special_point"] is at_a_point
    assert ("--conventions" in record.hint) is at_a_point
    (told,) = (f for f in analyse(runs.run([record])).of("parity"))
    assert ("--conventions" in told.title) is at_a_point
