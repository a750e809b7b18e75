"""What a model says of gradients, and an export forgets. Imports torch: runs in torch workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_any, tree_map

from twinax.port.torch_to_jax.function_mode import FunctionMode

entered: list[type] = []
"""The ``torch.autograd.Function`` classes whose forward runs now."""


@contextmanager
def own_backwards() -> Iterator[list[type]]:
    """Collects the ``torch.autograd.Function`` classes that are called in the block."""
    found: list[type] = []
    base: Any = torch.autograd.function._SingleLevelFunction

    def apply(cls: type, *args: Any, **kwargs: Any) -> Any:
        if cls not in found:
            found.append(cls)
        entered.append(cls)
        try:
            return super(base, cls).apply(*args, **kwargs)  # type: ignore[misc]
        finally:
            entered.pop()

    base.apply = classmethod(apply)
    try:
        yield found
    finally:
        del base.apply


class Detached(FunctionMode):
    """What is computed without gradient from what has one is detached; an export forgets ``no_grad`` itself.

    Not so within a ``torch.autograd.Function``, whose forward always runs without: its gradient is what counts.
    """

    def called(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        result = func(*args, **kwargs)
        if torch.is_grad_enabled() or entered or not tree_any(_learns, (args, kwargs)):
            return result
        return tree_map(lambda t: t.detach() if _is_float(t) and not _is_one_of(t, args) else t, result)


def _learns(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _is_one_of(tensor: Tensor, arguments: Sequence[Any]) -> bool:
    """Whether it was written into, and is given back."""
    return any(tensor is argument for argument in arguments)
