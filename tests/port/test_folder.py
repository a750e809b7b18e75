"""The folder that a port leaves, without a framework."""

from __future__ import annotations

import ast
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file

from twinax.errors import RunError
from twinax.port.torch_to_jax import folder as folders
from twinax.port.torch_to_jax.folder import Habits, Proof, Subject, compact, staged

SUBJECT = Subject(
    name="hf:/some where/config.json",
    title='A "model"',
    where="transformers 5",
    names=("input_ids", "mask"),
    inputs=("Input(name='input_ids', shape=(2, 3))", "Input(name='mask', shape=(2, 3))"),
    request={"task": "fill-mask"},
    seed=3,
    batch=2,
)
GOOD = {"name": "outputs", "count": 2, "worst": 1e-15, "where": "output", "passed": True}
BAD = {**GOOD, "name": "gradients", "worst": None, "where": "layer.weight", "passed": False}


@pytest.fixture
def port(tmp_path):
    ported = SimpleNamespace(
        source="model = nnx.Rngs(0)\n", weights={"a": np.ones((2, 3)).T}, constants={}, notes=()
    )
    folders.write(tmp_path, ported, SUBJECT, {"mask": np.ones((2, 3))})
    return tmp_path


def test_what_is_written_before_the_proof(port):
    assert {file.name for file in port.iterdir()} == {
        "model.py", "weights.safetensors", "pair.py", "example.npz", "README.md",
    }  # fmt: skip
    assert load_file(port / "weights.safetensors")["a"].shape == (3, 2)
    assert "NOT PROVED" in (port / "README.md").read_text()


@pytest.mark.parametrize("reference", ["", "/my_model.py:make"])
@pytest.mark.parametrize("habits", [Habits(), Habits(fixed=True), Habits(silent=("a.b",)), Habits(exact=True)])
def test_the_pair_file_defines_what_a_pair_file_must(port, habits, reference):
    from dataclasses import replace

    folders.pair(port, replace(SUBJECT, reference=reference), habits)
    tree = ast.parse((port / "pair.py").read_text())
    defined = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    defined |= {n.targets[0].id for n in tree.body if isinstance(n, ast.Assign)}
    assert {"torch_model", "jax_model", "example_batch", "inputs"} <= defined
    assert ast.get_docstring(tree).startswith('A "model"')


@pytest.mark.parametrize(
    ("proof", "said"),
    [
        (Proof([GOOD], batches=(4, 5)), "Numbers of examples in a batch for which the outputs agreed: 4, 5."),
        (Proof([GOOD], unproved=["spare"]), "Nothing was proved about spare"),
        (Proof([GOOD], limits=["It is what it is."]), "- It is what it is."),
        (
            Proof([GOOD, BAD], {"kind": "activation", "path": "layer", "detail": "eval"}),
            "difference is at `layer`",
        ),
        (Proof(), "**NOT PROVED.** Nothing has been compared"),
    ],
)
def test_the_readme_says_what_was_proved(port, proof, said):
    folders.finish(port, SUBJECT, proof)
    text = (port / "README.md").read_text()
    assert said in text and ("NOT PROVED" in text) is not proof.holds
    assert "nnx.reseed" in text and "def loss(params, rest, input_ids, mask)" in text


def test_no_comparison_is_no_proof():
    assert not Proof().holds and Proof([GOOD]).holds and not Proof([GOOD, BAD]).holds


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("kept")
    with pytest.raises(RunError, match="not empty"), staged(tmp_path):
        pytest.fail("the block must not run")
    assert (tmp_path / "mine").read_text() == "kept"


def test_a_port_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ValueError), staged(tmp_path / "new") as stage:
        (stage / "half").write_text("half")
        raise ValueError
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError), staged(tmp_path / "not" / "there" / "yet"):
        raise ValueError
    assert not list(tmp_path.iterdir())
    (tmp_path / "empty").mkdir()
    with staged(tmp_path / "empty") as stage:
        (stage / "whole").write_text("whole")
    assert [file.name for file in (tmp_path / "empty").iterdir()] == ["whole"]
    assert [file.name for file in tmp_path.iterdir()] == ["empty"]


def test_what_a_killed_port_left_is_removed(tmp_path):
    (tmp_path / ".new-999999999-x").mkdir()
    (tmp_path / ".new-mine").mkdir()
    with staged(tmp_path / "new") as stage:
        assert sorted(file.name for file in tmp_path.iterdir()) == sorted([".new-mine", stage.name])


def test_large_tensors_are_kept_in_part():
    large, inputs = np.arange(10000.0), np.zeros(9000)
    kept = compact({"eval|outputs|y": large, "inputs|x": inputs, "eval|outputs|z": np.ones((2, 2))})
    assert kept["eval|outputs|y"].size <= folders.KEPT and kept["inputs|x"].size == 9000
    np.testing.assert_allclose(kept["eval|outputs|y|summary"], [np.linalg.norm(large), large.sum()])
    assert kept["eval|outputs|z"].shape == (2, 2)
