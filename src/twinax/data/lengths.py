"""Sequence lengths of a workload: from a file, or drawn from a distribution."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from twinax.errors import BadInput

EXAMPLES = 2000
DISTRIBUTION = f"{EXAMPLES:,} drawn from a log-normal distribution: median a third of the longest, σ = 0.6"


def draw(longest: int, seed: int) -> tuple[int, ...]:
    """Lengths like those of sentences: log-normal, cut at the longest that the model is measured at."""
    drawn = np.random.default_rng([seed, 0x5E9]).lognormal(np.log(max(longest / 3, 1)), 0.6, EXAMPLES)
    return tuple(int(n) for n in np.clip(np.rint(drawn), 1, longest))


def read(file: str) -> tuple[int, ...]:
    """Lengths from a text file: whole numbers above 0, separated by white space or commas.

    Raises:
        BadInput: The file cannot be read, is empty, or holds something else; the place is named.
    """
    hint = "Give a text file with one sequence length per line, for example: 12"
    try:
        words = Path(file).read_text().replace(",", " ").split()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise BadInput(f"The lengths in {file} cannot be read: {reason}.", hint) from error
    for place, word in enumerate(words, 1):
        if not word.isascii() or not word.isdigit() or int(word) < 1:
            raise BadInput(
                f"Length {place} in {file} is {word[:40]!r}, which is no whole number above 0.", hint
            )
    if not words:
        raise BadInput(f"{file} holds no lengths.", hint)
    return tuple(int(word) for word in words)
