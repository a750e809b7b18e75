"""The forecasting task: nothing of the future in the past, scores and baselines that can be recomputed."""

import csv
import itertools
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from twinax.data import ohlcv, prices
from twinax.errors import BadInput
from twinax.records import Size
from twinax.train.goal import met
from twinax.train.order import Order
from twinax.zoo import forecasting, forecasting_baselines
from twinax.zoo.forecasting import LOG_VOLATILITY, RETURN, TASK, Cuts, Scaler
from twinax.zoo.forecasting_baselines import History
from twinax.zoo.gru.twin import TWINS as GRU
from twinax.zoo.lstm.twin import TWINS as LSTM

CONFIG = {**LSTM[0].config, **TASK.recipes["tiny"].config}
SPLITS = ("train", "valid", "test")


def series(days=1000, seed=0):
    return prices.generate(days, seed).prices


def scaled_by(found, day, factor):
    """The same prices, with everything from one day on multiplied and shaken."""
    rng = np.random.default_rng(1)
    wild = np.where(np.arange(len(found)) >= day, factor * np.exp(0.1 * rng.standard_normal(len(found))), 1.0)
    shaken = {name: getattr(found, name) * wild for name in ohlcv.PRICES}
    return replace(found, **shaken, volume=found.volume * wild)


def dataset(monkeypatch, found, fold, **config):
    monkeypatch.setattr(prices, "generate", lambda days, seed: prices.Made(found, found.close, found.close))
    return forecasting.load({**CONFIG, **config}, "", fold, 0)


def seen_until(made, split):
    """Everything that a fold has made of the days up to the end of a split."""
    arrays = [json.dumps(dict(made.preparation)).encode()]
    for name in SPLITS[: SPLITS.index(split) + 1]:
        arrays += [a.tobytes() for a in getattr(made, name).arrays.values()]
        arrays += [a.tobytes() for a in made.aside.get(name, {}).values()]
    return arrays


# --- no leakage ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fold", range(TASK.folds))
@pytest.mark.parametrize("split", SPLITS)
def test_later_prices_change_nothing(monkeypatch, fold, split):
    found = series()
    cuts = Cuts.of(len(found) - 1, fold)
    end = {"train": cuts.train, "valid": cuts.valid, "test": cuts.test}[split]
    before = dataset(monkeypatch, found, fold)
    # feature day d is made of price days d and d + 1, so price day end + 1 is the first that is not seen
    after = dataset(monkeypatch, scaled_by(found, end + 1, 3.0), fold)
    assert seen_until(before, split) == seen_until(after, split)
    # and the last day that belongs to the split does count: the check can fail
    touched = dataset(monkeypatch, scaled_by(found, end, 3.0), fold)
    assert seen_until(before, split) != seen_until(touched, split)


def test_a_scaler_that_looks_ahead_is_noticed(monkeypatch):
    found = series()
    daily, cut = forecasting.daily, Cuts.of(len(found) - 1, 0).train

    def ahead(found):
        days, dates = daily(found)
        return (days - days.mean(axis=0)) / days.std(axis=0), dates

    monkeypatch.setattr(forecasting, "daily", ahead)
    before = dataset(monkeypatch, found, 0)
    after = dataset(monkeypatch, scaled_by(found, cut + 1, 3.0), 0)
    assert seen_until(before, "train") != seen_until(after, "train")


@pytest.mark.parametrize("horizon", [1, 4])
def test_splits_follow_each_other_and_share_no_target(monkeypatch, horizon):
    found = series(1200)
    days = len(found) - 1
    tested = []
    for fold in range(TASK.folds):
        ends = Cuts.of(days, fold).ends(32, horizon)
        target_days = [set((at[:, None] + np.arange(1, horizon + 1)).ravel()) for at in ends.values()]
        for earlier, later in itertools.pairwise(target_days):
            assert max(earlier) < min(later)
        assert max(target_days[0]) < Cuts.of(days, fold).train  # all that the scaler saw, and no more
        tested.append(target_days[2])
        made = dataset(monkeypatch, found, fold, horizon=horizon)
        assert [len(getattr(made, split)) for split in SPLITS] == [len(at) for at in ends.values()]
    assert max(tested[0]) < min(tested[1]) and max(tested[1]) < min(tested[2]) and max(tested[2]) == days - 1


