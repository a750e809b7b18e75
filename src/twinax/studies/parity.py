"""Parity: do the two sides compute the same thing, forward, backward, and in training?

The oracle is float64, one step at a time: both sides start every step from the *same* state, so that
rounding has no time to grow, and must agree to a fixed bound, norm-relative, in every tensor. A tensor
whose true value is zero (the gradient of an attention key's bias, say) holds nothing but rounding; it is
compared with the rounding noise that torch shows when its own weights move by one unit in the last place.

In float32 no bound is assumed: each side's distance to the float64 result is set against the other's,
and against what moving the weights by a few units in float32's last place does to the float64 result (a
ReLU that flips is a jump, and which side meets it is chance). Free-running training is set against how
fast torch drifts from itself. The bounds are in ``parity_verdict.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import ClassVar

from twinax.records import Cell, Json, Options, Outcome, Record, Side, Size, TwinInfo
from twinax.studies.base import Crew, Group, Study, Worker
from twinax.studies.parity_verbs import steps_of
from twinax.studies.parity_verdict import BOUND, NOISE, Found, Noise, Verdict, drops_right, size

OPTIMIZERS = ("sgd", "adamw")
NUDGES = 2  # nudged runs that make the envelope of free-running training
SINGLE = ("outputs", "loss", "gradients", "buffers")
SMALL = 1e-6  # gradients this far below the largest may be rounding; only then is its noise measured
AFTER_STEP = (*SINGLE, "weights", "optimizer")


NAMED = "The report names each tensor that differs and by how much."
AT_A_POINT = "The gradients agree at inputs moved a little: see twinax autodiff --conventions."


class ParityStudy(Study):
    """Outputs, loss, every gradient, buffers, and the state after each optimizer step."""

    name: ClassVar[str] = "parity"
    needs: ClassVar[frozenset[str]] = frozenset({"forward", "loss"})
    paired: ClassVar[bool] = True
    verbs_module: ClassVar[str] = "twinax.studies.parity_verbs"

    def plan(self, info: TwinInfo, options: Options) -> list[Group]:
        preset = info.presets.get("parity_quick" if options.quick else "parity", Size(batch=2))
        dimensions = preset.model_copy(update={"batch": options.batch or preset.batch})

        def cell(side: Side, mode: str, dtype: str) -> Cell:
            return Cell(
                twin=info.name,
                study=self.name,
                side=side,
                mode=mode,
                size=dimensions,
                dtype=dtype,
                device=options.device,
            )

        sides = [
            each
            for dtype in ("float64", "float32")
            for each in (cell("torch", "eager", dtype), cell("jax", "jit", dtype))
        ]
        return [Group(self.name, (*sides, cell("both", "compare", "float64")))]

    def conduct(self, group: Group, crew: Crew) -> Iterator[Record]:
        proof = Proof(group, crew)
        measurements = proof.run()
        for cell in proof.sides:
            yield crew.record(cell)
        failed, first = proof.verdict.failed, measurements["first_difference"]
        where = f" First difference: {first['path']} ({first['kind']})." if first else ""
        yield crew.record(
            proof.compare,
            measurements,
            outcome=Outcome.MISMATCH if failed else Outcome.OK,
            message=f"The two sides differ: {'; '.join(failed)}.{where}" if failed else "",
            hint=(AT_A_POINT if measurements["special_point"] else NAMED) if failed else "",
        )


class Proof:
    """One conducting of the study: who is asked what, in which order.

    ``wide`` and ``narrow`` are the float64 and float32 cells by side; the narrow workers live only for
    the single passes, and array files only as long as someone needs them, so that a large model fits.
    """

    def __init__(self, group: Group, crew: Crew) -> None:
        *self.sides, self.compare = group.cells
        self.crew, self.verdict = crew, Verdict()
        self.steps = steps_of(crew.options)
        self.differentiable = "grad" in crew.info.programs
        self.modes = ("eval", "train") if self.differentiable else ("eval",)
        self.wide = {c.side: c for c in self.sides if c.dtype == "float64"}
        self.narrow = {c.side: c for c in self.sides if c.dtype == "float32"}
        self.sites: list[Json] = []

    def run(self) -> dict[str, Json]:
        self.crew.say("building both sides in float64 and float32")
        self.crew.start(*self.sides, self.compare)
        self.torch = self.crew.worker(self.wide["torch"])
        self.judge = self.crew.worker(self.compare)
        found: dict[str, Json] = {"reference": "torch eager float64"}
        found["dropout"] = self._dropout()
        found |= self._single_passes()
        for cell in self.narrow.values():
            self.crew.stop(cell)
        if "step" in self.crew.info.programs:
            found["steps"] = {optimizer: self._steps(optimizer) for optimizer in OPTIMIZERS}
            found["trajectory"] = self._free_running()
        if "fit" in self.crew.info.programs:
            self._fit()
        return found | self.verdict.measurements()

    # --- helpers -------------------------------------------------------------------------------

    def _file(self, name: str) -> str:
        return str(self.crew.scratch / name)

    def _files(self, name: str) -> dict[str, str]:
        return {side: self._file(f"{name}-{side}") for side in ("torch", "jax")}

    def _workers(self, cells: Mapping[str, Cell]) -> dict[str, Worker]:
        return {side: self.crew.worker(cell) for side, cell in cells.items()}

    def _ask_both(self, verb: str, own: Mapping[str, Mapping[str, Json]], **shared: Json) -> dict[str, Json]:
        """Send one verb to both float64 sides, each with its own arguments too, and wait for both."""
        workers = self._workers(self.wide)
        for side, worker in workers.items():
            worker.send(verb, **shared, **own.get(side, {}))
        return {side: worker.receive() for side, worker in workers.items()}

    def _compared(self, torch: str, jax: str) -> dict[str, Found]:
        return self.judge.call("judge", torch=torch, jax=jax)["found"]

    def _remove(self, *paths: str) -> None:
        self.judge.call("remove", paths=[path for path in paths if path])

    # --- dropout -------------------------------------------------------------------------------

    def _dropout(self) -> list[Json]:
        """Same layers, same rates, same shapes; and each side's own layer drops at its rate."""
        self.crew.say("comparing dropout layers")
        answers = self._ask_both("dropouts", {})
        # a layer of rate 0 does nothing, and is often left out on the other side
        real = {side: [s for s in answer["sites"] if s["rate"]] for side, answer in answers.items()}
        sites = {side: {s["path"]: s for s in found} for side, found in real.items()}
        self.sites = real["torch"]
        both = [path for path in sites["torch"] if path in sites["jax"]]
        own = {side: {"sites": [sites[side][path] for path in both]} for side in sites}
        found = {side: answer["found"] for side, answer in self._ask_both("own_dropout", own).items()}
        rows: list[Json] = []
        for path in both:
            theirs = {side: found[side][path] for side in found}
            same = sites["torch"][path] == sites["jax"][path]
            passed = same and all(drops_right(theirs[s], sites[s][path]["rate"]) for s in theirs)
            rows.append({"path": path, "rate": sites["torch"][path]["rate"], **theirs, "passed": passed})
        for path in sorted(sites["torch"].keys() ^ sites["jax"].keys()):
            side = "torch" if path in sites["torch"] else "jax"
            rows.append({"path": path, "rate": sites[side][path]["rate"], "passed": False, "only": side})
        self._judge_dropout(rows, sites)
        return rows

    def _judge_dropout(self, rows: list[Json], sites: Mapping[str, Mapping[str, Json]]) -> None:
        wrong = [row["path"] for row in rows if not row["passed"]]
        for path in wrong:
            told = {side: sites[side].get(path) for side in sites}
            self.verdict.mismatch("dropout", path, None, "train mode", **told)
        if rows:
            self.verdict.check(
                "dropout layers: place, rate, scale",
                "dropout",
                {row["path"]: None if row["path"] in wrong else 0.0 for row in rows},
                detail=f"differ: {', '.join(wrong)}" if wrong else "masks drawn in NumPy replay on both sides",
            )

    # --- single passes -------------------------------------------------------------------------

    def _single_passes(self) -> dict[str, Json]:
        """Eval and train mode from the same perturbed weights, in float64 and in float32."""
        rows: list[dict[str, Json]] = []
        found: dict[str, Json] = {}
        jax = [self.crew.worker(cells["jax"]) for cells in (self.wide, self.narrow)]
        for mode in self.modes:  # both at once: the JAX workers compile while torch goes on
            for worker, bits in zip(jax, ("64", "32"), strict=True):
                output = self._files(mode + bits)["jax"]
                given = self._given(mode) | ({"again": True} if bits == "64" else self._asked_of_narrow(mode))
                worker.send("evaluate", output=output, **given)
        for mode in self.modes:
            self.crew.say(f"one pass in {mode} mode, float64 and float32")
            wide, narrow = self._files(f"{mode}64"), self._files(f"{mode}32")
            given = self._given(mode) | self._asked_of_narrow(mode)
            self.crew.worker(self.narrow["torch"]).send("evaluate", output=narrow["torch"], **given)
            told = self.torch.call("evaluate", output=wide["torch"], again=True, **self._given(mode))
            noise = self._noise(**self._given(mode))
            envelope = self._narrow_envelope(mode, wide["torch"])
            changed = {"torch": told["changed"], "jax": jax[0].receive()["changed"]}
            for worker in (self.crew.worker(self.narrow["torch"]), jax[1]):
                worker.receive()
            self.verdict.steady(mode, changed)
            compared = self._judge_pass(mode, wide, told, noise)
            if mode == "eval":
                found["unproved"] = self._sensitivity(compared["gradients"], told["weights"], noise)
            far = self.judge.call("distances", reference=wide["torch"], others=narrow)
            rows += [self.verdict.narrow(mode, kind, far[kind], envelope[kind]) for kind in far]
            self._remove(*wide.values(), *narrow.values())
        self.verdict.float32(rows)
        return {**found, "float32": rows, "special_point": self._special_point()}

    def _special_point(self) -> bool:
        """Whether gradients that differ, and nothing else does, agree once the inputs have moved a little.

        Then they sit at a kink, a tie or a singular point, where the frameworks differentiate differently.
        """
        mine = [m for m in self.verdict.mismatches if m["setting"] == "eval mode, float64"]
        if {m["what"] for m in mine} != {"gradients"}:
            return False
        self.crew.say("only gradients differ: do they at inputs moved a little?")
        files = self._files("moved")
        own = {side: {"output": files[side]} for side in files}
        self._ask_both("evaluate", own, moved=True, **self._given("eval"))
        gradients = self._compared(**files)["gradients"]
        self._remove(*files.values())
        return all(size(gradients[m["path"]][0]) <= BOUND for m in mine)

    def _given(self, mode: str) -> dict[str, Json]:
        return {"train": mode == "train", "sites": self.sites, "gradients": self.differentiable}

    def _asked_of_narrow(self, mode: str) -> dict[str, Json]:
        """A quick proof looks at float32's gradients in train mode only: one program less to compile."""
        asked = mode == "train" or not self.crew.options.quick
        return {"record": False, "gradients": self.differentiable and asked}

    def _noise(self, back: Callable[[], None] | None = None, **setting: Json) -> Noise:
        """How far rounding moves tensors of a pass, or of a step, from the start; each is measured once.

        ``back`` is called after measuring: it brings torch back to where it stood.
        """
        known: dict[str, dict[str, float]] = {}

        def noise(kind: str, names: Sequence[str]) -> Mapping[str, float]:
            unknown = [name for name in names if name not in known.get(kind, {})]
            if unknown:
                for other, gaps in self.torch.call("noise", names=unknown, **setting).items():
                    known.setdefault(other, {}).update(gaps)
                if back:
                    back()
            return known.get(kind, {})

        return noise

    def _narrow_envelope(self, mode: str, base: str) -> dict[str, float]:
        """The farthest that a nudge in float32's last places moves each kind."""
        widest: dict[str, float] = {}
        for seed in range(2 if self.crew.options.quick else 4):
            moved = self._file(f"nudged-{mode}-{seed}")
            nudge = {"nudge": "float32", "nudge_seed": seed, "record": False}
            self.torch.call("evaluate", output=moved, **nudge, **self._given(mode))
            far = self.judge.call("distances", reference=base, others={"nudged": moved})
            widest = {kind: max(widest.get(kind, 0.0), size(far[kind]["nudged"])) for kind in far}
            self._remove(moved)
        return widest

    def _judge_pass(
        self,
        mode: str,
        files: Mapping[str, str],
        told: Mapping[str, Json],
        noise: Noise,
    ) -> dict[str, Found]:
        compared = self._compared(**files)
        setting = f"{mode} mode, float64"
        self.verdict.backward = told["gradients"]
        for kind in SINGLE:
            if compared[kind]:
                errors = self.verdict.judged(kind, compared[kind], setting, noise)
                self.verdict.check(f"{kind}, {setting}", kind, errors)
        self.verdict.activations(mode, told["activations"], compared["activations"])
        return compared

    def _sensitivity(self, gradients: Found, weights: Sequence[str], noise: Noise) -> list[str]:
        """Parameters whose gradient is nothing but rounding, and which no output notices.

        Where there are no gradients, every weight is changed to see whether an output notices.
        """
        if not self.differentiable:
            return self._noticed(weights, list(weights))
        norms = {name: norm for name, (_, norm, _, _) in gradients.items()}
        small = [name for name in norms if not norms[name] > SMALL * max(norms.values())]
        floors = noise("gradients", small) if small else {}
        flat = [name for name in small if not norms[name] > NOISE * floors.get(name, 0.0)]
        return self._noticed(list(gradients), flat)

    def _noticed(self, names: Sequence[str], doubtful: Sequence[str]) -> list[str]:
        unproved = self.torch.call("insensitive", names=list(doubtful))["names"] if doubtful else []
        detail = f"nothing was proved about {', '.join(unproved)}: no output depends on them"
        self.verdict.check(
            "the output notices every parameter",
            "sensitivity",
            dict.fromkeys(names, 0.0),
            passed=len(unproved) < len(names),  # nothing at all noticed: the proof would be empty
            detail=detail if unproved else "",
        )
        return unproved

    # --- steps ---------------------------------------------------------------------------------

    def _steps(self, optimizer: str) -> list[Json]:
        """N optimizer steps, each from torch's state before it."""
        table: list[Json] = []
        largest: dict[str, dict[str, float | None]] = {}
        before = ""

        def back() -> None:
            self.torch.call("stand", state=before, optimizer=optimizer)

        noise = self._noise(back, optimizer=optimizer, train=True, sites=self.sites)
        for index in range(self.steps):
            self.crew.say(f"{optimizer}: step {index + 1} of {self.steps} from the same state")
            files = self._files(f"{optimizer}{index}")
            own = {side: {"output": files[side]} for side in files}
            # torch goes on from where it stands; jax takes (and removes) torch's state, so both start equal
            own["jax"]["state"] = before
            answers = self._ask_both("step", own, optimizer=optimizer, index=index, sites=self.sites)
            before = files["torch"]
            errors = self._judge_step(optimizer, index, files, noise)
            self._remove(files["jax"])
            for kind, found in errors.items():
                kept = largest.setdefault(kind, {})
                kept |= {name: max(kept.get(name, 0.0), error, key=size) for name, error in found.items()}
            losses = {side: answer["loss"] for side, answer in answers.items()}
            row = {kind: max(found.values(), key=size) for kind, found in errors.items()}
            table.append({"step": index, "loss": losses, "errors": row})
        self._remove(before)
        for kind, found in largest.items():
            self.verdict.check(f"{kind}, {self.steps} steps of {optimizer}, float64", kind, found)
        return table

    def _judge_step(
        self, optimizer: str, index: int, files: Mapping[str, str], noise: Noise
    ) -> dict[str, dict[str, float | None]]:
        compared = self._compared(**files)
        setting = f"{optimizer}, train mode, float64"
        return {
            kind: self.verdict.judged(kind, compared[kind], setting, noise, index)
            for kind in AFTER_STEP
            if compared[kind]
        }

    # --- fit -----------------------------------------------------------------------------------

    def _fit(self) -> None:
        """Each side's solver on the same examples: the weights that it finds, and what they answer."""
        self.crew.say("each side's solver on the same examples, float64")
        files = self._files("fit")
        self._ask_both("fit", {side: {"output": path} for side, path in files.items()})
        compared = self._compared(**files)
        self._remove(*files.values())
        for kind in ("weights", "outputs", "loss"):
            errors = self.verdict.judged(kind, compared[kind], "after fit, float64", lambda kind, names: {})
            self.verdict.check(f"{kind} after fit, float64", kind, errors)

    # --- free running --------------------------------------------------------------------------

    def _free_running(self) -> dict[str, Json]:
        """How far apart do the two train, and how far does torch train from itself?"""
        self.crew.say(f"free-running training, {self.steps} steps, beside its envelope")
        shared: dict[str, Json] = {"optimizer": "sgd", "steps": self.steps, "sites": self.sites}
        files = self._files("free")
        nudged = [self._file(f"free-nudged{i}") for i in range(NUDGES)]
        self.torch.send("run_free", output=files["torch"], **shared)
        for i, path in enumerate(nudged):
            self.torch.send("run_free", output=path, nudge_seed=i, **shared)
        jax = self.crew.worker(self.wide["jax"])
        jax.call("run_free", output=files["jax"], **shared)
        for _ in (files["torch"], *nudged):
            self.torch.receive()
        runs: dict[str, Json] = {**files, "nudged": nudged}
        found = self.judge.call("drifts", steps=self.steps, **runs)
        return self.verdict.trajectory(found["twin"], found["envelope"])
