"""What the first-hour study does inside its workers: add up files, and run a beginner's programs as they would.

Every program is a script in a process of its own, in an empty folder that is also its home for temporary files
and caches: nothing compiled before is found, and nothing is left behind.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import Distribution
from pathlib import Path

import psutil
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from twinax.measure import source
from twinax.probes import first_hour as programs
from twinax.records import Json
from twinax.studies.base import Context, Verb

ROOTS = {"torch": ("torch",), "jax": ("jax", "jaxlib", "flax", "optax")}
"""What a person asks pip for, and what comes as the other half of it (jaxlib)."""

IMPORTS = {"torch": "import torch", "jax": "import jax, flax.nnx, optax"}
JAX_PLUGIN = re.compile(r"jax-(cuda|rocm)")
ACCELERATED = re.compile(r"nvidia-|triton|pytorch-triton|jax-(cuda|rocm)")
ACCELERATED_BUILD = re.compile(r"\+(cu|rocm|xpu)")
LIMIT_S = 180.0
"""Seconds that one program may take."""

TICKS_S = 0.02
"""The kernel rounds CPU time to ticks of 10 ms; two counters are compared."""

WORKERS_OWN = (
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES",
    "TF_CPP_MIN_LOG_LEVEL",
)
"""Settings of twinax's workers that a beginner has not made."""

MARK = "TWINAX_FIRST_HOUR"
START = "Traceback (most recent call last):"
FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)')


# --- what is installed -------------------------------------------------------------------------------


def install(context: Context) -> dict[str, Json]:
    """Bytes and packages of the side's framework, and of what it needs, as far as that is installed."""
    side = context.cell.side
    everything = [_name(distribution) for distribution in importlib.metadata.distributions()]
    plugins = [
        name for name in everything if side == "jax" and JAX_PLUGIN.match(name)
    ]  # jax does not require them
    packages = closure((*ROOTS[side], *plugins))
    rows = [
        {"name": name, "version": d.version, "bytes": size_of(d), "own": name in ROOTS[side]}
        for name, d in packages.items()
    ]
    accelerated = any(ACCELERATED.match(r["name"]) or ACCELERATED_BUILD.search(r["version"]) for r in rows)
    return {
        "packages": sorted(rows, key=lambda row: -(row["bytes"] or 0)),
        "bytes": sum(row["bytes"] or 0 for row in rows),
        "own_bytes": sum(row["bytes"] or 0 for row in rows if row["own"]),
        "build": "with libraries for an accelerator" if accelerated else "CPU only",
    }


def closure(names: tuple[str, ...]) -> dict[str, Distribution]:
    """These distributions and what they require here, recursively; what is not installed is not among them."""
    found: dict[str, Distribution] = {}
    waiting = [(name, frozenset({""})) for name in names]
    done = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in done:
            continue
        done.add((name, extras))
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found[_name(distribution)] = distribution
        for text in distribution.requires or ():
            with contextlib.suppress(InvalidRequirement):
                needed = Requirement(text)
                if not needed.marker or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                    waiting.append((canonicalize_name(needed.name), frozenset({"", *needed.extras})))
    return found


def _name(distribution: Distribution) -> str:
    return canonicalize_name(distribution.metadata["Name"] or "")


def size_of(distribution: Distribution) -> int | None:
    """Bytes of a distribution's files that are there; None where its installer kept no list of them."""
    if distribution.files is None:
        return None
    total = 0
    for file in distribution.files:
        with contextlib.suppress(OSError):
            total += os.stat(str(distribution.locate_file(file))).st_size
    return total


# --- programs ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Finished:
    """How a program ended.

    Attributes:
        seconds: From its start to its first line on standard output; None where it printed none.
        code: Its exit status; None where it was ended for taking too long.
        output: Standard output.
        errors: Standard error.
        foreign_cpu: Share of all cores that others used meanwhile.
    """

    seconds: float | None
    code: int | None
    output: str
    errors: str
    foreign_cpu: float


def start(context: Context, *, what: str) -> dict[str, Json]:
    """One fresh process: the time to its first line, and why there is none where it failed.

    Args:
        context: The worker's.
        what: ``python`` (the interpreter alone), ``import``, or a program's name.
    """
    side = context.cell.side
    if what in ("python", "import"):
        code = f"{IMPORTS[side]}; print()" if what == "import" else "print()"
        ended, statements = run(["-c", code], context), None
    else:
        program = path_of(side, what)
        ended = run([str(program)], context)
        statements = source.statements(source.parse(program.read_text()))
    fine = ended.code == 0 and ended.seconds is not None
    return {
        "seconds": ended.seconds if fine else None,
        "foreign_cpu": ended.foreign_cpu,
        "statements": statements,
        "said": "" if fine else why(ended),
    }


