"""The proof of a strategy: an optimizer's first step by hand, and what is found where a step is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parallel_records import cell
from twinax.errors import CellFailed
from twinax.frameworks.base import ADAMW, OPTIMIZERS, SGD_MOMENTUM, Evaluation, Optimizer
from twinax.measure import memory
from twinax.records import Options
from twinax.studies import parallel_proof, parallel_verbs
from twinax.studies import parity_files as files
from twinax.studies.base import Context
from twinax.studies.parity_verdict import Verdict

# --- a step by hand --------------------------------------------------------------------------------


def test_sgd_by_hand():
    rule = Optimizer("sgd", learning_rate=0.1, momentum=0.9, weight_decay=0.5)
    after, state = parallel_proof.first_step(rule, {"w": np.array([1.0, -2.0])}, {"w": np.array([0.5, 0.0])})
    assert after["w"] == pytest.approx([0.9, -1.9], rel=1e-15)  # g + 0.5 w is 1 and -1
    assert set(state) == {"momentum.w"} and state["momentum.w"].tolist() == [1.0, -1.0]


def test_adamw_by_hand():
    rule = Optimizer("adamw", learning_rate=0.1, betas=(0.9, 0.99), eps=1.0, weight_decay=0.5)
    after, state = parallel_proof.first_step(rule, {"w": np.array([2.0])}, {"w": np.array([-3.0])})
    # 2 · (1 − 0.05) + 0.1 · 3 / (3 + 1)
    assert after["w"] == pytest.approx([1.975], rel=1e-15)
    assert state["exp_avg.w"] == pytest.approx([-0.3]) and state["exp_avg_sq.w"] == pytest.approx([0.09])
    assert set(state) == {"exp_avg.w", "exp_avg_sq.w", "step"} and float(state["step"]) == 1.0


def test_the_first_step_is_the_papers_with_its_corrections():
    rng = np.random.default_rng(3)
    w, g = rng.normal(size=(2, 50))
    g[0] = 0.0
    (b1, b2), lr = ADAMW.betas, ADAMW.learning_rate
    m, v = (1 - b1) * g, (1 - b2) * g**2
    moved = (m / (1 - b1)) / (np.sqrt(v / (1 - b2)) + ADAMW.eps)
    expected = w - lr * ADAMW.weight_decay * w - lr * moved
    after, _ = parallel_proof.first_step(ADAMW, {"w": w}, {"w": g})
    assert np.allclose(after["w"], expected, rtol=1e-13, atol=0)
    assert after["w"][0] == pytest.approx(w[0] * (1 - lr * ADAMW.weight_decay))


def test_the_first_step_is_taken_in_float64():
    after, _ = parallel_proof.first_step(SGD_MOMENTUM, {"w": np.ones(1, np.float32)}, {"w": np.array([1e-9])})
    assert after["w"].dtype == np.float64 and after["w"][0] == 1 - 1e-11


def test_an_optimizer_that_leaves_its_formula_is_found_on_one_device():
    for name in ("sgd", "adamw"):
        parallel_proof.held_to_formula(name, START, evaluation(name))
        for kind in parallel_proof.STEPPED:
            found = altered(evaluation(name), kind, lambda a: a * (1 + 1e-6))
            with pytest.raises(CellFailed, match=rf"{name}'s first step .* {kind} .*1.0e-06") as raised:
                parallel_proof.held_to_formula(name, START, found)
            assert raised.value.outcome == "mismatch"


@pytest.mark.parametrize("fault", ["nan", "missing"])
def test_a_step_that_is_no_number_leaves_its_formula_too(fault):
    found = evaluation("sgd")
    found.weights = altered(found, "weights", lambda a: a * np.nan).weights if fault == "nan" else {}
    with pytest.raises(CellFailed, match="weights w, inf"):
        parallel_proof.held_to_formula("sgd", START, found)


# --- one device against the other side's ---------------------------------------------------------------


class Device:
    """One device's engine: w is squared, a gradient that is zero but for rounding, what it remembers of x."""

    def __init__(self, wrong: str = "", noise: float = 3e-17) -> None:
        self.wrong, self.noise = wrong, noise
        self.start: dict[str, np.ndarray] = {}
        self.rule: Optimizer | None = None

    def load(self, weights: Any, rule: Optimizer | None = None) -> None:
        self.start, self.rule = dict(weights), rule

    def evaluate(self, batch: Any, train: bool = False, step: bool = False) -> Evaluation:
        w, off = self.start["w"], {self.wrong: 1 + 1e-6}
        mean = float(np.mean(batch["x"]))
        rest = np.asarray(3 * (w[0] - 1) + self.noise)  # other roundings with other weights
        gradients = {"w": 2 * w * mean * off.get("gradients", 1), "flat": np.full(2, rest)}
        buffers = {"bn.running_mean": np.array([mean]) * off.get("buffers", 1)}
        weights, state = map(dict, parallel_proof.first_step(self.rule or SGD_MOMENTUM, self.start, gradients))
        weights["w"] = weights["w"] * off.get("weights", 1)
        loss = float(np.sum(w**2)) * mean * off.get("loss", 1)
        return Evaluation({}, loss, gradients, buffers, {}, weights if step else {}, state if step else {})


