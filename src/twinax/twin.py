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
from typing import Any

import numpy as np
from jaxtyping import Num

from twinax.records import Json, Size, TwinInfo

Array = Num[np.ndarray, "..."]
Arrays = dict[str, Array]
"""Arrays by name. Weights carry the torch names and the torch layout on both sides."""

Config = Mapping[str, Json]
"""The architecture's numbers (depth, width, classes …): JSON, the same for both sides."""


@dataclass(frozen=True)
class Twin:
    """One model that exists on two sides.

    A side is the dotted path of a module that defines::

        build(config) -> model                   # torch.nn.Module | flax.nnx.Module, untrained
        loss(outputs, batch) -> scalar           # in that framework; batch: name -> array

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
        optional: Patterns of names that a checkpoint may lack, or hold besides the model's own.
        target: What training must reach; the *training* study reads it. Keys: ``optimizer``,
            ``learning_rate``, ``steps``, ``loss_at_most`` / ``loss_near`` / ``accuracy``, ``claim``.
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
    optional: tuple[str, ...] = ()
    target: Mapping[str, Json] = field(default_factory=dict)
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
            target=dict(self.target),
            notes=self.notes,
        )


def _source(module: str) -> str:
    """The text of a side's module or file, found without importing it (that imports a framework)."""
    if module.endswith(".py"):
        return Path(module).read_text()
    spec = importlib.util.find_spec(module)
    return Path(spec.origin).read_text() if spec and spec.origin else ""
