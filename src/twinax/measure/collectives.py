"""What a collective costs: ``latency + bytes / bandwidth``, measured on this machine or stated for a cluster.

Rounds and bytes on a link are those of Thakur, Rabenseifner & Gropp, "Optimization of collective communication
operations in MPICH", IJHPCA 19(1), 2005: recursive halving and doubling, whose bandwidth is that of the ring.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Law:
    """``fixed + slope · x`` seconds: of examples, or of bytes; neither part is negative."""

    fixed: float
    slope: float

    def __call__(self, x: float) -> float:
        return self.fixed + self.slope * x

    def scaled(self, factor: float) -> Law:
        """Every time multiplied."""
        return Law(self.fixed * factor, self.slope * factor)


def fit(x: Sequence[float], seconds: Sequence[float]) -> Law:
    """The law with the least squared *relative* errors: 4 KiB count as much as 16 MiB.

    Args:
        x: Examples or bytes.
        seconds: What each took; above 0. Equal x are fine. One x alone gives a law without a fixed part.
    """
    a, t = np.asarray(x, float), np.asarray(seconds, float)
    columns = np.stack([1 / t, a / t], axis=1)
    if len(set(a.tolist())) > 1:
        scale = columns.max(0)
        fixed, slope = np.linalg.lstsq(columns / scale, np.ones_like(t), rcond=None)[0] / scale
        if fixed >= 0 and slope >= 0:
            return Law(float(fixed), float(slope))
        if slope < 0:
            return Law(_one_part(columns[:, 0]), 0.0)
    return Law(0.0, _one_part(columns[:, 1]))


def _one_part(column: np.ndarray) -> float:
    """Least squares of ``column · part = 1``."""
    return float(column.sum() / (column @ column))


# --- communication ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    """Collectives of one kind and size in one step.

    Attributes:
        kind: As in ``frameworks.parallel.Traffic``.
        bytes: So too: the whole tensor, or what is sent.
        ranks: Ranks that take part.
        count: How often.
        arrays: Over how many arrays that travel one after the other; on a stated network they go together.
        stride: How far apart they are: 8 where the group takes every eighth device.
    """

    kind: str
    bytes: float
    ranks: int
    count: float
    stride: int = 1
    arrays: int = 1


def rounds(kind: str, ranks: int) -> int:
    """Messages that follow one another: by halving and doubling, as Thakur, Rabenseifner & Gropp (2005)."""
    if kind == "send":
        return 1
    if kind == "all_to_all":
        return ranks - 1
    return (2 if kind in ("all_reduce", "broadcast") else 1) * math.ceil(math.log2(max(ranks, 1)))


def share(kind: str, ranks: int) -> float:
    """Bytes through a rank's link over the tensor's: 2 (n − 1) / n for an all-reduce, by ring or by halving."""
    if kind == "send":
        return 1.0
    return (2.0 if kind in ("all_reduce", "broadcast") else 1.0) * (ranks - 1) / ranks


class Network(ABC):
    """What collectives cost."""

    @abstractmethod
    def seconds(self, message: Message) -> float:
        """One of the message's collectives."""

    def total(self, messages: Sequence[Message]) -> float:
        """All of them, one after another."""
        return sum(m.count * self.seconds(m) for m in messages if m.ranks > 1)


@dataclass(frozen=True)
class Measured(Network):
    """Collectives of this machine's ranks, a law per kind; what was not measured follows by rounds and share.

    Attributes:
        laws: ``(kind, ranks)`` → seconds of bytes; not empty.
    """

    laws: Mapping[tuple[str, int], Law]

    def seconds(self, message: Message) -> float:
        kind, ranks = message.kind, message.ranks
        if (kind, ranks) in self.laws:
            law = self.laws[kind, ranks]
            return law.fixed * message.arrays + law.slope * message.bytes
        known = [key for key in self.laws if key[0] == kind] or [k for k in self.laws if k[0] == "all_reduce"]
        near = min(known or self.laws, key=lambda key: abs(math.log2(key[1] / ranks)))
        law = self.laws[near]
        fixed = law.fixed * rounds(kind, ranks) / rounds(*near)
        return fixed * message.arrays + law.slope * message.bytes * share(kind, ranks) / share(*near)


@dataclass(frozen=True)
class Link:
    """Between two devices, in one direction: seconds of an empty message, bytes per second."""

    latency_s: float
    bandwidth_bytes_s: float


@dataclass(frozen=True)
class Stated(Network):
    """A cluster's own figures: a collective works inside each node, then between equal places of the nodes.

    Attributes:
        devices_per_node: Devices with consecutive numbers in one node.
        inside: From a device to another one of its node.
        between: From a device to one of another node, while its neighbours send too.
    """

    devices_per_node: int
    inside: Link
    between: Link

    def seconds(self, message: Message) -> float:
        kind, size, ranks = message.kind, message.bytes, message.ranks
        here = max(1, min(ranks, self.devices_per_node // message.stride))
        nodes = math.ceil(ranks / here)
        if kind == "send":  # the slowest hop sets the pace
            return self._over(self.between if nodes > 1 else self.inside, kind, size, 2)
        part = size if kind == "all_to_all" else size / here
        return self._over(self.inside, kind, size, here) + self._over(self.between, kind, part, nodes)

    def _over(self, link: Link, kind: str, size: float, ranks: int) -> float:
        if ranks < 2:
            return 0.0
        return rounds(kind, ranks) * link.latency_s + share(kind, ranks) * size / link.bandwidth_bytes_s
