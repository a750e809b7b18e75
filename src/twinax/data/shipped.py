"""Files that scikit-learn ships, found without importing it: that would take each worker seconds."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from twinax.errors import FrameworkMissing


def file(*parts: str) -> Path:
    """A file below ``sklearn/datasets``.

    Raises:
        FrameworkMissing: scikit-learn is not installed.
    """
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        raise FrameworkMissing(
            "scikit-learn, which ships the example data, is not installed here.",
            "Install it with: pip install scikit-learn",
        )
    return Path(found.origin).parent.joinpath("datasets", *parts)
