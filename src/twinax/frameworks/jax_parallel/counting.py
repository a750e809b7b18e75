"""Collectives in a compiled program, read from its text: pure, imports no framework.

Source: the text form of HLO as XLA prints it (``compiled.as_text()``); operation semantics at
https://openxla.org/xla/operation_semantics.
"""

from __future__ import annotations

import functools
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
    "ragged-all-to-all": "all_to_all",
    "collective-permute": "send",
    "collective-broadcast": "broadcast",
}
Rows = Counter[tuple[Kind, int, int, int]]  # (kind, bytes, ranks, arrays) → how often

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_ASSIGNED = re.compile(r"^\s+(?:ROOT )?%?[\w.\-]+ = (.*)$")
_ARRAY = re.compile(r"\b(?!token|opaque)([a-z]+)(\d*)(?:e\d+m\d+\w*)?\[([\d,]*)\]")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CALLED = re.compile(
    r"\b(?:body|condition|to_apply|calls|true_computation|false_computation|branch_computations"
    r"|called_computations)=\{?(%?[\w.\-]+(?:, ?%?[\w.\-]+(?!=|[\w.\-]))*)"
)


@dataclass(frozen=True)
class Instruction:
    """One line of HLO: ``%name = shape operation(operands), attributes``."""

    shape: str
    operation: str
    rest: str

    @classmethod
    def read(cls, line: str) -> Instruction | None:
        found = _ASSIGNED.match(line)
        if found is None:
            return None
        text = found[1]
        end = _closing(text) if text.startswith("(") else text.find(" ")
        operation, _, rest = text[end:].lstrip().partition("(")
        return cls(text[:end], operation, rest)

    @property
    def called(self) -> list[str]:
        """Computations that it runs."""
        groups = _CALLED.findall(self.rest)
        return [name.strip().removeprefix("%") for group in groups for name in group.split(",")]


def collectives(text: str, rank: int = 0, *, apart: bool = False) -> list[Traffic]:
    """What a device takes part in when the program runs once.

    Of a conditional, the branch that moves most is counted.

    Args:
        text: The compiled module.
        rank: The device's number in the program.
        apart: Whether an instruction over many arrays takes them one by one, as on XLA's CPU backend, and not
            all together, as on a GPU.

    Raises:
        ValueError: A loop with a collective in it does not say how often it runs, or a collective's group
            is written in a form that is not known.
    """
    entry, bodies = _computations(text)
    stated = re.search(r"num_partitions=(\d+)", text) or re.search(r"replica_count=(\d+)", text)
    devices = int(stated[1]) if stated else 1

    @functools.cache
    def rows(name: str) -> Rows:
        found: Rows = Counter()
        for instruction in bodies[name]:
            row = _collective(instruction, rank, devices)
            if row is not None:
                kind, sizes, group = row
                arrays = len(sizes) if apart and kind != "all_to_all" else 1  # whose arrays are its parts
                found[kind, sum(sizes), group, arrays] += 1
            inner = [rows(called) for called in instruction.called if called in bodies]
            if instruction.operation == "conditional":
                inner = [max(inner, key=_bytes_of)]
            times = _trips(instruction) if any(inner) else 1
            for one in inner:
                found.update({key: times * count for key, count in one.items()})
        return found

    return [
        Traffic(kind, size, ranks, count, arrays) for (kind, size, ranks, arrays), count in rows(entry).items()
    ]


def _computations(text: str) -> tuple[str, dict[str, list[Instruction]]]:
    """The entry's name, and every computation's instructions by its name.

    Raises:
        ValueError: There is no entry: this is no HLO.
    """
    entry, bodies = "", dict[str, list[Instruction]]()
    current: list[Instruction] = []
    for line in text.splitlines():
        if head := _HEAD.match(line):
            current = bodies[head[2]] = []
            entry = head[2] if head[1] else entry
        elif instruction := Instruction.read(line):
            current.append(instruction)
    if not entry:
        raise ValueError(f"no entry computation in a text that begins with {text[:100]!r}")
    return entry, bodies


