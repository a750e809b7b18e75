"""What every strategy has in common: one rank's model, a pass over it, and how its tensors are gathered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from twinax.frameworks.base import SideCode
from twinax.frameworks.parallel import Plan
from twinax.frameworks.torch_backend import own_tensors
from twinax.twin import Array, Arrays

Data = dict[str, Tensor]
"""A batch on the device."""


@dataclass(frozen=True)
class Setting:
    """What an engine is made from.

    Attributes:
        code: The torch side.
        inputs: Batch arrays that go into the model, in order.
        build: A new model on the device, whole, weights in place, train mode, dropout off.
        process: This rank's number.
        ranks: All ranks.
        device: Where the model lies.
        plan: Which layers tensor parallelism shards.
    """

    code: SideCode
    inputs: tuple[str, ...]
    build: Callable[[], nn.Module]
    process: int
    ranks: int
    device: torch.device
    plan: Plan


class Engine(ABC):
    """One rank's part of a model under a strategy. Every method is collective.

    Attributes:
        does: What in torch does the work.
        model: Holds this rank's parameters and buffers under the whole model's names.
        shares: Into how many parts a global batch is split.
        share: Which of them is this rank's.
        groups: The groups that work together, by their number of ranks.
    """

    does: str

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.model = setting.build()
        self.shares, self.share = 1, 0
        self.groups: dict[int, dist.ProcessGroup] = {setting.ranks: world()}

    def fit_to(self, data: Data) -> None:  # noqa: B027 - most engines fit any form
        """Make ready for data of this form; the weights are to be loaded again after it."""

    @abstractmethod
    def run(self, data: Data) -> Tensor | None:
        """Forward and backward pass; the mean loss of this rank's share, where it has one."""

    def arguments(self, data: Data) -> tuple[Tensor, ...]:
        """What goes into the model."""
        return tuple(data[name] for name in self.setting.inputs)

    def tensors(self) -> dict[str, Tensor]:
        """This rank's parameters and buffers."""
        return own_tensors(self.model)

    def parameters(self) -> dict[str, nn.Parameter]:
        """This rank's parameters."""
        return {name: t for name, t in self.tensors().items() if isinstance(t, nn.Parameter)}

    def load(self, weights: Mapping[str, Array]) -> None:
        """Put this rank's part of whole arrays in place."""
        with torch.no_grad():
            for name, slot in self.tensors().items():
                put(slot, torch.from_numpy(np.array(weights[name])).to(slot.device, slot.dtype))

    def loss_of_all(self, loss: Tensor | None) -> float:
        """The mean over the global batch, from the losses of all shares."""
        assert loss is not None
        summed = loss.detach().clone()
        dist.all_reduce(summed)
        return float(summed) / self.setting.ranks

    def gather(self, names: Iterable[str], tensors: Mapping[str, Tensor]) -> Arrays:
        """Whole arrays under these names; on process 0 only, empty on the others."""
        whole = ((name, full(tensors[name])) for name in names)
        return {name: to_numpy(tensor) for name, tensor in whole if self.setting.process == 0}

    def sharded_share(self) -> float:
        """Fraction of the parameters of which no rank holds all."""
        sizes = {name: p.numel() for name, p in self.parameters().items()}
        sharded = sum(sizes[name] for name, p in self.parameters().items() if is_sharded(p))
        return sharded / sum(sizes.values())

    def buffer_bytes(self) -> int:
        """Bytes that the engine keeps for its collectives, beside parameters and gradients."""
        return 0

    def facts(self) -> dict[str, Any]:
        """What else could tilt a comparison."""
        return {}


def world() -> dist.ProcessGroup:
    """The group of all ranks."""
    group = dist.group.WORLD
    assert group is not None
    return group


def put(slot: Tensor, whole: Tensor) -> None:
    """This rank's part of a tensor that every rank has whole, without talking to the others."""
    if isinstance(slot, DTensor):
        part = distribute_tensor(whole, slot.device_mesh, slot.placements, src_data_rank=None)
        slot.to_local().copy_(part.to_local())
    else:
        slot.copy_(whole)


def full(tensor: Tensor) -> Tensor:
    """The whole of a tensor, gathered where it is sharded."""
    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether no rank holds all of it."""
    return isinstance(tensor, DTensor) and any(isinstance(p, Shard) for p in tensor.placements)


def to_numpy(tensor: Tensor) -> Array:
    """A copy on the host; bfloat16, which NumPy lacks, becomes float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy().copy()
