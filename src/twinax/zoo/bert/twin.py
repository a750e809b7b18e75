"""Twins ``bert`` (a classifier of sequences) and ``bert/encoder``: Hugging Face's BERT."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from twinax.data import text
from twinax.errors import WeightsError
from twinax.records import Size
from twinax.twin import Arrays, Config, Twin
from twinax.weights.checkpoint import CONFIG_FILE, read_json

# What a config.json may state, with the sizes of BERT-base (Devlin et al., arXiv:1810.04805).
BASE: Config = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "classifier_dropout": None,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}

# Settings of other models that share the name; this twin has only the usual ones.
FIXED = {
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}
ACTIVATIONS = ("gelu", "gelu_new", "relu")


def shapes(config: Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(name, shape) of every weight, in Hugging Face's names and order."""
    width, wide = int(config["hidden_size"]), int(config["intermediate_size"])
    base = "bert." if config["num_labels"] else ""

    def linear(name: str, outputs: int, inputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (outputs, inputs)
        yield f"{name}.bias", (outputs,)

    def norm(name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", (width,)
        yield f"{name}.bias", (width,)

    yield f"{base}embeddings.word_embeddings.weight", (config["vocab_size"], width)
    yield f"{base}embeddings.position_embeddings.weight", (config["max_position_embeddings"], width)
    yield f"{base}embeddings.token_type_embeddings.weight", (config["type_vocab_size"], width)
    yield from norm(f"{base}embeddings.LayerNorm")
    for i in range(config["num_hidden_layers"]):
        layer = f"{base}encoder.layer.{i}"
        for part in ("query", "key", "value"):
            yield from linear(f"{layer}.attention.self.{part}", width, width)
        yield from linear(f"{layer}.attention.output.dense", width, width)
        yield from norm(f"{layer}.attention.output.LayerNorm")
        yield from linear(f"{layer}.intermediate.dense", wide, width)
        yield from linear(f"{layer}.output.dense", width, wide)
        yield from norm(f"{layer}.output.LayerNorm")
    yield from linear(f"{base}pooler.dense", width, width)
    if config["num_labels"]:
        yield from linear("classifier", config["num_labels"], width)


def init(config: Config, seed: int) -> Arrays:
    """Initial weights as Hugging Face draws them, from NumPy: normal with deviation 0.02, norms 1 and 0."""
    rng = np.random.default_rng(seed)
    weights: Arrays = {}
    for name, shape in shapes(config):
        if name.endswith("LayerNorm.weight"):
            weights[name] = np.ones(shape, np.float32)
        elif name.endswith(".bias"):
            weights[name] = np.zeros(shape, np.float32)
        else:
            weights[name] = rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
    return weights


def configure(path: Path, config: Config) -> Config:
    """The sizes that the ``config.json`` in a checkpoint's folder, or beside its file, states.

    Raises:
        WeightsError: There is none, or it describes a BERT that this twin is not.
    """
    folder = path if path.is_dir() else path.parent
    if path.is_file() and not (folder / CONFIG_FILE).exists():
        return config  # a bare file of weights: the configured sizes
    stated = read_json(folder / CONFIG_FILE)
    for key, value in FIXED.items():
        if stated.get(key, value) != value:
            raise WeightsError(
                f"{folder / CONFIG_FILE} has {key} = {stated[key]!r}; the twin bert has {value!r} only.",
                "Give a checkpoint of an ordinary BERT encoder.",
            )
    changed: dict[str, Any] = {**config, **{key: stated[key] for key in BASE if key in stated}}
    _check(changed, folder / CONFIG_FILE)
    if config["num_labels"] and "id2label" in stated:
        changed["num_labels"] = len(stated["id2label"])
    if any((folder / file).exists() for file in ("tokenizer.json", "vocab.txt")):
        changed["tokenizer"] = str(folder)
    return changed


def _check(config: Config, file: Path) -> None:
    if config["hidden_act"] not in ACTIVATIONS:
        raise WeightsError(
            f"{file} has hidden_act = {config['hidden_act']!r}; the twin bert has {', '.join(ACTIVATIONS)}.",
            "Give a checkpoint with one of these activations.",
        )
    sizes = [key for key in BASE if key.endswith(("_size", "_layers", "_heads", "_embeddings"))]
    wrong = [key for key in sizes if not isinstance(config[key], int) or config[key] < 1]
    if wrong or config["hidden_size"] % config["num_attention_heads"]:
        named = {key: config[key] for key in wrong or ("hidden_size", "num_attention_heads")}
        raise WeightsError(
            f"{file} has sizes that fit no BERT: {named}.",
            "Sizes are whole numbers above 0, and hidden_size is a multiple of num_attention_heads.",
        )


def batches(config: Config, size: Size, seed: int, count: int) -> list[Arrays]:
    """Sentences, tokenised; for the encoder, which has no labels, values that its outputs shall approach.

    Adds ``targets`` (batch, sequence, hidden), standard normal, where there is no classifier.

    Raises:
        WeightsError: The sequence is longer than the model has positions for.
    """
    sequence = size.dims["sequence"]
    if sequence > config["max_position_embeddings"]:
        raise WeightsError(
            f"The sequence has {sequence} tokens; the model has {config['max_position_embeddings']} positions.",
            "Give a checkpoint with more positions.",
        )
    tokens = text.tokenizer(str(config.get("tokenizer", "")), int(config["vocab_size"]))
    made = text.batches(size.batch, sequence, tokens, seed, count)
    if config["num_labels"]:
        return [{**batch, "labels": batch["labels"] % config["num_labels"]} for batch in made]
    rng = np.random.default_rng([seed, 0xBE])
    for batch in made:
        del batch["labels"]
        batch["targets"] = rng.standard_normal((size.batch, sequence, config["hidden_size"]), dtype=np.float32)
    return made


def _twin(name: str, title: str, num_labels: int, optional: tuple[str, ...]) -> Twin:
    return Twin(
        name=name,
        title=title,
        sides={"torch": "twinax.zoo.bert.torch_model", "jax": "twinax.zoo.bert.jax_model"},
        config={**BASE, "num_labels": num_labels},
        init=init,
        batches=batches,
        inputs=("input_ids", "attention_mask", "token_type_ids"),
        presets={
            "parity": Size(batch=2, dims={"sequence": 32}),
            "parity_quick": Size(batch=2, dims={"sequence": 16}),
            "speed": Size(batch=8, dims={"sequence": 128}),
            "speed_quick": Size(batch=4, dims={"sequence": 128}),
        },
        configure=configure,
        optional=optional,
        # Megatron-LM (Shoeybi et al., arXiv:1909.08053): each pair of layers needs one sum over the ranks
        tensor_plan={
            "*.attention.self.*": "column",
            "*.attention.output.dense": "row",
            "*.intermediate.dense": "column",
            "*.output.dense": "row",
        },
        notes=(
            "Attention is written out on both sides (matrix product, softmax, dropout, matrix product); "
            "neither uses a fused kernel.",
        ),
    )


TWINS = (
    _twin(
        "bert",
        "BERT, sequence classification (Devlin et al., arXiv:1810.04805; Hugging Face's names)",
        num_labels=2,
        # an encoder's checkpoint has no classifier; one from pretraining has other heads
        optional=("classifier.*", "cls.*"),
    ),
    _twin(
        "bert/encoder",
        "BERT, encoder: a vector per token and one per sequence (Devlin et al., arXiv:1810.04805)",
        num_labels=0,
        optional=("classifier.*", "cls.*"),
    ),
)