DEVICE_START = {"w": np.array([1.0, -2.0]), "flat": np.ones(2), "bn.running_mean": np.zeros(1)}


def device(
    monkeypatch: pytest.MonkeyPatch, folder: Path, side: str, engine: Device, other: str = ""
) -> dict[str, Any]:
    """What ``reference`` answers for an engine; its arrays lie under the side's name."""
    monkeypatch.setattr(parallel_proof, "make_runner", lambda *_: engine)
    monkeypatch.setattr(parallel_proof, "make_batches", lambda *_: [{"x": np.array([1.0, 3.0, 10.0, 20.0])}])
    options = Options(quick=True)
    context = Context(object(), cell(side, "single"), options, None, DEVICE_START, folder, folder)  # type: ignore[arg-type]
    more: dict[str, Any] = {"size": {"batch": 4}, "optimizers": ["sgd", "adamw"], "parts": [2]}
    return parallel_proof.reference(context, output=str(folder / side), other=other, **more)


def test_the_first_side_has_nothing_to_be_compared_with(monkeypatch, tmp_path):
    answer = device(monkeypatch, tmp_path, "torch", Device())
    assert answer == {"batch_norm": True, "unproved": [], "across": None}


def test_a_reference_holds_what_no_formula_gives(monkeypatch, tmp_path):
    device(monkeypatch, tmp_path, "torch", Device())
    for folder in ("torch", "torch.2"):
        kept = {file.stem for file in (tmp_path / folder).glob("*.safetensors")}
        assert kept == {"loss", "gradients", "buffers"} == set(parallel_proof.STORED)
    floors = json.loads((tmp_path / "torch" / parallel_proof.ROUNDING).read_text())
    stepped = {f"{rule}.{kind}" for rule in ("sgd", "adamw") for kind in parallel_proof.STEPPED}
    assert set(floors) == {*parallel_proof.STORED, *stepped}


def test_sides_that_agree_differ_in_nothing(monkeypatch, tmp_path):
    device(monkeypatch, tmp_path, "torch", Device())
    other = Device(noise=-5e-17)  # another rounding of a gradient that is zero
    answer = device(monkeypatch, tmp_path, "jax", other, str(tmp_path / "torch"))
    assert answer["across"] == []


@pytest.mark.parametrize("wrong", ["loss", "gradients", "buffers"])
def test_what_differs_between_the_sides_is_named(monkeypatch, tmp_path, wrong):
    device(monkeypatch, tmp_path, "torch", Device())
    answer = device(monkeypatch, tmp_path, "jax", Device(wrong), str(tmp_path / "torch"))
    assert answer["across"] == [wrong]


def test_a_rounding_that_is_none_differs_between_the_sides(monkeypatch, tmp_path):
    device(monkeypatch, tmp_path, "torch", Device())
    answer = device(monkeypatch, tmp_path, "jax", Device(noise=1e-9), str(tmp_path / "torch"))
    assert answer["across"] == ["gradients"]


