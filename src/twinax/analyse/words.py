"""Numbers in words: one way to write seconds, ratios, bytes and errors, wherever they are shown."""

from __future__ import annotations

import math

SIDES = {"torch": "PyTorch", "jax": "JAX", "both": "both sides"}
OTHER = {"torch": "jax", "jax": "torch"}


def three(value: float) -> str:
    """Three significant digits, without an exponent: ``0.871``, ``12.3``, ``3,310``."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def seconds(value: float | None) -> str:
    """``1.23 s``, ``871 ms``, ``45.1 µs``."""
    if value is None:
        return "–"
    if value == 0 or value >= 0.9995:
        return f"{three(value)} s"
    for factor, unit in ((1e3, "ms"), (1e6, "µs")):
        if value * factor >= 0.9995:
            return f"{three(value * factor)} {unit}"
    return f"{three(value * 1e9)} ns"


def quantity(value: float | None, unit: str) -> str:
    """A large quantity with a decimal prefix: ``85.0 GFLOP/s``."""
    if value is None:
        return "–"
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{three(value / factor)} {prefix}{unit}"
    return f"{three(value)} {unit}"


def memory(value: float | None) -> str:
    """Bytes with a binary prefix: ``1.92 GiB``."""
    if value is None:
        return "–"
    for factor, unit in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if abs(value) >= factor:
            return f"{three(value / factor)} {unit}"
    return f"{value:.0f} bytes"


def error(value: float | None) -> str:
    """A norm-relative error; None stands for tensors that cannot be compared (NaN, shape, missing)."""
    if value is None:
        return "not comparable"
    return "0" if value == 0 else f"{value:.1e}"


def between(low: float, high: float, digits: int = 2) -> str:
    """An interval of ratios: ``0.94 to 1.05``; beyond a hundred times all is the same: ``0.94 to >100``."""
    start = f"{low:.{digits}f}" if low >= 1 / 100 else "<0.01"
    end = f"{high:.{digits}f}" if high <= 100 else ">100"
    return f"{start} to {end}"


def times(ratio: float) -> str:
    """How many times: ``1.92×``."""
    return f"{three(ratio)}×"


def percent(share: float) -> str:
    """``3 %``, ``0.4 %``; what rounds to nothing is ``under 0.1 %``."""
    if 0 < share < 0.0005:
        return "under 0.1 %"
    return f"{share * 100:.0f} %" if share >= 0.01 or share == 0 else f"{share * 100:.1f} %"


def whole(value: float) -> int | None:
    """The next whole number of steps; None stands for never."""
    return math.ceil(value) if math.isfinite(value) else None


def steps(low: float | None, high: float | None) -> str:
    """An interval of steps; None or infinity is never: ``12 to 15``, ``12 or never``, ``never``."""
    first, last = (None if value is None else whole(value) for value in (low, high))
    if first is None:
        return "never"
    return f"{first:,} or never" if last is None else f"{first:,} to {last:,}"


def count(number: int, noun: str, plural: str = "") -> str:
    """``1 step``, ``2,000 steps``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listing(items: list[str], most: int = 4) -> str:
    """``a, b and c``; the rest is counted: ``a, b, c, d and 7 more``."""
    if len(items) > most:
        items = [*items[:most], f"{len(items) - most} more"]
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "none"


def side_mode(side: str, mode: str) -> str:
    """``PyTorch compile``."""
    return f"{SIDES[side]} {mode}"


def setup(side: str, mode: str) -> str:
    """``PyTorch (compile)``."""
    return f"{SIDES[side]} ({mode})"


def printable(text: str) -> str:
    """Text from outside with control and direction-changing characters made visible."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
