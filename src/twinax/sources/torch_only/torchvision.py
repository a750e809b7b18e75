"""``torchvision:NAME``: a classifier of torchvision with random weights. Run only in a worker."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from twinax.errors import FrameworkMissing, UnknownTwin
from twinax.sources.torch_only.base import Request, TorchSource, for_parameters, seeded
from twinax.sources.torch_only.inputs import BATCH, Input, parse

if TYPE_CHECKING:
    from torch import nn

IMAGE = 224


def resolve(name: str, request: Request) -> TorchSource:
    """The model of that name, at the size of the pictures that its published weights were trained on.

    Raises:
        FrameworkMissing: torchvision is not installed.
        UnknownTwin: torchvision knows no such model.
    """
    from twinax.sources.torch_only import torchvision_operators

    torchvision_operators.define()
    try:
        import torchvision  # type: ignore[import-not-found]
    except ModuleNotFoundError as error:
        raise FrameworkMissing(
            f"torchvision cannot be imported here: {error}.", "Install it with: pip install torchvision"
        ) from error
    model, known = name.partition(":")[2], torchvision.models.list_models(module=torchvision.models)
    if model not in known:
        close = difflib.get_close_matches(model, known, n=3)
        raise UnknownTwin(
            f"torchvision.models knows no model called '{model}'.",
            f"Did you mean {' or '.join(close)}?" if close else "torchvision.models.list_models() lists them.",
        )

    def make() -> nn.Module:
        return torchvision.models.get_model(model, weights=None)

    made, where = seeded(make, 0), f"torchvision {torchvision.__version__}"
    stated = parse(request.input) or (Input("x", (BATCH, 3, *_size(torchvision.models, model))),)
    return TorchSource(
        name, f"{model} of {where}", lambda seed: seeded(make, seed), for_parameters(stated, made, where), where
    )


def _size(models: object, model: str) -> tuple[int, int]:
    """Height and width of the pictures that the published weights take."""
    weights = list(models.get_model_weights(model))  # type: ignore[attr-defined]
    crop = getattr(weights[0].transforms(), "crop_size", [IMAGE]) if weights else [IMAGE]
    return (crop[0], crop[0])