@pytest.mark.parametrize("kind", ["linear", "GARCH(1,1)"])
def test_baselines_are_fitted_on_the_training_days_only(kind):
    if kind.startswith("GARCH"):
        pytest.importorskip("arch")
    days, _ = forecasting.daily(series())
    ends = np.arange(600, 700)

    def forecast(days, train_days):
        history = History(days[:, RETURN], days[:, LOG_VOLATILITY], train_days)
        return forecasting_baselines.forecasts(history, ends, 2)[kind]

    later = days.copy()
    later[601:] *= 1.5  # the day after the first end
    for before, after in zip(forecast(days, 500), forecast(later, 500), strict=True):
        assert np.array_equal(before[0], after[0]) and before.shape == (100, 2)
    assert not np.array_equal(forecast(days, 500)[1][1:], forecast(later, 500)[1][1:])
    # were they fitted on later days too, the first forecast would be another
    assert not np.array_equal(forecast(days, 800)[1][0], forecast(later, 800)[1][0])


# --- what is forecast from what --------------------------------------------------------------------


def test_windows_and_targets_are_the_days_that_they_should_be(monkeypatch):
    found = series()
    made = dataset(monkeypatch, found, 1, horizon=2, window=5)
    batch = made.test.take(np.array([7]), 0)
    end = int(made.aside["test"]["ends"][7])
    returns = np.log(found.close[1:] / found.close[:-1])
    mean, deviation = (np.array(made.preparation[key]) for key in ("mean", "deviation"))
    assert batch["features"].shape == (1, 5, 4) and batch["lengths"].tolist() == [5]
    np.testing.assert_allclose(
        batch["features"][0, :, 0] * deviation[0] + mean[0], returns[end - 4 : end + 1], atol=1e-7
    )
    np.testing.assert_allclose(
        batch["returns"][0] * deviation[0] + mean[0], returns[end + 1 : end + 3], atol=1e-7
    )
    np.testing.assert_allclose(made.aside["test"]["returns"][7], returns[end + 1 : end + 3])
    assert np.datetime64(int(made.aside["test"]["dates"][7]), "D") == found.dates[end + 1]  # of its last price
    train = Cuts.of(len(returns), 1).train
    assert mean[0] == pytest.approx(returns[:train].mean()) and deviation[0] == pytest.approx(
        returns[:train].std()
    )
    parkinson = np.sqrt(np.log(found.high / found.low)[1:] ** 2 / (4 * np.log(2)))
    np.testing.assert_allclose(np.exp(made.aside["test"]["log_volatility"][7]), parkinson[end + 1 : end + 3])


def test_days_without_range_or_volume_still_have_features():
    found = series(50)
    flat = replace(found, high=found.close, low=found.close, open=found.close, volume=None)
    days, _ = forecasting.daily(flat)
    np.testing.assert_allclose(np.exp(days[:, 1]), np.maximum(np.abs(days[:, 0]) * np.sqrt(np.pi / 2), 1e-4))
    assert not days[:, 3].any()
    still, _ = forecasting.daily(replace(flat, **{name: np.full(50, 7.0) for name in ohlcv.PRICES}))
    assert np.isfinite(still).all()
    volume = found.volume.copy()
    volume[10] = 0
    days, _ = forecasting.daily(replace(found, volume=volume))
    assert days[9, 3] == days[10, 3] == 0 and days[11, 3] != 0
    assert np.isfinite(Scaler.fit(still).scaled(still)).all()


