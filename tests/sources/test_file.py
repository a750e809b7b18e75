"""A user's pair file: what it may define, and what is said of one that cannot be used."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import pytest

from twinax.errors import UserFileError
from twinax.records import Options, Size
from twinax.run.plan import execute
from twinax.sources.file import PairSide, resolve

GOOD = """
'''A line.'''
import numpy as np

def torch_model():
    from torch import nn
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))

def jax_model():
    import jax.numpy as jnp
    return (lambda params, x: x @ params["w"]), {"w": jnp.ones((3, 2))}

def example_batch(seed, batch_size):
    x = np.random.default_rng(seed).standard_normal((batch_size, 3))
    return {"x": x, "label": np.arange(batch_size, dtype=np.int32)}

inputs = ("x",)
"""


def pair(folder: Path, text: str = GOOD, **changes: str) -> str:
    """A pair file; each change appends a definition that replaces an earlier one."""
    path = folder / "my_pair.py"
    path.write_text(textwrap.dedent(text) + "".join(f"\n{line}\n" for line in changes.values()))
    return str(path)


def refusal(name: str) -> str:
    with pytest.raises(UserFileError) as caught:
        resolve(name)
    assert caught.value.hint
    return caught.value.what


def test_a_good_file(tmp_path: Path) -> None:
    twin = resolve(pair(tmp_path))
    assert (twin.title, twin.inputs) == ("A line.", ("x",))
    assert twin.presets["speed"].batch == 8
    assert twin.info.sources["torch"].startswith("def torch_model")
    assert "jnp" in twin.info.sources["jax"]


def test_weights_are_the_torch_models_own(tmp_path: Path) -> None:
    twin = resolve(pair(tmp_path))
    weights = twin.init(twin.config, 0)
    assert {n: a.shape for n, a in weights.items()}["0.weight"] == (2, 3)
    assert not any("num_batches" in name for name in weights)
    assert all(array.dtype == np.float32 for array in weights.values())
    again, other = twin.init(twin.config, 0), twin.init(twin.config, 1)
    np.testing.assert_array_equal(weights["0.weight"], again["0.weight"])
    assert not np.array_equal(weights["0.weight"], other["0.weight"])


def test_batches_differ_and_can_be_drawn_again(tmp_path: Path) -> None:
    twin = resolve(pair(tmp_path))
    first, second = twin.batches({}, Size(batch=5), 0, 2)
    assert first["x"].shape == (5, 3)
    assert first["label"].dtype == np.int64
    assert not np.array_equal(first["x"], second["x"])
    np.testing.assert_array_equal(first["x"], twin.batches({}, Size(batch=5), 0, 1)[0]["x"])


def test_data_that_changes_from_draw_to_draw_is_refused(tmp_path: Path) -> None:
    unseeded = "def example_batch(seed, n): return {'x': np.random.standard_normal((n, 3))}"
    said = refusal(pair(tmp_path, last=unseeded))
    assert "gives other data for 'x'" in said and ":19:" in said


def test_tied_weights_count_once(tmp_path: Path) -> None:
    tied = """
