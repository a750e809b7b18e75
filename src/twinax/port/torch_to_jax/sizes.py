"""Which fixed sizes of its inputs a model computes with. Imports torch: runs in torch workers.

An export takes sizes of pictures, and all beyond a sequence's length, for constants: ``x.sum(2) / x.shape[2]``
becomes a division by 16, and another picture would give other numbers than in torch. So the model is run on
arrays without numbers, of its own sizes and of others: where the constants that its operations get differ, the
port must refuse other sizes.
"""

from __future__ import annotations

import copy
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from twinax.port.torch_to_jax.whole import whole_layers

VIEWS = ("view", "_unsafe_view", "reshape")
SCALED = ("upsample_",)
"""Operations that get their result's size beside the scale that it follows from."""
SIZED = ("native_group_norm",)
"""Operations that get sizes of their input, which an export does not keep."""
Axis = tuple[str, int]
"""An input by name, and one of its axes."""
OTHERS: tuple[Callable[[int], int], ...] = (lambda n: 2 * n, lambda n: n + 1)
ALONE: Callable[[int], int] = lambda n: 2 * n + 1  # noqa: E731
"""Shows in quotient, ratio and rest of two sizes of which the other one stays."""


@dataclass(frozen=True)
class Ran:
    """An operation that ran: the constants that it got; of a view the sizes before and after."""

    name: str
    constants: tuple[str, ...]
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


def computed_with(module: nn.Module, inputs: Mapping[str, Tensor], closed: Sequence[Axis]) -> list[Axis]:
    """Those of the closed axes whose sizes go into what the module computes.

    Args:
        module: In the mode that is asked about; left as it is.
        inputs: Example arrays.
        closed: Axes whose sizes an export takes for constants.
    """
    if not closed:
        return []
    own, found = _run(module, inputs, {}), set()
    if own is None:  # numbers decide what it does: nothing is known of its sizes
        return list(closed)
    moved: dict[int, set[int]] = defaultdict(set)
    ran: set[Axis] = set()
    for axes in _together(inputs, closed):
        for other_size in (ALONE, *OTHERS) if len(axes) == 1 else OTHERS:
            other = _run(module, inputs, dict.fromkeys(axes, other_size))
            if other is not None and _differ(own, other, moved):
                found |= set(axes)
            if other is not None and other_size is ALONE and axes[0] in ran:
                break  # the others have been tried in company
            ran |= set(axes) if other is not None else set()
    return [axis for axis in closed if axis in found]


def _together(inputs: Mapping[str, Tensor], closed: Sequence[Axis]) -> Iterator[list[Axis]]:
    """Axes that are changed at once: those of one size, as a mask must fit its sequence; these without second
    axes, which may be features, as many by chance; each alone.
    """
    tried: list[list[Axis]] = []
    for size in dict.fromkeys(inputs[name].shape[axis] for name, axis in closed):
        same = [(n, a) for n, t in inputs.items() for a in range(1, t.dim()) if t.shape[a] == size]
        tried += [same, [(n, a) for n, a in same if a > 1]]
    tried += [[axis] for axis in closed]
    yield from (axes for i, axes in enumerate(tried) if axes not in tried[:i] and set(axes) & set(closed))


def _run(
    module: nn.Module, inputs: Mapping[str, Tensor], changes: Mapping[Axis, Callable[[int], int]]
) -> list[Ran] | None:
    """The operations of one call on inputs of other sizes; None where it fails."""
    with _quiet(), FakeTensorMode(allow_non_fake_inputs=True) as fake, torch.no_grad():
        own = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
        state: dict[str, Tensor] = {name: fake.from_tensor(tensor) for name, tensor in own}
        arrays = {}
        for name, tensor in inputs.items():
            shape = [changes.get((name, axis), int)(size) for axis, size in enumerate(tensor.shape)]
            arrays[name] = torch.empty(shape, dtype=tensor.dtype)
        try:
            with _unchanged(module), whole_layers(), _Recorder() as recorder:
                torch.func.functional_call(module, state, (), arrays, tie_weights=False)
        except Exception:  # whatever a model raises that does not take these sizes
            return None
    return recorder.found


@contextmanager
def _unchanged(module: nn.Module) -> Iterator[None]:
    """Take back what the modules note on themselves in the block: it has no numbers."""
    kept = {
        one: {n: copy.copy(v) if isinstance(v, dict | list | set) else v for n, v in vars(one).items()}
        for one in module.modules()
    }
    try:
        yield
    finally:
        for one, attributes in kept.items():
            vars(one).clear()
            vars(one).update(attributes)


@contextmanager
def _quiet() -> Iterator[None]:
    """Sizes that do not fit are no news."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


class _Recorder(TorchDispatchMode):
    """Notes the operations."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Ran] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if name in VIEWS:
            self.found.append(Ran(name, (), tuple(args[0].shape), tuple(result.shape)))
        elif name == "expand":
            kept = zip(reversed(args[0].shape), reversed(result.shape), strict=False)
            self.found.append(Ran(name, tuple(str(after) for before, after in kept if before != after)))
        elif name not in SIZED:
            self.found.append(Ran(name, tuple(_constants(name, args, kwargs or {}))))
        return result


def _constants(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[str]:
    """Numbers, and arrays that hold numbers: neither inputs nor weights."""
    if name.startswith(SCALED) and any(isinstance(one, float) for one in tree_leaves(args[2:])):
        args = (args[0], *args[2:])
    for leaf in tree_leaves((args, kwargs)):
        known = leaf.constant if isinstance(leaf, FakeTensor) else leaf
        if isinstance(known, Tensor):
            with _disable_current_modes():
                yield str(known.tolist())
        elif known is not None:
            yield str(known)


def _differ(own: Sequence[Ran], other: Sequence[Ran], moved: dict[int, set[int]]) -> bool:
    """Whether two runs got other constants.

    A view whose batch stays and of which one size moves fits that size alone: JAX refuses any other. ``moved``
    holds the places that moved in any run.
    """
    if [(ran.name, ran.constants) for ran in own] != [(ran.name, ran.constants) for ran in other]:
        return True
    for index, (ours, theirs) in enumerate(zip(own, other, strict=True)):
        if len(ours.after) != len(theirs.after):
            return True
        same = next((n for n, (a, b) in enumerate(zip(ours.before, ours.after, strict=False)) if a != b), None)
        start = min(len(ours.before), len(ours.after)) if same is None else same  # sizes that are passed on
        pairs = list(zip(ours.after, theirs.after, strict=True))
        moved[index] |= {n for n, (a, b) in enumerate(pairs) if a != b and n >= start}
        if len(moved[index]) > 1 or 0 in moved[index]:
            return True
    return False
