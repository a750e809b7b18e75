"""What is said of strategies on several devices, from records whose figures are known."""

from __future__ import annotations

from typing import Any

import pytest

import runs
from parallel_records import (
    PARAMETERS,
    around,
    both_sides,
    failed,
    held,
    proof,
    record,
    rows,
    run_of,
    single,
    strategy,
)
from twinax.analyse import analyse
from twinax.analyse.base import Finding
from twinax.analyse.parallel import NAMES, findings
from twinax.frameworks.parallel import STRATEGIES
from twinax.records import Outcome, Record


def of(kind: str, made: list[Record], **how: Any) -> list[Finding]:
    return [f for f in findings(run_of(made, **how)) if f.kind == kind]


def one(kind: str, made: list[Record], **how: Any) -> Finding:
    (found,) = of(kind, made, **how)
    return found


def row(finding: Finding, **known: Any) -> dict[str, Any]:
    (found,) = [r for r in finding.figures["rows"] if known.items() <= r.items()]
    return found


def test_every_strategy_has_a_name():
    assert set(NAMES) == {*STRATEGIES, "single"}
    assert all(NAMES[strategy] == name for strategy, name in STRATEGIES.items())


def test_a_run_without_the_study_says_nothing():
    assert findings(runs.full()) == []
    assert findings(run_of([record("torch", "replicas", 2)])) == []  # the cost model's alone


# --- proof -----------------------------------------------------------------------------------------


def test_that_all_hold_is_said_with_the_largest_error():
    made = [single("torch"), strategy("torch", "data"), strategy("torch", "pipeline", parity=proof(3.5e-13))]
    found = one("parallel_parity", made)
    assert (found.verdict, found.severity) == ("holds", "good")
    assert "In 2 proved cells" in found.title and "not proved" not in found.title and "3.5e-13" in found.title
    assert found.evidence == (made[1].cell.id, made[2].cell.id)
    assert found.figures["worst"] == 3.5e-13


def test_one_that_does_not_hold_is_named_and_a_problem():
    wrong = failed("jax", "data", Outcome.MISMATCH, "Gradients differ.", parity=proof(1e-3, failed=True))
    found = one("parallel_parity", [single("jax"), wrong, strategy("jax", "pipeline")])
    assert (found.verdict, found.severity) == ("mismatch", "problem")
    assert "JAX data parallel on 2 ranks" in found.title and "pipeline" not in found.title
    assert row(found, strategy="data")["message"] == "Gradients differ."


def test_what_is_no_number_is_the_largest_error():
    wrong = failed("jax", "data", Outcome.MISMATCH, "NaN.", parity=proof(None, failed=True))
    found = one("parallel_parity", [single("jax"), wrong, strategy("jax", "pipeline")])
    assert found.figures["worst"] is None and found.verdict == "mismatch"


def test_cells_that_were_not_proved_are_rows_and_not_counted():
    broken = failed("torch", "tensor", Outcome.UNSUPPORTED, "No plan.")
    found = one("parallel_parity", [single("torch"), strategy("torch", "data"), broken])
    assert (
        "In 1 proved cell " in found.title and "not proved: PyTorch tensor parallel on 2 ranks" in found.title
    )
    assert broken.cell.id not in found.evidence
    assert row(found, strategy="tensor") == {
        "side": "torch",
        "strategy": "tensor",
        "where": "2 ranks",
        "outcome": "unsupported",
        "worst": None,
        "checks": 0,
        "message": "No plan.",
    }


def test_a_cell_that_failed_after_its_proof_counts_as_proved():
    late = failed("torch", "data", Outcome.TIMED_OUT, "Silence.", parity=proof())
    found = one("parallel_parity", [single("torch"), late])
    assert found.verdict == "holds" and row(found, strategy="data")["outcome"] == "timed_out"