def test_another_side_that_left_nothing_differs_in_everything(monkeypatch, tmp_path):
    answer = device(monkeypatch, tmp_path, "jax", Device(), str(tmp_path / "nowhere"))
    assert answer["across"] == list(parallel_proof.STORED)


def test_a_device_whose_step_leaves_the_formula_is_no_reference(monkeypatch, tmp_path):
    with pytest.raises(CellFailed, match=r"sgd's first step .* weights w"):
        device(monkeypatch, tmp_path, "torch", Device("weights"))
    assert not (tmp_path / "torch").exists()


# --- against one device ----------------------------------------------------------------------------

START = {"w": np.ones((2, 2)), "flat": np.ones(2)}
FLAT = np.array([3e-17, -4e-17])  # a gradient whose true value is zero
NUDGED = np.array([-1e-17, 5e-17])  # the same from weights one unit in the last place away
ALL_KINDS = ("loss", "gradients", "buffers", "weights", "optimizer")


def evaluation(optimizer: str = "sgd", flat: np.ndarray = FLAT) -> Evaluation:
    """A made-up step on one device."""
    gradients = {"w": np.array([[1.0, -2.0], [0.5, 3.0]]), "flat": flat}
    weights, state = parallel_proof.first_step(OPTIMIZERS[optimizer], START, gradients)
    return Evaluation({}, 0.7, gradients, {"bn.running_mean": np.array([0.1, 0.2])}, {}, weights, state)


def altered(found: Evaluation, kind: str, change: Callable[[np.ndarray], np.ndarray]) -> Evaluation:
    """With the first tensor of a kind changed."""
    tensors = dict(getattr(found, kind))
    name = next(iter(tensors))
    return replace(found, **{kind: {**tensors, name: change(np.asarray(tensors[name]))}})


def reference(folder: Path, part: int = 0) -> str:
    """What one device wrote; over ``part`` parts also what BatchNorm of the first part alone left behind."""
    path = str(folder / "reference-torch")
    files.write(path, evaluation(), parallel_proof.STORED)
    floors = parallel_proof.rounding(path, START, evaluation(flat=NUDGED), ["sgd", "adamw"])
    Path(path, parallel_proof.ROUNDING).write_text(json.dumps(floors))
    if part:
        found = evaluation()
        found.buffers = {**found.buffers, "first.bn.running_mean": np.array([5.0, 6.0])}
        files.write(f"{path}.{part}", found, parallel_proof.STORED)
    return path


def judged(path: str, found: Evaluation, part: int = 0, first: bool = False, optimizer: str = "sgd") -> Verdict:
    verdict = Verdict()
    parallel_proof.judge(verdict, found, START, optimizer, path, part, first=first)
    return verdict


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_same_step_passes_and_everything_was_looked_at(tmp_path, optimizer):
    verdict = judged(reference(tmp_path), evaluation(optimizer), optimizer=optimizer)
    assert verdict.failed == [] and verdict.mismatches == []
    assert {check["kind"]: check["count"] for check in verdict.checks} == {
        "loss": 1,
        "gradients": 2,
        "buffers": 1,
        "weights": 2,
        "optimizer": {"sgd": 2, "adamw": 5}[optimizer],
    }


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_an_injected_fault_is_named_by_kind_and_tensor(tmp_path, kind, optimizer):
    path, found = reference(tmp_path), evaluation(optimizer)
    if kind == "loss":
        found.loss, name = found.loss * (1 + 1e-6), "loss"
    else:
        name = next(iter(getattr(found, kind)))
        found = altered(found, kind, lambda a: a * (1 + 1e-6))
    verdict = judged(path, found, optimizer=optimizer)
    assert verdict.failed == [f"{kind}, {optimizer}"]
    assert [(m["what"], m["path"]) for m in verdict.mismatches] == [(kind, name)]
    assert verdict.mismatches[0]["error"] == pytest.approx(1e-6, rel=1e-3)


