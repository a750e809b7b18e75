"""Twin ``resnet50``: torchvision's ResNet-50 v1.5."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from twinax.data import photographs
from twinax.records import Size
from twinax.twin import Arrays, Config, Twin

# ImageNet's classes of the two photographs: palace, and daisy (the closest to a dahlia).
LABELS = (698, 985)


def layers(config: Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(name, weight shape) of each layer in forward order; a shape of length 1 is a BatchNorm's."""
    width, channels = int(config["width"]), int(config["width"])
    yield "conv1", (width, 3, 7, 7)
    yield "bn1", (width,)
    for stage, blocks in enumerate(config["blocks"]):
        narrow = width * 2**stage
        for block in range(blocks):
            path = f"layer{stage + 1}.{block}"
            shapes = [(narrow, channels, 1, 1), (narrow, narrow, 3, 3), (4 * narrow, narrow, 1, 1)]
            for i, shape in enumerate(shapes, start=1):
                yield f"{path}.conv{i}", shape
                yield f"{path}.bn{i}", shape[:1]
            if block == 0:
                yield f"{path}.downsample.0", (4 * narrow, channels, 1, 1)
                yield f"{path}.downsample.1", (4 * narrow,)
            channels = 4 * narrow
    yield "fc", (int(config["classes"]), channels)


def init(config: Config, seed: int) -> Arrays:
    """Initial weights as torchvision draws them, from NumPy.

    Convolutions: normal with deviation √(2 / fan-out) (He et al., arXiv:1502.01852); BatchNorm: scale 1,
    shift 0; the classifier: uniform in ±1/√inputs.
    """
    rng = np.random.default_rng(seed)
    weights: Arrays = {}
    for name, shape in layers(config):
        if len(shape) == 1:
            ones, zeros = np.ones(shape, np.float32), np.zeros(shape, np.float32)
            weights |= {f"{name}.weight": ones, f"{name}.bias": zeros}
            weights |= {f"{name}.running_mean": zeros.copy(), f"{name}.running_var": ones.copy()}
        elif len(shape) == 4:
            fan_out = shape[0] * shape[2] * shape[3]
            drawn = rng.standard_normal(shape, dtype=np.float32)
            weights[f"{name}.weight"] = drawn * np.float32(math.sqrt(2 / fan_out))
        else:
            bound = 1 / math.sqrt(shape[1])
            weights[f"{name}.weight"] = rng.uniform(-bound, bound, shape).astype(np.float32)
            weights[f"{name}.bias"] = rng.uniform(-bound, bound, shape[:1]).astype(np.float32)
    return weights


def batches(config: Config, size: Size, seed: int, count: int) -> list[Arrays]:
    """Crops of photographs; labels beyond the configured classes wrap around."""
    labels = [label % int(config["classes"]) for label in LABELS]
    return photographs.batches(size.batch, size.dims["image"], labels, seed, count)


TWINS = (
    Twin(
        name="resnet50",
        title="ResNet-50 v1.5, image classification (He et al., arXiv:1512.03385; torchvision's names)",
        sides={"torch": "twinax.zoo.resnet50.torch_model", "jax": "twinax.zoo.resnet50.jax_model"},
        config={"blocks": [3, 4, 6, 3], "width": 64, "classes": 1000},
        init=init,
        batches=batches,
        inputs=("images",),
        presets={
            "parity": Size(batch=4, dims={"image": 96}),
            "parity_quick": Size(batch=2, dims={"image": 64}),
            "speed": Size(batch=8, dims={"image": 224}),
            "speed_quick": Size(batch=2, dims={"image": 224}),
        },
        channels_last=True,
        notes=(
            "Images are NCHW on the torch side and NHWC on the JAX side, which is what each library is laid "
            "out for; they are moved before the clock starts.",
        ),
    ),
)
