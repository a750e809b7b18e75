"""One tree of errors. Each says what happened, with the values, and what to do next.

The command line prints ``what`` and ``hint`` and exits with ``exit_code``; nothing else in
twinax prints an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class TwinaxError(Exception):
    """Something twinax can explain.

    Args:
        what: What happened, with the values, and where.
        hint: What to do next; one sentence.
    """

    exit_code = 2

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(f"{what}\n{hint}" if hint else what)
        self.what = what
        self.hint = hint


class BadInput(TwinaxError):
    """What the user gave cannot be used; nothing was run or overwritten."""


class UnknownTwin(BadInput):
    """No source knows a twin of that name."""


class WeightsError(BadInput):
    """A checkpoint is missing, corrupt, or does not fit the model."""


class UserFileError(BadInput):
    """The user's own file raised, exited, or does not define what twinax needs."""


class FrameworkMissing(BadInput):
    """A framework that the command needs is not installed."""


class DeviceMissing(BadInput):
    """The device asked for is not on this machine."""


class RunError(BadInput):
    """A run folder exists already, is unreadable, or was made by another version."""


class DiskFull(TwinaxError):
    """There is no room left for the run."""


@dataclass(frozen=True)
class Unsupported:
    """One thing in a model that cannot be ported: the operation, the user's own source line, what to do."""

    operation: str
    where: str
    hint: str

    def __str__(self) -> str:
        where = (self.where or "an unknown line").removesuffix(":")
        return f"{self.operation} at {where}: {self.hint}"


class CannotPort(BadInput):
    """A model that cannot be ported, with everything that stands in the way.

    Attributes:
        unsupported: All of it, in the order in which the model comes to it.
    """

    def __init__(self, what: str, hint: str = "", unsupported: tuple[Unsupported, ...] = ()) -> None:
        lines = "".join(f"\n  {one}" for one in unsupported)
        super().__init__(what + lines, hint)
        self.unsupported = unsupported


class CellFailed(TwinaxError):
    """A cell did not end ``ok``.

    Attributes:
        outcome: The named outcome for its record.
        cell: Which cell, where that is known (a :class:`~twinax.records.Cell`).
    """

    exit_code = 1

    def __init__(self, outcome: str, what: str, hint: str = "", cell: Any = None) -> None:
        super().__init__(what, hint)
        self.outcome = outcome
        self.cell = cell


def by_name(name: str) -> type[TwinaxError]:
    """The error class of that name (an error that a worker reported crosses the pipe by name)."""
    found = [c for c in _descendants(TwinaxError) if c.__name__ == name]
    return found[0] if found else TwinaxError


def _descendants(cls: type[TwinaxError]) -> list[type[TwinaxError]]:
    return [d for c in cls.__subclasses__() for d in [c, *_descendants(c)]]
