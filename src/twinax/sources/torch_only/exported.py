"""A program that torch.export.save wrote: ``model.pt2``. Run only in a worker."""

from __future__ import annotations

import inspect
import warnings
from functools import partial
from pathlib import Path
from types import MethodType
from typing import TYPE_CHECKING, Any

import numpy as np

from twinax.errors import UserFileError
from twinax.sources.torch_only.base import Request, TorchSource, for_parameters, parameters, seeded
from twinax.sources.torch_only.inputs import of_example, parse
from twinax.twin import Arrays

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram


def resolve(name: str, request: Request) -> TorchSource:
    """The module tree that the program was exported from, with its weights.

    Raises:
        UserFileError: The file is damaged, or no exported program.
        BadInput: Nothing says what goes into it.
    """
    path = Path(name)
    program = _loaded(path)

    make = partial(_unflattened, program)
    module = seeded(make, 0)
    given = {} if request.input else _example(program, module)
    inputs = of_example(given) or for_parameters(parse(request.input), module, f"{path}")
    title = f"The program in {path.name}"
    return TorchSource(name, title, partial(seeded, make), inputs, str(path), given)


def _unflattened(program: ExportedProgram) -> nn.Module:
    """The program's module tree, with the signature of the ``forward`` that was exported."""
    from torch.export import unflatten

    module = unflatten(program)
    for part in module.modules():
        for node in getattr(getattr(part, "graph", None), "nodes", ()):
            node.meta.pop("val", None)  # symbolic sizes, which cannot be copied with the module
    signature, inner = inspect.signature(program.module().forward), type(module).forward

    def forward(self: Any, *arguments: Any, **named: Any) -> Any:
        bound = signature.bind(*arguments, **named)
        return inner(self, *bound.args, **bound.kwargs)

    me = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    parameters = [p.replace(kind=p.POSITIONAL_OR_KEYWORD) for p in signature.parameters.values()]
    forward.__signature__ = inspect.Signature([me, *parameters])  # type: ignore[attr-defined]
    module.forward = MethodType(forward, module)  # a method: it follows when the module is copied
    return module


def _loaded(path: Path) -> ExportedProgram:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of a module of torch's own
            return torch.export.load(path)
    except Exception as error:  # whatever a damaged archive does to its reader
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserFileError(
            f"{path}:1: torch.export.load cannot read the file: {first[:300]}",
            "Write it with torch.export.save(torch.export.export(model, inputs), path).",
        ) from error


def _example(program: ExportedProgram, module: nn.Module) -> Arrays:
    """The example inputs that the program holds; empty where it holds none."""
    if program.example_inputs is None:
        return {}
    positional, keyword = program.example_inputs
    named: dict[str, Any] = {**dict(zip(parameters(module)[0], positional, strict=False)), **keyword}
    arrays = {name: np.asarray(value.detach()) for name, value in named.items()}
    return {name: a.astype(np.float32) if a.dtype.kind == "f" else a for name, a in arrays.items()}
