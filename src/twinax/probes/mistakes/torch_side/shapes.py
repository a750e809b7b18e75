"""Mistakes with shapes, axes and indices, in PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from twinax.probes.mistakes.base import COLUMN, IMAGE, KEEP, LABELS, LOGITS, TOKENS, X


def column_in_a_loss(mistake: bool) -> Tensor:
    told = torch.tensor(COLUMN)
    return functional.mse_loss(told if mistake else told[:, 0], torch.tensor(X))


def column_by_hand(mistake: bool) -> Tensor:
    told = torch.tensor(COLUMN)
    return (((told if mistake else told[:, 0]) - torch.tensor(X)) ** 2).mean()


def layout_swapped(mistake: bool) -> Tensor:
    images = torch.tensor(IMAGE)
    kernel = torch.ones(1, 3, 2, 2)
    return functional.conv2d(images if mistake else images.permute(0, 3, 1, 2), kernel)


def reshape_for_transpose(mistake: bool) -> Tensor:
    images = torch.tensor(IMAGE)
    return images.reshape(2, 3, 4, 5) if mistake else images.permute(0, 3, 1, 2)


def softmax_axis(mistake: bool) -> Tensor:
    scores = torch.tensor(LOGITS)[:, :, None].expand(2, 3, 2)
    return functional.softmax(scores) if mistake else functional.softmax(scores, dim=1)


def batch_flattened(mistake: bool) -> Tensor:
    images = torch.tensor(IMAGE)
    return (images.reshape(-1) if mistake else images.reshape(2, -1)) @ torch.ones(60, 1)


def index_out_of_bounds(mistake: bool) -> Tensor:
    return torch.tensor(X)[3 if mistake else 1]


def label_out_of_range(mistake: bool) -> Tensor:
    labels = torch.tensor(LABELS) + (2 if mistake else 0)
    return functional.cross_entropy(torch.tensor(LOGITS), labels)


def padding_counted(mistake: bool) -> Tensor:
    labels = torch.tensor([LABELS[0], -1 if mistake else -100])
    return functional.cross_entropy(torch.tensor(LOGITS), labels)


def mask_inverted(mistake: bool) -> Tensor:
    q = torch.tensor(TOKENS).transpose(1, 2)
    keep = torch.tensor(KEEP)[None, None, None]
    return functional.scaled_dot_product_attention(q, q, q, attn_mask=~keep if mistake else keep).transpose(
        1, 2
    )


def sizes_differ(mistake: bool) -> Tensor:
    return torch.tensor(IMAGE).sum((0, 1)) @ torch.ones(5 if mistake else 3, 2)


PROGRAMS = {
    "(N, 1) against (N,) in the library's loss": column_in_a_loss,
    "(N, 1) against (N,) by hand": column_by_hand,
    "layout swapped": layout_swapped,
    "reshape instead of transpose": reshape_for_transpose,
    "softmax over another axis": softmax_axis,
    "batch flattened too": batch_flattened,
    "index out of bounds": index_out_of_bounds,
    "label out of range": label_out_of_range,
    "padding counted in the loss": padding_counted,
    "attention mask inverted": mask_inverted,
    "sizes that do not fit": sizes_differ,
}
CANNOT: dict[str, str] = {}
