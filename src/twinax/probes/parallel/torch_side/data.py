"""Train a small residual network on several devices, each with its share of the batch."""

import gc

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy, gelu
from torch.nn.parallel import DistributedDataParallel

WIDTH, HIDDEN, BLOCKS, CLASSES = 64, 256, 4, 10


class Block(nn.Module):
    """A feed-forward layer with its residual connection."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, HIDDEN)
        self.down = nn.Linear(HIDDEN, WIDTH)

    def forward(self, x):  # (batch, tokens, width)
        return x + self.down(gelu(self.up(self.norm(x))))


class Network(nn.Module):
    """The blocks, a mean over the tokens, a classifier."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x):  # (batch, tokens, width) → (batch, classes)
        return self.head(self.blocks(x).mean(dim=1))


def main(steps: int = 5) -> list[float]:
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    draw = np.random.default_rng(0)
    model = Network()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:  # of each block up, down; then the head: weight, bias
                weight.copy_(torch.from_numpy(draw.standard_normal(weight.shape) * 0.05))
    x = torch.from_numpy(draw.standard_normal((8, 16, WIDTH))).float()
    labels = torch.from_numpy(draw.integers(0, CLASSES, 8))
    x, labels = x.chunk(size)[rank], labels.chunk(size)[rank]

    model = DistributedDataParallel(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = cross_entropy(model(x), labels)
        loss.backward()
        optimizer.step()
        loss = loss.detach()
        dist.all_reduce(loss)  # the sum of the shares' means
        losses.append(loss.item() / size)
        print(losses[-1])
    del model, optimizer, loss
    gc.collect()  # the wrapper keeps the group, whose threads have to end before Python does
    dist.destroy_process_group()
    return losses


if __name__ == "__main__":
    main()
