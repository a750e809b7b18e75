"""What every parallel engine builds on: the plan's patterns, micro-batches, a process's place in its group."""

from __future__ import annotations

import numpy as np
import pytest

from twinax.frameworks.parallel import Membership, micro_batches, planned

PLAN = {
    "layers.*.attention.out": "row",
    "layers.*": "column",
    "head": "column",
    "layers.0.special": "row",
}


@pytest.mark.parametrize(
    ("path", "how"),
    [
        ("layers.0.attention.out", "row"),
        ("layers.10.attention.query", "column"),
        ("layers.0.special", "column"),  # an earlier pattern matches it too
        ("head", "column"),
        ("Head", ""),
        ("head.bias", ""),
        ("encoder.layers.0", ""),  # a pattern is of the whole path
        ("", ""),
    ],
)
def test_the_first_pattern_that_matches_decides(path, how):
    assert planned(PLAN, path) == how


def test_an_empty_plan_says_nothing():
    assert planned({}, "layers.0") == ""


def test_micro_batches_are_the_batch_in_order():
    batch = {"image": np.arange(24.0).reshape(6, 4), "label": np.arange(6)}
    parts = micro_batches(batch, 3)
    assert [list(part) for part in parts] == [["image", "label"]] * 3
    assert [len(part["label"]) for part in parts] == [2, 2, 2]
    for name, whole in batch.items():
        assert np.array_equal(np.concatenate([part[name] for part in parts]), whole)
    assert parts[1]["label"].tolist() == [2, 3] and parts[1]["image"][0].tolist() == [8, 9, 10, 11]


@pytest.mark.parametrize(("sizes", "count"), [((6,), 4), ((8, 6), 4), ((2,), 4)])
def test_a_batch_that_does_not_divide_is_an_error_with_its_numbers(sizes, count):
    batch = {f"array {i}": np.zeros(size) for i, size in enumerate(sizes)}
    with pytest.raises(ValueError, match=rf"{sorted(sizes)[0]}.*into {count} parts"):
        micro_batches(batch, count)


@pytest.fixture
def environment(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_a_place_in_the_group_is_read_from_the_environment(environment):
    for name, value in {
        "RANK": "3",
        "WORLD_SIZE": "4",
        "MASTER_ADDR": "node7",
        "MASTER_PORT": "2950",
        "LOCAL_RANK": "1",
    }.items():
        environment.setenv(name, value)
    assert Membership.of_environment(9.0) == Membership(3, 4, "node7:2950", 9.0)


def test_without_a_group_it_is_a_group_of_one(environment):
    assert Membership.of_environment() == Membership(0, 1, "127.0.0.1:0", 120.0)


def test_a_rank_that_is_no_number_is_an_error(environment):
    environment.setenv("RANK", "first")
    with pytest.raises(ValueError, match="first"):
        Membership.of_environment()
