"""torchvision beside another build of torch than its own. Imports torch: only torch workers import this."""

from __future__ import annotations

import importlib.util

import torch

_LIBRARY = torch.library.Library("torchvision", "FRAGMENT")


def define() -> None:
    """Make torchvision importable where its own operators are absent.

    They are built against one build of torch; importing it (which timm and transformers do) needs no more of
    them than that two names are known.
    """
    if importlib.util.find_spec("torchvision") and not hasattr(torch.ops.torchvision, "nms"):
        _LIBRARY.define("nms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
        _LIBRARY.define("qnms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
