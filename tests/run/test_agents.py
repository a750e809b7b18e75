"""Agents of a cluster's starter: which of its processes this one is, and what they do for the conductor."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from test_launch import gone

from twinax.errors import BadInput
from twinax.records import Outcome, Run
from twinax.run import agents
from twinax.run.agents import NEXT, STARTERS, NoMeeting, Place, place
from twinax.run.gang import free_port

MEETING = {"MASTER_ADDR": "node0", "MASTER_PORT": "29500"}


def variables(starter: str, rank: object, world: object) -> dict[str, str]:
    """What a starter sets, spelled as its own documentation spells it."""
    names = {
        "torchrun": ("RANK", "WORLD_SIZE"),
        "Slurm": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
        "Open MPI": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        "MPICH": ("PMI_RANK", "PMI_SIZE"),
    }[starter]
    return dict(zip(names, (str(rank), str(world)), strict=True))


# --- whose place -----------------------------------------------------------------------------------


@pytest.mark.parametrize("starter", ["torchrun", "Slurm", "Open MPI", "MPICH"])
def test_every_starter_says_who_this_is(starter):
    assert place(variables(starter, 2, 4) | MEETING) == Place(2, 4, "node0", 29500, starter)


def test_no_starter_is_left_untested():
    assert set(STARTERS) == {"torchrun", "Slurm", "Open MPI", "MPICH"}


def test_without_a_starter_there_is_no_place():
    assert place({}) is None
    assert place(MEETING) is None
    assert place({"RANK": "0", **MEETING}) is None  # half of a starter's variables is none
    assert place({"SLURM_PROCID": "0", "SLURM_JOB_ID": "7"}) is None


@pytest.mark.parametrize("starter", STARTERS)
def test_a_world_of_one_is_nobody_elses(starter):
    assert place(variables(starter, 0, 1)) is None


def test_torchrun_inside_another_job_goes_before_the_job():
    found = place(variables("Slurm", 0, 2) | variables("torchrun", 5, 8) | MEETING)
    assert found == Place(5, 8, "node0", 29500, "torchrun")


@pytest.mark.parametrize("starter", ["Open MPI", "MPICH"])
def test_mpi_inside_a_slurm_job_goes_before_slurm(starter):
    """Slurm starts one daemon per node; the ranks that a daemon starts inherit the daemon's numbers."""
    found = place(variables("Slurm", 1, 2) | variables(starter, 5, 8) | MEETING)
    assert found == Place(5, 8, "node0", 29500, starter)


# --- where rank 0 is met ---------------------------------------------------------------------------


def test_slurm_says_where_to_meet_without_an_address():
    job = variables("Slurm", 1, 2) | {"SLURM_LAUNCH_NODE_IPADDR": "10.0.0.3", "SLURM_JOB_ID": "123457"}
    assert place(job) == Place(1, 2, "10.0.0.3", 20000 + 3457, "Slurm")
    assert place(job | MEETING) == Place(1, 2, "node0", 29500, "Slurm")  # what was set by hand holds


@pytest.mark.parametrize("job", ["1", "19999", "20000", "99999999"])
def test_the_port_made_from_a_job_is_one_that_a_user_may_take(job):
    made = variables("Slurm", 0, 2) | {"SLURM_LAUNCH_NODE_IPADDR": "10.0.0.3", "SLURM_JOB_ID": job}
    found = place(made)
    assert found is not None and found.port >= 20000 and found.port + NEXT <= 40000


@pytest.mark.parametrize(
    "missing",
    [
        {},
        {"MASTER_ADDR": "node0"},
        {"MASTER_PORT": "29500"},
        {"MASTER_ADDR": "", "MASTER_PORT": "29500"},
        {"MASTER_ADDR": "node0", "MASTER_PORT": ""},
    ],
)
@pytest.mark.parametrize("starter", STARTERS)
def test_without_a_place_to_meet_it_says_what_to_set(starter, missing):
    with pytest.raises(NoMeeting, match="MASTER_ADDR and MASTER_PORT") as raised:
        place(variables(starter, 0, 2) | missing)
    assert raised.value.what.startswith(f"{starter} says rank 0 of 2")


