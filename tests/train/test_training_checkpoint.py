"""A checkpoint is whole or it is not there; one that was cut short or damaged is never taken."""

import json
import os
import shutil

import numpy as np
import pytest

from twinax.errors import BadInput, DiskFull
from twinax.records import Recipe
from twinax.train import checkpoint
from twinax.train.checkpoint import Checkpoint, Facts


def made(step):
    facts = Facts(
        twinax_version="0",
        twin="xor",
        config={"hidden": 2},
        preparation={},
        side="torch",
        dtype="float64",
        recipe=Recipe(),
        data="",
        fold=0,
        seed=0,
        step=step,
        steps=9,
        valid=({"step": 1, "seconds": 0.1, "loss": 0.3},),
    )
    draw = np.random.default_rng(step)
    weights = {"a.weight": draw.standard_normal((3, 2)), "n": np.arange(4)}
    state = {"momentum.a.weight": draw.standard_normal((3, 2))}
    return Checkpoint(facts, weights, state, weights, {"loss": draw.standard_normal(step)})


def test_it_comes_back_bit_for_bit(tmp_path):
    path = checkpoint.write(tmp_path, made(3), keep=3)
    back, given = checkpoint.read(path), made(3)
    assert path.name == "step-00000003" and back.facts.valid == given.facts.valid
    for kind in checkpoint.KINDS:
        ours, theirs = getattr(back, kind), getattr(given, kind)
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[n], theirs[n]) and ours[n].dtype == theirs[n].dtype for n in ours)


def test_the_newest_are_kept(tmp_path):
    for step in (1, 2, 3, 10, 11):
        checkpoint.write(tmp_path, made(step), keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010", "step-00000011"]
    assert checkpoint.newest(tmp_path).facts.step == 11


def cut(path):
    file = path / checkpoint.STATE_FILE
    os.truncate(file, file.stat().st_size - 1)


def flip(path):
    file = path / checkpoint.STATE_FILE
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)


def cut_facts(path):
    file = path / checkpoint.FACTS_FILE
    os.truncate(file, file.stat().st_size // 2)


def other_version(path):
    file = path / checkpoint.FACTS_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 99}))


def edit_facts(path):
    file = path / checkpoint.FACTS_FILE
    known = json.loads(file.read_text())
    file.write_text(json.dumps({**known, "preparation": {"mean": [1000.0]}}))


def other_type(path):
    file = path / checkpoint.FACTS_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), "dtype": "int8"}))


def lose(path):
    (path / checkpoint.STATE_FILE).unlink()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut, "cut short"),
        (flip, "checksum"),
        (cut_facts, "damaged"),
        (other_version, "format 99"),
        (edit_facts, "was edited"),
        (other_type, "was edited"),
        (lose, "no whole checkpoint"),
    ],
)
def test_a_damaged_one_is_named_and_passed_over(tmp_path, damage, told):
    checkpoint.write(tmp_path, made(1), keep=3)
    damage(checkpoint.write(tmp_path, made(2), keep=3))
    with pytest.raises(BadInput, match=told):
        checkpoint.read(tmp_path / "step-00000002")
    passed_over = []
    assert checkpoint.newest(tmp_path, passed_over).facts.step == 1
    assert len(passed_over) == 1 and told in passed_over[0] and "step-00000002" in passed_over[0]


def test_a_damaged_one_takes_no_whole_ones_place(tmp_path):
    checkpoint.write(tmp_path, made(1), keep=1)
    cut(checkpoint.write(tmp_path, made(5), keep=2))
    checkpoint.write(tmp_path, made(3), keep=1)  # went on from 1
    assert checkpoint.newest(tmp_path).facts.step == 3 and not (tmp_path / "step-00000001").exists()
    checkpoint.write(tmp_path, made(6), keep=1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000006"]


def test_what_a_killed_process_left_is_no_checkpoint_and_is_cleared(tmp_path):
    left = tmp_path / ".step-00000002.123"
    shutil.copytree(checkpoint.write(tmp_path, made(1), keep=3), left)
    assert checkpoint.newest(tmp_path).facts.step == 1
    checkpoint.write(tmp_path, made(3), keep=3)
    assert not left.exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskFull, match="could not be written"):
        checkpoint.write(tmp_path / "file" / "checkpoints", made(1), keep=1)


def test_nothing_there(tmp_path):
    assert checkpoint.newest(tmp_path / "none") is None
