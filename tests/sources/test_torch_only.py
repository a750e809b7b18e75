"""Models that exist in PyTorch only: their names, what goes into them, what is said of one that fails."""

from __future__ import annotations

import copy
import importlib.util
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from twinax.errors import BadInput, UnknownTwin, UserFileError
from twinax.sources import is_file, is_torch_only
from twinax.sources.torch_only import Input, Request, draw, made, placed, resolve
from twinax.sources.torch_only.base import tensors_of
from twinax.sources.torch_only.exact import Exact, Silent
from twinax.sources.torch_only.inputs import of_example, parse

MODEL = """
import torch
from torch import nn

def make_model():
    '''Three numbers in, two out.'''
    return nn.Linear(3, 2)

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(17, 5), nn.Linear(5, 2)

    def forward(self, scale, tokens, shift=0.0):
        return self.out(self.table(tokens)) * scale.mean() + shift
"""
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def model(folder: Path, more: str = "") -> str:
    path = folder / "my_model.py"
    path.write_text(textwrap.dedent(MODEL) + textwrap.dedent(more))
    return str(path)


def config(folder: Path, **more: object) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps({**TINY, "vocab_size": 50, "max_position_embeddings": 40, **more}))
    return f"hf:{path}"


def passes(name: str, request: Request = Request()) -> dict[str, tuple[int, ...]]:  # noqa: B008
    """Shapes of what goes in, once the model has taken it."""
    source = resolve(name, request)
    inputs = tensors_of(source.example(0, 3))
    source.make(0)(**inputs)
    return {name: tuple(tensor.shape) for name, tensor in inputs.items()}


# --- names -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["m.py:f", "/a b/m.py:make", "pkg.mod:make", "mod:Make", "m.pt2", "timm:x", "torchvision:x", "hf:a/b"],
)
def test_names_of_models_in_pytorch(name):
    assert is_torch_only(name) and not is_file(name)


@pytest.mark.parametrize(
    "name", ["resnet50", "bert/encoder", "my_pair.py", "", "timm:", "a b:c", "m.pth", "x:1"]
)
def test_names_of_other_twins(name):
    assert not is_torch_only(name)


