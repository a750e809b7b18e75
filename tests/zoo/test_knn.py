"""Nearest neighbours: scikit-learn's answers, the same on both sides, and no more memory than allowed."""

import os
import weakref
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sides import runner, small
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from twinax.errors import BadInput
from twinax.frameworks import jax_backend, torch_backend
from twinax.sources import zoo
from twinax.zoo.knn import jax_model, plan, torch_model
from twinax.zoo.knn.plan import Config

METRICS = {"l2": "euclidean", "l1": "manhattan", "cosine": "cosine"}
SIDES = ("torch", "jax")
FIT = {"torch": torch_backend.fit, "jax": jax_backend.fit}


def config(points, k, metric="l2", classes=2, weights="uniform", budget=64.0):
    return Config(k, metric, weights, budget, *points.shape, classes)


def search(side, queries, points, k, metric, budget=64.0):
    """Distances and neighbours by one side, in the arrays' own precision."""
    c = config(points, k, metric, budget=budget)
    if side == "torch":
        found = torch_model.nearest(torch.from_numpy(queries), torch.from_numpy(points), k, c)
        return tuple(array.numpy() for array in found)
    with jax.enable_x64(points.dtype == np.float64):
        found = jax.jit(jax_model.nearest, static_argnums=(2, 3))(queries, points, k, c)
        return tuple(np.asarray(array) for array in found)


def oracle(queries, points, metric):
    """Every distance, as its definition has it; the order of whole numbers' distances is exact."""
    x, y = queries[:, None].astype(np.float64), points[None].astype(np.float64)
    if metric == "cosine":
        product, lengths = (x * y).sum(-1), (x * x).sum(-1) * (y * y).sum(-1)
        return np.where(lengths == 0, 0.0, -product * abs(product) / np.where(lengths == 0, 1, lengths))
    return abs(x - y).sum(-1) if metric == "l1" else ((x - y) ** 2).sum(-1)


