"""Ranks that die, hang or complain: one named outcome, the right rank named, nothing left behind."""

import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_launch import INFO, gone

from twinax.errors import CellFailed
from twinax.records import Cell, Options, Size
from twinax.run.gang import cores_of, seat, threads_of
from twinax.run.launch import LocalCrew, LocalLauncher
from twinax.run.plan import Silent

CELL = Cell(twin="none", study="test", side="both", mode="data", size=Size(batch=1), ranks=3, processes=3)


@pytest.fixture
def crew(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    launcher = LocalLauncher(INFO, Options(timeout=3), tmp_path, "", Silent())
    with LocalCrew("worker_verbs", launcher) as crew:
        yield crew


def test_every_rank_answers_and_knows_its_place(crew):
    answer = crew.worker(CELL).call("rank")
    assert [answer["rank"], *(other["rank"] for other in answer["others"])] == [0, 1, 2]
    assert answer["world"] == 3


@pytest.mark.parametrize(
    ("verb", "who", "outcome", "says"),
    [
        ("one_dies", 1, "crashed", "rank 1 of 3 of test.both.data.float32.b1.0.r3p3 died: signal 9"),
        ("one_dies", 0, "crashed", "rank 0 of 3"),
        ("complain_of_the_dead", 2, "crashed", "rank 2 of 3"),
        ("one_hangs", 2, "timed_out", "rank 2 of 3"),
        ("complain_of_the_late", 1, "timed_out", "rank 1 of 3"),
        ("one_fails", 1, "crashed", "a shape that does not fit"),
    ],
)
def test_the_rank_that_was_the_cause_is_named_and_all_are_ended(crew, verb, who, outcome, says):
    worker = crew.worker(CELL)
    pids = worker.pids
    begin = time.monotonic()
    with pytest.raises(CellFailed, match=says) as caught:
        worker.call(verb, who=who)
    assert caught.value.outcome == outcome and caught.value.cell == CELL
    assert time.monotonic() - begin < 8
    assert all(gone(pid) for pid in pids)


def test_ranks_that_lost_each_other_are_asked_whether_they_went_the_same_way(crew):
    with pytest.raises(CellFailed, match="closed by peer") as caught:
        crew.worker(CELL).call("part_ways")
    assert caught.value.outcome == "crashed" and "same layers" in caught.value.hint


def test_all_members_are_stopped_with_the_cell(crew):
    pids = crew.worker(CELL).pids
    crew.stop(CELL)
    assert len(pids) == 3 and all(gone(pid) for pid in pids)


def test_each_process_writes_a_log_of_its_own(crew, tmp_path):
    crew.worker(CELL).call("shout")
    assert len(list((tmp_path / "logs").glob("*.log"))) == 3


@pytest.mark.parametrize(
    ("processes", "cores", "threads", "expected"),
    [
        (2, [0, 1], None, [[0, 1]] * 2),
        (4, [0, 1], None, [[0, 1]] * 4),
        (2, [4, 5, 6, 7], None, [[4, 5], [6, 7]]),
        (2, [0, 1], 2, [[0, 1]] * 2),
        (3, [0, 1, 2, 3], None, [[0, 1, 2]] * 3),
        (2, [0, 1, 2, 3, 4], 2, [[0, 1], [2, 3]]),
    ],
)
def test_each_process_has_cores_of_its_own_or_shares_all(processes, cores, threads, expected):
    assert [cores_of(i, processes, cores, threads) for i in range(processes)] == expected


@pytest.mark.parametrize(
    ("processes", "cores", "threads", "expected"),
    [
        (2, [0, 1], None, 1),
        (4, [0, 1], None, 1),
        (2, [0, 1, 2, 3], None, 2),
        (2, [0, 1], 2, 2),
        (2, [0, 1], 5, 2),
    ],
)
def test_no_process_computes_with_more_threads_than_there_are_cores(processes, cores, threads, expected):
    assert threads_of(processes, cores, threads) == expected


@dataclass
class Seats:
    machine: str
    cores: list[int]


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ([("a", [0, 1])] * 2, [(0, 2), (1, 2)]),
        ([("a", [0, 1]), ("b", [0, 1])], [(0, 1), (0, 1)]),
        ([("a", [0, 1]), ("b", [0, 1])] * 2, [(0, 2), (0, 2), (1, 2), (1, 2)]),
        ([("a", [0, 1]), ("a", [2, 3])], [(0, 1), (0, 1)]),  # a starter that gave each its own cores
    ],
)
def test_ranks_share_cores_with_those_of_their_own_machine_only(hosts, expected):
    made = [Seats(*host) for host in hosts]
    assert [seat(i, made) for i in range(len(made))] == expected
