"""What follows from derivatives: growth, multiples, costs, and what stands in place of what could not be."""

import pytest

import runs
from twinax.analyse import analyse
from twinax.analyse.autodiff import growth, multiple
from twinax.records import Outcome


def test_growth_is_the_power_between_the_two_largest_sizes():
    assert growth([10, 100, 1000], [1.0, 2.0, 200.0]) == pytest.approx(2.0)
    assert growth([10, 100], [0.0, 5.0]) is None  # nothing to compare with
    assert growth([10, 100, 1000], [5e5, 2e6, 2e8], least=1 << 20) == pytest.approx(2.0)


def test_a_jacobian_that_was_not_measured_has_no_multiple():
    assert multiple({"jacobian_s": [4.0, 6.0, 5.0], "objective_s": [1.0]}) == 5.0
    assert multiple({"errors": [None, None]}) == 0.0


def test_every_derivative_stands_against_the_one_it_is_made_of():
    found = analyse(runs.derivatives_only())
    torch, jax = found.of("cost_of_derivatives")
    ratios = {row["name"]: row.get("ratio") for row in torch.figures["rows"]}
    assert ratios["gradient"] == pytest.approx(3.0) and ratios["hvp"] == pytest.approx(3.0)
    assert "saves 100 MiB of 700 MiB" in torch.title
    assert ratios["per_sample"] == pytest.approx(0.5)
    refused = next(row for row in jax.figures["rows"] if row["name"] == "rematerialised")
    assert "no repeated blocks" in refused["said"] and "ratio" not in refused
    assert "rematerialising" not in jax.title


def test_tasks_and_workloads_of_one_side_alone_are_not_compared():
    run = runs.derivatives_only()
    alone = run.model_copy(update={"records": tuple(r for r in run.records if r.cell.side == "torch")})
    assert not analyse(alone).of("derivatives") and not analyse(alone).of("workloads")
    assert len(analyse(alone).of("cost_of_derivatives")) == 1


def test_a_wrong_workload_is_a_problem():
    run = runs.derivatives_only()
    records = []
    for record in run.records:
        if record.cell.study == "autodiff" and record.cell.side == "jax":
            rows = [{**row, "errors": [1e-16, 0.5]} for row in record.measurements["workloads"]]
            measured = {**record.measurements, "workloads": rows}
            record = record.model_copy(update={"measurements": measured, "outcome": Outcome.MISMATCH})
        records.append(record)
    (found,) = analyse(run.model_copy(update={"records": tuple(records)})).of("workloads")
    assert found.severity == "problem" and "gmm is not what the reference says" in found.title
