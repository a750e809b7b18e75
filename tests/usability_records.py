"""Made-up records of the code and the first-hour study."""

from __future__ import annotations

import json

import runs
from twinax.records import Outcome, Record, Size
from twinax.studies import code_verbs

TORCH = "from torch import nn\n\n\nclass Net(nn.Module):\n    def forward(self, x):\n        return x\n"
JAX = """
from flax import nnx


class Net(nnx.Module):
    def __call__(self, x):
        return x


class BatchNorm(nnx.Module):
    def __init__(self, rngs):
        self.scale = nnx.Param(rngs.params())

    def __call__(self, x):
        return x * self.scale
"""


def code_record(torch: str = TORCH, jax: str = JAX) -> Record:
    answer = code_verbs.read(None, sources={"torch": torch, "jax": jax})
    measured = json.loads(json.dumps(answer))  # as it comes from a worker
    cell = runs.cell("code", "both", "read")
    return Record(cell=cell, outcome=Outcome.OK, measurements=measured, seconds=0.2)


def hour_record(side: str, **times: list[float | str]) -> Record:
    """A first hour; a text in place of seconds is why there are none."""
    times = times or {"import": [1.0, 1.01], "step": [2.0, 2.02]}
    samples = {
        what: [
            {
                "seconds": None if isinstance(s, str) else s,
                "foreign_cpu": 0.01,
                "statements": 9,
                "said": s if isinstance(s, str) else "",
            }
            for s in found
        ]
        for what, found in times.items()
    }
    shown = {"lines": 23, "frames": 7, "own_frames": 2, "own_from_end": 13, "own_line": "model(x)"}
    raised = {"mistake": "shapes", "title": "Wrong shapes.", "said": "", "raised": True, "output": "", **shown}
    mistakes = [raised | {"message": "RuntimeError: (4x8 and 16x1)"}]
    if side == "jax":
        passed = {"mistake": "integers", "title": "Integers.", "said": "", "raised": False, "output": "0.35"}
        nothing = {
            "lines": 0,
            "frames": 0,
            "own_frames": 0,
            "own_from_end": None,
            "own_line": "",
            "message": "",
        }
        mistakes = [{**mistakes[0], "lines": 28, "own_from_end": 9}, passed | nothing]
    size = 700 << 20 if side == "torch" else 400 << 20
    packages = [{"name": side, "version": "1.0", "bytes": size, "own": True}]
    measured = {
        "left_out": {},
        "install": {"packages": packages, "bytes": size + 5, "own_bytes": size, "build": "CPU only"},
        "times": samples,
        "mistakes": mistakes,
    }
    cell = runs.cell("first_hour", side, {"torch": "eager", "jax": "jit"}[side]).model_copy(
        update={"size": Size(batch=1)}
    )
    return Record(cell=cell, outcome=Outcome.OK, measurements=measured, seconds=19.0)
