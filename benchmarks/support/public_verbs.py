"""One implementation of one model, the zoo's or a public one, in a worker."""

from __future__ import annotations

import importlib
import time

from twinax.frameworks.base import Phases, Prepared
from twinax.frameworks.make import make_runner
from twinax.records import Json
from twinax.sources import resolve
from twinax.studies import speed_verbs
from twinax.studies.base import Context


def prepare_public(context: Context, *, program: str) -> dict[str, Json]:
    """Get the implementation that the cell's mode names ready to be timed; ``missing`` says why it is not."""
    cell, twin = context.cell, resolve(context.cell.twin)
    batches = twin.batches(twin.config, cell.size, 0, speed_verbs.BATCHES)
    if cell.mode == "twinax":
        prepared = make_runner(cell, twin, twin.init(twin.config, 0)).prepare(program, batches)
    else:
        try:
            public = importlib.import_module(f"support.public_{cell.side}")
            call = public.prepare(cell.mode, twin.config, batches, program)
        except (ImportError, RuntimeError) as error:  # torchvision raises the second beside a CPU torch
            return {"missing": f"{type(error).__name__}: {error}".splitlines()[0]}
        call(0)
        prepared = Prepared(call, Phases(0.0, 0.0, 0.0), {})
    begin = time.perf_counter()
    prepared.call(1)
    context.memory[program] = prepared
    return {"iteration_s": time.perf_counter() - begin}


VERBS = {**speed_verbs.VERBS, "prepare_public": prepare_public}
