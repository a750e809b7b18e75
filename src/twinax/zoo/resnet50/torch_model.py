"""ResNet-50 v1.5 in PyTorch, with torchvision's parameter names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Config:
    """Blocks in each of the four stages, channels of the first stage, classes."""

    blocks: tuple[int, ...]
    width: int
    classes: int


class Bottleneck(nn.Module):
    """1×1 narrows, 3×3 works (and strides), 1×1 widens fourfold; the input is added."""

    def __init__(self, channels: int, width: int, stride: int, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width, eps=1e-5, momentum=0.1)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width, eps=1e-5, momentum=0.1)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width, eps=1e-5, momentum=0.1)
        self.shortcut = shortcut
        if shortcut:
            self.downsample = nn.ModuleList(
                [
                    nn.Conv2d(channels, 4 * width, 1, stride=stride, bias=False),
                    nn.BatchNorm2d(4 * width, eps=1e-5, momentum=0.1),
                ]
            )

    def forward(self, x: Tensor) -> Tensor:
        # (batch, channels, h, w)
        y = torch.relu(self.bn1(self.conv1(x)))  # (batch, width, h, w)
        y = torch.relu(self.bn2(self.conv2(y)))  # (batch, width, h / stride, w / stride)
        y = self.bn3(self.conv3(y))  # (batch, 4 width, h / stride, w / stride)
        if self.shortcut:
            conv, bn = self.downsample
            x = bn(conv(x))  # (batch, 4 width, h / stride, w / stride)
        return torch.relu(y + x)


class ResNet(nn.Module):
    """A stem, four stages of blocks, a mean over the image, and a linear classifier."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width, eps=1e-5, momentum=0.1)
        self.layer1 = stage(width, width, config.blocks[0], stride=1)
        self.layer2 = stage(4 * width, 2 * width, config.blocks[1], stride=2)
        self.layer3 = stage(8 * width, 4 * width, config.blocks[2], stride=2)
        self.layer4 = stage(16 * width, 8 * width, config.blocks[3], stride=2)
        self.fc = nn.Linear(32 * width, config.classes)

    def forward(self, images: Tensor) -> Tensor:
        # images: (batch, 3, h, w)
        x = torch.relu(self.bn1(self.conv1(images)))  # (batch, 64, h/2, w/2)
        x = functional.max_pool2d(x, 3, stride=2, padding=1)  # (batch, 64, h/4, w/4)
        for blocks in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in blocks:
                x = block(x)  # (batch, 256, h/4, w/4) … (batch, 2048, h/32, w/32)
        x = x.mean(dim=(2, 3))  # (batch, 2048)
        return self.fc(x)  # (batch, classes)


def stage(channels: int, width: int, blocks: int, stride: int) -> nn.ModuleList:
    """Blocks of one width; the first one strides and changes the channels, so it needs a shortcut."""
    first = Bottleneck(channels, width, stride, shortcut=True)
    others = [Bottleneck(4 * width, width, 1, shortcut=False) for _ in range(blocks - 1)]
    return nn.ModuleList([first, *others])


def loss(outputs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Mean cross-entropy: −log softmax(logits) at the label."""
    log_p = torch.log_softmax(outputs, dim=-1)  # (batch, classes)
    return -log_p.gather(1, batch["labels"][:, None]).mean()


def build(config: Mapping[str, Any]) -> ResNet:
    """The network, with torch's own initial weights."""
    return ResNet(Config(tuple(config["blocks"]), config["width"], config["classes"]))
