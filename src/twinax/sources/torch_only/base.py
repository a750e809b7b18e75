"""The contract of a source that has one side only, and what its kinds share. Torch is imported in functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from twinax.errors import BadInput
from twinax.sources.torch_only.inputs import FORM, Input, draw, named
from twinax.twin import Array, Arrays

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Request:
    """What a person says beside the name of a source.

    Attributes:
        input: Shapes and types of its inputs, as ``--input`` takes them.
        task: What a Hugging Face model is for: ``text-classification`` …
        random_weights: Whether it is made from its configuration alone.
    """

    input: str = ""
    task: str = ""
    random_weights: bool = False


_OTHERS: WeakKeyDictionary[nn.Module, Mapping[str, Tensor]] = WeakKeyDictionary()


@dataclass(frozen=True)
class TorchSource:
    """A model that exists in PyTorch only.

    Attributes:
        name: The name by which every worker finds it again.
        title: One line for people.
        make: ``seed -> nn.Module``: float32, in eval mode; what it draws follows from the seed.
        inputs: What goes into it, in the order of the parameters of ``forward``.
        given: Arrays of the inputs that are given by an example.
        where: Where it comes from: ``file:line``, or a library with its version.
    """

    name: str
    title: str
    make: Callable[[int], nn.Module]
    inputs: tuple[Input, ...]
    where: str
    given: Mapping[str, Array] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        """Examples in the batch that was stated."""
        return next((one.shape[0] for one in self.inputs if one.batched and one.shape), 1)

    def example(self, seed: int, batch: int) -> Arrays:
        """A batch by the names of ``forward``'s parameters."""
        return draw(self.inputs, seed, batch, self.given)


def seeded(make: Callable[[], Any], seed: int) -> nn.Module:
    """The module that a function gives, in float32 and in eval mode; what it draws follows from the seed."""
    import torch

    torch.manual_seed(seed)
    made = make().eval()
    others = {n: t for n, t in made.state_dict().items() if t.is_floating_point() and t.dtype != torch.float32}
    made = made.float()
    if others:  # of narrow ones the type is enough: float32 holds their numbers
        wide = torch.float64
        _OTHERS[made] = {n: t if t.dtype == wide else torch.empty(0, dtype=t.dtype) for n, t in others.items()}
    return made


def other_weights(module: nn.Module) -> Mapping[str, Tensor]:
    """Weights, by name, of a module from :func:`seeded` that were of another type of floats.

    float64 ones as they were; of narrower ones an empty tensor of their type.
    """
    return _OTHERS.get(module, {})


def for_parameters(inputs: Sequence[Input], module: nn.Module, where: str) -> tuple[Input, ...]:
    """Stated inputs under the names of ``forward``'s parameters.

    Raises:
        BadInput: ``forward`` takes fewer, or needs more.
    """
    names, needed = parameters(module)
    if not inputs:
        raise BadInput(f"{where}: Nothing says what goes into forward({', '.join(names)}).", FORM)
    if not needed <= len(inputs) <= len(names):
        raise BadInput(
            f"{where}: forward({', '.join(names)}) takes {len(names)} inputs; {len(inputs)} are stated.", FORM
        )
    return bounded(named(inputs, names[: len(inputs)]), module)


def parameters(module: nn.Module) -> tuple[list[str], int]:
    """Names of ``forward``'s positional parameters, and how many of them have no default."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = [p for p in inspect.signature(module.forward).parameters.values() if p.kind in positional]
    return [p.name for p in found], sum(p.default is inspect.Parameter.empty for p in found)


def bounded(inputs: Sequence[Input], module: nn.Module) -> tuple[Input, ...]:
    """The inputs, with a bound for every integer: that of the table which it is looked up in.

    Found by one pass on zeros; an integer that is looked up nowhere is 0 or 1.
    """
    if not any(one.dtype == "int64" and not one.below and one.kind == "drawn" for one in inputs):
        return tuple(inputs)
    import torch
    from torch import nn

    tensors = tensors_of(draw(inputs, 0, max(inputs[0].shape[0], 1)))
    owners = {tensor.untyped_storage().data_ptr(): name for name, tensor in tensors.items()}
    rows: dict[str, int] = {}

    def looked_up(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        (indices,) = (*args, *kwargs.values())
        name = owners.get(indices.untyped_storage().data_ptr())
        if name:
            rows[name] = min(rows.get(name, layer.num_embeddings), layer.num_embeddings)

    tables = [layer for layer in module.modules() if isinstance(layer, nn.Embedding)]
    hooks = [layer.register_forward_pre_hook(looked_up, with_kwargs=True) for layer in tables]
    try:
        with torch.no_grad():
            module(**tensors)
    except Exception as error:  # whatever a model raises on arrays that it does not take
        told = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
        stated = ", ".join(f"{one.name} {'x'.join(map(str, one.shape))}:{one.dtype}" for one in inputs)
        raise BadInput(f"The model fails on zeros of what is stated ({stated}): {told}", FORM) from error
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(
        replace(one, below=rows.get(one.name, 2)) if one.dtype == "int64" and not one.below else one
        for one in inputs
    )


def tensors_of(arrays: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    """The arrays as tensors."""
    import torch

    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