def test_without_any_proof_nothing_is_claimed():
    broken = failed("torch", "data", Outcome.CRASHED, "It died.")
    found = one("parallel_parity", [single("torch"), broken])
    assert (found.verdict, found.severity) == ("no proof", "warning")
    assert found.title == "No strategy was proved: PyTorch data parallel on 2 ranks (crashed)."


def test_parameters_that_nothing_depends_on_are_named():
    alone = [single(side, unproved=["spare.weight"]) for side in ("torch", "jax")]
    found = one("parallel_parity", [*alone, strategy("torch", "data")])
    assert found.title.count("spare.weight") == 1 and "nothing is proved of spare.weight" in found.title


def test_what_crashed_is_named_beside_a_mismatch():
    wrong = failed("jax", "data", Outcome.MISMATCH, "Gradients differ.", parity=proof(1e-3, failed=True))
    broken = failed("jax", "pipeline", Outcome.CRASHED, "It died.")
    found = one("parallel_parity", [single("jax"), wrong, broken])
    assert found.verdict == "mismatch" and "not proved: JAX pipeline on 2 ranks (crashed)" in found.title


@pytest.mark.parametrize(
    ("ranks", "processes", "where"), [(1, 1, "1 rank"), (4, 4, "4 ranks"), (4, 1, "4 devices in one process")]
)
def test_ranks_and_devices_are_told_apart(ranks, processes, where):
    found = one("parallel_parity", [strategy("jax", "data", ranks, processes)])
    assert found.figures["rows"][0]["where"] == where


# --- BatchNorm -------------------------------------------------------------------------------------


def test_what_batch_norm_over_parts_changes_is_said():
    gap = {"loss": 0.02, "gradients": 0.31}
    made = [
        single("torch"),
        strategy("torch", "data"),
        strategy("torch", "data_local", parity=proof(batch_norm_gap=gap)),
        strategy("torch", "pipeline", parity=proof(batch_norm_gap={"loss": 0.001, "gradients": 0.5})),
    ]
    local, pipeline = of("batch_norm", made)
    assert "each rank's share moves the loss by 2 % and the gradients by 31 %" in local.title
    assert "each micro-batch moves the loss by 0.1 % and the gradients by 50 %" in pipeline.title
    assert local.figures["rows"][0]["loss"] == 0.02 and local.evidence == (made[2].cell.id,)


def test_cells_in_which_batch_norm_changes_as_much_are_told_of_together():
    gap = {"loss": 0.02, "gradients": 0.31}
    made = [strategy(side, "data_local", parity=proof(batch_norm_gap=gap)) for side in ("torch", "jax")]
    found = one("batch_norm", [single("torch"), single("jax"), *made])
    assert found.title.startswith("PyTorch data parallel, BatchNorm local on 2 ranks and JAX data parallel")
    assert [row["side"] for row in found.figures["rows"]] == ["torch", "jax"]


def test_a_gap_that_is_no_number_is_not_called_nothing():
    gap = {"loss": None, "gradients": 0.31}
    wrong = failed("torch", "data_local", Outcome.MISMATCH, "NaN.", parity=proof(None, batch_norm_gap=gap))
    assert of("batch_norm", [single("torch"), wrong]) == []
    assert of("parallel_parity", [single("torch"), wrong])[0].verdict == "mismatch"


# --- time ------------------------------------------------------------------------------------------


def test_scaling_is_against_one_device_of_the_same_side():
    found = one(
        "parallel_step", [single("jax"), strategy("jax", "data"), strategy("jax", "data", 4)], sides=("jax",)
    )
    two, four = row(found, ranks=2), row(found, ranks=4)
    assert row(found, strategy="single")["strong"] == 1.0
    assert two["step_s"] == pytest.approx(0.25) and two["strong"] == pytest.approx(0.2 / 0.25)
    assert two["weak_step_s"] == pytest.approx(0.5) and two["weak"] == pytest.approx(0.2 / 0.5)
    assert four["strong"] == pytest.approx(0.2 / 0.125)
    assert two["communication_share"] == pytest.approx(0.25)
    assert found.verdict == "data" and "data parallel on 4 ranks is fastest with 125 ms" in found.title
    assert "takes 200 ms on one device" in found.title and "2 cores" in found.title


