"""The task of ``lstm`` and ``gru``: from past days' prices to the coming days' return and volatility.

Walk-forward: a fold learns on the days up to a cut, chooses its best weights on the stretch after it, and is
tested on the stretch after that; the next fold's cut lies later. Whatever is fitted (scaler, baselines) is
fitted on the days up to the fold's cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from twinax.data import ohlcv, prices
from twinax.errors import BadInput
from twinax.records import Json, Recipe, Size
from twinax.twin import Array, ArrayExamples, Arrays, Config, Dataset, Row, Task
from twinax.zoo.forecasting_baselines import History, forecasts

FEATURES = ("return", "log_volatility", "overnight", "volume_change")
RETURN, LOG_VOLATILITY = 0, 1
DAYS = 4000  # of the made series
FOLDS = 3
FIRST, STRETCH = 0.5, 0.125  # shares of all days: the first fold's training days, and each stretch after a cut
LEAST = 1e-4  # volatility of a day on which no price moved


def daily(found: ohlcv.Prices) -> tuple[Array, Array]:
    """Features of each day but the first: (days − 1, 4) float64, and their dates.

    ``return``: ln C_t / C_{t−1}. ``log_volatility``: ln of √(ln²(H/L) / (4 ln 2)) (Parkinson, *Journal of
    Business* 53, 1980), or, on a day with H = L, of |return| √(π/2), which estimates the same for normal
    returns; at least one basis point. ``overnight``: ln O_t / C_{t−1}. ``volume_change``: ln V_t / V_{t−1}, 0
    where one of the two is unknown or 0.
    """
    returns = np.diff(np.log(found.close))
    overnight = np.log(found.open[1:] / found.close[:-1])
    spread = np.log(found.high[1:] / found.low[1:]) / np.sqrt(4 * np.log(2))
    volatility = np.where(spread > 0, spread, np.abs(returns) * np.sqrt(np.pi / 2))
    volume = np.zeros(len(found)) if found.volume is None else found.volume
    known = (volume[1:] > 0) & (volume[:-1] > 0)
    change = np.where(known, np.diff(np.log(np.maximum(volume, 1))), 0.0)
    features = [returns, np.log(np.maximum(volatility, LEAST)), overnight, change]
    return np.stack(features, axis=1), found.dates[1:]


@dataclass(frozen=True)
class Scaler:
    """Mean and standard deviation of each feature over the training days."""

    mean: Array
    deviation: Array

    @classmethod
    def fit(cls, days: Array) -> Scaler:
        """``days``: (days, features). A feature that never changes keeps its unit."""
        deviation = days.std(axis=0)
        return cls(days.mean(axis=0), np.where(deviation > 1e-12, deviation, 1.0))

    @classmethod
    def of(cls, preparation: Mapping[str, Json]) -> Scaler:
        """As :meth:`json` wrote it."""
        return cls(
            np.asarray(preparation["mean"], np.float64), np.asarray(preparation["deviation"], np.float64)
        )

    @property
    def json(self) -> dict[str, Json]:
        """For a checkpoint; decimal text returns the same bits."""
        return {"features": list(FEATURES), "mean": self.mean.tolist(), "deviation": self.deviation.tolist()}

    def scaled(self, days: Array) -> Array:
        return (days - self.mean) / self.deviation

    def unscaled(self, values: Array, feature: int) -> Array:
        """One feature's standardised values in its own unit."""
        return np.asarray(values, np.float64) * self.deviation[feature] + self.mean[feature]


def windows(days: Array, ends: Array, window: int) -> Array:
    """The ``window`` days up to and with each end: (ends, window, features) float32."""
    return days[ends[:, None] + np.arange(1 - window, 1)].astype(np.float32)


def targets(days: Array, ends: Array, horizon: int) -> dict[str, Array]:
    """What the ``horizon`` days after each end brought: two arrays (ends, horizon)."""
    after = ends[:, None] + np.arange(1, horizon + 1)
    return {"returns": days[after, RETURN], "log_volatility": days[after, LOG_VOLATILITY]}


