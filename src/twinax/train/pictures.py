"""Small pictures of predictions, for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw

from twinax.twin import Array

SIZE, MARGIN = 360, 40
INK, GREY, BLUE, ORANGE = (40, 40, 40), (190, 190, 190), (31, 119, 180), (255, 127, 14)
MOST = 2000  # points of a scatter


def of_predictions(outputs: Mapping[str, Array], batch: Mapping[str, Array]) -> dict[str, Array]:
    """Pictures by name: predicted over true values where an output has a target of its name; else, where there
    are labels of two classes, how the probability of class 1 is distributed over each."""
    made = {}
    for name, output in outputs.items():
        target = batch.get(name)
        if target is not None and target.shape == output.shape and np.issubdtype(target.dtype, np.floating):
            made[f"predictions/{name}"] = scatter(target.ravel(), output.ravel(), name)
    labels, probability = batch.get("labels"), outputs.get("probability")
    if labels is not None and probability is not None and set(np.unique(labels)) <= {0, 1}:
        positive = probability[:, 1] if probability.ndim == 2 and probability.shape[1] == 2 else probability
        if positive.size == labels.size:
            made["predictions/probability"] = histogram(positive.ravel(), labels.ravel())
    return made


def scatter(x: Array, y: Array, name: str) -> Array:
    """Points (true, predicted) with the diagonal: (360, 360, 3) uint8."""
    picture, draw = _blank(f"{name}: predicted (up) over true")
    x, y = x[:MOST], y[:MOST]
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    scale = (SIZE - 2 * MARGIN) / ((high - low) or 1.0)

    def place(a: float, b: float) -> tuple[float, float]:
        return MARGIN + (a - low) * scale, SIZE - MARGIN - (b - low) * scale

    draw.line([place(low, low), place(high, high)], fill=GREY)
    for a, b in zip(x, y, strict=True):
        h, v = place(float(a), float(b))
        draw.ellipse([h - 1.5, v - 1.5, h + 1.5, v + 1.5], fill=BLUE)
    draw.text((MARGIN, SIZE - MARGIN + 6), f"{low:.3g}", fill=INK)
    draw.text((SIZE - MARGIN - 30, SIZE - MARGIN + 6), f"{high:.3g}", fill=INK)
    return np.asarray(picture)


def histogram(probability: Array, labels: Array, bins: int = 20) -> Array:
    """Shares of each class by predicted probability of class 1: (360, 360, 3) uint8."""
    picture, draw = _blank("probability of class 1: class 0 blue, class 1 orange")
    room = SIZE - 2 * MARGIN
    shares = [np.histogram(probability[labels == c], bins, (0, 1))[0] for c in (0, 1)]
    parts = [share / max(share.sum(), 1) for share in shares]
    highest = max(float(part.max()) for part in parts) or 1.0
    for c, (part, colour) in enumerate(zip(parts, (BLUE, ORANGE), strict=True)):
        for i, share in enumerate(part):
            left = MARGIN + (i + 0.45 * c) * room / bins
            top = SIZE - MARGIN - float(share) / highest * room
            draw.rectangle([left, top, left + 0.4 * room / bins, SIZE - MARGIN], fill=colour)
    for value in (0, 0.5, 1):
        draw.text((MARGIN + value * room - 6, SIZE - MARGIN + 6), f"{value}", fill=INK)
    return np.asarray(picture)


def _blank(title: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", (SIZE, SIZE), "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle([MARGIN, MARGIN, SIZE - MARGIN, SIZE - MARGIN], outline=GREY)
    draw.text((MARGIN, 14), title, fill=INK)
    return picture, draw
