"""The proof of a strategy: its step in float64 against the single device's, tensor by tensor.

What an optimizer makes of gradients in its first step follows by its formula; the single device's loss,
gradients and buffers are kept, and every strategy is held to them and to the formula.
"""

from __future__ import annotations

import contextlib
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from twinax.compare import compare, together, worst
from twinax.errors import CellFailed
from twinax.frameworks.base import OPTIMIZERS, Evaluation, Optimizer, Runner
from twinax.frameworks.make import make_parallel_runner, make_runner
from twinax.frameworks.parallel import micro_batches
from twinax.measure import memory
from twinax.records import Cell, Json, Size
from twinax.studies import parity_files as files
from twinax.studies.base import Context
from twinax.studies.parity_verbs import nudge_wide
from twinax.studies.parity_verdict import BOUND, Verdict
from twinax.twin import Array, Arrays, Twin

STORED = ("loss", "gradients", "buffers")
STEPPED = ("weights", "optimizer")
ROUNDING = "rounding.json"
COLLECTIVE_S = 60.0  # seconds that a collective may take before the engine gives up


def twin_of(context: Context) -> Twin:
    """The cell's twin, once it has been taken."""
    assert context.twin is not None, "this verb needs a twin"
    return context.twin


def make_batches(context: Context, size: Mapping[str, Json], count: int) -> list[Arrays]:
    """Different batches of a size, the same in every process."""
    twin = twin_of(context)
    return twin.batches(twin.config, Size(**size), context.options.seed, count)


def _in_float64(cell: Cell) -> Cell:
    return cell.model_copy(update={"dtype": "float64"})


# --- one device: what the strategies are held against ----------------------------------------------


def reference(
    context: Context, *, output: str, size: dict[str, Json], optimizers: list[str], parts: list[int], other: str
) -> dict[str, Json]:
    """Loss, gradients and buffers of one device in float64, and how far rounding alone moves them.

    What an optimizer makes of them in its first step follows by its formula (:func:`first_step`); here the
    device's own step is held to it. Where the model has BatchNorm, also the batch's ``parts`` one after another
    (gradients averaged): what a strategy does that normalises over less than the whole batch.

    ``other`` is where the other side's lie, "" while there are none: no ratio is shown where they differ.

    Returns:
        Whether the model has BatchNorm, parameters whose gradient is 0 everywhere (nothing is proved of them),
        and what differs from the other side.

    Raises:
        CellFailed: ``mismatch``; the device's optimizer does not do what its formula says.
    """
    runner = make_runner(_in_float64(context.cell), twin_of(context), context.weights)
    start, (batch,) = context.weights, make_batches(context, size, 1)
    batch_norm = any(name.endswith("running_mean") for name in start)
    for name in optimizers:
        runner.load(start, OPTIMIZERS[name])
        found = runner.evaluate(batch, train=True, step=True)
        held_to_formula(name, start, found)
    unproved = [name for name, gradient in found.gradients.items() if not np.asarray(gradient).any()]
    files.write(output, found, STORED)
    runner.load(nudge_wide(start, 0))
    floors = rounding(output, start, runner.evaluate(batch, train=True), optimizers)
    Path(output, ROUNDING).write_text(json.dumps(floors))
    for count in parts if batch_norm else ():
        files.write(f"{output}.{count}", in_parts(runner, start, batch, count), STORED)
    differs = across(output, other, floors) if other else None
    return {"batch_norm": batch_norm, "unproved": unproved, "across": differs}