def test_the_step_of_another_optimizer_is_a_difference(tmp_path):
    verdict = judged(reference(tmp_path), evaluation("adamw"), optimizer="sgd")
    assert verdict.failed == ["weights, sgd", "optimizer, sgd"]


@pytest.mark.parametrize("fault", ["missing", "unexpected", "transposed", "nan", "zero"])
def test_gradients_that_are_wholly_wrong_fail(tmp_path, fault):
    path, found = reference(tmp_path), evaluation()
    w = np.asarray(found.gradients["w"])
    changed = {
        "missing": {"flat": FLAT},
        "unexpected": {**found.gradients, "more": np.ones(1)},
        "transposed": {**found.gradients, "w": w.T},
        "nan": {**found.gradients, "w": np.where(w > 2, np.nan, w)},
        "zero": {**found.gradients, "w": np.zeros_like(w)},
    }
    found.gradients = changed[fault]
    verdict = judged(path, found)
    assert verdict.failed == ["gradients, sgd"]
    assert verdict.mismatches[0]["path"] == ("more" if fault == "unexpected" else "w")


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_zero_gradient_that_is_only_rounding_is_no_difference(tmp_path, optimizer):
    found = evaluation(optimizer, flat=np.array([-1e-17, 6e-17]))  # 200 % away, yet nothing but rounding
    assert judged(reference(tmp_path), found, optimizer=optimizer).failed == []


@pytest.mark.parametrize("slot", ["exp_avg", "exp_avg_sq"])
def test_the_state_of_a_rounding_is_not_judged_and_that_of_a_real_gradient_is(tmp_path, slot):
    """Of a gradient of 1e-17 AdamW's second moment is 1e-37: nothing bounds how far rounding moves that."""
    path, found = reference(tmp_path), evaluation("adamw", flat=np.array([-1e-17, 6e-17]))
    found.optimizer = {**found.optimizer, f"{slot}.flat": 1e3 * np.asarray(found.optimizer[f"{slot}.flat"])}
    verdict = judged(path, found, optimizer="adamw")
    assert verdict.failed == []
    assert {c["kind"]: c["count"] for c in verdict.checks}["optimizer"] == 3  # both of w, and the step
    found.optimizer = {**found.optimizer, f"{slot}.w": np.asarray(found.optimizer[f"{slot}.w"]) * (1 + 1e-6)}
    verdict = judged(path, found, optimizer="adamw")
    assert verdict.failed == ["optimizer, adamw"] and verdict.mismatches[0]["path"] == f"{slot}.w"


def test_the_state_of_a_small_gradient_that_agrees_is_judged(tmp_path):
    """Only where the gradient itself differs by its rounding is there nothing to hold its state to."""
    found = evaluation("adamw")
    found.optimizer = {**found.optimizer, "exp_avg.flat": np.array([1e-12, 0.0])}
    verdict = judged(reference(tmp_path), found, optimizer="adamw")
    assert verdict.failed == ["optimizer, adamw"] and verdict.mismatches[0]["path"] == "exp_avg.flat"


def test_weights_are_judged_even_where_the_gradient_is_a_rounding(tmp_path):
    found = evaluation("adamw", flat=np.array([-1e-17, 6e-17]))
    found.weights = {**found.weights, "flat": np.asarray(found.weights["flat"]) * (1 + 1e-6)}
    assert judged(reference(tmp_path), found, optimizer="adamw").failed == ["weights, adamw"]


def test_a_zero_gradient_that_is_more_than_rounding_is_one(tmp_path):
    path, found = reference(tmp_path), evaluation()
    found.gradients = {**found.gradients, "flat": np.array([1e-12, 0.0])}
    verdict = judged(path, found)
    assert verdict.failed == ["gradients, sgd"] and verdict.mismatches[0]["path"] == "flat"


def test_a_reference_that_is_not_there_proves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        judged(str(tmp_path / "nowhere"), evaluation())
    path = reference(tmp_path)
    for kind in parallel_proof.STORED:
        files.file_of(path, kind).unlink()
    assert set(judged(path, evaluation()).failed) == {f"{kind}, sgd" for kind in ALL_KINDS}


