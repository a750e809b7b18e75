"""The made-up portfolio: its formulas, its draws, and the best AUC that they allow."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from twinax.data import credit


def test_a_seed_is_a_portfolio():
    first, again, other = credit.portfolio(300, 5), credit.portfolio(300, 5), credit.portfolio(300, 6)
    for name, column in first.columns.items():
        np.testing.assert_array_equal(column, again.columns[name])
        assert not np.array_equal(column, other.columns[name])
    np.testing.assert_array_equal(first.default, again.default)
    assert set(np.unique(first.default)) == {0, 1}


def test_the_formulas_by_hand():
    # b = 10 / 2 / 40 = 0.125; off = ((56 - 42) / 14)² = 1; renting
    columns = {
        "age": np.array([56.0]),
        "income": np.array([40.0]),
        "employment_years": np.array([3.0]),
        "loan_amount": np.array([10.0]),
        "term_months": np.array([24.0]),
        "debt_ratio": np.array([0.4]),
        "utilisation": np.array([0.8]),
        "delinquencies": np.array([2.0]),
        "purpose": np.array(["business"]),
        "housing": np.array(["rent"]),
    }
    z = (-2.0 + 3 * np.tanh(6 * (0.125 - 0.22)) + 1.2 * np.log(3) + 1.1 / 2 + 6 * 0.2 + 3.5 * 0.8 * 0.4) + (
        -0.4 * np.log(4) + 0.5
    )
    np.testing.assert_allclose(credit.default_probability(columns), [1 / (1 + np.exp(-z))], rtol=1e-12)
    w = -0.6 + 1.2 * np.tanh(3 * (10 / 40 - 0.5)) + 2.5 * 0.1 + 1.5 * 0.3 + 0.3
    np.testing.assert_allclose(credit.expected_loss(columns), [0.05 + 0.9 / (1 + np.exp(-w))], rtol=1e-12)
    owner = {**columns, "housing": np.array(["own"]), "debt_ratio": np.array([0.2])}
    z_owner = z - 3.5 * 0.8 * 0.4 - 0.9
    np.testing.assert_allclose(credit.default_probability(owner), [1 / (1 + np.exp(-z_owner))], rtol=1e-12)


def test_the_truth_follows_from_what_a_score_sees():
    drawn = credit.portfolio(500, 1)
    np.testing.assert_array_equal(credit.default_probability(drawn.columns), drawn.probability)
    np.testing.assert_array_equal(credit.expected_loss(drawn.columns), drawn.expected_loss)


def test_defaults_and_losses_are_drawn_with_the_truth():
    drawn = credit.portfolio(100_000, 2)
    order = np.argsort(drawn.probability)
    for rows in np.array_split(order, 20):
        p = drawn.probability[rows]
        error = np.sqrt(np.mean(p * (1 - p)) / len(rows))
        assert abs(drawn.default[rows].mean() - p.mean()) < 4.5 * error
        assert abs(drawn.loss[rows].mean() - drawn.expected_loss[rows].mean()) < 4.5 * 0.25 / len(rows) ** 0.5
    assert drawn.loss.min() >= 0 and drawn.loss.max() <= 1


def brute(p):
    pairs = [(i, j) for i in range(len(p)) for j in range(len(p)) if i != j]
    right = sum(p[i] * (1 - p[j]) * ((p[i] > p[j]) + 0.5 * (p[i] == p[j])) for i, j in pairs)
    return right / sum(p[i] * (1 - p[j]) for i, j in pairs)


@pytest.mark.parametrize("p", [[0.1, 0.9], [0.2, 0.2, 0.7], [0.5] * 4, [0.0, 1.0, 0.3, 0.3, 0.31, 0.9]])
def test_best_auc_counts_pairs(p):
    assert credit.best_auc(np.array(p)) == pytest.approx(brute(p), rel=1e-12)


def test_best_auc_is_what_the_truth_reaches_and_nothing_else_does():
    p = credit.portfolio(2000, 3).probability
    rng = np.random.default_rng(0)
    draws = [(rng.random(len(p)) < p).astype(int) for _ in range(200)]
    reached = np.array([roc_auc_score(y, p) for y in draws])
    best = credit.best_auc(p)
    assert abs(reached.mean() - best) < 4 * reached.std() / len(draws) ** 0.5
    noisy = p * np.exp(0.5 * rng.standard_normal(len(p)))
    assert np.mean([roc_auc_score(y, noisy) for y in draws]) < best - 0.005
    np.testing.assert_allclose(best, credit.best_auc(rng.permutation(p)), rtol=1e-12)
