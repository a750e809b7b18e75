"""A user's function or class: ``my_model.py:make_model``, ``package.module:callable``. Run only in a worker."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from twinax.errors import UserFileError
from twinax.sources.file import blamed, execute_file
from twinax.sources.torch_only.base import Request, TorchSource, for_parameters, parameters, seeded
from twinax.sources.torch_only.inputs import Input, of_example, parse
from twinax.twin import Arrays

if TYPE_CHECKING:
    from torch import nn

EXAMPLE = "example_inputs"


def resolve(name: str, request: Request) -> TorchSource:
    """The model that a function, or a class of ``nn.Module``, makes when it is called without arguments.

    Raises:
        UserFileError: The file or the function raises, or gives something else.
        BadInput: Nothing says what goes into the model.
    """
    place, _, attribute = name.rpartition(":")
    path, names = _executed(place)
    make, line = _callable(path, names, attribute)
    module = _made(path, line, attribute, make)
    where = f"{path}:{line}"
    given = {} if request.input or EXAMPLE not in names else _example(path, names[EXAMPLE], module)
    inputs: tuple[Input, ...] = of_example(given) or for_parameters(parse(request.input), module, where)
    first = (make.__doc__ or f"{attribute} in {path.name}").strip().splitlines()[0]  # not a base class's
    return TorchSource(
        name=name,
        title=first,
        make=partial(seeded, partial(_made, path, line, attribute, make)),
        inputs=inputs,
        where=where,
        given=given,
    )


def _executed(place: str) -> tuple[Path, Mapping[str, Any]]:
    """The file behind a path or a dotted name, and what it defines."""
    if place.endswith(".py"):
        path = Path(place)
        return path, execute_file(path)[1]
    with blamed(Path(place), f"import {place}", 1):
        module = importlib.import_module(place)
    return Path(module.__file__ or place), vars(module)


def _callable(path: Path, names: Mapping[str, Any], attribute: str) -> tuple[Any, int]:
    """The function or class, and the line of its definition."""
    line = _line(path, attribute)
    if attribute not in names:
        known = [n for n, value in names.items() if callable(value) and not n.startswith("_")]
        raise UserFileError(
            f"{path}:1: The file defines no {attribute}.",
            f"It defines {', '.join(known[:8])}." if known else "Define a function that returns the model.",
        )
    if not callable(names[attribute]):
        raise UserFileError(
            f"{path}:{line}: {attribute} is of type {type(names[attribute]).__name__}.",
            "Name a function that returns the model, or a class of torch.nn.Module.",
        )
    return names[attribute], line


def _line(path: Path, attribute: str) -> int:
    nodes = ast.parse(path.read_bytes()).body if path.suffix == ".py" else []
    defined = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == attribute]
    return defined[-1].lineno if defined else 1


def _made(path: Path, line: int, attribute: str, make: Any) -> nn.Module:
    from torch import nn

    with blamed(path, f"{attribute}()", line):
        made = make()
    if not isinstance(made, nn.Module):
        raise UserFileError(
            f"{path}:{line}: {attribute}() returned {type(made).__name__}.", "Return a torch.nn.Module."
        )
    return made


def _example(path: Path, function: Any, module: nn.Module) -> Arrays:
    """What ``example_inputs()`` gives, by the names of ``forward``'s parameters."""
    import torch

    line = _line(path, EXAMPLE)
    with blamed(path, f"{EXAMPLE}()", line):
        given = function()
    values = given if isinstance(given, Mapping | tuple | list) else (given,)
    names, _ = parameters(module)
    if not isinstance(values, Mapping):
        if len(values) > len(names):
            raise UserFileError(
                f"{path}:{line}: {EXAMPLE}() gives {len(values)} arrays; forward takes {', '.join(names)}.",
                "Give as many as forward takes.",
            )
        values = dict(zip(names, values, strict=False))
    for name, value in values.items():
        if not isinstance(value, torch.Tensor | np.ndarray) or name not in names:
            what = (
                f"{name!r} is of type {type(value).__name__}" if name in names else f"forward has no {name!r}"
            )
            raise UserFileError(
                f"{path}:{line}: {EXAMPLE}() cannot be used: {what}.",
                "Return a tensor, a tuple of tensors in the order of forward, or {parameter: tensor}.",
            )
    arrays = {str(name): np.asarray(values[name]) for name in names if name in values}
    return {name: a.astype(np.float32) if a.dtype.kind == "f" else a for name, a in arrays.items()}