def why(ended: Finished) -> str:
    """In one line, how a program failed."""
    if ended.code is None:
        return "it was ended for taking too long"
    return read_traceback(ended.errors, "").message or f"it ended with exit status {ended.code}"


def mistake(context: Context, mistake: str) -> dict[str, Json]:
    """What a program with a mistake prints: its length, and where the program's own line stands."""
    program = path_of(context.cell.side, mistake)
    ended = run([str(program)], context)
    row: dict[str, Json] = {"mistake": mistake, "title": title_of(program), "said": ""}
    if ended.code is None:
        return row | {"raised": None, "said": why(ended)}
    shown = asdict(read_traceback(ended.errors, str(program)))
    return row | {"raised": ended.code != 0, "output": ended.output.strip()[:100], **shown}


def mistakes(context: Context, *, names: list[str]) -> dict[str, Json]:
    """All of these programs, as many at a time as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return {"mistakes": list(pool.map(partial(mistake, context), names))}


def path_of(side: str, name: str) -> Path:
    """The file of a side's program."""
    return Path(programs.__path__[0]) / f"{side}_{name}.py"


def title_of(program: Path) -> str:
    """The program's docstring."""
    return program.read_text().split('"""')[1]


def run(arguments: list[str], context: Context) -> Finished:
    """Run Python on these arguments in an empty folder, until it ends or its time is up."""
    limit = min(LIMIT_S, 0.9 * context.options.timeout)
    with tempfile.TemporaryDirectory(dir=context.scratch, ignore_cleanup_errors=True) as folder:
        psutil.cpu_percent(None)
        used, begin = _children_seconds(), time.perf_counter()
        with (Path(folder) / "errors").open("w+", errors="replace") as errors:
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=folder,
                env=environment(Path(folder)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                errors="replace",
            )
            late = threading.Event()
            watchdog = threading.Timer(limit, lambda: (late.set(), end(folder)))
            watchdog.start()
            try:
                assert process.stdout is not None
                first = process.stdout.readline()
                seconds = time.perf_counter() - begin
                rest = process.stdout.read()
                process.wait()
            finally:
                watchdog.cancel()
                end(folder)
                process.wait()
            wall, busy = time.perf_counter() - begin, psutil.cpu_percent(None) / 100
            own = (_children_seconds() - used + TICKS_S) / (wall * (psutil.cpu_count() or 1))
            errors.seek(0)
            code = None if late.is_set() else process.returncode
            return Finished(seconds if first else None, code, first + rest, errors.read(), max(0.0, busy - own))


def environment(folder: Path) -> dict[str, str]:
    """The program's environment: as a beginner's, with a folder of its own for everything temporary.

    Both sides compute on the CPU: JAX would take an accelerator by itself, torch only where it is told to.
    """
    kept = {name: value for name, value in os.environ.items() if name not in WORKERS_OWN}
    own = {"TMPDIR": folder, "TORCHINDUCTOR_CACHE_DIR": folder / "inductor", MARK: folder}
    return {
        **kept,
        "PYTHONUNBUFFERED": "1",
        "JAX_PLATFORMS": "cpu",
        **{name: str(value) for name, value in own.items()},
    }


def end(folder: str) -> None:
    """End every process that was started for this folder, also those that its program has left behind."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == folder:
                process.kill()


def _children_seconds() -> float:
    """CPU time of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# --- tracebacks --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Traceback:
    """What a failed program shows to its author.

    Attributes:
        lines: Lines on standard error, everything that the framework logs included.
        frames: Frames among them.
        own_frames: Frames of the program itself.
        own_from_end: Where the last of these stands, counted from the last line, which is 1; None without any.
        own_line: That frame's line of the program; "" without any.
        message: The exception with the first line of its message; "" where nothing was raised.
    """

    lines: int
    frames: int
    own_frames: int
    own_from_end: int | None
    own_line: str
    message: str


def read_traceback(errors: str, program: str) -> Traceback:
    """Read standard error as a person does.

    Args:
        errors: The text.
        program: Path of the program, as it stands in the frames.
    """
    lines = errors.splitlines()
    frames = [(index, match) for index, line in enumerate(lines) if (match := FRAME.match(line))]
    own = [index for index, match in frames if match["file"] == program]
    starts = [index for index, line in enumerate(lines) if line == START]
    return Traceback(
        lines=len(lines),
        frames=len(frames),
        own_frames=len(own),
        own_from_end=len(lines) - own[-1] if own else None,
        own_line=lines[own[-1] + 1].strip() if own and own[-1] + 1 < len(lines) else "",
        message=next(_unindented(lines[starts[-1] + 1 :]), "")[:300] if starts else "",
    )


def _unindented(lines: list[str]) -> Iterator[str]:
    return (line for line in lines if line and not line[0].isspace())


VERBS: Mapping[str, Verb] = {"install": install, "start": start, "mistakes": mistakes}