def test_batches_have_every_length_and_nothing_after_the_end():
    made = LSTM[0].batches(CONFIG, Size(batch=64, dims={"time": 8}), 0, 2)
    for batch in made:
        assert batch["features"].dtype == np.float32 and batch["lengths"].dtype == np.int64
        assert set(batch["lengths"]) == set(range(1, 9)) and batch["lengths"][0] == 8
        after = np.arange(8) >= batch["lengths"][:, None]
        assert not batch["features"][after].any() and batch["features"][~after].all()
    days, _ = forecasting.daily(prices.generate(8 + 1 + 500, 0).prices)
    scaled = Scaler.fit(days).scaled(days).astype(np.float32)
    batch = made[0]
    for i in range(64):  # a sequence ends on the day before its target
        target = int(np.flatnonzero(scaled[:, RETURN] == batch["returns"][i, 0])[0])
        length = int(batch["lengths"][i])
        assert np.array_equal(batch["features"][i, :length], scaled[target - length : target])


# --- scores ----------------------------------------------------------------------------------------


def standardised(made, returns, log_volatility):
    """Outputs of a model that forecasts these."""
    mean, deviation = (np.array(made.preparation[key]) for key in ("mean", "deviation"))
    return {
        "returns": (returns - mean[RETURN]) / deviation[RETURN],
        "log_volatility": (log_volatility - mean[LOG_VOLATILITY]) / deviation[LOG_VOLATILITY],
    }


def test_scores_of_known_forecasts(monkeypatch):
    made = dataset(monkeypatch, series(), 0, horizon=2)
    aside = made.aside["test"]

    def score(returns, log_volatility):
        return TASK.scores(made.preparation, aside, standardised(made, returns, log_volatility))

    perfect = score(aside["returns"], aside["log_volatility"])
    assert perfect["sign_accuracy"] == 1
    assert max(perfect[name] for name in perfect if name != "sign_accuracy") < 1e-10
    naive = np.repeat(aside["last_log_volatility"][:, None], 2, axis=1)
    assert score(-aside["returns"], naive)["volatility_rmse_over_naive"] == pytest.approx(1)
    assert score(-aside["returns"], naive)["sign_accuracy"] == 0
    # a forecast that is 10 % too high: QLIKE of 1 / 1.21
    high = score(aside["returns"] + 0.01, aside["log_volatility"] + np.log(1.1))
    assert high["volatility_qlike"] == pytest.approx(1 / 1.21 - np.log(1 / 1.21) - 1)
    assert high["return_rmse"] == pytest.approx(1.0)  # 0.01 is one per cent
    true = np.exp(aside["log_volatility"])
    assert high["volatility_rmse"] == pytest.approx(100 * 0.1 * np.sqrt(np.mean(true**2)))


def test_the_goal_is_met_by_what_beats_the_last_value_by_five_per_cent():
    assert met(TASK.goal, {"volatility_rmse_over_naive": 0.95})
    assert not met(TASK.goal, {"volatility_rmse_over_naive": 0.951})
    assert not met(TASK.goal, {"volatility_rmse": 0.1})


def test_baselines_have_the_scores_of_their_forecasts(monkeypatch):
    pytest.importorskip("arch")
    made = dataset(monkeypatch, series(2000), 2)
    found = TASK.baselines(made)
    assert list(found) == ["last value", "random walk", "linear", "GARCH(1,1)"]
    assert found["last value"]["volatility_rmse_over_naive"] == 1
    assert "sign_accuracy" not in found["random walk"]  # it has no opinion
    assert found["random walk"]["return_rmse"] < found["last value"]["return_rmse"]
    # volatility is predictable here, by everything that looks back further than a day
    assert found["linear"]["volatility_rmse_over_naive"] < 0.95
    assert found["GARCH(1,1)"]["volatility_rmse_over_naive"] < 0.95


