"""How an operation declares which of torch's it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])

FUNCTIONS: dict[str, Callable[..., object]] = {}
"""The function of every operation that was imported, by torch's name: for tests."""

RESULTS: dict[str, tuple[int, ...]] = {}
"""Of operations with several results: those that the function gives."""


def aten(
    *names: str, promote: bool = False, whole: bool = False, results: tuple[int, ...] = ()
) -> Callable[[F], F]:
    """Declare a function to be these ATen operations.

    The function takes the operation's arguments in the order and under the names of torch's schema, without
    ``device``, ``layout``, ``pin_memory``, ``memory_format``, ``non_blocking`` and ``generator``. Tensors are
    arrays, ``dtype`` is a JAX dtype (or None), sizes are ints. Several results are a tuple.

    Keyword-only parameters without a default are filled in when a model is ported: ``dtype`` with the dtype of
    torch's result, ``key`` with a fresh PRNG key.

    Args:
        names: Such as ``add.Tensor``, ``softmax.int``; ``library.name.overload`` of another library than ATen.
        promote: torch's type promotion: every tensor is cast to the operation's common dtype before the call,
            unless it has it already (a number is left as it is, and weakly typed).
        whole: Written into the model as a function of its own and called there. Otherwise a function that is
            one ``return`` stands in place of its call.
        results: Of an operation with several results, which the function gives: one alone, or a tuple. Empty
            stands for all. A model that uses another is refused.
    """

    def declare(function: F) -> F:
        for name in names:
            assert name not in FUNCTIONS, f"two functions are aten.{name}"
            FUNCTIONS[name] = function
            RESULTS[name] = results
        return function

    return declare
