"""How evaluations travel between the parity study's workers: a folder, with one safetensors file per kind.

One kind at a time is read or written, so that nobody holds more of a large model than it needs.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from twinax.frameworks.base import Evaluation
from twinax.twin import Array, Arrays

KINDS = ("outputs", "loss", "gradients", "buffers", "weights", "optimizer", "activations")


def arrays(result: Evaluation, kind: str) -> Mapping[str, Array]:
    """One kind of an evaluation's tensors by name; the loss is a tensor of its own name."""
    return {"loss": np.asarray([result.loss])} if kind == "loss" else getattr(result, kind)


def write(path: str, result: Evaluation, kinds: Iterable[str] = KINDS) -> None:
    """Write an evaluation and let go of it, kind by kind."""
    Path(path).mkdir()
    for kind in kinds:
        held = {name: np.asarray(array, order="C") for name, array in arrays(result, kind).items()}
        if held:
            save_file(held, file_of(path, kind))
        if kind != "loss":
            setattr(result, kind, {})
        del held


def read(path: str, kind: str) -> Arrays:
    """One kind back; empty where there was none."""
    file = file_of(path, kind)
    return load_file(file) if file.exists() else {}


def file_of(path: str, kind: str) -> Path:
    """Where one kind of an evaluation lies."""
    return Path(path) / f"{kind}.safetensors"


@contextmanager
def opened(path: str, kind: str) -> Iterator[Mapping[str, Array]]:
    """One kind as a mapping that reads a tensor when it is asked for."""
    file = file_of(path, kind)
    if not file.exists():
        yield {}
        return
    with safe_open(file, framework="np") as tensors:
        yield _OnDisk(tensors)


class _OnDisk(Mapping[str, Any]):
    def __init__(self, tensors: Any) -> None:
        self.tensors, self.names = tensors, set(tensors.keys())

    def __getitem__(self, name: str) -> Array:
        return self.tensors.get_tensor(name)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors.keys())

    def __len__(self) -> int:
        return len(self.names)


def remove(path: str) -> None:
    """Delete an evaluation that nobody needs any more."""
    shutil.rmtree(path, ignore_errors=True)
