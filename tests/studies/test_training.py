"""The study: both sides reach the goal; one that is missed is found out; runs go on, on the other side too."""

import math

import numpy as np
import pytest

import twinax
from cases import TWINS, small
from twinax.api import train
from twinax.errors import BadInput, RunError
from twinax.records import Options, Outcome, Run
from twinax.run.plan import Silent, cross
from twinax.studies.training import TrainingStudy, judged, progress
from twinax.train.goal import met


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return train("xor", output=tmp_path_factory.mktemp("both") / "run")


def test_both_sides_reach_the_goal_and_the_same_end(both):
    records = {(r.cell.side, r.cell.repeat): r for r in both.run.records}
    assert records.keys() == {("torch", 0), ("jax", 0), ("torch", 1)}
    assert all(r.outcome is Outcome.OK for r in records.values())
    torch, jax = (records[side, 0].measurements["folds"][0] for side in ("torch", "jax"))
    assert torch["test"]["loss"] == pytest.approx(jax["test"]["loss"], rel=1e-2)
    assert torch["loss_steps"][0] == 1 and torch["loss_steps"][-1] == torch["steps"] == 1000
    assert torch["goal_s"] is not None and 0 < torch["goal_s"] < torch["seconds"]
    assert both.findings.one("training_curves").verdict == "alike"
    assert [f.verdict for f in both.findings.of("training")] == ["met", "met"]


def test_the_report_shows_scores_beside_baselines_and_the_curves(both):
    page = (both.folder / "report.html").read_text()
    assert "Test scores" in page and "always 1" in page and "How far apart the losses run" in page


def test_an_ended_training_goes_on_on_the_other_side(tmp_path):
    first = train("xor", sides=("torch",), output=tmp_path / "run", settings={"epochs": 30})
    assert [r.cell.side for r in first.run.records] == ["torch"]
    again = train(resume=tmp_path / "run", sides=("jax",))
    torch, jax = (r.measurements["folds"][0] for r in again.run.records)
    assert jax["sides"] == [["torch", 0, 30], ["jax", 30, 30]] or jax["sides"] == [
        ("torch", 0, 30),
        ("jax", 30, 30),
    ]
    assert jax["test"]["loss"] == pytest.approx(torch["test"]["loss"], rel=1e-5)


class Heard(Silent):
    def __init__(self):
        self.texts = []

    def said(self, cell, text):
        self.texts.append(text)


def test_a_damaged_checkpoint_is_named_when_a_training_goes_on(tmp_path):
    folder = tmp_path / "run"
    train("xor", sides=("torch",), output=folder, settings={"epochs": 40}, checkpoint_s=1e-9)
    damaged = max((folder / "checkpoints" / "torch" / "fold-1").glob("step-*"))
    (damaged / "state.safetensors").write_bytes(b"")
    (row,) = twinax.evaluate(folder)
    assert row["step"] < 40 and damaged.name in row["passed_over"][0]
    run = Run.load(folder)
    run.model_copy(update={"records": ()}).save(folder)
    heard = Heard()
    again = train(resume=folder, listener=heard)
    (said,) = (text for text in heard.texts if "passed over" in text)
    assert damaged.name in said and "cut short" in said
    assert damaged.name in again.findings.of("training")[0].title
    assert again.run.records[0].measurements["folds"][0]["step"] == 40


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    first = train("xor", sides=("torch",), output=tmp_path / "run", settings={"epochs": 5})
    run = first.run.model_copy(update={"records": ()})
    run = run.model_copy(update={"options": run.options.model_copy(update={"settings": {"epochs": 6}})})
    run.save(tmp_path / "run")
    with pytest.raises(BadInput, match="another training: its recipe"):
        train(resume=tmp_path / "run")


def test_evaluate_and_predict_use_the_best_weights_on_either_side(both, tmp_path):
    rows = [twinax.evaluate(both.folder, side=side)[0] for side in ("torch", "jax")]
    assert rows[0]["test"]["accuracy"] == rows[1]["test"]["accuracy"] == 1.0
    assert rows[0]["test"]["loss"] == pytest.approx(rows[1]["test"]["loss"], rel=1e-4)
    points = tmp_path / "points.csv"
    points.write_text("x,y\n0,1\n1,1\n")
    text = twinax.predict(both.folder, points, side="jax")
    lines = [line.split(",") for line in text.splitlines()]
    assert lines[0] == ["x", "y", "probability"] and float(lines[1][2]) > 0.5 > float(lines[2][2])


@pytest.mark.parametrize(
    ("text", "told"), [("a,b\n1,2\n", "lacks the columns"), ("x,y\n1,two\n", "row 1"), ("x,y\n", "no rows")]
)
def test_a_file_that_cannot_be_predicted_is_named(both, tmp_path, text, told):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(BadInput, match=told):
        twinax.predict(both.folder, tmp_path / "bad.csv")


