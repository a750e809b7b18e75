"""BatchNorm that normalises with the statistics of all ranks' shares together.

On CUDA that is ``torch.nn.SyncBatchNorm``; it has no CPU kernels, so there the same two collectives are
written out: one gather of each share's mean and variance, and in the backward pass one sum.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from twinax.errors import CellFailed

KNOWN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def layers(model: nn.Module) -> list[tuple[str, _BatchNorm]]:
    """Every BatchNorm with its path."""
    return [(path, layer) for path, layer in model.named_modules() if isinstance(layer, _BatchNorm)]


def synchronise(model: nn.Module, group: dist.ProcessGroup, device: torch.device) -> nn.Module:
    """The model with every BatchNorm over the group's whole batch (all shares are of one size).

    Raises:
        CellFailed: ``unsupported``; a class of BatchNorm of its own, whose forward pass is not known.
    """
    found = layers(model)
    for path, layer in found:
        if type(layer) not in KNOWN:
            raise CellFailed(
                "unsupported",
                f"{path} is a {type(layer).__name__}, a BatchNorm of its own: what else it computes would be "
                "lost where torch's BatchNorm over all ranks took its place.",
                "Use nn.BatchNorm1d, 2d or 3d in the model.",
            )
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model, group)
    for _, layer in found:
        layer.forward = functools.partial(_forward, layer, group)  # type: ignore[method-assign]
    return model


def _forward(layer: _BatchNorm, group: dist.ProcessGroup, x: Tensor) -> Tensor:
    """Train mode, (batch, channels, …): y = (x − mean) / √(var + ε) · weight + bias, as ``layer`` would."""
    y, mean, variance = _Normalise.apply(x, layer.weight, layer.bias, layer.eps, group)
    if layer.running_mean is None or layer.running_var is None or layer.num_batches_tracked is None:
        return y  # it keeps no statistics
    count = x.numel() // x.shape[1] * group.size()
    with torch.no_grad():
        layer.num_batches_tracked.add_(1)
        kept = 1.0 / float(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
        layer.running_mean.lerp_(mean, kept)
        layer.running_var.lerp_(variance * (count / (count - 1)), kept)  # unbiased over all shares
    return y


class _Normalise(torch.autograd.Function):
    """Ioffe & Szegedy, arXiv:1502.03167, with the sums taken over every rank."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, group: dist.ProcessGroup
    ) -> tuple[Tensor, Tensor, Tensor]:
        variance, mean = torch.var_mean(x, _but_channels(x), correction=0)
        parts = [torch.empty(2, len(mean), dtype=x.dtype) for _ in range(group.size())]
        dist.all_gather(parts, torch.stack([mean, variance]), group)
        means, variances = torch.stack(parts).unbind(1)  # (ranks, channels)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)  # of shares of one size
        ctx.group = group
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(variance + eps))
        ctx.mark_non_differentiable(mean, variance)
        return functional.batch_norm(x, mean, variance, weight, bias, eps=eps), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, deviation = ctx.saved_tensors  # deviation: 1 / √(var + ε)
        dy = gradients[0]
        one = (1, -1, *(1 for _ in x.shape[2:]))
        x_hat = (x - mean.view(one)) * deviation.view(one)
        own = torch.stack([dy.sum(_but_channels(x)), (dy * x_hat).sum(_but_channels(x))])  # (2, channels)
        d_bias, d_weight = own.clone().unbind()  # each rank's own: they are averaged with all other gradients
        dist.all_reduce(own, group=ctx.group)
        mean_dy, mean_dy_x = own / (x.numel() // x.shape[1] * ctx.group.size())
        dx = (dy - mean_dy.view(one) - x_hat * mean_dy_x.view(one)) * deviation.view(one)
        if weight is None:
            return dx, None, None, None, None
        return dx * weight.view(one), d_weight, d_bias, None, None


def _but_channels(x: Tensor) -> list[int]:
    return [axis for axis in range(x.dim()) if axis != 1]
