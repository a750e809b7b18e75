"""What the code study does inside its worker, which holds no framework: read texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from twinax.measure.alignment import align
from twinax.measure.source import NotPython, measure
from twinax.records import Json
from twinax.studies.base import Context, Verb

SIDES = ("torch", "jax")


def read(context: Context, *, sources: dict[str, str]) -> dict[str, Json]:
    """The figures of every side's source, and the two aligned where both can be read.

    Returns:
        ``sides``: per side ``figures`` (None where the text cannot be read) and ``said`` (why not).
        ``blocks``: pairs with ``title``, ``torch``, ``jax`` (None where a side has no such block) and
        ``extra``, the tokens that JAX's has more.
    """
    sides = {side: _figures(sources.get(side, ""), side) for side in SIDES}
    blocks: list[Json] = []
    if all(found["figures"] for found in sides.values()):
        pairs = align(sources["torch"], sources["jax"])
        blocks = [{**asdict(pair), "extra": pair.extra} for pair in pairs]
    return {"sides": sides, "blocks": blocks}


def _figures(text: str, side: str) -> dict[str, Json]:
    if not text.strip():
        return {"figures": None, "said": "There is no source."}
    try:
        return {"figures": asdict(measure(text, side)), "said": ""}
    except NotPython as error:
        return {"figures": None, "said": str(error)}


VERBS: Mapping[str, Verb] = {"read": read}
