"""The differentiation tasks: both sides against closed forms, and those against finite differences."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from twinax.compare import difference
from twinax.probes.derivatives import jax_side, torch_side
from twinax.probes.derivatives.reference import REFERENCE, inputs
from twinax.records import Cell, Outcome, Record, Size
from twinax.studies.autodiff import judged

SIDES = {"torch": torch_side, "jax": jax_side}


def test_there_are_enough_tasks_and_both_sides_know_them():
    assert len(REFERENCE) >= 14
    for side in SIDES.values():
        assert list(side.TASKS) == list(REFERENCE)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("task", REFERENCE)
def test_every_task_gives_the_closed_form(task, side):
    jax.config.update("jax_enable_x64", True)
    for seed in range(3):
        given = inputs(seed)
        answer, again = SIDES[side].run(SIDES[side].TASKS[task], given)
        assert difference(REFERENCE[task](given), answer).error < 1e-12
        again()


def slope(function, at, along, h=1e-6):
    return (function(at + h * along) - function(at - h * along)) / (2 * h)


@pytest.mark.parametrize("seed", range(3))
def test_the_closed_forms_are_slopes(seed):
    d = inputs(seed)
    one = np.asarray(1.0)
    f = slope(lambda x: np.sin(d["w"] @ x), d["x"], d["v"])
    assert f == pytest.approx(REFERENCE["gradient"](d) @ d["v"], rel=1e-6)
    tangent = slope(lambda x: np.tanh(d["W"] @ x), d["x"], d["v"])
    np.testing.assert_allclose(tangent, REFERENCE["jvp"](d), rtol=1e-6)
    curved = slope(lambda x: REFERENCE["gradient"]({**d, "x": x}), d["x"], d["v"])
    np.testing.assert_allclose(curved, REFERENCE["hessian_vector_product"](d), rtol=1e-6)
    third = slope(lambda x: REFERENCE["hessian_vector_product"]({**d, "x": x}) @ d["v"], d["x"], d["v"])
    assert third == pytest.approx(float(REFERENCE["third_derivative"](d)), rel=1e-6)

    def penalty(theta):
        return np.sum((theta * np.cos(theta @ d["x"])) ** 2)

    found = slope(penalty, d["theta"], d["v"])
    assert found == pytest.approx(REFERENCE["gradient_penalty"](d) @ d["v"], rel=1e-6)

    def solved(a):
        z = a
        for _ in range(200):
            z = 0.5 * np.cos(z) + a
        return z

    assert slope(solved, d["a"], one) == pytest.approx(float(REFERENCE["through_a_fixed_point"](d)), rel=1e-6)


@pytest.mark.parametrize(
    "fault",
    [
        {"error": 2.0, "said": ""},  # a wrong sign
        {"error": 1e-6, "said": ""},  # a dropped term
        {"error": None, "said": ""},  # a NaN
        {"error": None, "said": "NotImplementedError: no rule for jvp"},
    ],
)
def test_a_wrong_answer_is_a_mismatch_that_names_the_task(fault):
    class Crew:
        def record(self, cell, measurements, **more):
            return Record(cell=cell, measurements=measurements, **({"outcome": Outcome.OK} | more))

    cell = Cell(twin="xor", study="autodiff", side="torch", mode="eager", size=Size(batch=1))
    right = {"task": "gradient", "error": 1e-16, "seconds": 1e-5, "said": ""}
    wrong = {"task": "hessian", "seconds": None, **fault}
    assert judged(cell, {"derivatives": [right], "workloads": []}, Crew()).outcome is Outcome.OK
    record = judged(cell, {"derivatives": [right, wrong], "workloads": []}, Crew())
    assert record.outcome is Outcome.MISMATCH
    assert "hessian" in record.message and "gradient" not in record.message
    assert fault["said"] in record.message


@pytest.mark.parametrize("errors", [[1e-16, 2.0], [None, 1e-16], [1e-6, 1e-6]])
def test_a_wrong_workload_is_a_mismatch_that_names_it(errors):
    class Crew:
        def record(self, cell, measurements, **more):
            return Record(cell=cell, measurements=measurements, **({"outcome": Outcome.OK} | more))

    cell = Cell(twin="xor", study="autodiff", side="torch", mode="eager", size=Size(batch=1))
    rows = [
        {"workload": "gmm", "said": "", "errors": [1e-16, 1e-15]},
        {"workload": "lstm", "said": "", "errors": errors},
    ]
    record = judged(cell, {"derivatives": [], "workloads": rows}, Crew())
    assert record.outcome is Outcome.MISMATCH and "lstm" in record.message and "gmm" not in record.message
