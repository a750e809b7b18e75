"""From records to findings: each figure follows from the records, and nothing is decided that is not known."""

import numpy as np
import pytest
from pydantic import ValidationError

import runs
from twinax.analyse import Finding, Findings, analyse
from twinax.analyse.speed import collect
from twinax.records import Outcome, Record, Run


def by_program(findings: Findings, kind: str, program: str, side: str) -> Finding:
    mine = [f for f in findings.of(kind) if (f.figures["program"], f.figures["side"]) == (program, side)]
    assert len(mine) == 1
    return mine[0]


@pytest.mark.parametrize("make", runs.MAKERS, ids=lambda make: make.__name__)
def test_the_same_run_gives_the_same_findings(make) -> None:
    assert analyse(make()) == analyse(make())


@pytest.mark.parametrize("make", runs.MAKERS, ids=lambda make: make.__name__)
def test_evidence_names_planned_cells_only(make) -> None:
    run = make()
    planned = {cell.id for cell in run.planned}
    assert all(set(f.evidence) <= planned for f in analyse(run).items)


def test_findings_survive_json() -> None:
    findings = analyse(runs.full())
    assert Findings.model_validate_json(findings.model_dump_json()) == findings


def test_a_finding_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        analyse(runs.full()).items[0].title = "another"


# --- parity gates speed ----------------------------------------------------------------------------


def test_where_parity_holds_every_pair_of_modes_has_a_ratio() -> None:
    findings = analyse(runs.full())
    assert findings.one("parity").verdict == "holds"
    pairs = {
        (f.figures["program"], f.figures["torch_mode"], f.figures["jax_mode"]) for f in findings.of("speed")
    }
    assert len(pairs) == 3 * 2 * 2


def test_the_best_pair_is_the_fastest_mode_of_each_side() -> None:
    best = analyse(runs.full()).best("step")
    assert (best.figures["torch_mode"], best.figures["jax_mode"]) == ("compile", "jit")
    assert best.figures["faster"] == "torch"
    assert best.figures["ratio"] == pytest.approx(0.94 / 2.21, rel=0.05)
    assert best.figures["low"] < best.figures["ratio"] < best.figures["high"]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (runs.mismatched, "not the same model"),
        (lambda: runs.run(runs.speed_records()), "parity study was not part"),
        (
            lambda: runs.run(runs.speed_records(), planned=[r.cell for r in runs.parity_records()]),
            "ended before",
        ),
        (runs.only_torch, "only PyTorch was measured"),
    ],
)
def test_without_parity_no_ratio_is_shown_and_the_reason_is(make, reason: str) -> None:
    speed = analyse(make()).of("speed")
    assert [f.verdict for f in speed] == ["withheld"]
    assert reason in speed[0].title
    assert "ratio" not in speed[0].figures


def test_a_comparison_that_crashed_is_no_parity() -> None:
    *sides, compare = runs.parity_records()
    died = Record(cell=compare.cell, outcome=Outcome.CRASHED, message="The worker died of signal 9.")
    findings = analyse(runs.run([*sides, died, *runs.speed_records()]))
    assert findings.one("parity").verdict == "absent"
    assert "signal 9" in findings.one("parity").title
    assert [f.verdict for f in findings.of("speed")] == ["withheld"]


def test_a_failed_check_is_a_mismatch_whatever_the_outcome_says() -> None:
    *sides, compare = runs.parity_records()
    checks = compare.measurements["checks"]
    checks[2]["passed"] = False
    assert analyse(runs.run([*sides, compare])).one("parity").verdict == "mismatch"


def test_a_mismatch_names_the_first_layer() -> None:
    parity = analyse(runs.mismatched()).one("parity")
    assert "first layer that differs is layer2.1.bn2" in parity.title
    assert parity.severity == "problem"


def test_unproved_parameters_are_named_and_warned_of() -> None:
    parity = analyse(runs.run(runs.parity_records(unproved=["head.bias"]))).one("parity")
    assert parity.verdict == "holds"
    assert parity.severity == "warning"
    assert "Nothing was proved about head.bias" in parity.title


