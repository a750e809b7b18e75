"""Derivatives of the model: all ways to the same numbers agree, on both sides; a wrong one is named."""

import pytest

from cases import TWINS, small
from twinax.frameworks.base import DERIVATIVES, outermost_blocks
from twinax.frameworks.make import make_runner
from twinax.records import Cell, Options
from twinax.studies.base import Context
from twinax.studies.derivative_cost import disagreements
from twinax.studies.derivative_cost_verbs import VERBS
from twinax.twin import Twin


def measured(twin: Twin, folder) -> dict[str, dict]:
    found = {}
    for side, mode in (("torch", "eager"), ("jax", "jit")):
        size = twin.presets["parity_quick"]
        cell = Cell(twin=twin.name, study="derivative_cost", side=side, mode=mode, size=size, dtype="float64")
        weights = twin.init(twin.config, 0)
        runner = make_runner(cell, twin, weights)
        context = Context(twin, cell, Options(quick=True), runner, weights, folder, folder)
        found[side] = {kind: VERBS["derivative"](context, kind=kind) for kind in DERIVATIVES}
    return found


SLOW = ("bert", "bert/encoder", "lstm", "resnet50", "gru", "svm", "svm/linear", "svm/regressor", "xor/logistic")
"""Large, or alike to another twin in what is differentiated."""
ONE_MODULE = ("xor", "svm")  # nothing is repeated in it, so nothing can be rematerialised


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in TWINS
        if "grad" in small(name).programs
    ],
)
def test_all_ways_give_the_same_numbers_on_both_sides(name, tmp_path):
    found = measured(small(name), tmp_path)
    for rows in found.values():
        refused = {kind for kind, row in rows.items() if row["said"]}
        assert refused <= ({"rematerialised"} if name.startswith(ONE_MODULE) else set())
        assert all(len(row["samples_s"]) >= 3 for kind, row in rows.items() if kind not in refused)
    assert disagreements(found["torch"], {}, 1e-9) == []
    assert disagreements(found["jax"], found["torch"], 1e-9) == []


def found(*numbers):
    return {"numbers": list(numbers), "said": ""}


NUMBERS = found(2.0, 0.3)


@pytest.mark.parametrize(
    ("mine", "other", "named"),
    [
        ({"hvp": found(2.0, -0.3)}, {"hvp": NUMBERS}, "hvp on both sides"),  # a wrong sign
        ({"hvp": found(float("nan"), 0.3)}, {"hvp": NUMBERS}, "hvp on both sides"),
        (
            {"gradient": NUMBERS, "rematerialised": found(2.1, 0.3)},
            {},
            "rematerialised and gradient",
        ),
        (
            {"per_sample_loop": NUMBERS, "per_sample": found(2.0, 0.31)},
            {},
            "per sample loop",
        ),
    ],
)
def test_what_differs_is_named(mine, other, named):
    (told,) = disagreements(mine, other, 1e-3)
    assert named in told


def test_what_was_refused_is_not_compared():
    assert disagreements({"hvp": {"numbers": [], "said": "not implemented"}}, {"hvp": NUMBERS}, 1e-9) == []


def test_blocks_are_the_outermost_repeated_modules():
    paths = ["encoder", "encoder.layer.0", "encoder.layer.0.heads.1", "encoder.layer.1", "pooler"]
    assert outermost_blocks(paths) == ["encoder.layer.0", "encoder.layer.1"]
