"""Credit risk, the task of ``knn`` and ``svm``: who will default, and what is lost if he does.

A classifier's output ``probability`` is (batch, 2): column 1 is the probability of default. Where it also
gives ``calibrated`` of the same shape, that is what people are told, and both are scored. A regressor's
output ``prediction`` is (batch,), in deviations of the training targets from their mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from twinax.data import credit, table
from twinax.data.table import Source, Table
from twinax.errors import BadInput
from twinax.records import Json, Recipe
from twinax.twin import Array, ArrayExamples, Arrays, Config, Dataset, Row, Task

LOANS = 4000
SHARES = (0.6, 0.2)  # of training and validation; the rest is for the test
FEWEST_ROWS = 20  # and of each class:
FEWEST_OF_A_CLASS = 5
BINS = 10  # of the calibration error
UNKNOWN = "unknown_categories"  # the column beside predictions that names what training never saw

USUAL_TARGETS = {
    "classifier": ("default", "class", "target", "label"),
    "regressor": ("loss", "target"),
}
FIXED = {
    "features": "the columns of the data say how many there are",
    "classes": "a classifier has the two of its target, a regressor none",
    "rows": "they are the rows that it is trained on",
    "regression": "svm classifies, svm/regressor does not",
    "support_vectors": "the solver finds how many there are",
}
"""Keys of a configuration that follow from the data or the twin."""
KNOWN_PAIRS = (("no", "yes"), ("false", "true"), ("good", "bad"))  # text of class 0 and of class 1


@dataclass(frozen=True)
class Examples:
    """A table, what is to be learnt of it, and, where that is known, the truth behind it.

    ``target`` is int64 {0, 1} for a classifier, else float64; ``truth``: its true mean, row by row.
    """

    table: Table
    target_name: str
    target: Array
    classes: tuple[str, str] | None
    truth: Array | None
    about: str


def task(kind: str, recipes: Mapping[str, Recipe], goal: Mapping[str, Json], brief: bool = True) -> Task:
    """The task of a twin.

    Args:
        kind: ``classifier`` (batches hold ``features`` (n, d) and ``labels`` (n,) int64; the data fix the
            configuration's ``features`` and ``classes``) or ``regressor`` (``targets`` (n,) in place of labels;
            ``features``).
        recipes: See :class:`twinax.twin.Task`.
        goal: The same.
        brief: The same.
    """
    classifies = kind == "classifier"
    return Task(
        load=partial(load, kind),
        prepare=prepare,
        scores=classifier_scores if classifies else regressor_scores,
        baselines=classifier_baselines if classifies else regressor_baselines,
        predictions=predictions,
        recipes=recipes,
        metric="auc" if classifies else "rmse",
        better="higher" if classifies else "lower",
        goal=goal,
        brief=brief,
        fixed=FIXED,
    )


def load(kind: str, config: Config, data: str, fold: int, seed: int) -> Dataset:
    """60 % of the rows to train, 20 % to validate, 20 % to test; classes have the same shares in each.

    ``data``: empty draws a portfolio (:mod:`twinax.data.credit`); else ``file.csv`` or ``hf:ID``, where
    needed with ``#target=COLUMN&positive=VALUE``. Encoding (:mod:`twinax.data.table`) is learnt on the
    training rows alone; features and targets are float64.

    Raises:
        BadInput: The table or its target cannot be used.
    """
    found = _from_portfolio(kind, seed) if not data else _from_table(kind, table.parse(data))
    splits = split(found.target, kind == "classifier", seed)
    features = [name for name in found.table.columns if name != found.target_name]
    if not features:
        raise BadInput(f"{found.table.source} has no column but the target.", "Give columns to learn from.")
    learned = table.learn(found.table, features, splits["train"])
    inputs, unknown = table.encode(found.table, learned)
    target, preparation = _prepared(found, splits["train"])
    use = {
        name: ArrayExamples({"features": inputs[rows], **_rows(target, rows)}) for name, rows in splits.items()
    }
    aside = {name: _rows(_aside(found), splits[name]) for name in ("valid", "test")}
    sizes = {"features": inputs.shape[1], **({"classes": 2} if kind == "classifier" else {})}
    about = f"{found.about}; {len(features)} columns, {inputs.shape[1]} inputs"
    if strange := sum(map(len, unknown)):
        cells = "1 cell holds" if strange == 1 else f"{strange} cells hold"
        about += f"; {cells} a category that no training row has (all inputs 0)"
    preparation |= {"features": learned, "columns": list(found.table.columns)}
    return Dataset(use["train"], use["valid"], use["test"], sizes, preparation, aside, about)


def split(target: Array, stratified: bool, seed: int) -> dict[str, Array]:
    """Rows of ``train``, ``valid``, ``test``, each in rising order; drawn within each class if stratified."""
    rng = np.random.default_rng([seed, 0x5B117])
    parts: dict[str, list[Array]] = {"train": [], "valid": [], "test": []}
    strata = (
        [np.flatnonzero(target == c) for c in np.unique(target)] if stratified else [np.arange(len(target))]
    )
    for stratum in strata:
        rows = rng.permutation(stratum)
        first = round(SHARES[0] * len(rows))
        second = first + round(SHARES[1] * len(rows))
        for name, some in zip(parts, np.split(rows, [first, second]), strict=True):
            parts[name].append(some)
    return {name: np.sort(np.concatenate(some)) for name, some in parts.items()}


def _rows(arrays: Arrays, rows: Array) -> Arrays:
    return {name: array[rows] for name, array in arrays.items()}


def _prepared(found: Examples, train: Array) -> tuple[Arrays, dict[str, Json]]:
    """The target as it is learnt, and what leads back from it."""
    if found.classes:
        return {"labels": found.target}, {"target": found.target_name, "classes": list(found.classes)}
    mean, deviation = float(found.target[train].mean()), float(found.target[train].std())
    if deviation == 0:
        raise BadInput(
            f"{found.table.source}, column {found.target_name}: every training row has {mean:g}.",
            "Give a target that differs from row to row.",
        )
    scaled = (found.target - mean) / deviation
    return {"targets": scaled}, {"target": found.target_name, "scale": [mean, deviation]}


def _aside(found: Examples) -> Arrays:
    known = {} if found.truth is None else {"truth": found.truth}
    return {"labels" if found.classes else "targets": found.target, **known}


def _from_portfolio(kind: str, seed: int) -> Examples:
    """Loans and whether they defaulted; for a regressor, the loans that did, and the share that was lost."""
    if kind == "classifier":
        drawn = credit.portfolio(LOANS, seed)
        rows = np.arange(LOANS)
        target, truth, classes = drawn.default, drawn.probability, ("0", "1")
        about = f"{LOANS} made-up loans, best reachable AUC {credit.best_auc(truth):.4f}"
    else:
        drawn = credit.portfolio(4 * LOANS, seed)
        rows = np.flatnonzero(drawn.default)
        target, truth, classes = drawn.loss, drawn.expected_loss, None
        about = f"{len(rows)} made-up loans that defaulted, and the share that was lost"
    columns = {name: [str(value) for value in column[rows]] for name, column in drawn.columns.items()}
    name = USUAL_TARGETS[kind][0]
    return Examples(Table("the made-up portfolio", columns), name, target[rows], classes, truth[rows], about)


def _from_table(kind: str, source: Source) -> Examples:
    """A table with its target found and understood."""
    read = table.read(source.place)
    name = table.target_of(read, source.target, USUAL_TARGETS[kind])
    if len(read) < FEWEST_ROWS:
        raise BadInput(
            f"{read.source} has {len(read)} rows; a training needs at least {FEWEST_ROWS}.", "Give more rows."
        )
    if kind == "regressor":
        return Examples(read, name, table.numbers(read, name), None, None, f"{len(read)} rows of {read.source}")
    cells = table.texts(read, name)
    classes = _classes(read, name, cells, source.positive)
    labels = np.array([cell == classes[1] for cell in cells], np.int64)
    few = min(labels.sum(), len(labels) - labels.sum())
    if few < FEWEST_OF_A_CLASS:
        raise BadInput(
            f"{read.source}, column {name}: only {few} rows of one class; each needs {FEWEST_OF_A_CLASS}.",
            "Give more rows of the rarer class.",
        )
    about = f"{len(read)} rows of {read.source}, {labels.sum()} of them with {name} = {classes[1]}"
    return Examples(read, name, labels, classes, None, about)


def _classes(read: Table, name: str, cells: Sequence[str], positive: str) -> tuple[str, str]:
    """The text of class 0 and of class 1: of two numbers the larger, of two texts a known pair's second."""
    values = sorted(set(cells))
    where = f"{read.source}, column {name}"
    if len(values) != 2:
        shown = ", ".join(values[:5]) + (", …" if len(values) > 5 else "")
        what = "only one class" if len(values) == 1 else f"{len(values)} different values, not two classes"
        raise BadInput(f"{where}: {what} ({shown}).", "Give a target that says yes or no (0 or 1) in each row.")
    if positive:
        if positive not in values:
            raise BadInput(f"{where} has no value {positive}; it has {values[0]} and {values[1]}.", "Name one.")
        return (values[0], values[1]) if values[1] == positive else (values[1], values[0])
    if all(re.fullmatch(r"[-+]?\d+(\.\d*)?", value) for value in values):
        low, high = sorted(values, key=float)
        return low, high
    for pair in KNOWN_PAIRS:
        if {value.lower() for value in values} == set(pair):
            zero, one = sorted(values, key=lambda value: pair.index(value.lower()))
            return zero, one
    raise BadInput(
        f"{where}: which of {values[0]} and {values[1]} is a default?",
        f"Say it: {read.source}#target={name}&positive={values[1]}",
    )


