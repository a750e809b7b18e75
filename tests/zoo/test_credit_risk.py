"""The task of the credit twins: splits, scores, baselines, a user's file, and data that cannot be used."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score, roc_curve

from twinax.data import credit
from twinax.errors import BadInput
from twinax.zoo import credit_risk

GERMAN = Path(__file__).parents[3] / "shared" / "data" / "german_credit" / "german.data"
SPLITS = ("train", "valid", "test")


def load(data="", kind="classifier", seed=0):
    return credit_risk.load(kind, {}, str(data), 0, seed)


def written(folder, rows, header="age,purpose,default", name="loans.csv"):
    file = folder / name
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


def loans(count, seed=0):
    """Rows ``age,purpose,default``: every third defaults."""
    rng = np.random.default_rng(seed)
    return [f"{rng.integers(20, 70)},{rng.choice(['car', 'home'])},{int(i % 3 == 0)}" for i in range(count)]


# --- data -----------------------------------------------------------------------------------------------


def test_the_portfolio():
    made, again, other = load(), load(), load(seed=1)
    assert made.config == {"features": 16, "classes": 2}
    assert [len(getattr(made, split)) for split in SPLITS] == [2400, 800, 800]
    for split in SPLITS:
        arrays = getattr(made, split).arrays
        assert arrays["features"].dtype == np.float64 and arrays["labels"].dtype == np.int64
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, getattr(again, split).arrays[name])
        assert not np.array_equal(arrays["labels"], getattr(other, split).arrays["labels"])
    best = credit.best_auc(credit.portfolio(credit_risk.LOANS, 0).probability)
    assert f"{best:.4f}" in made.about


def test_the_encoding_is_learnt_on_training_rows_alone(tmp_path):
    rows = loans(100)
    before = load(written(tmp_path, rows))
    train = before.train.arrays["features"]
    np.testing.assert_allclose(train[:, 0].mean(), 0, atol=1e-12)
    np.testing.assert_allclose(train[:, 0].std(), 1, rtol=1e-12)
    tested = credit_risk.split(np.array([int(row[-1]) for row in rows]), True, 0)["test"]
    changed = ["99999" + row[2:] if i in tested else row for i, row in enumerate(rows)]
    after = load(written(tmp_path, changed, name="changed.csv"))
    assert after.preparation == before.preparation
    np.testing.assert_array_equal(after.train.arrays["features"], train)
    assert after.test.arrays["features"][:, 0].min() > 1000


@pytest.mark.parametrize("stratified", [True, False])
def test_splits_are_disjoint_complete_and_stratified(stratified):
    target = (np.arange(1000) % 10 == 0).astype(np.int64)
    parts = credit_risk.split(target, stratified, 3)
    rows = np.concatenate(list(parts.values()))
    np.testing.assert_array_equal(np.sort(rows), np.arange(1000))
    assert [len(parts[name]) for name in SPLITS] == [600, 200, 200]
    if stratified:
        assert [int(target[parts[name]].sum()) for name in SPLITS] == [60, 20, 20]
    assert not np.array_equal(parts["train"], credit_risk.split(target, stratified, 4)["train"])


def test_the_smallest_table_has_both_classes_in_every_split(tmp_path):
    rows = [f"{20 + i},car,{int(i < 5)}" for i in range(credit_risk.FEWEST_ROWS)]
    made = load(written(tmp_path, rows))
    assert all(set(getattr(made, split).arrays["labels"]) == {0, 1} for split in SPLITS)


def test_the_regressors_targets():
    made = load(kind="regressor")
    assert made.config == {"features": 16}
    mean, deviation = made.preparation["scale"]
    np.testing.assert_allclose(made.train.arrays["targets"].mean(), 0, atol=1e-12)
    np.testing.assert_allclose(made.train.arrays["targets"].std(), 1, rtol=1e-12)
    for split in ("valid", "test"):
        unscaled = mean + deviation * getattr(made, split).arrays["targets"]
        np.testing.assert_allclose(unscaled, made.aside[split]["targets"], rtol=1e-12)
    assert made.aside["test"]["targets"].min() >= 0 and made.aside["test"]["targets"].max() <= 1


@pytest.mark.parametrize(
    ("values", "stated", "positive"),
    [
        (("0", "1"), "", "1"),
        (("2", "1"), "", "2"),
        (("-1", "+1"), "", "+1"),
        (("10", "9"), "", "10"),  # as numbers, not as text
        (("yes", "no"), "", "yes"),
        (("Good", "Bad"), "", "Bad"),
        (("paid", "late"), "late", "late"),
        (("0", "1"), "0", "0"),
    ],
)
def test_which_class_counts(tmp_path, values, stated, positive):
    rows = [f"{20 + i},car,{values[i % 3 == 0]}" for i in range(30)]
    made = load(f"{written(tmp_path, rows)}#target=default" + (f"&positive={stated}" if stated else ""))
    assert made.preparation["classes"][1] == positive
    share = 10 if positive == values[1] else 20
    assert sum(getattr(made, split).arrays["labels"].sum() for split in SPLITS) == share


def test_categories_that_training_rows_lack_are_counted(tmp_path):
    rows = loans(60)
    tested = credit_risk.split(np.array([int(row[-1]) for row in rows]), True, 0)["test"]
    rows[tested[0]] = "30,yacht," + rows[tested[0]][-1]
    made = load(written(tmp_path, rows))
    assert "1 cell holds a category that no training row has" in made.about
    np.testing.assert_array_equal(made.test.arrays["features"][0, 1:], 0)


def test_a_target_by_its_place(tmp_path):
    made = load(f"{written(tmp_path, loans(30), header='age,purpose,late')}#target=-1")
    assert made.preparation["target"] == "late"


@pytest.mark.parametrize(
    ("rows", "header", "stated", "said"),
    [
        (loans(10), "age,purpose,default", "", "has 10 rows; a training needs at least 20"),
        (loans(30), "age,purpose,late", "", "no column named default or class or target or label"),
        (loans(30), "age,purpose,late", "#target=bad", "no column bad; its 3 columns are age, purpose, late"),
        (["30,car,1"] * 30, "age,purpose,default", "", "column default: only one class (1)"),
        ([f"30,car,{i % 3}" for i in range(30)], "age,purpose,default", "", "3 different values, not two"),
        (["30,car,0"] * 27 + ["30,car,1"] * 3, "age,purpose,default", "", "only 3 rows of one class"),
        (
            [f"30,car,{'pb'[i % 2]}" for i in range(30)],
            "age,purpose,default",
            "",
            "which of b and p is a default",
        ),
        (loans(30), "age,purpose,default", "#target=default&positive=2", "has no value 2; it has 0 and 1"),
        ([*loans(30), "30,car,"], "age,purpose,default", "", "column default, line 32: the cell is empty"),
        ([*loans(30), ",car,1"], "age,purpose,default", "", "column age, line 32: the cell is empty"),
        ([*loans(30), "nan,car,1"], "age,purpose,default", "", "column age, line 32: the cell is empty"),
        (
            [*loans(30), "old,car,1"],
            "age,purpose,default",
            "",
            "column age, line 32: 'old' is no finite number",
        ),
        ([row[-1] for row in loans(30)], "default", "", "no column but the target"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, rows, header, stated, said):
    with pytest.raises(BadInput, match=r"loans\.csv") as error:
        load(f"{written(tmp_path, rows, header)}{stated}")
    assert said in error.value.what and error.value.hint


@pytest.mark.parametrize(
    ("target", "said"), [("none", "line 31: 'none' is no finite number"), ("1.5", "every training row has 1.5")]
)
def test_regression_targets_that_cannot_be_used(tmp_path, target, said):
    rows = [f"{20 + i},1.5" for i in range(29)] + [f"60,{target}"]
    with pytest.raises(BadInput, match=r"loans\.csv, column loss") as error:
        load(written(tmp_path, rows, "age,loss"), kind="regressor")
    assert said in error.value.what


@pytest.mark.skipif(not GERMAN.exists(), reason="the real file is not here")
def test_the_real_german_credit():
    made = load(GERMAN)
    assert made.config == {"features": 61, "classes": 2}
    assert made.preparation["classes"] == ["1", "2"]  # 2 is bad
    assert [int(getattr(made, split).arrays["labels"].sum()) for split in SPLITS] == [180, 60, 60]
    assert credit_risk.classifier_baselines(made)["logistic regression"]["auc"] > 0.7
    batch, rows = credit_risk.prepare({}, made.preparation, GERMAN)
    assert batch["features"].shape == (1000, 61) and rows[0]["status"] == "A11"


# --- scores ---------------------------------------------------------------------------------------------


def test_scores_are_scikit_learns():
    rng = np.random.default_rng(0)
    p = np.round(rng.random(500), 1)  # with ties
    y = (rng.random(500) < p).astype(np.int64)
    found = credit_risk.probability_scores(y, p)
    false, true, _ = roc_curve(y, p)
    assert found["auc"] == pytest.approx(roc_auc_score(y, p), rel=1e-12)
    assert found["ks"] == pytest.approx((true - false).max(), rel=1e-12)
    assert found["brier"] == pytest.approx(brier_score_loss(y, p), rel=1e-12)
    inside = np.clip(p, 2.0**-52, 1 - 2.0**-52)
    assert found["log_loss"] == pytest.approx(log_loss(y, inside), rel=1e-9)
    assert found["accuracy"] == np.mean((p > 0.5) == y)


def test_the_calibration_error_by_hand():
    y, p = np.array([0, 1, 1, 1]), np.array([0.12, 0.18, 0.95, 1.0])
    # bin 0.1 to 0.2: |0.30 - 1| ; bin 0.9 to 1: |1.95 - 2|
    expected = (0.70 + 0.05) / 4
    assert credit_risk.probability_scores(y, p)["calibration_error"] == pytest.approx(expected)


def test_calibrated_probabilities_are_scored_and_told():
    y = np.array([0, 1, 0, 1])
    raw, better = np.array([0.9, 0.8, 0.1, 0.4]), np.array([0.3, 0.8, 0.1, 0.6])
    outputs = {"probability": np.stack([1 - raw, raw], 1), "calibrated": np.stack([1 - better, better], 1)}
    found = credit_risk.classifier_scores({}, {"labels": y}, outputs)
    assert found["brier"] == pytest.approx(np.mean((raw - y) ** 2))
    assert found["brier_calibrated"] == pytest.approx(np.mean((better - y) ** 2))
    rows = credit_risk.predictions({"classes": ["0", "1"]}, outputs)
    assert [row["probability_of_default"] for row in rows] == pytest.approx(list(better))
    del outputs["calibrated"]
    assert "brier_calibrated" not in credit_risk.classifier_scores({}, {"labels": y}, outputs)


def test_a_probability_that_is_no_number_scores_no_number():
    found = credit_risk.probability_scores(np.array([0, 1, 1]), np.array([0.1, np.nan, 0.7]))
    assert len(found) == 6 and all(np.isnan(value) for value in found.values())


def test_errors_are_in_the_targets_own_unit():
    preparation = {"target": "loss", "scale": [10.0, 2.0]}
    aside, outputs = {"targets": np.array([10.0, 14.0])}, {"prediction": np.array([0.5, 1.0])}
    found = credit_risk.regressor_scores(preparation, aside, outputs)  # predicted: 11, 12
    assert found == pytest.approx({"rmse": 2.5**0.5, "mae": 1.5, "r2": 1 - 2.5 / 4})
    assert credit_risk.predictions(preparation, outputs) == [{"predicted_loss": 11.0}, {"predicted_loss": 12.0}]


def test_baselines_are_ranked_as_they_must_be():
    found = credit_risk.classifier_baselines(load())
    none, logistic, truth = (
        found[name] for name in ("the mean for everyone", "logistic regression", "true probability")
    )
    assert none["auc"] == 0.5 and none["ks"] == 0
    assert 0.5 < logistic["auc"] < truth["auc"] and none["brier"] > logistic["brier"] > truth["brier"]
    found = credit_risk.regressor_baselines(load(kind="regressor"))
    none, linear, truth = (found[name] for name in ("the mean for everyone", "linear regression", "true mean"))
    assert none["rmse"] > linear["rmse"] > truth["rmse"]
    assert none["r2"] == pytest.approx(0, abs=0.01)


def test_no_truth_is_claimed_of_a_file(tmp_path):
    assert "true probability" not in credit_risk.classifier_baselines(load(written(tmp_path, loans(60))))


# --- a user's file --------------------------------------------------------------------------------------


def test_a_file_is_prepared_as_the_training_data_were(tmp_path):
    rows = loans(60)
    made = load(written(tmp_path, rows))
    batch, told = credit_risk.prepare({}, made.preparation, tmp_path / "loans.csv")
    train = credit_risk.split(np.array([int(row[-1]) for row in rows]), True, 0)["train"]
    np.testing.assert_array_equal(batch["features"][train], made.train.arrays["features"])
    assert ",".join(told[0].values()) == rows[0]
    # other order, another column, no target, an unknown category
    swapped = written(tmp_path, ["car,x,30", "yacht,y,30"], "purpose,note,age", "new.csv")
    batch, told = credit_risk.prepare({}, made.preparation, swapped)
    assert batch["features"][0, 0] == batch["features"][1, 0] and not batch["features"][1, 1:].any()
    assert told == [
        {"purpose": "car", "note": "x", "age": "30", "unknown_categories": ""},
        {"purpose": "yacht", "note": "y", "age": "30", "unknown_categories": "purpose"},
    ]


def test_a_file_without_a_header(tmp_path):
    rows = [f"{20 + i} {1.5 + i % 2} {int(i % 3 == 0)}" for i in range(30)]
    file = written(tmp_path, rows[1:], rows[0])
    made = load(f"{file}#target=-1")
    batch, told = credit_risk.prepare({}, made.preparation, file)
    assert batch["features"].shape == (30, 2) and list(told[0]) == ["column_1", "column_2", "column_3"]
    without = written(tmp_path, [row.rsplit(" ", 1)[0] for row in rows[1:]], rows[0].rsplit(" ", 1)[0], "w.csv")
    same, _ = credit_risk.prepare({}, made.preparation, without)
    np.testing.assert_array_equal(same["features"], batch["features"])


@pytest.mark.parametrize(
    ("rows", "header", "said"),
    [
        (["30"], "age", "lacks purpose; it has age"),
        (["30,car", "old,car"], "age,purpose", "column age, line 3: 'old' is no finite number"),
        (["30,car", "31,"], "age,purpose", "column purpose, line 3: the cell is empty"),
    ],
)
def test_files_that_cannot_be_predicted(tmp_path, rows, header, said):
    made = load(written(tmp_path, loans(60)))
    with pytest.raises(BadInput, match=r"new\.csv") as error:
        credit_risk.prepare({}, made.preparation, written(tmp_path, rows, header, "new.csv"))
    assert said in error.value.what
