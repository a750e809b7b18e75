"""Twins ``xor`` (2 → 8 → 1) and ``xor/logistic`` (2 → 1): the same data, learnable and not."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from twinax.data import points
from twinax.errors import BadInput
from twinax.records import Json, Recipe, Size
from twinax.twin import ArrayExamples, Arrays, Config, Dataset, Row, Task, Twin


def init(config: Config, seed: int) -> Arrays:
    """Weights uniform in ±√(6 / (in + out)) (Glorot & Bengio, 2010), biases zero."""
    rng = np.random.default_rng(seed)
    hidden = int(config["hidden"])
    layers = {"hidden": (hidden, 2), "output": (1, hidden)} if hidden else {"output": (1, 2)}
    weights: Arrays = {}
    for layer, (outputs, inputs) in layers.items():
        bound = math.sqrt(6 / (inputs + outputs))
        weights[f"{layer}.weight"] = rng.uniform(-bound, bound, (outputs, inputs)).astype(np.float32)
        weights[f"{layer}.bias"] = np.zeros(outputs, dtype=np.float32)
    return weights


def batches(config: Config, size: Size, seed: int, count: int) -> list[Arrays]:
    """The four points, in an order drawn anew for every batch but the first."""
    return points.batches(size.batch, seed, count)


_SIDES = {"torch": "twinax.zoo.xor.torch_model", "jax": "twinax.zoo.xor.jax_model"}
_PRESETS = {preset: Size(batch=4) for preset in ("parity", "parity_quick", "speed", "speed_quick")}
_RECIPE = Recipe(optimizer="sgd", learning_rate=0.5, momentum=0.9, epochs=1000, batch=4)


def load(config: Config, data: str, fold: int, seed: int) -> Dataset:
    """The four points, for every use: there are no others.

    Raises:
        BadInput: A file was given.
    """
    if data:
        raise BadInput(f"Exclusive or has no data but its four points, not {data}.", "Leave --data out.")
    points_ = ArrayExamples({"points": points.POINTS, "labels": points.LABELS})
    aside = {split: {"labels": points.LABELS} for split in ("valid", "test")}
    return Dataset(points_, points_, points_, {}, {}, aside, "the four points of exclusive or")


def scores(preparation: Mapping[str, Json], aside: Arrays, outputs: Arrays) -> dict[str, float]:
    """The share of points on the right side of 0.5."""
    return {"accuracy": float(np.mean((outputs["probability"] > 0.5) == (aside["labels"] > 0.5)))}


def baselines(dataset: Dataset) -> dict[str, dict[str, float]]:
    """Always the same answer."""
    return {"always 1": {"accuracy": float(np.mean(dataset.aside["test"]["labels"]))}}


def prepare(config: Config, preparation: Mapping[str, Json], file: Path) -> tuple[Arrays, list[Row]]:
    """Points from a CSV file with columns ``x`` and ``y``.

    Raises:
        BadInput: A column lacks, or a value is no number.
    """
    rows, found = [], []
    with file.open(newline="") as lines:
        reader = csv.DictReader(lines)
        if not {"x", "y"} <= set(reader.fieldnames or ()):
            raise BadInput(
                f"{file} lacks the columns x and y.", "For example: x,y on the first line, 0,1 below."
            )
        for number, row in enumerate(reader, 1):
            try:
                found.append([float(row["x"]), float(row["y"])])
            except (TypeError, ValueError) as error:
                what = f"{file}, row {number}: {row['x']!r}, {row['y']!r} are no two numbers."
                raise BadInput(what, "Give two numbers in each row.") from error
            rows.append({"x": row["x"], "y": row["y"]})
    return {"points": np.asarray(found, np.float32).reshape(-1, 2)}, rows


def predictions(preparation: Mapping[str, Json], outputs: Arrays) -> list[Row]:
    """The probability of 1."""
    return [{"probability": float(p)} for p in outputs["probability"].ravel()]


def _task(goal: Mapping[str, Json]) -> Task:
    return Task(
        load=load,
        prepare=prepare,
        scores=scores,
        baselines=baselines,
        predictions=predictions,
        recipes={"tiny": _RECIPE, "full": _RECIPE},
        metric="loss",
        better="lower",
        goal=goal,
        brief=True,
    )


TWINS = (
    Twin(
        name="xor",
        title="Exclusive or: a network of 8 hidden units that learns it",
        sides=_SIDES,
        config={"hidden": 8},
        init=init,
        batches=batches,
        inputs=("points",),
        presets=_PRESETS,
        task=_task(
            {
                "at_most": {"loss": 0.02},
                "at_least": {"accuracy": 1.0},
                "claim": "A hidden layer learns exclusive or: loss at most 0.02, all 4 points right.",
            }
        ),
    ),
    Twin(
        name="xor/logistic",
        title="Exclusive or: logistic regression, which cannot learn it",
        sides=_SIDES,
        config={"hidden": 0},
        init=init,
        batches=batches,
        inputs=("points",),
        presets=_PRESETS,
        task=_task(
            {
                "near": {"loss": [round(math.log(2), 6), 1e-3]},
                "claim": "No line separates exclusive or: the loss ends at ln 2 = 0.693147.",
            }
        ),
    ),
)
