"""Public PyTorch implementations of the zoo's models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from twinax.sources.torch_only import torchvision_operators

torchvision_operators.define()  # timm and transformers import torchvision where it is installed


def prepare(
    implementation: str, config: Mapping[str, Any], batches: Sequence[Mapping[str, np.ndarray]], program: str
) -> Callable[[int], None]:
    """``call(i)``: forward in eval mode, or loss and gradient in train mode, on batch i."""
    model = BUILD[implementation](config).train(program == "grad")
    data = [{name: torch.from_numpy(array) for name, array in batch.items()} for batch in batches]

    def outputs(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        if "images" in batch:
            return model(batch["images"])
        return model(**{name: value for name, value in batch.items() if name != "labels"}).logits

    def forward(i: int) -> None:
        with torch.no_grad():
            outputs(data[i % len(data)])

    def grad(i: int) -> None:
        batch = data[i % len(data)]
        model.zero_grad()
        functional.cross_entropy(outputs(batch), batch["labels"]).backward()

    return {"forward": forward, "grad": grad}[program]


def _timm(config: Mapping[str, Any]) -> torch.nn.Module:
    import timm

    return timm.create_model("resnet50", num_classes=config["classes"])


def _torchvision(config: Mapping[str, Any]) -> torch.nn.Module:
    import torchvision

    return torchvision.models.resnet50(num_classes=config["classes"])


def _transformers(config: Mapping[str, Any]) -> torch.nn.Module:
    import transformers

    known = {name: value for name, value in config.items() if name not in ("num_labels", "tokenizer")}
    stated = transformers.BertConfig(**known, num_labels=config["num_labels"])
    return transformers.BertForSequenceClassification(stated)


BUILD = {"timm": _timm, "torchvision": _torchvision, "transformers": _transformers}