def prepare(config: Config, preparation: Mapping[str, Json], file: Path) -> tuple[Arrays, list[Row]]:
    """A user's rows as inputs; the target column may be missing, and other columns are carried along.

    A category that no training row had leaves all of its column's inputs 0; where a file has such, its rows
    say in ``unknown_categories`` in which columns.

    Raises:
        BadInput: A column is missing, or a cell cannot be used.
    """
    columns = list(preparation["columns"])
    without = [name for name in columns if name != preparation["target"]]
    read = table.read(str(file), columns)
    if not read.headed and len(read.columns) == len(without):
        read = table.read(str(file), without)
    inputs, unknown = table.encode(read, preparation["features"])
    rows: list[Row] = [
        dict(zip(read.columns, cells, strict=True)) for cells in zip(*read.columns.values(), strict=True)
    ]
    if any(unknown):
        if UNKNOWN in read.columns:
            raise BadInput(
                f"{file} has the column {UNKNOWN} already, which the one of the prediction would replace.",
                "Rename that column, or leave it out.",
            )
        rows = [{**row, UNKNOWN: " ".join(some)} for row, some in zip(rows, unknown, strict=True)]
    return {"features": inputs}, rows


def predictions(preparation: Mapping[str, Json], outputs: Arrays) -> list[Row]:
    """By row: the probability of the class that counts as default; or the target, in its own unit."""
    if "classes" in preparation:
        told = outputs.get("calibrated", outputs["probability"])
        return [{"probability_of_default": float(p)} for p in told[:, 1]]
    name = f"predicted_{preparation['target']}"
    return [{name: float(value)} for value in _unscaled(preparation, outputs["prediction"])]