@dataclass(frozen=True)
class Cuts:
    """Where a fold's stretches end, in days: training on [0, train), then [train, valid), [valid, test)."""

    train: int
    valid: int
    test: int

    @classmethod
    def of(cls, days: int, fold: int) -> Cuts:
        cut = FIRST + fold * STRETCH
        return cls(*(int(days * share) for share in (cut, cut + STRETCH, cut + 2 * STRETCH)))

    def ends(self, window: int, horizon: int) -> dict[str, Array]:
        """Numbers of the last day of each window, by split: all of its targets lie in the split's stretch."""
        return {
            "train": np.arange(window - 1, self.train - horizon),
            "valid": np.arange(self.train - 1, self.valid - horizon),
            "test": np.arange(self.valid - 1, self.test - horizon),
        }


def load(config: Config, data: str, fold: int, seed: int) -> Dataset:
    """Windows of days, standardised by the training days.

    ``data``: ``""`` for a made series (:mod:`twinax.data.prices`), ``sp500`` or ``nasdaq`` (the package arch),
    ``hf:ID``, or the path of a CSV file.

    Raises:
        BadInput: A setting or the data cannot be used.
    """
    window, horizon = _sizes(config)
    if not 0 <= fold < FOLDS:
        raise BadInput(f"There is no fold {fold + 1}; folds are 1 to {FOLDS}.", "Give a fold that there is.")
    found = ohlcv.load(data) if data else prices.generate(DAYS, seed).prices
    _require_days(found, window, horizon, data)
    days, dates = daily(found)
    cuts = Cuts.of(len(days), fold)
    scaler = Scaler.fit(days[: cuts.train])
    scaled = scaler.scaled(days)
    ends = cuts.ends(window, horizon)
    splits = {split: _examples(scaled, at, window, horizon) for split, at in ends.items()}
    aside: dict[str, Arrays] = {
        split: {
            "ends": ends[split],
            "dates": dates[ends[split]].astype(np.int64),  # days since 1970-01-01
            "last_log_volatility": days[ends[split], LOG_VOLATILITY],
            **targets(days, ends[split], horizon),
        }
        for split in ("valid", "test")
    }
    # for the baselines, which see single days: those of training, and the later ones to look back from
    aside["history"] = {"days": days[: cuts.test, : LOG_VOLATILITY + 1], "train_days": np.asarray(cuts.train)}
    about = (
        f"{data or 'made prices with regimes of volatility'}: {len(found):,} days, {found.dates[0]} to "
        f"{found.dates[-1]}; fold {fold + 1} of {FOLDS}: "
        f"{', '.join(f'{len(ends[split]):,} {split}' for split in splits)} windows of {window} days"
    )
    return Dataset(
        train=splits["train"],
        valid=splits["valid"],
        test=splits["test"],
        config={"features": len(FEATURES)},
        preparation={**scaler.json, "volume": found.volume is not None},
        aside=aside,
        about=about,
    )


def _examples(scaled: Array, ends: Array, window: int, horizon: int) -> ArrayExamples:
    after = {name: array.astype(np.float32) for name, array in targets(scaled, ends, horizon).items()}
    lengths = np.full(len(ends), window, dtype=np.int64)
    return ArrayExamples({"features": windows(scaled, ends, window), "lengths": lengths, **after})


def _sizes(config: Config) -> tuple[int, int]:
    """The window and the horizon.

    Raises:
        BadInput: A size of the configuration is no size.
    """
    for key in ("window", "horizon", "hidden", "layers"):
        if isinstance(config[key], bool) or not isinstance(config[key], int) or config[key] < 1:
            raise BadInput(f"{key} = {config[key]!r} must be a whole number above 0.", f"For example: {key}=1")
    if not 0 <= config["dropout"] < 1:
        raise BadInput(
            f"dropout = {config['dropout']!r} must be at least 0 and below 1.", "For example: dropout=0.2"
        )
    return config["window"], config["horizon"]