def _collective(instruction: Instruction, rank: int, devices: int) -> tuple[Kind, list[int], int] | None:
    """Kind, bytes of each array, and ranks; None where it is no collective, or the device stands aside."""
    name = instruction.operation.removesuffix("-start")
    if name not in KINDS:
        return None
    kind, shape = KINDS[name], instruction.shape
    if instruction.operation.endswith("-start") and kind != "all_reduce":
        shape = _elements(shape)[1]  # (operands, results, …)
    if kind == "send":
        stated = re.search(r"source_target_pairs=\{([{}\d,]*)\}", instruction.rest)
        pairs = re.findall(r"\{(\d+),(\d+)\}", stated[1]) if stated else []
        sends = any(int(source) == rank and source != target for source, target in pairs)
        return (kind, _sizes(shape), len({n for pair in pairs for n in pair})) if sends else None
    ranks = _group(instruction.rest, rank, devices)
    whole = ranks if kind == "reduce_scatter" else 1  # whose result is a part
    return (kind, [size * whole for size in _sizes(shape)], ranks) if ranks > 1 else None


def _trips(instruction: Instruction) -> int:
    """How often it runs what it calls, collectives among it."""
    if instruction.operation != "while":
        return 1
    stated = _TRIPS.search(instruction.rest)
    if stated is None:
        raise ValueError(f"a loop with collectives does not say how often it runs: {instruction.rest[:200]}")
    return int(stated[1])


def _bytes_of(rows: Rows) -> int:
    return sum(size * count for (_, size, *_), count in rows.items())


def _sizes(shapes: str) -> list[int]:
    """Bytes of each array in a shape: ``(f32[2,3]{1,0}, pred[4])`` → 24, 4; tokens have none."""
    return [
        max(int(bits or 8) // 8, 1) * math.prod(int(n) for n in sizes.split(",") if n)
        for _, bits, sizes in _ARRAY.findall(shapes)
    ]


def _closing(text: str) -> int:
    """Where the bracket that opens the text is closed, one further."""
    depth = 0
    for i, letter in enumerate(text):
        depth += (letter in "({[") - (letter in ")}]")
        if depth == 0:
            return i + 1
    raise ValueError(f"a bracket is not closed: {text[:100]}")


def _elements(shape: str) -> list[str]:
    """``((a[1], b[2]), c[3]{0})`` → ``(a[1], b[2])``, ``c[3]{0}``."""
    return list(_parts(shape[1:-1]))


def _parts(text: str) -> Iterator[str]:
    depth, start = 0, 0
    for i, letter in enumerate(text):
        depth += (letter in "({[") - (letter in ")}]")
        if letter == "," and depth == 0:
            yield text[start:i].strip()
            start = i + 1
    yield text[start:].strip()


def _group(attributes: str, rank: int, devices: int) -> int:
    """How many devices take part with this one, by ``replica_groups`` in any of the forms that XLA prints.

    ``{{0,1},{2,3}}`` lists the groups; ``[2,2]<=[4]`` is (groups, size); ``mesh['a'=2,'b'=2] {'b'}`` names the
    mesh's axes and those that are spanned; ``{}`` is everybody.
    """
    listed = re.search(r"replica_groups=\{(\{[{}\d,]*\})\}", attributes)
    if listed:
        groups = [group.split(",") for group in re.findall(r"\{([\d,]+)\}", listed[1])]
        return next((len(group) for group in groups if str(rank) in group), 1)
    tiled = re.search(r"replica_groups=\[(\d+),(\d+)\]<=", attributes)
    if tiled:
        return int(tiled[2])
    named = re.search(r"replica_groups=@?mesh\[([^\]]*)\](?:, device_ids=\(.*?\))? ?\{([^}]*)\}", attributes)
    if named:
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", named[1]))
        spanned = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", named[2])  # 'a':(1)2 is a part of axis a
        return math.prod(int(part or sizes[axis]) for axis, part in spanned)
    if "replica_groups={}" in attributes or "replica_groups" not in attributes:
        return devices
    raise ValueError(f"replica_groups in an unknown form: {attributes[:300]}")
