"""From a name to a twin. A name is a zoo twin (``resnet50``), or a user's file (``my_pair.py``).

A model that exists in PyTorch only (``timm:resnet50``) becomes a twin by a port: see ``torch_only``.
"""

from __future__ import annotations

import difflib

from twinax.errors import UnknownTwin
from twinax.sources import zoo
from twinax.sources.torch_only import is_torch_only
from twinax.twin import Twin

__all__ = ["is_file", "is_torch_only", "resolve"]


def is_file(name: str) -> bool:
    """Whether the name is a user's file: code, which is only run inside a worker."""
    return name.endswith(".py")


def resolve(name: str, weights: str = "") -> Twin:
    """The twin of that name, with the sizes that a checkpoint states.

    A user's file is executed by this: call it for such a name in a worker only.

    Raises:
        UnknownTwin: No source knows the name; the closest names are offered.
        UserFileError: The user's file cannot be used.
    """
    if is_file(name):
        from twinax.sources import file

        return file.resolve(name)
    twin = zoo.resolve(name)
    if twin is None:
        close = difflib.get_close_matches(name, zoo.names(), n=3, cutoff=0.4)
        raise UnknownTwin(
            f"There is no twin called '{name}'.",
            (f"Did you mean {' or '.join(close)}? " if close else "")
            + "`twinax list` shows every twin; yours are my_pair.py, or my_model.py:function.",
        )
    return twin.configured(weights)
