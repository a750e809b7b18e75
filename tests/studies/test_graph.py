"""Graph: both sides captured, counted and kept; what cannot be captured is a named outcome."""

import pytest

import runs
from cases import small
from twinax.analyse.graph import findings
from twinax.errors import CellFailed
from twinax.frameworks.make import make_runner
from twinax.records import COMPILED, Cell, Options, Outcome, Record
from twinax.studies import graph_verbs
from twinax.studies.base import Context
from twinax.studies.graph import GraphStudy


class Worker:
    """Does each verb at once, in the test's process."""

    def __init__(self, context, fails):
        self.context, self.fails, self.asked = context, fails, []

    def send(self, verb, **arguments):
        self.asked.append((verb, arguments))

    def receive(self, timeout=None):
        verb, arguments = self.asked.pop(0)
        if self.fails == (self.context.cell.side, arguments["program"]):
            raise CellFailed("unsupported", "torch could not capture grad.", "See the log.", self.context.cell)
        return graph_verbs.VERBS[verb](self.context, **arguments)


class Crew:
    def __init__(self, twin, options, folder, fails):
        self.twin, self.info, self.options = twin, twin.info, options
        self.folder, self.fails, self.workers = folder, fails, {}

    def worker(self, cell):
        if cell.id not in self.workers:
            weights = self.twin.init(self.twin.config, 0)
            runner = make_runner(cell, self.twin, weights)
            context = Context(self.twin, cell, self.options, runner, weights, self.folder, self.folder)
            self.workers[cell.id] = Worker(context, self.fails)
        return self.workers[cell.id]

    def start(self, *cells):
        for cell in cells:
            self.worker(cell)

    def stop(self, cell): ...

    def say(self, text): ...

    def record(self, cell, measurements=None, **more):
        more = {"outcome": Outcome.OK, "files": {}, **more}
        return Record(cell=cell, measurements=measurements or {}, **more)


def conduct(name, folder, fails=None, *, quick=True):
    twin, options = small(name), Options(quick=quick)
    (group,) = GraphStudy().plan(twin.info, options)
    return {r.cell.side: r for r in GraphStudy().conduct(group, Crew(twin, options, folder, fails))}


def test_both_sides_are_captured_and_kept(tmp_path):
    records = conduct("xor", tmp_path, quick=False)
    assert all(r.outcome is Outcome.OK for r in records.values())
    torch, jax = (records[side].measurements["programs"] for side in ("torch", "jax"))
    assert torch["forward"]["operations"]["aten"]["linear"] == 2  # one per layer
    assert torch["grad"]["operations"]["aten"]["mm"] >= 3  # two for weights, one for what flows back
    assert jax["forward"]["operations"]["jaxpr"]["dot_general"] == 2
    assert jax["grad"]["operations"]["jaxpr"]["dot_general"] > 2 and jax["step"]["operations"]["hlo"]
    assert torch["forward"]["kernels"]["fused"] >= 1 and jax["forward"]["kernels"]["fused"] >= 1
    assert any("Tensor.backward()" in left["reason"] for left in torch["step"]["dynamo"]["breaks"])
    assert torch["step"]["dynamo"]["graphs"] == 2 and torch["grad"]["dynamo"]["breaks"] == []
    forms = ("aten", "guards", "inductor")
    made = {f"{p}.{f}" for p in ("forward", "grad") for f in forms} | {"step.guards"}
    assert set(records["torch"].files) == made
    forms = ("jaxpr", "stablehlo", "hlo")
    assert set(records["jax"].files) == {f"{p}.{f}" for p in ("forward", "grad", "step") for f in forms}
    for record in records.values():
        for path in record.files.values():
            assert len((tmp_path / path).read_text()) > 100


def test_a_quick_run_leaves_out_the_step_and_inductor(tmp_path):
    torch = conduct("xor", tmp_path)["torch"].measurements["programs"]
    assert set(torch) == {"forward", "grad"} and torch["forward"]["kernels"] == {}


@pytest.mark.parametrize("name", ["resnet50", "bert"])
def test_both_sides_do_the_same_work_in_every_module(name):
    twin = small(name)
    size = twin.presets["speed_quick"]
    (batch,) = twin.batches(twin.config, size, 0, 1)
    trees = {}
    for side, mode in COMPILED.items():
        cell = Cell(twin=name, study="graph", side=side, mode=mode, size=size)
        runner = make_runner(cell, twin, twin.init(twin.config, 0))
        trees[side] = runner.capture("forward", batch, kernels=False).modules
    for path, row in trees["torch"].items():
        if row["flops"]:
            assert trees["jax"][path]["flops"] == row["flops"], path
    assert trees["torch"][""]["flops"] > 0

    shown = findings(record_of(trees))
    assert shown[0].verdict == "alike"
    path = next(p for p in trees["jax"] if p.endswith(("conv2", "query")))
    trees["jax"][path] = {**trees["jax"][path], "flops": 2 * trees["jax"][path]["flops"]}
    shown = findings(record_of(trees))
    assert shown[0].verdict == "parted" and path in shown[0].title


def record_of(trees):
    """A run in which the forward pass was captured with these module trees."""
    return runs.run(
        [
            Record(
                cell=runs.cell("graph", side, COMPILED[side]),
                outcome=Outcome.OK,
                measurements={"programs": {"forward": runs.captured({}, modules=tree)}},
            )
            for side, tree in trees.items()
        ]
    )


def test_what_cannot_be_captured_is_named_and_the_rest_is_kept(tmp_path):
    records = conduct("xor", tmp_path, fails=("torch", "grad"))
    failed = records["torch"]
    assert failed.outcome is Outcome.UNSUPPORTED and failed.message and failed.hint
    assert (
        set(failed.measurements["programs"]) == {"forward"}
        and (tmp_path / failed.files["forward.aten"]).exists()
    )
    assert records["jax"].outcome is Outcome.OK
