"""What is planned and what was measured: Cell, Outcome, Record, Run.

A run is a folder. ``run.json`` holds one :class:`Run` (the schema is in ``docs/run-format.md``);
arrays, captured graphs and worker logs lie beside it and are named by relative path. Records are
immutable; everything shown to a person is derived from the folder and can be derived again.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from twinax.errors import DiskFull, RunError

SCHEMA_VERSION = 1
RUN_FILE = "run.json"

Side = Literal["torch", "jax", "both"]
Json = Any  # a JSON value: None, bool, int, float, str, list or dict of these

MODES: Mapping[str, tuple[str, ...]] = {"torch": ("eager", "compile"), "jax": ("op_by_op", "jit")}
"""The modes of each side, in the order in which they are shown."""

PROVED: Mapping[str, str] = {"torch": "eager", "jax": "jit"}
"""The mode in which each side is proved and trained; other modes are held against it."""

COMPILED: Mapping[str, str] = {"torch": "compile", "jax": "jit"}
"""The mode in which each side's compiler stands between the code and the machine."""

SHAPE_MODES: Mapping[str, tuple[str, ...]] = {
    "torch": ("eager", "compile", "compile_static", "compile_dynamic"),
    "jax": ("op_by_op", "jit"),
}
"""The modes that meet batches of several sizes: torch.compile also with ``dynamic=False`` and ``True``."""


class Outcome(StrEnum):
    """How a cell ended, by name."""

    OK = "ok"
    MISMATCH = "mismatch"
    UNSUPPORTED = "unsupported"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"
    SKIPPED = "skipped"


class Frozen(BaseModel):
    """A value that does not change after it was made, and accepts no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Hardware(Frozen):
    """What a person states of hardware: numbers are numbers, never text that looks like one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Device(Hardware):
    """One device of a cluster.

    Attributes:
        flops: Matrix FLOP/s that it sustains in the run's dtype; None: as fast as what was measured here.
        memory_bytes: What it can hold.
    """

    flops: float | None = Field(default=None, ge=1e6, le=1e18)
    memory_bytes: float = Field(ge=1e6, le=1e15)


class Link(Hardware):
    """From one device to another, in one direction, while all its neighbours send too.

    Attributes:
        latency_s: Seconds that the shortest message takes.
        bandwidth_bytes_s: Bytes per second of a long one.
    """

    latency_s: float = Field(ge=1e-9, le=1)
    bandwidth_bytes_s: float = Field(ge=1e3, le=1e15)


class Cluster(Hardware):
    """A cluster to predict for; nothing of it is measured.

    Attributes:
        name: For the reader.
        nodes: Machines.
        devices_per_node: Devices in each.
        device: One of them.
        inside: Between devices of one node.
        between: Between devices of two nodes; only a single node needs none.
    """

    name: str = Field(min_length=1, max_length=80)
    nodes: int = Field(ge=1, le=100_000)
    devices_per_node: int = Field(ge=1, le=100_000)
    device: Device
    inside: Link
    between: Link | None = None


class Options(Frozen):
    """What the user chose; the same for every study of a run.

    Attributes:
        quick: Fewer steps, samples and modes.
        batch: Examples per batch; None takes the preset's.
        dtype: Element type in which speed is measured.
        threads: CPU threads per worker; None takes every core that the process may use.
        device: ``cpu`` or ``cuda``.
        modes: Modes to measure; empty takes the defaults.
        seed: Seed of every random draw.
        weights: A checkpoint, read into both sides; empty draws initial weights from NumPy.
        timeout: Seconds that a worker may stay silent before the cell is ``timed_out``.
        lengths: Sequence lengths of a workload, one per example; empty takes a distribution.
        ranks: Numbers of devices on which parallel strategies run; empty takes the defaults.
        launcher: Where cells are launched: on this machine, or spread over a Ray cluster.
        cluster: What the cost model predicts for; None predicts for nothing but this machine.
        preset: How a twin is trained; empty trains (``tiny``) only what trains in seconds.
        settings: Fields of the recipe and of the twin's configuration that have another value.
        data: What it is trained on: a file, ``hf:ID``; empty takes the twin's own.
        sides: Sides to train; empty takes all.
        crossing: Whether a side continues a training that another side began.
        keep: Checkpoints that are kept.
        checkpoint_s: Seconds of training between two checkpoints.
        input: Shapes and types of what goes into a model that is ported: ``8x3x224x224:float32``.
        task: What a Hugging Face model that is ported is for.
        random_weights: Whether a Hugging Face model is made from its configuration alone.
    """

    quick: bool = False
    batch: int | None = Field(default=None, ge=1)
    dtype: Literal["float32", "float64", "bfloat16"] = "float32"
    threads: int | None = Field(default=None, ge=1)
    device: Literal["cpu", "cuda"] = "cpu"
    modes: tuple[str, ...] = ()
    seed: int = Field(default=0, ge=0)
    weights: str = ""
    timeout: float = Field(default=600.0, gt=0)
    lengths: tuple[int, ...] = ()
    ranks: tuple[int, ...] = ()
    launcher: Literal["local", "ray"] = "local"
    cluster: Cluster | None = None
    preset: Literal["", "tiny", "full"] = ""
    settings: dict[str, Json] = {}
    data: str = ""
    sides: tuple[Literal["torch", "jax"], ...] = ()
    crossing: bool = False
    keep: int = Field(default=3, ge=1)
    checkpoint_s: float = Field(default=60.0, gt=0)
    input: str = ""
    task: str = ""
    random_weights: bool = False


