"""A PyTorch module as a list of statements, in eval and in train mode. Imports torch: runs in torch workers."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from twinax.errors import CannotPort, Unsupported
from twinax.port.torch_to_jax.calling import changes, tensor_parameters
from twinax.port.torch_to_jax.exporting import exported, first_line, open_axes
from twinax.port.torch_to_jax.following import Way
from twinax.port.torch_to_jax.gradients import own_backwards
from twinax.port.torch_to_jax.guards import guards
from twinax.port.torch_to_jax.modes import eval_follows, in_eval, readers_of_mode
from twinax.port.torch_to_jax.naming import few
from twinax.port.torch_to_jax.program import MODES, Program
from twinax.port.torch_to_jax.reading import Reader
from twinax.port.torch_to_jax.sizes import computed_with

BEHIND = "The way ends here: what lies behind was not looked at."


def capture(
    module: nn.Module, inputs: Mapping[str, torch.Tensor], *, lengths: bool = True
) -> dict[str, Program]:
    """The module's programs by mode.

    Args:
        module: Left as it is.
        inputs: Example arrays by the names of ``forward``'s parameters; the first axis is the batch, and its
            size should be 2 or more. Sizes that the model does not fix stay open.
        lengths: Whether the second axis stays open too.

    Raises:
        CannotPort: torch.export cannot follow the module.
    """
    wide, examples = _wide(module, inputs)
    first = first_names(wide)
    with _no_collection():
        with readers_of_mode() as readers:
            train = _program(wide, examples, "train", first, lengths)
        if eval_follows(wide, readers, train):
            return {"eval": in_eval(train), "train": train}
        return {"eval": _program(wide, examples, "eval", first, lengths), "train": train}


def followed(
    module: nn.Module, inputs: Mapping[str, torch.Tensor]
) -> tuple[dict[str, Program], tuple[Unsupported, ...]]:
    """The programs of the way that the module takes with these inputs, and where torch.export cannot follow it.

    They are no port: other inputs may take another way. They tell what else stands in a port's way; there are
    none where torch.export cannot go on even with the numbers of these inputs.
    """
    wide, examples = _wide(module, inputs)
    first = first_names(wide)
    programs: dict[str, Program] = {}
    found: dict[Unsupported, None] = {}
    for mode in MODES:
        way = Way(wide.train(mode == "train"), examples)
        try:
            with _no_collection():
                programs[mode] = way.along(lambda mode=mode: _program(wide, examples, mode, first))
        except CannotPort as error:
            if not error.unsupported:
                raise
            end = (replace(one, hint=f"{one.hint} {BEHIND}") for one in error.unsupported)
            found |= dict.fromkeys([*way.branches, *end])
        found |= way.branches
    return programs if len(programs) == len(MODES) else {}, tuple(found)


def _wide(module: nn.Module, inputs: Mapping[str, torch.Tensor]) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """A copy of the module and its inputs in float64, unless it is none that can be ported."""
    averaging = [path or type(one).__name__ for path, one in module.named_modules() if _averages_all(one)]
    if averaging:
        raise CannotPort(
            f"{averaging[0]} averages its statistics over all batches that it saw (momentum=None).",
            "Give it a momentum, such as 0.1: then the latest batches weigh most.",
        )
    complex_ones = [name for name, p in module.named_parameters() if p.is_complex()]
    if complex_ones:
        raise CannotPort(
            f"{complex_ones[0]} is complex; the two frameworks differ in what its gradient is.",
            "Hold its real and imaginary parts as two parameters.",
        )
    examples = {n: t.double() if t.is_floating_point() else t for n, t in inputs.items()}
    return _copied(module).double(), examples


def _averages_all(one: nn.Module) -> bool:
    return isinstance(one, _BatchNorm) and one.track_running_stats and one.momentum is None


def _program(
    module: nn.Module,
    inputs: Mapping[str, torch.Tensor],
    mode: str,
    first: Mapping[str, str],
    lengths: bool = True,
) -> Program:
    with own_backwards() as functions, tensor_parameters(module) as given, changes(module) as changed:
        found, finite = exported(module, inputs, mode, lengths)
    program = Reader(found, first, mode == "train").program
    program.finite, program.functions, program.given, program.changed = finite, functions, given, changed
    if program.moved and not _repeats(module, inputs):
        raise CannotPort(
            f"The model's forward changes its own parameters ({few(program.moved)}) in every call.",
            "Hold what is changed as a buffer, or change it outside of forward.",
        )
    program.guards = guards(found, list(inputs))
    names = list(inputs)
    closed = [(n, a) for n, t in inputs.items() for a in range(1, t.dim()) if a not in open_axes(t, lengths)]
    fixed = computed_with(module, inputs, closed)
    if not lengths:
        fixed += [(n, 1) for n, t in inputs.items() if t.dim() in (2, 3)]
    program.guards += [f"i{names.index(n)}_{axis} == {inputs[n].shape[axis]}" for n, axis in fixed]
    return program


def _repeats(module: nn.Module, inputs: Mapping[str, torch.Tensor]) -> bool:
    """Whether a second call gives what the first one gave, whatever that changed."""
    module, found = copy.deepcopy(module), []
    with torch.random.fork_rng(), torch.no_grad():
        for _ in range(2):
            torch.manual_seed(0)
            leaves = tree_leaves(module(**{name: tensor.clone() for name, tensor in inputs.items()}))
            found.append([leaf.clone() for leaf in leaves if isinstance(leaf, torch.Tensor)])
    return all(torch.allclose(a, b, rtol=1e-9, atol=0, equal_nan=True) for a, b in zip(*found, strict=True))


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection in the block: an export makes millions of objects that stay (a sixth faster)."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def _copied(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module)
    except Exception as error:
        raise CannotPort(
            f"{type(module).__name__} cannot be copied, which a port needs: {first_line(error)}",
            "A weight that another function computes is at fault, such as torch.nn.utils.weight_norm's: use "
            "torch.nn.utils.parametrizations.",
        ) from error


def first_names(module: nn.Module) -> dict[str, str]:
    """Name of each parameter and buffer → the first name of the same tensor (tied ones have several)."""
    first: dict[int, str] = {}
    names: dict[str, str] = {}
    for name, tensor in [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]:
        names[name] = first.setdefault(id(tensor), name)
    return names
