"""Made-up runs with realistic figures: what analysis and reports are tested on. No framework, no clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from twinax.records import Cell, Json, Options, Outcome, Record, Run, Size, TwinInfo

SIZE = Size(batch=8, dims={"image": 224})
STEP = {("torch", "eager"): 1.06, ("torch", "compile"): 0.94, ("jax", "op_by_op"): 4.9, ("jax", "jit"): 2.21}
PROGRAMS = {"forward": 0.30, "grad": 0.93, "step": 1.0}
FLOPS = {"forward": 2.1e10, "grad": 6.3e10, "step": 6.4e10}
COMPILE = {("torch", "compile"): (7.4, 41.0), ("jax", "jit"): (1.9, 6.1)}
FACTS: dict[str, dict[str, Json]] = {
    "torch": {
        "dtype": "float32",
        "matmul precision": "highest",
        "TF32": False,
        "threads": 2,
        "image layout": "NCHW, contiguous",
        "buffers reused in step": "in place",
        "attention kernel": "as the model's source writes it",
        "matrix library": "oneDNN/MKL",
    },
    "jax": {
        "dtype": "float32",
        "matmul precision": "highest",
        "TF32": False,
        "threads": 2,
        "image layout": "NHWC",
        "buffers reused in step": "donated",
        "attention kernel": "as the model's source writes it",
        "matrix library": "XLA's own (Eigen, oneDNN)",
    },
}
VERSIONS: dict[str, dict[str, Json]] = {
    "torch": {"python": "3.11.9", "torch": "2.13.0+cpu", "numpy": "2.4.0", "device": "cpu"},
    "jax": {"python": "3.11.9", "jax": "0.10.2", "flax": "0.12.8", "optax": "0.2.8", "device": "cpu"},
}
TORCH_SOURCE = '''"""ResNet-50 in PyTorch."""

from torch import Tensor, nn


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 with a shortcut; the stride sits in the 3×3 (v1.5)."""

    def forward(self, x: Tensor) -> Tensor:  # (n, c, h, w)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))
