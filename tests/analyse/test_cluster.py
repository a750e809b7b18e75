"""The cost model on a machine whose law is known: its error, its warning, and what it says of a cluster."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cluster_records import BATCH, H100, HELD, MIB, Truth, both_sides, failed, record, records, run_of
from twinax.analyse import cluster
from twinax.analyse.cluster_calibration import calibrate
from twinax.records import Cluster, Record


def changed(made: list[Record], mode: str, **measured: Any) -> list[Record]:
    """The records with some measurements of a mode replaced; None takes one away."""
    found = []
    for r in made:
        if r.cell.mode == mode:
            kept = {**r.measurements, **measured}
            r = r.model_copy(update={"measurements": {k: v for k, v in kept.items() if v is not None}})
        found.append(r)
    return found


def curve(figures: dict[str, Any], strategy: str, scaling: str) -> list[dict[str, Any]]:
    return [r for r in figures["curves"] if (r["strategy"], r["scaling"]) == (strategy, scaling)]


# --- the error -------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["torch", "jax"])
@pytest.mark.parametrize("seed", range(3))
def test_a_known_machine_is_predicted(seed, side):
    import numpy as np

    truth = Truth(rng=np.random.default_rng(seed))
    (found,) = cluster.findings(run_of(records(side, truth, ranks=(2, 4)), cores=4))
    rows = found.figures["rows"]
    assert {(row["strategy"], row["ranks"]) for row in rows} == {
        (strategy, ranks) for strategy in ("data", "fully_sharded", "tensor", "pipeline") for ranks in (2, 4)
    }
    assert found.verdict == "fits" and found.severity == "note"
    assert found.figures["median"] < 0.05 and found.figures["worst"] < 0.10
    assert all(abs(row["bytes_error"]) < 1e-9 for row in rows)
    assert "8 measurements held out" in found.title
    assert "a rank's memory by" in found.title and "do not build on it" not in found.title


@pytest.mark.parametrize("side", ["torch", "jax"])
def test_memory_that_the_model_does_not_explain_is_a_warning(side):
    made = records(side)
    more = [{**HELD, "activations": 400 * MIB}, {**HELD, "activations": 600 * MIB}]
    (found,) = cluster.findings(run_of(changed(made, "fully_sharded", held=more[0], others_held=more[1:])))
    row = next(row for row in found.figures["rows"] if row["strategy"] == "fully_sharded")
    assert row["measured_bytes"] == (40 + 40 + 40 + 600) * MIB  # of the fullest rank
    assert row["bytes_error"] < -0.4 and found.figures["worst"] < 0.10
    assert found.verdict == "off" and "do not build on it" in found.title
    told = cluster.findings(run_of(changed(made, "fully_sharded", held=more[0], others_held=more[1:]), H100))[1]
    assert told.verdict == "uncertain"


def test_the_fit_finds_the_machine():
    found = cluster.findings(run_of(records()))[0].figures["laws"]
    laws = {row["what"]: row for row in found}
    truth = Truth()
    assert laws["step"]["slope_s"] == pytest.approx(truth.per_example, rel=0.05)
    assert laws["step"]["fixed_s"] == pytest.approx(truth.fixed, rel=0.15)
    assert laws["all_reduce"]["slope_s"] == pytest.approx(1 / truth.rate, rel=0.05)
    assert laws["all_reduce"]["fixed_s"] == pytest.approx(truth.latency, rel=0.1)


def test_a_machine_that_contradicts_is_told():
    slow = Truth(wait=3.0, rate=3e8)
    (found,) = cluster.findings(run_of(records(truth=slow)))
    assert found.verdict == "off" and found.severity == "warning" and "do not build on it" in found.title
    assert found.figures["worst"] > 0.4
    # what the pipeline sends is too little to tell
    assert all(row["error"] < -0.15 for row in found.figures["rows"] if row["strategy"] != "pipeline")


@pytest.mark.parametrize("side", ["torch", "jax"])
def test_what_ranks_wait_and_engines_add_is_part_of_the_model(side):
    def error(made: list[Record]) -> float:
        rows = cluster.findings(run_of(made))[0].figures["rows"]
        return next(row["error"] for row in rows if row["strategy"] == "tensor")

    whole = records(side)
    assert abs(error(whole)) < 0.08
    assert error(changed(whole, "replicas", paced=None)) < error(whole) - 0.05
    without = [r for r in whole if (r.cell.mode, r.cell.ranks) != ("tensor", 1)]
    assert error(without) < error(whole) - 0.05


def test_ranks_that_once_shared_a_core_do_not_count():
    made = records()
    before = cluster.findings(run_of(made))[0].figures["rows"]
    paced = next(r for r in made if r.cell.mode == "replicas").measurements["paced"]
    crowded = [{**row, "paced_s": [2 * s for s in row["paced_s"]]} for row in paced]
    after = cluster.findings(run_of(changed(made, "replicas", paced=[*crowded, *paced])))[0].figures["rows"]
    assert after == before


def test_memory_that_every_step_takes_from_the_system_is_part_of_the_model():
    made = records(truth=Truth(page=0.4e-9))  # 0.4 s for a gigabyte
    (found,) = cluster.findings(run_of(made))
    assert found.figures["worst"] < 0.10
    untold = cluster.findings(run_of(changed(made, "replicas", new_memory=None)))[0].figures["rows"]
    assert next(row["error"] for row in untold if row["strategy"] == "data") < -0.15


def test_no_time_of_a_strategy_goes_into_the_model():
    made = records()
    before = cluster.findings(run_of(made))[0].figures
    made = [
        r
        if r.cell.mode in ("single", "replicas") or r.cell.ranks == 1
        else changed([r], r.cell.mode, step_s=[9.9], held=None)[0]
        for r in made
    ]
    after = cluster.findings(run_of(made))[0].figures
    assert [row["predicted_s"] for row in after["rows"]] == [row["predicted_s"] for row in before["rows"]]
    assert after["worst"] > 0.4


# --- what is missing -------------------------------------------------------------------------------


def test_a_run_without_parallel_cells_says_nothing():
    assert cluster.findings(run_of([], H100)) == []


@pytest.mark.parametrize("stated", [None, H100])
def test_records_that_are_missing_give_a_sentence(stated):
    made = records()
    for mode in ("single", "replicas") if stated else ("single",):
        (found,) = cluster.findings(run_of([r for r in made if r.cell.mode != mode], stated))
        assert found.verdict == "not fitted" and "there is no such cell" in found.title
    broken = [r if r.cell.mode != "replicas" else failed("torch", "replicas", 2, "rank 1 died.") for r in made]
    assert "rank 1 died)" in cluster.findings(run_of(broken, stated))[0].title


def test_a_run_that_asked_for_no_prediction_says_nothing_of_the_model():
    quick = run_of([r for r in records() if r.cell.mode != "replicas"], None)
    assert not any(cell.mode == "replicas" for cell in quick.planned) and cluster.findings(quick) == []


def test_strategies_that_failed_are_named_and_left_out():
    made = [
        r if r.cell.mode != "tensor" else failed("torch", "tensor", 2, "no linear layer") for r in records()
    ]
    error, told = cluster.findings(run_of(made, H100))
    assert len(error.figures["rows"]) == 3 and error.figures["failed"] == {"tensor": "no linear layer"}
    assert {r["strategy"] for r in told.figures["curves"]} == {"data", "fully_sharded", "pipeline"}
    assert told.figures["left_out"] == {"tensor": "no linear layer"}


def test_without_any_strategy_the_error_is_unknown_and_said_so():
    made = [r for r in records() if r.cell.mode in ("single", "replicas") or r.cell.ranks == 1]
    error, told = cluster.findings(run_of(made, H100))
    assert error.verdict == "unproved" and "no strategy was measured" in error.title
    assert told.verdict == "nothing fits" and "no strategy can be predicted" in told.title


def test_ranks_without_their_own_calibration_are_not_predicted():
    made = [r for r in records(ranks=(2, 4)) if (r.cell.mode, r.cell.ranks) != ("replicas", 4)]
    (found,) = cluster.findings(run_of(made))
    left = [row for row in found.figures["rows"] if row["ranks"] == 4]
    assert all(
        row["predicted_s"] is None and "no 4 ranks in 4 processes were measured" in row["why"] for row in left
    )
    assert "4 measurements held out" in found.title


def test_without_collectives_nothing_that_communicates_is_predicted():
    (found,) = cluster.findings(run_of(changed(records(), "replicas", collectives=[])))
    assert found.verdict == "unproved" and "no collective was measured by itself" in found.title


def test_each_side_stands_for_itself():
    broken = failed("jax", "single", 1, "out of memory")
    found = cluster.findings(run_of([*records("torch"), broken], H100))
    assert [(f.figures["side"], f.verdict) for f in found] == [
        ("torch", "fits"),
        ("torch", "best"),
        ("jax", "not fitted"),
    ]


# --- a stated cluster ------------------------------------------------------------------------------


def test_both_sides_get_a_best_strategy_with_its_error():
    found = cluster.findings(both_sides())
    assert [f.verdict for f in found] == ["fits", "best", "fits", "best"]
    for error, told in (found[:2], found[2:]):
        best = told.figures["best"]["weak"]
        rows = [r for r in told.figures["curves"] if r["scaling"] == "weak" and r["devices"] == 64]
        assert best["step_s"] == min(r["step_s"] for r in rows if not r["why"])
        assert best["throughput"] == pytest.approx(BATCH * 64 / best["step_s"])
        assert told.figures["error"]["worst"] == error.figures["worst"]
        assert "predicted fastest on 64 devices" in told.title and "at worst" in told.title


def test_a_device_is_as_efficient_as_this_machine_was():
    found = cluster.findings(run_of(records(), H100))[1].figures
    single = calibrate("torch", records(), {"cores": 2})
    assert not isinstance(single, str)
    assert found["efficiency"] == pytest.approx(3e10 / single.seconds / 1.5e11)
    (one,) = [r for r in curve(found, "data", "strong") if r["devices"] == 1]
    assert one["step_s"] == pytest.approx(3e10 / (found["efficiency"] * 400e12))


def test_devices_without_a_stated_rate_are_those_of_this_machine():
    stated = {**H100, "device": {"memory_bytes": 80e9}}
    found = cluster.findings(run_of(records(), stated))[1].figures
    (one,) = [r for r in curve(found, "data", "strong") if r["devices"] == 1]
    assert one["step_s"] == pytest.approx(Truth().compute(BATCH) / 1.8, rel=0.05)
    # and their links do not work while they compute
    many = curve(found, "data", "weak")[-1]
    assert many["step_s"] == pytest.approx(many["compute_s"] + many["communication_s"])


def test_a_stated_rate_needs_this_machines_own():
    error, told = cluster.findings(run_of(changed(records(), "single", peak_flops=None), H100))
    assert error.verdict == "fits" and told.verdict == "not predicted" and "device.flops" in told.title


def test_what_does_not_fit_is_marked_and_never_best():
    small = {**H100, "device": {"flops": 400e12, "memory_bytes": 150 * MIB}}
    found = cluster.findings(run_of(records(), small))[1].figures
    assert sum(HELD.values()) > 150 * MIB
    assert all(r["why"] == "does not fit" for r in curve(found, "data", "weak"))
    sharded = {r["devices"]: r["why"] for r in curve(found, "fully_sharded", "strong")}
    assert sharded[1] == "does not fit" and not sharded[8]
    assert found["best"]["strong"]["strategy"] != "data"
    none = {**H100, "device": {"flops": 400e12, "memory_bytes": 1e6}}
    told = cluster.findings(run_of(records(), none))[1]
    assert told.verdict == "nothing fits" and told.severity == "warning"


def test_a_batch_cannot_be_split_further_than_its_examples():
    found = cluster.findings(run_of(records(), H100))[1].figures
    said = {r["devices"]: r["why"] for r in curve(found, "data", "strong")}
    assert not said[16] and said[32] == said[64] == "fewer examples than devices"


def test_where_more_devices_do_not_help_the_right_number_is_named():
    told = cluster.findings(run_of(records(), H100))[1]
    rows = [r for r in told.figures["curves"] if r["scaling"] == "strong" and not r["why"]]
    soonest = min(rows, key=lambda r: r["step_s"])
    assert soonest["devices"] < 64
    assert f"done soonest on {soonest['devices']} device" in told.title


def test_a_model_cannot_be_split_further_than_its_parts():
    made = changed(changed(records(), "pipeline", most_ranks=6), "tensor", most_ranks=4)
    found = cluster.findings(run_of(made, H100))[1].figures
    said = {r["devices"]: r["why"] for r in curve(found, "pipeline", "weak")}
    assert not said[4] and said[8] == "the model has 6 parts at most"
    mixed = [r for r in curve(found, "data_tensor", "weak") if not r["why"]]
    assert mixed and max(r["tensor"] for r in mixed) <= 4


def test_weak_scaling_keeps_a_devices_batch_and_never_gains_by_communication():
    found = cluster.findings(run_of(records(), H100))[1].figures
    for strategy in ("data", "fully_sharded"):
        rows = curve(found, strategy, "weak")
        assert [r["batch"] for r in rows] == [BATCH * r["devices"] for r in rows]
        rates = [r["throughput"] / r["devices"] for r in rows]
        assert max(rates) <= rates[0] * 1.01


@pytest.mark.parametrize(
    ("nodes", "each", "wanted"),
    [
        (8, 8, [1, 2, 4, 8, 16, 32, 64]),
        (3, 4, [1, 2, 4, 8, 12]),
        (1, 6, [1, 2, 4, 6]),
        (5, 1, [1, 2, 4, 5]),
        (1, 1, [1]),
    ],
)
def test_sizes_are_powers_of_two_whole_nodes_and_the_whole(nodes, each, wanted):
    stated = Cluster.model_validate({**H100, "nodes": nodes, "devices_per_node": each})
    assert cluster.sizes(stated) == wanted


def test_thousands_of_devices_are_predicted_at_once():
    run = both_sides({**H100, "nodes": 512})
    start = time.perf_counter()
    found = cluster.findings(run)
    assert time.perf_counter() - start < 1
    assert found[1].figures["devices"] == 4096 and "4,096 devices" in found[1].title


def test_what_did_not_run_here_is_told_where_it_is_predicted_fastest():
    rows = cluster.findings(run_of(records(), H100))[1].figures["curves"]
    assert {r["strategy"] for r in rows if not r["ran"]} == {"data_tensor"}
    best = next(r for r in rows if r["strategy"] == "data_tensor")
    error = {"median": 0.1, "worst": 0.2, "bytes": None}
    assert "data × tensor (made of its two parts: it did not run here)" in cluster._told("weak", best, error)


def test_jax_scatters_gradients_on_accelerators_and_sums_them_whole_on_cpus():
    """The same law for both sides: full sharding then costs what it costs PyTorch."""

    def communication(device: dict[str, float]) -> float:
        told = cluster.findings(run_of(records("jax"), {**H100, "device": device}))[1].figures
        return next(r for r in curve(told, "fully_sharded", "strong") if r["devices"] == 8)["communication_s"]

    whole, split = communication({"memory_bytes": 80e9}), communication({**H100["device"]})
    assert split < 0.8 * whole


def test_an_odd_node_has_no_tensor_pairs_that_cross_it():
    stated = Cluster.model_validate({**H100, "nodes": 4, "devices_per_node": 6})
    found = cluster.findings(run_of(records(), stated.model_dump()))[1].figures
    assert all(r["tensor"] in (2, 4) for r in curve(found, "data_tensor", "weak"))


def test_ranks_of_one_process_are_not_predicted_from_ranks_of_several():
    """Their collectives are copies in memory; those of several processes go through sockets."""
    inside = record("jax", "data", 2, step_s=[0.1], traffic=[], held=HELD)
    inside = inside.model_copy(update={"cell": inside.cell.model_copy(update={"processes": 1})})
    (found,) = cluster.findings(run_of([*records("jax"), inside]))
    (row,) = [row for row in found.figures["rows"] if row["processes"] == 1]
    assert row["predicted_s"] is None and "no 2 ranks in 1 process were measured" in row["why"]
    assert "4 measurements held out" in found.title