def test_rounding_is_how_far_each_tensor_moves(tmp_path):
    path, nudged = reference(tmp_path), evaluation()
    nudged.loss = 0.75
    nudged.gradients = {**nudged.gradients, "w": nudged.gradients["w"] + np.array([[3.0, 0.0], [0.0, 4.0]])}
    floors = parallel_proof.rounding(path, START, nudged, ["sgd"])
    assert floors["loss"] == pytest.approx({"loss": 0.05})
    assert floors["gradients"] == {"w": 5.0, "flat": 0.0}
    assert floors["buffers"] == {"bn.running_mean": 0.0}
    assert floors["sgd.weights"] == pytest.approx({"w": 5 * SGD_MOMENTUM.learning_rate, "flat": 0.0})
    assert floors["sgd.optimizer"] == {"momentum.w": 5.0, "momentum.flat": 0.0}


def test_parts_are_held_against_parts_and_a_local_rank_against_the_first(tmp_path):
    path, found = reference(tmp_path, part=2), evaluation()
    assert judged(path, evaluation(), part=2).failed == []
    assert judged(path, evaluation(), part=2, first=True).failed == ["buffers, sgd"]
    found.buffers = {"bn.running_mean": np.array([5.0, 6.0])}
    assert judged(path, found, part=2, first=True).failed == []
    assert judged(path, found, part=2).failed == ["buffers, sgd"]


def test_the_gap_to_the_whole_batch_is_relative_to_it(tmp_path):
    found, path = evaluation(), reference(tmp_path)
    found.loss *= 1.5
    found.gradients = {name: 1.25 * np.asarray(g) for name, g in found.gradients.items()}
    assert parallel_proof.gap_to_whole(found, path) == pytest.approx({"loss": 0.5, "gradients": 0.25})


# --- the proof, with an engine that answers ---------------------------------------------------------


class Engine:
    def __init__(self, *answers: Evaluation | None) -> None:
        self.answers, self.left = list(answers), 0

    def step(self, batch: Any, weights: Any, rule: Optimizer) -> Evaluation | None:
        if not self.answers:
            raise CellFailed("crashed", "The engine broke.", "")
        return self.answers.pop(0)

    def leave(self) -> None:
        self.left += 1


def proved(monkeypatch, tmp_path, engine: Engine, mode: str = "data", part: int = 0) -> dict[str, Any]:
    monkeypatch.setattr(parallel_proof, "make_parallel_runner", lambda *_: engine)
    monkeypatch.setattr(parallel_proof, "make_batches", lambda *_: [{"x": np.zeros(4)}])
    mine, options = cell("torch", mode, max(part, 1)), Options(quick=True)
    context = Context(object(), mine, options, None, START, tmp_path, tmp_path)  # type: ignore[arg-type]
    path, optimizers = str(tmp_path / "reference-torch"), ["sgd", "adamw"]
    return parallel_proof.prove(context, reference=path, size={"batch": 4}, optimizers=optimizers, part=part)


def test_a_proof_that_holds(monkeypatch, tmp_path):
    reference(tmp_path)
    close = altered(evaluation("adamw"), "buffers", lambda a: a * (1 + 1e-12))
    engine = Engine(evaluation("sgd"), close)
    answer = proved(monkeypatch, tmp_path, engine)
    assert answer["failed"] == [] and len(answer["checks"]) == 10 and engine.left == 1
    assert answer["worst"] == pytest.approx(1e-12, rel=1e-2) and answer["batch_norm_gap"] is None


def test_a_proof_says_which_optimizers_step_is_wrong(monkeypatch, tmp_path):
    reference(tmp_path)
    wrong = altered(evaluation("adamw"), "weights", lambda a: a * 1.01)
    answer = proved(monkeypatch, tmp_path, Engine(evaluation("sgd"), wrong))
    assert answer["failed"] == ["weights, adamw"] and answer["worst"] == pytest.approx(0.01)


def test_a_proof_in_which_something_is_no_number_has_no_worst_error(monkeypatch, tmp_path):
    reference(tmp_path)
    wrong = altered(evaluation("sgd"), "weights", lambda a: a * np.inf)
    answer = proved(monkeypatch, tmp_path, Engine(wrong, evaluation("adamw")))
    assert answer["failed"] == ["weights, sgd"] and answer["worst"] is None