def drawn(kind, rows, queries, features, seed):
    rng = np.random.default_rng(seed)
    points, asked = rng.standard_normal((rows, features)), rng.standard_normal((queries, features))
    if kind == "grid":
        return np.round(1.5 * asked), np.round(1.5 * points)
    if kind == "duplicated":
        points = points[rng.integers(0, max(rows // 4, 1), rows)]
        asked[: queries // 2] = points[rng.integers(0, rows, queries // 2)]
    return asked, points


# --- scikit-learn ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=int(os.environ.get("TWINAX_EXAMPLES", "6")), deadline=None)
@given(
    kind=st.sampled_from(["normal", "grid", "duplicated"]),
    rows=st.sampled_from([5, 33, 300]),
    features=st.sampled_from([1, 3, 8]),
    k=st.sampled_from([1, 2, 5]),
    seed=st.integers(0, 10**6),
)
def test_neighbours_are_those_of_brute_force(side, metric, kind, rows, features, k, seed):
    queries, points = drawn(kind, rows, 12, features, seed)
    distances, neighbours = search(side, queries, points, k, metric)
    theirs = KNeighborsClassifier(k, metric=METRICS[metric], algorithm="brute").fit(points, np.zeros(rows))
    their_distances, their_neighbours = theirs.kneighbors(queries)
    # scikit-learn's l2 and cosine distances come from products: near 0 they are right to 1e-8 and 1e-16
    np.testing.assert_allclose(distances, their_distances, rtol=1e-9, atol=1e-7)
    # scikit-learn leaves open in which order it names equally far points, and which of them is the k-th
    ranked = np.sort(oracle(queries, points, metric), axis=1)[:, : k + 1]
    apart = np.diff(ranked, axis=1) > 1e-12 * (1 + abs(ranked[:, 1:]))
    clear = apart[:, k - 1 :].all(1)
    np.testing.assert_array_equal(np.sort(neighbours, 1)[clear], np.sort(their_neighbours, 1)[clear])
    distinct = apart.all(1)
    np.testing.assert_array_equal(neighbours[distinct], their_neighbours[distinct])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("features", [1, 2, 3, 6])
def test_ties_go_to_the_lowest_number(side, metric, features):
    queries, points = drawn("grid", 400, 50, features, features)
    _, neighbours = search(side, queries, points, 7, metric)
    want = np.argsort(oracle(queries, points, metric), axis=1, kind="stable")[:, :7]
    np.testing.assert_array_equal(neighbours, want)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("weights", plan.WEIGHTS)
@pytest.mark.parametrize("metric", METRICS)
def test_probabilities_and_predictions_are_scikit_learns(side, weights, metric):
    rng = np.random.default_rng(3)
    points, queries = rng.standard_normal((300, 4)), rng.standard_normal((40, 4))
    if metric == "l1":  # whose distance of a point from itself is 0 in scikit-learn too
        points[5] = points[6]
        queries[:10] = points[:10]
    answers = {"knn": rng.integers(0, 3, 300), "knn/regressor": rng.standard_normal(300)}
    kinds = {"knn": KNeighborsClassifier, "knn/regressor": KNeighborsRegressor}
    for name, kind in kinds.items():
        settings_ = {"k": 6, "metric": metric, "weights": weights, "rows": 300, "features": 4}
        twin = small(zoo.resolve(name), **settings_, **({"classes": 3} if name == "knn" else {}))
        theirs = kind(6, weights=weights, metric=METRICS[metric], algorithm="brute").fit(points, answers[name])
        own = {"labels": answers[name]} if name == "knn" else {"targets": answers[name]}
        held = {**twin.init(twin.config, 0), "points": points, **own}
        batch = {"features": queries, **{key: value[:40] for key, value in own.items()}}
        found = runner(twin, side, held).evaluate(batch, train=False, gradients=False)
        if name == "knn":
            want = theirs.predict_proba(queries)
            np.testing.assert_allclose(found.outputs["probability"], want, atol=1e-12)
            hot = np.eye(3)[answers[name][:40]]
            assert found.loss == pytest.approx(((want - hot) ** 2).sum(1).mean() / 2, rel=1e-12)
        else:
            want = theirs.predict(queries)
            np.testing.assert_allclose(found.outputs["prediction"], want, atol=1e-12)
            assert found.loss == pytest.approx(np.mean((want - answers[name][:40]) ** 2), rel=1e-12)


@pytest.mark.parametrize("side", SIDES)
def test_exact_matches_have_all_the_weight(side):
    twin = small(zoo.resolve("knn"), k=3, weights="distance", rows=4, features=1)
    points = np.array([[0.0], [0.0], [1.0], [5.0]])
    weights = {**twin.init(twin.config, 0), "points": points, "labels": np.array([0, 1, 1, 1])}
    batch = {"features": np.array([[0.0], [2.0]]), "labels": np.array([0, 1])}
    found = runner(twin, side, weights).evaluate(batch, train=False, gradients=False).outputs
    # from 2: distances 1 (label 1), 2 (label 0), 2 (label 1)
    np.testing.assert_allclose(found["probability"], [[0.5, 0.5], [0.25, 0.75]], rtol=1e-12)
    np.testing.assert_array_equal(found["neighbours"], [[0, 1, 2], [2, 0, 1]])


# --- the two sides --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("features", [1, 2, 5, 32, 33])
def test_ranks_are_the_same_bits(metric, features, dtype):
    rng = np.random.default_rng(features)
    x, y = (rng.uniform(-1, 1, (500, n, features)).astype(dtype) for n in (1, 18))
    ours = torch_model.ranks(torch.from_numpy(x), torch.from_numpy(y), metric).numpy()
    with jax.enable_x64(dtype == "float64"):
        theirs = np.asarray(jax.jit(partial(jax_model.ranks, metric=metric))(x, y))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("kind", ["normal", "grid", "duplicated"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("metric", METRICS)
def test_neighbours_are_the_same_on_both_sides(metric, dtype, kind):
    queries, points = (array.astype(dtype) for array in drawn(kind, 3000, 130, 6, 1))
    (distances, neighbours), (other, others) = (search(side, queries, points, 9, metric) for side in SIDES)
    np.testing.assert_array_equal(neighbours, others)
    np.testing.assert_allclose(distances, other, rtol=4 * np.finfo(dtype).eps, atol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", ["knn", "knn/regressor"])
@pytest.mark.parametrize("metric", METRICS)
def test_both_sides_fit_the_same_weights_and_hold_them(name, metric):
    twin = small(zoo.resolve(name), k=7, metric=metric)
    rng = np.random.default_rng(0)
    features = np.round(rng.standard_normal((500, 5)), 1)  # with equal rows
    answers = {"labels": rng.integers(0, 2, 500)} if name == "knn" else {"targets": rng.standard_normal(500)}
    batch = {"features": features, **answers}
    found = [FIT[side](twin.code(side), twin.config, batch, "float64", "cpu") for side in SIDES]
    assert found[0].keys() == found[1].keys()
    for key, array in found[0].items():
        np.testing.assert_allclose(array, found[1][key], rtol=1e-9)
    sized = replace(twin, config=twin.fitted(twin.config, found[0]))
    assert (sized.config["rows"], sized.config["features"]) == (500, 5)
    for side in SIDES:  # what torch found runs in JAX, and the other way round
        held = runner(sized, side, found[side == "torch"])
        for key, array in held.weights().items():
            np.testing.assert_array_equal(array, found[side == "torch"][key])
        assert held.parameters() == []


# --- exactness does not hang on the bounds ---------------------------------------------------------------

HARD = {
    "far from zero": (lambda x: x + 1e6),
    "one huge point": (lambda x: np.where(np.arange(len(x))[:, None] == 3, 1e12, x)),
    "tiny": (lambda x: x * 1e-25),
    "beyond float32": (lambda x: x * 1e60),
    "all the same": (lambda x: np.ones_like(x)),
    "two places": (lambda x: np.sign(x[:, :1]) * np.ones_like(x)),
    "close to each other": (lambda x: 1 + 1e-9 * x),
}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", HARD)
def test_hard_data(side, metric, kind):
    queries, points = drawn("normal", 1200, 20, 4, 9)
    points = HARD[kind](points)
    queries = HARD[kind](queries) if kind != "one huge point" else queries
    _, neighbours = search(side, queries, points, 5, metric)
    # the definition, summed as the sides sum: in another order rounding makes other ties
    asked, held = (torch.from_numpy(array) for array in (queries, points))
    if metric == "cosine":
        asked, held = torch_model.scaled(asked), torch_model.scaled(held)
    ranked = torch_model.ranks(asked[:, None], held[None], metric).numpy()
    np.testing.assert_array_equal(neighbours, np.argsort(ranked, axis=1, kind="stable")[:, :5])


@pytest.mark.parametrize(("side", "module"), [("torch", torch_model), ("jax", jax_model)])
def test_without_the_check_of_bounds_close_data_go_wrong(side, module, monkeypatch):
    """What `test_hard_data` rests on: with bounds taken at their word it fails."""
    queries, points = drawn("normal", 1200, 20, 4, 9)
    queries, points = HARD["far from zero"](1e-3 * queries), HARD["far from zero"](1e-3 * points)
    points[3] = 0  # draws the centre away, so that float32 no longer tells the points apart
    _, right = search(side, queries, points, 5, "l2")
    want = np.argsort(oracle(queries, points, "l2"), axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(right, want)
    monkeypatch.setattr(module, "rank_of", lambda distances, metric: 0 * distances + 1e30)
    jax.clear_caches()
    _, wrong = search(side, queries, points, 5, "l2")
    jax.clear_caches()
    assert not np.array_equal(wrong, want)


@pytest.mark.parametrize("metric", METRICS)
def test_bounds_settle_usual_data(metric, monkeypatch):
    """Nothing is searched exhaustively, so that few exact distances are enough."""
    queries, points = (array.astype(np.float32) for array in drawn("normal", 5000, 200, 16, 0))
    shapes, ranks = [], torch_model.ranks
    monkeypatch.setattr(
        torch_model, "ranks", lambda x, y, metric: shapes.append(tuple(y.shape)) or ranks(x, y, metric)
    )
    search("torch", queries, points, 10, metric)
    assert shapes and all(shape[1:] == (10 + plan.SPARE, 16) for shape in shapes)


@pytest.mark.parametrize("features", [1, 4, 64])
@pytest.mark.parametrize("metric", METRICS)
def test_bounds_lie_below_every_distance(metric, features):
    rng = np.random.default_rng(features)
    queries, points = rng.standard_normal((50, features)), rng.standard_normal((2000, features))
    points[:50] = queries * (1 + 1e-7 * rng.standard_normal((50, 1)))
    points[50:60] *= 1e4
    for side in ("torch", "jax"):
        p = plan.plan(config(points, 5, metric), 50, 5, 8)
        code = torch_model if side == "torch" else jax_model
        with jax.enable_x64(True):
            x, y = (torch.from_numpy(a) if side == "torch" else jnp.asarray(a) for a in (queries, points))
            if metric == "cosine":
                x, y = code.scaled(x), code.scaled(y)
            own, rough = code.roughly(x, y.mean(0), metric), code.roughly(y, y.mean(0), metric)
            offset = code.offset_of(code.size(rough, metric), metric, p.slack)
            room = () if side == "jax" else (torch.empty(len(own), len(rough)),)
            bounds = np.asarray(code.lower_bounds(own, rough, offset, metric, *room), np.float64)
            bounds += np.asarray(code.own_term(code.size(own, metric), metric, p.slack), np.float64)[:, None]
            true = np.asarray(code.distances_of(code.ranks(x[:, None], y[None], metric), metric))
        true = true**2 if metric == "l2" else true
        assert (bounds <= true).all(), float((bounds - true).max())


# --- calibration ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
def test_calibration_is_the_likeliest_curve(side):
    rng = np.random.default_rng(0)
    k, p1 = 12, rng.integers(0, 13, 400) / 12
    labels = (rng.random(400) < 0.2 + 0.5 * p1).astype(np.int64)
    p = np.stack([1 - p1, p1], 1)
    if side == "torch":
        found = torch_model.calibrate(torch.from_numpy(p), torch.from_numpy(labels), k).numpy()
    else:
        with jax.enable_x64(True):
            found = np.asarray(jax_model.calibrate(jnp.asarray(p), jnp.asarray(labels), k))
    positive, x = labels.sum(), np.log((k * p1 + 0.5) / (k * (1 - p1) + 0.5))
    t = np.where(labels == 1, (positive + 1) / (positive + 2), 1 / (400 - positive + 2))

    def cost(line):
        z = line[0] * x + line[1]
        return np.sum(np.logaddexp(z, 0) - t * z) + plan.PRIOR / 2 * ((line[0] - 1) ** 2 + line[1] ** 2)

    best = minimize(cost, [1.0, 0.0], tol=1e-12)
    np.testing.assert_allclose(found[1], best.x, atol=1e-4)
    assert cost(found[1]) <= best.fun + 1e-9
    np.testing.assert_allclose(found[0], found[1] * [1, -1], atol=1e-9)  # of two classes each mirrors the other


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("labels", [[0, 0, 0, 0, 0, 0], [0, 1, 0, 1, 0, 1]])
def test_calibration_has_a_solution_where_votes_tell_nothing(side, labels):
    twin = small(zoo.resolve("knn"), k=5)
    batch = {"features": np.arange(6.0)[:, None], "labels": np.array(labels)}
    found = FIT[side](twin.code(side), twin.config, batch, "float64", "cpu")
    assert np.isfinite(found["calibration"]).all()


def test_a_point_has_no_vote_on_itself():
    # four equal points: with k = 2 the last two are crowded out of their own three nearest
    points = np.array([[0.0]] * 4 + [[9.0]])
    want = [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]]
    for side in SIDES:
        distances, neighbours = search(side, points, points, 3, "l2")
        if side == "torch":
            found = torch_model.without_itself(torch.from_numpy(distances), torch.from_numpy(neighbours))
        else:
            found = jax_model.without_itself(jnp.asarray(distances), jnp.asarray(neighbours))
        np.testing.assert_array_equal(found[1], want)
        np.testing.assert_array_equal(found[0], [[0, 0]] * 4 + [[9, 9]])


@pytest.mark.parametrize("side", SIDES)
def test_calibrated_probabilities_are_truer(side):
    """Labels that are nearly noise: raw votes of one neighbour are sure and wrong."""
    rng = np.random.default_rng(2)
    features = rng.standard_normal((1500, 3))
    labels = (rng.random(1500) < 1 / (1 + np.exp(-features[:, 0]))).astype(np.int64)
    twin = small(zoo.resolve("knn"), k=3)
    train = {"features": features[:1000], "labels": labels[:1000]}
    weights = FIT[side](twin.code(side), twin.config, train, "float64", "cpu")
    twin = replace(twin, config=twin.fitted(twin.config, weights))
    batch = {"features": features[1000:], "labels": labels[1000:]}
    found = runner(twin, side, weights).evaluate(batch, train=False, gradients=False).outputs
    raw, calibrated = (
        np.mean((found[name][:, 1] - labels[1000:]) ** 2) for name in ("probability", "calibrated")
    )
    assert calibrated < raw - 0.02
    np.testing.assert_allclose(found["calibrated"].sum(1), 1, rtol=1e-12)


# --- memory ---------------------------------------------------------------------------------------------


class Peak(TorchDispatchMode):
    """The most bytes that tensors made inside held at one time."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.known = weakref.WeakSet()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage() not in self.known:
                storage = tensor.untyped_storage()
                self.known.add(storage)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._freed, storage.nbytes())
        self.most = max(self.most, self.now)
        return made

    def _freed(self, count):
        self.now -= count


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("kind", "budget"), [("normal", 2.0), ("normal", 8.0), ("duplicated", 2.0)])
def test_memory_stays_within_the_budget(metric, kind, budget):
    queries, points = drawn(kind, 8000, 400, 6, 0)
    copies = (len(points) + len(queries)) * 6 * (4 + 8) + 16 * len(points)  # rough and scaled copies, sizes
    results = 400 * 5 * 16
    allowed = budget * plan.MIB + 3 * copies + 3 * results
    with Peak() as peak:
        search("torch", queries, points, 5, metric, budget)
    assert peak.most <= allowed
    with jax.enable_x64(True):
        program = jax.jit(jax_model.nearest, static_argnums=(2, 3))
        compiled = program.lower(queries, points, 5, config(points, 5, metric, budget=budget)).compile()
        assert compiled.memory_analysis().temp_size_in_bytes <= allowed


def test_a_larger_budget_makes_larger_blocks_and_the_same_answers():
    queries, points = drawn("grid", 8000, 100, 6, 0)
    sizes = [plan.plan(config(points, 5, budget=budget), 100, 5, 8).block for budget in (1.5, 3.0, 64.0)]
    assert sizes == sorted(set(sizes)) and sizes[-1] <= plan.LARGEST_BLOCK
    for side in SIDES:
        small_, large = (search(side, queries, points, 5, "l2", budget) for budget in (1.5, 64.0))
        np.testing.assert_array_equal(small_, large)


# --- what cannot be used --------------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"k": 0}, "k = 0 is less than one"),
        ({"k": 31}, "k = 31 neighbours of 30"),
        ({"metric": "l3"}, "metric = 'l3' is unknown"),
        ({"weights": "rank"}, "weights = 'rank' is unknown"),
        ({"budget_mib": 0.001}, "holds no query"),
    ],
)
def test_settings_that_cannot_be_used(side, changed, said):
    twin = small(zoo.resolve("knn"), **{"k": 3, **changed})
    rng = np.random.default_rng(0)
    batch = {"features": rng.standard_normal((30, 4)), "labels": rng.integers(0, 2, 30)}
    with pytest.raises(BadInput, match=said) as error:
        FIT[side](twin.code(side), twin.config, batch, "float64", "cpu")
    assert error.value.hint


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_examples_that_cannot_be_used(side, value):
    features, labels, targets = np.ones((30, 4)), np.arange(30) % 2, np.ones(30)
    fit = {
        name: partial(FIT[side], zoo.resolve(name).code(side), zoo.resolve(name).config) for name in ("knn",)
    }
    regressor = zoo.resolve("knn/regressor")
    holed = features.copy()
    holed[6, 2] = value
    with pytest.raises(BadInput, match=f"example 7, feature 3 is {value}"):
        fit["knn"]({"features": holed, "labels": labels}, "float64", "cpu")
    with pytest.raises(BadInput, match="example 5 is answered by 2, not by a class from 0 to 1"):
        wrong = np.where(np.arange(30) == 4, 2, labels)
        fit["knn"]({"features": features, "labels": wrong}, "float64", "cpu")
    with pytest.raises(BadInput, match=f"example 2 is answered by {value}"):
        wrong = np.where(np.arange(30) == 1, value, targets)
        FIT[side](
            regressor.code(side), regressor.config, {"features": features, "targets": wrong}, "float64", "cpu"
        )
    with pytest.raises(BadInput, match="at least two"):
        one = {"features": features[:1], "labels": labels[:1]}
        FIT[side](zoo.resolve("knn").code(side), {**zoo.resolve("knn").config, "k": 1}, one, "float64", "cpu")


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("weights", plan.WEIGHTS)
@pytest.mark.parametrize("metric", METRICS)
def test_a_query_that_is_no_number_gets_no_probability(side, weights, metric):
    twin = small(zoo.resolve("knn"), k=3, rows=200, features=4, weights=weights, metric=metric)
    queries = np.zeros((3, 4))
    queries[1, 2] = np.nan
    batch = {"features": queries + 0.1, "labels": np.array([0, 1, 0])}
    held = twin.init(twin.config, 0)
    found = runner(twin, side, held).evaluate(batch, train=False, gradients=False).outputs
    for name in ("probability", "calibrated"):
        assert np.isfinite(found[name][[0, 2]]).all() and np.isnan(found[name][1]).all()