def torch_model():
    from torch import nn
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    return model
"""
    twin = resolve(pair(tmp_path, last=tied))
    assert list(twin.init({}, 0)) == ["0.weight", "0.bias", "2.bias"]


def test_a_constant_batch_gets_noise(tmp_path: Path) -> None:
    twin = resolve(
        pair(tmp_path, constant="example_batch = (np.ones((6, 3)), np.arange(6)); inputs = ['input_0']")
    )
    assert twin.presets["parity_quick"].batch == 6
    first, second = twin.batches({}, Size(batch=6), 0, 2)
    assert not np.array_equal(first["input_0"], second["input_0"])
    assert abs(first["input_0"] - 1).max() < 1
    np.testing.assert_array_equal(first["input_1"], np.arange(6))
    with pytest.raises(UserFileError, match="6 examples and cannot give 4"):
        twin.batches({}, Size(batch=4), 0, 1)


def test_the_default_loss_reaches_every_output_and_is_one_on_both_sides(tmp_path: Path) -> None:
    import jax.numpy as jnp
    import torch

    code = resolve(pair(tmp_path, last="channels_last = True"))
    image = np.random.default_rng(0).standard_normal((2, 3, 4, 5))  # NCHW
    vector = image[:, 0, 0]
    torch_loss = code.code("torch").loss({"a": torch.tensor(image), "b": torch.tensor(vector)}, {})
    moved = {"a": jnp.asarray(np.moveaxis(image, 1, -1)), "b": jnp.asarray(vector)}
    jax_loss = code.code("jax").loss(moved, {})
    assert float(torch_loss) == pytest.approx(float(jax_loss), rel=1e-5)
    swapped = code.code("torch").loss({"b": torch.tensor(image), "a": torch.tensor(vector)}, {})
    assert float(swapped) != pytest.approx(float(torch_loss), rel=1e-3)


def test_a_model_in_another_file(tmp_path: Path) -> None:
    (tmp_path / "other_model.py").write_text("from torch import nn\ndef make():\n    return nn.Linear(3, 2)\n")
    for reference in ("other_model.py:make", "other_model:make"):
        twin = resolve(pair(tmp_path, other=f"torch_model = '{reference}'"))
        assert list(twin.init({}, 0)) == ["weight", "bias"]
        assert twin.info.sources["torch"].startswith("from torch import nn")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ny = = 2", ":2: SyntaxError"),
        ("x = 1\n1 / 0", ":2: The file raised ZeroDivisionError"),
        ("import sys\nsys.exit(3)", ":2: The file ended the process"),
        ("import nowhere_to_be_found", ":1: The file raised ModuleNotFoundError"),
        ("torch_model = 'a.py:b'\nexample_batch = 1", ":1: The file defines no jax_model"),
        ("jax_model = 'a.py:b'", ":1: The file defines no torch_model"),
        ("jax_model = 'a.py:b'\ntorch_model = 3", ":2: torch_model is of type int"),
        ("jax_model = torch_model = 'a.py:b'", ":1: The file defines no example_batch"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    name = pair(tmp_path, text)
    assert refusal(name).startswith(name + said)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("inputs = ['y']", "inputs names y"),
        ("batch_size = 'many'", "batch_size is of type str"),
        ("rename = []", "rename is of type list"),
        ("torch_loss = len", "Only torch_loss is defined"),
        ("example_batch = {}", "is empty"),
        ("example_batch = {'x': [1, 2]}", "'x': list"),
        (
            "def example_batch(seed, batch_size): raise ValueError('no data')",
            "example_batch() raised ValueError: no data",
        ),
    ],
)
def test_a_wrong_definition_names_its_line(tmp_path: Path, line: str, said: str) -> None:
    name = pair(tmp_path, last=line)
    last = len(Path(name).read_text().splitlines())
    what = refusal(name)
    assert said in what
    assert what.startswith(f"{name}:{last}: ")


@pytest.mark.parametrize(
    ("side", "line", "said"),
    [
        ("torch", "def torch_model(): return 3", "torch_model() returned int"),
        ("jax", "def jax_model(): return 3", "of type int; expected a Flax NNX module"),
        ("torch", "def torch_model():\n    import sys; sys.exit()", "torch_model() ended the process"),
        ("jax", "jax_model = 'missing.py:f'", "missing.py:1: The file cannot be read"),
        ("torch", "torch_model = 'os:nothing'", "torch_model = 'os:nothing' raised AttributeError"),
    ],
)
def test_a_model_that_cannot_be_built(tmp_path: Path, side: str, line: str, said: str) -> None:
    path = pair(tmp_path, last=line.replace("os:nothing", "json:nothing").replace("'os", "'json"))
    said = said.replace("os:nothing", "json:nothing")
    with pytest.raises(UserFileError) as caught:
        PairSide(resolve_file(path), side).build({})
    assert said in caught.value.what


def resolve_file(path: str):
    from twinax.sources.file import PairFile

    return PairFile(Path(path))


@pytest.mark.parametrize("both", ["import jax\nimport torch", "import torch\nimport jax"])
def test_a_file_that_imports_both_frameworks_at_the_top(tmp_path: Path, both: str) -> None:
    name = pair(tmp_path, both + GOOD)
    line = both.splitlines().index("import jax") + 1
    with pytest.raises(UserFileError) as caught:
        execute(name, ["parity"], Options(quick=True), folder=tmp_path / "run")
    assert caught.value.what.startswith(f"{name}:{line}: The file imports jax")
    assert "Move the import into the function" in caught.value.hint
    assert not (tmp_path / "run").exists()


def test_a_file_that_fits_only_the_torch_worker(tmp_path: Path) -> None:
    name = pair(tmp_path, "import torch" + GOOD)
    with pytest.raises(UserFileError) as caught:
        execute(name, ["parity"], Options(quick=True), folder=tmp_path / "run")
    assert caught.value.what.startswith(f"{name}:1: The file imports torch")


def test_the_usual_loss_is_no_reason_to_leave_a_graph():
    import torch

    from twinax.frameworks import torch_graph

    twin = resolve(str(Path(__file__).parents[2] / "examples/encoder_pair.py"))
    code = twin.code("torch")
    model, (batch,) = code.build(twin.config), twin.batches(twin.config, twin.presets["parity_quick"], 0, 1)
    x = torch.from_numpy(batch[twin.inputs[0]])
    found = torch_graph.dynamo("grad", lambda x: code.loss(model(x), {}), x).dynamo
    assert found["graphs"] == 1 and found["breaks"] == []
