"""A made-up credit portfolio whose true default probabilities are known.

Real portfolios show who defaulted, never how likely it was, so nobody can say how good a score could
have been. Here every borrower's probability is a stated formula of what the score sees, and whether he
defaults is drawn with it: the best reachable AUC, Brier score and error follow from the formula.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twinax.twin import Array

PURPOSES = ("car", "home", "education", "business", "travel")
HOUSING = ("own", "rent", "family")
TERMS = (12, 24, 36, 48, 60)

_PURPOSE_ODDS = {"car": 0.0, "home": -0.5, "education": 0.2, "business": 0.5, "travel": 0.4}
_PURPOSE_LOSS = {"car": 0.0, "home": -0.8, "education": 0.5, "business": 0.3, "travel": 0.6}
_CERTAINTY = 6.0  # of the Beta distribution of losses: its two parameters add up to this
_WORD = 0xC4ED17  # so that another generator with the same seed draws other numbers


@dataclass(frozen=True)
class Portfolio:
    """Loans, row by row.

    Attributes:
        columns: What a score sees: numbers, and text for ``purpose`` and ``housing``.
        default: Whether the loan defaulted (0 or 1), drawn with ``probability``.
        loss: The share of the loan that is lost if it defaults (0 to 1), drawn around ``expected_loss``.
        probability: The true probability of default.
        expected_loss: The true mean of ``loss``.
    """

    columns: dict[str, Array]
    default: Array
    loss: Array
    probability: Array
    expected_loss: Array


def portfolio(loans: int, seed: int) -> Portfolio:
    """Draw a portfolio.

    Features: ``age`` (years), ``income`` (thousands a year), ``employment_years``, ``loan_amount``
    (thousands), ``term_months``, ``debt_ratio`` (other debt service over income), ``utilisation`` (of credit
    lines), ``delinquencies`` (late payments in two years), ``purpose``, ``housing``. They are rounded as
    a form would have them, and the formulas below are of the rounded values.
    """
    rng = np.random.default_rng([seed, _WORD])
    age = np.clip(np.round(rng.gamma(6.0, 4.0, loans) + 19), 19, 80)
    income = np.round(np.exp(rng.normal(3.6, 0.5, loans) - ((age - 48) / 50) ** 2), 1)
    employment = np.round(rng.uniform(0, 1, loans) * np.minimum(age - 18, 30))
    amount = np.round(income * np.exp(rng.normal(-0.9, 0.7, loans)), 1)
    utilisation = np.round(rng.beta(1.3, 1.9, loans), 3)
    columns = {
        "age": age,
        "income": income,
        "employment_years": employment,
        "loan_amount": amount,
        "term_months": rng.choice(np.array(TERMS, dtype=np.float64), loans),
        "debt_ratio": np.round(rng.beta(2.0, 4.5, loans), 3),
        "utilisation": utilisation,
        "delinquencies": rng.poisson(0.25 + 0.9 * utilisation**2).astype(np.float64),
        "purpose": rng.choice(np.array(PURPOSES), loans, p=[0.34, 0.24, 0.12, 0.16, 0.14]),
        "housing": rng.choice(np.array(HOUSING), loans, p=[0.45, 0.42, 0.13]),
    }
    probability, expected = default_probability(columns), expected_loss(columns)
    return Portfolio(
        columns=columns,
        default=(rng.random(loans) < probability).astype(np.int64),
        loss=rng.beta(_CERTAINTY * expected, _CERTAINTY * (1 - expected)),
        probability=probability,
        expected_loss=expected,
    )


def default_probability(columns: dict[str, Array]) -> Array:
    """The true probability of default, 1 / (1 + e^−z), by row.

    z = −2.0 + 3 tanh(6 (b − 0.22)) + 1.2 log(1 + late) + 1.1 ((age − 42) / 14)² / (1 + ((age − 42) / 14)²)
    + 6 max(u − 0.6, 0) + 3.5 u r [renting] − 0.9 [owning and r < 0.3] − 0.4 log(1 + employed) + purpose,

    with the burden b = instalments of a year / income, u the utilisation and r the debt ratio. Bends,
    thresholds and products are what a linear score cannot follow.
    """
    burden = columns["loan_amount"] / (columns["term_months"] / 12) / columns["income"]
    use, ratio, housing = columns["utilisation"], columns["debt_ratio"], columns["housing"]
    off = ((columns["age"] - 42) / 14) ** 2
    z = (
        -2.0
        + 3.0 * np.tanh(6 * (burden - 0.22))
        + 1.2 * np.log1p(columns["delinquencies"])
        + 1.1 * off / (1 + off)
        + 6.0 * np.maximum(use - 0.6, 0)
        + 3.5 * use * ratio * (housing == "rent")
        - 0.9 * ((housing == "own") & (ratio < 0.3))
        - 0.4 * np.log1p(columns["employment_years"])
        + _by_name(columns["purpose"], _PURPOSE_ODDS)
    )
    return 1 / (1 + np.exp(-z))


def expected_loss(columns: dict[str, Array]) -> Array:
    """The true mean share that is lost if the loan defaults, 0.05 + 0.9 / (1 + e^−w), by row.

    w = −0.6 + 1.2 tanh(3 (a / i − 0.5)) + 2.5 (r − 0.3) − 0.8 [owning] + 1.5 max(u − 0.5, 0) + purpose, with
    the amount a, the income i, the debt ratio r and the utilisation u.
    """
    w = (
        -0.6
        + 1.2 * np.tanh(3 * (columns["loan_amount"] / columns["income"] - 0.5))
        + 2.5 * (columns["debt_ratio"] - 0.3)
        - 0.8 * (columns["housing"] == "own")
        + 1.5 * np.maximum(columns["utilisation"] - 0.5, 0)
        + _by_name(columns["purpose"], _PURPOSE_LOSS)
    )
    return 0.05 + 0.9 / (1 + np.exp(-w))


def best_auc(probability: Array) -> float:
    """The AUC that is expected of the true probabilities themselves; no score can expect a higher one.

    Over all pairs of two loans: the probability that the riskier one defaults and the other does not,
    among those that exactly one of the two does; equally risky ones count half.
    """
    p = np.sort(np.asarray(probability, np.float64))
    bad, good = p, 1 - p
    before = np.concatenate([[0.0], np.cumsum(good)])  # expected good loans among the first i
    low, high = np.searchsorted(p, p, "left"), np.searchsorted(p, p, "right")
    below, equal = before[low], before[high] - before[low] - good
    pairs = bad.sum() * good.sum() - (bad * good).sum()  # no loan is paired with itself
    return float((bad * (below + equal / 2)).sum() / pairs)


def _by_name(names: Array, values: dict[str, float]) -> Array:
    """Each name's value."""
    found = np.zeros(len(names))
    for name, value in values.items():
        found[names == name] = value
    return found
