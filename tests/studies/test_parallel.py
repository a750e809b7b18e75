"""The parallel study: who is planned, what is proved before it is timed, what becomes of a failing cell."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import runs
from cluster_records import H100
from twinax.errors import CellFailed
from twinax.frameworks.parallel import STRATEGIES
from twinax.records import Cell, Cluster, Options, Outcome, Record, Size
from twinax.studies import parallel
from twinax.studies.parallel import ParallelStudy

QUICK, FULL = Options(quick=True), Options()
TRAFFIC = [
    {"kind": "all_reduce", "bytes": 100, "ranks": 2, "count": 3, "arrays": 2},
    {"kind": "send", "bytes": 8, "ranks": 2, "count": 1, "arrays": 1},
]
HELD = {"parameters": 4, "gradients": 4, "optimizer": 4, "activations": 9}


def info(batch: int = 8, sides: tuple[str, ...] = ("torch", "jax")):
    size = Size(batch=batch, dims={"image": 32})
    return runs.info(sides=sides, presets={"parity_quick": size, "speed_quick": size, "parity": size})


def planned(options: Options, **how: Any) -> list[Cell]:
    (group,) = ParallelStudy().plan(info(**how), options)
    return list(group.cells)


# --- the plan --------------------------------------------------------------------------------------


def test_quick_asks_for_each_strategy_on_two_ranks_of_both_sides():
    cells = planned(QUICK)
    assert [(c.side, c.mode, c.ranks) for c in cells[:2]] == [("torch", "single", 1), ("jax", "single", 1)]
    strategies = [s for s in STRATEGIES if s != "data_tensor"]  # which needs four
    assert {(c.side, c.mode, c.ranks, c.processes) for c in cells[2:]} == {
        (side, s, 2, 2) for side in ("torch", "jax") for s in strategies
    }
    assert len({c.id for c in cells}) == len(cells)


def test_full_adds_one_rank_four_ranks_and_jax_in_one_process():
    cells = planned(FULL)
    assert {c.ranks for c in cells if c.mode == "data"} == {1, 2, 4}
    assert {(c.ranks, c.side, c.processes) for c in cells if c.mode == "data_tensor"} == {
        (4, "torch", 4),
        (4, "jax", 4),
        (4, "jax", 1),
    }
    assert {(c.side, c.ranks) for c in cells if c.processes < c.ranks} == {("jax", 2), ("jax", 4)}
    assert {(c.side, c.ranks) for c in cells if c.mode == "replicas"} == {
        (side, n) for side in ("torch", "jax") for n in (2, 4)
    }
    assert len({c.id for c in cells}) == len(cells)


def test_a_quick_run_calibrates_only_for_a_cluster():
    assert not [c for c in planned(QUICK) if c.mode == "replicas"]
    stated = planned(Options(quick=True, cluster=Cluster(**H100)))
    assert [(c.side, c.ranks) for c in stated if c.mode == "replicas"] == [("torch", 2), ("jax", 2)]


def test_a_quick_run_for_a_cluster_has_one_rank_too_which_shows_what_the_engine_adds():
    stated = planned(Options(quick=True, cluster=Cluster(**H100)))
    for strategy in (s for s in STRATEGIES if s != "data_tensor"):
        assert [(c.side, c.ranks) for c in stated if c.mode == strategy] == [
            (side, n) for n in (1, 2) for side in ("torch", "jax")
        ]
    asked = planned(Options(quick=True, cluster=Cluster(**H100), ranks=(4,)))
    assert {c.ranks for c in asked if c.mode != "single"} == {4}


def test_ranks_and_sides_that_were_asked_for_are_planned():
    cells = planned(Options(ranks=(3,), dtype="bfloat16"), sides=("torch",))
    assert {c.side for c in cells} == {"torch"} and {c.dtype for c in cells} == {"bfloat16"}
    assert {c.ranks for c in cells if c.mode != "single"} == {3}


@pytest.mark.parametrize(
    ("batch", "ranks", "expected"),
    [(8, (2,), 8), (3, (2,), 4), (5, (1, 2, 4), 8), (4, (3,), 12), (9, (8, 3), 24)],
)
def test_the_batch_grows_until_ranks_and_micro_batches_divide_it(batch, ranks, expected):
    size = parallel.sized(info(batch), "parity_quick", QUICK, ranks)
    assert size == Size(batch=expected, dims={"image": 32})


def test_a_batch_that_was_asked_for_stays():
    assert parallel.sized(info(8), "parity_quick", Options(batch=5), (2,)).batch == 5
    assert parallel.sized(info(8), "no such preset", QUICK, (3,)) == Size(batch=12)


def test_the_proof_takes_as_many_examples_as_are_timed_each_as_small_as_parity_has_it():
    small, large = Size(batch=2, dims={"image": 32}), Size(batch=16, dims={"image": 224})
    cell = planned(QUICK)[0].model_copy(update={"size": large})
    known = runs.info(presets={"parity": small, "parity_quick": replace_dims(small, 16)})
    assert parallel.proof_size(known, cell, FULL) == {"batch": 16, "dims": {"image": 32}}
    assert parallel.proof_size(known, cell, QUICK) == {"batch": 16, "dims": {"image": 16}}


def replace_dims(size: Size, image: int) -> Size:
    return size.model_copy(update={"dims": {"image": image}})


def test_both_sides_take_turns_and_jax_in_one_process_is_alone():
    cells = [c for c in planned(FULL) if c.mode in ("data", "tensor") and c.ranks == 2]
    turns = [[(c.side, c.mode, c.processes) for c in group] for group in parallel.taking_turns(iter(cells))]
    assert turns == [
        [("torch", "data", 2), ("jax", "data", 2)],
        [("jax", "data", 1)],
        [("torch", "tensor", 2), ("jax", "tensor", 2)],
        [("jax", "tensor", 1)],
    ]


def test_a_step_lasts_as_long_as_its_slowest_process():
    answer = {
        "samples_s": [1.0, 5.0, 2.0],
        "others": [{"samples_s": [2.0, 3.0, 2.5]}, {"samples_s": [0, 9, 0]}],
    }
    assert parallel.slowest(answer) == [2.0, 9, 2.5]
    assert parallel.slowest({"samples_s": [1.0]}) == [1.0]  # a cell of one process
    with pytest.raises(ValueError, match="shorter"):
        parallel.slowest({"samples_s": [1.0, 2.0], "others": [{"samples_s": [1.0]}]})


@pytest.mark.parametrize(("batch", "ranks", "count"), [(8, 2, 4), (12, 3, 4), (6, 2, 2), (9, 3, 3)])
def test_micro_batches_are_four_where_they_divide_the_batch(batch, ranks, count):
    cell = planned(QUICK)[0].model_copy(update={"size": Size(batch=batch), "ranks": ranks})
    assert parallel.micro_batch_count(cell) == count


# --- conducting, with workers that only answer --------------------------------------------------------


@dataclass
class Worker:
    cell: Cell
    crew: Crew
    pids: list[int] = field(default_factory=list)

    def call(self, verb: str, timeout: float | None = None, **arguments: Any) -> dict[str, Any]:
        cell = self.cell
        self.crew.diary.append((cell.id, verb, arguments))
        outcome = self.crew.fails.get((cell.side, cell.mode, verb))
        if outcome:
            raise CellFailed(outcome, f"{cell.id} failed at {verb}.", "See its log.", cell)
        answer = self.answer(verb, arguments)
        return answer if cell.processes == 1 else {**answer, "others": [answer] * (cell.processes - 1)}

    def answer(self, verb: str, arguments: dict[str, Any]) -> dict[str, Any]:
        step = self.crew.seconds[self.cell.side]
        if verb == "reference":
            return {"batch_norm": self.crew.batch_norm, "across": [] if arguments["other"] else None}
        if verb == "single":
            return {"first_s": 0.1, "parameter_bytes": 40, "held": HELD, "traffic": [], "lines": {}}
        if verb == "prove":
            error = self.crew.wrong.get((self.cell.side, self.cell.mode), 0.0)
            bad = {"what": "gradients", "path": "fc.weight", "error": error}
            failed = error != 0.0
            check = {"kind": self.crew.kind, "where": "fc.weight", "worst": error, "passed": not failed}
            check["name"] = f"{self.crew.kind}, adamw"
            names = [check["name"]] if failed else []
            checks = [check] * ((self.cell.side, self.cell.mode) not in self.crew.unproved)
            return {"checks": checks, "mismatches": [bad] * failed, "failed": names, "worst": error}
        if verb == "ready":
            facts = {"sharded share": 0.5, "micro-batches": 4}
            return {"first_s": 0.1, "traffic": TRAFFIC, "held": HELD, "facts": facts}
        if verb == "time_steps":
            return {"samples_s": [step] * arguments["count"]}
        if verb == "replay":
            return {"samples_s": [0.25, 1.0, 0.25] if arguments["kind"] == "all_reduce" else [0.25] * 3}
        if verb == "paced":
            work_s, count = arguments["work_s"], arguments["count"]
            return {"work_s": [work_s] * count, "samples_s": [work_s + 0.002] * count}
        if verb == "pages":
            return {"samples_s": [arguments["size"] * 1e-9] * arguments["count"]}
        return {"threads": 1, "taken_bytes": 7}


class Crew:
    """Keeps a diary of everything that its workers were asked."""

    def __init__(self, options: Options, scratch: Path, **how: Any) -> None:
        self.options, self.scratch, self.folder, self.info = options, scratch, scratch, info()
        self.batch_norm: bool = how.get("batch_norm", True)
        self.fails: dict[Any, str] = how.get("fails", {})
        self.wrong: dict[Any, float | None] = how.get("wrong", {})
        self.kind: str = how.get("kind", "gradients")
        self.unproved: list[tuple[str, str]] = how.get("unproved", [])
        self.seconds: dict[str, float] = how.get("seconds", {"torch": 0.01, "jax": 0.02})
        self.diary: list[tuple[str, str, dict[str, Any]]] = []
        self.alive: dict[str, Worker] = {}

    def worker(self, cell: Cell) -> Worker:
        return self.alive.setdefault(cell.id, Worker(cell, self))

    def start(self, *cells: Cell) -> None:
        for cell in cells:
            self.worker(cell)

    def stop(self, cell: Cell) -> None:
        self.alive.pop(cell.id, None)

    def settle(self) -> None: ...

    def say(self, text: str) -> None: ...

    def record(self, cell: Cell, measurements: Any = None, **more: Any) -> Record:
        known = {"outcome": Outcome.OK, **more}
        return Record(cell=cell, measurements=measurements or {}, **known)

    def asked(self, record: Record) -> list[str]:
        return [verb for cell, verb, _ in self.diary if cell == record.cell.id]

    def arguments(self, record: Record, verb: str) -> list[dict[str, Any]]:
        return [given for cell, asked, given in self.diary if (cell, asked) == (record.cell.id, verb)]


class Conducted:
    """A whole study, conducted; every planned cell has exactly one record, and no worker is left."""

    def __init__(self, tmp_path: Path, options: Options = QUICK, **how: Any) -> None:
        self.crew: Any = Crew(options, tmp_path, **how)
        (group,) = ParallelStudy().plan(self.crew.info, options)
        self.records = list(ParallelStudy().conduct(group, self.crew))
        assert sorted(r.cell.id for r in self.records) == sorted(c.id for c in group.cells)
        assert not self.crew.alive

    def one(self, side: str, mode: str, ranks: int = 2, processes: int | None = None) -> Record:
        wanted = (side, mode, ranks, processes or ranks)
        (found,) = [
            r for r in self.records if (r.cell.side, r.cell.mode, r.cell.ranks, r.cell.processes) == wanted
        ]
        return found


@pytest.mark.parametrize("options", [QUICK, FULL], ids=["quick", "full"])
def test_every_cell_is_proved_then_readied_then_timed(tmp_path, options):
    whole = Conducted(tmp_path, options)
    assert {r.outcome for r in whole.records} == {Outcome.OK}
    for record in whole.records:
        asked = [v for v in whole.crew.asked(record) if v != "take"]
        if record.cell.mode not in ("single", "replicas"):
            assert asked[:3] == ["prove", "ready", "time_steps"], record.cell.id
            assert record.measurements["step_s"] and record.measurements["parity"]["checks"]
            assert "others" not in record.measurements["parity"]
            others = record.cell.processes - 1
            assert record.measurements["others_held"] == [HELD] * others
            assert record.measurements["others_traffic"] == [TRAFFIC] * others


def test_a_resumed_run_repeats_the_references_and_the_turns_in_which_something_is_missing(tmp_path):
    crew: Any = Crew(FULL, tmp_path)
    (group,) = ParallelStudy().plan(crew.info, FULL)
    lost = {c.id for c in group.cells if (c.mode, c.ranks, c.side, c.processes) == ("tensor", 2, "jax", 2)}
    resumed = replace(group, ended=frozenset(c.id for c in group.cells) - lost)
    records = list(ParallelStudy().conduct(resumed, crew))
    assert [(r.cell.side, r.cell.mode, r.cell.ranks) for r in records] == [
        ("torch", "single", 1),
        ("jax", "single", 1),
        ("torch", "tensor", 2),
        ("jax", "tensor", 2),
    ]
    assert not crew.alive


def test_a_reference_that_fails_again_takes_no_record_from_those_that_have_one(tmp_path):
    crew: Any = Crew(QUICK, tmp_path, fails={("jax", "single", "reference"): "crashed"})
    (group,) = ParallelStudy().plan(crew.info, QUICK)
    lost = {c.id for c in group.cells if c.mode == "pipeline"}
    resumed = replace(group, ended=frozenset(c.id for c in group.cells) - lost)
    records = list(ParallelStudy().conduct(resumed, crew))
    assert [(r.cell.side, r.cell.mode, r.outcome) for r in records] == [
        ("torch", "single", Outcome.OK),
        ("jax", "single", Outcome.CRASHED),
        ("jax", "pipeline", Outcome.SKIPPED),
        ("torch", "pipeline", Outcome.OK),
    ]


def test_the_collectives_of_a_step_are_added_up_by_their_mean(tmp_path):
    record = Conducted(tmp_path).one("torch", "tensor")
    assert record.measurements["communication_s"] == pytest.approx(3 * 0.5 + 1 * 0.25)


def test_weak_scaling_gives_every_rank_the_whole_batch(tmp_path):
    whole = Conducted(tmp_path, FULL)
    for record in whole.records:
        enlarged = record.cell.mode == "data" and record.cell.ranks > 1
        assert ("weak_step_s" in record.measurements) == enlarged
        given = [a["size"]["batch"] for a in whole.crew.arguments(record, "enlarge")]
        assert given == ([8 * record.cell.ranks] if enlarged else [])


def test_batch_norm_is_held_against_the_parts_that_it_saw(tmp_path):
    whole = Conducted(tmp_path, FULL)
    parts = {
        (r.cell.mode, r.cell.ranks): whole.crew.arguments(r, "prove")[0]["part"]
        for r in whole.records
        if r.cell.side == "torch" and r.cell.mode in STRATEGIES
    }
    for mode, ranks in parts:
        expected = {"data_local": ranks if ranks > 1 else 0, "pipeline": 4}.get(mode, 0)
        assert parts[mode, ranks] == expected, (mode, ranks)
    asked = whole.crew.arguments(whole.one("torch", "single", 1), "reference")[0]
    assert set(parts.values()) - {0} <= set(asked["parts"])  # every part has its reference


def test_without_batch_norm_local_is_skipped_and_everything_is_held_against_the_whole(tmp_path):
    whole = Conducted(tmp_path, batch_norm=False)
    for side in ("torch", "jax"):
        record = whole.one(side, "data_local")
        assert record.outcome is Outcome.SKIPPED and "no BatchNorm" in record.message
        assert whole.crew.asked(record) == []
        assert whole.crew.arguments(whole.one(side, "pipeline"), "prove")[0]["part"] == 0


def test_a_mismatch_stops_timing_and_the_other_side_goes_on(tmp_path):
    whole = Conducted(tmp_path, wrong={("jax", "fully_sharded"): 3e-4})
    wrong, right = whole.one("jax", "fully_sharded"), whole.one("torch", "fully_sharded")
    assert wrong.outcome is Outcome.MISMATCH
    assert (
        "fully sharded on 2 ranks" in wrong.message and "fc.weight in the gradients is off by" in wrong.message
    )
    assert "a mean over examples" in wrong.hint
    assert "3.0e-04" in wrong.message
    assert wrong.measurements["parity"]["failed"] == ["gradients, adamw"]
    assert "step_s" not in wrong.measurements
    assert not {"ready", "time_steps", "replay"} & set(whole.crew.asked(wrong))
    assert right.outcome is Outcome.OK and right.measurements["step_s"]
    assert whole.one("jax", "tensor").outcome is Outcome.OK


def test_where_only_buffers_differ_the_loss_is_not_blamed(tmp_path):
    wrong = Conducted(tmp_path, wrong={("jax", "pipeline"): 2.5}, kind="buffers").one("jax", "pipeline")
    assert "fc.weight in the buffers is off by 2.5e+00 of its norm" in wrong.message
    assert "A buffer that the forward pass changes" in wrong.hint


def test_what_is_no_number_does_not_differ_by_nothing(tmp_path):
    wrong = Conducted(tmp_path, wrong={("torch", "tensor"): None}).one("torch", "tensor")
    assert wrong.outcome is Outcome.MISMATCH
    assert "fc.weight in the gradients cannot be compared" in wrong.message and "0.0e+00" not in wrong.message


def test_a_proof_that_compared_nothing_is_no_proof(tmp_path):
    record = Conducted(tmp_path, unproved=[("torch", "tensor")]).one("torch", "tensor")
    assert record.outcome is Outcome.CRASHED and "nothing was compared" in record.message
    assert "step_s" not in record.measurements


@pytest.mark.parametrize("verb", ["prove", "ready", "time_steps", "replay", "enlarge"])
@pytest.mark.parametrize("side", ["torch", "jax"])
def test_a_cell_that_fails_leaves_and_the_other_goes_on(tmp_path, side, verb):
    whole = Conducted(tmp_path, FULL, fails={(side, "data", verb): "timed_out"})
    failed, other = whole.one(side, "data"), whole.one({"torch": "jax", "jax": "torch"}[side], "data")
    assert failed.outcome is Outcome.TIMED_OUT and f"failed at {verb}" in failed.message and failed.hint
    assert ("parity" in failed.measurements) == (verb != "prove")  # what was found so far is kept
    assert ("step_s" in failed.measurements) == (verb in ("replay", "enlarge"))
    assert other.outcome is Outcome.OK
    clean = Conducted(tmp_path, FULL).one(other.cell.side, "data")
    assert other.measurements["step_s"] == clean.measurements["step_s"]
    assert other.measurements["weak_step_s"] == clean.measurements["weak_step_s"]


def test_a_quick_run_enlarges_no_batch(tmp_path):
    record = Conducted(tmp_path).one("torch", "data")
    assert record.measurements["step_s"] and "weak_step_s" not in record.measurements


def test_calibration_that_fails_costs_no_strategy(tmp_path):
    whole = Conducted(tmp_path, FULL, fails={("torch", "replicas", "join"): "crashed"})
    assert whole.one("torch", "replicas").outcome is Outcome.CRASHED
    assert {r.outcome for r in whole.records if r.cell.mode != "replicas"} == {Outcome.OK}


@pytest.mark.parametrize("verb", ["reference", "single", "time_steps"])
def test_a_side_without_its_single_device_strands_its_cells_by_name(tmp_path, verb):
    whole = Conducted(tmp_path, FULL, fails={("torch", "single", verb): "out_of_memory"})
    assert whole.one("torch", "single", 1).outcome is Outcome.OUT_OF_MEMORY
    for record in whole.records:
        if record.cell.mode == "single":
            continue
        if record.cell.side == "torch":
            assert record.outcome is Outcome.SKIPPED and "torch did not end well" in record.message
            assert whole.crew.asked(record) == []
        else:
            assert record.outcome is Outcome.OK


def test_replicas_measure_every_kind_size_and_share(tmp_path):
    whole = Conducted(tmp_path, FULL)
    measured = whole.one("torch", "replicas", 4).measurements
    rows = {(row["kind"], row["bytes"]) for row in measured["collectives"]}
    assert rows == {(kind, size) for kind in parallel.CALIBRATED for size in parallel.SIZES["full"]}
    one = next(row for row in measured["collectives"] if row["kind"] == "send")
    assert one["seconds"] == [0.25 / parallel.IN_A_ROW] * 3  # of one, where several were timed in a row
    (*_, large) = (row for row in measured["collectives"] if row["kind"] == "send")
    assert large["seconds"] == [0.25] * 3
    assert measured["local_gradients"]["batch"] == 2 and measured["local_gradients"]["step_s"]
    assert [row["batch"] for row in measured["local_steps"]] == [1, 2, 8]  # half a share, a share, all of it
    assert all(row["step_s"] for row in measured["local_steps"]) and measured["threads"] == 1
    assert all(row["taken_bytes"] == 7 for row in (*measured["local_steps"], measured["local_gradients"]))
    for known in (measured, whole.one("torch", "single", 1).measurements):
        taken = known["new_memory"]
        assert taken["seconds"] == pytest.approx([taken["bytes"] * 1e-9] * parallel.REPLAYED)


def test_replicas_of_a_quick_run_for_a_cluster_have_collectives_in_rhythm(tmp_path):
    whole = Conducted(tmp_path, Options(quick=True, cluster=Cluster(**H100)))
    for side in ("torch", "jax"):
        record = whole.one(side, "replicas")
        rows = record.measurements["paced"]
        asked = whole.crew.asked(record)
        at = [i for i, verb in enumerate(asked) if verb == "paced"]
        assert "replay" in asked[at[2] : at[3]] and "time_steps" in asked[at[5] : at[6]]  # at three times
        for row, work_s in zip(rows, 3 * parallel.PACES_S, strict=True):
            assert row["pace_s"] == work_s
            assert (row["kind"], row["bytes"], row["ranks"]) == ("all_reduce", parallel.SMALL, 2)
            assert row["work_s"] == [work_s] * len(row["work_s"])
            assert row["paced_s"] == pytest.approx([work_s + 0.002] * len(row["work_s"]))


def test_the_second_side_is_held_against_the_first_and_the_first_against_none(tmp_path):
    whole = Conducted(tmp_path)
    torch, jax = (whole.one(side, "single", 1) for side in ("torch", "jax"))
    (first,), (second,) = (whole.crew.arguments(r, "reference") for r in (torch, jax))
    assert first["other"] == "" and second["other"] == first["output"] != second["output"]
    assert torch.measurements["across"] is None and jax.measurements["across"] == []


def test_a_first_side_that_failed_is_nothing_to_be_held_against(tmp_path):
    whole = Conducted(tmp_path, fails={("torch", "single", "reference"): "crashed"})
    jax = whole.one("jax", "single", 1)
    assert whole.crew.arguments(jax, "reference")[0]["other"] == ""
    assert jax.outcome is Outcome.OK and jax.measurements["across"] is None


# --- turns -----------------------------------------------------------------------------------------


def timed(tmp_path: Path, options: Options = QUICK, seed: int = 0, **how: Any):
    crew: Any = Crew(options, tmp_path, **how)
    cells = [c for c in planned(QUICK) if c.mode == "data"]
    found = parallel.timed(crew, cells, {c.id: 0.06 for c in cells}, seed)
    turns = [(cell.split(".")[1], given) for cell, _, given in crew.diary]
    return {c.side: found[c.id] for c in cells}, turns


def test_turns_are_as_long_as_the_step_is_short(tmp_path):
    found, turns = timed(tmp_path, seconds={"torch": 0.01, "jax": 0.14})
    counts = defaultdict(list)
    for side, given in turns:
        counts[side].append(given["count"])
    # the guess of 0.06 s gives five at first; then what was measured decides
    assert counts == {"torch": [5, 8, 8], "jax": [5, 2, 2]}
    assert found["torch"]["step_s"] == [0.01] * 21 and found["jax"]["step_s"] == [0.14] * 9
    assert len(found["torch"]["foreign_cpu"]) == 3
    assert sorted({given["start"] for _, given in turns}) == [0, parallel.SAMPLES, 2 * parallel.SAMPLES]


def test_slow_steps_get_two_turns_each_and_no_more(tmp_path):
    _, turns = timed(tmp_path, seconds={"torch": 30.0, "jax": 40.0})
    assert sorted(side for side, _ in turns) == ["jax", "jax", "torch", "torch"]


def test_both_sides_have_a_turn_in_every_round_in_an_order_that_the_seed_draws(tmp_path):
    orders = set()
    for seed in range(8):
        sides = [side for side, _ in timed(tmp_path, FULL, seed)[1]]
        assert sides == [side for side, _ in timed(tmp_path, FULL, seed)[1]]
        assert all(set(sides[i : i + 2]) == {"torch", "jax"} for i in range(0, len(sides), 2))
        orders.add(tuple(sides))
    assert len(orders) > 1
