"""Collectives in a compiled program, read from its text: pure, imports no framework.

Source: the text form of HLO as XLA prints it (``compiled.as_text()``); operation semantics at
https://openxla.org/xla/operation_semantics.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from twinax.frameworks.parallel import Kind, Traffic

KINDS: Mapping[str, Kind] = {
    "all-reduce": "all_reduce",
    "all-gather": "all_gather",
    "reduce-scatter": "reduce_scatter",
    "all-to-all": "all_to_all",
    "collective-permute": "send",
    "collective-broadcast": "broadcast",
}
WIDTHS = {"pred": 1, "bf16": 2, "f16": 2, "f32": 4, "f64": 8, "c64": 8, "c128": 16}
_SHAPE = re.compile(r"\b(pred|bf16|f\d+|[su]\d+|c\d+)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?[\w.\-]+ = (.*)$")
_CALLED = re.compile(r"(?:to_apply|calls|condition|body|branch_computations)=\{?([^}\s,]+(?:, [^}\s,]+)*)\}?")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclass(frozen=True)
class _Call:
    computation: str
    times: int


def collectives(text: str, rank: int = 0) -> list[Traffic]:
    """What a device takes part in when the program runs once.

    Args:
        text: The compiled module.
        rank: The device's number in the program.

    Raises:
        ValueError: A loop with a collective in it does not say how often it runs.
    """
    bodies = _computations(text)
    entry = next(name for name, lines in bodies.items() if lines and lines[0] == "ENTRY")
    found: Counter[tuple[Kind, int, int]] = Counter()
    for name, times in _executions(bodies, entry):
        for line in bodies[name][1:]:
            row = _collective(line, rank)
            if row:
                found[row] += times
    return [Traffic(kind, size, ranks, count) for (kind, size, ranks), count in found.items() if count]


def _computations(text: str) -> dict[str, list[str]]:
    """Name → lines, the first of which tells whether it is the entry."""
    bodies: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in text.splitlines():
        head = _COMPUTATION.match(line)
        if head and not line.startswith(" "):
            current = bodies[head[1]] = ["ENTRY" if line.startswith("ENTRY") else ""]
        elif line.startswith("}"):
            current = None
        elif current is not None:
            current.append(line)
    return bodies


def _executions(bodies: Mapping[str, list[str]], entry: str, times: int = 1) -> Iterator[tuple[str, int]]:
    """Every computation that runs, with how often; a loop's body by its trip count."""
    yield entry, times
    for line in bodies[entry][1:]:
        body = _INSTRUCTION.match(line)
        if not body or " reduce(" in line or "all-reduce" in line or "reduce-scatter" in line:
            continue
        loop = " while(" in line
        trips = _TRIPS.search(line)
        for group in _CALLED.findall(line):
            for name in (n.strip().lstrip("%") for n in group.split(",")):
                if name not in bodies:
                    continue
                if loop and not trips and _has_collective(bodies, name):
                    raise ValueError(
                        f"a loop with collectives does not say how often it runs: {line.strip()[:200]}"
                    )
                yield from _executions(bodies, name, times * (int(trips[1]) if loop and trips else 1))


def _has_collective(bodies: Mapping[str, list[str]], name: str) -> bool:
    return any(_collective(line, 0) for inner, _ in _executions(bodies, name) for line in bodies[inner][1:])


def _collective(line: str, rank: int) -> tuple[Kind, int, int] | None:
    """Kind, bytes and ranks of an instruction; None where it is no collective, or spans one device."""
    body = _INSTRUCTION.match(line)
    operation = re.search(r" ([a-z\-]+?)(?:-start)?\(", f" {body[1]}") if body else None
    if not body or not operation or operation[1] not in KINDS:
        return None
    kind = KINDS[operation[1]]
    shape = f" {body[1]}"[: operation.start()]
    if kind == "send":
        pairs = re.findall(r"\{(\d+),(\d+)\}", line)
        sends = any(int(source) == rank and source != target for source, target in pairs)
        return (kind, _bytes(shape), len({n for pair in pairs for n in pair})) if sends else None
    ranks = _group(line)
    size = _bytes(shape)
    if "-start(" in line and kind == "all_gather":  # the result holds the operand too
        size = size * ranks // (ranks + 1)
    if kind == "reduce_scatter":  # the result is a part
        size *= ranks
    return (kind, size, ranks) if ranks > 1 else None


def _bytes(shapes: str) -> int:
    return sum(
        _width(kind) * math.prod(int(n) for n in sizes.split(",") if n)
        for kind, sizes in _SHAPE.findall(shapes)
    )


def _width(kind: str) -> int:
    return WIDTHS[kind] if kind in WIDTHS else max(int(kind[1:]) // 8, 1)


def _group(line: str) -> int:
    """How many devices take part: ``replica_groups={{0,1},{2,3}}`` or ``[2,2]<=[4]`` (groups, size)."""
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", line)
    if listed:
        return len(listed[1].split(","))
    tiled = re.search(r"replica_groups=\[(\d+),(\d+)\]", line)
    return int(tiled[2]) if tiled else 1