def test_the_fastest_strategy_is_found_among_the_split_ones():
    made = [single("torch"), *(strategy("torch", mode) for mode in ("pipeline", "data_local", "tensor"))]
    found = one("parallel_step", made, sides=("torch",))
    assert found.verdict == "data_local"  # one device is faster than all of them, and does not compete


def test_collectives_that_take_longer_than_the_step_are_all_of_it():
    made = [single("torch"), strategy("torch", "data", communication_s=9.0)]
    assert row(one("parallel_step", made), strategy="data")["communication_share"] == 1.0
    made = [single("torch"), strategy("torch", "data", communication_s=None, weak_step_s=None)]
    plain = row(one("parallel_step", made), strategy="data")
    assert plain["communication_share"] is None and plain["weak"] is None and plain["weak_step_s"] is None


def test_a_busy_machine_is_a_warning():
    made = [single("torch"), strategy("torch", "data", foreign_cpu=[0.0, 0.4, 0.3])]
    found = one("parallel_step", made)
    assert found.severity == "warning" and "busy" in found.title and found.figures["disturbed"]
    assert row(found, strategy="data")["disturbed"] and not row(found, strategy="single")["disturbed"]
    quiet = [single("torch"), strategy("torch", "data", foreign_cpu=[0.0, 0.4, 0.0])]  # once is not busy
    assert one("parallel_step", quiet).severity == "note"


@pytest.mark.parametrize(
    ("machines", "said"),
    [(1, "share this machine's 2 cores"), (2, "shared the cores of 2 machines"), (4, "")],
)
def test_ranks_that_have_a_machine_each_are_not_said_to_share_one(machines, said):
    spread = strategy("torch", "data", 4).model_copy(update={"environment": {"machines": machines}})
    title = one("parallel_step", [single("torch"), spread]).title
    assert (said in title) if said else ("cores" not in title)


@pytest.mark.parametrize(("step", "said"), [(0.3, True), (0.1, False)])
def test_that_no_speed_up_could_be_had_is_not_said_beside_one(step, said):
    title = one("parallel_step", [single("torch"), strategy("torch", "data", step_s=[step] * 5)]).title
    assert ("no speed-up could be had" in title) == said and "2 cores" in title


def test_a_gpu_run_does_not_blame_the_cores():
    made = [single("torch"), strategy("torch", "data")]
    assert "cores" not in one("parallel_step", made, device="cuda").title


@pytest.mark.parametrize("made", [[strategy("torch", "data")], [single("torch")], []])
def test_without_one_device_or_without_another_there_is_no_scaling(made):
    assert of("parallel_step", made) == []


def test_cells_that_were_not_timed_have_no_row():
    late = failed("torch", "tensor", Outcome.MISMATCH, "Wrong.", parity=proof(1.0, failed=True))
    found = one("parallel_step", [single("torch"), strategy("torch", "data"), late])
    assert [r["strategy"] for r in found.figures["rows"]] == ["single", "data"]


# --- the two sides ---------------------------------------------------------------------------------


def between(made: list[Record]) -> Finding:
    (found,) = [f for f in of("parallel_step", made) if f.figures["side"] == "both"]
    return found


def pair(torch: float, jax: float, **more: Any) -> list[Record]:
    return [
        single("torch"),
        single("jax"),
        strategy("torch", "data", step_s=around(torch), **more),
        strategy("jax", "data", step_s=around(jax)),
    ]