# --- the four verdicts -----------------------------------------------------------------------------


def compared(scale) -> Findings:
    return analyse(runs.run([*runs.parity_records(), *runs.speed_records(scale=scale)]))


def jit_times(factor: float):
    return lambda program, side, mode: factor if mode == "jit" else 1.0


@pytest.mark.parametrize(
    ("jit", "verdict", "winner"),
    [(1.0, "faster", "torch"), (0.2, "slower", "jax"), (0.94 / 2.21, "equivalent", None)],
)
def test_the_verdict_follows_the_interval(jit: float, verdict: str, winner: str | None) -> None:
    best = compared(jit_times(jit)).best("step")
    if verdict == "equivalent":  # with a process-to-process noise of 1 % the margin is sometimes touched
        assert best.verdict in ("equivalent", "inconclusive")
    else:
        assert best.verdict == verdict
    assert best.figures["faster"] == winner


def test_a_busy_host_makes_it_inconclusive_however_clear_the_ratio() -> None:
    records = [*runs.parity_records(), *runs.speed_records(disturbed=0.4)]
    findings = analyse(runs.run(records))
    assert {f.verdict for f in findings.of("speed")} == {"inconclusive"}
    assert all(f.figures["faster"] is None for f in findings.of("speed"))
    assert findings.one("busy_host").verdict == "too busy"


def test_a_few_disturbed_samples_are_left_out() -> None:
    records = []
    for record in runs.speed_records(disturbed=0.0):
        for program in record.measurements.get("programs", {}).values():
            if program["samples_s"]:
                program["samples_s"][0] *= 50
                program["disturbed"][0] = True
        records.append(record)
    for timing in collect(runs.run(records)).values():
        assert timing.disturbed == pytest.approx(1 / 20)
        assert max(map(max, timing.samples.values())) < 1.2 * timing.seconds


def test_a_quiet_host_is_not_spoken_of() -> None:
    assert analyse(runs.run(runs.speed_records(disturbed=0.0))).of("busy_host") == ()


# --- cost ------------------------------------------------------------------------------------------


def test_break_even_is_extra_start_over_gain_per_iteration() -> None:
    run = runs.full()
    found = by_program(analyse(run), "break_even", "step", "torch")
    timings = collect(run)
    plain, fast = timings["step", "torch", "eager"], timings["step", "torch", "compile"]
    extra = fast.phases["first"] - plain.phases["first"]
    assert found.figures["steps"] == pytest.approx(extra / (plain.seconds - fast.seconds), abs=1.5)
    assert found.verdict == "pays"
    assert found.figures["low"] <= found.figures["steps"] <= found.figures["high"]
    assert found.figures["warm_steps"] < found.figures["steps"]


def test_compiling_that_is_not_faster_never_pays() -> None:
    slow = compared(lambda program, side, mode: 1.5 if mode == "compile" else 1.0)
    found = by_program(slow, "break_even", "step", "torch")
    assert found.verdict == "never"
    assert found.figures["steps"] is None


def test_a_warm_start_is_set_against_the_cold_one() -> None:
    mine = [f for f in analyse(runs.full()).of("warm_start") if f.figures["mode"] == "compile"]
    assert mine
    assert all(f.figures["warm_s"] < f.figures["cold_s"] / 5 for f in mine)


def test_memory_compares_the_fastest_modes_and_names_its_method() -> None:
    memory = analyse(runs.full()).one("memory")
    assert memory.verdict == "torch less"
    assert "1.70 GiB in PyTorch (compile) and 2.60 GiB in JAX (jit)" in memory.title
    assert "resident high-water mark" in memory.title


# --- calibration -----------------------------------------------------------------------------------


def test_calibration_says_who_is_faster_and_whether_that_explains_it() -> None:
    found = {f.figures["kind"]: f for f in analyse(runs.full()).of("calibration")}
    assert found["matmul"].verdict == "jax"
    assert "would favour JAX" in found["matmul"].title
    assert found["convolution"].verdict == "torch"
    assert "points the same way" in found["convolution"].title
    assert found["bandwidth"].verdict == "level"


