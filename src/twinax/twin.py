"""What a twin is: one model on two sides, with one set of weights.

A :class:`Twin` is found again by its name in every process. Holding one imports no framework:
the two sides are module paths, and weights and batches are NumPy.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Num

from twinax.records import Json, Recipe, Size, TaskInfo, TwinInfo

Array = Num[np.ndarray, "..."]
Arrays = dict[str, Array]
"""Arrays by name. Weights carry the torch names and the torch layout on both sides."""

Config = Mapping[str, Json]
"""The architecture's numbers (depth, width, classes …): JSON, the same for both sides."""


class Examples(Protocol):
    """Examples of one use (train, valid, test) that can be taken by their numbers."""

    def __len__(self) -> int: ...

    def take(self, rows: Array, seed: int) -> Arrays:
        """The examples with these numbers as one batch, in torch's layout; ``seed`` is for augmentation."""
        ...


@dataclass(frozen=True)
class ArrayExamples:
    """Examples that lie in memory: arrays whose first axis is the example."""

    arrays: Arrays

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def take(self, rows: Array, seed: int) -> Arrays:
        return {name: array[rows] for name, array in self.arrays.items()}


@dataclass(frozen=True)
class Dataset:
    """What a twin is trained and tested on, in NumPy; the same on both sides.

    Attributes:
        train: Examples to learn from.
        valid: Examples by which training is stopped and the best weights are chosen.
        test: Examples that are looked at once, at the end.
        config: What the data fixes of the architecture: features, classes.
        preparation: What was fitted on the training examples and is needed to read another file in the same
            way: means, deviations, categories, names of columns. It goes into every checkpoint, as JSON.
        aside: By split (``valid``, ``test``): arrays that the model does not see and scores need: dates,
            unscaled targets, what baselines forecast.
        about: One line for people: where the data come from, how many examples.
    """

    train: Examples
    valid: Examples
    test: Examples
    config: Config
    preparation: Mapping[str, Json]
    aside: Mapping[str, Arrays]
    about: str


Row = dict[str, Json]
"""One line of a CSV file."""


@dataclass(frozen=True)
class Task:
    """What a twin is trained for.

    Attributes:
        load: ``(config, data, fold, seed) -> dataset``. ``data`` names the source: ``""`` is the default,
            which needs no network; a path; ``hf:ID``. ``fold`` counts from 0: in fold k+1 the training data
            reach further. Raises BadInput that names the file, the column and the row.
        prepare: ``(config, preparation, file) -> (batch, rows)``: a user's file as model inputs, and its rows
            as they are to be written back, beside the predictions.
        scores: ``(preparation, aside, outputs) -> {metric: value}`` of one split; the loss is added by others.
        baselines: ``dataset -> {name: {metric: value}}``: the same metrics on the test split, of simpler ways.
        predictions: ``(preparation, outputs) -> rows``: outputs in the data's own units, one row per example.
        recipes: How it is trained: ``tiny`` (minutes on a CPU) and ``full`` (the published size).
        metric: The score by which the best weights are chosen on ``valid``.
        better: ``lower`` or ``higher``.
        goal: What the test scores of ``tiny`` must reach: ``at_most`` and ``at_least``: metric → value;
            ``near``: metric → [value, distance]; ``claim``: the same in words.
        folds: How many folds there are.
        brief: It trains in seconds: ``compare`` trains it without being asked.
        fixed: Keys of the configuration that nobody can set, and what says them.
    """

    load: Callable[[Config, str, int, int], Dataset]
    prepare: Callable[[Config, Mapping[str, Json], Path], tuple[Arrays, list[Row]]]
    scores: Callable[[Mapping[str, Json], Arrays, Arrays], dict[str, float]]
    baselines: Callable[[Dataset], dict[str, dict[str, float]]]
    predictions: Callable[[Mapping[str, Json], Arrays], list[Row]]
    recipes: Mapping[str, Recipe]
    metric: str
    better: Literal["lower", "higher"]
    goal: Mapping[str, Json]
    folds: int = 1
    brief: bool = False
    fixed: Mapping[str, str] = field(default_factory=dict)

    @property
    def info(self) -> TaskInfo:
        """What the parent process needs to know."""
        return TaskInfo(
            recipes=dict(self.recipes),
            metric=self.metric,
            better=self.better,
            goal=dict(self.goal),
            folds=self.folds,
            brief=self.brief,
        )


