"""How a one-sided source's module is called in a pair. Imports torch: only torch workers import this."""

from __future__ import annotations

from collections.abc import Sequence
from types import MethodType
from typing import Any

import torch
from torch import nn

from twinax.sources.torch_only.base import parameters
from twinax.sources.torch_only.exact import Exact, Silent


def by_name(module: nn.Module, names: Sequence[str], *, silent: bool = False, exact: bool = False) -> nn.Module:
    """The module, taking these inputs one after the other, whichever parameters of ``forward`` lie between.

    Args:
        module: Its ``forward`` is replaced where anything has to be done.
        names: Parameters that take the inputs.
        silent: Dropout that is called as a function does nothing.
        exact: In float64, what the model asks to compute in float32 is in float64 too.
    """
    leading = parameters(module)[0][: len(names)] == list(names)
    if leading and not (silent or exact):
        return module
    own = module.forward
    forward = getattr(
        own, "__func__", lambda self, **given: own(**given)
    )  # the latter where a person put it there

    def called(self: nn.Module, *arguments: Any) -> Any:
        given = dict(zip(names, arguments, strict=True))
        if exact and next(self.parameters()).dtype == torch.float64:
            with Exact():
                return forward(self, **given)
        if silent and self.training:
            with Silent():
                return forward(self, **given)
        return forward(self, **given)

    module.forward = MethodType(called, module)  # a method: it follows when the module is copied
    return module
