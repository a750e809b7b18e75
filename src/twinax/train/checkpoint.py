"""Checkpoints of a training that either side can continue.

A checkpoint is a folder ``step-00000120`` with ``state.safetensors`` (weights, optimizer state, the best
weights so far, the losses so far: torch names and layout) and ``checkpoint.json`` (everything else, and the
size and SHA-256 of the first file). It is written under another name, synced, and renamed: it is whole or
it is not there. One that was damaged later is found out by its checksum and never taken for a whole one.

No random state but the seed is kept: the order of the examples and the dropout masks of step t are drawn
from (seed, t).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from safetensors.numpy import load, save

from twinax.errors import BadInput, DiskFull
from twinax.records import Frozen, Json, Recipe
from twinax.twin import Arrays

FORMAT = 1
FACTS_FILE = "checkpoint.json"
STATE_FILE = "state.safetensors"
PREFIX = "step-"
KINDS = ("weights", "optimizer", "best", "history")
"""What ``state.safetensors`` holds, each name behind its kind: ``weights.<name>``."""


class Facts(Frozen):
    """What ``checkpoint.json`` says.

    Attributes:
        format: Version of this format.
        twinax_version: The twinax that wrote it.
        twin: The twin's name.
        config: The twin's configuration, completed by the recipe and the data.
        preparation: How the data were prepared; see :class:`twinax.twin.Dataset`.
        side: The side that made the last step.
        dtype: Element type in which it was trained.
        recipe: How it is trained.
        data: Where the data come from; empty for the twin's own.
        fold: Which fold of them, from 0.
        seed: Seed of the data, the initial weights, the order and the masks.
        step: Steps made; the learning rate, the place in the data and the masks follow from it.
        steps: Steps of the whole training.
        best: The best validation score so far, and the step after which it was measured.
        waited: Epochs since then.
        valid: A row per epoch: ``step``, ``seconds`` of training until then, and the validation scores.
        seconds: Seconds of training so far, on whatever side.
        sides: Who made which steps: ``[[side, first step, last step], …]``.
        size: Bytes of ``state.safetensors``.
        sha256: Its checksum.
        checksum: Of all of this but itself.
    """

    format: int = FORMAT
    twinax_version: str
    twin: str
    config: dict[str, Json]
    preparation: dict[str, Json]
    side: str
    dtype: str
    recipe: Recipe
    data: str
    fold: int
    seed: int
    step: int
    steps: int
    best: tuple[float, int] | None = None
    waited: int = 0
    valid: tuple[dict[str, Json], ...] = ()
    seconds: float = 0.0
    sides: tuple[tuple[str, int, int], ...] = ()
    size: int = 0
    sha256: str = ""
    checksum: str = ""

    def summed(self) -> str:
        """The checksum that these facts must state."""
        return hashlib.sha256(self.model_copy(update={"checksum": ""}).model_dump_json().encode()).hexdigest()


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory: its facts, and arrays by kind."""

    facts: Facts
    weights: Arrays
    optimizer: Arrays
    best: Arrays
    history: Arrays


def plain(value: Json) -> Json:
    """A mapping as it comes back from JSON; anything else as it is."""
    return json.loads(json.dumps(value)) if isinstance(value, Mapping) else value


def write(folder: Path, checkpoint: Checkpoint, keep: int) -> Path:
    """Write a checkpoint into the folder and remove all but the newest ``keep``.

    Raises:
        DiskFull: There is no room; what was there before is intact.
    """
    state = save({f"{kind}.{name}": a for kind in KINDS for name, a in getattr(checkpoint, kind).items()})
    facts = checkpoint.facts.model_copy(
        update={"size": len(state), "sha256": hashlib.sha256(state).hexdigest()}
    )
    facts = facts.model_copy(update={"checksum": facts.summed()})
    place = folder / f"{PREFIX}{facts.step:08d}"
    temporary = folder / f".{place.name}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f".{PREFIX}*"):  # of a process that was killed
            shutil.rmtree(left)
        temporary.mkdir()
        _write_synced(temporary / STATE_FILE, state)
        _write_synced(temporary / FACTS_FILE, facts.model_dump_json(indent=1).encode())
        if place.exists():  # of a training that was taken up before this step
            shutil.rmtree(place)
        temporary.rename(place)
        _sync_folder(folder)
        # later ones are damaged, or this training would have gone on from there: they count for nothing
        for old in [path for path in _all(folder) if path.name <= place.name][keep:]:
            shutil.rmtree(old)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise DiskFull(
            f"The checkpoint {place} could not be written: {error.strerror}.",
            "Make room, and continue with --resume; the checkpoints before it are intact.",
        ) from error
    return place


def _write_synced(file: Path, data: bytes) -> None:
    with file.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _all(folder: Path) -> list[Path]:
    """Checkpoints in a folder, the newest first."""
    return sorted((p for p in folder.glob(f"{PREFIX}*") if p.is_dir()), reverse=True)


def newest(folder: Path, passed_over: list[str] | None = None) -> Checkpoint | None:
    """The newest whole checkpoint in a folder; None where there is none.

    A damaged one is passed over; what is wrong with it is added to ``passed_over``.
    """
    for path in _all(folder):
        try:
            return read(path)
        except BadInput as error:
            if passed_over is not None:
                passed_over.append(error.what)
    return None


def read(path: Path) -> Checkpoint:
    """Read a checkpoint and check that it is whole.

    Raises:
        BadInput: It is missing, cut short, damaged, or of another version.
    """
    hint = "Give a folder step-… that `twinax train` wrote; an earlier one lies beside it."
    try:
        text, state = (path / FACTS_FILE).read_bytes(), (path / STATE_FILE).read_bytes()
    except OSError as error:
        raise BadInput(
            f"{path} holds no whole checkpoint: {error.strerror} ({Path(error.filename).name}).", hint
        ) from error
    facts = _parsed(text, path / FACTS_FILE, hint)
    if len(state) != facts.size:
        raise BadInput(
            f"{path / STATE_FILE} has {len(state):,} bytes, not {facts.size:,}: it was cut short.", hint
        )
    if hashlib.sha256(state).hexdigest() != facts.sha256:
        raise BadInput(
            f"{path / STATE_FILE} is damaged: its checksum is not the one it was written with.", hint
        )
    arrays = load(state)
    by_kind = {
        kind: {n.removeprefix(f"{kind}."): a for n, a in arrays.items() if n.startswith(f"{kind}.")}
        for kind in KINDS
    }
    return Checkpoint(facts, **by_kind)


def _parsed(text: bytes, file: Path, hint: str) -> Facts:
    try:
        version = json.loads(text)["format"]
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(f"{file} is damaged: it states no format.", hint) from error
    if version != FORMAT:
        raise BadInput(
            f"{file} has checkpoint format {version!r}; this twinax reads {FORMAT}.",
            "Continue it with the twinax that wrote it.",
        )
    try:
        facts = Facts.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInput(f"{file} is damaged: {where}: {first['msg']}.", hint) from error
    if facts.summed() != facts.checksum:
        raise BadInput(f"{file} is damaged, or was edited: its checksum is another.", hint)
    return facts