def _unscaled(preparation: Mapping[str, Json], values: Array) -> Array:
    mean, deviation = preparation["scale"]
    return mean + deviation * np.asarray(values, np.float64)


def classifier_scores(preparation: Mapping[str, Json], aside: Arrays, outputs: Arrays) -> dict[str, float]:
    """How well a probability of default ranks (AUC, KS) and how true it is (Brier, log loss, calibration)."""
    scores = probability_scores(aside["labels"], outputs["probability"][:, 1])
    if "calibrated" in outputs:
        calibrated = probability_scores(aside["labels"], outputs["calibrated"][:, 1])
        scores |= {
            f"{name}_calibrated": calibrated[name] for name in ("brier", "log_loss", "calibration_error")
        }
    return scores


def probability_scores(labels: Array, probability: Array) -> dict[str, float]:
    """Scores of probabilities (n,) of label 1; NaN where one is NaN.

    ``auc``: area under the ROC curve, ties counted half. ``ks``: largest distance between the two classes'
    distribution functions (Kolmogorov–Smirnov). ``brier``: mean (p − y)². ``accuracy``: share on the right side
    of 0.5. ``log_loss``: mean negative log-likelihood, p kept within 2⁻⁵² of 0 and 1. ``calibration_error``:
    mean distance of p and y, averaged in ten bins of equal width (Naeini et al., 2015).
    """
    from scipy.stats import ks_2samp
    from sklearn.metrics import roc_auc_score

    y, p = np.asarray(labels, np.float64), np.asarray(probability, np.float64)
    if not np.isfinite(p).all():
        nan = float("nan")
        return dict.fromkeys(("auc", "ks", "brier", "accuracy", "log_loss", "calibration_error"), nan)
    inside = np.clip(p, 2.0**-52, 1 - 2.0**-52)
    bins = np.minimum((p * BINS).astype(np.int64), BINS - 1)
    gaps = np.abs(np.bincount(bins, weights=p - y, minlength=BINS))
    return {
        "auc": float(roc_auc_score(y, p)),
        "ks": float(ks_2samp(p[y == 1], p[y == 0], method="asymp").statistic),  # pyright: ignore
        "brier": float(np.mean((p - y) ** 2)),
        "accuracy": float(np.mean((p > 0.5) == (y == 1))),
        "log_loss": float(-np.mean(y * np.log(inside) + (1 - y) * np.log1p(-inside))),
        "calibration_error": float(gaps.sum() / len(y)),
    }


