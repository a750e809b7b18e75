"""Batches of real photographs: random crops of the two that scikit-learn ships.

``china.jpg`` (the Summer Palace in Beijing) and ``flower.jpg`` (a dahlia), 640 × 427 pixels, in
``sklearn.datasets.images``; CC BY 2.0, the authors are named there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from PIL import Image

from twinax.data import shipped
from twinax.twin import Array, Arrays

FILES = ("china.jpg", "flower.jpg")

# Mean and standard deviation of ImageNet's channels, on a scale of 0 to 1: what the published
# checkpoints were trained with.
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)


def batches(batch: int, image: int, labels: Sequence[int], seed: int, count: int) -> list[Arrays]:
    """``count`` batches of crops, each drawn anew.

    Args:
        batch: Examples per batch.
        image: Height and width in pixels.
        labels: Class of each file of :data:`FILES`.
        seed: The same seed gives the same bytes.
        count: Number of batches.

    Returns:
        ``images`` (batch, 3, image, image) float32, normalised; ``labels`` (batch,) int64.
    """
    rng = np.random.default_rng([seed, 0x1A])
    made = []
    for _ in range(count):
        chosen = rng.integers(0, len(FILES), batch)
        crops = np.stack([_crop(_photograph(FILES[file]), image, rng) for file in chosen])
        made.append({"images": crops, "labels": np.asarray(labels, dtype=np.int64)[chosen]})
    return made


@cache
def _photograph(file: str) -> Image.Image:
    return Image.open(shipped.file("images", file)).convert("RGB")


def _crop(photograph: Image.Image, size: int, rng: np.random.Generator) -> Array:
    """A random part of 8 to 100 % of the area, resized, mirrored half of the time: (3, size, size).

    The usual augmentation for ImageNet (Szegedy et al., arXiv:1409.4842, section 6).
    """
    width, height = photograph.size
    area = width * height * rng.uniform(0.08, 1.0)
    aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
    w = min(width, math.sqrt(area * aspect))
    h = min(height, math.sqrt(area / aspect))
    left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
    part = photograph.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + w, top + h))
    pixels = np.asarray(part, dtype=np.float32) / 255  # (size, size, 3)
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(((pixels - MEAN) / DEVIATION).transpose(2, 0, 1))
