"""The plain programs in PyTorch: each gives the losses of one device, on every rank."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import twinax.probes.parallel.torch_side as torch_side
from frameworks.torch_ranks import Ranks

RANKS = {"data": 2, "fully_sharded": 2, "tensor": 2, "pipeline": 2, "data_tensor": 4}


def losses(membership, program: str) -> list[float]:
    return importlib.import_module(f"{torch_side.__name__}.{program}").main()


@pytest.fixture(scope="module")
def pool() -> Iterator[Ranks]:
    ranks = Ranks(4)
    yield ranks
    ranks.stop()


@pytest.fixture(scope="module")
def expected(pool: Ranks) -> list[float]:
    return pool.run(losses, 1, "single")[0]


def test_one_device_learns(expected: list[float]):
    assert len(expected) == 5 and expected[-1] < 0.9 * expected[0]


@pytest.mark.parametrize("program", RANKS)
def test_every_rank_has_the_losses_of_one_device(pool: Ranks, expected: list[float], program: str):
    for found in pool.run(losses, RANKS[program], program):
        assert found == pytest.approx(expected, rel=1e-5)


def test_a_program_without_its_strategy_is_seen(pool: Ranks, expected: list[float]):
    """Gradients that are not averaged: each rank would train on its own share."""
    for found in pool.run(unaveraged, 2):
        assert found[0] == pytest.approx(expected[0], rel=1e-5)
        assert found[1:] != pytest.approx(expected[1:], rel=1e-3)


def unaveraged(membership) -> list[float]:
    from twinax.probes.parallel.torch_side import data

    wrapper, data.DistributedDataParallel = data.DistributedDataParallel, lambda model: model
    try:
        return data.main()
    finally:
        data.DistributedDataParallel = wrapper


def test_torchrun_starts_them(tmp_path: Path, expected: list[float]):
    done = torchrun("data.py", tmp_path)
    assert done.returncode == 0, [done.stderr, *written(tmp_path, "stderr")]
    ranks = written(tmp_path, "stdout")
    assert len(ranks) == 2
    for lines in ranks:
        assert [float(line) for line in lines.split()] == pytest.approx(expected, rel=1e-5)


def torchrun(program: str, logs: Path) -> subprocess.CompletedProcess[str]:
    """Start the program in two processes, each of which writes to files of its own."""
    path = Path(str(torch_side.__file__)).with_name(program)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    start += ["--redirects", "3", "--log-dir", str(logs), str(path)]
    return subprocess.run(start, capture_output=True, text=True, timeout=120)


def written(logs: Path, stream: str) -> list[str]:
    """What each rank wrote."""
    return [path.read_text() for path in logs.rglob(f"{stream}.log")]
