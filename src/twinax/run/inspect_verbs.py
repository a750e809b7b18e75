"""What a worker tells of a twin before anything is planned. Runs inside a worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from twinax.records import Json
from twinax.sources import is_file, resolve
from twinax.studies.base import Context, Verb
from twinax.weights import checkpoint


def inspect(context: Context, *, output: str) -> dict[str, Json]:
    """Read the weights that are to be used, check that they fit, and write them for every worker.

    Weights come from the checkpoint that the user named, or else from the user's own torch model.
    """
    weights = context.options.weights
    twin = resolve(context.cell.twin, weights)
    initial = twin.init(twin.config, context.options.seed)
    if weights:
        expected = {name: tuple(array.shape) for name, array in initial.items()}
        # what a checkpoint may lack (a new head, say) keeps its initial values
        initial = {**initial, **checkpoint.fit(_read(Path(weights)), expected, optional=twin.optional)}
    if weights or is_file(context.cell.twin):
        checkpoint.write(Path(output), {name: np.asarray(a, order="C") for name, a in initial.items()})
    return {"info": twin.info.model_dump()}


def _read(path: Path) -> Mapping[str, np.ndarray]:
    return checkpoint.read_pth(path) if checkpoint.is_torch_file(path) else checkpoint.read(path)


VERBS: Mapping[str, Verb] = {"inspect": inspect}