class Size(Frozen):
    """How large the example data is: examples per batch, and the twin's own dimensions.

    Attributes:
        batch: Examples per batch.
        dims: Named by the twin: ``{"image": 224}`` in pixels, ``{"sequence": 128}`` in tokens.
    """

    batch: int
    dims: dict[str, int] = {}


class Recipe(Frozen):
    """How a twin is trained: the same numbers on both sides.

    A twin whose program is ``fit`` has a solver instead of steps: only ``config`` counts.

    Attributes:
        config: What of the architecture (or of the solver) is set for this recipe.
        optimizer: Update rule; see :class:`twinax.frameworks.base.Optimizer`.
        learning_rate: The largest one of the schedule.
        momentum: Of ``sgd``.
        weight_decay: Decoupled in ``adamw``, part of the gradient in ``sgd`` and ``adam``.
        schedule: After the warm-up: ``constant``; ``cosine`` or ``linear`` down to 0 at the last step.
        warmup: Steps in which the learning rate grows from 0.
        epochs: Times that every training example is used.
        batch: Examples per step.
        accumulate: Parts into which a step's batch is cut; their gradients are averaged.
        clip: Largest norm of all gradients together; None leaves them as they are.
        patience: Epochs without a better validation score after which training stops; None goes on.
    """

    config: dict[str, Json] = {}
    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0, le=1e3)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0, lt=1)
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    warmup: int = Field(default=0, ge=0)
    epochs: int = Field(default=1, ge=1)
    batch: int = Field(default=32, ge=1)
    accumulate: int = Field(default=1, ge=1)
    clip: float | None = Field(default=None, gt=0)
    patience: int | None = Field(default=None, ge=1)


class TaskInfo(Frozen):
    """What the parent process needs to know of a twin's task; see :class:`twinax.twin.Task`.

    Attributes:
        recipes: By preset, ``tiny`` and ``full``.
        metric: The score by which the best weights are chosen.
        better: ``lower`` or ``higher``.
        goal: What the test scores must reach: see :class:`twinax.twin.Task`.
        folds: How many folds the data have.
        brief: Whether it trains in seconds.
    """

    recipes: dict[str, Recipe]
    metric: str
    better: Literal["lower", "higher"]
    goal: dict[str, Json]
    folds: int = 1
    brief: bool = False


class TwinInfo(Frozen):
    """What the parent process needs to know of a twin; no code, no arrays.

    Attributes:
        name: The name by which every worker finds the twin again.
        title: One line for people.
        sides: Sides that exist.
        programs: Programs that both sides declare.
        presets: Sizes by use: ``parity``, ``parity_quick``, ``speed``, ``speed_quick``.
        inputs: Names of the batch's arrays that go into the model, in order.
        sources: Source text of each side, shown next to each other in the report.
        task: What it is trained for; None where nothing is trained.
        notes: Known differences and limits that belong into every report on this twin.
    """

    name: str
    title: str
    sides: tuple[Literal["torch", "jax"], ...] = ("torch", "jax")
    programs: tuple[str, ...] = ("forward", "loss", "grad", "step")
    presets: dict[str, Size]
    inputs: tuple[str, ...]
    sources: dict[str, str] = {}
    task: TaskInfo | None = None
    notes: tuple[str, ...] = ()


class Cell(Frozen):
    """The smallest thing that runs: one twin, one side, one mode, one size, one study.

    A cell of side ``both`` belongs to no framework: it compares what the two sides wrote.

    Attributes:
        twin: The twin's name.
        study: The study that planned it.
        side: ``torch``, ``jax``, or ``both``.
        mode: How the side executes; for side ``both``, what is done.
        size: Size of the example data.
        dtype: Element type in which it computes.
        device: ``cpu`` or ``cuda``.
        repeat: Which process of several that measure the same thing.
        ranks: Devices that compute it together.
        processes: Processes that these devices belong to.
    """

    twin: str
    study: str
    side: Side
    mode: str
    size: Size
    dtype: str = "float32"
    device: str = "cpu"
    repeat: int = 0
    ranks: int = Field(default=1, ge=1)
    processes: int = Field(default=1, ge=1)

    @property
    def where(self) -> str:
        """``2 ranks``; devices of one process are told apart."""
        if self.processes < self.ranks:
            return f"{self.ranks} devices in one process"
        return f"{self.ranks} ranks" if self.ranks > 1 else "1 rank"

    @property
    def id(self) -> str:
        """The cell's name in the run: unique, stable, and safe as a file name."""
        plain = f"{self.study}.{self.side}.{self.mode}.{self.dtype}.b{self.size.batch}.{self.repeat}"
        return plain if self.ranks == 1 else f"{plain}.r{self.ranks}p{self.processes}"


