"""Agents of a cluster's starter: which of its processes this one is, and what they do for the conductor."""

from __future__ import annotations

import pytest

from twinax.errors import BadInput
from twinax.run.agents import NEXT, STARTERS, NoMeeting, Place, place

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
    assert found is not None and 20000 <= found.port and found.port + NEXT <= 40000


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