def test_what_is_no_training_is_named(tmp_path):
    with pytest.raises(BadInput, match="no run and no checkpoint"):
        twinax.evaluate(tmp_path)
    with pytest.raises(BadInput, match="resnet50 has no task"):
        train("resnet50", output=tmp_path / "run")
    with pytest.raises(BadInput, match="no data but its four points"):
        train("xor", data="points.csv", output=tmp_path / "run")
    with pytest.raises(RunError):
        cross(tmp_path, ("jax",))
    assert not (tmp_path / "run").exists()


class Crew:
    def __init__(self, twin, **options):
        self.info, self.options = twin.info, Options(**options)

    def record(self, cell, measurements=None, **more):
        from twinax.records import Record

        return Record(cell=cell, measurements=measurements, outcome=more.pop("outcome", Outcome.OK), **more)


def test_a_goal_that_is_missed_is_a_mismatch_with_its_figures():
    twin = small("xor")
    cell = TrainingStudy().plan(twin.info, Options())[0].cells[0]
    folds = [{"test": {"loss": 0.7, "accuracy": 0.5}, "baselines": {"always 1": {"accuracy": 0.5}}}]
    record = judged(Crew(twin), cell, folds)
    assert record.outcome is Outcome.MISMATCH and "loss 0.7" in record.message and record.hint
    other = judged(Crew(twin, settings={"epochs": 1}), cell, folds)  # nothing was promised of other settings
    assert other.outcome is Outcome.OK and not other.measurements["met"]


def test_twins_that_take_longer_are_trained_when_asked():
    assert TrainingStudy().plan(small("resnet50").info, Options(preset="tiny")) == []
    for name in TWINS:
        info = small(name).info
        if info.task:
            assert bool(TrainingStudy().plan(info, Options())) is info.task.brief
            assert TrainingStudy().plan(info, Options(preset="tiny"))


@pytest.mark.parametrize(
    ("goal", "scores", "reached"),
    [
        ({"at_most": {"loss": 0.02}, "at_least": {"accuracy": 1.0}}, {"loss": 0.02, "accuracy": 1.0}, True),
        ({"at_most": {"loss": 0.02}, "at_least": {"accuracy": 1.0}}, {"loss": 0.021, "accuracy": 1.0}, False),
        ({"at_most": {"loss": 0.02}, "at_least": {"accuracy": 1.0}}, {"loss": 0.01, "accuracy": 0.75}, False),
        ({"near": {"loss": [0.6931, 1e-3]}}, {"loss": 0.6935}, True),
        ({"near": {"loss": [0.6931, 1e-3]}}, {"loss": 0.6}, False),
        ({"at_most": {"loss": 0.02}}, {"loss": math.nan}, False),
        ({"near": {"loss": [0.6931, 1e-3]}}, {"loss": math.nan}, False),
        ({"at_least": {"auc": 0.7}}, {}, False),
    ],
)
def test_what_counts_as_reached(goal, scores, reached):
    assert met(goal, scores) is reached


def test_progress_is_a_line():
    told = {"step": 5, "steps": 10, "loss": 0.5, "valid": None, "seconds": 4.0, "metric": "auc"}
    assert progress(told) == "step 5 of 10 ██████████░░░░░░░░░░, loss 0.5, about 4 s left"


@pytest.mark.parametrize("given", [{"seed": 4}, {"settings": {"epochs": 9}}, {"output": "elsewhere"}])
def test_what_a_training_was_begun_with_stays(both, given):
    with pytest.raises(BadInput, match=f"{next(iter(given))} cannot be given"):
        train(resume=both.folder, **given)
    with pytest.raises(BadInput, match="the twin cannot be given"):
        train("knn", resume=both.folder)


def test_an_input_that_only_the_solver_refuses_leaves_no_folder(tmp_path):
    with pytest.raises(BadInput, match="k = 100000"):
        train("knn", sides=("torch",), settings={"k": 100_000}, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_prices_that_never_move_are_named(tmp_path):
    days = np.datetime64("2015-01-01") + np.arange(1200)
    rows = "".join(f"{day},10,10,10,10,100\n" for day in days)
    (tmp_path / "flat.csv").write_text("Date,Open,High,Low,Close,Volume\n" + rows)
    small = {"epochs": 1, "hidden": 4}
    with pytest.raises(BadInput, match="never changes"):
        train(
            "lstm", sides=("torch",), data=str(tmp_path / "flat.csv"), settings=small, output=tmp_path / "run"
        )


def test_scores_that_are_no_number_end_a_training(tmp_path):
    diverging = {"epochs": 3, "learning_rate": 1000.0, "optimizer": "sgd", "momentum": 0.99, "clip": 1e9}
    with pytest.raises(BadInput, match=r"(loss|volatility_rmse) is (inf|nan)"):
        train("lstm", sides=("torch",), settings={**diverging, "hidden": 4}, output=tmp_path / "run")
