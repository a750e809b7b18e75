"""From a name to a run: find the twin, plan its cells, launch them, keep what they measured."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from twinax.errors import BadInput, DiskFull, FrameworkMissing, RunError, WeightsError
from twinax.measure import host
from twinax.records import (
    MODES,
    RUN_FILE,
    Cell,
    Options,
    Outcome,
    Record,
    Run,
    Size,
    TwinInfo,
)
from twinax.run import agents, porting
from twinax.run.held import LOCK_FILE, held
from twinax.run.installed import installed_sides
from twinax.run.launch import Launcher, Listener, LocalCrew, LocalLauncher, load_study
from twinax.run.process import ThisMachine
from twinax.sources import is_file, is_torch_only, resolve
from twinax.studies.base import Group, missing_programs

REPEATED = (Outcome.CRASHED, Outcome.TIMED_OUT, Outcome.OUT_OF_MEMORY)
"""Outcomes that ``--resume`` tries again; the others are answers."""


class Silent:
    """A listener that shows nothing."""

    def planned(self, cells: tuple[Cell, ...]) -> None: ...
    def started(self, cell: Cell) -> None: ...
    def said(self, cell: Cell | None, text: str) -> None: ...
    def ended(self, record: Record) -> None: ...


def execute(
    name: str,
    studies: Sequence[str],
    options: Options,
    *,
    folder: Path | None = None,
    resume: Path | None = None,
    command: str = "",
    listener: Listener | None = None,
) -> tuple[Run, Path]:
    """Run studies on a twin and return the run with its folder.

    Args:
        name: A twin of the zoo, a user's pair file, or a model that exists in PyTorch only, which is ported;
            ignored with ``resume``.
        studies: Names of studies; ignored with ``resume``.
        options: What the user chose; ignored with ``resume``.
        folder: Where the run goes; ``runs/<twin>-<time>`` when None. It must be new or empty.
        resume: A run that did not finish: only what is missing is run.
        command: The command line, for the record.
        listener: Hears what happens.

    Raises:
        BadInput: Something the user gave cannot be used; nothing was overwritten.
        DiskFull: There is no room for the run.
    """
    listener = listener or Silent()
    if resume is not None:
        with held(resume):
            return _carried_out(Run.load(resume), resume, listener), resume
    run, folder = begin(name, studies, options, folder, command, listener)
    with held(folder):
        try:
            return _carried_out(run, folder, listener), folder
        except BadInput:
            remove_if_only_begun(folder)
            raise


def _carried_out(run: Run, folder: Path, listener: Listener) -> Run:
    """The run with a record of every cell; each is on disk as soon as it is there."""
    groups = plan(run.twin, run.studies, run.options)
    listener.planned(run.planned)
    for record in run.records:
        listener.ended(record)
    try:
        with launching(run, folder, listener) as launcher:
            for record in _records(groups, run, launcher):
                run = run.with_record(record)
                run.save(folder)
                listener.ended(record)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(str(folder)) from None  # every record so far is on disk: say where
    return run


@contextlib.contextmanager
def launching(run: Run, folder: Path, listener: Listener) -> Iterator[Launcher]:
    """The launcher that the user chose; with agents on other machines where a cluster's starter began us."""
    weights = folder / "weights.safetensors"
    given = (run.twin, run.options, folder, str(weights) if weights.exists() else "", listener)
    with contextlib.ExitStack() as stack:
        if run.options.launcher == "ray":
            from twinax.run.ray_launcher import RayLauncher  # ray is an extra

            launcher: Launcher = RayLauncher(*given)
        elif (where := agents.place(os.environ)) is not None:
            hosts = [ThisMachine(), *stack.enter_context(agents.gathered(where))]
            launcher = LocalLauncher(*given, hosts=hosts, address=where.address)
        else:
            launcher = LocalLauncher(*given)
        try:
            yield launcher
        finally:
            launcher.close()


