"""What training showed: scores beside those of simpler ways, and whether the two sides train alike."""

from __future__ import annotations

from collections.abc import Sequence

from twinax.analyse import words
from twinax.analyse.base import Finding, Severity
from twinax.records import Json, Outcome, Record, Run

DRIFT = 100.0
"""The two sides may part this much faster than one side from itself: a nudge moves each weight once, while two
frameworks round every operation differently."""
FLOOR = {"float64": 1e-12, "float32": 1e-5}  # of the first loss: what one evaluation's rounding may come to


def findings(run: Run) -> list[Finding]:
    """Scores of each side, then their distance."""
    records = [r for r in run.of("training") if r.outcome in (Outcome.OK, Outcome.MISMATCH) and r.measurements]
    trained = [r for r in records if not r.cell.repeat]
    return [*(_scores(record) for record in trained), *_distance(records)]


def _scores(record: Record) -> Finding:
    found = record.measurements
    folds = found["folds"]
    metric, test = found["metric"], found["test"]
    beaten = {
        name: test[metric] < row[metric] if found["better"] == "lower" else test[metric] > row[metric]
        for name, row in found["baselines"].items()
        if metric in row
    }
    better, others = ([n for n, won in beaten.items() if won is way] for way in (True, False))
    told = f"test {metric.replace('_', ' ')} {words.three(test[metric])}"
    if better:
        told += f", better than {words.listing(better)}"
    if others:
        told += f"{',' if not better else ' but'} no better than {words.listing(others)}"
    verdict, goal = "trained", ""
    severities: dict[str, Severity] = {"met": "good", "missed": "problem", "trained": "note"}
    if found["promised"]:
        verdict = "met" if found["met"] else "missed"
        goal = f" {'Meets' if found['met'] else 'Misses'} its goal."
    steps = sum(fold["step"] for fold in folds)
    how = f"trained for {words.count(steps, 'step')}" if folds[0]["losses"] else "fitted by its solver"
    if early := sum(fold.get("stopped_early", False) for fold in folds):
        how += f" (stopped early in {early} of {words.count(len(folds), 'fold')})"
    passed = [what for fold in folds for what in fold.get("passed_over", ())]
    damaged = f" {words.count(len(passed), 'checkpoint')} passed over: {' '.join(passed)}" if passed else ""
    return Finding(
        kind="training",
        title=f"{words.SIDES[record.cell.side]}, {how} in "
        f"{words.seconds(sum(fold['seconds'] for fold in folds))}{_crossed(folds)}: {told}.{goal}{damaged}",
        verdict=verdict,
        severity=severities[verdict],
        evidence=(record.cell.id,),
        figures={
            "side": record.cell.side,
            "test": test,
            "baselines": found["baselines"],
            "claim": found["claim"],
            "folds": len(folds),
            "steps": steps,
            "epochs": sum(fold["epochs"] for fold in folds),
            "seconds": sum(fold["seconds"] for fold in folds),
            "goal_s": _until_goal(folds),
            "parameters": folds[0]["parameters"],
        },
    )


def _until_goal(folds: Sequence[dict[str, Json]]) -> float | None:
    """Seconds until validation first met the goal, over all folds; None where a fold never did."""
    times = [fold["goal_s"] for fold in folds]
    return None if None in times else sum(times)


def _crossed(folds: Sequence[dict[str, Json]]) -> str:
    """Who made which steps, where both sides made some."""
    told = [
        f"steps {first + 1} to {last} by {words.SIDES[side]}"
        for fold in folds
        for side, first, last in fold["sides"]
        if last > first and len({s for s, a, b in fold["sides"] if b > a}) > 1
    ]
    return f" ({words.listing(told)})" if told else ""


def _distance(records: Sequence[Record]) -> list[Finding]:
    """How far apart the two loss curves run, and whether torch runs as far from itself when nudged."""
    kept = {(r.cell.side, r.cell.repeat): r.measurements["folds"] for r in records}
    if not {("torch", 0), ("jax", 0), ("torch", 1)} <= kept.keys() or not kept["torch", 0][0]["losses"]:
        return []
    dtype = records[0].cell.dtype
    folds = list(zip(kept["torch", 0], kept["jax", 0], kept["torch", 1], strict=True))
    curves = [_curves(torch, jax, nudged) for torch, jax, nudged in folds]
    left = [_leaves(curve, FLOOR.get(dtype, FLOOR["float32"])) for curve in curves]
    first = next((step for step in left if step is not None), None)
    widest = max(max(curve["twin"]) for curve in curves)
    envelope = max(max(curve["envelope"]) for curve in curves)
    return [
        Finding(
            kind="training_curves",
            title=f"The two sides' losses are at most {widest:.2g} apart; PyTorch's own, from weights nudged "
            f"by one unit in the last place of {dtype}, at most {envelope:.2g}: "
            + (
                "they train alike, and what is left between them is rounding."
                if first is None
                else f"they part faster than rounding explains, from step {first} on."
            ),
            verdict="alike" if first is None else "apart",
            severity="good" if first is None else "warning",
            evidence=tuple(record.cell.id for record in records),
            figures={"curves": curves, "widest": widest, "envelope": envelope},
        )
    ]


def _curves(torch: dict[str, Json], jax: dict[str, Json], nudged: dict[str, Json]) -> dict[str, Json]:
    """Losses of both sides and their distances, at the steps that all three made."""
    steps = sorted(set(torch["loss_steps"]) & set(jax["loss_steps"]) & set(nudged["loss_steps"]))
    of = [dict(zip(fold["loss_steps"], fold["losses"], strict=True)) for fold in (torch, jax, nudged)]
    return {
        "steps": steps,
        "torch": [of[0][s] for s in steps],
        "jax": [of[1][s] for s in steps],
        "twin": [abs(of[0][s] - of[1][s]) for s in steps],
        "envelope": [abs(of[0][s] - of[2][s]) for s in steps],
    }


def _leaves(curve: dict[str, Json], floor: float) -> int | None:
    """The first step at which the sides are farther apart than the envelope, so far, allows."""
    widest = floor * abs(curve["torch"][0])
    for step, twin, envelope in zip(curve["steps"], curve["twin"], curve["envelope"], strict=True):
        widest = max(widest, envelope)
        if twin > DRIFT * widest:
            return step
    return None
