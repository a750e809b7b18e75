"""One process at a time works in a run's folder; whoever is killed lets go of it."""

import os
import signal
import subprocess
import sys

import pytest

from twinax.api import train
from twinax.errors import RunError
from twinax.run.held import LOCK_FILE, held

HOLD = """
import sys, time
from pathlib import Path
from twinax.run.held import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("held") / "run"
    train("xor", sides=("torch",), settings={"epochs": 2}, output=folder)
    return folder


def test_a_run_that_another_process_works_in_is_refused_until_that_ends(run):
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        before = (run / "run.json").read_bytes()
        for sides in ((), ("jax",)):
            with pytest.raises(RunError, match=rf"process {other.pid} .* works in .*run; nothing was changed"):
                train(resume=run, sides=sides)
        assert (run / "run.json").read_bytes() == before
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    assert train(resume=run).run.complete


def test_a_folder_that_is_no_run_is_left_as_it_is(tmp_path):
    with held(tmp_path), held(tmp_path / "missing"):
        assert not list(tmp_path.iterdir())


def test_the_folder_is_free_again_after_an_error(run):
    with pytest.raises(KeyError), held(run):
        raise KeyError
    with held(run):
        assert (run / LOCK_FILE).exists()