class Record(Frozen):
    """What a cell measured.

    Attributes:
        cell: The cell.
        outcome: How it ended.
        message: What happened, where the outcome is not ``ok``.
        hint: What to do next.
        measurements: The study's own figures; each study documents its keys.
        files: Arrays, graphs and logs in the run folder, by what they are.
        environment: Versions, threads, device: read inside the worker; of several processes, on how many
            ``machines`` they were.
        fairness: What could tilt a comparison: read back inside the worker.
        seconds: Wall time that the cell took.
    """

    cell: Cell
    outcome: Outcome
    message: str = ""
    hint: str = ""
    measurements: dict[str, Json] = {}
    files: dict[str, str] = {}
    environment: dict[str, Json] = {}
    fairness: dict[str, Json] = {}
    seconds: float = 0.0


class Run(Frozen):
    """A folder of records: what was asked, on what machine, what was planned, what came out.

    Attributes:
        schema_version: Version of this format.
        twinax_version: The twinax that made the run.
        created: When, ISO 8601 with its time zone.
        command: The command line; empty for a run made from Python.
        twin: The twin that was compared.
        studies: Names of the studies, in order.
        options: What the user chose.
        host: The machine: processor, cores, memory, load, governor.
        planned: Every cell, in the order in which it is reported.
        records: What came out so far; a planned cell without one was not run.
    """

    schema_version: int = SCHEMA_VERSION
    twinax_version: str
    created: str
    command: str
    twin: TwinInfo
    studies: tuple[str, ...]
    options: Options
    host: dict[str, Json]
    planned: tuple[Cell, ...]
    records: tuple[Record, ...] = ()

    def record(self, cell: Cell) -> Record | None:
        """The record of a planned cell, or None while it has none."""
        return next((r for r in self.records if r.cell.id == cell.id), None)

    def of(self, study: str) -> tuple[Record, ...]:
        """The records of one study, in the order in which they were planned."""
        order = {cell.id: i for i, cell in enumerate(self.planned)}
        mine = [r for r in self.records if r.cell.study == study]
        return tuple(sorted(mine, key=lambda r: order.get(r.cell.id, len(order))))

    def with_record(self, record: Record) -> Run:
        """The same run with one record added, or put in place of the cell's earlier one."""
        kept = tuple(r for r in self.records if r.cell.id != record.cell.id)
        return self.model_copy(update={"records": (*kept, record)})

    @property
    def complete(self) -> bool:
        """Whether every planned cell has ended in a named outcome."""
        return all(self.record(cell) is not None for cell in self.planned)

    def save(self, folder: Path) -> None:
        """Write ``run.json`` whole or not at all.

        Raises:
            DiskFull: The folder's disk has no room; an earlier ``run.json`` is still intact.
        """
        write_atomically(folder / RUN_FILE, self.model_dump_json(indent=1).encode())

    @classmethod
    def load(cls, folder: Path) -> Run:
        """Read and validate a run.

        Raises:
            RunError: There is no run there, it is damaged, or another version made it.
        """
        file = folder / RUN_FILE
        try:
            text = file.read_bytes()
        except OSError as error:
            raise RunError(
                f"{folder} holds no readable run: {error.strerror} ({file.name}).",
                "Give the folder of a run: twinax printed it.",
            ) from error
        return cls._parse(text, file)

    @classmethod
    def _parse(cls, text: bytes, file: Path) -> Run:
        try:
            version = json.loads(text).get("schema_version")
        except (ValueError, AttributeError) as error:
            raise RunError(f"{file} is not a run: {error}.", "Run the comparison again.") from error
        if version != SCHEMA_VERSION:
            raise RunError(
                f"{file} has schema version {version}; this twinax reads {SCHEMA_VERSION}.",
                "Open it with the twinax that made it, or run the comparison again.",
            )
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(p) for p in first["loc"])
            raise RunError(
                f"{file} is damaged: {where}: {first['msg']} ({error.error_count()} faults).",
                "Run the comparison again.",
            ) from error


def write_atomically(file: Path, data: bytes) -> None:
    """Write a file whole or not at all: a reader never sees half of it.

    Raises:
        DiskFull: The disk has no room, or cannot be written.
    """
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, file)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise DiskFull(
            f"{file} could not be written: {error.strerror}.",
            "What was written before is intact: make room, and go on with --resume (or `twinax report`, where "
            "all was measured), or choose another folder with -o.",
        ) from error
