"""Presets, single settings and schedules; what cannot be used is named."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cases import small
from twinax.errors import BadInput
from twinax.records import Recipe
from twinax.sources import resolve
from twinax.train.recipe import chosen, learning_rate, parsed


def test_settings_change_the_recipe_and_the_configuration():
    twin, recipe = chosen(small("xor"), "tiny", {"epochs": 3, "hidden": 5})
    assert recipe.epochs == 3 and twin.config["hidden"] == 5
    assert recipe.learning_rate == small("xor").task.recipes["tiny"].learning_rate


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"epoch": 3}, "no setting epoch"),
        ({"epochs": 0}, "epochs = 0"),
        ({"learning_rate": -1}, "learning_rate = -1"),
        ({"learning_rate": "fast"}, "learning_rate = 'fast'"),
        ({"optimizer": "lion"}, "optimizer = 'lion'"),
        ({"hidden": "many"}, "hidden = "),
        ({"hidden": 2.5}, "hidden = 2.5"),
        ({"hidden": True}, "hidden = true"),
        ({"accumulate": 3}, "3 equal parts"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(settings, told):
    with pytest.raises(BadInput, match=told):
        chosen(small("xor"), "tiny", settings)


@pytest.mark.parametrize(
    ("name", "key", "told"),
    [
        ("knn", "features", "the columns of the data"),
        ("knn", "rows", "the rows that it is trained on"),
        ("knn/regressor", "classes", "a regressor none"),
        ("svm", "support_vectors", "the solver finds"),
        ("svm/regressor", "regression", "svm classifies"),
        ("gru", "features", "overnight"),
    ],
)
def test_what_the_data_fix_is_refused_with_the_reason_and_not_offered(name, key, told):
    twin = resolve(name)
    with pytest.raises(BadInput, match=f"{key} cannot be set: .*{told}") as refused:
        chosen(twin, "tiny", {key: 3})
    offered = refused.value.hint.removeprefix("Settings are: ").rstrip(".").split(", ")
    assert not twin.task.fixed.keys() & set(offered)
    for setting in twin.config.keys() - twin.task.fixed.keys():
        assert setting in offered


def test_a_twin_without_a_task_and_an_unknown_preset():
    with pytest.raises(BadInput, match="resnet50 has no task"):
        chosen(small("resnet50"), "tiny", {})
    with pytest.raises(BadInput, match="no preset huge"):
        chosen(small("xor"), "huge", {})


def test_words_become_settings():
    assert parsed(["epochs=3", "clip=0.5", "kernel=rbf", "tied=true", "layers=[1, 2]"]) == {
        "epochs": 3,
        "clip": 0.5,
        "kernel": "rbf",
        "tied": True,
        "layers": [1, 2],
    }


@pytest.mark.parametrize("words", [["epochs"], ["=3"], ["epochs=1", "epochs=2"]])
def test_a_word_that_is_no_setting(words):
    with pytest.raises(BadInput, match="--set"):
        parsed(words)


@given(st.dictionaries(st.from_regex(r"[a-z_]+", fullmatch=True), st.integers() | st.booleans(), max_size=4))
def test_any_json_value_comes_back(settings):
    assert parsed([f"{key}={json.dumps(value)}" for key, value in settings.items()]) == settings


def test_schedules():
    flat = Recipe(learning_rate=2.0, warmup=4)
    assert [learning_rate(flat, t, 10) for t in (0, 1, 3, 4, 9)] == [0.5, 1.0, 2.0, 2.0, 2.0]
    cosine = Recipe(learning_rate=2.0, schedule="cosine")
    assert learning_rate(cosine, 5, 10) == pytest.approx(1.0)
    assert learning_rate(cosine, 9, 10) == pytest.approx(1 + math.cos(0.9 * math.pi))
    linear = Recipe(learning_rate=2.0, schedule="linear", warmup=2)
    assert learning_rate(linear, 6, 10) == pytest.approx(1.0)
