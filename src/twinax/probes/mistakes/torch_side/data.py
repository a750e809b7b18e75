"""Mistakes with data, workers and shared memory, in PyTorch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from twinax.probes.mistakes.base import BUFFER, X


class Noisy(Dataset[int]):
    """Four items of noise; each worker process holds a copy of the generator."""

    def __init__(self, *, shared: bool) -> None:
        self.shared = shared
        self.generator = np.random.default_rng(0)

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        worker = get_worker_info()
        if not self.shared and worker is not None:
            self.generator = np.random.default_rng((worker.seed, index))
        return int(self.generator.integers(2**40))


def unseeded_workers(mistake: bool) -> int:
    torch.manual_seed(0)
    loader = DataLoader(Noisy(shared=mistake), batch_size=None, num_workers=2)
    return len({int(item) for item in loader})


def array_changed_afterwards(mistake: bool) -> Tensor:
    buffer = BUFFER.copy()
    batch = torch.from_numpy(buffer) if mistake else torch.tensor(buffer)
    buffer[:] = 0
    return batch


def argument_changed(mistake: bool) -> Tensor:
    def centred(x: Tensor) -> Tensor:
        if mistake:
            x -= x.mean()
        else:
            x = x - x.mean()
        return x

    x = torch.tensor(X)
    centred(x)
    return x


PROGRAMS = {
    "workers with the same seed": unseeded_workers,
    "NumPy array changed afterwards": array_changed_afterwards,
    "a function that changes its argument": argument_changed,
}
CANNOT: dict[str, str] = {}
