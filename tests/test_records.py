"""Runs: immutable, whole or not there, and refused with a reason."""

import json
import os

import pytest
from pydantic import ValidationError

from twinax.errors import DiskFull, RunError
from twinax.records import RUN_FILE, Cell, Options, Outcome, Record, Run, Size, TwinInfo, write_atomically

CELL = Cell(twin="xor", study="parity", side="torch", mode="eager", size=Size(batch=4))


def a_run(**changes):
    fields = {
        "twinax_version": "0",
        "created": "now",
        "command": "twinax compare xor",
        "twin": TwinInfo(name="xor", title="t", presets={}, inputs=("x",)),
        "studies": ("parity",),
        "options": Options(),
        "host": {},
        "planned": (CELL,),
    }
    return Run(**{**fields, **changes})


def test_a_run_comes_back_equal(tmp_path):
    run = a_run().with_record(Record(cell=CELL, outcome=Outcome.OK, measurements={"a": [1.5, None]}))
    run.save(tmp_path)
    assert Run.load(tmp_path) == run


def test_saving_twice_gives_the_same_bytes(tmp_path):
    run = a_run()
    run.save(tmp_path)
    first = (tmp_path / RUN_FILE).read_bytes()
    Run.load(tmp_path).save(tmp_path)
    assert (tmp_path / RUN_FILE).read_bytes() == first


def test_a_later_record_takes_the_place_of_the_earlier_one():
    run = a_run().with_record(Record(cell=CELL, outcome=Outcome.CRASHED))
    run = run.with_record(Record(cell=CELL, outcome=Outcome.OK))
    assert [r.outcome for r in run.records] == ["ok"] and run.complete


def test_a_run_without_every_record_is_not_complete():
    assert not a_run().complete


def test_nothing_can_be_changed_afterwards():
    with pytest.raises(ValidationError):
        CELL.mode = "compile"
    with pytest.raises(ValidationError):
        Options(batchsize=3)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "holds no readable run"),
        ("{", "is not a run"),
        ("[]", "is not a run"),
        ('{"schema_version": 99}', "schema version 99"),
        ('{"schema_version": 1}', "is damaged"),
    ],
)
def test_a_folder_that_is_no_run_is_refused(tmp_path, content, says):
    if content is not None:
        (tmp_path / RUN_FILE).write_text(content)
    with pytest.raises(RunError, match=says) as caught:
        Run.load(tmp_path)
    assert caught.value.hint


def test_an_unknown_field_is_named(tmp_path):
    data = json.loads(a_run().model_dump_json()) | {"extra": 1}
    (tmp_path / RUN_FILE).write_text(json.dumps(data))
    with pytest.raises(RunError, match="extra"):
        Run.load(tmp_path)


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    file = tmp_path / "f"
    write_atomically(file, b"old")
    real = os.fsync

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="No space left"):
        write_atomically(file, b"new")
    monkeypatch.setattr(os, "fsync", real)
    assert file.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["f"]


def test_cell_ids_are_safe_file_names():
    assert CELL.id == "parity.torch.eager.float32.b4.0"