def across(path: str, other: str, floors: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Names of the checks in which the two sides' references differ."""
    verdict = Verdict()
    for kind in STORED:
        found = compare(files.read(other, kind), files.read(path, kind))
        rows = {name: [_finite(d.error), d.norm, _finite(d.gap), d.fault] for name, d in found.items()}
        errors = verdict.judged(kind, rows, "across", lambda kind, names: floors[kind])
        if errors:
            verdict.check(kind, kind, errors)
    return verdict.failed


def held_to_formula(optimizer: str, start: Arrays, found: Evaluation) -> None:
    """Raise where the first step is not the formula's."""
    weights, state = first_step(OPTIMIZERS[optimizer], start, found.gradients)
    for kind, expected, own in (("weights", weights, found.weights), ("optimizer", state, found.optimizer)):
        name, error = worst(compare(expected, {n: np.asarray(own[n]) for n in own}))
        if not error <= BOUND:
            raise CellFailed(
                "mismatch",
                f"{optimizer}'s first step on one device is not its formula's: {kind} {name}, {error:.1e}.",
                "Report it: every strategy would be held against a wrong step.",
            )


def rounding(
    path: str, start: Arrays, nudged: Evaluation, optimizers: Sequence[str]
) -> dict[str, dict[str, float]]:
    """How far each tensor moves when every weight moves by one unit in the last place: kind → name → gap.

    Weights and state after a step stand under ``<optimizer>.weights`` and ``<optimizer>.optimizer``.
    """
    moved = nudged.gradients
    with files.opened(path, "gradients") as base, files.opened(path, "buffers") as buffers:
        floors = {
            "loss": {"loss": abs(float(files.read(path, "loss")["loss"][0]) - nudged.loss)},
            "gradients": gaps(base, moved),
            "buffers": gaps(buffers, nudged.buffers),
        }
        for name in optimizers:
            before, after = (first_step(OPTIMIZERS[name], start, g) for g in (base, moved))
            floors |= {f"{name}.{kind}": gaps(a, b) for kind, a, b in zip(STEPPED, before, after, strict=True)}
    return floors


def gaps(a: Mapping[str, Array], b: Mapping[str, Array]) -> dict[str, float]:
    """‖a − b‖₂ by name."""
    return {name: float(np.linalg.norm(np.asarray(a[name]) - np.asarray(b[name]))) for name in a}


def in_parts(runner: Runner, start: Arrays, batch: Arrays, count: int) -> Evaluation:
    """The mean of the parts' losses and gradients; buffers are carried from part to part.

    ``first.<name>`` are the buffers after the first part alone, as a rank has them that saw no other.
    """
    losses: list[float] = []
    gradients: Arrays = {}
    first: Arrays = {}
    buffers: Arrays = {}
    runner.load(start)
    for part in micro_batches(batch, count):
        found = runner.evaluate(part, train=True)
        losses.append(found.loss)
        for name, array in found.gradients.items():
            gradients[name] = gradients.get(name, 0.0) + np.array(array) / count
        buffers = {name: np.array(array) for name, array in found.buffers.items()}
        first = first or {f"first.{name}": array for name, array in buffers.items()}
    return Evaluation({}, statistics.fmean(losses), gradients, {**buffers, **first})


class Lazy(Mapping[str, Array]):
    """Arrays that are computed when they are asked for: a large model's are never held all at once."""

    def __init__(self, makers: Mapping[str, Callable[[], Array]]) -> None:
        self.makers = makers

    def __getitem__(self, name: str) -> Array:
        return self.makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self.makers)

    def __len__(self) -> int:
        return len(self.makers)


def first_step(rule: Optimizer, start: Arrays, gradients: Mapping[str, Array]) -> tuple[Lazy, Lazy]:
    """Weights and state after one step from a fresh state in float64, by :class:`Optimizer`'s formulas."""
    b1, b2 = rule.betas

    def gradient(name: str) -> Array:
        g = np.asarray(gradients[name])
        if rule.name != "sgd" or not rule.weight_decay:
            return g
        return g + np.multiply(start[name], rule.weight_decay, dtype=np.float64)

    def weight(name: str) -> Array:
        g = gradient(name)
        if rule.name == "sgd":
            return start[name] - rule.learning_rate * g  # in float64, as g is
        kept = np.multiply(start[name], 1 - rule.learning_rate * rule.weight_decay, dtype=np.float64)
        return kept - rule.learning_rate * g / (np.abs(g) + rule.eps)

    slots: dict[str, Callable[[str], Array]] = (
        {"momentum": gradient}
        if rule.name == "sgd"
        else {"exp_avg": lambda n: (1 - b1) * gradient(n), "exp_avg_sq": lambda n: (1 - b2) * gradient(n) ** 2}
    )
    state: dict[str, Callable[[], Array]] = {
        f"{slot}.{name}": partial(make, name) for slot, make in slots.items() for name in gradients
    }
    if rule.name != "sgd":
        state["step"] = lambda: np.asarray(1.0)
    return Lazy({name: partial(weight, name) for name in gradients}), Lazy(state)


