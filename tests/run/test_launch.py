"""Workers that die, hang, run out of memory or talk too much: each becomes a named outcome."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from twinax.errors import CellFailed, WeightsError
from twinax.records import Cell, Options, Size, TwinInfo
from twinax.run import launch
from twinax.run.launch import SCRATCH_PREFIX, LocalCrew, LocalLauncher, make_scratch
from twinax.run.plan import Silent

CELL = Cell(twin="none", study="test", side="both", mode="compare", size=Size(batch=1))
INFO = TwinInfo(name="none", title="", presets={}, inputs=())


@pytest.fixture
def crew(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    launcher = LocalLauncher(INFO, Options(timeout=20), tmp_path, "", Silent())
    with LocalCrew("worker_verbs", launcher) as crew:
        yield crew


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_a_worker_answers_and_keeps_what_is_printed_out_of_the_pipe(crew, tmp_path):
    worker = crew.worker(CELL)
    assert worker.call("echo", value=[1, None, "ä"]) == {"value": [1, None, "ä"]}
    worker.call("shout")
    assert worker.call("echo", value=2) == {"value": 2}
    log = (tmp_path / "logs" / f"{CELL.id}.log").read_text()
    assert all(text in log for text in ("standard output", "standard error", "past Python"))


def test_a_large_message_passes_in_both_directions(crew):
    value = "x" * 3_000_000
    assert crew.worker(CELL).call("echo", value=value)["value"] == value


@pytest.mark.parametrize(
    ("verb", "arguments", "outcome", "says"),
    [
        ("die", {"number": signal.SIGKILL}, "crashed", "SIGKILL"),
        ("die", {"number": signal.SIGTERM}, "crashed", "SIGTERM"),
        ("segfault", {}, "crashed", "SIGSEGV"),
        ("leave", {}, "crashed", "exit code 7"),
        ("fail", {}, "crashed", "three is not four"),
        ("starve", {}, "out_of_memory", "1 PiB"),
    ],
)
def test_each_kind_of_death_has_its_name(crew, verb, arguments, outcome, says):
    with pytest.raises(CellFailed, match=says) as caught:
        crew.worker(CELL).call(verb, **arguments)
    assert caught.value.outcome == outcome and caught.value.hint and caught.value.cell == CELL


def test_silence_ends_the_cell_and_its_process(crew):
    worker = crew.worker(CELL)
    with pytest.raises(CellFailed, match="no answer within 1 s") as caught:
        worker.call("sleep", timeout=1.0, seconds=60)
    assert caught.value.outcome == "timed_out" and gone(worker.process.pid)


def test_sys_exit_in_a_users_code_is_the_users_error(crew):
    from twinax.errors import UserFileError

    with pytest.raises(UserFileError, match=r"ended the process \(SystemExit: 3\)"):
        crew.worker(CELL).call("ask_to_leave")


def test_bad_input_found_in_a_worker_is_the_same_error_in_the_parent(crew):
    with pytest.raises(WeightsError, match="a key is missing") as caught:
        crew.worker(CELL).call("refuse")
    assert caught.value.hint == "add it"


def test_a_worker_that_failed_a_verb_still_serves(crew):
    worker = crew.worker(CELL)
    with pytest.raises(CellFailed):
        worker.call("fail")
    assert worker.call("echo", value=1) == {"value": 1}


def test_nothing_is_left_behind(crew):
    worker = crew.worker(CELL)
    child = worker.call("have_child")["pid"]
    crew.__exit__()
    assert gone(worker.process.pid) and gone(child) and not crew.scratch.exists()


def test_a_worker_that_compares_imports_no_framework(crew):
    assert crew.worker(CELL).call("modules") == {"names": []}


def test_workers_die_with_a_killed_parent(tmp_path):
    code = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_launch import CELL, INFO, LocalCrew, LocalLauncher, Options, Silent
        crew = LocalCrew("worker_verbs", LocalLauncher(INFO, Options(), Path({str(tmp_path)!r}), "", Silent()))
        worker = crew.worker(CELL)
        print(worker.process.pid, crew.scratch, flush=True)
        worker.call("sleep", seconds=600)
    """)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    pid, scratch = parent.stdout.readline().split()
    parent.kill()
    parent.wait()
    assert gone(int(pid))
    make_scratch(tmp_path).rmdir()  # the next run clears what the killed one left
    assert not Path(scratch).exists()


def test_scratch_of_a_living_process_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "ROOM", 1 << 62)  # no file system is that large: scratch goes beside the run
    mine = tmp_path / f"{SCRATCH_PREFIX}{os.getpid()}-x"
    mine.mkdir()
    dead = tmp_path / f"{SCRATCH_PREFIX}999999999-x"
    dead.mkdir()
    made = make_scratch(tmp_path)
    assert mine.exists() and not dead.exists() and made.parent == tmp_path
