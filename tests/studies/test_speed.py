"""Speed: who is planned, whose turn it is, what is kept, and what happens to a cell that fails."""

from __future__ import annotations

from itertools import pairwise

import pytest

from cases import small
from twinax.errors import CellFailed
from twinax.frameworks.make import make_runner
from twinax.records import Options, Outcome, Record
from twinax.studies import speed, speed_verbs
from twinax.studies.base import Context
from twinax.studies.speed import SpeedStudy

SECONDS = {"eager": 0.02, "compile": 0.01, "op_by_op": 1.0, "jit": 0.0005}


class Worker:
    """Answers as a worker would, with made-up times, and writes down what it was asked."""

    def __init__(self, cell, diary, fails_at):
        self.cell, self.diary, self.fails_at = cell, diary, fails_at
        self.ready = {"import_s": 1.0, "build_s": 0.5}

    def call(self, verb, timeout=None, **arguments):
        self.diary.append((self.cell.id, verb, arguments))
        if self.fails_at == (self.cell.mode, verb):
            raise CellFailed("timed_out", f"{self.cell.id} gave no answer.", "Raise --timeout.", self.cell)
        seconds = SECONDS.get(self.cell.mode, 0.1)
        if verb == "prepare":
            phases = {"trace_s": 0.1, "compile_s": 0.2, "first_s": 0.4, "flops": 1e6, "compiled": {}}
            return {**phases, "iteration_s": seconds}
        if verb == "fingerprint":
            moved = 0.1 if self.fails_at == (self.cell.mode, "computes something else") else 0.0
            return {"outputs": {"output": [10.0, 1.0 + moved]}}
        if verb == "time_block":
            samples = [seconds] * arguments["samples"]
            return {"samples_s": samples, "foreign_cpu": 0.2, "disturbed": self.cell.mode == "eager"}
        if verb == "peak":
            return {"method": "resident high-water mark", "peak_bytes": 2, "baseline_bytes": 1}
        if verb == "shapes":
            return {"matmul": [[2, 3, 4], [4, 5, 6]], "convolution": []}
        unit = "B/s" if arguments["kind"] == "bandwidth" else "FLOP/s"
        return {**arguments, "seconds": 1.0, "rate": float(sum(arguments["shape"])), "unit": unit}


class Crew:
    """Keeps a diary of everything that happens."""

    def __init__(self, options, fails_at=None):
        self.info = small("resnet50").info
        self.options, self.fails_at, self.diary, self.alive = options, fails_at, [], {}
        self.most_alive = 0

    def worker(self, cell):
        self.alive.setdefault(cell.id, Worker(cell, self.diary, self.fails_at))
        self.most_alive = max(self.most_alive, len(self.alive))
        return self.alive[cell.id]

    def start(self, *cells):
        for cell in cells:
            self.worker(cell)

    def stop(self, cell):
        self.diary.append((cell.id, "stopped", {}))
        self.alive.pop(cell.id, None)

    def settle(self):
        self.diary.append(("", "settle", {}))

    def say(self, text): ...

    def record(self, cell, measurements=None, **more):
        return Record(
            cell=cell, measurements=measurements or {}, outcome=more.pop("outcome", Outcome.OK), **more
        )


def conduct(options, fails_at=None):
    info = small("resnet50").info
    crew, records, cells = Crew(options, fails_at), [], []
    for group in SpeedStudy().plan(info, options):
        cells += group.cells
        records += SpeedStudy().conduct(group, crew)
        crew.alive = {
            i: w for i, w in crew.alive.items() if w.cell.mode != "calibrate"
        }  # the launcher's to end
    assert sorted(r.cell.id for r in records) == sorted(c.id for c in cells)  # nothing silently missing
    return crew, {r.cell.id: r for r in records}


def of(records, mode, repeat=0):
    return next(r for r in records.values() if (r.cell.mode, r.cell.repeat) == (mode, repeat))