@pytest.mark.parametrize("port", ["0", "-1", "65535", "70000"])
def test_a_port_with_none_after_it_is_refused(port):
    with pytest.raises(NoMeeting, match=f"node0:{port}"):
        place(variables("torchrun", 0, 2) | {"MASTER_ADDR": "node0", "MASTER_PORT": port})


# --- variables that contradict ---------------------------------------------------------------------


@pytest.mark.parametrize(("rank", "world"), [(2, 2), (7, 2), (-1, 2), (0, 0), (0, -1)])
@pytest.mark.parametrize("starter", STARTERS)
def test_a_rank_outside_the_world_is_told(starter, rank, world):
    with pytest.raises(NoMeeting, match=f"rank {rank} of {world}"):
        place(variables(starter, rank, world) | MEETING)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"RANK": "one"}, "'one'"),
        ({"WORLD_SIZE": ""}, "''"),
        ({"MASTER_PORT": "http"}, "'http'"),
        ({"RANK": "1.0"}, "'1.0'"),
    ],
)
def test_a_variable_that_is_no_number_is_named(change, said):
    with pytest.raises(NoMeeting, match="torchrun's variables cannot be read") as raised:
        place(variables("torchrun", 0, 2) | MEETING | change)
    assert said in raised.value.what and raised.value.hint
    assert isinstance(raised.value, BadInput)  # the command line ends with 2


# --- two hosts -------------------------------------------------------------------------------------


def namespaces() -> list[list[str]]:
    """Command prefixes for two hosts (network namespaces joined by a cable); [] where none can be made."""
    names = [f"twinax-{os.getpid()}-{i}" for i in range(2)]
    cable = [f"tw{os.getpid() % 10000}a", f"tw{os.getpid() % 10000}b"]
    steps = [["ip", "netns", "add", name] for name in names]
    steps.append(["ip", "link", "add", cable[0], "type", "veth", "peer", "name", cable[1]])
    for i, (name, end) in enumerate(zip(names, cable, strict=True)):
        inside = ["ip", "netns", "exec", name]
        steps += [
            ["ip", "link", "set", end, "netns", name],
            [*inside, "ip", "addr", "add", f"10.77.0.{i + 1}/24", "dev", end],
            [*inside, "ip", "link", "set", end, "up"],
            [*inside, "ip", "link", "set", "lo", "up"],
        ]
    for step in steps:
        if shutil.which("ip") is None or subprocess.run(step, capture_output=True).returncode:
            for name in names:
                subprocess.run(["ip", "netns", "del", name], capture_output=True) if shutil.which(
                    "ip"
                ) else None
            return []
    return [["ip", "netns", "exec", name] for name in names]


@pytest.fixture
def named_hosts(hosts):
    """The two hosts, each with its own address under its own name, as on a cluster."""
    prefixes, address = hosts
    if not prefixes:
        pytest.skip("network namespaces cannot be made here")
    folders = [Path("/etc/netns") / prefix[-1] for prefix in prefixes]
    for i, folder in enumerate(folders):
        folder.mkdir(parents=True)
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n10.77.0.{i + 1} {socket.gethostname()}\n")
    yield prefixes, address
    for folder in folders:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def hosts():
    """Two hosts and rank 0's address: namespaces where they can be made, else this machine twice."""
    prefixes = namespaces()
    yield (prefixes, "10.77.0.1") if prefixes else ([[], []], "127.0.0.1")
    for prefix in prefixes:
        subprocess.run(["ip", "netns", "del", prefix[-1]], capture_output=True)


