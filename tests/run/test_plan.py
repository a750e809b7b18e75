"""From a name to a run: what is refused, what is skipped and why, and what a resumed run does."""

from __future__ import annotations

import shutil

import pytest

from twinax.errors import BadInput, FrameworkMissing, RunError, TwinaxError
from twinax.records import Options, Outcome, Run
from twinax.run import plan
from twinax.run.launch import load_study
from twinax.run.plan import execute

QUICK = Options(quick=True)


@pytest.mark.parametrize(("there", "missing"), [("torch", "jax"), ("jax", "torch")])
def test_with_one_framework_what_can_work_does(there, missing, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "installed_sides", lambda: (there,))
    run, _ = execute("xor", ["parity", "graph"], QUICK, folder=tmp_path / "run")
    graphs = {r.cell.side: r for r in run.of("graph")}
    assert graphs[there].outcome is Outcome.OK and graphs[there].files
    assert graphs[missing].outcome is Outcome.SKIPPED
    proofs = list(run.of("parity"))
    assert len(proofs) == 5 and {r.outcome for r in proofs} == {Outcome.SKIPPED}
    for record in [*proofs, graphs[missing]]:
        assert f"{missing} is not installed" in record.message
        assert f"pip install 'twinax[{missing}]'" in record.hint


def test_with_no_framework_nothing_is_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "installed_sides", lambda: ())
    with pytest.raises(FrameworkMissing, match="Neither"):
        execute("xor", ["parity"], QUICK, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("xr", QUICK, "xor"),
        ("no_such_pair.py", QUICK, "There is no file no_such_pair.py"),
        ("xor", QUICK.model_copy(update={"modes": ("lazy",)}), "There is no mode called 'lazy'"),
        ("bert", QUICK.model_copy(update={"weights": "nowhere"}), "There is no checkpoint at nowhere"),
    ],
)
def test_what_cannot_be_used_leaves_no_folder(name, options, said, tmp_path):
    with pytest.raises(BadInput) as caught:
        execute(name, ["parity"], options, folder=tmp_path / "run")
    assert said in f"{caught.value.what} {caught.value.hint}" and caught.value.hint
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_does_not_fit_leaves_no_folder(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ")
    options = QUICK.model_copy(update={"weights": str(tmp_path / "weights.safetensors")})
    with pytest.raises(TwinaxError) as caught:
        execute("xor", ["parity"], options, folder=tmp_path / "run")
    assert caught.value.hint
    assert not (tmp_path / "run").exists()


def test_a_folder_that_holds_anything_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        execute("xor", ["graph"], QUICK, folder=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A run of two groups."""
    return execute("xor", ["training", "parity"], QUICK, folder=tmp_path_factory.mktemp("ended") / "run")


def test_resume_runs_only_what_is_missing_or_failed(ended, tmp_path):
    run, folder = ended[0], shutil.copytree(ended[1], tmp_path / "run")
    assert {r.outcome for r in run.records} == {Outcome.OK} and len(run.records) > 3
    first, second, *others = run.records
    crashed = second.model_copy(update={"outcome": Outcome.CRASHED, "message": "died"})
    run.model_copy(update={"records": (first, crashed, *others)}).save(folder)

    again, _ = execute("", [], Options(), resume=folder)
    assert {r.outcome for r in again.records} == {Outcome.OK}
    assert [r for r in again.records if r.cell.study == "parity"] == others  # not run again
    assert again.record(second.cell).message == ""
    assert Run.load(folder) == again


def test_a_resumed_group_knows_which_of_its_cells_have_ended(ended, tmp_path, monkeypatch):
    """Even where a study then brings nothing, no record that stands is lost."""
    run, folder = ended[0], shutil.copytree(ended[1], tmp_path / "run")
    first, second, *others = run.records
    run.model_copy(update={"records": (first, *others)}).save(folder)
    seen = []

    class Nothing(type(load_study("training"))):
        def conduct(self, group, crew):
            seen.append(group)
            return iter(())

    monkeypatch.setattr("twinax.run.launch.load_study", lambda name: Nothing())
    again, _ = execute("", [], Options(), resume=folder)
    assert [c.id for group in seen for c in group.missing] == [second.cell.id]
    assert [r.outcome for r in again.records if r.cell == first.cell] == [Outcome.OK]
    assert again.record(second.cell).outcome is Outcome.SKIPPED
