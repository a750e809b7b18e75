"""Parity: do the two sides compute the same thing, forward, backward, and in training?

The oracle is float64, one step at a time: both sides start every step from the *same* state, so that
rounding has no time to grow, and must agree to ``BOUND``, norm-relative, in every tensor. A tensor
whose true value is zero (the gradient of an attention key's bias, say) holds nothing but rounding; it is
compared with the rounding noise that torch shows when its own weights move by one unit in the last place.

In float32 no bound is assumed: each side's distance to the float64 result is set against the other's,
and against what moving the weights by a few units in float32's last place does to the float64 result (a
ReLU that flips is a jump, and which side meets it is chance).
Free-running training is set against how fast torch drifts from itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from twinax.records import Cell, Json, Options, Outcome, Record, Size, TwinInfo
from twinax.studies.base import Crew, Group, Study
from twinax.studies.parity_verbs import steps_of

BOUND = 1e-9
NOISE = 100.0  # a tensor within this many times the rounding noise is nothing but rounding
NARROW = 5.0  # neither side's float32 error may exceed the other's by more than this factor;
NARROW_FLOOR = 1e-6  # errors below this, eight units in the last place of float32, count as this
DRIFT = 100.0  # a port starts with the rounding of every operation, the envelope with that of the weights
DRIFT_FLOOR = 1e-12
NARROW_NUDGES = 4  # how many float64 passes with weights nudged in float32's last places make an envelope
NUDGES = 2  # how many nudged runs make the envelope
OPTIMIZERS = ("sgd", "adamw")


class ParityStudy(Study):
    """Outputs, loss, every gradient, buffers, and the state after each optimizer step."""

    name: ClassVar[str] = "parity"
    needs: ClassVar[frozenset[str]] = frozenset({"forward", "loss", "grad", "step"})
    paired: ClassVar[bool] = True
    verbs_module: ClassVar[str] = "twinax.studies.parity_verbs"

    def plan(self, info: TwinInfo, options: Options) -> list[Group]:
        preset = info.presets.get("parity_quick" if options.quick else "parity", Size(batch=2))
        size = preset.model_copy(update={"batch": options.batch or preset.batch})

        def cell(side: str, mode: str, dtype: str) -> Cell:
            return Cell(
                twin=info.name,
                study=self.name,
                side=side,
                mode=mode,
                size=size,
                dtype=dtype,
                device=options.device,
            )

        sides = [
            cell(side, mode, dtype)
            for dtype in ("float64", "float32")
            for side, mode in (("torch", "eager"), ("jax", "jit"))
        ]
        return [Group(self.name, (*sides, cell("both", "compare", "float64")))]

    def conduct(self, group: Group, crew: Crew) -> Iterator[Record]:
        proof = Proof(group, crew)
        verdict = proof.run()
        for cell in proof.sides:
            yield crew.record(cell)
        first = verdict.measurements["first_difference"]
        where = f" First difference: {first['path']} ({first['kind']})." if first else ""
        failed = [check["name"] for check in verdict.checks if not check["passed"]]
        yield crew.record(
            proof.compare,
            verdict.measurements,
            outcome=Outcome.MISMATCH if failed else Outcome.OK,
            message=f"The two sides differ: {'; '.join(failed)}.{where}" if failed else "",
            hint="The report names each tensor that differs and by how much." if failed else "",
        )


@dataclass
class Verdict:
    """What was compared so far. ``measurements`` is what the record holds."""

    checks: list[dict[str, Json]] = field(default_factory=list)
    mismatches: list[dict[str, Json]] = field(default_factory=list)
    measurements: dict[str, Json] = field(default_factory=dict)

    def check(self, name: str, kind: str, errors: Mapping[str, float | None], **more: Json) -> None:
        """Add a check over several tensors; an error of None (not comparable) fails."""
        where = max(errors, key=lambda n: _size(errors[n]), default="")
        worst = errors.get(where, 0.0)
        known = {"passed": _size(worst) <= BOUND, "bound": BOUND, "detail": ""}
        self.checks.append(
            {"name": name, "kind": kind, "worst": worst, "where": where, "count": len(errors), **known, **more}
        )

    def mismatch(
        self, what: str, path: str, error: float | None, setting: str, step: int = 0, **more: Json
    ) -> None:
        """Add one tensor that differs."""
        self.mismatches.append(
            {
                "what": what,
                "path": path,
                "error": error,
                "bound": BOUND,
                "step": step,
                "setting": setting,
                **more,
            }
        )


class Proof:
    """One conducting of the study: who is asked what, in which order.

    ``torch`` and ``jax`` are the float64 workers; the float32 ones live only for the first pass, and
    array files only as long as someone needs them, so that a large model fits.
    """

    def __init__(self, group: Group, crew: Crew) -> None:
        *self.sides, self.compare = group.cells
        self.crew, self.verdict = crew, Verdict()
        self.steps = steps_of(crew.options)
        self.wide = {c.side: c for c in self.sides if c.dtype == "float64"}
        self.narrow = {c.side: c for c in self.sides if c.dtype == "float32"}
        self.sites: list[dict[str, Json]] = []

    def run(self) -> Verdict:
        self.crew.say("building both sides in float64 and float32")
        self.crew.start(*self.sides, self.compare)
        self.verdict.measurements |= {"bound": BOUND, "reference": "torch eager float64"}
        self._dropout()
        self._single_pass()
        for cell in self.narrow.values():
            self.crew.stop(cell)
        self._steps()
        self._free_running()
        self.verdict.measurements |= {
            "holds": all(check["passed"] for check in self.verdict.checks),
            "checks": self.verdict.checks,
            "mismatches": self.verdict.mismatches,
        }
        self.verdict.measurements["first_difference"] = self._first_difference()
        return self.verdict

    # --- helpers -------------------------------------------------------------------------------

    def _file(self, name: str) -> str:
        return str(self.crew.scratch / f"{name}.safetensors")

    def _ask_both(
        self, verb: str, cells: Mapping[str, Cell] | None = None, **arguments: Json
    ) -> dict[str, Json]:
        """Send one verb to both sides and let them work at the same time."""
        cells = cells or self.wide
        for side, cell in cells.items():
            own = {k: v[side] if isinstance(v, dict) else v for k, v in arguments.items()}
            self.crew.worker(cell).send(verb, **own)
        return {side: self.crew.worker(cell).receive() for side, cell in cells.items()}

    def _files(self, name: str) -> dict[str, str]:
        return {side: self._file(f"{name}-{side}") for side in ("torch", "jax")}

    def _judge(self, files: Mapping[str, str]) -> dict[str, dict[str, list[Json]]]:
        return self.crew.worker(self.compare).call("judge", **files)["found"]

    def _remove(self, *paths: str) -> None:
        self.crew.worker(self.compare).call("remove", paths=list(paths))

    # --- dropout -------------------------------------------------------------------------------

    def _dropout(self) -> None:
        """Same layers, same rates, same shapes; and each side's own layer drops at its rate."""
        self.crew.say("comparing dropout layers")
        sites = {side: answer["sites"] for side, answer in self._ask_both("dropouts").items()}
        by_path = {side: {s["path"]: s for s in found} for side, found in sites.items()}
        self.sites = sites["torch"]
        both = [path for path in by_path["torch"] if path in by_path["jax"]]
        found = self._ask_both("own_dropout", sites=[by_path["torch"][path] for path in both])
        rows = []
        for path in both:
            ours, theirs = (by_path[side][path] for side in ("torch", "jax"))
            own = {side: found[side]["found"][path] for side in ("torch", "jax")}
            passed = ours == theirs and all(_drops_right(o, ours["rate"]) for o in own.values())
            rows.append({"path": path, "rate": ours["rate"], **own, "passed": passed})
            if not passed:
                self.verdict.mismatch("dropout", path, None, "train", torch=ours, jax=theirs)
        for path in sorted(set(by_path["torch"]) ^ set(by_path["jax"])):
            side = "torch" if path in by_path["torch"] else "jax"
            self.verdict.mismatch("dropout", path, None, "train", detail=f"only in {side}")
            rows.append({"path": path, "rate": by_path[side][path]["rate"], "passed": False})
        self.verdict.measurements["dropout"] = rows
        if rows:
            wrong = [row["path"] for row in rows if not row["passed"]]
            self.verdict.check(
                "dropout layers: place, rate, scale",
                "dropout",
                {row["path"]: None if row["path"] in wrong else 0.0 for row in rows},
                detail=f"differ: {', '.join(wrong)}" if wrong else "masks drawn in NumPy replay on both sides",
            )

    # --- one pass ------------------------------------------------------------------------------

    def _single_pass(self) -> None:
        """Train and eval mode from the same perturbed weights, in float64 and in float32."""
        narrow_rows: list[dict[str, Json]] = []
        for mode in ("eval", "train"):
            self.crew.say(f"one pass in {mode} mode, float64 and float32")
            wide, narrow = self._files(f"{mode}64"), self._files(f"{mode}32")
            given = {"train": mode == "train", "sites": self.sites}
            for cells, files in ((self.wide, wide), (self.narrow, narrow)):
                for side, cell in cells.items():
                    self.crew.worker(cell).send("evaluate", output=files[side], **given)
            answers = {side: self.crew.worker(cell).receive() for side, cell in self.wide.items()}
            for cell in self.narrow.values():
                self.crew.worker(cell).receive()
            self._judge_pass(mode, wide, answers["torch"])
            distances = self._distances(wide["torch"], narrow, given)
            narrow_rows += [self._narrow_row(mode, kind, far) for kind, far in distances.items()]
            self._remove(*wide.values(), *narrow.values())
        self.verdict.measurements["float32"] = narrow_rows
        self.verdict.check(
            "float32: neither side is farther from float64",
            "float32",
            {f"{row['group']}, {row['mode']} mode": row["ratio"] for row in narrow_rows},
            passed=all(row["passed"] for row in narrow_rows),
            bound=NARROW,
            detail="the larger distance to float64 over the smaller, or over what a nudge of the weights does",
        )

    def _distances(
        self, reference: str, narrow: Mapping[str, str], given: Mapping[str, Json]
    ) -> dict[str, Json]:
        """How far float32 lies from float64, per kind: on each side, and by the nudged float64 runs."""
        torch = self.crew.worker(self.wide["torch"])
        others = dict(narrow)
        for i in range(NARROW_NUDGES):
            others[f"nudged{i}"] = self._file(f"nudged32-{i}")
            torch.call("evaluate", output=others[f"nudged{i}"], narrow_nudge=i, **given)
        judge = self.crew.worker(self.compare)
        found = judge.call("distances", reference=reference, others=others)
        self._remove(*(path for label, path in others.items() if label.startswith("nudged")))
        return found

    def _judge_pass(self, mode: str, files: Mapping[str, str], told: Mapping[str, Json]) -> None:
        found = self._judge(files)
        setting = f"{mode} mode, float64"
        for kind in ("outputs", "loss", "gradients", "buffers"):
            if found[kind]:
                self._settle(kind, found[kind], setting, lambda: self._noise("sgd"))
        layers = [
            (path, found["activations"][path][0])
            for path in told["activations"]
            if path in found["activations"]
        ]
        if mode == "eval":
            self.verdict.measurements["layers"] = [{"path": path, "error": error} for path, error in layers]
            self._sensitivity(found["gradients"])
        self.order = told["gradients"]
        key = "layers" if mode == "eval" else "layers_train"
        self._first_layers = getattr(self, "_first_layers", {}) | {
            key: next(((path, error) for path, error in layers if _size(error) > BOUND), None)
        }
        if layers:
            self.verdict.check(f"activations, {setting}", "activations", dict(layers))

    def _sensitivity(self, gradients: Mapping[str, list[Json]]) -> None:
        """Parameters whose gradient is nothing but rounding: does any output notice them at all?"""
        noise = self._noise("sgd")["gradients"]
        flat = [name for name, (_, norm, _, _) in gradients.items() if norm <= NOISE * noise.get(name, 0.0)]
        torch = self.crew.worker(self.wide["torch"])
        unproved = torch.call("insensitive", names=flat)["names"] if flat else []
        self.verdict.measurements["unproved"] = unproved
        self.verdict.check(
            "the output notices every parameter",
            "sensitivity",
            dict.fromkeys(gradients, 0.0),
            passed=len(unproved) < len(gradients),  # nothing at all noticed: the proof would be empty
            detail=f"nothing was proved about {', '.join(unproved)}: no output depends on them"
            if unproved
            else "",
        )

    def _narrow_row(self, mode: str, kind: str, far: Mapping[str, float | None]) -> dict[str, Json]:
        sides = {side: far[side] for side in ("torch", "jax")}
        envelope = max(_size(d) for label, d in far.items() if label not in sides)
        low, high = sorted(_size(d) for d in sides.values())
        # a ReLU that flips costs a side a jump; the envelope knows whether this model has such jumps
        ratio = max(high, NARROW_FLOOR) / max(low, envelope, NARROW_FLOOR) if math.isfinite(high) else None
        passed = _size(ratio) <= NARROW
        if not passed:
            setting = f"{mode} mode, float32"
            self.verdict.mismatch(kind, "all", ratio, setting, detail="distance to float64", **sides)
        return {"group": kind, "mode": mode, **sides, "envelope": envelope, "ratio": ratio, "passed": passed}

    # --- steps ---------------------------------------------------------------------------------

    def _steps(self) -> None:
        """N optimizer steps, each from torch's state before it."""
        table: dict[str, list[Json]] = {}
        worst: dict[str, tuple[float | None, float]] = {}
        errors: dict[str, dict[str, dict[str, float | None]]] = {}
        for optimizer in OPTIMIZERS:
            table[optimizer] = []
            errors[optimizer] = {}
            before = ""
            for index in range(self.steps):
                self.crew.say(f"{optimizer}: step {index + 1} of {self.steps} from the same state")
                files = self._files(f"{optimizer}{index}")
                given = {"optimizer": optimizer, "index": index, "sites": self.sites}
                # torch goes on from where it stands; jax takes torch's state, so both start equal
                loss = self._ask_both("step", output=files, state={"torch": "", "jax": before}, **given)
                row = self._judge_step(optimizer, index, files, before, errors[optimizer], worst)
                losses = {side: answer["loss"] for side, answer in loss.items()}
                table[optimizer].append({"step": index, "loss": losses, "errors": row})
                self._remove(files["jax"], *([before] if before else []))
                before = files["torch"]
            self._remove(before)
            for kind, found in errors[optimizer].items():
                self.verdict.check(f"{kind}, {self.steps} steps of {optimizer}, float64", kind, found)
        self.verdict.measurements["steps"] = table
        self.verdict.measurements["gradients"] = [
            {"name": name, "error": worst[name][0], "norm": worst[name][1]}
            for name in self.order
            if name in worst
        ]

    def _judge_step(
        self,
        optimizer: str,
        index: int,
        files: Mapping[str, str],
        before: str,
        errors: dict[str, dict[str, float | None]],
        worst: dict[str, tuple[float | None, float]],
    ) -> dict[str, float | None]:
        """Compare one step; ``errors`` and ``worst`` keep the largest error of each tensor."""
        found = self._judge(files)
        setting = f"{optimizer}, train mode, float64"
        row: dict[str, float | None] = {}
        for kind in ("outputs", "loss", "gradients", "buffers", "weights", "optimizer"):
            if not found[kind]:
                continue
            judged = self._judged(
                kind, found[kind], setting, index, lambda: self._noise(optimizer, index, before, files["torch"])
            )
            kept = errors.setdefault(kind, {})
            for name, error in judged.items():
                kept[name] = max(kept.get(name, 0.0), error, key=_size)
                if kind == "gradients" and _size(error) >= _size(worst.get(name, (0.0, 0.0))[0]):
                    worst[name] = (error, found[kind][name][1])
            row[kind] = max(judged.values(), key=_size)
        return row

    def _settle(self, kind: str, found: Mapping[str, list[Json]], setting: str, noise: object) -> None:
        judged = self._judged(kind, found, setting, 0, noise)
        self.verdict.check(f"{kind}, {setting}", kind, judged)

    def _judged(
        self, kind: str, found: Mapping[str, list[Json]], setting: str, index: int, noise: object
    ) -> dict[str, float | None]:
        """Errors by name; a tensor that is nothing but rounding on both sides counts as 0."""
        errors: dict[str, float | None] = {}
        for name, (error, norm, gap, fault) in found.items():
            if _size(error) > BOUND and not fault:
                floor = NOISE * noise()[kind].get(name, 0.0)
                if norm <= floor and _size(gap) <= floor:
                    error = 0.0
            errors[name] = error
            if _size(error) > BOUND:
                self.verdict.mismatch(kind, name, error, setting, index, detail=fault)
        return errors

    def _noise(
        self, optimizer: str, index: int = 0, before: str = "", clean: str = ""
    ) -> dict[str, dict[str, float]]:
        """How far each tensor of a step moves when torch's own weights move by one unit in the last place.

        Asked for only when a tensor needs it; the worker is put back to where it stood.
        """
        key = (optimizer, index)
        if getattr(self, "_noise_key", None) == key:
            return self._noise_found
        torch = self.crew.worker(self.wide["torch"])
        base, moved = clean or self._file("noise-base"), self._file("noise-moved")
        given = {"optimizer": optimizer, "index": index, "sites": self.sites, "state": before}
        if not clean:
            torch.call("step", output=base, **given)
        torch.call("step", output=moved, nudged=True, **given)
        found = self._judge({"torch": base, "jax": moved})
        self._remove(moved, *([] if clean else [base]))
        if clean:
            torch.call("stand", state=clean, optimizer=optimizer)
        self._noise_key = key
        self._noise_found = {k: {n: d[2] or 0.0 for n, d in tensors.items()} for k, tensors in found.items()}
        return self._noise_found

    # --- free running --------------------------------------------------------------------------

    def _free_running(self) -> None:
        """How far apart do the two train, and how far does torch train from itself?"""
        self.crew.say(f"free-running training, {self.steps} steps, beside its envelope")
        given = {"optimizer": "sgd", "steps": self.steps, "sites": self.sites}
        files = self._files("free")
        self._ask_both("run_free", output=files, **given)
        nudged = [self._file(f"free-nudged{i}") for i in range(NUDGES)]
        for i, path in enumerate(nudged):
            self.crew.worker(self.wide["torch"]).call("run_free", output=path, nudge_seed=i, **given)
        found = self.crew.worker(self.compare).call("drifts", steps=self.steps, nudged=nudged, **files)
        widest, allowed = 0.0, []
        for envelope in found["envelope"]:
            widest = max(widest, _size(envelope))
            allowed.append(DRIFT * max(widest, DRIFT_FLOOR))
        over = [i for i, drift in enumerate(found["twin"]) if _size(drift) > allowed[i]]
        self.verdict.measurements["trajectory"] = {
            "optimizer": "sgd",
            "steps": list(range(self.steps)),
            "twin": found["twin"],
            "envelope": found["envelope"],
            "agrees": not over,
        }
        self.verdict.check(
            "free-running training stays within its envelope",
            "trajectory",
            {f"step {i}": drift for i, drift in enumerate(found["twin"])},
            passed=not over,
            bound=allowed[-1],
            detail=f"leaves it at step {over[0]}" if over else "no faster apart than torch from itself",
        )

    # --- where it begins -----------------------------------------------------------------------

    def _first_difference(self) -> Json:
        """The first layer whose output differs; else the first gradient, as the backward pass reaches it."""
        for key, mode in (("layers", "eval"), ("layers_train", "train")):
            if self._first_layers.get(key):
                path, error = self._first_layers[key]
                return {"kind": "activation", "path": path, "error": error, "detail": f"{mode} mode, float64"}
        wrong = {m["path"]: m for m in reversed(self.verdict.mismatches) if m["what"] == "gradients"}
        for name in self.order:
            if name in wrong:
                detail = wrong[name]["setting"]
                return {"kind": "gradient", "path": name, "error": wrong[name]["error"], "detail": detail}
        for m in self.verdict.mismatches:
            return {"kind": m["what"], "path": m["path"], "error": m["error"], "detail": m["setting"]}
        return None


def _drops_right(own: Mapping[str, Json], rate: float) -> bool:
    """Rate within five standard deviations over 65,536 draws; survivors scaled by 1 / (1 − rate)."""
    spread = 5 * math.sqrt(rate * (1 - rate) / 65536)
    scale = own["scale"] is not None and abs(own["scale"] * (1 - rate) - 1) < 1e-5
    return abs(own["dropped"] - rate) <= spread and scale and own["identity_in_eval"]


def _size(error: float | None) -> float:
    return math.inf if error is None else error
