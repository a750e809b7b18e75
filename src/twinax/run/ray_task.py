"""What a Ray task of twinax does on the machine that runs it: one group, with the ordinary launcher."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twinax.errors import BadInput, FrameworkMissing, TwinaxError
from twinax.measure import host
from twinax.records import Cell, Json, Options, Record, TwinInfo
from twinax.run.launch import Listener, LocalLauncher, make_scratch
from twinax.run.plan import installed_sides
from twinax.run.worker import describe
from twinax.studies.base import Group

WEIGHTS = "weights.safetensors"


class Mailbox:
    """A Ray actor: events as JSON, put in by tasks, taken out by the launcher."""

    def __init__(self) -> None:
        self._letters: list[str] = []

    def put(self, letter: str) -> None:
        """Keep one event."""
        self._letters.append(letter)

    def take(self) -> list[str]:
        """Every event since the last time."""
        letters, self._letters = self._letters, []
        return letters


class Correspondent:
    """A task's listener: what happens there goes to the mailbox."""

    def __init__(self, mailbox: Any, machine: str) -> None:
        self._mailbox, self._machine = mailbox, machine

    def planned(self, cells: tuple[Cell, ...]) -> None: ...

    def started(self, cell: Cell) -> None:
        self._tell("started", cell, "")

    def said(self, cell: Cell | None, text: str) -> None:
        self._tell("said", cell, f"{self._machine}: {text}")

    def ended(self, record: Record) -> None: ...

    def _tell(self, event: str, cell: Cell | None, text: str) -> None:
        letter = {"event": event, "cell": cell.model_dump() if cell else None, "text": text}
        self._mailbox.put.remote(json.dumps(letter))


def run_group(order: str, weights: bytes | None, mailbox: Any) -> tuple[str, dict[str, bytes]]:
    """Run one group here, as a Ray task.

    Args:
        order: JSON: ``group``, ``info``, ``options``, the run's ``folder``, and what must be the same here:
            twinax's ``version``, and the digest of each file in ``same``.
        weights: The weights' file; None for initial weights.
        mailbox: Where events go.

    Returns:
        JSON with ``machine`` and either ``records`` or the ``error`` that ends the run; and the group's files
        by their path in the run's folder.
    """
    asked, machine = json.loads(order), socket.gethostname()
    folder = make_scratch(Path(tempfile.gettempdir()))  # removed later even where this process is killed
    try:
        with interruptible():
            check_machine(asked)
            if weights is not None:
                (folder / WEIGHTS).write_bytes(weights)
            records = _records(asked, folder, Correspondent(mailbox, machine))
            return json.dumps({"machine": machine, "records": records}), _files(folder)
    except TwinaxError as error:
        return json.dumps({"machine": machine, "error": describe(error)}), {}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_machine(asked: dict[str, Json]) -> None:
    """Refuse a machine that would run something else than was asked for.

    Raises:
        BadInput: Another twinax, a framework that is missing, or a file that is missing or differs.
    """
    version = importlib.metadata.version("twinax")
    if version != asked["version"]:
        raise BadInput(
            f"twinax is {version} there and {asked['version']} here.",
            "Install the same twinax on every machine of the cluster.",
        )
    sides = {cell["side"] for cell in asked["group"]["cells"]} - {"both"}
    for side in sorted(sides - set(installed_sides())):
        raise FrameworkMissing(f"{side} is not installed.", f"Install it with: pip install 'twinax[{side}]'")
    for name, digest in asked["same"].items():
        if not Path(name).exists():
            raise BadInput(f"There is no {name}.", "Put it on a file system that every machine shares.")
        if fingerprint(Path(name)) != digest:
            raise BadInput(f"{name} is not the one that is here.", "Copy it to every machine, or share it.")


def _records(asked: dict[str, Json], folder: Path, listener: Listener) -> list[str]:
    """The group's records as JSON, each with the machine that made it."""
    import ray

    asked_for = asked["group"]
    cells = tuple(map(Cell.model_validate, asked_for["cells"]))
    group = Group(asked_for["study"], cells, frozenset(asked_for["ended"]))
    weights = folder / WEIGHTS
    launcher = LocalLauncher(
        TwinInfo.model_validate(asked["info"]),
        Options.model_validate(asked["options"]),
        folder,
        str(weights) if weights.exists() else "",
        listener,
    )
    here = {
        "machine": socket.gethostname(),
        "ray_node": ray.get_runtime_context().get_node_id(),
        "cpu": host.cpu_model(),
        "usable_cores": host.usable_cores(),
    }
    try:
        found = list(launcher.launch([group]))
    finally:
        launcher.close()
    return [_told_here(record, here, str(folder), asked["folder"]).model_dump_json() for record in found]


def _told_here(record: Record, here: dict[str, Json], local: str, folder: str) -> Record:
    """The record with its machine, and with the run's folder where it names the one on that machine."""
    return record.model_copy(
        update={
            "environment": {**record.environment, **here},
            "message": record.message.replace(local, folder),
            "hint": record.hint.replace(local, folder),
        }
    )


def _files(folder: Path) -> dict[str, bytes]:
    """What the group leaves: logs, arrays, graphs."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file != folder / WEIGHTS]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let a cancelled task end while it waits for a worker.

    Ray interrupts by a flag that Python looks at between two steps; a wait for a pipe is one step. A signal
    that comes each second, and does nothing, ends the step.
    """
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 1.0, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def fingerprint(path: Path) -> str:
    """A digest of a file, or of every file in a folder with its name."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file()):
        digest.update(f"{file.relative_to(path)}\n".encode())
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()