def _require_days(found: ohlcv.Prices, window: int, horizon: int, data: str) -> None:
    """Every stretch needs a window, and the linear baselines a month to look back and some days to fit."""
    need = int((max(window, 22) + horizon + 30) / STRETCH) + 1
    if len(found) < need:
        raise BadInput(
            f"{data or 'The made series'} has {len(found):,} days; a window of {window} and a horizon of "
            f"{horizon} need {need:,} for training and tests.",
            "Give more days, or a shorter window.",
        )


def prepare(config: Config, preparation: Mapping[str, Json], file: Path) -> tuple[Arrays, list[Row]]:
    """Every window of a CSV file; a row is what is forecast at the close of its date.

    Raises:
        BadInput: The file cannot be used, lacks the volume that was learnt from, or is shorter than a window.
    """
    window, _ = _sizes(config)
    found = ohlcv.read(file)
    if not preparation["volume"]:
        found = replace(found, volume=None)
    elif found.volume is None:
        raise BadInput(
            f"{file} lacks the column volume, from which the model has learnt.",
            "Add it, or train on data without volume.",
        )
    if len(found) <= window:
        raise BadInput(
            f"{file} has {len(found)} days; a window of {window} returns needs {window + 1}.", "Give more days."
        )
    days, dates = daily(found)
    ends = np.arange(window - 1, len(days))
    scaled = Scaler.of(preparation).scaled(days)
    lengths = np.full(len(ends), window, dtype=np.int64)
    rows: list[Row] = [{"date": str(dates[end]), "close": float(found.close[end + 1])} for end in ends]
    return {"features": windows(scaled, ends, window), "lengths": lengths}, rows


def predictions(preparation: Mapping[str, Json], outputs: Arrays) -> list[Row]:
    """For each coming day: the log return and the volatility (standard deviation of a day's log return)."""
    returns, volatility = _in_own_units(preparation, outputs)
    return [
        {
            **{f"return_{day}": float(value) for day, value in enumerate(r, 1)},
            **{f"volatility_{day}": float(value) for day, value in enumerate(v, 1)},
        }
        for r, v in zip(returns, volatility, strict=True)
    ]


def _in_own_units(preparation: Mapping[str, Json], outputs: Arrays) -> tuple[Array, Array]:
    """Returns and volatility (not its logarithm): (examples, horizon) each."""
    scaler = Scaler.of(preparation)
    log_volatility = scaler.unscaled(outputs["log_volatility"], LOG_VOLATILITY)
    return scaler.unscaled(outputs["returns"], RETURN), np.exp(log_volatility)


def scores(preparation: Mapping[str, Json], aside: Arrays, outputs: Arrays) -> dict[str, float]:
    """How far the forecasts were off; see :func:`judged`."""
    return judged(aside, *_in_own_units(preparation, outputs))


def judged(aside: Arrays, returns: Array, volatility: Array) -> dict[str, float]:
    """Scores of forecasts in their own units, (examples, horizon) each.

    ``volatility_rmse`` and ``return_rmse`` are in per cent per day; ``volatility_rmse_over_naive`` is the
    first over that of the last day's volatility. ``volatility_qlike``: mean of q − ln q − 1 with q the true
    over the forecast variance (Patton, *Journal of Econometrics* 160, 2011). ``sign_accuracy``: share of
    returns whose direction was foreseen, of those that have one; left out where no forecast has a direction.
    """
    true = np.exp(aside["log_volatility"])
    naive = np.exp(aside["last_log_volatility"])[:, None]
    rmse, naive_rmse = _rmse(volatility, true), _rmse(naive, true)
    if naive_rmse == 0:
        raise BadInput(
            "The volatility never changes over the days to be scored: there is nothing to forecast.",
            "Give prices that move.",
        )
    q = np.square(true / volatility)
    moved = aside["returns"] != 0
    found = {
        "volatility_rmse": 100 * rmse,
        "volatility_rmse_over_naive": rmse / naive_rmse,
        "volatility_qlike": float(np.mean(q - np.log(q) - 1)),
        "return_rmse": 100 * _rmse(returns, aside["returns"]),
    }
    if returns.any():
        same = np.sign(returns[moved]) == np.sign(aside["returns"][moved])
        found["sign_accuracy"] = float(np.mean(same))
    return found


