"""ResNet in JAX (Flax NNX).

Ported from PyTorch by twinax, whose parameters keep PyTorch's names and layouts. ``model.train()`` and
``model.eval()`` switch dropout and batch statistics, which the model updates in its own variables.
"""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax
from safetensors.numpy import load_file


def adaptive_avg_pool(x: Array, output_size: Sequence[int]) -> Array:
    """The mean of ``output_size`` parts of each dimension, that are as equal as can be and may overlap."""
    return x.mean(tuple(range(-len(output_size), 0)), keepdims=True)


def batch_norm_inference(
    input: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, eps: float
) -> Array:
    """(x − running mean) / √(running variance + eps) · weight + bias, of each channel (dimension 1)."""
    x = jnp.moveaxis(input, 1, -1)  # channels last
    y = (x - running_mean) * lax.rsqrt(running_var + eps) * weight + bias
    return jnp.moveaxis(y, -1, 1).astype(input.dtype)


def batch_norm_training(
    input: Array, weight: Array, bias: Array, running_mean: Array, running_var: Array, momentum: float,
    eps: float,
) -> tuple[Array, Array, Array]:
    """(x − mean) / √(variance + eps) · weight + bias, of each channel, and the new running statistics.

    The running variance takes the unbiased variance, the normalisation the biased one.
    """
    x = jnp.moveaxis(input.astype(jnp.promote_types(input.dtype, jnp.float32)), 1, -1)  # channels last
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axes)
    x = x - mean
    var = jnp.square(x).mean(axes)
    y = x * lax.rsqrt(var + eps) * weight + bias
    count = input.size // input.shape[1]
    mean, var = lax.stop_gradient((mean, var * count / (count - 1)))
    running_mean = ((1 - momentum) * running_mean + momentum * mean).astype(running_mean.dtype)
    running_var = ((1 - momentum) * running_var + momentum * var).astype(running_var.dtype)
    return jnp.moveaxis(y, -1, 1).astype(input.dtype), running_mean, running_var


def convolution(
    input: Array, weight: Array, stride: int | Sequence[int], padding: int | Sequence[int] | str,
    dilation: int | Sequence[int],
) -> Array:
    """Convolution of (N, C, …) or (C, …) with (O, C / groups, …), plus a bias for each of the O channels."""
    axes = weight.ndim - 2
    if set(weight.shape[2:]) == {1} and (not np.any(padding)):  # a product of matrices
        x = input[(..., *(slice(None, None, s) for s in np.broadcast_to(stride, axes)))]
        y = jnp.moveaxis(jnp.moveaxis(x, -axes - 1, -1) @ weight.reshape(weight.shape[:2]).T, -1, -axes - 1)
        return y
    pads = [(p, p) for p in np.broadcast_to(padding, axes).tolist()]
    y = lax.conv_general_dilated(
        input if input.ndim == weight.ndim else input[None],
        weight,
        window_strides=tuple(np.broadcast_to(stride, axes)),
        padding=pads,
        rhs_dilation=tuple(np.broadcast_to(dilation, axes)),
        feature_group_count=1,
    )
    return y if input.ndim == weight.ndim else y[0]


def windows(
    x: Array, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...], list[tuple[int, int]]]:
    """Window, strides and padding for all dimensions of x."""
    n, lead = len(kernel_size), x.ndim - len(kernel_size)
    stride = tuple(np.broadcast_to(stride or kernel_size, n).tolist())
    pads = [(p, p) for p in np.broadcast_to(padding, n).tolist()]
    return (1,) * lead + tuple(kernel_size), (1,) * lead + stride, [(0, 0)] * lead + pads