def test_telling_names_apart_imports_no_framework():
    code = (
        "import sys; from twinax import sources; sources.is_torch_only('timm:x'); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_paths_become_absolute(tmp_path, monkeypatch):
    model(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert placed("my_model.py:make_model") == f"{tmp_path}/my_model.py:make_model"
    assert placed("timm:resnet18") == "timm:resnet18" and placed("hf:some/id") == "hf:some/id"
    with pytest.raises(BadInput, match=r"There is no file nothing\.py"):
        placed("nothing.py:make")


# --- inputs ------------------------------------------------------------------------------------------


def test_stated_inputs():
    pixels, tokens, table = parse("8x3x224x224:float32, 8x16:int64<1000,5x2")
    assert (pixels.shape, pixels.dtype, pixels.batched) == ((8, 3, 224, 224), "float32", True)
    assert (tokens.dtype, tokens.below) == ("int64", 1000)
    assert not table.batched


@pytest.mark.parametrize("text", ["8y3", "8x3:float16", "8x3:float32<4", "x", "8x-3"])
def test_inputs_that_cannot_be_read(text):
    with pytest.raises(BadInput, match="cannot be read") as caught:
        parse(text)
    assert "8x3x224x224:float32" in caught.value.hint


def test_draws_follow_the_seed_and_the_batch():
    inputs = (
        Input("x", (2, 3)),
        Input("ids", (2, 9), "int64", 5),
        Input("mask", (2, 9), "int64", 2, "mask"),
        Input("table", (7, 2), batched=False),
    )
    first, again, other = draw(inputs, 0, 6), draw(inputs, 0, 6), draw(inputs, 1, 6)
    assert first["x"].shape == (6, 3) and first["table"].shape == (7, 2) and first["ids"].max() < 5
    assert (np.diff(first["mask"]) <= 0).all() and (first["mask"].sum(1) >= 5).all()
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["x"], other["x"])


def test_examples_are_drawn_from_what_was_given():
    given = {"x": np.ones((2, 3), np.float32), "ids": np.array([[3, 4], [5, 6]])}
    batch = draw(of_example(given), 0, 5, given)
    assert batch["x"].shape == (5, 3) and batch["x"].std() > 0
    assert {tuple(row) for row in batch["ids"]} <= {(3, 4), (5, 6)}


# --- a user's function or class ----------------------------------------------------------------------


def test_a_function(tmp_path):
    source = resolve(f"{model(tmp_path)}:make_model", Request(input="4x3"))
    assert (source.title, source.batch) == ("Three numbers in, two out.", 4)
    assert source.where.endswith("my_model.py:5")
    weights = [source.make(seed).weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert not source.make(0).training


def test_a_class_whose_integers_are_looked_up(tmp_path):
    source = resolve(f"{model(tmp_path)}:Words", Request(input="2x1,2x6:int64"))
    assert [(one.name, one.below) for one in source.inputs] == [("scale", 0), ("tokens", 17)]


@pytest.mark.parametrize(
    "given", ["torch.ones(2, 3)", "(torch.ones(2, 3),)", "{'input': torch.ones(2, 3, dtype=torch.float64)}"]
)
def test_an_example_beside_it(tmp_path, given):
    source = resolve(f"{model(tmp_path, f'def example_inputs(): return {given}')}:make_model")
    assert source.example(0, 5)["input"].shape == (5, 3)
    assert source.example(0, 5)["input"].dtype == np.float32


def test_one_of_a_package():
    assert resolve("torch.nn:Identity", Request(input="2x3")).make(0).training is False


@pytest.mark.parametrize(
    ("more", "name", "said"),
    [
        ("", "nothing", "defines no nothing"),
        ("thing = 3", "thing", "of type int"),
        ("def f(): return 3", "f", r"my_model.py:16: f\(\) returned int"),
        ("def f(): return 1 / 0", "f", r"my_model.py:16: f\(\) raised ZeroDivisionError"),
        ("import nothing_of_this_name", "make_model", "my_model.py:16: The file raised ModuleNotFoundError"),
        ("", "make_model", r"Nothing says what goes into forward\(input\)"),
        (
            "def example_inputs(): return [1]",
            "make_model",
            r"my_model.py:16: example_inputs\(\) cannot be used",
        ),
        ("def example_inputs(): return {'y': torch.ones(2)}", "make_model", "forward has no 'y'"),
    ],
)
def test_what_is_said_of_one_that_cannot_be_used(tmp_path, more, name, said):
    with pytest.raises(BadInput, match=said) as caught:
        resolve(f"{model(tmp_path, more)}:{name}")
    assert caught.value.hint


def test_too_few_inputs(tmp_path):
    with pytest.raises(BadInput, match="takes 3 inputs; 1 are stated"):
        resolve(f"{model(tmp_path)}:Words", Request(input="2x3"))


# --- libraries ---------------------------------------------------------------------------------------


def test_a_saved_program(tmp_path):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    program = torch.export.export(net, (torch.ones(2, 3),), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    path = tmp_path / "net.pt2"
    torch.export.save(program, path)
    assert passes(str(path)) == {"input": (3, 3)}
    again = resolve(str(path)).make(0)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in net.state_dict().items())
    other, x = copy.deepcopy(again).double(), torch.ones(2, 3)
    torch.testing.assert_close(other(x.double()).float(), again(x))  # with weights of its own
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(UserFileError, match=r"net.pt2:1: torch.export.load cannot read"):
        resolve(str(path))


WORDS = {"input_ids": (3, 20), "attention_mask": (3, 20)}


@pytest.mark.parametrize(
    ("kind", "task", "inputs"),
    [
        ("bert", "text-classification", {**WORDS, "token_type_ids": (3, 20)}),
        ("llama", "text-generation", WORDS),
        ("vit", "image-classification", {"pixel_values": (3, 3, 32, 32)}),
    ],
)
def test_a_configuration_of_transformers(tmp_path, kind, task, inputs):
    name = config(tmp_path, model_type=kind, image_size=32, patch_size=8)
    assert passes(name, Request(task=task, random_weights=True)) == inputs


def test_inputs_that_leave_a_parameter_out_are_passed_by_name(tmp_path):
    small = {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "num_mel_bins": 8,
        "max_source_positions": 20,
    }
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_target_positions": 40}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    name = config(tmp_path, model_type="whisper", **small, **heads, **tokens)
    request = {"task": "automatic-speech-recognition", "random_weights": True}
    source = resolve(name, Request(**request))
    inputs = tensors_of(source.example(0, 2))
    assert list(inputs) == ["input_features", "decoder_input_ids"]
    model = made(name, list(inputs), 0, **request)
    assert model(*inputs.values()).logits.shape == (2, 10, 50)
    assert copy.deepcopy(model).forward.__self__ is not model


@pytest.mark.parametrize(
    ("request_", "said", "hint"),
    [
        ({}, "configuration without weights", "--random-weights"),
        ({"task": "text-clasification"}, "no task called", "Did you mean text-classification?"),
        ({"task": "image-classification", "random_weights": True}, "has no bert", "--task"),
    ],
)
def test_what_is_said_of_a_configuration(tmp_path, request_, said, hint):
    with pytest.raises(BadInput, match=said) as caught:
        resolve(config(tmp_path, model_type="bert"), Request(**request_))
    assert hint in caught.value.hint


def test_a_model_that_is_not_at_hand(monkeypatch):
    from twinax.sources.torch_only import hugging_face

    def unreachable() -> None:
        raise OSError("no network")

    monkeypatch.setattr(hugging_face, "_reach_hub", unreachable)
    with pytest.raises(BadInput, match="nor can it be downloaded: no network"):
        resolve("hf:nobody/nothing")


@pytest.mark.skipif(not importlib.util.find_spec("torchvision"), reason="timm imports torchvision")
@pytest.mark.parametrize("name", ["timm:resnet10t", "torchvision:resnet18"])
def test_a_model_of_a_library(name):
    assert passes(name, Request(input="2x3x32x32")) == {"x": (3, 3, 32, 32)}
    assert resolve(name).inputs[0].shape[1] == 3
    with pytest.raises(UnknownTwin, match="knows no model"):
        resolve(name + "y")


# --- at its plainest ---------------------------------------------------------------------------------


class Careful(nn.Module):
    """Everything that is called as a function and draws, or turns to float32."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
        self.recurrent = nn.LSTM(8, 8, num_layers=2, dropout=0.5, batch_first=True)

    def forward(self, x):
        x = self.attention(x, x, x, need_weights=False)[0] + self.recurrent(x)[0]
        x = nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5 if self.training else 0.0)
        x = nn.functional.dropout(x, 0.5, self.training)
        x = nn.functional.softmax(x.float(), dim=-1, dtype=torch.float32)
        return x.to(torch.float32) / 3


def test_dropout_that_is_called_as_a_function_is_off():
    net, x = Careful().train(), torch.randn(2, 5, 8)
    assert not torch.equal(net(x), net(x))
    with Silent():
        in_training = net(x)
    assert torch.equal(in_training, net.eval()(x))


def test_float64_stays_float64():
    net, x = Careful().double().eval(), torch.randn(2, 5, 8, dtype=torch.float64)
    assert net(x).dtype == torch.float32
    with Exact():
        assert net(x).dtype == torch.float64
