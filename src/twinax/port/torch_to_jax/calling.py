"""What an export does not keep of a module's calls. Imports torch.

The parameters that it is given tensors for, in the order in which it uses them; the attributes that it changes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from twinax.port.torch_to_jax.function_mode import FunctionMode

Names = dict[str, tuple[str, ...]]


@contextmanager
def tensor_parameters(module: nn.Module) -> Iterator[Names]:
    """Collects, by a module's path, the names of ``forward``'s parameters that were different tensors.

    Those that an operation takes come in the order of their first use; the others last.
    """
    paths = {id(one): path for path, one in module.named_modules()}
    found: Names = {}
    call: Any = nn.Module._call_impl

    def noted(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        path = paths.get(id(self))
        if path is None or path in found:
            return call(self, *args, **kwargs)
        waiting = _names(self, args, kwargs)
        uses.waiting.append((waiting, used := []))
        try:
            return call(self, *args, **kwargs)
        finally:
            uses.waiting.pop()
            found[path] = (*used, *waiting.values())

    nn.Module._call_impl = noted  # type: ignore[method-assign]
    try:
        with _Uses() as uses:
            yield found
    finally:
        nn.Module._call_impl = call  # type: ignore[method-assign]


@contextmanager
def changes(module: nn.Module) -> Iterator[list[str]]:
    """Collects the attributes, by path and name, that are numbers or texts and that a call changes."""
    before: dict[str, object] = {}
    found: list[str] = []

    def enter(*_: object) -> None:
        before.update(_attributes(module))

    def leave(*_: object) -> None:
        after = _attributes(module)
        kept = {name: after[name] for name in before if name in after and name not in found}
        # NaN is not equal to itself
        found.extend(name for name, value in kept.items() if value != before[name] and value == value)

    hooks = module.register_forward_pre_hook(enter), module.register_forward_hook(leave)
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _attributes(module: nn.Module) -> dict[str, object]:
    return {
        f"{path}.{name}".lstrip("."): value
        for path, one in module.named_modules()
        for name, value in vars(one).items()
        if isinstance(value, int | float | str) and name != "training"
    }


def _names(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[int, str]:
    """Tensor's id → the first parameter that it is given for."""
    try:
        given = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return {}
    first: dict[int, str] = {}
    for name, value in given.items():
        if isinstance(value, Tensor):
            first.setdefault(id(value), name)
    return first


class _Uses(FunctionMode):
    """Notes, for every module that is being called, which of its tensors an operation takes first."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[tuple[dict[int, str], list[str]]] = []

    def called(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        result = func(*args, **kwargs)
        if any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):  # else it is a question
            for leaf in tree_leaves((args, kwargs)):
                for waiting, used in self.waiting:
                    if id(leaf) in waiting:
                        used.append(waiting.pop(id(leaf)))
        return result
