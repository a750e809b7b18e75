"""A data-parallel training step in PyTorch as its documentation writes it: DistributedDataParallel, SGD."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel


def data_local(twin: Any, weights: Any, batches: Any) -> Callable[[int], None]:
    """A step on global batch i; the process group is there already."""
    code = twin.code("torch")
    model = code.build(twin.config)
    named = {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
    model.load_state_dict(named, strict=False)
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    model = DistributedDataParallel(model.train())
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    rank, size = dist.get_rank(), dist.get_world_size()
    shares = [{n: torch.from_numpy(a).chunk(size)[rank] for n, a in batch.items()} for batch in batches]

    def step(i: int) -> None:
        share = shares[i % len(shares)]
        optimizer.zero_grad()
        code.loss(model(*(share[name] for name in twin.inputs)), share).backward()
        optimizer.step()

    return step
