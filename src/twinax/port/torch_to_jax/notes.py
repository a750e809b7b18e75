"""What a person should know of a port. Imports torch only as a type."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from twinax.port.torch_to_jax import table
from twinax.port.torch_to_jax.naming import few
from twinax.port.torch_to_jax.program import DROPOUTS, Program, Statement

if TYPE_CHECKING:
    from torch import nn

    from twinax.port.torch_to_jax.classes import Instance

GROWING = ("mul", "pow", "square", "prod", "cumprod", "bitwise_left_shift", "__lshift__", "matmul", "mm", "bmm")
"""Operations whose results are soon larger than 32 bits."""


def notes(module: nn.Module, programs: Mapping[str, Program]) -> tuple[str, ...]:
    """Sentences, for the README and the terminal."""
    statements = [statement for program in programs.values() for statement in program.statements]
    functions = {f.__name__: f for program in programs.values() for f in program.functions}
    integers = [s for program in programs.values() for s in program.statements if _multiplies(s, program)]
    return (
        *_counted(module),
        *_frozen(module),
        *(_own_backward(function) for function in functions.values()),
        *_finite(programs),
        *_moved(programs),
        *_changed(programs),
        *_written(programs),
        *_drawn(statements),
        *_narrower(integers),
    )


def fixed(root: Instance, program: Program) -> list[str]:
    """Sizes of inputs that must be those of the example; so many features (batch, features) need no words."""
    matches = (re.fullmatch(r"i(\d+)\.shape\[(\d+)\] == (\d+)", guard) for guard in root.guards)
    found = [(root.inputs[int(m[1])], m[2], m[3]) for m in matches if m]
    told = [
        f"{name}.shape[{axis}] == {size}"
        for name, axis, size in found
        if len(program.values[name].shape) > 2 or not program.values[name].dtype.startswith("float")
    ]
    return [f"Sizes that it is for, and no others: {', '.join(told)}."] if told else []


def _counted(module: nn.Module) -> list[str]:
    counts = any(name.endswith("num_batches_tracked") for name, _ in module.named_buffers())
    return ["num_batches_tracked, torch's count of batches, is left out: nothing reads it."] if counts else []


def _frozen(module: nn.Module) -> list[str]:
    frozen = [name for name, p in module.named_parameters() if not p.requires_grad]
    told = f"{len(frozen)} parameters are frozen in PyTorch ({few(frozen)}). In JAX that is the optimizer's "
    return [f"{told}affair: the port, its proof and its studies differentiate them as well."] if frozen else []


def _own_backward(function: type) -> str:
    """The export keeps a function's forward alone; the proof shows whether that does."""
    try:
        file, line = Path(inspect.getsourcefile(function) or "").name, inspect.getsourcelines(function)[1]
        where = f" ({file}:{line})"
    except (TypeError, OSError):
        where = ""
    return (
        f"{function.__name__}{where} has a backward of its own, which torch.export leaves out: the port's "
        "gradient is that of its forward."
    )


def _finite(programs: Mapping[str, Program]) -> list[str]:
    lines = dict.fromkeys(line for program in programs.values() for line in program.finite)
    return [
        f"The model branches on whether its numbers are finite ({line}): the port takes them to be."
        for line in lines
    ]


def _changed(programs: Mapping[str, Program]) -> list[str]:
    names = list(dict.fromkeys(name for program in programs.values() for name in program.changed))
    told = f"The model's forward changes what it keeps in Python ({few(names)}), which is no buffer: the port "
    return [f"{told}computes with the values of one call."] if names else []


def _moved(programs: Mapping[str, Program]) -> list[str]:
    names = list(dict.fromkeys(name for program in programs.values() for name in program.moved))
    told = f"The model's forward changes its own parameters ({few(names)}), and gives the same when called "
    told += "again: the port computes with the changed values, and leaves the parameters as they are."
    return [told] if names else []


def _written(programs: Mapping[str, Program]) -> list[str]:
    names = dict.fromkeys(name for program in programs.values() for name in program.written)
    return [f"The model's forward writes into its input {name}; the port leaves it as it is." for name in names]


def _drawn(statements: list[Statement]) -> list[str]:
    known = table.read()
    dropout = "native_dropout.default"
    drawing = [s for s in statements if s.op != dropout and s.op in known and known[s.op].draws]
    lines = {s.where for s in drawing if not (s.levels and s.levels[-1].type in DROPOUTS)}
    return [
        f"Random numbers are drawn at {line}. JAX draws others: what they touch cannot be compared."
        for line in sorted(lines)
    ]


def _multiplies(statement: Statement, program: Program) -> bool:
    results = [program.values[name] for name in statement.results if name]
    return statement.op.split(".")[0] in GROWING and all(value.dtype == "int64" for value in results)


def _narrower(products: list[Statement]) -> list[str]:
    if not products:
        return []
    told = f"Integers are multiplied at {products[0].where}. PyTorch's have 64 bits, JAX's 32 unless "
    return [told + "jax_enable_x64 is set: beyond 2147483647 the two differ."]
