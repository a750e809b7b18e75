"""``timm:NAME``: a model of pytorch-image-models with random weights. Run only in a worker."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from twinax.errors import BadInput, FrameworkMissing, UnknownTwin
from twinax.sources.torch_only.base import Request, TorchSource, for_parameters, seeded
from twinax.sources.torch_only.inputs import BATCH, Input, parse

if TYPE_CHECKING:
    from torch import nn


def resolve(name: str, request: Request) -> TorchSource:
    """The model of that name, at its own input size.

    Raises:
        FrameworkMissing: timm, or torchvision, which it imports, is not installed.
        UnknownTwin: timm knows no such model.
    """
    from twinax.sources.torch_only import torchvision_operators

    torchvision_operators.define()
    try:
        import timm
    except ModuleNotFoundError as error:
        raise FrameworkMissing(
            f"timm cannot be imported here: {error}.", "Install it with: pip install timm torchvision"
        ) from error
    model = name.partition(":")[2]
    if not timm.is_model(model):
        close = difflib.get_close_matches(model, timm.list_models(), n=3)
        raise UnknownTwin(
            f"timm knows no model called '{model}'.",
            f"Did you mean {' or '.join(close)}?" if close else "timm.list_models() lists them.",
        )

    def make() -> nn.Module:
        return timm.create_model(model, pretrained=False)

    try:
        made = seeded(make, 0)
    except (RuntimeError, ImportError) as error:
        raise BadInput(f"timm cannot make {model}: {error}", "Choose another model.") from error
    size = tuple(map(int, made.pretrained_cfg["input_size"]))  # type: ignore[arg-type,index]
    stated = parse(request.input) or (Input("x", (BATCH, *size)),)
    where = f"timm {timm.__version__}"
    return TorchSource(
        name, f"{model} of {where}", lambda seed: seeded(make, seed), for_parameters(stated, made, where), where
    )
