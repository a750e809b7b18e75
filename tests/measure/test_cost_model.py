"""The cost model against machines whose law is known, against schedules that are played through, and limits."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from cluster_records import gpipe
from twinax.measure.collectives import Law, Link, Measured, Message, Network, Stated, fit, rounds, share
from twinax.measure.cost_model import (
    Held,
    Machine,
    Measurement,
    Model,
    expected_traffic,
    mixed,
    predict,
    scattered,
    traffic,
)

MODEL = Model(16, Held(4e9, 4e9, 8e9, 6e9))
SILENT = Measured({("all_reduce", 2): Law(0.0, 0.0)})
NODES = Stated(8, Link(5e-6, 400e9), Link(10e-6, 50e9))
GRADIENTS = Measurement(16, 2, (Message("all_reduce", 4e9, 2, 1),))
SPLIT = Measurement(16, 2, (Message("all_reduce", 1e6, 2, 24),), sharded_share=0.9, sharded_work=0.8)
SHARDS = Measurement(
    16, 2, (Message("all_gather", 5e8, 2, 16), Message("reduce_scatter", 5e8, 2, 8)), micro_batches=1
)
SENDS = Measurement(16, 2, (Message("send", 1e6, 2, 4),), micro_batches=4)
BOTH = mixed(GRADIENTS, SPLIT)
SEEN = {"data": GRADIENTS, "fully_sharded": SHARDS, "tensor": SPLIT, "pipeline": SENDS, "data_tensor": BOTH}


def machine(network: Network = NODES, **more) -> Machine:
    return Machine(compute=Law(0.02, 0.01), network=network, update=0.005, **more)


# --- fitting ---------------------------------------------------------------------------------------


@given(some.floats(1e-6, 1e-1), some.floats(1e-11, 1e-6), some.integers(0, 2**32 - 1))
def test_a_law_is_found_again_under_noise(fixed, slope, seed):
    sizes = np.repeat([4096.0, 65536, 2**20, 2**22, 2**24], 9)
    noise = 1 + 0.02 * np.random.default_rng(seed).standard_normal(len(sizes))
    law = fit(sizes.tolist(), ((fixed + slope * sizes) * noise).tolist())
    for size in (4096, 2**20, 2**24):
        assert law(size) == pytest.approx(fixed + slope * size, rel=0.1)


def test_small_sizes_count_as_much_as_large_ones():
    law = fit([4096, 2**24], [1e-3, 1.0])
    assert law(4096) == pytest.approx(1e-3) and law(2**24) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("x", "t"),
    [([1, 2, 4], [4.0, 2.0, 1.0]), ([1, 2, 4], [1.0, 4.0, 16.0]), ([8], [2.0]), ([8, 8], [1.9, 2.1])],
)
def test_no_part_of_a_law_is_negative(x, t):
    law = fit(x, t)
    assert law.fixed >= 0 and law.slope >= 0 and law(x[0]) > 0


# --- collectives -----------------------------------------------------------------------------------


def test_bytes_on_a_link_are_those_of_the_papers():
    assert share("all_reduce", 4) == pytest.approx(2 * 3 / 4)
    assert share("all_gather", 4) == share("reduce_scatter", 4) == pytest.approx(3 / 4)
    assert share("send", 2) == 1.0
    assert [rounds("all_gather", n) for n in (2, 4, 8, 5)] == [1, 2, 3, 3]
    assert rounds("all_reduce", 8) == 6 and rounds("send", 8) == 1


def test_between_nodes_only_a_devices_own_part_travels():
    inside, between = Link(0.0, 400e9), Link(0.0, 50e9)
    stated = Stated(8, inside, between)
    whole = stated.seconds(Message("all_reduce", 8e9, 64, 1))
    assert whole == pytest.approx(2 * 7 / 8 * 8e9 / 400e9 + 2 * 7 / 8 * 1e9 / 50e9)
    # one device of each node: everything goes over the slow link
    apart = stated.seconds(Message("all_reduce", 8e9, 8, 1, stride=8))
    assert apart == pytest.approx(2 * 7 / 8 * 8e9 / 50e9)
    assert stated.seconds(Message("send", 1e9, 8, 1)) == pytest.approx(1e9 / 400e9)
    assert stated.seconds(Message("send", 1e9, 9, 1)) == pytest.approx(1e9 / 50e9)


def test_a_collective_of_one_rank_costs_nothing():
    assert NODES.total([Message("all_reduce", 1e9, 1, 5)]) == 0.0


def test_arrays_that_travel_one_by_one_each_have_their_latency():
    known = Measured({("all_reduce", 4): Law(4e-4, 3e-9)})
    assert known.seconds(Message("all_reduce", 1e6, 4, 1, arrays=5)) == pytest.approx(5 * 4e-4 + 3e-3)
    assert known.seconds(Message("all_reduce", 1e6, 2, 1, arrays=5)) == pytest.approx(5 * 2e-4 + 2e-3)
    together = Message("all_reduce", 1e6, 2, 1)
    assert NODES.seconds(replace(together, arrays=5)) == NODES.seconds(together)


def test_what_was_not_measured_follows_from_what_was():
    known = Measured({("all_reduce", 4): Law(4e-4, 3e-9)})
    assert known.seconds(Message("all_reduce", 100, 4, 1)) == pytest.approx(4e-4 + 3e-7)
    pair = known.seconds(Message("all_reduce", 1e6, 2, 1))
    assert pair == pytest.approx(2e-4 + 3e-9 * 1e6 * (1.0 / 1.5))
    assert known.seconds(Message("all_gather", 1e6, 4, 1)) == pytest.approx(2e-4 + 3e-9 * 1e6 / 2)


# --- traffic ---------------------------------------------------------------------------------------


def test_expected_traffic_is_that_of_the_papers():
    whole = 400.0
    assert expected_traffic("data", 4, parameter_bytes=whole) == {"all_reduce": whole}
    sharded = expected_traffic("fully_sharded", 4, parameter_bytes=whole)
    assert sum(sharded.values()) == 3 * whole  # ZeRO, stage 3: one and a half of an all-reduce's two
    assert expected_traffic("tensor", 4, blocks=6, activation_bytes=10.0) == {"all_reduce": 240.0}
    assert expected_traffic("pipeline", 4, activation_bytes=10.0) == {"send": 10.0}
    both = expected_traffic(
        "data_tensor", 4, parameter_bytes=whole, blocks=1, activation_bytes=5.0, sharded_share=0.5
    )
    assert both == {"all_reduce": 20.0 + 300.0}
    assert expected_traffic("data", 1, parameter_bytes=whole) == {}
    with pytest.raises(KeyError):
        expected_traffic("zigzag", 4)


def test_traffic_grows_as_its_strategy_does():
    assert traffic("data", GRADIENTS, batch=640, ranks=64)[0].bytes == 4e9
    assert traffic("tensor", SPLIT, batch=64, ranks=8)[0].bytes == pytest.approx(4e6)
    (sent,) = traffic("pipeline", SENDS, batch=32, ranks=8, micro_batches=32)
    assert sent.count == 32 and sent.bytes == pytest.approx(1e6 * 2 / 8)
    summed, gradients = traffic("data_tensor", BOTH, batch=64, ranks=16, tensor_ranks=4)
    assert (summed.ranks, summed.bytes, summed.stride) == (4, pytest.approx(1e6), 1)
    assert (gradients.ranks, gradients.stride) == (4, 4)
    assert gradients.bytes == pytest.approx(4e9 * (0.1 + 0.9 / 4))


# --- steps -----------------------------------------------------------------------------------------


@given(some.integers(2, 16), some.integers(1, 32))
def test_the_bubble_is_that_of_a_schedule_played_through(stages, micro):
    law = Law(0.003, 0.002)
    device = Machine(compute=law, network=SILENT)
    seen = replace(SENDS, traffic=())
    told = predict("pipeline", MODEL, seen, device, batch=32, ranks=stages, micro_batches=micro)
    stage = law(32 / micro) / stages
    assert told.step_s == pytest.approx(gpipe(stage / 3, stage * 2 / 3, 0.0, stages, micro))


def test_ranks_that_wait_leave_their_cores_to_the_others():
    alone = predict("pipeline", MODEL, SENDS, machine(), batch=16, ranks=4, micro_batches=4)
    crowded = predict("pipeline", MODEL, SENDS, machine(crowding=2.0), batch=16, ranks=4, micro_batches=4)
    # 1, 2, 3, 4, 3, 2, 1 of four stages are at work; one alone is twice as fast as when all four are
    turns = (2 + 2 + 3 + 4 + 3 + 2 + 2) / 4
    assert crowded.compute_s == pytest.approx((alone.compute_s - 0.005 / 4) * turns / 7 + 0.005 / 4)


def test_ranks_that_meet_wait_for_one_another():
    wait = Law(0.001, 0.1)
    free, held_up = (
        predict("tensor", MODEL, SPLIT, machine(SILENT, **more), batch=16, ranks=2)
        for more in ({}, {"wait": wait})
    )
    assert held_up.step_s - free.step_s == pytest.approx(24 * 0.001 + 0.1 * free.compute_s)
    short = predict("tensor", MODEL, SPLIT, machine(SILENT, wait=wait, longest=0.002), batch=16, ranks=2)
    assert short.step_s - free.step_s == pytest.approx(24 * (0.001 + 0.1 * 0.002))
    alone = predict("data", MODEL, replace(GRADIENTS, traffic=()), machine(wait=wait), batch=16, ranks=2)
    assert alone.communication_s == 0.0


def test_what_an_engine_adds_is_in_each_of_a_pipelines_micro_batches():
    plain, heavy = (
        predict("pipeline", MODEL, SENDS, machine(SILENT, engine=e), batch=16, ranks=2, micro_batches=4)
        for e in ({}, {"pipeline": 0.04})
    )
    assert heavy.step_s - plain.step_s == pytest.approx(0.04 * (4 + 2 - 1) / 4 / 2)


@pytest.mark.parametrize("strategy", ["data", "fully_sharded", "tensor", "pipeline"])
def test_one_rank_does_what_one_device_does(strategy):
    told = predict(strategy, MODEL, replace(SEEN[strategy], traffic=()), machine(), batch=16, ranks=1)
    assert told.step_s == pytest.approx(0.02 + 0.01 * 16) and told.communication_s == 0.0
    assert told.held.total == pytest.approx(MODEL.held.total)


@pytest.mark.parametrize("strategy", SEEN)
@pytest.mark.parametrize("overlap", [False, True])
def test_slower_links_never_make_a_step_faster(strategy, overlap):
    more = {"tensor_ranks": 4} if strategy == "data_tensor" else {"micro_batches": 8}
    steps = [
        predict(
            strategy,
            MODEL,
            SEEN[strategy],
            machine(Stated(8, Link(5e-6, rate), Link(1e-5, rate / 8)), overlap=overlap),
            batch=64,
            ranks=64,
            **more,
        ).step_s
        for rate in (1e13, 1e11, 1e10, 1e9, 1e8)
    ]
    assert steps == sorted(steps)


def test_communication_hides_behind_computing_and_no_further():
    apart = predict("data", MODEL, GRADIENTS, machine(), batch=64, ranks=64)
    hidden = predict("data", MODEL, GRADIENTS, machine(overlap=True), batch=64, ranks=64)
    slow = Stated(8, Link(0.0, 1e9), Link(0.0, 1e8))
    late = predict("data", MODEL, GRADIENTS, machine(slow, overlap=True), batch=64, ranks=64)
    assert apart.step_s == pytest.approx(apart.compute_s + apart.communication_s)
    assert max(hidden.compute_s, hidden.communication_s) <= hidden.step_s < apart.step_s
    assert late.step_s == pytest.approx(late.compute_s / 3 + late.communication_s)
    summed = predict("tensor", MODEL, SPLIT, machine(overlap=True), batch=64, ranks=8)
    assert summed.step_s == pytest.approx(summed.compute_s + summed.communication_s)


def test_statistics_of_batch_norm_hide_behind_nothing():
    statistics = Message("all_reduce", 8192, 2, 50)
    more = replace(GRADIENTS, traffic=(*GRADIENTS.traffic, statistics))
    plain, with_them = (
        predict("data", MODEL, seen, machine(overlap=True), batch=64, ranks=64) for seen in (GRADIENTS, more)
    )
    assert with_them.step_s - plain.step_s == pytest.approx(50 * NODES.seconds(replace(statistics, ranks=64)))


def test_without_communication_data_parallel_scales_to_its_fixed_part():
    free = machine(SILENT)
    steps = [
        predict("data", MODEL, replace(GRADIENTS, traffic=()), free, batch=4096, ranks=n).step_s
        for n in (1, 2, 4, 4096)
    ]
    assert steps == sorted(steps, reverse=True)
    assert steps[-1] == pytest.approx(0.02 + 0.01)


# --- memory ----------------------------------------------------------------------------------------


def test_memory_is_that_of_the_papers():
    def held(strategy: str, batch: int = 16, **more) -> Held:
        return predict(strategy, MODEL, SEEN[strategy], machine(), batch=batch, ranks=8, **more).held

    assert held("data") == Held(4e9, 4e9, 8e9, 6e9 / 8)
    # ZeRO, stage 3: everything in parts, and one gathered block
    assert held("fully_sharded") == Held(5e8, 5e8, 1e9, 6e9 / 8, gathered=5e8)
    part, active = 0.1 + 0.9 / 8, 0.2 + 0.8 / 8
    assert held("tensor").total == pytest.approx(16e9 * part + 6e9 * active)
    # GPipe keeps the activations of all micro-batches, each on its own stage
    assert held("pipeline", micro_batches=4).total == pytest.approx(22e9 / 8)
    mixed = held("data_tensor", tensor_ranks=4)
    assert mixed.activations == pytest.approx(6e9 / 2 * (0.2 + 0.8 / 4))


def test_on_accelerators_sums_of_sharded_gradients_are_scattered():
    statistics = Message("all_reduce", 4096, 2, 50)
    seen = Measurement(
        16,
        2,
        (Message("all_gather", 1e8, 2, 40), statistics, Message("all_reduce", 1e8, 2, 40)),
        sharded_share=1.0,
    )
    made = scattered(seen, 4e9)
    assert sorted((m.kind, m.bytes, m.count) for m in made.traffic) == [
        ("all_gather", 1e8, 40),
        ("all_reduce", 4096, 50),
        ("reduce_scatter", 1e8, 40),
    ]
    assert set(scattered(replace(seen, sharded_share=0.0), 4e9).traffic) == set(seen.traffic)
    fast = machine(overlap=True)
    slow, quick = (predict("fully_sharded", MODEL, s, fast, batch=512, ranks=512) for s in (seen, made))
    assert quick.step_s < slow.step_s  # they hide behind the backward pass, and send half the bytes


def test_the_fullest_stage_of_an_uneven_pipeline_counts():
    uneven = replace(SENDS, unevenness=1.5)
    found = predict("pipeline", MODEL, uneven, machine(), batch=16, ranks=8, micro_batches=4).held
    assert found.total == pytest.approx(1.5 * 16e9 / 8 + 6e9 / 8)
    alone = predict("pipeline", MODEL, uneven, machine(), batch=16, ranks=1, micro_batches=4).held
    assert alone.parameters == MODEL.held.parameters  # never more than all
    model = replace(MODEL, largest=0.25)
    deep = predict("pipeline", model, SENDS, machine(), batch=64, ranks=64, micro_batches=64).held
    assert deep.parameters == 0.25 * MODEL.held.parameters  # some stage has the largest


def test_what_an_engine_keeps_on_one_rank_it_keeps_on_each():
    model = replace(MODEL, engine={"data": 4e9, "pipeline": 8e9})
    held = {s: predict(s, model, SEEN[s], machine(), batch=16, ranks=8, micro_batches=4).held for s in SEEN}
    assert held["data"].buffers == 4e9 and held["pipeline"].buffers == 1e9 and held["tensor"].buffers == 0


@pytest.mark.parametrize("apart", [False, True])
def test_gradients_that_are_let_go_early_only_wait_where_they_are_summed(apart):
    model, whole = replace(MODEL, early_updates=True), replace(SHARDS, traffic=GRADIENTS.traffic)
    seen = {**SEEN, "fully_sharded": whole if apart else SHARDS}

    def temporary(strategy: str, ranks: int) -> float:
        where = machine(sums_apart=apart)
        held = predict(strategy, model, seen[strategy], where, batch=16, ranks=ranks, micro_batches=4).held
        return held.gradients + held.activations + held.buffers

    assert temporary("data", 1) == 6e9  # on one device the gradients have room where activations were
    assert temporary("data", 8) == (8e9 if apart else 4e9)  # 0.75e9 of activations, 4e9 of gradients
    assert temporary("fully_sharded", 8) == (8e9 if apart else pytest.approx(0.75e9))
    assert temporary("tensor", 8) == pytest.approx(6e9 * (0.2 + 0.8 / 8))


def test_four_thousand_devices_take_no_time_to_predict():
    start = time.perf_counter()
    for strategy, seen in SEEN.items():
        for i in range(13):
            predict(strategy, MODEL, seen, machine(), batch=16 * 2**i, ranks=2**i, tensor_ranks=1)
    assert time.perf_counter() - start < 1