def test_quick_skips_modes_by_name_and_says_how_to_get_them():
    crew, records = conduct(Options(quick=True))
    for mode in ("compile", "op_by_op"):
        skipped = of(records, mode)
        assert skipped.outcome is Outcome.SKIPPED and f"--modes {mode}" in skipped.hint
    assert of(records, "eager").outcome is Outcome.OK and of(records, "jit").outcome is Outcome.OK
    assert not crew.alive


def test_full_measures_every_mode_in_several_processes():
    crew, records = conduct(Options())
    assert {r.outcome for r in records.values()} == {Outcome.OK}
    assert max(r.cell.repeat for r in records.values()) + 1 >= 3
    assert crew.most_alive == 4  # of one repeat at a time
    assert not of(records, "jit", 0).measurements["warm"] and of(records, "jit", 1).measurements["warm"]


def test_modes_that_were_asked_for_are_measured_even_when_quick():
    _, records = conduct(Options(quick=True, modes=("compile",)))
    assert of(records, "compile").outcome is Outcome.OK
    assert of(records, "eager").outcome is Outcome.SKIPPED


def test_every_sample_knows_its_round_and_who_disturbed_it():
    _, records = conduct(Options())
    for record in records.values():
        for found in record.measurements.get("programs", {}).values():
            lengths = {len(found[k]) for k in ("samples_s", "disturbed", "foreign_cpu", "rounds")}
            assert len(lengths) == 1 and lengths.pop() > 0
            assert found["rounds"] == sorted(found["rounds"])
    eager, jit = of(records, "eager"), of(records, "jit")
    assert all(eager.measurements["programs"]["grad"]["disturbed"])
    assert not any(jit.measurements["programs"]["grad"]["disturbed"])


def test_each_turn_begins_in_silence_and_nobody_has_two_in_a_row_by_rule():
    crew, _ = conduct(Options())
    entries = [entry for entry in crew.diary if entry[1] != "stopped"]
    for before, (_, verb, _) in pairwise(entries):
        if verb in ("prepare", "time_block", "time_kernel"):
            assert before[1] == "settle"


def test_the_order_of_turns_is_drawn_and_can_be_drawn_again():
    def turns(seed):
        crew, _ = conduct(Options(seed=seed))
        return [cell for cell, verb, _ in crew.diary if verb == "time_block"]

    assert turns(0) == turns(0) != turns(1)
    first = [turns(0)[i : i + 4] for i in range(0, 24, 4)]
    assert len({tuple(round_) for round_ in first}) > 1  # not one fixed order
    assert all(len(set(round_)) == 4 for round_ in first)  # one turn each per round


def test_blocks_are_long_enough_to_see_others_and_data_is_new_in_each():
    crew, _ = conduct(Options())
    blocks = [(cell, a) for cell, verb, a in crew.diary if verb == "time_block" and ".jit." in cell]
    assert all(a["samples"] * a["calls"] * SECONDS["jit"] == pytest.approx(0.1) for _, a in blocks)
    starts = [a["start"] for cell, a in blocks if cell == blocks[0][0] and a["program"] == "grad"]
    assert starts == [i * 200 for i in range(len(starts))]


def test_long_iterations_get_fewer_rounds(monkeypatch):
    def rounds():
        _, records = conduct(Options())
        return len(set(of(records, "jit").measurements["programs"]["grad"]["rounds"]))

    quick = rounds()
    monkeypatch.setitem(SECONDS, "op_by_op", 30.0)
    assert rounds() == speed.ROUNDS["full"][0] < quick


@pytest.mark.parametrize("verb", ["prepare", "time_block", "peak"])
def test_a_cell_that_fails_leaves_and_the_others_go_on(verb):
    crew, records = conduct(Options(), fails_at=("compile", verb))
    failed = of(records, "compile")
    assert failed.outcome is Outcome.TIMED_OUT and failed.message and failed.hint
    assert all(r.outcome is Outcome.OK for r in records.values() if r.cell.mode != "compile")
    assert not crew.alive


