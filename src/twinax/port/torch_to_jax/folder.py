"""The folder that a port leaves: source, weights, a pair file, a test without torch or twinax, a README.

Nothing here imports a framework: what is written comes as text and NumPy arrays.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import safetensors.numpy

from twinax.errors import DiskFull, RunError
from twinax.records import Json, write_atomically
from twinax.temporary import own_folder
from twinax.twin import Array

if TYPE_CHECKING:
    from twinax.port.torch_to_jax.convert import Ported

MODEL, WEIGHTS, CONSTANTS = "model.py", "weights.safetensors", "constants.safetensors"
PAIR, TEST, README = "pair.py", "test_parity.py", "README.md"
EXAMPLE, REFERENCE = "example.npz", "reference.npz"
KEPT = 4096
"""Entries of a large tensor that the reference keeps, evenly spaced, beside its norm and its sum."""


@dataclass(frozen=True)
class Subject:
    """What is ported, as the files name it.

    Attributes:
        name: The source's name, by which every worker finds it.
        title: One line for people.
        where: Where it comes from.
        names: Parameters of ``forward`` that take the inputs, in order.
        inputs: The same inputs as Python expressions, for the pair file.
        request: What was said beside the name: ``task`` …; only what differs from the default.
        seed: The seed of the weights.
        batch: Examples per batch when speed is measured.
        picture: Pixels along a side of a picture that goes in; 0 where none does.
        reference: A function that the pair file may name instead of calling ``made``; else empty.
        shown: The user's file, where the source is one.
    """

    name: str
    title: str
    where: str
    names: tuple[str, ...]
    inputs: tuple[str, ...]
    request: Mapping[str, Json]
    seed: int
    batch: int
    picture: int = 0
    reference: str = ""
    shown: str = ""


@dataclass(frozen=True)
class Habits:
    """What keeps two sides from being compared as they are, and what the pair file does about it.

    Attributes:
        fixed: The model takes no other number of examples than its own.
        silent: Paths of dropout layers on the JAX side that PyTorch calls as functions: off on both sides.
        exact: The model computes parts in float32 whatever its weights are.
    """

    fixed: bool = False
    silent: tuple[str, ...] = ()
    exact: bool = False


@dataclass(frozen=True)
class Proof:
    """What was proved of a port.

    Attributes:
        checks: ``name``, ``count``, ``worst``, ``where``, ``passed`` of each comparison.
        first_difference: The first module whose output differs (``kind``, ``path``, ``error``), or None.
        unproved: Parameters that no output depends on.
        batches: Numbers of examples for which the two sides agreed.
        pictures: Sizes of pictures for which they did; empty where there are none.
        limits: What is not as in PyTorch, or was not proved, in sentences.
    """

    checks: Sequence[Mapping[str, Json]] = ()
    first_difference: Mapping[str, Json] | None = None
    unproved: Sequence[str] = ()
    batches: Sequence[int] = ()
    pictures: Sequence[int] = ()
    limits: Sequence[str] = field(default_factory=tuple)

    @property
    def holds(self) -> bool:
        """Whether there were comparisons, and all passed."""
        return bool(self.checks) and all(check["passed"] for check in self.checks)


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A folder beside the one that is wanted, which takes its place when the block ends without an error.

    What a killed port of the same folder left behind is removed.

    Raises:
        RunError: The wanted folder holds something already; it is left alone.
        DiskFull: It cannot be made.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} exists and is not empty; nothing was written there.", "Choose another -o.")
    missing = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        stage = own_folder(folder.parent, f".{folder.name}-")
    except OSError as error:
        raise DiskFull(f"{folder} could not be made: {error.strerror}.", "Choose another -o.") from error
    try:
        yield stage
        stage.chmod(0o755)
        stage.rename(folder)  # an empty folder of that name is replaced
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        if not folder.exists():
            for parent in missing:  # innermost first
                with suppress(OSError):  # somebody else's by now
                    parent.rmdir()


def remove_logs(folder: Path) -> None:
    """What workers printed while they ported: no part of a port."""
    shutil.rmtree(folder / "logs", ignore_errors=True)


def write(folder: Path, ported: Ported, subject: Subject, example: Mapping[str, Array]) -> None:
    """Write what a port is made of, and mark it as not proved.

    Args:
        folder: It exists, and is empty.
        ported: Source, weights and constants.
        subject: What is ported.
        example: Arrays of the inputs that are given by an example.
    """
    write_model(folder, ported)
    if example:
        _save_npz(folder / EXAMPLE, example)
    pair(folder, subject, Habits())
    finish(folder, subject, Proof())


def write_model(folder: Path, ported: Ported) -> None:
    """Write the source, the weights, and the arrays that are part of the source."""
    _save(folder / WEIGHTS, ported.weights)
    if ported.constants:
        _save(folder / CONSTANTS, ported.constants)
    _text(folder / MODEL, ported.source)


def pair(folder: Path, subject: Subject, habits: Habits) -> None:
    """Write the pair file."""
    named = subject.reference and not (habits.silent or habits.exact)
    found = {"subject": subject, "habits": habits, "named": named, "example": (folder / EXAMPLE).exists()}
    _text(folder / PAIR, _rendered("pair.py.j2", **found))


def prove(folder: Path, arrays: Mapping[str, Array], perturb: str) -> None:
    """Write the test and its reference.

    Args:
        folder: The port.
        arrays: ``inputs|name``, ``eval|outputs|name``, ``train|gradients|name`` … in float64.
        perturb: Source text of the function that moves the weights before they are compared.
    """
    _save_npz(folder / REFERENCE, compact(arrays))
    _text(folder / TEST, _rendered("test_parity.py.j2", perturb=perturb.strip(), kept=KEPT))


def finish(folder: Path, subject: Subject, proof: Proof, notes: Sequence[str] = ()) -> None:
    """Write the README."""
    model = (folder / MODEL).read_text()
    found = {
        "subject": subject,
        "proof": proof,
        "notes": (*notes, *proof.limits),
        "random": "nnx.Rngs(" in model,
        "statistics": "nnx.BatchStat(" in model,
    }
    _text(folder / README, _rendered("README.md.j2", **found))


def compact(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Large tensors as evenly spaced entries, with their norm and sum under ``….summary``; inputs whole."""
    kept: dict[str, Array] = {}
    for name, array in arrays.items():
        flat = np.asarray(array).ravel()
        if name.startswith("inputs|") or flat.size <= KEPT:
            kept[name] = np.asarray(array)
        else:
            kept[name] = flat[:: math.ceil(flat.size / KEPT)]
            kept[f"{name}|summary"] = np.array([np.linalg.norm(flat), flat.sum()])
    return kept


def _rendered(template: str, **values: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("twinax.port.torch_to_jax"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)


def _text(file: Path, text: str) -> None:
    write_atomically(file, text.encode())


def _save(file: Path, arrays: Mapping[str, Array]) -> None:
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    write_atomically(file, safetensors.numpy.save(whole))


def _save_npz(file: Path, arrays: Mapping[str, Array]) -> None:
    with tempfile.SpooledTemporaryFile() as buffer:
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        buffer.seek(0)
        write_atomically(file, buffer.read())
