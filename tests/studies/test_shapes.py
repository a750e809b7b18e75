"""Shapes: what compiles anew at a new size is seen in every mode; what fails keeps what was measured."""

import pytest

import runs
from cases import small
from twinax.analyse.shapes import findings
from twinax.errors import BadInput, CellFailed
from twinax.frameworks.make import make_runner
from twinax.records import SHAPE_MODES, Cell, Options, Outcome, Record, Size
from twinax.studies.base import Context
from twinax.studies.shapes import ShapesStudy, sizes
from twinax.studies.shapes_verbs import VERBS


class Crew:
    """One worker after the other, in the test's process."""

    def __init__(self, twin, options, folder, fails=None):
        self.twin, self.options, self.folder, self.fails, self.context = twin, options, folder, fails, None

    def worker(self, cell):
        if self.context is None:
            weights = self.twin.init(self.twin.config, 0)
            runner = make_runner(cell, self.twin, weights)
            self.context = Context(self.twin, cell, self.options, runner, weights, self.folder, self.folder)
        return self

    def call(self, verb, **arguments):
        if self.fails and arguments["size"]["batch"] > self.fails:
            raise CellFailed("out_of_memory", "No memory left.", "Use a smaller --batch.", self.context.cell)
        return VERBS[verb](self.context, **arguments)

    def stop(self, cell):
        self.context = None

    def say(self, text): ...

    def record(self, cell, measurements=None, **more):
        return Record(cell=cell, measurements=measurements or {}, **{"outcome": Outcome.OK, **more})


def swept(mode, side, tmp_path, name="xor", **more):
    twin, options = (
        small(name),
        Options(quick=True, modes=(mode,) if mode in ("eager", "compile", "jit") else ()),
    )
    size = Size(batch=4, dims=twin.presets["speed_quick"].dims)
    cell = Cell(twin=twin.info.name, study="shapes", side=side, mode=mode, size=size)
    return ShapesStudy()._swept(cell, Crew(twin, options, tmp_path, **more))


@pytest.mark.parametrize(
    ("side", "mode", "expected"),
    [
        ("torch", "eager", [0, 0, 0]),
        ("torch", "compile", [1, 1, 0]),  # static, then with symbols, which serve the third
        ("torch", "compile_static", [1, 1, 1]),
        ("torch", "compile_dynamic", [1, 0, 0]),
        ("jax", "jit", [1, 1, 1]),
    ],
)
def test_compilations_are_counted(side, mode, expected, tmp_path):
    record = swept(mode, side, tmp_path)
    points = record.measurements["points"]
    assert [point["compilations"] for point in points] == expected
    assert all(len(point["samples_s"]) >= 3 and point["first_s"] > 0 for point in points)
    for point in points:
        if point["compilations"]:
            assert point["first_s"] > 3 * min(point["samples_s"])


def test_what_fails_keeps_what_was_measured(tmp_path):
    record = swept("jit", "jax", tmp_path, fails=4)
    assert record.outcome is Outcome.OUT_OF_MEMORY and record.hint
    assert len(record.measurements["points"]) == 1


def test_sequences_get_a_workload(tmp_path):
    record = swept("jit", "jax", tmp_path, name="bert")
    assert record.measurements["workload"]["batch"] == 4 and record.measurements["workload"]["lengths"]
    assert [p["size"]["dims"]["sequence"] for p in record.measurements["points"]] == [12, 8]
    found = findings(runs.run([record]))
    assert {f.kind for f in found} == {"recompiles", "workload"}


def test_modes_that_were_asked_for_are_planned():
    twin = small("xor")
    full = ShapesStudy().plan(twin.info, Options())[0].cells
    assert [(c.side, c.mode) for c in full] == [(s, m) for s, modes in SHAPE_MODES.items() for m in modes]
    (only,) = ShapesStudy().plan(twin.info, Options(modes=("jit",)))[0].cells
    assert only.mode == "jit"


def test_sizes_are_different_and_start_with_the_largest():
    for size in (Size(batch=8), Size(batch=1), Size(batch=2, dims={"sequence": 16})):
        for quick in (True, False):
            found = sizes(size, quick=quick)
            assert (
                found[0] == size and len(found) >= 2 and len({s.model_dump_json() for s in found}) == len(found)
            )


def test_example_data_of_one_size_are_measured_at_that_size(tmp_path, monkeypatch):
    def refuse(self, verb, **arguments):
        if arguments["size"]["batch"] != 4:
            raise BadInput("example_batch holds 4 examples and cannot give 6.", "Make it a function.")
        return VERBS[verb](self.context, **arguments)

    monkeypatch.setattr(Crew, "call", refuse)
    record = swept("jit", "jax", tmp_path)
    assert record.outcome is Outcome.OK and len(record.measurements["points"]) == 1
    assert "cannot give" in record.measurements["note"]
