"""The way on where a model branches on its data, for a list of all that is in a port's way. Imports torch."""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode, free_unbacked_symbols

from twinax.errors import CannotPort, Unsupported
from twinax.port.torch_to_jax.exporting import BRANCH, ON_DATA
from twinax.port.torch_to_jax.function_mode import FunctionMode
from twinax.port.torch_to_jax.program import Frame, own_line

T = TypeVar("T")
Key = tuple[Frame, str]
"""A line of the model's source, and the function that it calls there."""

COMPARING = ("equal", "allclose")
"""Functions that an export never follows, and that would stay in its graph."""


class Way(FunctionMode):
    """Which numbers a model reads from its tensors, and the same numbers where an export cannot know them.

    A branch on data is taken as the example takes it, and noted. A number that is only computed with stays
    open; where a line branches on such a number, the export begins again with the number of the example.
    """

    def __init__(self, module: nn.Module, inputs: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.branches: dict[Unsupported, None] = {}
        self._read: dict[Key, list[Any]] = defaultdict(list)
        self._calls: Counter[Key] = Counter()
        self._symbols: dict[Any, Key] = {}  # unbacked symbol → where it was read
        self._closed: set[Key] = set()  # what is read there is the example's
        self._call = self._record
        with self, torch.no_grad():
            copy.deepcopy(module)(**inputs)
        self._call = self._repeat

    def along(self, run: Callable[[], T]) -> T:
        """What ``run``, which exports the module, gives on this way.

        Raises:
            CannotPort: It fails, and not by a branch on a number that the module reads from its tensors.
        """
        while True:
            self._calls.clear()
            self._symbols.clear()
            try:
                with self:
                    return run()
            except CannotPort as error:
                steering = {self._symbols[s] for s in _symbols(error.__cause__) if s in self._symbols}
                if steering <= self._closed:
                    raise
                self._closed |= steering
                self.branches |= dict.fromkeys(error.unsupported)

    def called(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return self._call(func, args, kwargs)

    def _record(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        result = func(*args, **kwargs)
        if func is torch.Tensor.tolist:  # of an export's tensors it is an item at a time
            self._read[_key(torch.Tensor.item)] += np.ravel(result).tolist()
        elif isinstance(result, bool | int | float):
            self._read[_key(func)].append(result)
        return result

    def _repeat(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        key = _key(func)
        read, nth = self._read.get(key, ()), self._calls[key]
        self._calls[key] += 1
        if nth >= len(read):
            return func(*args, **kwargs)
        if key in self._closed:
            return read[nth]
        try:
            if func.__name__ in COMPARING:
                raise DataDependentOutputException(func)
            result = func(*args, **kwargs)
        except (GuardOnDataDependentSymNode, DataDependentOutputException):
            self.branches[Unsupported(BRANCH, str(key[0]), ON_DATA)] = None
            return read[nth]
        if isinstance(result, torch.SymInt | torch.SymFloat | torch.SymBool):
            self._symbols |= dict.fromkeys(free_unbacked_symbols(result), key)
        return result


def _key(func: Callable[..., Any]) -> Key:
    """The innermost line that is the model's own, and the function's name."""
    return own_line(), func.__name__


def _symbols(error: BaseException | None) -> Iterator[Any]:
    """The symbols of the condition that an export could not decide."""
    if isinstance(error, GuardOnDataDependentSymNode):
        yield from error.cond.free_symbols
