"""From findings to advice."""

import pytest

import runs
from parallel_records import run_of, single, strategy
from twinax.analyse import Recommendation, analyse, recommend


def advise(scale=lambda program, side, mode: 1.0, **how) -> Recommendation:
    records = [*runs.parity_records(), *runs.speed_records(scale=scale, **how)]
    return recommend(analyse(runs.run(records)))


def jit(forward: float, training: float):
    """Multiply JAX's jit times: for inference, and for training."""
    return lambda program, side, mode: (forward if program == "forward" else training) if mode == "jit" else 1.0


@pytest.mark.parametrize(
    ("forward", "training", "choose", "train", "serve"),
    [
        (1.0, 1.0, "torch", "torch", "torch"),
        (0.2, 0.2, "jax", "jax", "jax"),
        (0.2, 1.0, "either", "torch", "jax"),
        (1.0, 0.2, "either", "jax", "torch"),
    ],
)
def test_each_use_has_its_own_choice(forward, training, choose, train, serve) -> None:
    advice = advise(jit(forward, training))
    assert (advice.choose, advice.train, advice.serve) == (choose, train, serve)


def test_the_answer_holds_the_numbers() -> None:
    advice = advise()
    assert "Choose PyTorch" in advice.answer
    assert "training PyTorch (compile) is 2.3" in advice.answer
    assert any("95 % interval" in reason for reason in advice.because)


def test_a_split_says_which_for_what() -> None:
    advice = advise(jit(0.2, 1.0))
    assert "train in PyTorch, serve in JAX" in advice.answer


def test_a_busy_host_decides_nothing_and_says_so() -> None:
    advice = advise(disturbed=0.4)
    assert advice.choose == "undecided"
    assert advice.answer.startswith("Not decided")
    assert any("quieter machine" in change for change in advice.would_change)
    assert any("Others used the CPU" in gap for gap in advice.does_not_know)


def test_a_mismatch_decides_nothing_and_says_what_to_mend() -> None:
    advice = recommend(analyse(runs.mismatched()))
    assert (advice.choose, advice.train, advice.serve) == ("undecided", "undecided", "undecided")
    assert "not the same model" in advice.answer
    assert "layer2.1.bn2" in advice.answer
    assert "Mend layer2.1.bn2 first" in advice.would_change[0]
    assert not any("95 % interval" in reason for reason in advice.because)


@pytest.mark.parametrize("make", [runs.only_torch, runs.interrupted, runs.trained])
def test_without_ratios_nothing_is_chosen(make) -> None:
    advice = recommend(analyse(make()))
    assert advice.choose == "undecided"
    assert any("there is no ratio" in gap for gap in advice.does_not_know)
    assert advice.would_change


def test_where_nobody_asked_which_one_to_choose_no_ratio_is_missed() -> None:
    advice = recommend(analyse(run_of([single("torch"), single("jax"), strategy("torch", "data")])))
    assert not any("ratio" in gap for gap in advice.does_not_know)
    assert advice.would_change == ("Which of the two to choose is another question: twinax compare resnet50.",)


def test_crashes_and_gaps_are_not_passed_over() -> None:
    advice = recommend(analyse(runs.crashed()))
    assert any("crashed" in gap for gap in advice.does_not_know)
    assert any("not supported here" in gap for gap in advice.does_not_know)


def test_unproved_parameters_are_not_known() -> None:
    records = [*runs.parity_records(unproved=["head.bias"]), *runs.speed_records()]
    advice = recommend(analyse(runs.run(records)))
    assert any("head.bias" in gap for gap in advice.does_not_know)


def test_a_long_break_even_would_change_it() -> None:
    advice = advise()
    assert any("has not earned back its compile time" in change for change in advice.would_change)


def test_the_uncompiled_pair_with_the_other_winner_is_told() -> None:
    def scale(program: str, side: str, mode: str) -> float:
        return {"jit": 0.2, "compile": 0.7}.get(mode, 1.0)

    advice = advise(scale)
    assert advice.choose == "jax"
    assert any("PyTorch (eager) is" in change for change in advice.would_change)


def test_one_use_alone_is_enough_for_a_choice() -> None:
    records = runs.speed_records()
    for record in records:
        for program in ("grad", "step"):
            record.measurements.get("programs", {}).pop(program, None)
    advice = recommend(analyse(runs.run([*runs.parity_records(), *records])))
    assert (advice.choose, advice.train, advice.serve) == ("torch", "undecided", "torch")
    assert any("faster in training" in gap for gap in advice.does_not_know)


def test_one_inconclusive_use_leaves_the_whole_undecided() -> None:
    records = runs.speed_records()
    for record in records:
        program = record.measurements.get("programs", {}).get("step")
        if program:
            program["disturbed"] = [True] * len(program["samples_s"])
    advice = recommend(analyse(runs.run([*runs.parity_records(), *records])))
    assert (advice.choose, advice.train, advice.serve) == ("undecided", "undecided", "torch")
    assert advice.answer.startswith("Not decided for every use")
    assert "on a busy host" in advice.answer
