"""The two backends by side: this is where a worker's framework comes in."""

from __future__ import annotations

import importlib

from twinax.frameworks.base import Runner
from twinax.frameworks.parallel import Membership, ParallelRunner
from twinax.records import PROVED, SHAPE_MODES, Cell
from twinax.twin import Arrays, Twin


def make_runner(cell: Cell, twin: Twin, weights: Arrays) -> Runner:
    """The cell's side of the twin, with weights in place."""
    backend = importlib.import_module(f"twinax.frameworks.{cell.side}_backend")
    kind = backend.TorchRunner if cell.side == "torch" else backend.JaxRunner
    return kind(
        twin.code(cell.side),
        twin.config,
        weights,
        twin.inputs,
        # a cell whose mode is none of the side's (a calibration, say) takes the proved one
        mode=cell.mode if cell.mode in SHAPE_MODES[cell.side] else PROVED[cell.side],
        dtype=cell.dtype,
        device=cell.device,
        channels_last=twin.channels_last,
    )


def fit(cell: Cell, twin: Twin, batch: Arrays) -> Arrays:
    """The weights that the side's solver (program ``fit``) finds for these training examples."""
    backend = importlib.import_module(f"twinax.frameworks.{cell.side}_backend")
    return backend.fit(twin.code(cell.side), twin.config, batch, cell.dtype, cell.device)


def make_parallel_runner(cell: Cell, twin: Twin, weights: Arrays, timeout: float) -> ParallelRunner:
    """This process's part of the cell: the cell's mode is the strategy. It joins the group.

    Raises:
        CellFailed: ``unsupported``; the engine cannot do the strategy for this model.
    """
    engine = importlib.import_module(f"twinax.frameworks.{cell.side}_parallel")
    kind = engine.TorchParallelRunner if cell.side == "torch" else engine.JaxParallelRunner
    alone = Membership(0, 1, "127.0.0.1:0", timeout)
    return kind(
        twin.code(cell.side),
        twin.config,
        weights,
        twin.inputs,
        strategy=cell.mode,
        ranks=cell.ranks,
        membership=Membership.of_environment(timeout) if cell.processes > 1 else alone,
        plan=twin.tensor_plan,
        dtype=cell.dtype,
        device=cell.device,
        channels_last=twin.channels_last,
    )
