"""Public JAX implementations of the zoo's models (Keras on its JAX backend)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import keras
import numpy as np
import optax


def prepare(
    implementation: str, config: Mapping[str, Any], batches: Sequence[Mapping[str, np.ndarray]], program: str
) -> Callable[[int], None]:
    """``call(i)``: forward without training, or loss and gradient with it, on batch i; both under jit."""
    model = BUILD[implementation](config)
    data = [{name: jnp.asarray(array) for name, array in _inputs(batch).items()} for batch in batches]
    labels = [jnp.asarray(batch["labels"]) for batch in batches]
    weights = [variable.value for variable in model.trainable_variables]
    state = [variable.value for variable in model.non_trainable_variables]

    def outputs(weights: Any, state: Any, batch: Any, training: bool) -> Any:
        return model.stateless_call(weights, state, batch.get("images", batch), training=training)

    def objective(weights: Any, state: Any, batch: Any, labels: Any) -> Any:
        logits, state = outputs(weights, state, batch, True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), state

    run = jax.jit(lambda w, s, b: outputs(w, s, b, False)[0])
    differentiate = jax.jit(jax.value_and_grad(objective, has_aux=True))

    def forward(i: int) -> None:
        jax.block_until_ready(run(weights, state, data[i % len(data)]))

    def grad(i: int) -> None:
        k = i % len(data)
        jax.block_until_ready(differentiate(weights, state, data[k], labels[k]))

    return {"forward": forward, "grad": grad}[program]


def _inputs(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if "images" in batch:
        return {"images": np.moveaxis(batch["images"], 1, -1).copy()}  # (batch, h, w, 3)
    names = {"token_ids": "input_ids", "padding_mask": "attention_mask", "segment_ids": "token_type_ids"}
    return {theirs: batch[ours] for theirs, ours in names.items()}


def _keras(config: Mapping[str, Any]) -> Any:
    return keras.applications.ResNet50(weights=None, classes=config["classes"], classifier_activation=None)


def _keras_hub(config: Mapping[str, Any]) -> Any:
    import keras_hub

    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=config["vocab_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        hidden_dim=config["hidden_size"],
        intermediate_dim=config["intermediate_size"],
        max_sequence_length=config["max_position_embeddings"],
    )
    return keras_hub.models.BertTextClassifier(backbone, num_classes=config["num_labels"], preprocessor=None)


BUILD = {"keras": _keras, "keras-hub": _keras_hub}
