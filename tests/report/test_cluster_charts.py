"""Pictures and tables of the cost model: every point is in them, and a stranger's name does nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cluster_records import H100, MIB, Truth, both_sides, records, run_of
from twinax.analyse import Findings, cluster
from twinax.records import Run
from twinax.report import cluster_charts, cluster_tables


def found(run: Run) -> Findings:
    return Findings(twin="resnet50", seed=0, items=tuple(cluster.findings(run)))


def figures(run: Run) -> dict[str, dict[str, Any]]:
    return {chart.name: json.loads(chart.figure) for chart in cluster_charts.charts(found(run))}


def test_without_a_cluster_only_the_error_is_drawn():
    drawn = figures(both_sides(None))
    assert list(drawn) == ["predicted"]
    exact, torch, jax = drawn["predicted"]["data"]
    assert (exact["name"], torch["name"], jax["name"]) == ("exact", "PyTorch", "JAX")
    assert exact["x"] == exact["y"] and len(torch["x"]) == len(jax["x"]) == 4
    assert len(set(torch["marker"]["symbol"])) == 4
    layout = drawn["predicted"]["layout"]
    assert layout["xaxis"]["type"] == layout["yaxis"]["type"] == "log"


def test_every_strategy_of_both_sides_has_a_curve():
    run = both_sides({**H100, "nodes": 512})
    drawn = figures(run)
    assert list(drawn) == ["predicted", "cluster-weak", "cluster-strong", "cluster-memory"]
    names = [trace["name"] for trace in drawn["cluster-weak"]["data"]]
    assert {n.partition(", ")[2] for n in names if "," in n} == {
        "data",
        "fully sharded",
        "tensor",
        "pipeline",
        "data × tensor",
    }
    assert max(drawn["cluster-weak"]["data"][0]["x"]) == 4096
    assert drawn["cluster-weak"]["layout"]["xaxis"]["type"] == "log"


def test_points_that_are_not_possible_are_crossed_out_and_on_no_line():
    small = {**H100, "device": {"flops": 400e12, "memory_bytes": 150 * MIB}}
    drawn = figures(run_of(records(), small))["cluster-weak"]["data"]
    data = next(trace for trace in drawn if trace["name"] == "PyTorch, data")
    assert data["y"] == [None] * 7
    crossed = drawn[-1]
    assert crossed["name"] == "not possible" and len(crossed["x"]) == len(crossed["text"]) >= 7
    assert any("does not fit" in text for text in crossed["text"])


def test_memory_is_stacked_and_limited():
    drawn = figures(run_of(records(), {**H100, "device": {"flops": 4e14, "memory_bytes": 150 * MIB}}))
    figure = drawn["cluster-memory"]
    assert [trace["name"] for trace in figure["data"]] == [
        "parameters",
        "gradients",
        "optimizer",
        "activations",
        "buffers",
        "gathered",
    ]
    assert figure["layout"]["barmode"] == "stack"
    (limit,) = figure["layout"]["shapes"]
    assert limit["x0"] == pytest.approx(150 / 1024)
    assert figure["layout"]["xaxis"]["range"][1] >= limit["x0"]


@pytest.mark.parametrize(("limit", "said"), [(80e9, "lies beyond the picture"), (2e9, "is the red line")])
def test_a_limit_out_of_sight_is_told(limit, said):
    run = run_of(records(), {**H100, "device": {"flops": 4e14, "memory_bytes": limit}})
    (memory,) = [c for c in cluster_charts.charts(found(run)) if c.name == "cluster-memory"]
    assert said in memory.note


def test_nothing_is_drawn_of_nothing():
    assert cluster_charts.charts(found(run_of([]))) == []
    empty = found(run_of([]))
    assert cluster_tables.held_out(empty) is None and cluster_tables.best(empty, "weak") is None
    assert cluster_tables.laws(empty) is None


def test_what_was_not_predicted_is_in_the_table_and_not_in_the_picture():
    made = [r for r in records(ranks=(2, 4)) if (r.cell.mode, r.cell.ranks) != ("replicas", 4)]
    shown = cluster_tables.held_out(found(run_of(made)))
    assert shown is not None and len(shown.rows) == 8
    assert sum(row.mark == "warning" and "–" in row.cells for row in shown.rows) == 4
    assert len(figures(run_of(made))["predicted"]["data"][1]["x"]) == 4


def test_a_wrong_prediction_is_marked():
    shown = cluster_tables.held_out(found(run_of(records(truth=Truth(wait=3.0, rate=3e8)))))
    assert shown is not None and any(row.mark == "warning" for row in shown.rows)
    right = cluster_tables.held_out(found(run_of(records())))
    assert right is not None and {row.mark for row in right.rows} == {"good"}
    assert all(len(row.cells) == len(right.columns) for row in right.rows)


@pytest.mark.parametrize("scaling", ["weak", "strong"])
def test_the_best_strategy_stands_there_at_every_size(scaling):
    shown = cluster_tables.best(found(both_sides()), scaling)
    assert shown is not None and len(shown.rows) == 2 * 7
    assert all(len(row.cells) == len(shown.columns) for row in shown.rows)
    assert [row.cells[1] for row in shown.rows[:7]] == ["1", "2", "4", "8", "16", "32", "64"]


def test_where_nothing_fits_the_table_says_so():
    none = {**H100, "device": {"flops": 400e12, "memory_bytes": 1e6}}
    shown = cluster_tables.best(found(run_of(records(), none)), "weak")
    assert shown is not None
    assert all(row.cells[2] == "none" and "does not fit" in row.cells[-1] for row in shown.rows)
    assert all(len(row.cells) == len(shown.columns) for row in shown.rows)


def test_a_hostile_name_is_escaped():
    run = run_of(records(), {**H100, "name": "<script>alert(1)</script>"})
    notes = [chart.note for chart in cluster_charts.charts(found(run))]
    figures_text = "".join(chart.figure for chart in cluster_charts.charts(found(run)))
    assert "<script>" not in figures_text
    assert any("Predicted for" in note for note in notes)