'''
JAX_SOURCE = TORCH_SOURCE.replace("PyTorch", "JAX").replace(
    "from torch import Tensor, nn", "from flax import nnx"
)


def resnet_names() -> list[str]:
    """The layers of ResNet-50 in forward order."""
    names = ["conv1", "bn1"]
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            names += [f"layer{stage}.{block}.{kind}{i}" for i in (1, 2, 3) for kind in ("conv", "bn")]
    return [*names, "fc"]


def info(name: str = "resnet50", sides: Sequence[str] = ("torch", "jax"), **more: Json) -> TwinInfo:
    known = {
        "name": name,
        "title": "ResNet-50 v1.5 (He et al., 2015)",
        "sides": tuple(sides),
        "presets": {"parity": Size(batch=2, dims={"image": 64}), "speed": SIZE},
        "inputs": ("image",),
        "sources": {s: {"torch": TORCH_SOURCE, "jax": JAX_SOURCE}[s] for s in sides},
        "notes": ("XLA's CPU convolution has no dedicated backward kernel.",),
    }
    return TwinInfo.model_validate(known | more)


def cell(study: str, side: str, mode: str, repeat: int = 0, dtype: str = "float32") -> Cell:
    return Cell(twin="resnet50", study=study, side=side, mode=mode, size=SIZE, dtype=dtype, repeat=repeat)


def parity_measurements(wrong: str = "", unproved: Sequence[str] = ()) -> dict[str, Json]:
    """What the parity study keeps; every layer from ``wrong`` on differs."""
    rng = np.random.default_rng(1)
    names = resnet_names()
    start = names.index(wrong) if wrong else len(names)

    def small(size: int) -> list[float]:
        return [float(e) for e in 10 ** rng.normal(-15.3, 0.25, size)]

    layers = [
        {"path": n, "error": e if i < start else float(3e-4 * (1 + 0.1 * (i - start)))}
        for i, (n, e) in enumerate(zip(names, small(len(names)), strict=True))
    ]
    gradients = [
        {"name": f"{n}.weight", "error": e * 50 if not wrong else 4e-3, "norm": 0.3}
        for n, e in zip(reversed(names), small(len(names)), strict=True)
    ]
    checks = [
        _check(
            f"{kind}, {mode} mode, float64",
            kind,
            worst=3e-4 if wrong else 4.1e-15,
            count=count,
            passed=not wrong,
        )
        for mode in ("eval", "train")
        for kind, count in (("outputs", 1), ("loss", 1), ("gradients", 161), ("buffers", 106))
    ]
    checks.append(_check("free-running training stays within its envelope", "trajectory", 2e-3, 20, bound=0.4))
    found = {
        "holds": not wrong,
        "bound": 1e-9,
        "reference": "torch eager float64",
        "checks": checks,
        "layers": layers,
        "gradients": gradients,
        "steps": {name: _steps(rng, 1e11 if wrong else 1.0) for name in ("sgd", "adamw")},
        "float32": [
            {
                "group": g,
                "mode": m,
                "torch": 2e-6,
                "jax": 1.7e-6,
                "envelope": 3e-6,
                "ratio": 0.85,
                "passed": True,
            }
            for g in ("outputs", "gradients")
            for m in ("eval", "train")
        ],
        "trajectory": _trajectory(rng),
        "dropout": [],
        "unproved": list(unproved),
        "first_difference": None,
        "mismatches": [],
    }
    if wrong:
        found["first_difference"] = {"kind": "activation", "path": wrong, "error": 3e-4, "detail": "eval mode"}
        found["mismatches"] = [
            {
                "what": "outputs",
                "path": "output",
                "error": 3e-4,
                "bound": 1e-9,
                "step": 0,
                "setting": "eval, float64",
            },
            {
                "what": "gradients",
                "path": "fc.bias",
                "error": None,
                "bound": 1e-9,
                "step": 1,
                "setting": "sgd, train",
            },
        ]
    return found


def _check(
    name: str, kind: str, worst: float, count: int, passed: bool = True, bound: float = 1e-9
) -> dict[str, Json]:
    where = {"gradients": "layer1.0.conv1.weight", "buffers": "bn1.running_var"}.get(kind, kind)
    return {
        "name": name,
        "kind": kind,
        "passed": passed,
        "worst": worst,
        "where": where,
        "count": count,
        "bound": bound,
        "detail": "",
    }


def _steps(rng: np.random.Generator, factor: float) -> list[dict[str, Json]]:
    kinds = ("outputs", "loss", "gradients", "buffers", "weights", "optimizer")
    return [
        {
            "step": i,
            "loss": {"torch": 7.1 - 0.1 * i, "jax": 7.1 - 0.1 * i},
            "errors": {k: float(factor * 10 ** rng.normal(-14.5, 0.3)) for k in kinds},
        }
        for i in range(20)
    ]


def _trajectory(rng: np.random.Generator) -> dict[str, Json]:
    steps = np.arange(20)
    envelope = 1e-2 / (1 + np.exp(-(steps - 7) * 1.8)) + 1e-14
    twin = envelope * 10 ** rng.normal(-0.1, 0.2, 20)
    return {
        "optimizer": "sgd",
        "steps": steps.tolist(),
        "twin": twin.tolist(),
        "envelope": envelope.tolist(),
        "agrees": True,
    }


def parity_records(**how: Json) -> list[Record]:
    found = parity_measurements(**how)
    outcome = Outcome.OK if found["holds"] else Outcome.MISMATCH
    sides = [
        Record(
            cell=cell("parity", side, mode, dtype=dtype),
            outcome=Outcome.OK,
            environment=VERSIONS[side],
            fairness=FACTS[side] | {"dtype": dtype},
            seconds=21.0,
        )
        for dtype in ("float64", "float32")
        for side, mode in (("torch", "eager"), ("jax", "jit"))
    ]
    message = "" if found["holds"] else "The two sides differ: outputs."
    compare = cell("parity", "both", "compare", dtype="float64")
    return [*sides, Record(cell=compare, outcome=outcome, measurements=found, message=message, seconds=95.2)]


def speed_records(
    scale: Callable[[str, str, str], float] = lambda program, side, mode: 1.0,
    disturbed: float = 0.02,
    sides: Sequence[str] = ("torch", "jax"),
) -> list[Record]:
    """Three cold processes and a warm one per mode, and a calibration per side.

    ``scale(program, side, mode)`` multiplies a program's time; ``disturbed`` is the share of marked samples.
    """
    rng = np.random.default_rng(2)
    records = []
    for (side, mode), step in STEP.items():
        if side in sides:
            for repeat in range(4):
                programs = {
                    program: _program(
                        rng,
                        program,
                        step * part * scale(program, side, mode),
                        side,
                        mode,
                        repeat == 3,
                        disturbed,
                    )
                    for program, part in PROGRAMS.items()
                }
                records.append(_speed_record(side, mode, repeat, programs))
    return records + [_calibration(side) for side in sides]


def _program(
    rng: np.random.Generator, program: str, median: float, side: str, mode: str, warm: bool, disturbed: float
) -> dict[str, Json]:
    trace, compiling = (t / (20 if warm else 1) for t in COMPILE.get((side, mode), (0.0, 0.0)))
    process = median * rng.lognormal(0, 0.006)
    samples = process * rng.lognormal(0, 0.012, 20)
    marks = rng.random(20) < disturbed
    return {
        "trace_s": trace,
        "compile_s": compiling,
        "first_s": trace + compiling + median * 1.4,
        "samples_s": [] if warm else samples.tolist(),
        "disturbed": [] if warm else marks.tolist(),
        "foreign_cpu": [] if warm else np.where(marks, 0.4, 0.01).tolist(),
        "flops": FLOPS[program] if side == "jax" else None,
        "compiled": {},
    }


def _speed_record(side: str, mode: str, repeat: int, programs: dict[str, Json]) -> Record:
    peak = {"eager": 1.9, "compile": 1.7, "op_by_op": 3.3, "jit": 2.6}[mode]
    compiler = {"eager": "none", "compile": "inductor, default options", "jit": "XLA, default options"}
    return Record(
        cell=cell("speed", side, mode, repeat),
        outcome=Outcome.OK,
        measurements={
            "process": repeat,
            "warm": repeat == 3,
            "import_s": 1.3 if side == "torch" else 0.9,
            "build_s": 0.4,
            "programs": programs,
            "memory": {
                "method": "resident high-water mark",
                "peak_bytes": int(peak * 2**30),
                "baseline_bytes": 320 * 2**20,
            },
        },
        environment=VERSIONS[side],
        fairness=FACTS[side] | {"compiler": compiler.get(mode, "none (one kernel per operation)")},
        seconds=61.0,
    )


def _calibration(side: str) -> Record:
    matmul, convolution = ((85e9, 121e9), (202e9, 58e9))[side == "jax"]
    rows = [{"kind": "matmul", "shape": [8, 2048, 1000], "rate": matmul, "unit": "FLOP/s"}]
    rows += [
        {"kind": "convolution", "shape": [8, c, h, h, c, 3], "rate": convolution * f, "unit": "FLOP/s"}
        for c, h, f in ((64, 56, 1.0), (128, 28, 1.1), (256, 14, 0.9), (512, 7, 0.6))
    ]
    rows = [row | {"seconds": 2e9 / row["rate"]} for row in rows]
    rows.append({"kind": "bandwidth", "shape": [33554432], "seconds": 0.011, "rate": 24.1e9, "unit": "B/s"})
    measured = {"calibration": rows, "peak_flops": max(r["rate"] for r in rows[:-1])}
    return Record(
        cell=cell("speed", side, "calibrate"),
        outcome=Outcome.OK,
        measurements=measured,
        environment=VERSIONS[side],
    )


def graph_records() -> list[Record]:
    aten = {
        "convolution": 53,
        "_native_batch_norm_legit": 53,
        "relu": 49,
        "add": 16,
        "max_pool2d": 1,
        "addmm": 1,
    }
    jaxpr = {
        "conv_general_dilated": 53,
        "mul": 106,
        "add": 122,
        "max": 49,
        "reduce_window_max": 1,
        "dot_general": 1,
    }
    hlo = {"convolution": 53, "fusion": 118, "dot": 1}
    at = {"file": "/home/anna/net.py", "line": 12, "code": "x = x.double()"}
    torch = {
        "programs": {
            "forward": captured(
                {"aten": aten},
                modules=modules("conv2d"),
                constants=[{"name": "scale", "shape": [3, 1, 1], "dtype": "float32", "bytes": 12}],
                promotions=[{"operation": "to", "from": ["float32"], "to": "float64", **at}],
                dynamo={"graphs": 1, "guards": 642, "breaks": []},
                kernels={"fused": 54, "library": 54},
            ),
            "grad": captured(
                {"aten": {k: 2 * v for k, v in aten.items()}},
                dynamo={"graphs": 2, "guards": 700, "breaks": [{"reason": "a <b>branch</b> on data", **at}]},
            ),
        }
    }
    jax = {
        "programs": {
            "forward": captured(
                {"jaxpr": jaxpr, "hlo": hlo}, modules=modules("Conv"), kernels={"fused": 118, "library": 54}
            ),
            "grad": captured({"jaxpr": {k: 3 * v for k, v in jaxpr.items()}}),
        }
    }
    return [
        Record(cell=cell("graph", "torch", "compile"), outcome=Outcome.OK, measurements=torch, seconds=9.0),
        Record(cell=cell("graph", "jax", "jit"), outcome=Outcome.OK, measurements=jax, seconds=7.0),
    ]


def shape_records() -> list[Record]:
    """Sequences of three lengths: PyTorch compiles twice, JAX at each."""

    def points(steady: float, compile_s: Sequence[float]) -> list[Json]:
        return [
            {
                "size": {"batch": 4, "dims": {"sequence": length}},
                "first_s": extra + steady * length,
                "compilations": int(extra > 0),
                "samples_s": [steady * length * f for f in (1.0, 1.02, 0.99)],
            }
            for length, extra in zip((128, 64, 32), compile_s, strict=True)
        ]

    work = {"lengths": [5, 12, 30, 64, 64, 100, 128, 20] * 10, "stated": "as given", "batch": 4}
    swept = {
        ("torch", "eager"): points(0.002, (0, 0, 0)),
        ("torch", "compile"): points(0.0018, (18.0, 15.0, 0)),
        ("jax", "op_by_op"): points(0.004, (0, 0, 0)),
        ("jax", "jit"): points(0.0022, (0.7, 0.6, 0.6)),
    }
    return [
        Record(
            cell=cell("shapes", side, mode),
            outcome=Outcome.OK,
            measurements={"program": "forward", "points": found, "limit": None, "workload": work},
            seconds=12.0,
        )
        for (side, mode), found in swept.items()
    ]


def derivative_records() -> list[Record]:
    """What ``twinax autodiff`` measures: a gradient takes three losses; JAX has nothing to rematerialise."""
    seconds = {"loss": 1, "gradient": 3, "rematerialised": 4, "hvp": 9, "per_sample_loop": 6, "per_sample": 3}
    held = {"gradient": 700, "rematerialised": 600}

    def row(side: str, kind: str) -> Json:
        if side == "jax" and kind == "rematerialised":
            return {"said": "the model has no repeated blocks", "numbers": [], "samples_s": []}
        samples = [seconds[kind] * f for f in (1.0, 1.01, 0.99)]
        how = "forward over reverse" if kind == "hvp" else ""
        more = {"first_s": seconds[kind] + 5, "peak_bytes": held.get(kind, 900) << 20, "numbers": [2.0, 0.3]}
        return {"said": "", "how": how, "samples_s": samples, **more}

    points = [{"size": n, "seconds": 1e-7 * n**2, "peak_bytes": 100 * n**2} for n in (16, 128, 1024)]
    times = {"objective_s": [0.01] * 3, "jacobian_s": [0.035] * 3, "errors": [1e-16, 2e-15], "said": ""}
    probes = {
        "derivatives": [{"task": "hessian", "error": 1e-15, "points": points, "said": ""}],
        "workloads": [{"workload": "gmm", "title": "a mixture", "size": {"d": 10, "K": 25}, **times}],
    }
    kink = {
        "function": "abs",
        "what": "kink",
        "at": [0.0],
        "value": [0.0],
        "error": "",
        "safe": "x * xp.sign(x)",
    }
    alike = {**kink, "function": "relu", "gradient": [0.0], "safe": "", "safe_gradient": []}
    records = []
    for side, mode, slope in (("torch", "eager", 0.0), ("jax", "jit", 1.0)):
        rows = [{**kink, "gradient": [slope], "safe_gradient": [0.0]}, alike]
        found = {
            "derivative_cost": {"derivatives": {kind: row(side, kind) for kind in seconds}},
            "autodiff": probes,
            "conventions": {"conventions": rows},
        }
        records += [
            Record(cell=cell(study, side, mode), outcome=Outcome.OK, measurements=measured, seconds=9.0)
            for study, measured in found.items()
        ]
    return records


def captured(operations: dict[str, Json], **more: Json) -> dict[str, Json]:
    """One program's part of a graph record."""
    empty = {"modules": {}, "constants": [], "promotions": [], "dynamo": {}, "kernels": {}, "refused": ""}
    return {"operations": operations, **empty, **more}


def modules(kind: str) -> dict[str, Json]:
    """A stem, two layers and a head."""
    flops = {
        "": 100.0,
        "conv1": 10.0,
        "layer1": 40.0,
        "layer1.0": 30.0,
        "layer1.1": 10.0,
        "layer2": 45.0,
        "fc": 5.0,
    }
    return {path: {"type": kind, "operations": 3, "flops": f * 1e7} for path, f in flops.items()}


def run(
    records: Sequence[Record], *, planned: Sequence[Cell] = (), twin: TwinInfo | None = None, **options: Json
) -> Run:
    """A run of these records; cells in ``planned`` have none yet."""
    cells = [r.cell for r in records] + list(planned)
    return Run(
        twinax_version="0.1.0",
        created="2026-11-23T18:00:00+0000",
        command="twinax compare resnet50",
        twin=twin or info(),
        studies=tuple(dict.fromkeys(c.study for c in cells)),
        options=Options.model_validate(options),
        host={"processor": "AMD EPYC", "cores": 2, "memory_bytes": 8 * 2**30, "load": [0.2, 0.3, 0.2]},
        planned=tuple(cells),
        records=tuple(records),
    )


def full() -> Run:
    """Parity holds; PyTorch is about 2.3 times as fast."""
    return run([*parity_records(), *speed_records(), *graph_records(), *shape_records()])


def graphs_only() -> Run:
    """What ``twinax graph`` makes: neither parity nor speed was asked for."""
    return run([*graph_records(), *shape_records()])


def derivatives_only() -> Run:
    """What ``twinax autodiff`` makes."""
    return run(derivative_records())


def mismatched() -> Run:
    """Every layer from ``layer2.1.bn2`` on differs."""
    return run([*parity_records(wrong="layer2.1.bn2"), *speed_records(), *graph_records()])


def only_torch() -> Run:
    """JAX is not installed: its cells were skipped."""
    hint = "Install it with: pip install 'twinax[jax]'"
    skipped = [c for c in (r.cell for r in full().records) if c.side != "torch"]
    reason = {"outcome": Outcome.SKIPPED, "message": "jax is not installed here.", "hint": hint}
    return run([*speed_records(sides=("torch",)), *(Record(cell=c, **reason) for c in skipped)])


def interrupted() -> Run:
    """Parity was done; nothing else."""
    return run(parity_records(), planned=[r.cell for r in (*speed_records(), *graph_records())])


def crashed() -> Run:
    """Two cells died and one mode is not supported; the rest is whole."""
    ends = {
        "speed.jax.jit.float32.b8.1": (Outcome.CRASHED, "The worker died of signal 11.", "See its log."),
        "speed.jax.jit.float32.b8.2": (Outcome.OUT_OF_MEMORY, "Needed more than 8 GiB.", "Try --batch 4."),
    }
    records = []
    for record in full().records:
        if record.cell.id in ends:
            outcome, message, hint = ends[record.cell.id]
            record = Record(cell=record.cell, outcome=outcome, message=message, hint=hint)
        elif record.cell.mode == "compile":
            message = "torch.compile needs a C++ compiler; none was found."
            record = Record(cell=record.cell, outcome=Outcome.UNSUPPORTED, message=message, hint="Install g++.")
        records.append(record)
    return run(records)


def trained() -> Run:
    """A small twin with a goal that both sides meet, and torch again from nudged weights."""
    steps = list(range(1, 2001, 50))
    records = []
    for side, mode, repeat in (("torch", "eager", 0), ("jax", "jit", 0), ("torch", "eager", 1)):
        losses = [0.7 * float(np.exp(-s / 420)) + 0.006 + 1e-9 * repeat * s for s in steps]
        scores = {"loss": losses[-1], "accuracy": 1.0}
        fold = {
            "step": 2000,
            "steps": 2000,
            "epochs": 2000,
            "seconds": 2.5,
            "goal_s": 1.25,
            "sides": [[side, 0, 2000]],
            "valid": [
                {"step": s, "seconds": s / 800, **scores, "loss": v} for s, v in zip(steps, losses, strict=True)
            ],
            "best": [losses[-1], 2000],
            "test": scores,
            "baselines": {"always 1": {"accuracy": 0.5}},
            "loss_steps": steps,
            "losses": losses,
            "about": "the four points of exclusive or",
            "parameters": 33,
        }
        measured = {
            "folds": [fold],
            "test": scores,
            "baselines": fold["baselines"],
            "metric": "loss",
            "better": "lower",
            "met": True,
            "promised": True,
            "claim": "2→8→1 learns XOR: loss at most 0.02, 4 of 4 right.",
        }
        trained_cell = cell("training", side, mode).model_copy(update={"repeat": repeat})
        records.append(Record(cell=trained_cell, outcome=Outcome.OK, measurements=measured))
    return run([*parity_records(), *records], twin=info("xor", title="XOR with one hidden layer"))


def hostile() -> Run:
    """Names that try to become markup, script, Markdown or terminal commands; and one that is far too long."""
    bad = "<script>alert(1)</script>"
    long = ".".join(["encoder_with_an_unreasonably_long_name"] * 6)
    found = parity_measurements(wrong="layer2.1.bn2", unproved=[bad, "</script><img src=x onerror=alert(2)>"])
    found["layers"][3]["path"] = bad
    found["layers"][4]["path"] = long
    found["gradients"][5]["name"] = '<a href="https://example.org">click</a>'
    found["gradients"][6]["name"] = "</script><script>alert(3)</script>"
    found["first_difference"]["path"] = bad
    found["mismatches"][0]["path"] = f"a|b`c`\n{bad}\x1b[31m"
    records = [*parity_records()[:-1], *speed_records(), *graph_records()]
    compare = cell("parity", "both", "compare", dtype="float64")
    records.append(Record(cell=compare, outcome=Outcome.MISMATCH, measurements=found, message=bad))
    twin = info(
        bad, title=f"{bad} & {long}", notes=(bad,), sources={"torch": f"# {bad}\n", "jax": "# </pre>\n"}
    )
    return run(records, twin=twin)


def parallel_only() -> Run:
    """What ``twinax parallel`` makes; tensor parallelism cannot be had in JAX."""
    from parallel_records import both_sides, run_of  # which are built on this module

    return run_of(both_sides())


def usability_only() -> Run:
    """What ``twinax usability`` makes."""
    from usability_records import code_record, hour_record

    return run([code_record(), hour_record("torch"), hour_record("jax")])


MAKERS = (
    full,
    graphs_only,
    derivatives_only,
    parallel_only,
    usability_only,
    mismatched,
    only_torch,
    interrupted,
    crashed,
    trained,
    hostile,
)
"""Every kind of run, for properties that hold for all of them."""