def test_batch_norm_on_one_rank_alone_is_the_whole_batchs(monkeypatch, tmp_path):
    """``data_local`` on one rank: there are no parts, and the buffers are those of the whole batch."""
    reference(tmp_path)
    engine = Engine(evaluation("sgd"), evaluation("adamw"))
    assert proved(monkeypatch, tmp_path, engine, "data_local")["failed"] == []


def test_batch_norm_over_parts_comes_with_its_gap(monkeypatch, tmp_path):
    reference(tmp_path, part=2)
    engine = Engine(evaluation("sgd"), evaluation("adamw"))
    answer = proved(monkeypatch, tmp_path, engine, "pipeline", part=2)
    assert answer["failed"] == [] and answer["batch_norm_gap"] == {"loss": 0.0, "gradients": 0.0}


def test_other_processes_have_nothing_to_compare(monkeypatch, tmp_path):
    answer = proved(monkeypatch, tmp_path, Engine(None, None))
    assert answer["checks"] == [] and answer["failed"] == []


def test_the_group_is_left_even_where_the_step_failed(monkeypatch, tmp_path):
    engine = Engine()
    with pytest.raises(CellFailed, match="broke"):
        proved(monkeypatch, tmp_path, engine)
    assert engine.left == 1


class Collectives:
    """An engine that counts its collectives."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] = []

    def collective(self, kind: str, size: int, ranks: int) -> Callable[[], None]:
        return lambda: self.calls.append((kind, size, ranks))


def test_memory_is_taken_from_the_system_and_given_back(tmp_path):
    context = Context(object(), cell("torch", "replicas", 2), Options(), None, {}, tmp_path, tmp_path)  # type: ignore[arg-type]
    before = memory.resident_bytes()
    answer = parallel_verbs.pages(context, size=1 << 26, count=3)
    assert len(answer["samples_s"]) == 3 and min(answer["samples_s"]) > 0
    assert memory.resident_bytes() - before < 1 << 25


def test_a_collective_in_rhythm_comes_after_work_of_the_length_asked_for(monkeypatch, tmp_path):
    engine = Collectives()
    monkeypatch.setattr(parallel_verbs, "_runner", lambda _: engine)
    mine = cell("torch", "replicas", 2)
    context = Context(object(), mine, Options(), None, {}, tmp_path, tmp_path)  # type: ignore[arg-type]
    answer = parallel_verbs.paced(context, work_s=0.002, count=3)
    assert len(answer["work_s"]) == len(answer["samples_s"]) == 3
    assert engine.calls == [("all_reduce", parallel_verbs.SMALL, 2)] * 4  # once to warm up
    assert (
        min(*answer["work_s"], *answer["samples_s"]) > 0.0005
    )  # there is work, whatever else the machine does


class Parts:
    """A runner whose gradient is the mean of its examples, and whose buffer remembers all that it saw."""

    def __init__(self) -> None:
        self.seen = 0.0

    def load(self, weights: Any, rule: Any = None) -> None:
        self.seen = 0.0

    def evaluate(self, batch: Any, **_: Any) -> Evaluation:
        mean = float(np.mean(batch["x"]))
        self.seen += mean
        return Evaluation({}, mean**2, {"w": np.array([mean])}, {"bn.seen": np.array([self.seen])})


def test_a_step_in_parts_is_the_mean_of_the_parts_and_carries_the_buffers():
    batch = {"x": np.array([1.0, 3.0, 10.0, 20.0])}  # means 2 and 15
    found = parallel_proof.in_parts(Parts(), {"w": np.array([1.0])}, batch, 2)  # type: ignore[arg-type]
    assert found.loss == pytest.approx((4 + 225) / 2)
    assert found.gradients["w"] == pytest.approx([8.5])
    assert {n: float(a[0]) for n, a in found.buffers.items()} == {"bn.seen": 17.0, "first.bn.seen": 2.0}