# --- several ranks ---------------------------------------------------------------------------------


def prove(
    context: Context, *, reference: str, size: dict[str, Json], optimizers: list[str], part: int
) -> dict[str, Json]:
    """One step of each optimizer in float64 under the strategy, against the single device's.

    ``part`` is the number of parts that the reference was taken in; 0 for the whole batch.
    """
    cell = _in_float64(context.cell)
    (batch,) = make_batches(context, size, 1)
    runner = make_parallel_runner(cell, twin_of(context), context.weights, COLLECTIVE_S)
    verdict, batch_norm_gap = Verdict(), None
    try:
        for name in optimizers:
            found = runner.step(batch, context.weights, OPTIMIZERS[name])
            if found is None:  # another process has the whole arrays
                continue
            first = cell.mode == "data_local" and part > 0  # on one rank there are no parts
            judge(verdict, found, context.weights, name, reference, part, first=first)
            if part:
                batch_norm_gap = gap_to_whole(found, reference)
    finally:
        runner.leave()
    del runner
    memory.release()
    errors = [check["worst"] for check in verdict.checks]
    return {
        "checks": verdict.checks,
        "mismatches": verdict.mismatches[:20],
        "failed": verdict.failed,
        "worst": None if None in errors else max(errors, default=0.0),
        "batch_norm_gap": batch_norm_gap,
    }


def judge(
    verdict: Verdict, found: Evaluation, start: Arrays, optimizer: str, path: str, part: int, *, first: bool
) -> None:
    """Compare every kind of tensor with the reference; what is pure rounding on both counts as equal.

    ``part``: into how many parts the reference was taken; ``first``: buffers are those after the first part.
    """
    floors = json.loads(Path(path, ROUNDING).read_text())
    noise: set[str] = set()
    for kind, wanted in expected(f"{path}.{part}" if part else path, start, OPTIMIZERS[optimizer], first=first):
        given = {n: np.asarray(a) for n, a in files.arrays(found, kind).items()}
        rows = {
            name: [_finite(d.error), d.norm, _finite(d.gap), d.fault]
            for name, d in compare(wanted, given).items()
        }
        known = floors[f"{optimizer}.{kind}" if kind in STEPPED else kind]
        if kind == "optimizer":  # the state of a gradient that is nothing but rounding is no more than that
            rows = {slot: row for slot, row in rows.items() if slot.partition(".")[2] not in noise}
        errors = verdict.judged(kind, rows, optimizer, lambda kind, names, known=known: known)
        if kind == "gradients":
            noise = {n for n, row in rows.items() if errors[n] == 0.0 and row[0] is not None and row[0] > BOUND}
        if errors:
            verdict.check(f"{kind}, {optimizer}", kind, errors)


def expected(
    path: str, start: Arrays, rule: Optimizer, *, first: bool
) -> Iterator[tuple[str, Mapping[str, Array]]]:
    """Each kind of tensor as the single device has it, or as the optimizer's formula makes it of that."""
    with contextlib.ExitStack() as stack:
        stored = {kind: stack.enter_context(files.opened(path, kind)) for kind in STORED}
        kept = [name for name in stored["buffers"] if name.startswith("first.") == first]
        buffers = {name.removeprefix("first."): stored["buffers"][name] for name in kept}
        yield from {**stored, "buffers": buffers}.items()
        yield from zip(STEPPED, first_step(rule, start, stored["gradients"]), strict=True)


def gap_to_whole(found: Evaluation, path: str) -> dict[str, Json]:
    """How far BatchNorm over parts of the batch is from BatchNorm over all of it, norm-relative."""
    loss = compare(files.read(path, "loss"), {"loss": np.asarray([found.loss])})
    with files.opened(path, "gradients") as whole:
        gradients = compare(whole, found.gradients)
    return {"loss": _finite(together(loss.values())), "gradients": _finite(together(gradients.values()))}


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