class Job:
    """What a starter began: one process per rank."""

    def __init__(self, hosts, tmp_path, verb: str, starter: str = "torchrun") -> None:
        prefixes, address = hosts
        port = free_port("127.0.0.1")
        names = {"torchrun": ("RANK", "WORLD_SIZE"), "Slurm": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")}[starter]
        here = Path(__file__).parent
        self.ranks = []
        for rank, role in enumerate(("conduct", "serve")):
            environment = {
                **os.environ,
                "PYTHONPATH": str(here),
                names[0]: str(rank),
                names[1]: "2",
                "MASTER_ADDR": address,
                "MASTER_PORT": str(port),
            }
            folder = tmp_path / role
            folder.mkdir()
            command = [*prefixes[rank], sys.executable, str(here / "agent_roles.py"), role, str(folder), verb]
            self.ranks.append(
                subprocess.Popen(
                    command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
            )

    def told(self) -> dict:
        out, err = self.ranks[0].communicate(timeout=60)
        assert self.ranks[0].returncode == 0, err
        return json.loads(out)


def workers_of(folder: Path) -> list[int]:
    """Worker processes whose conductor was given this folder."""
    return [p.pid for p in psutil.process_iter(["cmdline"]) if "twinax.run.worker" in (p.info["cmdline"] or [])]


@pytest.mark.parametrize("starter", ["torchrun", "Slurm"])
def test_a_gang_spans_two_hosts(hosts, tmp_path, starter):
    job = Job(hosts, tmp_path, "rank", starter)
    answer = job.told()["answer"]
    assert answer["rank"] == 0 and [other["rank"] for other in answer["others"]] == [1]
    assert job.ranks[1].wait(timeout=20) == 0  # the agent is let go


@pytest.mark.parametrize(
    ("verb", "says"),
    [("one_dies", "rank 1 of 2 .* died: signal 9"), ("one_hangs", "rank 1 of 2 .* gave no answer")],
)
def test_a_worker_far_away_that_dies_or_hangs_is_named_and_ended(hosts, tmp_path, verb, says):
    before = set(workers_of(tmp_path))
    job = Job(hosts, tmp_path, verb)
    found = job.told()
    assert re.search(says, found["error"]) and found["seconds"] < 20
    assert job.ranks[1].wait(timeout=20) == 0
    assert set(workers_of(tmp_path)) <= before


def test_an_agent_ends_its_workers_when_the_conductor_is_killed(hosts, tmp_path):
    before = set(workers_of(tmp_path))
    job = Job(hosts, tmp_path, "one_hangs")
    deadline = time.monotonic() + 30
    while len(set(workers_of(tmp_path)) - before) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    started = set(workers_of(tmp_path)) - before
    assert len(started) >= 2
    job.ranks[0].kill()
    assert job.ranks[1].wait(timeout=20) == 0
    assert all(gone(pid) for pid in started)


def test_a_killed_agent_ends_the_cell(hosts, tmp_path):
    before = set(workers_of(tmp_path))
    job = Job(hosts, tmp_path, "one_hangs")
    deadline = time.monotonic() + 30
    while len(set(workers_of(tmp_path)) - before) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    job.ranks[1].kill()
    found = job.told()
    assert "rank 1" in found["error"] and found["seconds"] < 45


@pytest.mark.slow
@pytest.mark.parametrize("starter", ["torchrun", "Slurm"])
def test_the_whole_study_runs_on_two_hosts(named_hosts, tmp_path, starter):
    prefixes, address = named_hosts
    ranks = []
    for rank, prefix in enumerate(prefixes):
        names = {"torchrun": ("RANK", "WORLD_SIZE"), "Slurm": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")}[starter]
        meeting = {"MASTER_ADDR": address, "MASTER_PORT": "29631", names[0]: str(rank), names[1]: "2"}
        command = [*prefix, str(Path(sys.executable).parent / "twinax"), "parallel", "xor", "--quick"]
        command += ["--timeout", "60", "-o", str(tmp_path / "run")]
        ranks.append(subprocess.Popen(command, env={**os.environ, **meeting}, stderr=subprocess.DEVNULL))
    assert [process.wait(timeout=280) for process in ranks] == [0, 0]
    run = Run.load(tmp_path / "run")
    proved = [r for r in run.records if r.cell.ranks == 2 and r.outcome is Outcome.OK]
    assert {(r.cell.side, r.cell.mode) for r in proved} >= {
        (side, mode) for side in ("torch", "jax") for mode in ("data", "fully_sharded", "tensor", "pipeline")
    }


def test_a_stranger_is_turned_away_and_a_missing_rank_is_named(monkeypatch):
    monkeypatch.setattr(agents, "MEETING_S", 1.0)
    where = agents.Place(0, 3, "127.0.0.1", free_port("127.0.0.1"), "torchrun")

    def knock() -> None:
        time.sleep(0.2)
        with socket.create_connection((where.address, where.port + agents.NEXT)) as stranger:
            stranger.sendall(b"agent 99\n")
            assert stranger.recv(1) == b""  # closed at once

    visitor = threading.Thread(target=knock)
    visitor.start()
    with pytest.raises(agents.NoMeeting, match="rank 1, 2"), agents.gathered(where):
        pass
    visitor.join()