def _rmse(found: Array, true: Array) -> float:
    return float(np.sqrt(np.mean(np.square(found - true))))


def baselines(dataset: Dataset) -> dict[str, dict[str, float]]:
    """The test scores of simpler ways (:mod:`twinax.zoo.forecasting_baselines`), by name."""
    history, test = dataset.aside["history"], dataset.aside["test"]
    days = history["days"]
    past = History(days[:, RETURN], days[:, LOG_VOLATILITY], int(history["train_days"]))
    found = forecasts(past, test["ends"], test["returns"].shape[1])
    return {name: {} if made is None else judged(test, *made) for name, made in found.items()}


def batches(config: Config, size: Size, seed: int, count: int) -> list[Arrays]:
    """Windows of a made series: ``features`` (batch, time, 4), ``lengths`` (batch,), and both targets.

    Lengths go from 1 to all of ``time``, which the first example has; features after the end are 0.
    """
    time, horizon = size.dims["time"], int(config["horizon"])
    days, _ = daily(prices.generate(time + horizon + 500, seed).prices)
    scaled = Scaler.fit(days).scaled(days)
    rng = np.random.default_rng([seed, 0x1F])
    made = []
    for _ in range(count):
        ends = rng.integers(time - 1, len(days) - horizon, size.batch)
        lengths = rng.integers(1, time + 1, size.batch)
        lengths[0] = time
        seen = windows(scaled, ends, time)
        # the last days of each window, at its beginning: the sequence ends where the forecast begins
        index = (np.arange(time) + (time - lengths)[:, None]) % time
        past = np.take_along_axis(seen, index[:, :, None], axis=1)
        past[np.arange(time) >= lengths[:, None]] = 0
        after = {name: array.astype(np.float32) for name, array in targets(scaled, ends, horizon).items()}
        made.append({"features": past, "lengths": lengths.astype(np.int64), **after})
    return made


CONFIG: Config = {
    "features": len(FEATURES),
    "hidden": 128,
    "layers": 2,
    "bidirectional": False,
    "dropout": 0.2,
    "horizon": 1,
    "window": 64,
}
"""The recipe ``full`` has this; also what is measured."""

PRESETS = {
    "parity": Size(batch=4, dims={"time": 12}),
    "parity_quick": Size(batch=3, dims={"time": 8}),
    "speed": Size(batch=32, dims={"time": 64}),
    "speed_quick": Size(batch=16, dims={"time": 32}),
}

TASK = Task(
    load=load,
    prepare=prepare,
    scores=scores,
    baselines=baselines,
    predictions=predictions,
    recipes={
        "tiny": Recipe(
            config={"hidden": 32, "layers": 1, "dropout": 0.0, "window": 32},
            optimizer="adamw",
            learning_rate=3e-3,
            weight_decay=0.01,
            schedule="cosine",
            epochs=20,
            batch=64,
            clip=1.0,
            patience=8,
        ),
        "full": Recipe(
            optimizer="adamw",
            learning_rate=1e-3,
            weight_decay=0.01,
            schedule="cosine",
            warmup=50,
            epochs=60,
            batch=64,
            clip=1.0,
            patience=12,
        ),
    },
    metric="volatility_rmse",
    better="lower",
    goal={
        "at_most": {"volatility_rmse_over_naive": 0.95},
        "claim": "The volatility of the next day is forecast with at least 5 % less error (RMSE) than by that "
        "of the last day. Of the return nothing is promised: prices are close to a random walk.",
    },
    folds=FOLDS,
    fixed={"features": f"they are those of a day: {', '.join(FEATURES)}"},
)