def test_a_mode_that_computes_something_else_is_not_timed():
    crew, records = conduct(Options(), fails_at=("compile", "computes something else"))
    wrong = of(records, "compile")
    assert wrong.outcome is Outcome.MISMATCH
    assert "moves by 1.0e-02 of its norm from mode eager" in wrong.message and "--modes eager" in wrong.hint
    assert all(r.outcome is Outcome.OK for r in records.values() if r.cell.mode != "compile")
    assert not [cell for cell, verb, _ in crew.diary if verb == "time_block" and ".compile." in cell]


def test_calibration_shows_both_sides_the_same_work():
    _, records = conduct(Options())
    found = [r.measurements for r in records.values() if r.cell.mode == "calibrate"]
    assert len(found) == 2
    work = [[(row["kind"], row["shape"]) for row in m["calibration"]] for m in found]
    assert work[0] == work[1] and ("bandwidth", [1 << 24]) in work[0]
    assert all(m["peak_flops"] == 1024 + 768 + 3072 for m in found)  # a bandwidth is no peak


# --- the verbs, on real runners ------------------------------------------------------------------


def context(name, side, tmp_path):
    twin, options = small(name), Options(quick=True)
    group, _ = SpeedStudy().plan(twin.info, options)
    cell = next(c for c in group.cells if c.side == side)
    weights = twin.init(twin.config, 0)
    return Context(twin, cell, options, make_runner(cell, twin, weights), weights, tmp_path, tmp_path)


def test_both_sides_have_the_same_fingerprint(tmp_path):
    found = []
    for side in ("torch", "jax"):
        here = context("xor", side, tmp_path)
        speed_verbs.prepare(here, program="forward")
        found.append(speed_verbs.fingerprint(here)["outputs"])
    assert set(found[0]) == {"logits", "probability"}
    for name in found[0]:
        assert found[0][name] == pytest.approx(found[1][name], rel=1e-5)


@pytest.mark.parametrize("side", ["torch", "jax"])
def test_verbs_measure_a_real_program(side, tmp_path):
    here = context("xor", side, tmp_path)
    for program in speed.PROGRAMS:
        found = speed_verbs.prepare(here, program=program)
        assert 0 < found["iteration_s"] <= found["first_s"]
        block = speed_verbs.time_block(here, program=program, samples=3, calls=2, start=0)
        assert len(block["samples_s"]) == 3 and min(block["samples_s"]) > 0
    memory = speed_verbs.peak(here)
    assert memory["peak_bytes"] >= memory["baseline_bytes"] > 0 and memory["method"]
    kernel = speed_verbs.time_kernel(here, kind="matmul", shape=[8, 16, 32])
    assert kernel["rate"] == pytest.approx(2 * 8 * 16 * 32 / kernel["seconds"])
    triad = speed_verbs.time_kernel(here, kind="bandwidth", shape=[1000])
    assert triad["rate"] == pytest.approx(3 * 4 * 1000 / triad["seconds"]) and triad["unit"] == "B/s"


def test_forward_runs_in_eval_mode_whatever_was_prepared_after_it(tmp_path):
    """In train mode it would move BatchNorm's running statistics, and take longer."""
    here = context("resnet50", "torch", tmp_path)
    speed_verbs.prepare(here, program="forward")
    speed_verbs.prepare(here, program="step")
    before = here.runner.weights()["bn1.running_mean"]
    speed_verbs.time_block(here, program="forward", samples=1, calls=1, start=0)
    assert (here.runner.weights()["bn1.running_mean"] == before).all()


def test_shapes_are_the_models_own(tmp_path):
    twin = small("bert")
    found = speed_verbs.shapes(context("bert", "torch", tmp_path), most=2)
    rows = twin.presets["speed"].batch * twin.presets["speed"].dims["sequence"]
    assert all(shape[0] == rows for shape in found["matmul"]) and not found["convolution"]
    assert found["matmul"][-1][1:] in ([200, 32], [32, 200], [32, 48], [48, 32])
    images = speed_verbs.shapes(context("resnet50", "torch", tmp_path), most=2)
    assert all(len(shape) == 6 for shape in images["convolution"]) and images["convolution"]
