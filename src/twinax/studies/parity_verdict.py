"""From compared tensors to a verdict: the bounds, what counts as rounding, and where a fault begins."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from twinax.records import Json

BOUND = 1e-9
NOISE = 100.0  # a tensor within this many times the rounding noise is nothing but rounding
CANCELLED = 10.0  # a difference within this many times the rounding noise is nothing but rounding
SQUARES = "exp_avg_sq."  # AdamW's running mean of squared gradients
NARROW = 5.0  # neither side's float32 error may exceed the other's by more than this factor;
NARROW_FLOOR = 1e-6  # errors below this, eight units in the last place of float32, count as this
DRIFT = 100.0  # a port starts with the rounding of every operation, the envelope with that of the weights
DRIFT_FLOOR = 1e-12
DRAWS = (
    "the model draws random numbers outside dropout layers, where no mask can be replayed, or keeps something "
    "in Python from one call to the next"
)

Found = Mapping[str, list[Json]]
"""Tensor name → [error, norm of the reference, gap, fault], as the comparing worker answers."""

Noise = Callable[[str, Sequence[str]], Mapping[str, float]]
"""``(kind, names) -> name → how far rounding alone moves it``; asked only for tensors that need it."""

Error = float | None
"""A norm-relative error; None where two tensors cannot be compared, which is worse than any number."""


@dataclass
class Verdict:
    """What was found so far.

    Attributes:
        checks: One entry per kind of tensor and setting; parity holds when all have passed.
        mismatches: Every tensor that differs.
        worst: Gradient name → its largest error over all steps, and its norm there.
        backward: Parameters in the order in which the backward pass reaches them.
        layers: Mode → (module path, error) in forward order.
    """

    checks: list[dict[str, Json]] = field(default_factory=list)
    mismatches: list[dict[str, Json]] = field(default_factory=list)
    worst: dict[str, tuple[Error, float]] = field(default_factory=dict)
    backward: list[str] = field(default_factory=list)
    layers: dict[str, list[tuple[str, Error]]] = field(default_factory=dict)

    @property
    def failed(self) -> list[str]:
        """Names of the checks that did not pass."""
        return [check["name"] for check in self.checks if not check["passed"]]

    def check(self, name: str, kind: str, errors: Mapping[str, Error], **more: Json) -> None:
        """Add a check over several tensors; it fails above the bound, and where nothing can be compared."""
        where = max(errors, key=lambda n: size(errors[n]), default="")
        worst = errors.get(where, 0.0)
        usual = {"passed": size(worst) <= BOUND, "bound": BOUND, "detail": ""}
        known = {"name": name, "kind": kind, "worst": worst, "where": where, "count": len(errors)}
        self.checks.append({**known, **usual, **more})

    def mismatch(self, what: str, path: str, error: Error, setting: str, **more: Json) -> None:
        """Add one tensor that differs."""
        known = {"what": what, "path": path, "error": error, "bound": BOUND, "step": 0, "setting": setting}
        self.mismatches.append({**known, **more})

    def judged(self, kind: str, found: Found, setting: str, noise: Noise, step: int = 0) -> dict[str, Error]:
        """Errors by name, with the differing tensors noted; what is nothing but rounding counts as 0."""
        errors: dict[str, Error] = {}
        doubtful = [name for name, (error, _, _, fault) in found.items() if size(error) > BOUND and not fault]
        floors = noise(kind, doubtful) if doubtful else {}
        for name, (error, norm, gap, fault) in found.items():
            if name in floors and is_rounding(name, norm, size(gap), floors[name]):
                error = 0.0
            errors[name] = error
            if size(error) > BOUND:
                self.mismatch(kind, name, error, setting, step=step, detail=fault)
            if kind == "gradients" and size(error) >= size(self.worst.get(name, (0.0, 0.0))[0]):
                self.worst[name] = (error, norm)
        return errors

    def steady(self, mode: str, changed: Mapping[str, str]) -> None:
        """The sides, run twice on the same weights and data, gave the same: else nothing can be compared."""
        told = [f"{side} changes at {path}" for side, path in changed.items() if path]
        for path in filter(None, changed.values()):
            self.mismatch("randomness", path, None, f"{mode} mode, float64", detail=DRAWS)
        self.check(
            f"{'each side' if len(changed) > 1 else 'PyTorch'} repeats itself, {mode} mode",
            "randomness",
            {side: None if path else 0.0 for side, path in changed.items()},
            detail=f"{' and '.join(told)}: {DRAWS}" if told else "two passes from the same weights and data",
        )

    def activations(self, mode: str, order: Iterable[str], found: Found) -> None:
        """Note the layers, in forward order, that exist on both sides."""
        layers = [(path, found[path][0]) for path in order if path in found]
        self.layers[mode] = layers
        if layers:
            self.check(f"activations, {mode} mode, float64", "activations", dict(layers))

    def narrow(self, mode: str, kind: str, far: Mapping[str, Error], envelope: float) -> dict[str, Json]:
        """One row of the float32 table: each side's distance to float64, beside what a nudge does.

        A ReLU that flips costs a side a jump; the envelope knows whether this model has such jumps.
        """
        low, high = sorted(size(distance) for distance in far.values())
        ratio = max(high, NARROW_FLOOR) / max(low, envelope, NARROW_FLOOR) if math.isfinite(high) else None
        passed = size(ratio) <= NARROW
        if not passed:
            self.mismatch(kind, "all", ratio, f"{mode} mode, float32", detail="distance to float64", **far)
        row = {"group": kind, "mode": mode, **far, "envelope": envelope}
        return {**row, "ratio": ratio, "passed": passed}

    def float32(self, rows: list[dict[str, Json]]) -> None:
        """Add the check over the float32 table."""
        self.check(
            "float32: neither side is farther from float64",
            "float32",
            {f"{row['group']}, {row['mode']} mode": row["ratio"] for row in rows},
            passed=all(row["passed"] for row in rows),
            bound=NARROW,
            detail="the larger distance to float64 over the smaller, or over what a nudge of the weights does",
        )

    def trajectory(self, twin: list[Error], envelope: list[Error]) -> dict[str, Json]:
        """Free-running drift beside how fast torch drifts from itself."""
        widest, over = DRIFT_FLOOR, []
        for index, (drift, wide) in enumerate(zip(twin, envelope, strict=True)):
            widest = max(widest, size(wide))
            if size(drift) > DRIFT * widest:
                over.append(index)
        self.check(
            "free-running training stays within its envelope",
            "trajectory",
            {f"step {i}": drift for i, drift in enumerate(twin)},
            passed=not over,
            bound=DRIFT * widest if math.isfinite(widest) else None,
            detail=f"leaves it at step {over[0]}" if over else "no faster apart than torch from itself",
        )
        if over:
            self.mismatch("trajectory", f"step {over[0]}", twin[over[0]], "sgd, free-running, float64")
        steps = list(range(len(twin)))
        return {"optimizer": "sgd", "steps": steps, "twin": twin, "envelope": envelope, "agrees": not over}

    def first_difference(self) -> dict[str, Json] | None:
        """The first layer whose output differs; else the first gradient, as the backward pass reaches it."""
        for unsteady in (m for m in self.mismatches if m["what"] == "randomness"):
            return {"kind": "randomness", **{key: unsteady[key] for key in ("path", "error", "detail")}}
        for mode in ("eval", "train"):
            for path, error in self.layers.get(mode, []):
                if size(error) > BOUND:
                    detail = f"{mode} mode, float64"
                    return {"kind": "activation", "path": path, "error": error, "detail": detail}
        wrong = {m["path"]: m for m in reversed(self.mismatches) if m["what"] == "gradients"}
        first = next((wrong[name] for name in self.backward if name in wrong), None)
        chosen = first or next(iter(self.mismatches), None)
        if chosen is None:
            return None
        kind = "gradient" if chosen is first else chosen["what"]
        return {"kind": kind, "path": chosen["path"], "error": chosen["error"], "detail": chosen["setting"]}

    def measurements(self) -> dict[str, Json]:
        """What the verdict contributes to the record."""
        return {
            "bound": BOUND,
            "holds": not self.failed,
            "checks": self.checks,
            "mismatches": self.mismatches,
            "layers": [{"path": path, "error": error} for path, error in self.layers.get("eval", [])],
            "gradients": [
                {"name": name, "error": self.worst[name][0], "norm": self.worst[name][1]}
                for name in self.backward
                if name in self.worst
            ],
            "first_difference": self.first_difference(),
        }


def is_rounding(name: str, norm: float, gap: float, floor: float) -> bool:
    """Whether a tensor that differs by more than the bound differs by rounding alone.

    Either its true value is 0 and both sides hold rounding; or its terms cancel so far that one unit in the
    last place of the weights moves it by more than the bound: no two right programs agree better than that.
    """
    cancels = floor > BOUND * norm
    return max(norm, gap) <= allowance(name) * floor or (cancels and gap <= CANCELLED * floor)


def allowance(name: str) -> float:
    """How many times the rounding noise a tensor may be, and still be nothing else; squares, the square."""
    return NOISE**2 if name.startswith(SQUARES) else NOISE


def drops_right(own: Mapping[str, Json], rate: float) -> bool:
    """Rate within five standard deviations over 65,536 draws; survivors scaled by 1 / (1 − rate)."""
    if rate >= 1:
        return own["dropped"] == 1 and own["identity_in_eval"]
    spread = 5 * math.sqrt(rate * (1 - rate) / 65536)
    scale = own["scale"] is not None and abs(own["scale"] * (1 - rate) - 1) < 1e-5
    return abs(own["dropped"] - rate) <= spread and scale and own["identity_in_eval"]


def size(error: Error) -> float:
    """An error that can be ordered: None is worse than any number."""
    return math.inf if error is None else error
