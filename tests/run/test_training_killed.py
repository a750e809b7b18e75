"""`kill -9` at any moment costs at most the steps since the last checkpoint; the rest is as if nothing was."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from twinax.api import train
from twinax.train import checkpoint

EPOCHS = 500


def start(*more):
    """A training in a process group of its own, with a checkpoint at almost every step."""
    line = ["twinax", "train", *more, "--framework", "torch"]
    code = f"import sys; sys.argv = {line!r}; from twinax.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("after_s", [0.1, pytest.param(0.4, marks=pytest.mark.slow)])
def test_a_killed_training_goes_on_from_its_last_checkpoint(tmp_path, after_s):
    settings = ("--dtype", "float64", "--checkpoint-every", "0.02", "--set", f"epochs={EPOCHS}")
    lane = tmp_path / "run" / "checkpoints" / "torch" / "fold-1"
    process = start("xor", "-o", str(tmp_path / "run"), *settings)
    deadline = time.monotonic() + 60
    while not any(lane.glob("step-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    time.sleep(0.5)  # the worker dies with its parent
    reached = checkpoint.newest(lane).facts.step
    assert 0 < reached <= EPOCHS
    again = train(resume=tmp_path / "run")
    assert again.passed
    (cut,) = (r.measurements["folds"][0] for r in again.run.records)
    assert cut["step"] == EPOCHS and cut["sides"][0][2] == reached
    whole = train(
        "xor", sides=("torch",), dtype="float64", settings={"epochs": EPOCHS}, output=tmp_path / "whole"
    )
    losses = [
        checkpoint.newest(folder / "checkpoints" / "torch" / "fold-1").history["loss"]
        for folder in (tmp_path / "run", tmp_path / "whole")
    ]
    np.testing.assert_allclose(*losses, rtol=1e-12)
    assert whole.passed
