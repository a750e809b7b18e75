"""Training: both sides reach the twin's target; a target that is missed is found out."""

import math
from dataclasses import replace

import pytest

from cases import TWINS, small
from twinax.frameworks.make import make_runner
from twinax.records import Options, Outcome, Record
from twinax.studies import training_verbs
from twinax.studies.base import Context
from twinax.studies.training import TrainingStudy
from twinax.studies.training_verbs import met


class Worker:
    def __init__(self, context):
        self.context = context

    def send(self, verb, **arguments): ...

    def receive(self, timeout=None):
        return training_verbs.train(self.context)


class Crew:
    def __init__(self, twin, folder):
        self.twin, self.folder = twin, folder

    def start(self, *cells): ...

    def worker(self, cell):
        weights = self.twin.init(self.twin.config, 0)
        runner = make_runner(cell, self.twin, weights)
        return Worker(Context(self.twin, cell, Options(), runner, weights, self.folder, self.folder))

    def say(self, text): ...

    def record(self, cell, measurements=None, **more):
        return Record(cell=cell, measurements=measurements, outcome=more.pop("outcome", Outcome.OK), **more)


def train(twin, folder):
    (group,) = TrainingStudy().plan(twin.info, Options())
    return {r.cell.side: r for r in TrainingStudy().conduct(group, Crew(twin, folder))}


@pytest.mark.parametrize("name", [name for name in TWINS if small(name).target])
def test_both_sides_reach_the_target_and_the_same_end(name, tmp_path):
    records = train(small(name), tmp_path)
    assert [r.outcome for r in records.values()] == [Outcome.OK, Outcome.OK]
    torch, jax = (records[side].measurements for side in ("torch", "jax"))
    assert torch["final_loss"] == pytest.approx(jax["final_loss"], rel=1e-3)
    assert torch["loss_steps"][0] == 0 and torch["loss_steps"][-1] == torch["steps"] - 1
    assert len(torch["losses"]) == len(torch["loss_steps"])


def test_a_line_cannot_learn_exclusive_or(tmp_path):
    found = train(small("xor/logistic"), tmp_path)["torch"].measurements
    assert found["final_loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert found["predictions"] == pytest.approx([0.5] * 4, abs=1e-2)


def test_a_target_that_is_missed_is_a_mismatch_with_its_figures(tmp_path):
    twin = small("xor")
    record = train(replace(twin, target={**twin.target, "steps": 3}), tmp_path)["jax"]
    assert record.outcome is Outcome.MISMATCH and "loss 0." in record.message and record.hint


def test_a_twin_without_a_target_has_no_cells():
    assert TrainingStudy().plan(small("resnet50").info, Options()) == []


@pytest.mark.parametrize(
    ("target", "loss", "accuracy", "reached"),
    [
        ({"loss_at_most": 0.02, "accuracy": 1.0}, 0.02, 1.0, True),
        ({"loss_at_most": 0.02, "accuracy": 1.0}, 0.021, 1.0, False),
        ({"loss_at_most": 0.02, "accuracy": 1.0}, 0.001, 0.75, False),
        ({"loss_near": 0.6931}, 0.6935, 0.5, True),
        ({"loss_near": 0.6931}, 0.6, 0.5, False),
        ({"loss_at_most": 0.02}, math.nan, 1.0, False),
        ({"loss_near": 0.6931}, math.nan, 1.0, False),
    ],
)
def test_what_counts_as_reached(target, loss, accuracy, reached):
    assert met(target, loss, accuracy) is reached
