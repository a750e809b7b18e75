"""A port of a live module, in a process that holds both frameworks: a person's notebook."""

from __future__ import annotations

import copy
import importlib.util
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinax.compare import difference
from twinax.errors import BadInput
from twinax.port.torch_to_jax import folder as folders
from twinax.port.torch_to_jax.folder import Proof
from twinax.sources.file import PairSide
from twinax.studies.parity import SINGLE
from twinax.studies.parity_verbs import NUDGES, first_change, nudge_wide, perturb, wider
from twinax.studies.parity_verdict import Found, Verdict, size
from twinax.twin import Arrays

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class LivePort:
    """A module's JAX side; it unpacks as ``apply, params``.

    Attributes:
        apply: ``apply(params, *inputs) -> outputs`` in eval mode: a pure function.
        params: Every parameter and buffer, under PyTorch's names.
        model: The Flax NNX module, with both modes and its own state.
        source: The text of its classes.
        proof: What was proved of it, in float64.
        notes: What a reader should know.
    """

    apply: Callable[..., Any]
    params: dict[str, Any]
    model: Any
    source: str = field(repr=False)
    proof: Proof = field(repr=False)
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter((self.apply, self.params))


def port(module: nn.Module, example: Any) -> LivePort:
    """Port a live module, and prove it in float64.

    Args:
        module: Left as it is.
        example: A tensor, a tuple of them in the order of ``forward``, or ``{parameter: tensor}``; a batch of
            at least two.

    Raises:
        CannotPort: Names everything that stands in the way, with the lines of the source.
        BadInput: This is no module, or no example.
    """
    import torch

    from twinax.port.torch_to_jax.convert import convert
    from twinax.sources.torch_only.base import parameters

    if not isinstance(module, torch.nn.Module):
        raise BadInput(f"The module is {type(module).__name__}.", "Give a torch.nn.Module.")
    given = example if isinstance(example, Mapping | tuple | list) else (example,)
    named = dict(given) if isinstance(given, Mapping) else dict(zip(parameters(module)[0], given, strict=False))
    wrong = [value for value in named.values() if not isinstance(value, torch.Tensor)]
    if wrong or not named:
        raise BadInput(f"The example is {type((wrong or [example])[0]).__name__}.", "Give tensors.")
    ported = convert(module, named)
    place = Path(tempfile.mkdtemp(prefix="twinax-port-"))  # kept: the model reads its constants from there
    folders.write_model(place, ported)
    made = _module_of(place / folders.MODEL)
    batch = {name: tensor.detach().cpu().numpy() for name, tensor in named.items()}
    proof = _proved(module, made, ported.weights, batch)
    if not proof.holds:
        at = (proof.first_difference or {}).get("path", "an output")
        warnings.warn(f"The port is NOT PROVED: it differs at {at}; see its proof.", stacklevel=2)
    model = made.load(place / folders.WEIGHTS)
    apply, params = _function(model)
    return LivePort(apply, params, model, ported.source, proof, ported.notes)


def _module_of(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(file.parent.name.replace("-", "_"), file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _function(model: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The model in eval mode as a function of its arrays by name."""
    from flax import nnx

    graph, random, state = nnx.split(model, nnx.RngState, ...)
    flat = nnx.to_flat_state(state)
    params = {".".join(map(str, path)): variable[...] for path, variable in flat}

    def apply(params: Mapping[str, Any], *inputs: Any) -> Any:
        held = [(p, v.replace(params[".".join(map(str, p))])) for p, v in flat]
        return nnx.merge(graph, random, nnx.from_flat_state(held), copy=True)(*inputs)

    return apply, params


# --- proof -------------------------------------------------------------------------------------------


class _Pair:
    """What a pair file would say of the two sides."""

    rename: Mapping[str, str] = {}
    channels_last = False
    names: Mapping[str, Any] = {}

    def __init__(self, module: nn.Module, names: Sequence[str], made: Any) -> None:
        self.module, self.inputs, self.made = module, names, made

    def function(self, name: str) -> Callable[[], Any]:
        from twinax.sources.torch_only.calling import by_name

        sides = {
            "torch_model": lambda: by_name(copy.deepcopy(self.module), self.inputs),
            "jax_model": self.made.build,
        }
        return sides[name]

    def call(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


@contextmanager
def _wide() -> Iterator[None]:
    """float64 in JAX, for the time of the block."""
    import jax

    before = jax.config.jax_enable_x64  # type: ignore[attr-defined]
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def _proved(module: nn.Module, made: Any, weights: Arrays, batch: Arrays) -> Proof:
    """Outputs, gradients and buffers of both sides, in eval and in train mode without dropout."""
    from twinax.frameworks.jax_backend import JaxRunner
    from twinax.frameworks.torch_backend import TorchRunner
    from twinax.sources.torch_only.exact import Exact

    pair: Any = _Pair(module, tuple(batch), made)
    start, verdict = perturb(weights, 0), Verdict()
    with _wide():
        jax = JaxRunner(PairSide(pair, "jax"), {}, start, tuple(batch), dtype="float64")
        torch = TorchRunner(PairSide(pair, "torch"), {}, start, tuple(batch), dtype="float64")
        jax.input_gradients = torch.input_gradients = True
        for train in (False, True):

            def of_torch(moved: Arrays, train: bool = train) -> Any:
                torch.load(moved)
                with Exact():
                    return torch.evaluate(batch, train=train, record=True)

            mine = copy.deepcopy(of_torch(start))
            again = replace(of_torch(start), activations={})  # what is used nowhere may change
            changed = first_change(replace(mine, activations={}), again)
            jax.load(start)
            theirs = jax.evaluate(batch, train=train, record=True)
            nudged = [] if changed else [partial(of_torch, nudge_wide(start, seed)) for seed in range(NUDGES)]
            verdict.steady("train" if train else "eval", {"torch": changed})
            _judge(verdict, "train mode" if train else "eval mode", mine, theirs, nudged)
    keys = ("name", "count", "worst", "where", "passed")
    return Proof([{key: check[key] for key in keys} for check in verdict.checks], verdict.first_difference())


def _judge(verdict: Verdict, mode: str, mine: Any, theirs: Any, nudged: Sequence[Callable[[], Any]]) -> None:
    def found(kind: str) -> Found:
        a, b = ({"loss": e.loss} if kind == "loss" else getattr(e, kind) for e in (mine, theirs))
        return {n: _plain(a[n], b[n]) for n in a if n in b} | {
            n: [None, 0.0, None, "missing on one side"] for n in {*a} ^ {*b} if kind != "activations"
        }

    def noise(kind: str, names: Sequence[str]) -> Mapping[str, float]:
        if kind != "gradients":
            return {}
        floors = dict.fromkeys(names, 0.0)
        for once in nudged:
            moved = once().gradients
            for name in names:
                floors[name] = wider(floors[name], difference(mine.gradients[name], moved[name]).gap)
        return floors

    for kind in SINGLE:
        compared, setting = found(kind), f"{mode}, float64"
        if compared:
            verdict.check(f"{kind}, {setting}", kind, verdict.judged(kind, compared, setting, noise))
    layers = found("activations")
    verdict.layers[mode.split()[0]] = [(path, layers[path][0]) for path in mine.activations if path in layers]


def _plain(a: Any, b: Any) -> list[Any]:
    import numpy as np

    one = difference(np.asarray(a), np.asarray(b))
    return [one.error if size(one.error) < float("inf") else None, one.norm, one.gap, one.fault]
