"""The plain programs in JAX: each gives the losses of one device, which are PyTorch's."""

import importlib
import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import twinax.probes.parallel.jax_side as jax_side


def start(devices: int) -> None:
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"


@pytest.fixture(scope="module")
def devices() -> Iterator[ProcessPoolExecutor]:
    """A process with four devices: how many there are is fixed when JAX starts."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), start, (4,)) as pool:
        yield pool


def losses(program: str) -> list[float]:
    return importlib.import_module(f"{jax_side.__name__}.{program}").main()


def seen(program: str) -> tuple[list[float], dict[str, list[int]]]:
    """The losses, and of each kernel and its momentum after the last step: parts, and devices of the batch."""
    module: Any = importlib.import_module(f"{jax_side.__name__}.{program}")
    train, kept = module.train, {}

    def watched(model: Any, optimizer: Any, x: Any, *rest: Any) -> Any:
        loss = train(model, optimizer, x, *rest)
        block = model.blocks.layers[0] if program != "pipeline" else model.blocks
        (trace,) = [part.trace for part in optimizer.opt_state if hasattr(part, "trace")]
        slots = trace["blocks"]["layers"][0] if program != "pipeline" else trace["blocks"]
        for name in ("up", "down"):
            kept[name] = [parts(getattr(block, name).kernel[...]), parts(slots[name]["kernel"][...])]
        kept["batch"] = [parts(x)]
        return loss

    module.train = watched
    try:
        return module.main(), kept
    finally:
        module.train = train


def parts(array: Any) -> int:
    return len({str(shard.index) for shard in array.addressable_shards})


@pytest.fixture(scope="module")
def expected(devices: ProcessPoolExecutor) -> list[float]:
    return devices.submit(losses, "single").result()


def test_one_device_is_pytorch_on_one_device(expected: list[float]):
    program = f"{jax_side.__name__}.single".replace("jax_side", "torch_side")
    done = subprocess.run(
        [sys.executable, "-m", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert len(expected) == 5 and expected[-1] < 0.9 * expected[0]
    assert [float(line) for line in done.stdout.split()] == pytest.approx(expected, rel=1e-5)


PARTS = {  # of the up and down kernel, and of the batch
    "data": (1, 1, 4),
    "fully_sharded": (4, 4, 4),
    "tensor": (4, 4, 1),
    "data_tensor": (2, 2, 2),
    "pipeline": (4, 4, 1),
}


@pytest.mark.parametrize("program", PARTS)
def test_four_devices_are_one_device(devices: ProcessPoolExecutor, expected: list[float], program: str):
    """And each device holds its part only, after every step: weights, momentum, batch."""
    found, kept = devices.submit(seen, program).result()
    assert found == pytest.approx(expected, rel=1e-5)
    up, down, batch = PARTS[program]
    assert kept == {"up": [up, up], "down": [down, down], "batch": [batch]}


def reversed_stages() -> list[float]:
    """Stages in the wrong order: the hand-over goes to the device before."""
    import jax

    right = jax.lax.ppermute

    def wrong(x: Any, axis: str, pairs: Any) -> Any:
        return right(x, axis, [(j, i) for i, j in pairs])

    jax.lax.ppermute = wrong
    try:
        return losses("pipeline")
    finally:
        jax.lax.ppermute = right


def test_a_wrong_hand_over_is_seen(devices: ProcessPoolExecutor, expected: list[float]):
    assert devices.submit(reversed_stages).result() != pytest.approx(expected, rel=1e-3)


def test_two_processes_are_one_device(expected: list[float]):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    base.pop("XLA_FLAGS", None)
    command = [sys.executable, str(Path(str(jax_side.__file__)).with_name("data.py"))]
    running = [
        subprocess.Popen(command, env={**base, "RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for process in running:
        told, _ = process.communicate(timeout=120)
        lines = [line for line in told.splitlines() if not line.startswith("[Gloo]")]  # says who it met
        assert [float(line) for line in lines] == pytest.approx(expected, rel=1e-5)