def regressor_scores(preparation: Mapping[str, Json], aside: Arrays, outputs: Arrays) -> dict[str, float]:
    """Errors in the target's own unit."""
    return error_scores(aside["targets"], _unscaled(preparation, outputs["prediction"]))


def error_scores(targets: Array, predicted: Array) -> dict[str, float]:
    """``rmse``, ``mae`` and ``r2`` (1 − squared error / that of the mean; −inf if targets are equal)."""
    error = np.asarray(predicted, np.float64) - targets
    spread = float(np.mean((targets - np.mean(targets)) ** 2))
    square = float(np.mean(error**2))
    r2 = 1 - square / spread if spread else float("-inf")
    return {"rmse": square**0.5, "mae": float(np.mean(np.abs(error))), "r2": r2}


def classifier_baselines(dataset: Dataset) -> dict[str, dict[str, float]]:
    """The share of defaults for everyone, a logistic regression, and the truth where it is known."""
    from sklearn.linear_model import LogisticRegression

    train, test = _all(dataset.train), _all(dataset.test)
    labels, aside = test["labels"], dataset.aside["test"]
    logistic = LogisticRegression(max_iter=1000).fit(train["features"], train["labels"])
    rate = np.full(len(labels), train["labels"].mean())
    found = {
        "the mean for everyone": probability_scores(labels, rate),
        "logistic regression": probability_scores(labels, logistic.predict_proba(test["features"])[:, 1]),
    }
    if "truth" in aside:
        found["true probability"] = probability_scores(labels, aside["truth"])
    return found


def regressor_baselines(dataset: Dataset) -> dict[str, dict[str, float]]:
    """The training mean for everyone, a linear regression, and the true mean where it is known."""
    from sklearn.linear_model import LinearRegression

    train, test = _all(dataset.train), _all(dataset.test)
    targets = dataset.aside["test"]["targets"]
    linear = LinearRegression().fit(train["features"], train["targets"])

    def scored(values: Array) -> dict[str, float]:
        return error_scores(targets, _unscaled(dataset.preparation, values))

    found = {
        "the mean for everyone": scored(np.zeros(len(targets))),
        "linear regression": scored(linear.predict(test["features"])),
    }
    if "truth" in dataset.aside["test"]:
        found["true mean"] = error_scores(targets, dataset.aside["test"]["truth"])
    return found


def _all(examples) -> Arrays:
    return examples.take(np.arange(len(examples)), 0)
