"""Simpler forecasts of return and volatility: what a recurrent network must be held against."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from twinax.twin import Array

Forecast = tuple[Array, Array]
"""Returns and volatility, (examples, horizon) each, in the data's own units."""

DAY, WEEK, MONTH = 1, 5, 22
LAGS = 5  # of the autoregression of returns


@dataclass(frozen=True)
class History:
    """Single days: returns and log-volatility, (days,) each; only the first ``train_days`` may be fitted to."""

    returns: Array
    log_volatility: Array
    train_days: int


def forecasts(history: History, ends: Array, horizon: int) -> dict[str, Forecast | None]:
    """What each way forecasts at the end of the days ``ends``; None where it cannot, which its name explains.

    ``last value``: the coming days will be like the last. ``random walk``: the same for volatility; prices
    stay. ``linear``: HAR for log-volatility (Corsi, *Journal of Financial Econometrics* 7, 2009), an
    autoregression for returns, by least squares. ``GARCH(1,1)``: see :func:`garch`; its return is the mean.
    """
    shape = (len(ends), horizon)
    last_return = np.broadcast_to(history.returns[ends, None], shape)
    last_volatility = np.broadcast_to(np.exp(history.log_volatility[ends, None]), shape)
    found: dict[str, Forecast | None] = {
        "last value": (last_return, last_volatility),
        "random walk": (np.zeros(shape), last_volatility),
        "linear": (
            _regression(history.returns, _lagged, history.train_days, ends, horizon),
            np.exp(_regression(history.log_volatility, _averages, history.train_days, ends, horizon)),
        ),
    }
    try:
        found["GARCH(1,1)"] = garch(history, ends, horizon)
    except ImportError:
        found["GARCH(1,1): left out, needs `pip install arch`"] = None
    return found


def _lagged(series: Array, ends: Array) -> Array:
    """1 and the last five values at each end: (ends, 6)."""
    return np.column_stack([np.ones(len(ends)), *(series[ends - lag] for lag in range(LAGS))])


def _averages(series: Array, ends: Array) -> Array:
    """1 and the mean of the last day, week and month at each end: (ends, 4)."""
    total = np.concatenate([[0.0], np.cumsum(series)])
    means = [(total[ends + 1] - total[ends + 1 - span]) / span for span in (DAY, WEEK, MONTH)]
    return np.column_stack([np.ones(len(ends)), *means])


def _regression(
    series: Array, regressors: Callable[[Array, Array], Array], train_days: int, ends: Array, horizon: int
) -> Array:
    """A least-squares fit on the training days for each day ahead, at the ends: (ends, horizon)."""
    columns = []
    for ahead in range(1, horizon + 1):
        fitted = np.arange(MONTH - 1, train_days - ahead)  # the target is a training day too
        weights, *_ = np.linalg.lstsq(regressors(series, fitted), series[fitted + ahead], rcond=None)
        columns.append(regressors(series, ends) @ weights)
    return np.stack(columns, axis=1)


def garch(history: History, ends: Array, horizon: int) -> Forecast:
    """GARCH(1,1) (Bollerslev, 1986), fitted by the package arch on the training days' returns.

    s²_{t+1} = ω + α (r_t − m)² + β s²_t is then carried on day by day with the fitted numbers, and further
    ahead with its expectation. The volatility that is forecast is measured by the day's range, which leaves
    the night out: the forecast is scaled by the ratio of the two means over the training days.

    Raises:
        ImportError: The package is not installed.
    """
    from arch import arch_model

    percent = 100 * history.returns  # arch's optimiser wants numbers around 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it thinks of its start values
        model = arch_model(percent[: history.train_days], mean="Constant", vol="GARCH", p=1, q=1)
        mean, omega, alpha, beta = model.fit(disp="off").params
    variance = np.empty(len(percent) + 1)  # of day t, given the days before
    variance[0] = np.var(percent[: history.train_days])
    for day, shock in enumerate(percent - mean):
        variance[day + 1] = omega + alpha * shock**2 + beta * variance[day]
    ahead = [variance[ends + 1]]
    for _ in range(horizon - 1):
        ahead.append(omega + (alpha + beta) * ahead[-1])
    trained = slice(MONTH, history.train_days)  # without the days on which the start value still shows
    scale = np.exp(history.log_volatility[trained]).mean() / np.sqrt(variance[trained]).mean()
    returns = np.full((len(ends), horizon), mean / 100)
    return returns, np.sqrt(np.stack(ahead, axis=1)) * scale
