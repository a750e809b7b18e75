"""Branches that ask whether all numbers are finite, which an export cannot follow. Imports torch.

``if not torch.isfinite(x).all(): x = torch.clamp(…)`` saves a model from overflow in half precision. The port
takes the way for finite numbers, and its README names the line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from twinax.port.torch_to_jax.function_mode import FunctionMode
from twinax.port.torch_to_jax.program import Frame, own_line

ASKED = {"isfinite": True, "isnan": False, "isinf": False}
"""Functions that ask, and their answer for finite numbers."""
KEPT = ("all", "any")
"""Functions whose answer is that of their argument, where all its answers are alike."""


class Finite(FunctionMode):
    """Answers such questions, and notes on which lines a branch asks them."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[Frame, None] = {}
        self._answers: dict[int, tuple[Tensor, bool]] = {}  # by identity, which a kept tensor keeps

    def called(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        answer = self._answers.get(id(args[0])) if args else None
        if answer is not None and func is Tensor.__bool__:
            self.lines[own_line()] = None
            return answer[1]
        result = func(*args, **kwargs)
        name = func.__name__
        if isinstance(result, Tensor) and name in ASKED:
            self._answers[id(result)] = (result, ASKED[name])
        elif isinstance(result, Tensor) and answer is not None and name in KEPT:
            self._answers[id(result)] = (result, answer[1])
        return result
