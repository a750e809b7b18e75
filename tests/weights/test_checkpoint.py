"""Checkpoints: what is read, what is refused, and how names are fitted."""

import json
import struct
import subprocess
import sys

import numpy as np
import pytest

from twinax.errors import WeightsError
from twinax.weights import checkpoint
from twinax.weights.checkpoint import fit, read, write

WEIGHTS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32([1.5])}


def test_written_file_reads_back_bit_for_bit(tmp_path):
    write(tmp_path / "w.safetensors", {**WEIGHTS, "t": WEIGHTS["a.weight"].T})
    back = read(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(back["t"], WEIGHTS["a.weight"].T)
    assert back["a.weight"].tobytes() == WEIGHTS["a.weight"].tobytes()
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]


def test_half_precision_becomes_float32(tmp_path):
    # laid out by hand after the format's description: length, JSON header, bytes
    header = {
        "brain": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
        "half": {"dtype": "F16", "shape": [2], "data_offsets": [4, 8]},
    }
    text = json.dumps(header).encode()
    data = struct.pack("<HH", 0x3F80, 0xC020) + np.float16([0.5, -2]).tobytes()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    back = read(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(back["brain"], np.float32([1.0, -2.5]))
    np.testing.assert_array_equal(back["half"], np.float32([0.5, -2.0]))
    assert {a.dtype for a in back.values()} == {np.dtype(np.float32)}


def test_folder_with_one_file_and_with_shards(tmp_path):
    write(tmp_path / "model.safetensors", WEIGHTS)
    assert read(tmp_path).keys() == WEIGHTS.keys()
    (tmp_path / "model.safetensors").unlink()
    write(tmp_path / "model-1.safetensors", {"a.weight": WEIGHTS["a.weight"]})
    write(tmp_path / "model-2.safetensors", {"b": WEIGHTS["b"]})
    index = {"weight_map": {"a.weight": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / checkpoint.INDEX_FILE).write_text(json.dumps(index))
    assert read(tmp_path).keys() == WEIGHTS.keys()
    index["weight_map"]["c"] = "model-2.safetensors"
    (tmp_path / checkpoint.INDEX_FILE).write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="lack 1 weights: c"):
        read(tmp_path)


def test_a_shard_outside_the_folder_is_not_followed(tmp_path):
    write(tmp_path / "secret.safetensors", WEIGHTS)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / checkpoint.INDEX_FILE).write_text(json.dumps({"weight_map": {"b": "../secret.safetensors"}}))
    with pytest.raises(WeightsError, match="cannot be read"):
        read(folder)


def test_what_cannot_be_read_says_so(tmp_path):
    with pytest.raises(WeightsError, match="No such file"):
        read(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match="neither"):
        read(tmp_path)
    with pytest.raises(WeightsError, match="torch file"):
        read(tmp_path / "resnet.pth")
    file = tmp_path / "w.safetensors"
    write(file, WEIGHTS)
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(WeightsError, match="truncated"):
        read(file)
    file.write_bytes(b"not a checkpoint at all")
    with pytest.raises(WeightsError, match="no safetensors file"):
        read(file)
    (tmp_path / checkpoint.INDEX_FILE).write_text("{")
    with pytest.raises(WeightsError, match="not JSON"):
        read(tmp_path)


READ_PTH = """
import os, sys, pathlib, pickle
import numpy as np, torch
from twinax.errors import WeightsError
from twinax.weights.checkpoint import read_pth
folder = pathlib.Path(sys.argv[1])
tensors = {"a": torch.ones(2, 3), "h": torch.ones(2, dtype=torch.bfloat16), "n": torch.tensor(7)}

class Attack:
    def __reduce__(self):
        return os.system, (f"touch {folder / 'owned'}",)

for name, content in [("plain", tensors), ("lightning", {"state_dict": tensors, "epoch": 3}),
                      ("trainer", {"model": tensors}), ("attack", {"a": Attack()}), ("empty", [1])]:
    torch.save(content, folder / f"{name}.pth")
for name in ("plain", "lightning", "trainer"):
    found = read_pth(folder / f"{name}.pth")
    assert found.keys() == tensors.keys() and found["a"].shape == (2, 3), name
    assert found["h"].dtype == np.float32
whole = (folder / "plain.pth").read_bytes()
(folder / "cut.pth").write_bytes(whole[: len(whole) // 2])
(folder / "text.pth").write_bytes(b"<html>404</html>")
(folder / "nothing.pth").write_bytes(b"")
for name, words in [("attack", "refuses"), ("cut", "corrupt"), ("text", "corrupt"), ("nothing", "corrupt"),
                    ("none", "cannot be read"), ("empty", "no tensors")]:
    try:
        read_pth(folder / f"{name}.pth")
    except WeightsError as error:
        assert words in error.what, (name, error.what)
    else:
        raise SystemExit(f"{name} was accepted")
assert not (folder / "owned").exists()
"""


def test_torch_files_in_a_process_of_their_own(tmp_path):
    result = subprocess.run([sys.executable, "-c", READ_PTH, str(tmp_path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


EXPECTED = {"bert.embeddings.weight": (4, 2), "bert.norm.weight": (2,), "classifier.weight": (3, 2)}


@pytest.mark.parametrize("name", ["{}", "module.{}", "_orig_mod.{}", "module._orig_mod.{}", "model.{}"])
def test_prefixes_of_wrappers_come_off(name):
    arrays = {name.format(n): np.zeros(shape) for n, shape in EXPECTED.items()}
    assert list(fit(arrays, EXPECTED)) == list(EXPECTED)


def test_base_model_and_old_names_fit():
    arrays = {
        "embeddings.weight": np.zeros((4, 2)),
        "norm.gamma": np.ones(2),
        "embeddings.position_ids": np.zeros(4),
    }
    fitted = fit(arrays, EXPECTED, optional=("classifier.*",))
    assert list(fitted) == ["bert.embeddings.weight", "bert.norm.weight"]
    bare = {
        name.removeprefix("bert."): shape for name, shape in EXPECTED.items() if name != "classifier.weight"
    }
    full = {name: np.zeros(shape) for name, shape in EXPECTED.items()}
    assert list(fit(full, bare, optional=("classifier.*",))) == ["embeddings.weight", "norm.weight"]


def test_every_fault_of_a_checkpoint_is_listed():
    arrays = {
        "bert.norm.weight": np.zeros(7),
        "extra": np.zeros((1, 1)),
        "bert.norm.num_batches_tracked": np.zeros(()),
    }
    with pytest.raises(WeightsError) as caught:
        fit(arrays, EXPECTED)
    text = caught.value.what
    assert "4 faults" in text
    assert "missing: bert.embeddings.weight (4, 2)" in text
    assert "missing: classifier.weight (3, 2)" in text
    assert "unexpected: extra (1, 1)" in text
    assert "shapes differ: bert.norm.weight: checkpoint (7,), model (2,)" in text


def test_two_names_for_one_place_are_an_error():
    arrays = {"a": np.zeros(1), "module.a": np.ones(1)}
    with pytest.raises(WeightsError, match=r"unexpected: module\.a"):
        fit(arrays, {"a": (1,)})


def test_reading_needs_no_framework():
    code = (
        "import sys, twinax.weights.checkpoint, twinax.weights.rules; print({'torch', 'jax'} & {*sys.modules})"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr
