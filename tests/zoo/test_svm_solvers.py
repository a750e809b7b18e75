"""The solvers reach libsvm's and liblinear's optimum, on both sides, and say so where they do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from sklearn import datasets
from sklearn.svm import SVC, SVR, LinearSVC
from torch.utils._python_dispatch import TorchDispatchMode

from twinax.errors import BadInput
from twinax.frameworks import jax_backend, torch_backend
from twinax.zoo.svm import (
    jax_kernels,
    jax_model,
    jax_solvers,
    problem,
    torch_kernels,
    torch_model,
    torch_solvers,
)
from twinax.zoo.svm.problem import Config
from twinax.zoo.svm.twin import BASE

SIDES = ("torch", "jax")
TRAINING = {"torch": (torch_backend, torch_model), "jax": (jax_backend, jax_model)}
SOLVERS = {"torch": torch_solvers, "jax": jax_solvers}
TIGHT = {**BASE, "features": 4, "tolerance": 1e-6}


def fit(side, config, batch, dtype="float64"):
    training, code = TRAINING[side]
    return training.fit(code, config, batch, dtype, "cpu")


def evaluated(side, config, weights, features):
    """The outputs of the built model with these weights, float64."""
    config = {**config, "support_vectors": len(weights.get("support_vectors", ()))}
    model = TRAINING[side][1].build(config)
    if side == "torch":
        model.double().load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in weights.items()})
        with torch.no_grad():
            return {name: value.numpy() for name, value in model(torch.from_numpy(features)).items()}
    for name, array in weights.items():
        getattr(model, name)[...] = jnp.asarray(array)
    return {name: np.asarray(value) for name, value in model(jnp.asarray(features)).items()}


def noisy(n=160, d=4, seed=0):
    """Two classes that overlap, neither rare."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    z = x[:, 0] + x[:, 1] * x[:, 2] - 0.5 * x[:, 3] ** 2 + 0.3
    return x, (rng.random(n) < 1 / (1 + np.exp(-2 * z))).astype(np.int64), z + 0.1 * rng.standard_normal(n)


def gram(config, gamma, x):
    """The kernel matrix, written another way: pair by pair."""
    r, degree = config["coef0"], config["degree"]
    formulas = {
        "linear": lambda a, b: a @ b,
        "rbf": lambda a, b: np.exp(-gamma * ((a - b) ** 2).sum()),
        "poly": lambda a, b: (gamma * (a @ b) + r) ** degree,
        "sigmoid": lambda a, b: np.tanh(gamma * (a @ b) + r),
    }
    return np.array([[formulas[config["kernel"]](a, b) for b in x] for a in x])


def spread(weights, x):
    """β of every training example, from the support vectors' own (they keep their order)."""
    beta, at = np.zeros(len(x)), -1
    for vector, coefficient in zip(weights["support_vectors"], weights["dual_coef"][0], strict=True):
        at = next(i for i in range(at + 1, len(x)) if np.array_equal(x[i], vector))
        beta[at] = coefficient
    return beta


# kernel settings for which K is positive (semi-)definite on these data, so that there is one optimum
KERNELS = [
    {"kernel": "linear"},
    {"kernel": "rbf"},
    pytest.param({"kernel": "rbf", "C": 30.0, "gamma": 0.7}, marks=pytest.mark.slow),
    {"kernel": "poly", "coef0": 1.0, "gamma": 0.1},
    pytest.param({"kernel": "poly", "degree": 2, "coef0": 0.5, "gamma": 0.3}, marks=pytest.mark.slow),
    {"kernel": "sigmoid", "gamma": 0.02, "coef0": 0.1},
]


def names(settings):
    return " ".join(f"{key}={value}" for key, value in settings.items())


@pytest.mark.parametrize(
    "class_weight",
    [pytest.param(None, marks=pytest.mark.slow), pytest.param("balanced", marks=pytest.mark.slow), [1.0, 2.5]],
    ids=str,
)
@pytest.mark.parametrize("settings", KERNELS, ids=names)
@pytest.mark.parametrize("side", SIDES)
def test_c_svc_is_libsvms(side, settings, class_weight):
    x, y, _ = noisy()
    config = {**TIGHT, **settings, "class_weight": class_weight}
    weights = fit(side, config, {"features": x, "labels": y})
    named = dict(enumerate(class_weight)) if isinstance(class_weight, list) else class_weight
    kwargs = {key: config[key] for key in ("kernel", "C", "gamma", "degree", "coef0")}
    theirs = SVC(**kwargs, class_weight=named, tol=1e-6).fit(x, y)
    k, sign = gram(config, theirs._gamma, x), 2.0 * y - 1
    expected = np.zeros(len(x))
    expected[theirs.support_] = theirs.dual_coef_[0]
    objectives = [0.5 * b @ k @ b - sign @ b for b in (spread(weights, x), expected)]
    assert objectives[0] == pytest.approx(objectives[1], rel=1e-6)
    held_out = noisy(seed=1)[0]
    found = evaluated(side, config, weights, held_out)["decision"][:, 0]
    np.testing.assert_allclose(found, theirs.decision_function(held_out), atol=1e-4)


@pytest.mark.parametrize("epsilon", [pytest.param(0.0, marks=pytest.mark.slow), 0.1])
@pytest.mark.parametrize("settings", KERNELS, ids=names)
@pytest.mark.parametrize("side", SIDES)
def test_epsilon_svr_is_libsvms(side, settings, epsilon):
    x, _, z = noisy()
    config = {**TIGHT, **settings, "regression": True, "epsilon": epsilon}
    weights = fit(side, config, {"features": x, "targets": z})
    kwargs = {key: config[key] for key in ("kernel", "C", "gamma", "degree", "coef0", "epsilon")}
    theirs = SVR(**kwargs, tol=1e-6).fit(x, z)
    k = gram(config, theirs._gamma, x)
    expected = np.zeros(len(x))
    expected[theirs.support_] = theirs.dual_coef_[0]
    objectives = [0.5 * b @ k @ b - z @ b + epsilon * np.abs(b).sum() for b in (spread(weights, x), expected)]
    assert objectives[0] == pytest.approx(objectives[1], rel=1e-6)
    held_out = noisy(seed=1)[0]
    outputs = evaluated(side, config, weights, held_out)
    np.testing.assert_allclose(outputs["prediction"], theirs.predict(held_out), atol=1e-4)
    np.testing.assert_allclose(outputs["tube"][:, 1] - outputs["prediction"], epsilon, atol=1e-12)


@pytest.mark.parametrize("settings", [{"kernel": "linear", "C": 1000.0}, {"C": 1000.0}], ids=names)
@pytest.mark.parametrize("side", SIDES)
def test_separable_data_have_libsvms_support_vectors(side, settings):
    iris = datasets.load_iris()
    rows = iris.target < 2
    table = np.unique(np.c_[iris.data[rows], iris.target[rows]], axis=0)  # no example twice
    x, y = table[:, :4], table[:, 4].astype(np.int64)
    config = {**TIGHT, **settings}
    weights = fit(side, config, {"features": x, "labels": y})
    kwargs = {key: config[key] for key in ("kernel", "C", "gamma")}
    theirs = SVC(**kwargs, tol=1e-6).fit(x, y)
    assert set(np.flatnonzero(spread(weights, x))) == set(theirs.support_)
    found = evaluated(side, config, weights, x)["decision"][:, 0]
    assert ((found > 0) == (y == 1)).all() and np.abs(found).min() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("side", SIDES)
def test_three_classes_are_libsvms_one_against_one(side):
    x, y = datasets.load_iris(return_X_y=True)
    config = {**TIGHT, "classes": 3}
    weights = fit(side, config, {"features": x, "labels": y})
    theirs = SVC(tol=1e-6, decision_function_shape="ovo").fit(x, y)
    outputs = evaluated(side, config, weights, x)
    # theirs is positive for the pair's first class
    np.testing.assert_allclose(outputs["decision"], -theirs.decision_function(x), atol=1e-4)
    votes = np.zeros((len(x), 3))
    for decision, (i, j) in zip(outputs["decision"].T, [(0, 1), (0, 2), (1, 2)], strict=True):
        votes[np.arange(len(x)), np.where(decision > 0, j, i)] += 1
    np.testing.assert_array_equal(votes.argmax(1), theirs.predict(x))
    np.testing.assert_allclose(outputs["probability"].sum(1), 1, atol=1e-12)
    assert outputs["probability"].min() > 0 and (outputs["probability"].argmax(1) == y).mean() > 0.95


@pytest.mark.parametrize("side", SIDES)
def test_coupled_probabilities_minimise_what_wu_lin_and_weng_state(side):
    r = np.array([0.2, 0.9, 0.6, 0.3, 0.5, 0.8])  # P(second class), machine by machine, four classes
    config = Config.of({**BASE, "classes": 4})
    code = TRAINING[side][1]
    tensor = torch.tensor if side == "torch" else jnp.asarray
    decision = np.log(r / (1 - r))[None]
    given = [tensor(a) for a in (decision, np.full(6, -1.0), np.zeros(6))]
    p = np.asarray(code.probability(*given, config))[0]

    def objective(p):
        return sum(((1 - r_) * p[j] - r_ * p[i]) ** 2 for r_, (i, j) in zip(r, config.pairs, strict=True))

    assert p.sum() == pytest.approx(1, abs=1e-12) and p.min() > 0
    rng = np.random.default_rng(0)
    for _ in range(50):
        step = rng.standard_normal(4)
        step -= step.mean()  # Σ p stays 1
        assert objective(p + 1e-4 * step) > objective(p)


@pytest.mark.parametrize("C", [0.1, pytest.param(3.0, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("solver", "loss"), [("dual", "hinge"), ("dual", "squared_hinge"), ("primal", "squared_hinge")]
)
@pytest.mark.parametrize("side", SIDES)
def test_linear_svc_is_liblinears(side, solver, loss, C):
    x, y, _ = noisy()
    config = {**TIGHT, "kernel": "linear", "solver": solver, "loss": loss, "C": C, "tolerance": 1e-8}
    weights = fit(side, {**config, "iterations": 5000}, {"features": x, "labels": y})
    theirs = LinearSVC(loss=loss, dual=solver == "dual", C=C, tol=1e-8, max_iter=1_000_000).fit(x, y)

    def objective(w, b):
        slack = np.maximum(0, 1 - (2 * y - 1) * (x @ w + b))
        return 0.5 * (w @ w + b * b) + C * (slack ** (2 if loss == "squared_hinge" else 1)).sum()

    found = objective(weights["coef"][0], weights["intercept"][0])
    assert found == pytest.approx(objective(theirs.coef_[0], theirs.intercept_[0]), rel=1e-6)
    decision = evaluated(side, config, weights, x)["decision"][:, 0]
    np.testing.assert_allclose(decision, theirs.decision_function(x), atol=1e-3)


@pytest.mark.parametrize(("solver", "loss"), [("smo", "hinge"), ("dual", "hinge"), ("primal", "squared_hinge")])
def test_both_sides_find_the_same_machine(solver, loss):
    x, y, _ = noisy()
    kernel = "rbf" if solver == "smo" else "linear"
    config = {**TIGHT, "solver": solver, "loss": loss, "kernel": kernel, "tolerance": 1e-10}
    torch_weights, jax_weights = (fit(side, config, {"features": x, "labels": y}) for side in SIDES)
    assert torch_weights.keys() == jax_weights.keys()
    for name, array in torch_weights.items():
        np.testing.assert_allclose(array, jax_weights[name], rtol=1e-6, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("side", SIDES)
def test_platt_scaling_is_at_its_minimum(side):
    rng = np.random.default_rng(0)
    f = rng.standard_normal(300)
    y = np.where(rng.random(300) < 1 / (1 + np.exp(-(1.7 * f + 0.4))), 1.0, -1.0)
    tensor = torch.tensor if side == "torch" else jnp.asarray
    a, b = (float(v) for v in SOLVERS[side].platt(tensor(f), tensor(y)))
    positive, negative = (y > 0).sum(), (y < 0).sum()
    t = np.where(y > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))
    p = 1 / (1 + np.exp(a * f + b))
    assert abs((f * (t - p)).sum()) < 1e-4 and abs((t - p).sum()) < 1e-4
    assert a == pytest.approx(-1.7, abs=0.4) and b == pytest.approx(-0.4, abs=0.3)
    # an example without a part changes nothing
    more = SOLVERS[side].platt(tensor(np.r_[f, 5.0]), tensor(np.r_[y, 0.0]))
    assert [float(v) for v in more] == pytest.approx([a, b], rel=1e-12)


@pytest.mark.parametrize("side", SIDES)
def test_probabilities_are_of_held_out_decisions_and_near_libsvms(side):
    x, y, _ = noisy(400)
    weights = fit(side, TIGHT, {"features": x, "labels": y})
    outputs = evaluated(side, TIGHT, weights, x)
    theirs = SVC(tol=1e-6, probability=True, random_state=0).fit(x, y)
    # their folds are others: the sigmoids differ as much as the draw of the folds matters
    assert np.abs(outputs["probability"] - theirs.predict_proba(x)).max() < 0.05
    # the sigmoid of decisions on the training examples themselves would be far steeper
    own = SOLVERS[side].platt(
        *(
            torch.tensor(a) if side == "torch" else jnp.asarray(a)
            for a in (outputs["decision"][:, 0], 2.0 * y - 1)
        )
    )
    assert float(own[0]) < 1.2 * weights["prob_a"][0] < 0


def test_folds_hold_a_fifth_of_each_class():
    labels = np.repeat([0, 1, 2], [50, 7, 2])
    folds = problem.folds(labels)
    for label, count in ((0, 50), (1, 7), (2, 2)):
        held = np.bincount(folds[labels == label], minlength=problem.FOLDS)
        assert held.max() <= -(-count // problem.FOLDS)
    assert np.ptp(np.bincount(folds)) <= 1
    np.testing.assert_array_equal(folds, problem.folds(labels))


# --- memory --------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """Numbers of the largest tensor that any operation gave."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        self.numbers = max(
            [
                self.numbers,
                *(t.numel() for t in torch.utils._pytree.tree_leaves(found) if isinstance(t, torch.Tensor)),
            ]
        )
        return found


@pytest.mark.parametrize("side", SIDES)
def test_rows_computed_as_needed_give_the_same_machine(side):
    x, y, z = noisy()
    whole = {**TIGHT, "tolerance": 1e-10}
    for config, batch in (
        (whole, {"features": x, "labels": y}),
        ({**whole, "regression": True}, {"features": x, "targets": z}),
    ):
        expected = fit(side, config, batch)
        found = fit(side, {**config, "budget_mib": 0.05}, batch)
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-6, atol=1e-7, err_msg=name)


def test_the_budget_is_kept_in_torch():
    x = torch.from_numpy(noisy(300)[0])
    c = Config.of({**TIGHT, "budget_mib": 0.1})  # 13,107 numbers of float64; the matrix has 90,000
    with Largest() as largest:
        gram = torch_kernels.Gram(c, torch.ones(1, dtype=torch.float64), x)
        gram.row(3)
        gram.times(torch.ones(300, dtype=torch.float64))
    assert gram.matrix is None and largest.numbers <= 13_107
    enough = Config.of({**TIGHT, "budget_mib": 2 * 300 * 300 * 8 / 2**20})
    with Largest() as largest:
        assert torch_kernels.Gram(enough, torch.ones(1, dtype=torch.float64), x).matrix is not None
    assert largest.numbers == 90_000


def test_the_budget_is_kept_in_jax():
    jax.config.update("jax_enable_x64", True)
    x = jnp.asarray(noisy(300)[0])
    c = Config.of({**TIGHT, "budget_mib": 0.1})
    gram = jax_kernels.Gram.of(c, jnp.ones(1), x)
    assert gram.matrix is None
    some = (gram, -jnp.ones((1, 300)), jnp.zeros((1, 300)), -jnp.ones((1, 300)), jnp.ones((1, 300)))
    kernel = jax_kernels.Kernel.of(c)
    for compiled in (
        jax_solvers._descend.lower(kernel, *some, 1e-3, 10).compile(),
        jax_solvers._times.lower(kernel, gram, jnp.ones(300)).compile(),
    ):
        assert 0 < compiled.memory_analysis().temp_size_in_bytes < 0.1 * 2**20


# --- bad input -----------------------------------------------------------------------------------

BAD_SETTINGS = [
    ({"C": 0.0}, "C is 0.0"),
    ({"C": -1}, "C is -1"),
    ({"C": float("nan")}, "C is nan"),
    ({"gamma": 0}, "gamma is 0"),
    ({"gamma": "auto"}, "gamma is 'auto'"),
    ({"kernel": "cosine"}, "kernel is 'cosine'"),
    ({"epsilon": -0.1, "regression": True}, "epsilon is -0.1"),
    ({"degree": 0}, "degree is 0"),
    ({"degree": 2.5}, "degree is 2.5"),
    ({"coef0": "one"}, "coef0 is 'one'"),
    ({"tolerance": 0}, "tolerance is 0"),
    ({"iterations": 0}, "iterations is 0"),
    ({"budget_mib": -1}, "budget_mib is -1"),
    ({"class_weight": [1.0]}, "2 classes"),
    ({"class_weight": [1.0, 0.0]}, "2 classes"),
    ({"class_weight": "even"}, "'even'"),
    ({"solver": "simplex"}, "solver is 'simplex'"),
    ({"solver": "dual"}, "cannot do the kernel rbf"),
    ({"solver": "primal", "kernel": "linear"}, "has no hinge loss"),
    ({"loss": "squared_hinge"}, "has no squared_hinge loss"),
    ({"solver": "dual", "kernel": "linear", "regression": True}, "cannot do regression"),
]


@pytest.mark.parametrize(("settings", "words"), BAD_SETTINGS, ids=[words for _, words in BAD_SETTINGS])
@pytest.mark.parametrize("side", SIDES)
def test_settings_without_meaning_are_refused(side, settings, words):
    x, y, z = noisy(20)
    with pytest.raises(BadInput) as caught:
        fit(side, {**TIGHT, **settings}, {"features": x, "labels": y, "targets": z})
    assert words in caught.value.what and caught.value.hint


def broken(kind):
    x, y, _ = noisy(20)
    if kind == "nan":
        x[3, 1] = np.nan
    elif kind == "infinite":
        x[0, 0] = np.inf
    elif kind == "one class":
        y[:] = 1
    elif kind == "rare":
        y[:] = 1
        y[4] = 0
    elif kind == "number":
        y[5] = 2
    elif kind == "constant":
        x[:] = 1.0
    elif kind == "columns":
        x = x[:, :3]
    return {"features": x, "labels": y}


BAD_DATA = [
    ("nan", "Feature 1 of example 3 is nan"),
    ("infinite", "Feature 0 of example 0 is inf"),
    ("one class", "All 20 examples are of class 1"),
    ("rare", "Class 0 has 1 examples"),
    ("number", "Example 5 is of class 2"),
    ("constant", "have the same value"),
    ("columns", "takes 4 features"),
]


@pytest.mark.parametrize(("kind", "words"), BAD_DATA, ids=[kind for kind, _ in BAD_DATA])
@pytest.mark.parametrize("side", SIDES)
def test_examples_that_cannot_be_used_are_refused(side, kind, words):
    with pytest.raises(BadInput) as caught:
        fit(side, TIGHT, broken(kind))
    assert words in caught.value.what and caught.value.hint


@pytest.mark.parametrize("side", SIDES)
def test_values_that_are_not_finite_are_refused(side):
    x, _, z = noisy(20)
    z[7] = np.inf
    with pytest.raises(BadInput, match="target of example 7 is inf"):
        fit(side, {**TIGHT, "regression": True}, {"features": x, "targets": z})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, r"after 3 SMO steps the optimality conditions are violated by [\d.]+; the tolerance is 1e-06"),
        ({"solver": "dual", "kernel": "linear"}, r"after 3 epochs of coordinate descent .* gap is [\d.e-]+;"),
        (
            {"solver": "primal", "kernel": "linear", "loss": "squared_hinge", "iterations": 1},
            r"after 1 Newton steps .* gap is [\d.e-]+;",
        ),
    ],
    ids=["smo", "dual", "primal"],
)
@pytest.mark.parametrize("side", SIDES)
def test_a_machine_that_is_not_solved_is_an_error_with_what_is_left(side, settings, words):
    x, y, _ = noisy()
    with pytest.raises(BadInput, match=words):
        fit(side, {**TIGHT, "iterations": 3, **settings}, {"features": x, "labels": y})


@pytest.mark.parametrize("side", SIDES)
def test_a_descent_that_claims_what_is_not_so_is_not_believed(side, monkeypatch):
    real = SOLVERS[side]._descend

    def nearly(*args):
        beta, steps = real(*args)
        return 0.99 * beta, steps

    monkeypatch.setattr(SOLVERS[side], "_descend", nearly)
    x, y, _ = noisy()
    with pytest.raises(BadInput, match="the optimality conditions are violated by"):
        fit(side, TIGHT, {"features": x, "labels": y})


@pytest.mark.parametrize("side", SIDES)
def test_a_descent_that_rounding_led_astray_goes_on(side, monkeypatch):
    real, calls = SOLVERS[side]._descend, []

    def astray(*args):
        beta, steps = real(*args)
        calls.append(int(steps))
        return (0.5 * beta if len(calls) == 1 else beta), steps

    monkeypatch.setattr(SOLVERS[side], "_descend", astray)
    x, _, z = noisy()
    config = {**TIGHT, "regression": True}
    weights = fit(side, config, {"features": x, "targets": z})
    theirs = SVR(tol=1e-6).fit(x, z)
    assert len(calls) == 2 and calls[1] > 0
    np.testing.assert_allclose(evaluated(side, config, weights, x)["prediction"], theirs.predict(x), atol=1e-4)


