"""A live PyTorch module into JAX source and weights. Imports torch when it is called: runs in torch workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from twinax.errors import CannotPort, Unsupported
from twinax.port.torch_to_jax.program import Program, refs

if TYPE_CHECKING:
    import torch

    from twinax.port.torch_to_jax.classes import Class


@dataclass(frozen=True)
class Ported:
    """What a port is made of.

    Attributes:
        source: ``model.py``: depends on jax, flax, and safetensors for ``load``.
        weights: Parameters and persistent buffers by torch name, in torch's layout and their own dtype.
        constants: Arrays that the source reads from ``constants.safetensors`` beside it.
        notes: What a reader should know.
    """

    source: str
    weights: dict[str, np.ndarray]
    constants: dict[str, np.ndarray]
    notes: tuple[str, ...] = ()


def convert(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor], *, title: str = "") -> Ported:
    """Port a module.

    Args:
        module: Left as it is.
        inputs: Example arrays by the names of ``forward``'s parameters; batch size 2 or more.
        title: First line of the source.

    Raises:
        CannotPort: Names everything that stands in the way, with the user's own source lines.
    """
    made, root, programs = _understood(module, inputs)
    missing = _unsupported(made)
    if missing:
        raise CannotPort(
            f"{type(module).__name__} cannot be ported: operations without a counterpart: {len(missing)}.",
            "Change these lines, or ask for the operations.",
            missing,
        )
    from twinax.port.torch_to_jax.notes import fixed, notes
    from twinax.port.torch_to_jax.source import source

    text = source(made, root, title or f"{type(module).__name__} in JAX (Flax NNX).")
    constants = {n: _narrowed(a) for p in programs.values() for n, a in p.constants.items() if f"{n!r}" in text}
    held = _names(root)
    weights = {n: _numpy(t) for n, t in _own(module).items() if n in held}
    return Ported(text, weights, constants, (*fixed(root, programs["eval"]), *notes(module, programs)))


def obstacles(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> tuple[Unsupported, ...]:
    """Everything that cannot be ported; empty where all can be.

    Branches on data stand first. They are taken as the example takes them, to come to what lies behind.

    Raises:
        CannotPort: The model as a whole is at fault, not some of its lines.
    """
    from twinax.port.torch_to_jax.capture import followed
    from twinax.port.torch_to_jax.classes import classes
    from twinax.port.torch_to_jax.exporting import BRANCH

    try:
        return _unsupported(_understood(module, inputs)[0])
    except CannotPort as error:
        if not error.unsupported:
            raise
        if BRANCH not in {one.operation for one in error.unsupported}:
            return error.unsupported
    programs, found = followed(module, inputs)
    return (*found, *(_unsupported(classes(module, programs)[0]) if programs else ()))


def _understood(module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> Any:
    from twinax.port.torch_to_jax.capture import capture
    from twinax.port.torch_to_jax.classes import classes
    from twinax.port.torch_to_jax.code import NUMBER
    from twinax.port.torch_to_jax.exporting import BRANCH
    from twinax.port.torch_to_jax.guards import needed

    try:
        programs = capture(module, inputs)
        made, root = classes(module, programs)
    except CannotPort as error:
        if not {BRANCH, NUMBER} & {one.operation for one in error.unsupported}:
            raise
        try:  # numbers that come from a length are known where the length is
            programs = capture(module, inputs, lengths=False)
            made, root = classes(module, programs)
        except CannotPort:
            raise error from None
    if not _floats(programs["eval"]):
        raise CannotPort(
            f"{type(module).__name__} returns no floats: there is nothing that a proof could differentiate.",
            "Return its scores too, and choose among them outside.",
        )
    root.inputs = programs["eval"].inputs
    root.guards = needed(guard for program in programs.values() for guard in program.guards)
    return made, root, programs


def _unsupported(made: list[Class]) -> tuple[Unsupported, ...]:
    from twinax.port.torch_to_jax.code import Op
    from twinax.port.torch_to_jax.refusals import unsupported

    found: dict[Unsupported, None] = {}
    for one in made:
        for code in one.first.code.values():
            for index, item in enumerate(code.form.items):
                if isinstance(item, Op):
                    reason = unsupported(item, code, index, str(code.origins[index] or ""))
                    if reason is not None:
                        found[reason] = None
    return tuple(found)


def _floats(program: Program) -> bool:
    """Whether the model returns any."""
    kinds = [program.values[one.name].dtype for one in refs(program.outputs) if one.name in program.values]
    return any(kind.startswith(("float", "bfloat", "complex")) for kind in kinds)


def _names(root: Any) -> set[str]:
    """Names of every parameter and buffer that the ported classes hold."""
    names: set[str] = set()

    def visit(instance: Any) -> None:
        prefix = f"{instance.path}." if instance.path else ""
        names.update(prefix + tensor.name for tensor in instance.tensors)
        for child in instance.children.values():
            if hasattr(child, "tensors"):
                visit(child)

    visit(root)
    return names


def _own(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(module.state_dict(keep_vars=True))


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    import torch

    if tensor.dtype == torch.bfloat16:
        import ml_dtypes

        return tensor.detach().cpu().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.detach().cpu().contiguous().numpy()


def _narrowed(array: np.ndarray) -> np.ndarray:
    """A constant in float32, as the model had it before it was captured in float64, where nothing is lost."""
    if array.dtype == np.float64 and np.array_equal(array.astype(np.float32), array):
        return array.astype(np.float32)
    return np.ascontiguousarray(array)
