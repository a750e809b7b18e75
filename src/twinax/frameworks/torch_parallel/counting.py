"""What a training step really sends and keeps, counted while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import _resolve_process_group
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from twinax.frameworks.parallel import Kind, Traffic

# operation → (kind, argument that holds the whole tensor, whether each rank gives only its part of it)
_WHOLE: dict[str, tuple[Kind, str, bool]] = {
    "c10d.allreduce_": ("all_reduce", "tensors", False),
    "c10d.allreduce_coalesced_": ("all_reduce", "tensors", False),
    "c10d._allgather_base_": ("all_gather", "output_tensor", False),
    "c10d.allgather_": ("all_gather", "output_tensors", False),
    "c10d.allgather_coalesced_": ("all_gather", "output_lists", False),
    "c10d.allgather_into_tensor_coalesced_": ("all_gather", "outputs", False),
    "c10d._reduce_scatter_base_": ("reduce_scatter", "input_tensor", False),
    "c10d.reduce_scatter_": ("reduce_scatter", "input_tensors", False),
    "c10d.reduce_scatter_tensor_coalesced_": ("reduce_scatter", "inputs", False),
    "c10d.alltoall_": ("all_to_all", "input_tensors", False),
    "c10d.alltoall_base_": ("all_to_all", "input", False),
    "c10d.broadcast_": ("broadcast", "tensors", False),
    "c10d.send": ("send", "tensors", False),
    "_c10d_functional.all_reduce": ("all_reduce", "input", False),
    "_c10d_functional.all_reduce_": ("all_reduce", "input", False),
    "_c10d_functional.all_reduce_coalesced": ("all_reduce", "inputs", False),
    "_c10d_functional.all_reduce_coalesced_": ("all_reduce", "inputs", False),
    "_c10d_functional.all_gather_into_tensor": ("all_gather", "input", True),
    "_c10d_functional.all_gather_into_tensor_out": ("all_gather", "input", True),
    "_c10d_functional.all_gather_into_tensor_coalesced": ("all_gather", "inputs", True),
    "_c10d_functional.reduce_scatter_tensor": ("reduce_scatter", "input", False),
    "_c10d_functional.reduce_scatter_tensor_out": ("reduce_scatter", "input", False),
    "_c10d_functional.reduce_scatter_tensor_coalesced": ("reduce_scatter", "inputs", False),
    "_c10d_functional.all_to_all_single": ("all_to_all", "input", False),
    "_c10d_functional.broadcast": ("broadcast", "input", False),
    "_c10d_functional.broadcast_": ("broadcast", "input", False),
}
# the receiving end of a send, and what carries no data
_SILENT = (
    "c10d.recv_",
    "c10d.recv_any_source_",
    "c10d.barrier",
    "c10d.monitored_barrier_",
    "c10d.check_for_nan",
    "_c10d_functional.wait_tensor",
    "_c10d_functional._wrap_tensor_autograd",
)


class Collectives(TorchDispatchMode):
    """Counts every collective that this rank takes part in while the mode is on."""

    def __init__(self) -> None:
        super().__init__()
        self._found: Counter[tuple[Kind, int, int]] = Counter()

    @property
    def found(self) -> list[Traffic]:
        """Equal ones together, the most bytes first."""
        rows = [Traffic(kind, size, ranks, n) for (kind, size, ranks), n in self._found.items()]
        return sorted(rows, key=lambda t: (-t.bytes * t.count, t.kind, t.bytes))

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if any(issubclass(t, DTensor) for t in types):
            return NotImplemented  # DTensor first; it comes back with the collectives that it needs
        kwargs = kwargs or {}
        if getattr(func, "namespace", "") in ("c10d", "_c10d_functional", "_c10d_functional_autograd"):
            names = [argument.name for argument in func._schema.arguments]
            self._count(str(func.overloadpacket), {**dict(zip(names, args, strict=False)), **kwargs})
        return func(*args, **kwargs)

    def _count(self, operation: str, given: dict[str, Any]) -> None:
        operation = operation.replace("_functional_autograd", "_functional")
        if operation in _SILENT:
            return
        if operation not in _WHOLE:
            raise RuntimeError(f"the step uses {operation}, whose bytes twinax does not know how to count")
        kind, argument, of_each = _WHOLE[operation]
        ranks = _group(given).size()
        size = sum(t.numel() * t.element_size() for t in _tensors(given[argument]))
        self._found[kind, size * ranks if of_each else size, ranks] += 1


def _group(given: dict[str, Any]) -> dist.ProcessGroup:
    group: Any = given.get("process_group", given.get("group_name"))
    if isinstance(group, str):
        return _resolve_process_group(group)  # type: ignore[arg-type]
    return group if isinstance(group, dist.ProcessGroup) else dist.ProcessGroup.unbox(group)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    else:
        for part in value:
            yield from _tensors(part)


def kept_for_backward(model: nn.Module, run: Callable[[], Any]) -> int:
    """Bytes that a forward pass in ``run`` keeps for the backward pass: each storage once, on this rank.

    Parameters and buffers are not counted: they are held anyway (gathered ones only for a moment).
    """
    kept: dict[int, Tensor] = {}  # the tensors too: a storage that is freed gives its address to another

    def pack(tensor: Tensor) -> Tensor:
        own = local(tensor)
        address = own.untyped_storage().data_ptr()
        if address not in kept and address not in {_address(t) for t in _held_by(model)}:
            kept[address] = own
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def _held_by(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _address(tensor: Tensor) -> int:
    return local(tensor).untyped_storage().data_ptr()


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor, detached."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def local_bytes(tensors: Sequence[Tensor]) -> int:
    """Bytes of this rank's parts."""
    return sum(t.numel() * t.element_size() for t in map(local, tensors))