def test_linear_baselines_are_least_squares():
    days, _ = forecasting.daily(series(600))
    history = History(days[:, RETURN], days[:, LOG_VOLATILITY], 400)
    ends = np.array([450, 500])
    returns, volatility = forecasting_baselines.forecasts(history, ends, 2)["linear"]
    r, v = history.returns, history.log_volatility

    def rows(at):
        har = [[1, v[t], v[t - 4 : t + 1].mean(), v[t - 21 : t + 1].mean()] for t in at]
        ar = [[1, *r[t - 4 : t + 1][::-1]] for t in at]
        return np.array(har), np.array(ar)

    for ahead in (1, 2):
        at = np.arange(21, 400 - ahead)
        har, ar = rows(at)
        expected = [np.linalg.solve(x.T @ x, x.T @ y[at + ahead]) for x, y in ((har, v), (ar, r))]
        har, ar = rows(ends)
        np.testing.assert_allclose(np.log(volatility[:, ahead - 1]), har @ expected[0], rtol=1e-8)
        np.testing.assert_allclose(returns[:, ahead - 1], ar @ expected[1], rtol=1e-6, atol=1e-9)


def test_garch_is_carried_on_as_arch_itself_does():
    arch = pytest.importorskip("arch")
    days, _ = forecasting.daily(series(1500))
    train = 1000
    history = History(days[:, RETURN], days[:, LOG_VOLATILITY], train)
    model = arch.arch_model(100 * days[:train, RETURN], mean="Constant", vol="GARCH", p=1, q=1)
    fitted = model.fit(disp="off")
    whole = arch.arch_model(100 * days[:, RETURN], mean="Constant", vol="GARCH", p=1, q=1)
    fixed = whole.fix(fitted.params)
    ends = np.array([1200, 1300, 1499 - 1])
    returns, volatility = forecasting_baselines.garch(history, ends, 3)
    expected = np.sqrt(fixed.forecast(horizon=3, start=0, reindex=True).variance.to_numpy()[ends])
    ratio = volatility / expected
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)  # one scale for all days and all days ahead
    assert returns == pytest.approx(fitted.params["mu"] / 100)
    scale = np.exp(history.log_volatility[22:train]).mean() / fitted.conditional_volatility[22:].mean()
    assert ratio[0, 0] == pytest.approx(scale, rel=1e-3)


def test_without_arch_garch_is_left_out_by_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "arch", None)
    found = TASK.baselines(dataset(monkeypatch, series(), 0))
    assert found["GARCH(1,1): left out, needs `pip install arch`"] == {}
    assert found["linear"]["volatility_rmse"] > 0


# --- a user's file ---------------------------------------------------------------------------------


def written(folder, found):
    path = folder / "prices.csv"
    names = ("dates", *ohlcv.PRICES, *(["volume"] if found.volume is not None else []))
    with path.open("w", newline="") as lines:
        rows = csv.writer(lines)
        rows.writerow([name.removesuffix("s").title() for name in names])
        rows.writerows(zip(*(getattr(found, name).tolist() for name in names), strict=True))
    return path


def test_a_file_becomes_the_windows_of_training(tmp_path):
    found = series()
    path = written(tmp_path, found)
    made = forecasting.load(CONFIG, str(path), 2, 0)
    preparation = json.loads(json.dumps(dict(made.preparation)))  # as it comes back from a checkpoint
    batch, rows = forecasting.prepare(CONFIG, preparation, path)
    ends = made.aside["test"]["ends"]
    np.testing.assert_array_equal(batch["features"][ends - 31], made.test.arrays["features"])
    assert len(rows) == len(batch["features"]) == len(batch["lengths"]) == len(found) - 32
    assert rows[-1] == {"date": str(found.dates[-1]), "close": found.close[-1]}
    assert rows[0]["date"] == str(found.dates[32])


def test_volume_counts_where_it_was_learnt_from_and_only_there(tmp_path):
    found = series()
    without = written(tmp_path, replace(found, volume=None))
    learnt = forecasting.load(CONFIG, "", 0, 0).preparation
    with pytest.raises(BadInput, match="lacks the column volume, from which the model has learnt"):
        forecasting.prepare(CONFIG, learnt, without)
    made = forecasting.load(CONFIG, str(without), 0, 0)
    batch, _ = forecasting.prepare(CONFIG, made.preparation, without)
    with_volume, _ = forecasting.prepare(CONFIG, made.preparation, written(tmp_path, found))
    np.testing.assert_array_equal(batch["features"], with_volume["features"])


