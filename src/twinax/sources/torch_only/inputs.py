"""What a model is fed: arrays stated by shape and type, or by an example, drawn in NumPy. No framework."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from twinax.errors import BadInput
from twinax.twin import Array, Arrays

BATCH = 4
"""Examples where nobody states how many: of two, BatchNorm leaves nothing of a feature but its sign."""
DTYPES = ("float32", "int64", "bool")
STATED = re.compile(r"(\d+(?:x\d+)*)(?::(\w+))?(?:<(\d+))?")
FORM = "Give --input 8x3x224x224:float32 or 2x16:int64<1000: sizes, the batch first; float32, int64 or bool."


@dataclass(frozen=True)
class Input:
    """One array that goes into a model.

    Attributes:
        name: The parameter of ``forward`` that takes it.
        shape: Its sizes in the example; the first is the batch where ``batched``.
        dtype: ``float32``, ``int64`` or ``bool``.
        below: Integers are drawn from 0 up to, and without, this number; 0 where that is not known yet.
        kind: ``drawn``; ``mask``: ones up to a length that is drawn, then zeros; ``given``: rows of an example.
        batched: Whether the first size follows the number of examples.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    below: int = 0
    kind: Literal["drawn", "mask", "given"] = "drawn"
    batched: bool = True


def parse(text: str) -> tuple[Input, ...]:
    """What ``--input`` states; several inputs stand with commas between, in the order of the parameters.

    Raises:
        BadInput: A part cannot be read.
    """
    found: list[Input] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = STATED.fullmatch(part)
        dtype = (match and match[2]) or ("int64" if match and match[3] else "float32")
        if match is None or dtype not in DTYPES or (match[3] and dtype != "int64"):
            raise BadInput(f"--input {part} cannot be read.", FORM)
        shape = tuple(int(size) for size in match[1].split("x"))
        if 0 in shape:
            raise BadInput(f"--input {part} states no example: a size is 0.", FORM)
        batched = not found or shape[0] == found[0].shape[0]
        found.append(Input(f"input_{len(found)}", shape, dtype, int(match[3] or 0), batched=batched))
    return tuple(found)


def of_example(arrays: Mapping[str, Array]) -> tuple[Input, ...]:
    """Inputs that are given by an example of each."""
    shapes = {name: tuple(array.shape) for name, array in arrays.items()}
    rows = next((shape[0] for shape in shapes.values() if shape), 0)
    return tuple(
        Input(name, shape, _dtype(arrays[name]), kind="given", batched=shape[:1] == (rows,))
        for name, shape in shapes.items()
    )


def _dtype(array: Array) -> str:
    return {"f": "float32", "b": "bool"}.get(array.dtype.kind, "int64")


def named(inputs: Sequence[Input], names: Sequence[str]) -> tuple[Input, ...]:
    """The inputs under the names of the parameters that take them."""
    return tuple(replace(one, name=name) for one, name in zip(inputs, names, strict=True))


def draw(inputs: Sequence[Input], seed: int, batch: int, example: Mapping[str, Array] | None = None) -> Arrays:
    """A batch of as many examples, other ones for every seed.

    Args:
        inputs: What is drawn.
        seed: Seed of every draw.
        batch: Examples; an input that is not batched keeps its size.
        example: Arrays of the inputs that are ``given``: their rows are drawn, floats with noise on them
            unless they hold infinities.
    """
    return {one.name: _one(one, seed, batch, (example or {}).get(one.name)) for one in inputs}


def _one(one: Input, seed: int, batch: int, given: Array | None) -> Array:
    rng = np.random.default_rng([seed, zlib.crc32(one.name.encode())])
    shape = (batch, *one.shape[1:]) if one.batched else one.shape
    if given is not None:
        return _like(given, one.batched, batch, rng)
    if one.kind == "mask":
        lengths = rng.integers((shape[-1] + 1) // 2, shape[-1] + 1, shape[:-1])
        return (np.arange(shape[-1]) < lengths[..., None]).astype(one.dtype)
    if one.dtype == "int64":
        return rng.integers(0, max(one.below, 1), shape)
    if one.dtype == "bool":
        return rng.random(shape) < 0.5
    return rng.standard_normal(shape).astype(np.float32)


def _like(given: Array, batched: bool, batch: int, rng: np.random.Generator) -> Array:
    rows = given[rng.integers(0, len(given), batch)] if batched else given
    if given.dtype.kind != "f" or not np.isfinite(given).all():  # with infinities it is a mask
        return np.array(rows)
    scale = 0.1 * (float(np.sqrt(np.mean(np.square(given)))) or 1.0)
    return (rows + scale * rng.standard_normal(rows.shape)).astype(np.float32)
