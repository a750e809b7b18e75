"""ResNet-50 v1.5 in JAX (Flax NNX), with torchvision's module names. Images are NHWC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array


@dataclass(frozen=True)
class Config:
    """Blocks in each of the four stages, channels of the first stage, classes."""

    blocks: tuple[int, ...]
    width: int
    classes: int


class BatchNorm(nnx.Module):
    """Ioffe & Szegedy, arXiv:1502.03167, with torch's conventions.

    Train mode normalises with the batch's biased variance, and moves the running variance towards the
    *unbiased* one; ``nnx.BatchNorm`` would move it towards the biased one. ``train()`` and ``eval()``
    of the model set ``use_running_average``.
    """

    def __init__(self, features: int, *, eps: float, momentum: float) -> None:
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))
        self.eps, self.momentum = eps, momentum
        self.use_running_average = False

    def __call__(self, x: Array) -> Array:
        # (batch, h, w, features); bfloat16 is too coarse to sum up a batch in
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        if self.use_running_average:
            mean, var = self.mean[...], self.var[...]
        else:
            mean = wide.mean(axis=(0, 1, 2))
            var = jnp.square(wide - mean).mean(axis=(0, 1, 2))
            count = x.size // x.shape[-1]
            self._move(self.mean, mean)
            self._move(self.var, var * (count / (count - 1)))
        y = (wide - mean) * (jax.lax.rsqrt(var + self.eps) * self.scale[...]) + self.bias[...]
        return y.astype(x.dtype)

    def _move(self, running: nnx.BatchStat, batch: Array) -> None:
        old = running[...]
        moved = (1 - self.momentum) * old + self.momentum * jax.lax.stop_gradient(batch)
        running[...] = moved.astype(old.dtype)


def conv(channels: int, features: int, size: int, *, stride: int = 1, padding: int = 0) -> nnx.Conv:
    """A square convolution without bias, padded with zeros on every side as torch does.

    Weights start at zero since they are always put in place from outside: drawing them would cost
    seconds of compilation.
    """
    return nnx.Conv(
        channels,
        features,
        kernel_size=(size, size),
        strides=stride,
        padding=((padding, padding), (padding, padding)),
        use_bias=False,
        kernel_init=nnx.initializers.zeros_init(),
        rngs=nnx.Rngs(0),
    )


class Bottleneck(nnx.Module):
    """1×1 narrows, 3×3 works (and strides), 1×1 widens fourfold; the input is added."""

    def __init__(self, channels: int, width: int, stride: int, shortcut: bool) -> None:
        self.conv1 = conv(channels, width, 1)
        self.bn1 = BatchNorm(width, eps=1e-5, momentum=0.1)
        self.conv2 = conv(width, width, 3, stride=stride, padding=1)
        self.bn2 = BatchNorm(width, eps=1e-5, momentum=0.1)
        self.conv3 = conv(width, 4 * width, 1)
        self.bn3 = BatchNorm(4 * width, eps=1e-5, momentum=0.1)
        self.shortcut = shortcut
        if shortcut:
            self.downsample = nnx.List(
                [
                    conv(channels, 4 * width, 1, stride=stride),
                    BatchNorm(4 * width, eps=1e-5, momentum=0.1),
                ]
            )

    def __call__(self, x: Array) -> Array:
        # (batch, h, w, channels)
        y = jax.nn.relu(self.bn1(self.conv1(x)))  # (batch, h, w, width)
        y = jax.nn.relu(self.bn2(self.conv2(y)))  # (batch, h / stride, w / stride, width)
        y = self.bn3(self.conv3(y))  # (batch, h / stride, w / stride, 4 width)
        if self.shortcut:
            conv, bn = self.downsample
            x = bn(conv(x))  # (batch, h / stride, w / stride, 4 width)
        return jax.nn.relu(y + x)


class ResNet(nnx.Module):
    """A stem, four stages of blocks, a mean over the image, and a linear classifier."""

    def __init__(self, config: Config, *, rngs: nnx.Rngs) -> None:
        width = config.width
        self.conv1 = conv(3, width, 7, stride=2, padding=3)
        self.bn1 = BatchNorm(width, eps=1e-5, momentum=0.1)
        self.layer1 = stage(width, width, config.blocks[0], stride=1)
        self.layer2 = stage(4 * width, 2 * width, config.blocks[1], stride=2)
        self.layer3 = stage(8 * width, 4 * width, config.blocks[2], stride=2)
        self.layer4 = stage(16 * width, 8 * width, config.blocks[3], stride=2)
        self.fc = nnx.Linear(32 * width, config.classes, rngs=rngs)

    def __call__(self, images: Array) -> Array:
        # images: (batch, h, w, 3)
        x = jax.nn.relu(self.bn1(self.conv1(images)))  # (batch, h/2, w/2, 64)
        pad = ((1, 1), (1, 1))
        x = nnx.max_pool(x, (3, 3), strides=(2, 2), padding=pad)  # type: ignore[arg-type]  # (batch, h/4, w/4, 64)
        for blocks in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in blocks:
                x = block(x)  # (batch, h/4, w/4, 256) … (batch, h/32, w/32, 2048)
        x = x.mean(axis=(1, 2))  # (batch, 2048)
        return self.fc(x)  # (batch, classes)


def stage(channels: int, width: int, blocks: int, stride: int) -> nnx.List:
    """Blocks of one width; the first one strides and changes the channels, so it needs a shortcut."""
    first = Bottleneck(channels, width, stride, shortcut=True)
    others = [Bottleneck(4 * width, width, 1, shortcut=False) for _ in range(blocks - 1)]
    return nnx.List([first, *others])


def loss(outputs: Array, batch: Mapping[str, Array]) -> Array:
    """Mean cross-entropy: −log softmax(logits) at the label."""
    log_p = jax.nn.log_softmax(outputs, axis=-1)  # (batch, classes)
    return -jnp.take_along_axis(log_p, batch["labels"][:, None], axis=1).mean()


def build(config: Mapping[str, Any]) -> ResNet:
    """The network, with its weights still to be put in place."""
    return ResNet(Config(tuple(config["blocks"]), config["width"], config["classes"]), rngs=nnx.Rngs(0))