def test_the_share_of_the_peak_uses_one_count_of_operations_for_both_sides() -> None:
    shares = analyse(runs.full()).of("peak_share")
    assert {f.figures["side"] for f in shares} == {"torch", "jax"}
    step = by_program(analyse(runs.full()), "peak_share", "step", "torch")
    assert step.figures["share"] == pytest.approx(runs.FLOPS["step"] / 0.94 / 202e9, rel=0.03)


# --- conditions ------------------------------------------------------------------------------------


def test_fairness_marks_what_differs_and_only_that() -> None:
    found = {f.figures["fact"]: f.verdict for f in analyse(runs.full()).of("fairness")}
    assert found["image layout"] == "asymmetric"
    assert found["threads"] == "same"
    assert found["TF32"] == "same"


def test_a_fact_that_one_side_does_not_tell_is_an_asymmetry() -> None:
    records = [
        r.model_copy(update={"fairness": {k: v for k, v in r.fairness.items() if k != "threads"}})
        if r.cell.side == "jax"
        else r
        for r in runs.full().records
    ]
    found = {f.figures["fact"]: f.verdict for f in analyse(runs.run(records)).of("fairness")}
    assert found["threads"] == "asymmetric"


def test_training_that_misses_its_target_is_a_problem() -> None:
    *rest, jax, nudged = runs.trained().records
    missed = jax.model_copy(update={"measurements": jax.measurements | {"met": False}})
    found = analyse(runs.run([*rest, missed, nudged])).of("training")
    assert [(f.figures["side"], f.verdict, f.severity) for f in found] == [
        ("torch", "met", "good"),
        ("jax", "missed", "problem"),
    ]


@pytest.mark.parametrize(("apart", "verdict"), [(0.0, "alike"), (1e-6, "alike"), (0.01, "apart")])
def test_curves_that_part_faster_than_rounding_explains_are_told(apart: float, verdict: str) -> None:
    torch, jax, nudged = runs.trained().records[-3:]
    fold = jax.measurements["folds"][0]
    moved = {**fold, "losses": [loss + apart for loss in fold["losses"]]}
    other = jax.model_copy(update={"measurements": jax.measurements | {"folds": [moved]}})
    (found,) = analyse(runs.run([torch, other, nudged])).of("training_curves")
    assert found.verdict == verdict and (verdict == "alike" or "from step 1 on" in found.title)


def test_every_cell_that_did_not_end_well_is_told() -> None:
    found = analyse(runs.crashed()).of("cells")
    told = {name for f in found for name in f.evidence}
    bad = {r.cell.id for r in runs.crashed().records if r.outcome is not Outcome.OK}
    assert told == bad
    assert {f.verdict: f.severity for f in found} == {
        "crashed": "problem",
        "out_of_memory": "problem",
        "unsupported": "note",
    }


def test_planned_cells_without_a_record_are_told() -> None:
    run = runs.interrupted()
    found = [f for f in analyse(run).of("cells") if f.verdict == "not run"]
    missing = {c.id for c in run.planned if run.record(c) is None}
    assert len(found) == 1
    assert set(found[0].evidence) == missing


def test_an_empty_run_has_findings_too() -> None:
    run = runs.run([], planned=[r.cell for r in runs.full().records])
    findings = analyse(run)
    assert findings.one("parity").verdict == "absent"
    assert findings.one("speed").verdict == "withheld"


def test_the_bootstrap_is_seeded_from_the_run() -> None:
    records = [*runs.parity_records(), *runs.speed_records()]

    def interval(run: Run) -> tuple[float, float]:
        best = analyse(run).best("step")
        return best.figures["low"], best.figures["high"]

    assert interval(runs.run(records, seed=1)) == interval(runs.run(records, seed=1))
    np.testing.assert_allclose(
        interval(runs.run(records, seed=1)), interval(runs.run(records, seed=2)), rtol=0.02
    )
