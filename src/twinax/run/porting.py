"""From a model that exists in PyTorch only to a folder with its JAX side, proved."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twinax.errors import CellFailed, FrameworkMissing, Unsupported
from twinax.frameworks.base import INPUT
from twinax.port.torch_to_jax import folder as folders
from twinax.port.torch_to_jax.folder import Habits, Proof, Subject
from twinax.records import Cell, Json, Options, Side, Size, TwinInfo
from twinax.run.installed import installed_sides
from twinax.run.launch import Listener, LocalCrew, LocalLauncher
from twinax.sources import torch_only
from twinax.studies.parity import SINGLE, SMALL
from twinax.studies.parity_verdict import NOISE, Found, Noise, Verdict, size

MODES = ("eval", "train")
PARITY_BATCH, MOST = 4, 8
"""Examples in the proof where more than the second number are stated, or one."""
PICTURES = (64, 128)
"""Sizes of pictures that are tried for the proof, where a model is made for larger ones."""
FUNCTIONS = (
    "PyTorch calls dropout as a function at {}. The port draws there too; in pair.py it is off on both sides, "
    "since twinax cannot replay such a mask."
)
NARROWS = (
    "PyTorch computes parts in float32 whatever the weights are. In float64 the port stays in float64; for the "
    "proof, and in pair.py, PyTorch does so too."
)


@dataclass(frozen=True)
class Port:
    """A port that was written.

    Attributes:
        folder: Where it lies.
        subject: What was ported.
        proof: What was proved of it.
        notes: What a reader should know.
    """

    folder: Path
    subject: Subject
    proof: Proof
    notes: tuple[str, ...]


def port(source: str, folder: Path, options: Options, listener: Listener) -> Port:
    """Port a source into a new folder, and prove it.

    Args:
        source: A model that exists in PyTorch only.
        folder: New, or empty.
        options: ``input``, ``task``, ``random_weights``, ``seed``, ``threads``, ``timeout`` are read.
        listener: Hears what happens.

    Raises:
        CannotPort: Names everything that stands in the way; nothing is left.
        BadInput: The source cannot be used, or the folder holds something.
    """
    source = torch_only.placed(source)
    with folders.staged(folder) as stage, _crew(source, options, stage, listener) as crew:
        work = _Work(crew, stage, options)
        crew.start(*work.cells)
        crew.say(f"porting {source}")
        told = work.torch.call("convert", source=source, request=_request(options), folder=str(stage))
        subject = _subject(told["subject"])
        notes = tuple(told["notes"])
        try:
            proof = work.prove(subject)
        except CellFailed as error:
            proof = Proof(limits=(f"The proof came to no end: {error.what}",))
        folders.finish(stage, subject, proof, notes)
    return Port(folder, subject, proof, notes)


def obstacles(source: str, options: Options, listener: Listener) -> tuple[Unsupported, ...]:
    """Everything in a source that cannot be ported, in the order in which the model comes to it.

    Raises:
        BadInput: The source cannot be used.
    """
    source = torch_only.placed(source)
    with (
        tempfile.TemporaryDirectory(prefix="twinax-") as place,
        _crew(source, options, Path(place), listener) as crew,
    ):
        crew.say(f"looking through {source}")
        worker = crew.worker(_cell(source, "torch", "eager", 1))
        found = worker.call("obstacles", source=source, request=_request(options))["found"]
    return tuple(Unsupported(**one) for one in found)


def _subject(told: dict[str, Any]) -> Subject:
    """As the worker had it, before it was JSON."""
    names, inputs = tuple(told.pop("names")), tuple(told.pop("inputs"))
    return Subject(names=names, inputs=inputs, **told)


def _request(options: Options) -> dict[str, Json]:
    return {"input": options.input, "task": options.task, "random_weights": options.random_weights}


def _cell(source: str, side: Side, mode: str, batch: int) -> Cell:
    return Cell(twin=source, study="port", side=side, mode=mode, size=Size(batch=batch), dtype="float64")


@contextlib.contextmanager
def _crew(source: str, options: Options, folder: Path, listener: Listener) -> Iterator[LocalCrew]:
    """Workers that hold their framework and nothing else yet; their logs are not kept."""
    if "torch" not in installed_sides():
        raise FrameworkMissing(
            f"PyTorch is not installed here, and {source} needs it.",
            "Install it with: pip install 'twinax[torch]'",
        )
    info = TwinInfo(name=source, title="", presets={}, inputs=())
    launcher = LocalLauncher(info, options, folder, "", listener)
    try:
        with LocalCrew("twinax.run.porting_verbs", launcher, loads="nothing") as crew:
            yield crew
    finally:
        launcher.close()
        folders.remove_logs(folder)


class _Work:
    """One port: who is asked what, in which order."""

    def __init__(self, crew: LocalCrew, stage: Path, options: Options) -> None:
        self.crew, self.stage, self.options = crew, stage, options
        self.verdict = Verdict()
        self.floors: dict[str, dict[str, float]] = {}
        self.steady: dict[str, bool] = {}
        name = crew.info.name
        self.cells = [_cell(name, "torch", "eager", PARITY_BATCH), _cell(name, "both", "compare", 1)]
        if "jax" in installed_sides():
            self.cells.insert(1, _cell(name, "jax", "jit", PARITY_BATCH))
        self.torch = crew.worker(self.cells[0])
        self.judge = crew.worker(self.cells[-1])

    def prove(self, subject: Subject) -> Proof:
        """Compare the two sides; what is left in the folder follows from what was found."""
        if len(self.cells) < 3:
            return Proof(limits=("JAX is not installed where it was ported, so nothing was compared.",))
        self.jax = self.crew.worker(self.cells[1])
        self.crew.say("building both sides in float64")
        self.examples = subject.batch if 1 < subject.batch <= MOST else PARITY_BATCH
        pair, weights = str(self.stage / folders.PAIR), str(self.stage / folders.WEIGHTS)
        self._both("build", pair=pair, weights=weights, batch=self.examples)
        picture = self._pictures(subject)
        files = {mode: self._files(mode) for mode in MODES}
        for mode in MODES:  # JAX compiles both while torch goes on
            self.jax.send("evaluate", output=files[mode]["jax"], **_setting(mode))
        unproved: list[str] = []
        for mode in MODES:
            self.crew.say(f"proving it in {mode} mode, float64")
            told = self.torch.call("evaluate", output=files[mode]["torch"], again=True, **_setting(mode))
            self.verdict.steady(mode, {"torch": told["changed"]})
            self.steady[mode] = not told["changed"]
            self.jax.receive()
            compared = self._judged(mode, files[mode], told)
            unproved = unproved or (self._unproved(compared["gradients"], mode) if mode == "eval" else [])
        self.torch.call(
            "keep",
            folder=str(self.stage),
            evaluations={mode: files[mode]["torch"] for mode in MODES},
            floors=self.floors,
        )
        proof = replace(self._found(), unproved=unproved, pictures=(picture,) if picture else ())
        return self._suited(subject, proof) if proof.holds else self._located(proof)

    def _pictures(self, subject: Subject) -> int:
        """The size of the pictures on which both sides are evaluated; 0 where there are none."""
        for image in (pixels for pixels in PICTURES if pixels < subject.picture):
            if all(answer["takes"] for answer in self._both("takes", image=image)):
                self._both("crop", image=image)
                return image
        return subject.picture

    def _files(self, name: str) -> dict[str, str]:
        return {side: str(self.crew.scratch / f"{name}-{side}") for side in ("torch", "jax")}

    def _both(self, verb: str, **given: Json) -> list[dict[str, Json]]:
        for worker in (self.torch, self.jax):
            worker.send(verb, **given)
        return [worker.receive() for worker in (self.torch, self.jax)]

    def _compared(self, files: Mapping[str, str]) -> dict[str, Found]:
        return self.judge.call("judge", torch=files["torch"], jax=files["jax"])["found"]

    def _judged(self, mode: str, files: Mapping[str, str], told: Mapping[str, Json]) -> dict[str, Found]:
        compared = self._compared(files)
        self.verdict.backward = told["gradients"]
        setting, noise = f"{mode} mode, float64", self._noise(mode)
        for kind in SINGLE:
            if compared[kind]:
                errors = self.verdict.judged(kind, compared[kind], setting, noise)
                self.verdict.check(f"{kind}, {setting}", kind, errors)
        return compared

    def _noise(self, mode: str) -> Noise:
        """How far rounding alone moves gradients; asked for small ones only, and kept for the reference."""
        kept = self.floors.setdefault(mode, {})

        def noise(kind: str, names: Sequence[str]) -> Mapping[str, float]:
            unknown = [name for name in names if name not in kept]
            if kind != "gradients" or not self.steady[mode]:  # what moves by itself tells nothing of rounding
                return {}
            if not unknown:
                return kept
            kept.update(self.torch.call("noise", names=unknown, train=mode == "train").get("gradients", {}))
            return kept

        return noise

    def _unproved(self, gradients: Found, mode: str) -> list[str]:
        """Parameters whose gradient is nothing but rounding, and which no output notices."""
        norms = {name: norm for name, (_, norm, _, _) in gradients.items() if not name.startswith(INPUT)}
        small = [name for name in norms if not norms[name] > SMALL * max(norms.values())]
        floors = self._noise(mode)("gradients", small) if small else {}
        flat = [name for name in small if not norms[name] > NOISE * floors.get(name, 0.0)]
        return self.torch.call("insensitive", names=flat)["names"] if flat else []

    def _found(self) -> Proof:
        keys = ("name", "count", "worst", "where", "passed")
        checks = [{key: check[key] for key in keys} for check in self.verdict.checks]
        checks = [{**check, "worst": _number(check["worst"])} for check in checks]
        return Proof(checks, self.verdict.first_difference())

    def _located(self, proof: Proof) -> Proof:
        """Look at every module's output, to name the first that differs."""
        self.crew.say("it differs: looking for the first module that does")
        for mode in MODES:
            files = self._files(f"located-{mode}")
            for worker, side in ((self.torch, "torch"), (self.jax, "jax")):
                worker.send("evaluate", output=files[side], **{**_setting(mode), "record": True})
            told = self.torch.receive()
            self.jax.receive()
            found = self._compared(files)["activations"]
            self.verdict.layers[mode] = [(p, found[p][0]) for p in told["activations"] if p in found]
        return replace(proof, first_difference=self.verdict.first_difference())

    def _suited(self, subject: Subject, proof: Proof) -> Proof:
        """Let the pair file fit the model, so that every study can run on it."""
        for worker in (self.torch, self.jax):
            worker.send("dropouts")
        mine, theirs = (worker.receive()["paths"] for worker in (self.torch, self.jax))
        silent = tuple(path for path in theirs if path not in mine)
        exact = self.torch.call("narrows")["narrows"]
        proof, fixed = self._batches(subject, proof)
        limits = list(proof.limits)
        if silent:
            limits.append(FUNCTIONS.format(", ".join(silent)))
        if exact:
            limits.append(NARROWS)
        if silent or exact or fixed:
            folders.pair(self.stage, subject, Habits(fixed, silent, exact))
        return replace(proof, limits=tuple(limits))

    def _batches(self, subject: Subject, proof: Proof) -> tuple[Proof, bool]:
        """Which other number of examples it serves; or its own alone."""
        proved, told = self.examples, []
        for other in (2 if proved != 2 else 3, proved + 1, 2 * proved):
            self.crew.say(f"trying a batch of {other}")
            files = self._files(f"batch-{other}")  # a side that was not refused has written its own
            for worker, side in ((self.torch, "torch"), (self.jax, "jax")):
                worker.send("other_batch", batch=other, output=files[side])
            refused = [worker.receive()["refused"] for worker in (self.torch, self.jax)]
            if any(refused):
                who = "PyTorch" if refused[0] else "JAX"
                told.append(f"{other} ({who}: {refused[0] or refused[1]})")
                continue
            outputs = self._compared(files)["outputs"]
            errors = self.verdict.judged("outputs", outputs, "eval mode, float64", lambda kind, names: {})
            self.verdict.check(f"outputs, batch of {other}, eval mode, float64", "outputs", errors)
            sizes = tuple(sorted({*proof.pictures, subject.picture} - {0}))
            found = replace(self._found(), unproved=proof.unproved, batches=(proved, other), pictures=sizes)
            return found, False
        limit = f"It serves {proved} examples in a batch; it was tried in vain with {', '.join(told)}."
        return replace(proof, batches=(proved,), limits=(limit,)), True


def _setting(mode: str) -> dict[str, Json]:
    return {"train": mode == "train", "record": False}


def _number(error: float | None) -> float | None:
    return None if error is None or size(error) == float("inf") else error
