"""A made-up machine whose law of time is known, and the records that a study of it would leave."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import runs
from twinax.records import Cell, Json, Outcome, Record, Run, Size

MIB = 2**20
BATCH = 16
HELD = {"parameters": 40 * MIB, "gradients": 40 * MIB, "optimizer": 40 * MIB, "activations": 160 * MIB}
COMPILED = {**HELD, "gradients": 0}
"""JAX on one device: each gradient is let go at once."""
UNEVEN = 1.3  # the pipeline's fullest stage
SHARE = 0.8  # of parameters and work in sharded layers
MICRO = 4
BLOCKS = 6
H100 = {
    "name": "8 nodes of 8",
    "nodes": 8,
    "devices_per_node": 8,
    "device": {"flops": 400e12, "memory_bytes": 80e9},
    "inside": {"latency_s": 5e-6, "bandwidth_bytes_s": 400e9},
    "between": {"latency_s": 10e-6, "bandwidth_bytes_s": 50e9},
}
TEMPORARY = {"single": 200, "local": 150, "gradients": 100}
TEMPORARY |= {"data": 600, "fully_sharded": 400, "tensor": 20, "pipeline": 100}
"""MiB that a step takes for itself; up to 32 malloc keeps."""
KINDS = {"all_reduce": 1.0, "all_gather": 0.7, "reduce_scatter": 1.3, "send": 0.5}


@dataclass
class Truth:
    """Seconds as they really are on two or four ranks with a core each.

    Attributes:
        fixed: Of a step.
        per_example: Of a step, for each example.
        update: Of ``fixed``: the optimizer.
        latency: Of an all-reduce; other kinds in proportion.
        rate: Bytes per second of an all-reduce.
        wait: How much slower communication is inside a strategy than the calibration can know.
        meeting: What a collective costs beyond its own time, after ranks have computed.
        engine: What tensor parallelism's engine adds.
        page: Seconds per byte of memory that the system gives.
        noise: Relative, of every sample.
        side: Whose; JAX sums gradients whole.
    """

    fixed: float = 0.020
    per_example: float = 0.012
    update: float = 0.004
    latency: float = 0.0004
    rate: float = 1.2e9
    wait: float = 1.0
    meeting: float = 0.0007
    engine: float = 0.03
    page: float = 0.0
    noise: float = 0.03
    side: str = "torch"
    rng: Any = field(default_factory=lambda: np.random.default_rng(5))

    def samples(self, seconds: float, noise: float | None = None) -> list[float]:
        noise = self.noise if noise is None else noise
        return [float(s) for s in seconds * (1 + noise * np.abs(self.rng.standard_normal(21)))]

    def timed(self, seconds: float, what: str) -> dict[str, Json]:
        """A step's samples, with the time in which the system gives it memory."""
        temporary = TEMPORARY[what] * MIB
        taken = temporary if temporary > 32 * MIB else 0
        return {"step_s": self.samples(seconds + self.page * taken), "taken_bytes": temporary}

    def compute(self, batch: float) -> float:
        return self.fixed + self.per_example * batch

    def collective(self, kind: str, size: float) -> float:
        return KINDS[kind] * (self.latency + size / self.rate)

    def within(self, kind: str, size: float) -> float:
        """Between two parts of a step."""
        return self.wait * (self.collective(kind, size) + self.meeting)

    def traffic(self, strategy: str, ranks: int) -> list[dict[str, Json]]:
        whole, activation = HELD["parameters"], 2 * MIB
        counts = {
            "data": [("all_reduce", whole // 4, 4)],
            "fully_sharded": [
                ("all_gather", whole // 8, 16),
                ("reduce_scatter" if self.side == "torch" else "all_reduce", whole // 8, 8),
            ],
            "tensor": [("all_reduce", activation, 4 * BLOCKS)],
            "pipeline": [("send", activation // MICRO, MICRO)],
        }
        return [{"kind": k, "bytes": b, "ranks": ranks, "count": c} for k, b, c in counts[strategy]]

    def step(self, strategy: str, ranks: int) -> float:
        """Written down strategy by strategy, the pipeline as it is scheduled."""
        rows = self.traffic(strategy, ranks)
        waits = sum(row["count"] * self.within(row["kind"], row["bytes"]) for row in rows)
        work = self.fixed - self.update
        if strategy == "data":
            return self.compute(BATCH / ranks) + waits
        if strategy == "fully_sharded":
            return work + self.per_example * BATCH / ranks + self.update / ranks + waits
        if strategy == "tensor":
            part = 1 - SHARE + SHARE / ranks
            return work + self.update * part + self.per_example * BATCH * part + self.engine + waits
        micro = (work + self.per_example * BATCH / MICRO) / ranks
        hop = self.within("send", rows[0]["bytes"])
        return gpipe(micro / 3, micro * 2 / 3, hop, ranks, MICRO) + self.update / ranks

    def held(self, strategy: str, ranks: int) -> list[dict[str, float]]:
        """Of each rank. PyTorch copies gradients into buckets; a pipeline's last stage is the fullest."""
        split = 1 - SHARE + SHARE / ranks
        active = HELD["activations"] * (split if strategy == "tensor" else 1 / ranks)
        shares = [{"data": 1.0, "tensor": split}.get(strategy, 1 / ranks)] * ranks
        if strategy == "pipeline":
            shares = [(ranks - UNEVEN) / (ranks - 1) / ranks] * (ranks - 1) + [UNEVEN / ranks]
        gradients = HELD["gradients"]
        found = []
        for share in shares:
            kept = {name: size * share for name, size in HELD.items()}
            if self.side == "torch":
                buffers = gradients if strategy == "data" else 0.0
                found.append({**kept, "activations": active, "buffers": buffers})
            else:  # XLA sums whole gradients into new ones
                summed = strategy in ("data", "fully_sharded")
                temporary = max(active, gradients) + gradients if summed else active
                found.append({**kept, "gradients": 0.0, "activations": temporary})
        return found


def gpipe(forward: float, backward: float, hop: float, stages: int, micro: int) -> float:
    """When the last backward pass of a GPipe schedule ends, from who waits for whom."""
    there = np.zeros((stages, micro))
    for s in range(stages):
        for m in range(micro):
            came = there[s - 1, m] + hop if s else 0.0
            there[s, m] = max(came, there[s, m - 1] if m else 0.0) + forward
    back = np.zeros((stages, micro))
    for s in reversed(range(stages)):
        for m in range(micro):
            came = back[s + 1, m] + hop if s + 1 < stages else there[s, m]
            back[s, m] = max(came, back[s, m - 1] if m else there[s, micro - 1]) + backward
    return float(back[0, -1])


def cell(side: str, mode: str, ranks: int) -> Cell:
    size = Size(batch=BATCH)
    known = {"twin": "resnet50", "study": "parallel", "side": side, "mode": mode, "size": size}
    return Cell.model_validate({**known, "ranks": ranks, "processes": ranks})


def record(side: str, mode: str, ranks: int, **measured: Json) -> Record:
    return Record(cell=cell(side, mode, ranks), outcome=Outcome.OK, measurements=measured)


def failed(side: str, mode: str, ranks: int, message: str) -> Record:
    return Record(cell=cell(side, mode, ranks), outcome=Outcome.UNSUPPORTED, message=message)


def records(side: str = "torch", truth: Truth | None = None, ranks: tuple[int, ...] = (2,)) -> list[Record]:
    """One side: one device, ranks by themselves, and every strategy."""
    it = replace(truth or Truth(), side=side)
    cores = 1.8  # how much faster one is that has both to itself
    whole = it.compute(BATCH) / cores
    single = it.timed(whole, "single") | {"new_memory": {"bytes": MIB, "seconds": it.samples(it.page * MIB)}}
    alone = HELD if side == "torch" else COMPILED
    made = [record(side, "single", 1, **single, flops=3e10, peak_flops=1.5e11, held=alone)]
    added = it.engine / cores if side == "jax" else it.engine  # PyTorch's is one thread's work
    made.append(record(side, "tensor", 1, **it.timed(whole + added, "tensor"), sharded_share=SHARE))
    if side == "torch":
        made.append(
            record(side, "data", 1, **it.timed(whole, "data"), held={**HELD, "buffers": HELD["gradients"]})
        )
    for n in ranks:
        local = [{"batch": b, **it.timed(it.compute(b), "local")} for b in (BATCH // n, BATCH, 2)]
        gradients = it.timed(it.compute(BATCH // n) - it.update, "gradients")
        collectives = [
            {"kind": kind, "bytes": size, "ranks": n, "seconds": it.samples(it.collective(kind, size))}
            for kind in KINDS
            for size in (4096, 65536, MIB, 4 * MIB, 16 * MIB)
        ]
        calibration: dict[str, Json] = {
            "threads": 1,
            "local_steps": local,
            "collectives": collectives,
            "local_gradients": {"batch": BATCH // n, **gradients},
            "new_memory": {"bytes": 256 * MIB, "seconds": it.samples(it.page * 256 * MIB)},
            "paced": [
                {
                    "kind": "all_reduce",
                    "bytes": 4096,
                    "ranks": n,
                    "pace_s": work,
                    "work_s": it.samples(work, noise=0),
                    "paced_s": it.samples(work + it.collective("all_reduce", 4096) + it.meeting, noise=0),
                }
                for work in (0.001, 0.004, 0.016)
            ],
        }
        made.append(record(side, "replicas", n, **calibration))
        for strategy in ("data", "fully_sharded", "tensor", "pipeline"):
            measured: dict[str, Json] = {
                **it.timed(it.step(strategy, n), strategy),
                "traffic": it.traffic(strategy, n),
                "held": it.held(strategy, n)[0],
                "others_held": it.held(strategy, n)[1:],
                "micro_batches": MICRO if strategy == "pipeline" else None,
                "sharded_share": {"tensor": SHARE, "fully_sharded": 1.0}.get(strategy),
            }
            made.append(record(side, strategy, n, **measured))
    return made


def run_of(made: list[Record], cluster: dict[str, Json] | None = None, cores: int = 2) -> Run:
    run = runs.run(made, cluster=cluster)
    return run.model_copy(update={"host": {**run.host, "usable_cores": cores}})


def both_sides(cluster: dict[str, Json] | None = H100) -> Run:
    """JAX computes a little slower and communicates a little faster."""
    jax = Truth(per_example=0.014, rate=2e9)
    return run_of([*records("torch"), *records("jax", jax)], cluster)