def test_predictions_are_in_the_datas_own_units(monkeypatch):
    made = dataset(monkeypatch, series(), 0, horizon=2)
    outputs = standardised(made, np.array([[0.01, -0.02]]), np.log([[0.013, 0.017]]))
    (row,) = forecasting.predictions(made.preparation, outputs)
    expected = {"return_1": 0.01, "return_2": -0.02, "volatility_1": 0.013, "volatility_2": 0.017}
    assert row == pytest.approx(expected) and json.loads(json.dumps(row)) == row


def test_too_few_days_are_refused(tmp_path):
    path = written(tmp_path, series(300))
    with pytest.raises(BadInput, match=r"prices\.csv has 300 days; a window of 32 and a horizon of 1 need 505"):
        forecasting.load(CONFIG, str(path), 0, 0)
    made = forecasting.load(CONFIG, "", 0, 0)
    path = written(tmp_path, series(32))
    with pytest.raises(BadInput, match="has 32 days; a window of 32 returns needs 33"):
        forecasting.prepare(CONFIG, made.preparation, path)
    batch, rows = forecasting.prepare(CONFIG, made.preparation, written(tmp_path, series(33)))
    assert batch["features"].shape == (1, 32, 4) and len(rows) == 1


@pytest.mark.parametrize("fold", range(TASK.folds))
@pytest.mark.parametrize("window", [5, 32, 64])
def test_as_many_days_as_are_asked_for_are_enough(tmp_path, fold, window):
    config = {**CONFIG, "window": window, "horizon": 3}
    with pytest.raises(BadInput) as caught:
        forecasting.load(config, str(written(tmp_path, series(60))), fold, 0)
    need = int(caught.value.what.split(" need ")[1].split()[0].replace(",", ""))
    made = forecasting.load(config, str(written(tmp_path, series(need))), fold, 0)
    assert min(len(getattr(made, split)) for split in SPLITS) >= 30
    scores = TASK.baselines(made)
    assert all(np.isfinite(value) for row in scores.values() for value in row.values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"window": 0}, "window = 0 must be a whole number above 0"),
        ({"horizon": -1}, "horizon = -1"),
        ({"hidden": 2.5}, "hidden = 2.5"),
        ({"layers": True}, "layers = True"),
        ({"dropout": 1.0}, "dropout = 1.0 must be at least 0 and below 1"),
    ],
)
def test_a_setting_that_is_no_size_is_refused(change, words):
    with pytest.raises(BadInput) as caught:
        forecasting.load({**CONFIG, **change}, "", 0, 0)
    assert words in caught.value.what and caught.value.hint


def test_a_fold_that_is_not_there_is_refused():
    with pytest.raises(BadInput, match="no fold 4; folds are 1 to 3"):
        forecasting.load(CONFIG, "", 3, 0)


# --- training --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "twin", [pytest.param(LSTM[0], id="lstm"), pytest.param(GRU[0], id="gru", marks=pytest.mark.slow)]
)
def test_four_epochs_of_the_tiny_recipe_reach_the_goal_on_a_fold(twin):
    """The promise is kept with room to spare; the training engine has tests of its own."""
    torch.manual_seed(0)
    recipe = TASK.recipes["tiny"]
    made = forecasting.load(CONFIG, "", 0, 0)
    code = twin.code("torch")
    model = code.build({**CONFIG, **made.config})
    weights = twin.init({**CONFIG, **made.config}, 0)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    order = Order(made.train, recipe, 0)

    def scores():
        batch = {n: torch.from_numpy(a) for n, a in made.test.take(np.arange(len(made.test)), 0).items()}
        with torch.no_grad():
            outputs = model(batch["features"], batch["lengths"])
        return TASK.scores(made.preparation, made.aside["test"], {n: a.numpy() for n, a in outputs.items()})

    untrained = scores()
    for step in range(4 * order.steps_per_epoch):
        batch = {n: torch.from_numpy(a) for n, a in made.train.take(order.rows(step), 0).items()}
        optimizer.zero_grad()
        code.loss(model(batch["features"], batch["lengths"]), batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
    assert met(TASK.goal, scores()) and not met(TASK.goal, untrained)