# --- corners -------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
def test_a_tube_that_holds_everything_needs_no_support_vector(side):
    x, _, z = noisy(30)
    config = {**TIGHT, "regression": True, "epsilon": 100.0}
    weights = fit(side, config, {"features": x, "targets": z})
    assert weights["support_vectors"].shape == (0, 4)
    prediction = evaluated(side, config, weights, x)["prediction"]
    assert np.ptp(prediction) == 0 and np.abs(prediction - z).max() < 100


@pytest.mark.parametrize("side", SIDES)
def test_equal_points_with_different_labels_are_solved(side):
    x = np.repeat(np.arange(4.0)[:, None], 8, 0)
    y = np.tile([0, 1, 1, 0, 1, 1, 1, 0], 4)
    config = {**TIGHT, "features": 1, "gamma": 1.0, "tolerance": 1e-4}
    weights = fit(side, config, {"features": x, "labels": y})
    theirs = SVC(gamma=1.0, tol=1e-4).fit(x, y)
    found = evaluated(side, config, weights, x)["decision"][:, 0]
    np.testing.assert_allclose(found, theirs.decision_function(x), atol=1e-3)


@pytest.mark.parametrize("side", SIDES)
def test_float32_solves_to_the_usual_tolerance(side):
    x, y, _ = noisy()
    batch = {"features": x.astype(np.float32), "labels": y}
    config = {**TIGHT, "tolerance": 1e-3}
    narrow = fit(side, config, batch, "float32")
    wide = fit(side, config, batch, "float64")
    assert narrow["dual_coef"].dtype == np.float32
    assert narrow["dual_coef"].shape[1] == pytest.approx(wide["dual_coef"].shape[1], abs=3)
    assert narrow["intercept"] == pytest.approx(wide["intercept"], abs=5e-3)
    assert narrow["prob_a"] == pytest.approx(wide["prob_a"], rel=1e-2)
