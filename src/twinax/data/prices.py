"""Made daily prices whose volatility comes in regimes, and is known.

The return of day t is r_t = m + s_t z_t. The volatility s_t = k(regime) · g_t has two parts: a Markov chain
with three persistent regimes (Hamilton, *Econometrica* 57, 1989), and a GARCH(1,1) (Bollerslev, *Journal of
Econometrics* 31, 1986) around 1, g_t² = (1 − a − b) + g_{t−1}² (a z_{t−1}² + b). The shocks z_t follow
Student's t with 6 degrees of freedom, scaled to variance 1: a normal shock whose variance is itself drawn.
A fifth of a day's variance falls into the night; the rest is a random walk of 96 steps, whose extremes are
high and low.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twinax.data.ohlcv import Prices
from twinax.twin import Array

DAILY = np.array([0.006, 0.011, 0.026])
"""k: the standard deviation of a day's return in each regime."""
STAY = np.array([0.990, 0.985, 0.960])
"""Chance that the next day is in the same regime; the others share the rest."""
ALPHA, BETA = 0.08, 0.88
FREEDOM = 6.0  # degrees of Student's t
DRIFT = 0.0002
NIGHT = 0.2  # share of a day's variance before the market opens
STEPS = 96  # of the random walk of a day


@dataclass(frozen=True)
class Made:
    """Prices, and what a real market would not tell.

    Attributes:
        prices: Days in order.
        volatility: s_t, the standard deviation of each day's return given all days before: (days,).
        regime: 0 calm, 1 ordinary, 2 crisis: (days,).
    """

    prices: Prices
    volatility: Array
    regime: Array


def generate(days: int, seed: int) -> Made:
    """``days`` trading days (Monday to Friday) from 3 January 2000 on; the same for the same seed.

    A shorter series is the beginning of no longer one: everything is drawn for all days at once.
    """
    rng = np.random.default_rng([seed, 0x0A])
    regime = _regimes(days, rng)
    # Student's t as a scale mixture: z = √w · normal, with E[w] = 1
    w = (FREEDOM - 2) / rng.chisquare(FREEDOM, days)
    night = rng.standard_normal(days) * np.sqrt(NIGHT)
    path = np.cumsum(rng.standard_normal((days, STEPS)) * np.sqrt((1 - NIGHT) / STEPS), axis=1)
    z = np.sqrt(w) * (night + path[:, -1])
    volatility = DAILY[regime] * _garch(z)

    scale = volatility * np.sqrt(w)
    closes = np.log(100.0) + np.cumsum(DRIFT + scale * (night + path[:, -1]))
    before = np.concatenate([[np.log(100.0)], closes[:-1]])
    opens = before + DRIFT + scale * night
    walk = np.concatenate([np.zeros((days, 1)), scale[:, None] * path], axis=1)  # from the open on
    quiet = rng.standard_normal(days) * 0.2
    prices = Prices(
        dates=np.busday_offset("2000-01-03", np.arange(days), roll="forward"),
        open=np.exp(opens),
        high=np.exp(opens + walk.max(axis=1)),
        low=np.exp(opens + walk.min(axis=1)),
        close=np.exp(opens + walk[:, -1]),
        volume=np.rint(1e6 * np.exp(0.5 * np.log(scale / DAILY[1]) + quiet)),
    )
    return Made(prices, volatility, regime)


def _regimes(days: int, rng: np.random.Generator) -> Array:
    """A Markov chain that begins in the ordinary regime: (days,) of 0, 1, 2."""
    leave = (1 - STAY)[:, None] * (1 - np.eye(len(STAY))) / (len(STAY) - 1)
    edges = np.cumsum(np.diag(STAY) + leave, axis=1)
    regime, state = np.empty(days, dtype=np.int64), 1
    for day, chance in enumerate(rng.random(days)):
        regime[day] = state
        state = min(int(np.searchsorted(edges[state], chance, side="right")), len(STAY) - 1)
    return regime


def _garch(z: Array) -> Array:
    """g_t for the shocks z_t, from g_0 = 1: (days,)."""
    g2, found = 1.0, np.empty(len(z))
    for day, shock in enumerate(z):
        found[day] = g2
        g2 = (1 - ALPHA - BETA) + g2 * (ALPHA * shock**2 + BETA)
    return np.sqrt(found)
