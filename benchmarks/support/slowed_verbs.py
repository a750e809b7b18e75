"""The speed study's verbs, and one that makes a program slower by a known share."""

from __future__ import annotations

import time
from dataclasses import replace

from twinax.frameworks.base import Prepared
from twinax.records import Json
from twinax.studies import speed_verbs
from twinax.studies.base import Context


def slow_down(context: Context, *, program: str, factor: float) -> dict[str, Json]:
    """Let every call take ``factor`` times what it takes by itself; the rest is spent spinning."""
    prepared = context.memory.setdefault(f"{program}, as it is", context.memory[program])
    assert isinstance(prepared, Prepared)

    def slowed(i: int) -> None:
        begin = time.perf_counter()
        prepared.call(i)
        end = begin + factor * (time.perf_counter() - begin)
        while time.perf_counter() < end:
            pass

    context.memory[program] = replace(prepared, call=slowed) if factor > 1 else prepared
    return {}


VERBS = {**speed_verbs.VERBS, "slow_down": slow_down}