@pytest.mark.parametrize(
    ("torch", "jax", "verdict"), [(0.1, 0.2, "faster"), (0.2, 0.1, "slower"), (0.1, 0.1, "equivalent")]
)
def test_the_ratio_is_torchs_seconds_over_jaxs(torch, jax, verdict):
    found = row(between(pair(torch, jax)), strategy="data")
    assert found["ratio"] == pytest.approx(torch / jax, rel=2e-3)
    assert found["low"] <= found["ratio"] <= found["high"]
    assert found["verdict"] == verdict


def test_a_busy_machine_has_no_winner():
    found = between(pair(0.1, 0.2, foreign_cpu=[0.5]))
    assert row(found, strategy="data")["verdict"] == "inconclusive"


def test_only_the_same_cell_of_the_other_side_is_compared():
    made = both_sides()
    found = between(made)
    assert [(r["strategy"], r["where"]) for r in found.figures["rows"]] == [
        (mode, "2 ranks") for mode in ("data", "data_local", "fully_sharded", "pipeline")
    ]  # tensor is not there in JAX, and one process is not two
    assert all(r["ratio"] == pytest.approx(0.5, rel=1e-2) for r in found.figures["rows"])
    assert "know nothing of how processes differ" in found.title


def test_one_side_alone_is_not_compared():
    made = [r for r in both_sides() if r.cell.side == "torch"]
    assert {f.figures["side"] for f in of("parallel_step", made, sides=("torch",))} == {"torch"}
    lonely = [*made, single("jax")]
    assert {f.figures["side"] for f in of("parallel_step", lonely)} == {"torch"}


@pytest.mark.parametrize(
    "second", [single("jax", across=None), record("jax", "single", step_s=around(0.2))], ids=["None", "missing"]
)
def test_sides_that_were_not_compared_have_no_ratio(second):
    made = pair(0.1, 0.2)
    found = between([second if r.cell == second.cell else r for r in made])
    assert (found.verdict, found.severity, found.figures["rows"]) == ("withheld", "warning", [])
    assert "not compared" in found.title


def test_sides_that_differ_on_one_device_have_no_ratio_and_what_differs_is_named():
    differs = single("jax", across=["loss", "gradients"])
    found = between([differs if r.cell == differs.cell else r for r in pair(0.1, 0.2)])
    assert (found.verdict, found.severity, found.figures["rows"]) == ("withheld", "warning", [])
    assert "they differ in loss and gradients" in found.title


@pytest.mark.parametrize("across", [None, ["loss"]])
def test_where_nothing_was_timed_on_both_sides_nothing_is_withheld(across):
    late = failed("jax", "data", Outcome.MISMATCH, "Wrong.", parity=proof(1.0, failed=True))
    made = [single("torch"), single("jax", across=across), strategy("torch", "data"), late]
    assert {f.figures["side"] for f in of("parallel_step", made)} == {"torch"}


# --- memory ----------------------------------------------------------------------------------------


def test_the_fullest_rank_counts():
    empty, full = held(0.25, 1), held(0.75, 2)
    made = [single("torch"), strategy("torch", "fully_sharded", held=empty, others_held=[full, empty])]
    found = one("parallel_memory", made)
    sharded = row(found, strategy="fully_sharded")
    assert sharded["parameters"] == 0.75 * PARAMETERS and sharded["activations"] == 2
    assert sharded["total"] == 3 * 0.75 * PARAMETERS + 2
    assert "one device keeps 20.0 MiB for a step" in found.title
    assert "2 ranks fully sharded needs least, 43 % of that on the fullest rank" in found.title


def test_buffers_of_the_engine_count():
    copied = {**held(1.0), "buffers": PARAMETERS}
    made = [single("torch"), strategy("torch", "data", held=copied, others_held=[])]
    found = one("parallel_memory", made)
    assert row(found, strategy="data")["total"] == sum(held(1.0).values()) + PARAMETERS
    assert row(found, strategy="single")["buffers"] == 0


