"""For a project's own tests: one call that fails when a pair has come apart.

    from twinax.testing import assert_twins_agree

    def test_the_port_is_still_the_same_model():
        assert_twins_agree("my_pair.py")

The frameworks run in workers: the calling process imports neither.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinax.records import Options, Outcome, Record
from twinax.run.plan import execute

WORST = 5
"""How many of the tensors that differ are named."""


def assert_twins_agree(
    pair: str | Path, *, quick: bool = True, seed: int = 0, folder: Path | None = None
) -> None:
    """Prove the two sides equal: outputs, loss, every gradient, training steps.

    Args:
        pair: A pair file, or the name of a zoo twin.
        quick: Few training steps and short trajectories; False proves as ``twinax parity`` does.
        seed: Seed of weights, data and dropout masks.
        folder: Where the run goes, new or empty; None keeps it only when the assertion fails.

    Raises:
        AssertionError: The sides differ, or could not be compared; says what differs, where, by how much.
        BadInput: The pair cannot be used at all (see :mod:`twinax.errors`).
    """
    kept = folder or Path(tempfile.mkdtemp(prefix="twinax-"))
    try:
        run, _ = execute(str(pair), ["parity"], Options(quick=quick, seed=seed), folder=kept)
    except BaseException:
        if folder is None:
            shutil.rmtree(kept, ignore_errors=True)
        raise
    bad = [record for record in run.records if record.outcome is not Outcome.OK]
    if bad:
        lines = [f"{pair}: the two sides do not agree.", *(line for r in bad for line in describe(r))]
        raise AssertionError("\n".join([*lines, f"Run folder: {kept}"]))
    if folder is None:
        shutil.rmtree(kept, ignore_errors=True)


def describe(record: Record) -> list[str]:
    """What is wrong, a line each: failed checks, the first difference, the worst tensors."""
    found = record.measurements
    if "checks" not in found:
        return [f"{record.cell.id}: {record.outcome.value}: {record.message}", f"  {record.hint}"]
    lines = ["Failed checks:"]
    lines += [
        f"  {check['name']}: {_number(check['worst'])} at {check['where']}, allowed {_number(check['bound'])}"
        for check in found["checks"]
        if not check["passed"]
    ]
    first = found["first_difference"]
    if first:
        lines.append(f"First difference: {first['kind']} of {first['path']}, {_number(first['error'])}")
    tensors = [m for m in found["mismatches"] if m["path"] != "all"]  # all: float32, judged as one
    worst = sorted(tensors, key=_error, reverse=True)[:WORST]
    lines.append(f"Worst of {len(tensors)} differences:")
    lines += [f"  {m['what']} {m['path']}: {_number(m['error'])} ({m['setting']})" for m in worst]
    return lines


def _error(mismatch: Mapping[str, Any]) -> float:
    return float("inf") if mismatch["error"] is None else mismatch["error"]


def _number(value: float | None) -> str:
    """JSON has no infinity: None stands for whatever is not a number."""
    return "not finite" if value is None else f"{value:.1e}"
