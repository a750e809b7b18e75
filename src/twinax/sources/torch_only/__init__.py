"""Sources that have a PyTorch side only; the other side comes from a port.

==============================  ==========================================
``my_model.py:make_model``      a function or class of a user's file
``package.module:callable``     one of an installed package
``model.pt2``                   a program that torch.export.save wrote
``timm:NAME``                   a model of timm, random weights
``torchvision:NAME``            a classifier of torchvision, random weights
``hf:ID``, ``hf:FOLDER``        a model of transformers
==============================  ==========================================

:func:`resolve` runs in torch workers only; the names are told apart without running anything.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinax.errors import BadInput
from twinax.sources.torch_only.base import Request, TorchSource
from twinax.sources.torch_only.inputs import Input, draw

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "Input",
    "Request",
    "TorchSource",
    "built",
    "draw",
    "is_callable",
    "is_torch_only",
    "made",
    "placed",
    "resolve",
]

LIBRARIES = {"timm": "timm", "torchvision": "torchvision", "hf": "hugging_face"}
REFERENCE = re.compile(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*")


def is_torch_only(name: str) -> bool:
    """Whether the name is one of a model that exists in PyTorch only. Nothing is imported or read for this."""
    return bool(_kind(name))


def is_callable(name: str) -> bool:
    """Whether the name is that of a function or class: a pair file may name it itself."""
    return _kind(name) == "callable"


def _kind(name: str) -> str:
    """The module that resolves the name; "" where none does."""
    before, colon, after = name.rpartition(":")
    if name.partition(":")[0] in LIBRARIES and after:
        return LIBRARIES[name.partition(":")[0]]
    if name.endswith(".pt2"):
        return "exported"
    if REFERENCE.fullmatch(name) or (colon and before.endswith(".py") and after.isidentifier()):
        return "callable"
    return ""


def placed(name: str) -> str:
    """The name with the path in it made absolute, so that it is found from everywhere.

    Raises:
        BadInput: There is no such file.
    """
    library, _, rest = name.partition(":")
    if library in LIBRARIES:
        here = library == "hf" and Path(rest).expanduser().exists()
        return f"hf:{Path(rest).expanduser().resolve()}" if here else name
    path, colon, attribute = name.rpartition(":") if not name.endswith(".pt2") else (name, "", "")
    if not path.endswith((".py", ".pt2")):
        return name
    if not Path(path).is_file():
        raise BadInput(f"There is no file {path}.", "Give a path as in my_model.py:make_model, or model.pt2.")
    return f"{Path(path).resolve()}{colon}{attribute}"


def resolve(name: str, request: Request = Request()) -> TorchSource:  # noqa: B008 - it is immutable
    """The source of that name. This may execute a user's file: call it in a torch worker only.

    Raises:
        BadInput: It cannot be used; what is wrong is said with file and line.
    """
    kind = _kind(name)
    if not kind:
        raise BadInput(
            f"{name} names no PyTorch model.",
            "Give file.py:function, package.module:callable, model.pt2, timm:NAME, torchvision:NAME or hf:ID.",
        )
    return importlib.import_module(f"twinax.sources.torch_only.{kind}").resolve(name, request)


def made(
    name: str, names: Sequence[str], seed: int, *, silent: bool = False, exact: bool = False, **request: Any
) -> nn.Module:
    """The PyTorch side of a pair that a port wrote: the module, called with its inputs one after the other.

    Args:
        name: The source.
        names: Parameters of ``forward`` that take the inputs.
        seed: Of the weights.
        silent: Dropout that is called as a function does nothing: no mask of it can be replayed.
        exact: In float64, what the model asks to compute in float32 is in float64 too.
        request: What was said beside the name; see :class:`Request`.
    """
    from twinax.sources.torch_only.calling import by_name

    return by_name(resolve(name, Request(**request)).make(seed), names, silent=silent, exact=exact)


def built(file: Path, silent: Sequence[str]) -> Any:
    """The JAX side of such a pair; dropout layers at these paths do nothing."""
    from twinax.sources.torch_only import other_side

    return other_side.built(file, silent)
