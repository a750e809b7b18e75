"""Made-up records of the parallel study: what one side's strategies leave behind on two and four ranks."""

from __future__ import annotations

import runs
from twinax.records import Cell, Json, Outcome, Record, Run, Size

PARAMETERS = 4_000_000  # bytes
SINGLE = {"torch": 0.100, "jax": 0.200}
STEP = {"data": 0.125, "data_local": 0.120, "fully_sharded": 0.160, "tensor": 0.200, "pipeline": 0.250}
"""Seconds of PyTorch's step on two ranks; JAX takes twice as long."""
LINES: dict[str, dict[str, Json]] = {
    "torch": {
        "data": {"lines": 40, "added": 9, "removed": 1, "diff": "+import torch.distributed"},
        "pipeline": {"lines": 60, "added": 31, "removed": 4, "diff": "+pipeline"},
    },
    "jax": {"data": {"lines": 36, "added": 5, "removed": 2, "diff": "+mesh"}},
}


def cell(side: str, mode: str, ranks: int = 1, processes: int | None = None) -> Cell:
    known = {"twin": "resnet50", "study": "parallel", "side": side, "mode": mode, "size": Size(batch=8)}
    return Cell.model_validate({**known, "ranks": ranks, "processes": processes or ranks})


def record(side: str, mode: str, ranks: int = 1, processes: int | None = None, **measured: Json) -> Record:
    return Record(cell=cell(side, mode, ranks, processes), outcome=Outcome.OK, measurements=measured)


def around(seconds: float) -> list[float]:
    return [seconds * f for f in (0.999, 1.0, 1.001, 0.9995, 1.0005)]


def proof(worst: float | None = 2e-15, *, failed: bool = False, **more: Json) -> dict[str, Json]:
    """What a proof answers; a mismatch where it failed."""
    checks = [{"name": f"{kind}, sgd", "worst": worst, "passed": not failed} for kind in ("loss", "gradients")]
    wrong = [{"what": "gradients", "path": "fc.weight", "error": worst}] if failed else []
    names = ["gradients, sgd"] if failed else []
    return {
        "checks": checks,
        "mismatches": wrong,
        "failed": names,
        "worst": worst,
        "batch_norm_gap": None,
        **more,
    }


def held(share: float, activations: int = 9_000_000) -> dict[str, int]:
    part = int(PARAMETERS * share)
    return {"parameters": part, "gradients": part, "optimizer": part, "activations": activations}


def rows(*sent: tuple[str, int, int], ranks: int = 2) -> list[dict[str, Json]]:
    """Kind, bytes, count."""
    return [{"kind": kind, "bytes": size, "ranks": ranks, "count": count} for kind, size, count in sent]


TRAFFIC = {
    "data": rows(("all_reduce", PARAMETERS // 4, 4), ("broadcast", 8, 1)),
    "data_local": rows(("all_reduce", PARAMETERS, 1)),
    "fully_sharded": rows(("all_gather", PARAMETERS // 2, 3), ("reduce_scatter", PARAMETERS, 1)),
    "tensor": rows(("all_reduce", 1000, 8)),
    "pipeline": rows(("send", 500, 4)),
}


def single(side: str, **more: Json) -> Record:
    measured: dict[str, Json] = {
        "step_s": around(SINGLE[side]),
        "foreign_cpu": [0.01, 0.0],
        "parameter_bytes": PARAMETERS,
        "held": held(1.0),
        "traffic": [],
        "lines": LINES[side],
        "across": {"torch": None, "jax": []}[side],  # what differs between the sides; the first has no other
    }
    return record(side, "single", **{**measured, **more})


def strategy(side: str, mode: str, ranks: int = 2, processes: int | None = None, **more: Json) -> Record:
    """A strategy that was proved, timed and counted; ``more`` replaces a measurement, None takes it away."""
    seconds = STEP[mode] * (SINGLE[side] / SINGLE["torch"]) * 2 / ranks
    whole = held(0.5 if mode == "fully_sharded" else 1.0)
    measured: dict[str, Json] = {
        "parity": proof(),
        "step_s": around(seconds),
        "foreign_cpu": [0.0, 0.02],
        "communication_s": seconds / 4,
        "traffic": TRAFFIC[mode],
        "held": whole,
        "others_held": [{**whole, "activations": whole["activations"] + 1}] * (ranks - 1),
        **({"weak_step_s": around(2 * seconds)} if mode == "data" else {}),
        **more,
    }
    kept = {name: value for name, value in measured.items() if value is not None}
    return record(side, mode, ranks, processes, **kept)


def failed(side: str, mode: str, outcome: Outcome, message: str, ranks: int = 2, **measured: Json) -> Record:
    return Record(cell=cell(side, mode, ranks), outcome=outcome, message=message, measurements=measured)


def both_sides() -> list[Record]:
    """Two ranks; tensor parallelism cannot be had in JAX; its data parallelism also runs in one process."""
    made = [single("torch"), single("jax")]
    made += [
        record(side, "replicas", 2, threads=1, local_steps=[], collectives=[], paced=[]) for side in SINGLE
    ]
    for mode in STEP:
        made.append(strategy("torch", mode))
        if mode != "tensor":
            made.append(strategy("jax", mode))
        else:
            made.append(failed("jax", mode, Outcome.UNSUPPORTED, "conv1 has no plan."))
        if mode == "data":
            made.append(strategy("jax", mode, processes=1))
    return made


def run_of(made: list[Record], sides: tuple[str, ...] = ("torch", "jax"), **options: Json) -> Run:
    run = runs.run(made, twin=runs.info(sides=sides), **options)
    return run.model_copy(update={"host": {**run.host, "usable_cores": 2}})
