"""The code study: both sources read in a process without a framework; what cannot be read is named."""

import pytest

import runs
from twinax.errors import CellFailed
from twinax.records import Options, Outcome, Record
from twinax.run.plan import execute
from twinax.sources import zoo
from twinax.studies import code_verbs
from twinax.studies.code import CodeStudy


class Worker:
    def __init__(self, fails):
        self.fails = fails

    def call(self, verb, timeout=None, **arguments):
        if self.fails:
            raise CellFailed("crashed", "The worker died.", "See its log.")
        return code_verbs.VERBS[verb](None, **arguments)


class Crew:
    def __init__(self, info, fails):
        self.info, self.fails, self.stopped = info, fails, 0

    def worker(self, cell):
        return Worker(self.fails)

    def stop(self, cell):
        self.stopped += 1

    def say(self, text): ...

    def record(self, cell, measurements=None, **more):
        return Record(cell=cell, measurements=measurements or {}, **{"outcome": Outcome.OK, **more})


def conduct(sources, fails=False):
    info = runs.info(sources=sources)
    (group,) = CodeStudy().plan(info, Options())
    crew = Crew(info, fails)
    (record,) = CodeStudy().conduct(group, crew)
    assert record.cell == group.cells[0] and record.cell.side == "both"
    assert crew.stopped == bool(sources)
    return record


def test_both_sources_are_read_and_aligned():
    record = conduct(zoo.resolve("resnet50").info.sources)
    sides, blocks = record.measurements["sides"], record.measurements["blocks"]
    assert record.outcome is Outcome.OK
    assert sides["torch"]["figures"]["tokens"] == sum(b["torch"]["tokens"] for b in blocks if b["torch"])
    assert sides["jax"]["figures"]["tokens"] == sum(b["jax"]["tokens"] for b in blocks if b["jax"])
    alone = [b["title"] for b in blocks if b["torch"] is None]
    assert "BatchNorm.__call__" in alone and "conv" in alone


@pytest.mark.parametrize(
    ("jax", "said"), [("def f(:", "Line 1"), ("", "no source"), (None, "no source"), ("# nothing", "no code")]
)
def test_a_side_that_cannot_be_read_is_said_and_the_other_is_still_counted(jax, said):
    sources = {"torch": "x = 1", **({} if jax is None else {"jax": jax})}
    record = conduct(sources)
    assert record.outcome is Outcome.OK and record.measurements["blocks"] == []
    assert record.measurements["sides"]["torch"]["figures"]["tokens"] == 3
    assert said in record.measurements["sides"]["jax"]["said"]


def test_two_sources_that_cannot_be_read_end_unsupported():
    record = conduct({"torch": "def f(:", "jax": "\0"})
    assert record.outcome is Outcome.UNSUPPORTED
    assert "torch: Line 1" in record.message and "null" in record.message


def test_no_sources_end_skipped():
    assert conduct({}).outcome is Outcome.SKIPPED


def test_a_worker_that_dies_is_named():
    record = conduct({"torch": "x = 1", "jax": "x = 1"}, fails=True)
    assert (record.outcome, record.message) == (Outcome.CRASHED, "The worker died.")


def test_in_a_worker_of_its_own(tmp_path):
    run, _ = execute("xor", ["code"], Options(), folder=tmp_path / "run")
    (record,) = run.records
    assert record.outcome is Outcome.OK and record.environment == {}  # it holds no framework
    assert run.load(tmp_path / "run").records == run.records  # all of it is JSON
