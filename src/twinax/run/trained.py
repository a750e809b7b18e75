"""Using what was trained: test scores again, and predictions for a person's file."""

from __future__ import annotations

import csv
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path

from twinax.errors import BadInput, FrameworkMissing
from twinax.records import PROVED, RUN_FILE, Cell, Json, Options, Side, Size, TwinInfo, write_atomically
from twinax.run.launch import LocalCrew, LocalLauncher
from twinax.run.plan import Silent, installed_sides
from twinax.train import checkpoint
from twinax.train.checkpoint import Checkpoint
from twinax.train.setting import CHECKPOINTS

NO_CHECKPOINT = "Give a folder that `twinax train` made, or a folder step-… in it."


@dataclass(frozen=True)
class Found:
    """A checkpoint and where it lies."""

    path: Path
    checkpoint: Checkpoint
    passed_over: tuple[str, ...] = ()
    """What is wrong with newer ones beside it."""


def find(path: Path) -> list[Found]:
    """The newest whole checkpoint of each fold of a run, or the one that the path is.

    Where both sides trained, those of the side that made the most steps.

    Raises:
        BadInput: There is none, or it is damaged.
    """
    if (path / checkpoint.FACTS_FILE).exists():
        return [Found(path, checkpoint.read(path))]
    if not (path / RUN_FILE).exists():
        raise BadInput(f"{path} is no run and no checkpoint.", NO_CHECKPOINT)
    by_side = [_folds(path / CHECKPOINTS / side) for side in ("torch", "jax")]
    best = max(by_side, key=lambda folds: (len(folds), sum(f.checkpoint.facts.step for f in folds)))
    if not best:
        raise BadInput(f"{path} holds no whole checkpoint.", NO_CHECKPOINT)
    return best


def chosen(path: Path) -> Found:
    """The checkpoint that predicts: the last fold's, which has seen the most data.

    Raises:
        BadInput: There is none, or it is damaged.
    """
    return find(path)[-1]


def _folds(folder: Path) -> list[Found]:
    found = []
    for fold in sorted(folder.glob("fold-*")):
        passed_over: list[str] = []
        newest = checkpoint.newest(fold, passed_over)
        if newest is not None:
            place = fold / f"{checkpoint.PREFIX}{newest.facts.step:08d}"
            found.append(Found(place, newest, tuple(passed_over)))
    return found


def _crew(found: Found, side: str, device: str, folder: Path) -> tuple[LocalCrew, Cell, LocalLauncher]:
    """A worker of the side that was asked for, else of the side that trained, else of the one that is here."""
    facts, installed = found.checkpoint.facts, installed_sides()
    wanted = side or (facts.side if facts.side in installed else (installed or (facts.side,))[0])
    if wanted not in installed:
        raise FrameworkMissing(
            f"{wanted} is not installed here.", f"Install it with: pip install 'twinax[{wanted}]'"
        )
    chosen: Side = "torch" if wanted == "torch" else "jax"
    cell = Cell(
        twin=facts.twin,
        study="trained",
        side=chosen,
        mode=PROVED[chosen],
        size=Size(batch=1),
        dtype=facts.dtype,
        device=device,
    )
    info = TwinInfo(name=facts.twin, title="", presets={}, inputs=())
    options = Options(dtype=facts.dtype, device=device)  # type: ignore[arg-type]
    launcher = LocalLauncher(info, options, folder, "", Silent())
    return LocalCrew("twinax.run.trained_verbs", launcher, loads="nothing"), cell, launcher


def _ask(found: Found, side: str, device: str, verb: str, **arguments: Json) -> dict[str, Json]:
    with tempfile.TemporaryDirectory(prefix="twinax-") as folder:
        crew, cell, launcher = _crew(found, side, device, Path(folder))
        try:
            with crew:
                answer = crew.worker(cell).call(verb, path=str(found.path.resolve()), **arguments)
        finally:
            launcher.close()
    return answer | {"side": cell.side}


def evaluate(path: Path, side: str, data: str, device: str) -> list[dict[str, Json]]:
    """Test scores of each fold's best weights, beside the baselines'.

    Returns:
        Per fold: ``fold``, ``step``, ``side``, ``test``, ``baselines``, ``about``, ``checkpoint``,
        ``passed_over``.

    Raises:
        BadInput: There is no checkpoint, or the data are not those it was trained on.
    """
    rows = []
    for found in find(path):
        facts = found.checkpoint.facts
        answer = _ask(found, side, device, "evaluate", data=data)
        place = {"checkpoint": str(found.path), "passed_over": list(found.passed_over)}
        rows.append({"fold": facts.fold, "step": facts.step, **place, **answer})
    return rows


def predict(path: Path, file: Path, side: str, device: str) -> str:
    """Predictions for the rows of a CSV file, as CSV text: the file's own columns and the predicted ones.

    Raises:
        BadInput: The file cannot be used, or there is no checkpoint.
    """
    if not file.is_file():
        raise BadInput(f"There is no file {file}.", "Give a CSV file with the columns that it was trained on.")
    found = chosen(path)
    rows = _ask(found, side, device, "predict", file=str(file.resolve()))["rows"]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_new(file: Path, text: str) -> None:
    """Write a file that does not exist yet, into a folder that does.

    Raises:
        BadInput: One of the two is otherwise.
    """
    if file.exists():
        raise BadInput(f"{file} exists; nothing was written.", "Choose another name with -o.")
    if not file.parent.is_dir():
        raise BadInput(f"There is no folder {file.parent}.", "Make it first, or choose another name with -o.")
    write_atomically(file, text.encode())
