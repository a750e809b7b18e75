"""What workers do for a port: convert, write, evaluate both sides, keep what the proof was made against."""

from __future__ import annotations

import contextlib
import copy
import inspect
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from twinax.compare import compare, together
from twinax.frameworks.make import make_runner
from twinax.port.torch_to_jax import folder as folders
from twinax.records import Json, Size
from twinax.sources import resolve, torch_only
from twinax.sources.torch_only import Request, TorchSource
from twinax.studies import parity_files, parity_verbs
from twinax.studies.base import Context, Verb
from twinax.twin import Arrays
from twinax.weights import checkpoint

if TYPE_CHECKING:
    from torch import Tensor, nn

    from twinax.port.torch_to_jax.convert import Ported

WIDE = "Weights in float64: {}. Set jax_enable_x64, without which JAX has none and rounds them to float32."
NARROW = (
    "PyTorch has weights in {}; weights.safetensors holds the same numbers in float32, in which the port "
    "computes, more exactly than PyTorch."
)

# --- the torch side ----------------------------------------------------------------------------------


def obstacles(context: Context, *, source: str, request: dict[str, Json]) -> dict[str, Json]:
    """Everything in a model that cannot be ported."""
    from twinax.port.torch_to_jax.convert import obstacles as found

    known = torch_only.resolve(source, Request(**request))
    module, inputs = _example(known, context.options.seed)
    return {"title": known.title, "found": [vars(one) for one in found(module, inputs)]}


def convert(context: Context, *, source: str, request: dict[str, Json], folder: str) -> dict[str, Json]:
    """Port a source into a folder, not proved.

    Raises:
        CannotPort: Names everything that stands in the way.
    """
    from twinax.port.torch_to_jax.convert import convert as ported_of

    known = torch_only.resolve(source, Request(**request))
    module, inputs = _example(known, context.options.seed)
    first = f"{known.title.rstrip('.')}, in JAX (Flax NNX)."
    ported = _with_own_types(ported_of(module, inputs, title=first), module)
    subject = _subject(known, module, request, context.options.seed)
    folders.write(Path(folder), ported, subject, known.given)
    return {"subject": vars(subject), "notes": list(ported.notes)}


def _with_own_types(ported: Ported, module: nn.Module) -> Ported:
    """float64 weights as they were; narrower ones stay in float32, as they are proved, and a note says so."""
    from twinax.sources.torch_only.base import other_weights

    others = other_weights(module)
    held = {n: t for n, t in others.items() if n in ported.weights}
    kept = {n: t.cpu().numpy() for n, t in held.items() if t.element_size() == 8}
    narrow = sorted({str(t.dtype).removeprefix("torch.") for t in held.values() if t.element_size() < 4})
    notes = [WIDE.format(len(kept))] if kept else []
    notes += [NARROW.format(" and ".join(narrow))] if narrow else []
    return replace(ported, weights=ported.weights | kept, notes=(*ported.notes, *notes))


def _example(source: TorchSource, seed: int) -> tuple[nn.Module, dict[str, Tensor]]:
    """The module and a batch of at least two, where it takes more than one."""
    import torch

    from twinax.sources.torch_only.base import tensors_of

    module = source.make(seed)
    own = tensors_of(source.example(seed, source.batch))
    if source.batch > 1:
        return module, own
    more = tensors_of(source.example(seed, 2))
    try:
        with torch.no_grad():
            module(**more)
    except Exception:  # whatever a model raises that takes no other batch than its own
        return module, own
    return module, more


def _subject(source: TorchSource, module: nn.Module, request: Mapping[str, Json], seed: int) -> folders.Subject:
    from twinax.sources.torch_only.base import parameters

    names = tuple(one.name for one in source.inputs)
    leading = tuple(parameters(module)[0][: len(names)]) == names
    return folders.Subject(
        name=source.name,
        title=source.title.rstrip("."),
        where=source.where,
        names=names,
        inputs=tuple(map(repr, source.inputs)),
        request={key: value for key, value in request.items() if value},
        seed=seed,
        batch=source.batch,
        picture=max((one.shape[-1] for one in source.inputs if len(one.shape) == 4), default=0),
        reference=source.name if leading and torch_only.is_callable(source.name) else "",
        shown=source.where.rpartition(":")[0] if torch_only.is_callable(source.name) else "",
    )


# --- both sides --------------------------------------------------------------------------------------


def build(context: Context, *, pair: str, weights: str, batch: int) -> dict[str, Json]:
    """Build the worker's side of the port, with its weights in place, to be evaluated on as many examples."""
    context.twin = resolve(pair)
    context.weights = checkpoint.read(Path(weights))
    context.runner = make_runner(context.cell, context.twin, context.weights)
    context.runner.input_gradients = True
    context.memory["batches"] = [_full(context, batch)]
    return {}