def test_what_needs_least_on_the_most_ranks_is_named():
    made = [
        single("jax"),
        strategy("jax", "data", 4),
        strategy("jax", "fully_sharded", 2, held=held(0.1), others_held=[]),
        strategy("jax", "fully_sharded", 4, held=held(0.25), others_held=[]),
    ]
    found = one("parallel_memory", made, sides=("jax",))
    assert found.verdict == "fully_sharded" and "on 4 ranks fully sharded needs least" in found.title


@pytest.mark.parametrize(
    "made", [[single("torch")], [strategy("torch", "data")], [single("jax"), strategy("torch", "data")]]
)
def test_memory_is_only_told_beside_one_device(made):
    assert of("parallel_memory", made) == []


# --- traffic ---------------------------------------------------------------------------------------


def test_traffic_is_summed_by_kind_and_held_against_the_formula():
    found = one(
        "parallel_traffic", [single("torch"), strategy("torch", "data"), strategy("torch", "fully_sharded")]
    )
    reduced = row(found, strategy="data", kind="all_reduce")
    assert (reduced["bytes"], reduced["calls"], reduced["expected"]) == (PARAMETERS, 4, PARAMETERS)
    other = row(found, strategy="data", kind="broadcast")
    assert (other["bytes"], other["expected"]) == (8, None)  # no formula has it
    gathered = row(found, strategy="fully_sharded", kind="all_gather")
    assert (gathered["bytes"], gathered["expected"]) == (1.5 * PARAMETERS, 2 * PARAMETERS)
    assert found.verdict == "differs" and "3 amounts" in found.title and "2 equal it to the byte" in found.title


def test_one_byte_too_many_is_not_exact():
    exact = [single("torch"), strategy("torch", "data_local")]
    assert one("parallel_traffic", exact).verdict == "exact"
    more = [single("torch"), strategy("torch", "data_local", traffic=rows(("all_reduce", PARAMETERS + 1, 1)))]
    assert one("parallel_traffic", more).verdict == "differs"


def test_a_collective_that_the_formula_knows_and_nobody_saw_is_a_row():
    made = [single("torch"), strategy("torch", "data", traffic=[])]
    missing = row(one("parallel_traffic", made), kind="all_reduce")
    assert (missing["bytes"], missing["calls"], missing["expected"]) == (0, 0, PARAMETERS)
    assert one("parallel_traffic", made).verdict == "differs"


def test_without_a_formula_nothing_is_called_exact():
    found = one(
        "parallel_traffic", [single("torch"), strategy("torch", "tensor"), strategy("torch", "pipeline")]
    )
    assert found.verdict == "no formula" and "no strategy that ended well" in found.title
    assert {r["expected"] for r in found.figures["rows"]} == {None}


def test_without_the_parameters_size_there_is_no_formula():
    assert of("parallel_traffic", [strategy("torch", "data")]) == []


# --- lines -----------------------------------------------------------------------------------------


def test_lines_are_told_side_by_side():
    found = one("parallel_lines", [single("torch"), single("jax")])
    assert "data parallel 9 and 5" in found.title and "pipeline 31" in found.title
    data, pipeline = found.figures["rows"]
    assert data["torch"]["added"] == 9 and data["jax"]["added"] == 5 and "jax" not in pipeline


def test_without_programs_no_lines_are_told():
    assert of("parallel_lines", [single("torch", lines={})]) == []


# --- all together ----------------------------------------------------------------------------------


def test_the_whole_run_in_order_twice_the_same():
    run = run_of(both_sides())
    found = findings(run)
    kinds = list(dict.fromkeys(f.kind for f in found))
    assert kinds == [
        "parallel_parity",
        "parallel_step",
        "parallel_memory",
        "parallel_traffic",
        "parallel_lines",
    ]
    assert [f.figures["side"] for f in found if f.kind == "parallel_step"] == ["torch", "jax", "both"]
    assert found == findings(run)
    assert [f for f in analyse(run).items if f.kind in kinds] == found
    known = {r.cell.id for r in run.records}
    assert all(set(f.evidence) <= known for f in found)
