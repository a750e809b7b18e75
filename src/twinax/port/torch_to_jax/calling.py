"""Which of a module's parameters are given tensors when it is called. Imports torch: runs in torch workers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def tensor_parameters(module: nn.Module) -> Iterator[dict[str, tuple[str, ...]]]:
    """Collects, by a module's path, the names of ``forward``'s parameters that were different tensors."""
    paths = {id(one): path for path, one in module.named_modules()}
    found: dict[str, tuple[str, ...]] = {}
    call: Any = nn.Module._call_impl

    def noted(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        path = paths.get(id(self))
        if path is not None and path not in found:
            found[path] = _names(self, args, kwargs)
        return call(self, *args, **kwargs)

    nn.Module._call_impl = noted  # type: ignore[method-assign]
    try:
        yield found
    finally:
        nn.Module._call_impl = call  # type: ignore[method-assign]


def _names(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, ...]:
    try:
        given = inspect.signature(module.forward).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return ()
    first: dict[int, str] = {}
    for name, value in given.items():
        if isinstance(value, Tensor):
            first.setdefault(id(value), name)
    return tuple(first.values())
