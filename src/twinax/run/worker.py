"""A worker: one process that holds one side of one twin and answers verbs, one at a time.

``python -m twinax.run.worker IN OUT`` reads JSON lines from file descriptor IN and answers on OUT.
Standard output and error belong to whoever prints (a user's model, a compiler): they go to the log.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import importlib.abc
import importlib.metadata
import json
import os
import signal
import sys
import sysconfig
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twinax.errors import CellFailed, DiskFull, TwinaxError, UserFileError
from twinax.frameworks.make import make_runner
from twinax.records import Cell, Json, Options
from twinax.studies.base import Context
from twinax.twin import Twin

OTHER = {"torch": ("jax", "jaxlib", "flax", "optax"), "jax": ("torch",)}
FULL = "Make room on the run's disk and in /dev/shm, and continue with --resume."
PACKAGE = Path(__file__).parent.parent  # twinax itself
FRAMEWORK = {"torch": ("torch",), "jax": ("jax", "flax.nnx", "optax")}


class OneFramework(importlib.abc.MetaPathFinder):
    """Keeps the other framework out of this process: memory and import time stay honest."""

    def __init__(self, side: str) -> None:
        self.side = side

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] in OTHER[self.side]:
            raise ModuleNotFoundError(
                f"{name} is not available in the {self.side} worker: a worker holds one framework. "
                f"Import it inside the function that needs it.",
                name=name,
            )


def main(arguments: Sequence[str]) -> int:
    """Serve verbs until the parent closes the pipe."""
    _die_with_parent()
    inbox, outbox = os.fdopen(int(arguments[0]), "r"), os.fdopen(int(arguments[1]), "w")

    def answer(reply: dict[str, Json]) -> None:
        outbox.write(json.dumps(reply) + "\n")
        outbox.flush()

    context: Context | None = None
    verbs: dict[str, Any] = {}
    for line in inbox:
        job = json.loads(line)
        try:
            if context is None:
                context, reply = start(job)
                verbs = importlib.import_module(job["verbs"]).VERBS
            else:
                reply = verbs[job["verb"]](context, **job["arguments"])
            answer({"ok": reply})
        except BaseException as error:  # a user's sys.exit() too: whatever happens, the parent hears of it
            with contextlib.suppress(OSError):  # the log's disk may be full
                traceback.print_exc()
            answer({"error": describe(error)})
    return 0


def start(job: dict[str, Json]) -> tuple[Context, dict[str, Json]]:
    """Import the framework, build the model, and say how long each took."""
    cell, options = Cell.model_validate(job["cell"]), Options.model_validate(job["options"])
    scratch, folder = Path(job["scratch"]), Path(job["folder"])
    if cell.side == "both":
        return Context(None, cell, options, None, {}, scratch, folder), {"pid": os.getpid()}
    sys.meta_path.insert(0, OneFramework(cell.side))
    begin = time.perf_counter()
    for module in FRAMEWORK[cell.side]:
        importlib.import_module(module)
    import_s = time.perf_counter() - begin
    context = Context(None, cell, options, None, {}, scratch, folder)
    ready: dict[str, Json] = {"pid": os.getpid(), "import_s": import_s}
    if job["loads"] != "nothing":
        begin = time.perf_counter()
        twin = _load(context, job["weights"])
        if job["loads"] == "runner":
            context.runner = make_runner(cell, twin, context.weights)
            ready["fairness"] = context.runner.facts()
        ready["build_s"] = time.perf_counter() - begin
    return context, ready | {"environment": environment(cell.side)}


def _load(context: Context, weights_file: str) -> Twin:
    """The twin and its weights."""
    from twinax.sources import resolve
    from twinax.weights import checkpoint

    twin = resolve(context.cell.twin, context.options.weights)
    context.twin = twin
    context.weights = (
        checkpoint.read(Path(weights_file)) if weights_file else twin.init(twin.config, context.options.seed)
    )
    return twin


def environment(side: str) -> dict[str, Json]:
    """Versions and settings, read in the worker."""
    packages = {"torch": ("torch",), "jax": ("jax", "jaxlib", "flax", "optax")}[side]
    settings = ("OMP_NUM_THREADS", "XLA_FLAGS", "JAX_PLATFORMS", "CUDA_VISIBLE_DEVICES")
    return {
        **{package: importlib.metadata.version(package) for package in (*packages, "numpy")},
        "python": sys.version.split()[0],
        **{name: os.environ[name] for name in settings if name in os.environ},
    }


UNTRACEABLE = frozenset({"JAXTypeError", "JAXIndexError"})
"""Bases of what JAX raises where a program's Python looks at a value that is only known when it runs."""


def describe(error: BaseException) -> dict[str, Json]:
    """An error as JSON, with the outcome that it means for the cell."""
    if isinstance(error, CellFailed):
        return {"type": "CellFailed", "outcome": error.outcome, "what": error.what, "hint": error.hint}
    if isinstance(error, TwinaxError):
        return {"type": type(error).__name__, "what": error.what, "hint": error.hint}
    text = f"{type(error).__name__}: {str(error) or 'no message'}"
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "(os error 28)" in text:  # safetensors raises an error of its own
        return describe(DiskFull(f"No room left: {text[:500]}.", FULL))
    if isinstance(error, SystemExit):
        return describe(UserFileError(f"The model's code ended the process ({text}).", "Remove sys.exit()."))
    if UNTRACEABLE & {cls.__name__ for cls in type(error).__mro__}:
        return {
            "type": "CellFailed",
            "outcome": "unsupported",
            "what": f"JAX cannot trace the model: {text.splitlines()[0][:500]} ({_where(error)})",
            "hint": "Write it with lax.cond, lax.while_loop or jnp.where, or measure with --modes op_by_op.",
        }
    if _out_of_memory(error, text):
        hint = "Use a smaller --batch, or free memory."
        return {"type": "CellFailed", "outcome": "out_of_memory", "what": text[:500], "hint": hint}
    return {
        "type": "CellFailed",
        "outcome": "crashed",
        "what": f"{' '.join(text.split())[:1000]} ({_where(error)})",
        "hint": "The cell's log holds the traceback.",
    }


def _where(error: BaseException) -> str:
    """File and line of the innermost frame that is nobody's library: the user's; else of the innermost."""
    frames = traceback.extract_tb(error.__traceback__)
    libraries = ("site-packages", "dist-packages", sysconfig.get_path("stdlib"), str(PACKAGE))
    own = [frame for frame in frames if not any(library in frame.filename for library in libraries)]
    return f"{(own or frames)[-1].filename}:{(own or frames)[-1].lineno}"


def _out_of_memory(error: BaseException, text: str) -> bool:
    signs = ("RESOURCE_EXHAUSTED", "can't allocate memory", "out of memory", "OutOfMemoryError")
    return isinstance(error, MemoryError) or any(sign in text for sign in signs)


def _die_with_parent() -> None:
    """Linux: be killed when the parent dies, even by ``kill -9``; elsewhere the closed pipe ends the loop."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
