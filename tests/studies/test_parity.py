"""Parity on every twin: a clean run raises nothing, and every fault is caught and located."""

import functools

import pytest

from cases import TWINS, small
from faults import FAULTS, edited
from inprocess import prove
from twinax.records import Options


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """A twin's proof as it is; each is made once."""
    return functools.cache(lambda name: prove(small(name), tmp_path_factory.mktemp("clean")))


COSTLY = ("resnet50", "bert/encoder", "gru", "lstm", "svm", "svm/regressor")
"""Twins that take long, or are alike to another: their clean proof runs in `make test-all`."""


def marked(name):
    return pytest.param(name, marks=[pytest.mark.slow] if name in COSTLY else [])


@pytest.mark.parametrize("name", map(marked, TWINS))
def test_a_clean_twin_raises_nothing(name, clean):
    twin = small(name)
    record = clean(name)
    found = record.measurements
    assert record.outcome == "ok", record.message
    assert found["holds"] and not found["mismatches"] and found["first_difference"] is None
    assert len(found["layers"]) > 0 or "fit" in twin.programs  # a solver's model is one module
    assert len(found["gradients"]) > 0 or "grad" not in twin.programs
    checked = {check["kind"] for check in found["checks"] if "after fit" in check["name"]}
    assert checked == ({"weights", "outputs", "loss"} if "fit" in twin.programs else set())
    # what nothing was proved about is only what no output depends on: a key's bias shifts all scores alike
    assert all(unproved.endswith("key.bias") for unproved in found["unproved"])


BUFFERS = ("running_", "gamma", "prob_")


@pytest.mark.parametrize("name", [marked(name) for name in TWINS if "step" in small(name).programs])
def test_every_parameter_is_compared_in_every_step(name, clean):
    twin = small(name)
    found = clean(name).measurements
    parameters = [n for n in twin.init(twin.config, 0) if not any(part in n for part in BUFFERS)]
    counts = {check["name"]: check["count"] for check in found["checks"]}
    for optimizer in ("sgd", "adamw"):
        assert counts[f"gradients, 3 steps of {optimizer}, float64"] == len(parameters)
        assert counts[f"weights, 3 steps of {optimizer}, float64"] == len(parameters)
        assert len(found["steps"][optimizer]) == 3
    assert counts["optimizer, 3 steps of adamw, float64"] == 2 * len(parameters) + 1
    assert {row["name"] for row in found["gradients"]} == set(parameters)


@pytest.mark.slow
def test_the_proof_depends_on_the_seed_and_on_nothing_else(tmp_path):
    twin = small("xor")
    runs = [prove(twin, tmp_path, options=Options(quick=True, seed=s)).measurements for s in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0]["steps"] != runs[2]["steps"]


AKIN = (
    "heads split along the wrong axis",
    "positions off by one",
    "labels in another order",
    "padding masked too softly",
    "scores scaled by the width, not by the head",
    "attention dropout forgotten",
    "computed in float32 inside",
    "scores not scaled",
    "softmax over the queries",
    "tanh GELU for erf GELU",  # an example of the README is tested with it
    "segment embeddings forgotten",
    "residual connection forgotten",
    "wrong dropout rate",
    "pooler without tanh",
    "last token pooled instead of the first",
    "loss summed instead of averaged",
    "gradient cut off at the embeddings",
    "padding not masked",
)
"""Faults that show where another one does."""


def slow_if_costly(fault):
    """XLA takes half a minute to compile each broken ResNet; those, and some BERTs, run in `make test-all`."""
    marks = [pytest.mark.slow] if fault.twin == "resnet50" or fault.name in AKIN else []
    return pytest.param(fault, marks=marks, id=fault.name)


@pytest.mark.parametrize("fault", list(map(slow_if_costly, FAULTS)))
def test_a_fault_is_caught_and_located(fault, tmp_path):
    twin = small(fault.twin)
    if fault.edits:
        twin = edited(twin, fault.edits)
    record = prove(twin, tmp_path, wrap={"jax": fault.tamper} if fault.tamper else None)
    assert record.outcome == "mismatch", "the fault went unnoticed"
    found = record.measurements
    failed = [check["name"] for check in found["checks"] if not check["passed"]]
    assert any(name.startswith(fault.check) for name in failed), failed
    first = found["first_difference"]
    assert first["path"].startswith(fault.at), first
    assert fault.mode in first["detail"]


def test_there_are_enough_faults():
    assert len(FAULTS) >= 24 and len({fault.name for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("name", map(marked, ["knn", "svm", "svm/linear", "svm/regressor"]))
def test_a_solver_that_finds_other_weights_is_caught(name, tmp_path, monkeypatch):
    from twinax.frameworks import make

    real = make.fit

    def faulty(cell, twin, batch):
        weights = real(cell, twin, batch)
        wrong = next(n for n in ("intercept", "calibration") if n in weights)
        return {**weights, wrong: weights[wrong] * (1 + 1e-8)} if cell.side == "jax" else weights

    monkeypatch.setattr(make, "fit", faulty)
    record = prove(small(name), tmp_path)
    assert record.outcome == "mismatch" and "weights after fit" in record.message