def takes(context: Context, *, image: int) -> dict[str, Json]:
    """Whether the side takes pictures of this size."""
    assert context.runner is not None
    try:
        with _exact(context):
            context.runner.dropouts(_cropped(context, image))  # no gradients; on the JAX side shapes alone
    except Exception:  # models fix their size in many ways
        return {"takes": False}
    return {"takes": True}


def crop(context: Context, *, image: int) -> dict[str, Json]:
    """Evaluate the side on pictures of this size from now on.

    XLA's float64 convolutions on a CPU are plain loops: large pictures would take minutes.
    """
    context.memory["batches"] = [_cropped(context, image)]
    return {}


def _cropped(context: Context, image: int) -> Arrays:
    return {
        name: array[:, :, :image, :image] if array.ndim == 4 else array
        for name, array in _batch(context).items()
    }


def _full(context: Context, batch: int) -> Arrays:
    """As many examples, in the size that was ported."""
    assert context.twin is not None
    return context.twin.batches(context.twin.config, Size(batch=batch), context.options.seed, 1)[0]


@contextlib.contextmanager
def _exact(context: Context) -> Iterator[None]:
    """On the torch side, dropout is off wherever it is called, and nothing is computed in float32."""
    if context.cell.side != "torch":
        yield
        return
    from twinax.sources.torch_only.exact import Exact

    with Exact():
        yield


def evaluate(context: Context, **given: Json) -> dict[str, Json]:
    """As in the parity study."""
    with _exact(context):
        return parity_verbs.evaluate(context, sites=[], **given)


def noise(context: Context, **given: Json) -> dict[str, Json]:
    """As in the parity study."""
    with _exact(context):
        return parity_verbs.noise(context, sites=[], **given)


def insensitive(context: Context, *, names: list[str]) -> dict[str, Json]:
    """As in the parity study."""
    with _exact(context):
        return parity_verbs.insensitive(context, names=names)


def dropouts(context: Context) -> dict[str, Json]:
    """Paths of the dropout layers that a pass in train mode goes through."""
    assert context.runner is not None
    with _exact(context):
        return {"paths": [site.path for site in context.runner.dropouts(_batch(context)) if site.rate]}


def narrows(context: Context) -> dict[str, Json]:
    """Whether the torch side computes parts in float32 though its weights are float64."""
    assert context.runner is not None
    context.runner.load(parity_verbs.perturb(context.weights, context.options.seed))
    try:
        plain = copy.deepcopy(context.runner.evaluate(_batch(context), train=False, gradients=True))
    except RuntimeError:  # parts in float32 do not fit beside float64
        return {"narrows": True}
    with _exact(context):
        exact = context.runner.evaluate(_batch(context), train=False, gradients=True)
    far = [together(compare(getattr(exact, k), getattr(plain, k)).values()) for k in ("outputs", "gradients")]
    return {"narrows": max(far) > parity_verbs.STEADY / 10}


def _batch(context: Context) -> Arrays:
    """What the side is evaluated on."""
    return context.memory["batches"][0]


def other_batch(context: Context, *, batch: int, output: str) -> dict[str, Json]:
    """The outputs for another number of examples, in eval mode; ``refused``: what the side said, or ""."""
    assert context.runner is not None
    arrays = _full(context, batch)
    context.runner.load(parity_verbs.perturb(context.weights, context.options.seed))
    try:
        with _exact(context):
            result = context.runner.evaluate(arrays, train=False, gradients=False)
    except Exception as error:  # a model may fix its batch in many ways
        line = traceback.extract_tb(error.__traceback__)[-1].line or ""  # what an assert without words says
        return {"refused": f"{type(error).__name__}: {(str(error).splitlines() or [line])[0][:300]}"}
    parity_files.write(output, result, kinds=("outputs",))
    return {"refused": ""}


def keep(
    context: Context, *, folder: str, evaluations: dict[str, str], floors: dict[str, dict[str, float]]
) -> dict[str, Json]:
    """Write the test and the reference: what the torch side gave, by mode."""
    assert context.twin is not None
    seed, batch = context.options.seed, _batch(context)
    arrays = {f"inputs|{name}": batch[name] for name in context.twin.inputs} | {"seed": np.asarray(seed)}
    for mode, path in evaluations.items():
        for kind in ("outputs", "gradients", "buffers"):
            kept = parity_files.read(path, kind)
            arrays |= {f"{mode}|{kind}|{name}": array for name, array in kept.items()}
        arrays |= {f"{mode}|floors|{name}": np.asarray(floor) for name, floor in floors[mode].items()}
    perturb = inspect.getsource(parity_verbs.perturb)
    folders.prove(Path(folder), arrays, perturb.replace(" -> Arrays", "").replace(": Arrays", ""))
    return {}


VERBS: Mapping[str, Verb] = {
    verb.__name__: verb
    for verb in (
        obstacles,
        convert,
        build,
        takes,
        crop,
        evaluate,
        noise,
        insensitive,
        dropouts,
        narrows,
        other_batch,
        keep,
        parity_verbs.judge,
    )
}