@dataclass(frozen=True)
class Twin:
    """One model that exists on two sides.

    A side is the dotted path of a module that defines::

        build(config) -> model                   # torch.nn.Module | flax.nnx.Module, untrained
        loss(outputs, batch) -> scalar           # in that framework; batch: name -> array
        fit(config, batch) -> weights            # program "fit" only: a solver, in that framework

    Attributes:
        name: The name in the catalogue, for example ``resnet50`` or ``bert/encoder``.
        title: One line for people, with the paper.
        sides: Dotted module path of each side.
        config: The architecture's numbers.
        init: ``(config, seed) -> weights``: parameters and buffers, torch names and layout, float32.
        batches: ``(config, size, seed, count) -> [batch, …]``: different data in each; torch layout
            (images are NCHW); floats are float32 (or float64), integers int64.
        inputs: Batch arrays that go into the model, in order; the others are for the loss.
        presets: Sizes by use: ``parity``, ``parity_quick``, ``speed``, ``speed_quick``.
        programs: What both sides can run.
        channels_last: Whether the JAX side wants 4-d arrays as NHWC (they are moved before the
            clock starts, and activations are moved back before they are compared).
        configure: ``(checkpoint path, config) -> config``: sizes that a checkpoint's own
            ``config.json`` states; None when the architecture is fixed.
        fitted: ``(config, weights) -> config``: sizes that weights found by ``fit`` have; None where they
            have no others than the configuration's.
        optional: Patterns of names that a checkpoint may lack, or hold besides the model's own.
        task: What it is trained for; None where nothing is trained.
        tensor_plan: Which layers tensor parallelism shards, and how: pattern of module paths (torch names) →
            ``column`` or ``row`` (see :data:`twinax.frameworks.parallel.Plan`).
        notes: Known differences, shown in every report.
        loader: ``(twin, side) -> side's code``; None imports the module that ``sides`` names.
    """

    name: str
    title: str
    sides: Mapping[str, str]
    config: Config
    init: Callable[[Config, int], Arrays]
    batches: Callable[[Config, Size, int, int], list[Arrays]]
    inputs: tuple[str, ...]
    presets: Mapping[str, Size]
    programs: tuple[str, ...] = ("forward", "loss", "grad", "step")
    channels_last: bool = False
    configure: Callable[[Path, Config], Config] | None = None
    fitted: Callable[[Config, Arrays], Config] | None = None
    optional: tuple[str, ...] = ()
    task: Task | None = None
    tensor_plan: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    loader: Callable[[Twin, str], Any] | None = None

    def code(self, side: str) -> Any:
        """A side's code (``build`` and ``loss``); this imports its framework."""
        return self.loader(self, side) if self.loader else importlib.import_module(self.sides[side])

    def configured(self, weights: str) -> Twin:
        """The twin with the sizes that a checkpoint states; itself when there is none."""
        if not weights or self.configure is None:
            return self
        return replace(self, config=self.configure(Path(weights), self.config))

    @property
    def info(self) -> TwinInfo:
        """What the parent process needs to know, with each side's source text."""
        return TwinInfo(
            name=self.name,
            title=self.title,
            sides=tuple(side for side in ("torch", "jax") if side in self.sides),
            programs=self.programs,
            presets=dict(self.presets),
            inputs=self.inputs,
            sources={side: _source(module) for side, module in self.sides.items()},
            task=self.task.info if self.task else None,
            notes=self.notes,
        )


def _source(module: str) -> str:
    """The text of a side's module or file, found without importing it (that imports a framework)."""
    if module.endswith(".py"):
        return Path(module).read_text()
    spec = importlib.util.find_spec(module)
    return Path(spec.origin).read_text() if spec and spec.origin else ""