def max_pool(x: Array, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> Array:
    """The largest value in each window; among equal ones the first takes the gradient."""
    size, strides, pads = windows(x, kernel_size, stride, padding)
    lowest = -jnp.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
    return lax.reduce_window(x, lowest, lax.max, size, strides, pads)


class Conv2d(nnx.Module):
    """torch.nn.Conv2d."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, padding: int
    ) -> None:
        self.stride = stride
        self.padding = padding
        self.weight = nnx.Param(jnp.zeros((out_channels, in_channels, kernel_size, kernel_size)))

    def __call__(self, x: Array) -> Array:
        return convolution(
            x, self.weight[...], stride=(self.stride, self.stride), padding=(self.padding, self.padding),
            dilation=(1, 1),
        )


class BatchNorm2d(nnx.Module):
    """torch.nn.BatchNorm2d."""

    def __init__(self, num_features: int) -> None:
        self.weight = nnx.Param(jnp.zeros((num_features,)))
        self.bias = nnx.Param(jnp.zeros((num_features,)))
        self.running_mean = nnx.BatchStat(jnp.zeros((num_features,)))
        self.running_var = nnx.BatchStat(jnp.zeros((num_features,)))
        self.use_running_average = True

    def __call__(self, x: Array) -> Array:
        if self.use_running_average:
            x = batch_norm_inference(
                x, self.weight[...], self.bias[...], self.running_mean[...], self.running_var[...],
                eps=1e-05,
            )
            return x
        x, self.running_mean[...], self.running_var[...] = batch_norm_training(
            x, self.weight[...], self.bias[...], self.running_mean[...], self.running_var[...],
            momentum=0.1, eps=1e-05,
        )
        return x


class Linear(nnx.Module):
    """torch.nn.Linear."""

    def __init__(self, in_features: int, out_features: int) -> None:
        self.weight = nnx.Param(jnp.zeros((out_features, in_features)))
        self.bias = nnx.Param(jnp.zeros((out_features,)))

    def __call__(self, x: Array) -> Array:
        return x @ self.weight[...].T + self.bias[...]


class BottleneckWithDownsample(nnx.Module):
    """Bottleneck (timm/models/resnet.py, line 169)."""

    def __init__(self, stride: int, in_channels: int, out_channels: int, out_channels_2: int) -> None:
        self.conv1 = Conv2d(in_channels, out_channels, 1, 1, 0)
        self.bn1 = BatchNorm2d(out_channels)
        self.conv2 = Conv2d(out_channels, out_channels, 3, stride, 1)
        self.bn2 = BatchNorm2d(out_channels)
        self.conv3 = Conv2d(out_channels, out_channels_2, 1, 1, 0)
        self.bn3 = BatchNorm2d(out_channels_2)
        self.downsample = nnx.List(
            [Conv2d(in_channels, out_channels_2, 1, stride, 0), BatchNorm2d(out_channels_2)]
        )

    def __call__(self, x: Array) -> Array:
        x_2 = self.conv2(jax.nn.relu(self.bn1(self.conv1(x))))  # (batch, …, …, …)
        x_2 = self.bn3(self.conv3(jax.nn.relu(self.bn2(x_2))))  # (batch, …, …, …)
        shortcut = x
        for downsample in self.downsample:
            shortcut = downsample(shortcut)
        return jax.nn.relu(x_2 + shortcut)


class Bottleneck(nnx.Module):
    """Bottleneck (timm/models/resnet.py, line 169)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        self.conv1 = Conv2d(in_channels, out_channels, 1, 1, 0)
        self.bn1 = BatchNorm2d(out_channels)
        self.conv2 = Conv2d(out_channels, out_channels, 3, 1, 1)
        self.bn2 = BatchNorm2d(out_channels)
        self.conv3 = Conv2d(out_channels, in_channels, 1, 1, 0)
        self.bn3 = BatchNorm2d(in_channels)

    def __call__(self, x: Array) -> Array:
        x_2 = self.conv2(jax.nn.relu(self.bn1(self.conv1(x))))  # (batch, …, …, …)
        x_2 = self.bn3(self.conv3(jax.nn.relu(self.bn2(x_2))))  # (batch, …, …, …)
        return jax.nn.relu(x_2 + x)


class ResNet(nnx.Module):
    """ResNet (timm/models/resnet.py, line 452)."""

    def __init__(self) -> None:
        self.conv1 = Conv2d(3, 64, 7, 2, 3)
        self.bn1 = BatchNorm2d(64)
        self.layer1 = nnx.List(
            [BottleneckWithDownsample(1, 64, 64, 256), *(Bottleneck(256, 64) for _ in range(2))]
        )
        self.layer2 = nnx.List(
            [BottleneckWithDownsample(2, 256, 128, 512), *(Bottleneck(512, 128) for _ in range(3))]
        )
        self.layer3 = nnx.List(
            [BottleneckWithDownsample(2, 512, 256, 1024), *(Bottleneck(1024, 256) for _ in range(5))]
        )
        self.layer4 = nnx.List(
            [BottleneckWithDownsample(2, 1024, 512, 2048), *(Bottleneck(2048, 512) for _ in range(2))]
        )
        self.fc = Linear(2048, 1000)

    def __call__(self, x: Array) -> Array:
        x = jax.nn.relu(self.bn1(self.conv1(x)))  # (batch, 64, 112, 112)
        x = max_pool(x, (3, 3), stride=(2, 2), padding=(1, 1))  # (batch, 64, 56, 56)
        for layer in self.layer1:
            x = layer(x)
        for layer in self.layer2:
            x = layer(x)
        for layer in self.layer3:
            x = layer(x)
        for layer in self.layer4:
            x = layer(x)
        x = adaptive_avg_pool(x, (1, 1))  # (batch, 2048, 1, 1)
        return self.fc(x.reshape(x.shape[0], 2048))


def build() -> ResNet:
    """The model with all weights zero, in eval mode."""
    model = ResNet()
    model.eval()
    return model


def load(path: str | Path) -> ResNet:
    """The model with the weights of a safetensors file, in their dtype."""
    model, weights = build(), load_file(path)
    state = nnx.state(model, (nnx.Param, nnx.BatchStat))
    for names, variable in nnx.to_flat_state(state):
        variable.set_value(jnp.asarray(weights[".".join(map(str, names))]))
    nnx.update(model, state)
    return model
