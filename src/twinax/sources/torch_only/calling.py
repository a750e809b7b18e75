"""How a one-sided source's module is called in a pair. Imports torch: only torch workers import this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from twinax.sources.torch_only.base import parameters


def by_name(module: nn.Module, names: Sequence[str]) -> nn.Module:
    """The module, taking these inputs one after the other, whichever parameters of ``forward`` lie between."""
    if parameters(module)[0][: len(names)] != list(names):
        forward = module.forward

        def called(*arguments: Any) -> Any:
            return forward(**dict(zip(names, arguments, strict=True)))

        module.forward = called
    return module