def begin(
    name: str,
    studies: Sequence[str],
    options: Options,
    folder: Path | None,
    command: str,
    listener: Listener,
) -> tuple[Run, Path]:
    """Check the input, make the folder, and write a run with everything planned and nothing measured."""
    if not installed_sides():
        raise FrameworkMissing(
            "Neither PyTorch nor JAX is installed here.", "Install both with: pip install 'twinax[all]'"
        )
    check_modes(options)
    check_ranks(options)
    if is_file(name) and not Path(name).is_file():
        raise BadInput(f"There is no file {name}.", "Give the path of your pair file, for example my_pair.py.")
    if options.weights and not Path(options.weights).exists():
        raise WeightsError(
            f"There is no checkpoint at {options.weights}.",
            "Give a .safetensors or .pth file, or a folder with config.json and model.safetensors.",
        )
    if is_torch_only(name):
        folder = make_folder(folder, name)
        info = derived(name, options, folder, listener)
    else:
        asked = str(Path(name).resolve()) if is_file(name) else name
        info = None if is_file(name) else resolve(asked, options.weights).info
        folder = make_folder(folder, name)
        if info is None or options.weights:
            info = inspect(asked, options, folder, listener)
    run = Run(
        twinax_version=importlib.metadata.version("twinax"),
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        command=command,
        twin=info,
        studies=tuple(studies),
        options=options,
        host=host.facts(),
        planned=tuple(cell for group in plan(info, studies, options) for cell in group.cells),
    )
    run.save(folder)
    return run, folder


PORT = "port"
"""Where in a run's folder the port of a one-sided source lies."""


def derived(name: str, options: Options, folder: Path, listener: Listener) -> TwinInfo:
    """Port a one-sided source into the run's folder; its pair file is the twin.

    Raises:
        BadInput: It cannot be ported; no folder is left.
    """
    try:
        made = porting.port(name, folder / PORT, options, listener)
        info = inspect(str((made.folder / "pair.py").resolve()), options, folder, listener)
    except BaseException:
        remove_if_only_begun(folder)
        raise
    told = f"The JAX side was ported from {made.subject.name}: {PORT}/README.md in the run's folder."
    unproved = () if made.proof.holds else ("The port is NOT PROVED: see its README.",)
    return info.model_copy(update={"notes": (*info.notes, told, *unproved, *made.proof.limits)})


def cross(folder: Path, sides: tuple[Literal["torch", "jax"], ...]) -> None:
    """Let other sides go on with the trainings of a run: from its newest checkpoints, in its folder.

    What has ended is taken up again and finds nothing left to do; what has not, and is not among the sides, is
    no longer planned.

    Raises:
        RunError: There is no run, or it trains nothing.
    """
    with held(folder):
        run = Run.load(folder)
        if "training" not in run.studies:
            raise RunError(f"{folder} holds no training.", "Give the folder that `twinax train` printed.")
        ended = tuple(side for side in ("torch", "jax") if any(r.cell.side == side for r in run.of("training")))
        wanted = tuple(side for side in ("torch", "jax") if side in ended or side in sides)
        options = run.options.model_copy(update={"sides": wanted, "crossing": True})
        groups = plan(run.twin, run.studies, options)
        planned = tuple(cell for group in groups for cell in group.cells)
        run.model_copy(update={"options": options, "planned": planned}).save(folder)


def plan(info: TwinInfo, studies: Iterable[str], options: Options) -> list[Group]:
    """Every cell of every study, in groups."""
    return [group for name in studies for group in load_study(name).plan(info, options)]


