"""The tools with which JAX finds mistakes, and a clean state to run a program in."""

from __future__ import annotations

import functools
import logging
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import checkify

from twinax.probes.mistakes.base import Tool, within

LOGGERS = ("jax",)


def checked(run: Callable[[], Any]) -> Any:
    """Run a program with every index checked."""
    error, result = checkify.checkify(run, errors=checkify.index_checks)()
    error.throw()
    return result


def counted(run: Callable[[], Any]) -> Any:
    """Run a program with its compilations logged; say which functions of its own were compiled repeatedly."""
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())
    logger = logging.getLogger("jax")
    usual, logger.handlers = logger.handlers, [handler]
    try:
        with jax.log_compiles():
            return run()
    finally:
        logger.handlers = usual
        names = Counter(name for line in heard for name in re.findall(r"Compiling (?:jit\()?(<?\w+>?)", line))
        for name, times in names.items():
            if times >= MANY:
                warnings.warn(f"{times} log lines: Compiling {name}", stacklevel=2)


MANY = 6  # compilations of one name: what several programs' own operations do not reach

NANS = within("jax_debug_nans", functools.partial(jax.debug_nans, True))
KEYS = within("jax_debug_key_reuse", functools.partial(jax.debug_key_reuse, True))
RANKS = within("jax_numpy_rank_promotion", functools.partial(jax.numpy_rank_promotion, "raise"))
TYPES = within("jax_numpy_dtype_promotion", functools.partial(jax.numpy_dtype_promotion, "strict"))

TOOLS: Mapping[str, Tool] = {
    "the same random numbers twice": KEYS,
    "probabilities' loss on logits": NANS,
    "log of zero": NANS,
    "where after the log": NANS,
    "square root of zero": NANS,
    "label out of range": NANS,
    "padding counted in the loss": NANS,
    "overflow in half precision": within("jax_debug_infs", functools.partial(jax.debug_infs, True)),
    "integer input": TYPES,
    "index out of bounds": Tool("jax.experimental.checkify", checked),
    "(N, 1) against (N,) by hand": RANKS,
    "traced value kept outside": within("jax.checking_leaks", jax.checking_leaks),
    "compiled anew at every step": Tool("jax_log_compiles", counted),
}


@contextmanager
def clean() -> Iterator[None]:
    """JAX as it is after import, whatever ran before; put back as it was."""
    with ExitStack() as usual:
        usual.enter_context(jax.enable_x64(False))
        usual.enter_context(jax.debug_nans(False))
        usual.enter_context(jax.debug_infs(False))
        usual.enter_context(jax.debug_key_reuse(False))
        usual.enter_context(jax.log_compiles(False))
        usual.enter_context(jax.numpy_rank_promotion("allow"))
        usual.enter_context(jax.numpy_dtype_promotion("standard"))
        yield


def fetched(value: Any) -> np.ndarray:
    """What a program returned, in NumPy."""
    return np.array(value)