def _records(groups: list[Group], run: Run, launcher: Launcher) -> Iterator[Record]:
    """Records of everything that has none yet: skipped at once, or launched."""
    launched: list[Group] = []
    missing = [side for side in ("torch", "jax") if side not in installed_sides()]
    for group in groups:
        records = [run.record(cell) for cell in group.cells]
        ended = frozenset(r.cell.id for r in records if r is not None and r.outcome not in REPEATED)
        if len(ended) == len(group.cells):
            continue
        study = load_study(group.study)
        lacking = missing_programs(study, run.twin)
        if lacking:
            reason = f"{run.twin.name} declares no {', '.join(sorted(lacking))}; {study.name} needs it."
            yield from (skip(cell, reason, "Choose another study.") for cell in group.cells)
            continue
        stranded = [c for c in group.cells if c.side in missing or (missing and study.paired)]
        for cell in stranded:
            yield skip(
                cell,
                f"{' and '.join(missing)} is not installed here.",
                f"Install it with: pip install 'twinax[{','.join(missing)}]'",
            )
        rest = tuple(cell for cell in group.cells if cell not in stranded)
        if rest:
            launched.append(Group(group.study, rest, ended))
    yield from launcher.launch(launched)


def skip(cell: Cell, reason: str, hint: str) -> Record:
    """The record of a cell that is not run, and why."""
    return Record(cell=cell, outcome=Outcome.SKIPPED, message=reason, hint=hint)


def check_modes(options: Options) -> None:
    """Refuse a mode that no side has."""
    known = [mode for modes in MODES.values() for mode in modes]
    unknown = [mode for mode in options.modes if mode not in known]
    if unknown:
        raise BadInput(f"There is no mode called '{unknown[0]}'.", f"Modes are: {', '.join(known)}.")


MOST_RANKS = 64
"""Ranks that one machine is asked to be; each is a process with a framework in it."""


def check_ranks(options: Options) -> None:
    """Refuse numbers of ranks that cannot be had."""
    wrong = [n for n in options.ranks if not 1 <= n <= MOST_RANKS]
    if wrong or len(set(options.ranks)) < len(options.ranks):
        raise BadInput(
            f"--ranks {','.join(map(str, options.ranks))} cannot be used.",
            f"Give different whole numbers from 1 to {MOST_RANKS}, for example --ranks 1,2,4.",
        )


def make_folder(folder: Path | None, name: str) -> Path:
    """A new folder for a run; one that holds anything is left alone."""
    short = Path(name).name if is_torch_only(name) and "/" in name else name
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(name).stem if is_file(name) else short)
    folder = folder or Path("runs") / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            what, more = "is a file", ""
            if folder.is_dir():
                what = "exists and is not empty"
            if (folder / RUN_FILE).exists():
                what, more = "holds a run", f", or continue that run with --resume {folder}"
            raise RunError(
                f"{folder} {what}; nothing was written there.", f"Choose another folder with -o{more}."
            )
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskFull(
            f"{folder} could not be made: {error.strerror}.", "Choose another folder with -o."
        ) from error
    return folder


def inspect(name: str, options: Options, folder: Path, listener: Listener) -> TwinInfo:
    """Have a worker read the user's file or checkpoint: the parent runs no code of theirs.

    An error leaves no folder behind.
    """
    side = installed_sides()[0]  # torch where there is one: it also reads .pth
    cell = Cell(twin=name, study="inspect", side=side, mode="inspect", size=Size(batch=1))
    blank = TwinInfo(name=name, title="", presets={}, inputs=())
    launcher = LocalLauncher(blank, options, folder, "", listener)
    try:
        with LocalCrew("twinax.run.inspect_verbs", launcher, loads="nothing") as crew:
            answer = crew.worker(cell).call("inspect", output=str(folder / "weights.safetensors"))
    except BaseException:
        remove_if_only_begun(folder)
        raise
    finally:
        launcher.close()
    return TwinInfo.model_validate(answer["info"])


def remove_if_only_begun(folder: Path) -> None:
    """Take back a folder that was made for a run of which nothing came: no record, no checkpoint."""
    begun = {"logs", "weights.safetensors", PORT, RUN_FILE, LOCK_FILE}
    if not {path.name for path in folder.iterdir()} <= begun:
        return
    if (folder / RUN_FILE).exists() and Run.load(folder).records:
        return
    shutil.rmtree(folder)
