"""``hf:ID``, or ``hf:`` and a folder or ``config.json``: a model of transformers. Run only in a worker."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinax.errors import BadInput, FrameworkMissing
from twinax.sources.torch_only.base import Request, TorchSource, for_parameters, parameters, seeded
from twinax.sources.torch_only.inputs import BATCH, Input, parse

if TYPE_CHECKING:
    from torch import nn

TASKS = {
    "feature-extraction": "AutoModel",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "multiple-choice": "AutoModelForMultipleChoice",
    "next-sentence-prediction": "AutoModelForNextSentencePrediction",
    "fill-mask": "AutoModelForMaskedLM",
    "text-generation": "AutoModelForCausalLM",
    "summarization": "AutoModelForSeq2SeqLM",
    "translation": "AutoModelForSeq2SeqLM",
    "image-classification": "AutoModelForImageClassification",
    "masked-image-modeling": "AutoModelForMaskedImageModeling",
    "semantic-segmentation": "AutoModelForSemanticSegmentation",
    "object-detection": "AutoModelForObjectDetection",
    "depth-estimation": "AutoModelForDepthEstimation",
    "video-classification": "AutoModelForVideoClassification",
    "audio-classification": "AutoModelForAudioClassification",
    "automatic-speech-recognition": "AutoModelForSpeechSeq2Seq",
    "connectionist-temporal-classification": "AutoModelForCTC",
}
"""What a model is for → the class of transformers that puts the head on."""
HUB_S = 5.0
TOKENS, SAMPLES, FRAMES = 128, 4000, 64
PLACES = "Give hf:ID of a model that has been downloaded, or hf:FOLDER with config.json and weights."


def resolve(name: str, request: Request) -> TorchSource:
    """The model with the head of the task, its weights read or drawn.

    Raises:
        FrameworkMissing: transformers is not installed.
        BadInput: The model is not at hand, the task is unknown, or its configuration has none for it.
    """
    from twinax.sources.torch_only import torchvision_operators

    torchvision_operators.define()
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise FrameworkMissing(
            "transformers is not installed here.", "Install it with: pip install transformers"
        ) from error
    transformers.logging.set_verbosity_error()
    place = name.partition(":")[2]
    config = _config(place)
    kind = _class(transformers, config, request.task)

    def make() -> nn.Module:
        return _model(kind, place, config, request.random_weights)

    made, where = seeded(make, 0), f"transformers {transformers.__version__}"
    stated = parse(request.input)
    inputs = for_parameters(stated, made, where) if stated else _inputs(made, config)
    return TorchSource(
        name, f"{type(made).__name__} of {where}", lambda seed: seeded(make, seed), inputs, where
    )


def _config(place: str) -> Any:
    """The configuration, which says neither to keep a cache nor to return plain tuples.

    Experts are multiplied as batches of matrices: the product of groups that is the default knows no float64.
    """
    from transformers import AutoConfig

    config = _fetched(place, lambda **local: AutoConfig.from_pretrained(place, **local))
    for part in (config, *(value for value in vars(config).values() if hasattr(value, "to_dict"))):
        if hasattr(part, "use_cache"):
            part.use_cache = False
        part.return_dict = True
        part._experts_implementation = "batched_mm"
    return config


def _fetched(place: str, fetch: Any) -> Any:
    """What lies on this machine; else what the hub gives, where there is a network.

    Raises:
        BadInput: Neither.
    """
    local = Path(place).exists()
    try:
        return fetch(local_files_only=True)
    except (OSError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        if local or place.startswith((".", "/", "~")) or place.endswith(".json"):
            raise BadInput(f"hf:{place} cannot be read: {first}", PLACES) from error
    try:
        _reach_hub()
        return fetch()
    except (OSError, ValueError) as error:
        raise BadInput(
            f"hf:{place} lies neither in the cache of this machine nor can it be downloaded: "
            f"{(str(error).splitlines() or [type(error).__name__])[0]}",
            PLACES,
        ) from error


def _reach_hub() -> None:
    """Find out at once that there is no network: transformers would try again and again."""
    import socket
    from urllib.parse import urlsplit

    from huggingface_hub import constants

    hub = urlsplit(constants.ENDPOINT)
    with socket.create_connection((hub.hostname or "", hub.port or 443), timeout=HUB_S):
        pass


def _class(transformers: Any, config: Any, task: str) -> Any:
    """The class with the task's head; without a task, the one that the configuration names."""
    if task and task not in TASKS:
        close = difflib.get_close_matches(task, TASKS, n=1)
        raise BadInput(
            f"There is no task called '{task}'.",
            f"Did you mean {close[0]}?" if close else f"Tasks are: {', '.join(TASKS)}.",
        )
    named = (getattr(config, "architectures", None) or [""])[0]
    return getattr(transformers, TASKS.get(task, named) or "AutoModel", transformers.AutoModel)


def _model(kind: Any, place: str, config: Any, random_weights: bool) -> nn.Module:
    automatic = kind.__name__.startswith("Auto")
    try:
        if random_weights:
            return kind.from_config(config) if automatic else kind(config)
        if Path(place).is_file():
            raise BadInput(f"hf:{place} is a configuration without weights.", "Add --random-weights.")
        return _fetched(place, lambda **local: kind.from_pretrained(place, config=config, **local))
    except ValueError as error:
        raise BadInput(
            f"{kind.__name__} has no {config.model_type}: {str(error).splitlines()[0]}",
            "Choose another --task.",
        ) from error


def _inputs(model: nn.Module, config: Any) -> tuple[Input, ...]:
    """What ``forward`` needs, by its parameters and the configuration's sizes."""
    text = config.get_text_config()
    longest = [getattr(text, name, None) for name in ("max_position_embeddings", "max_target_positions")]
    tokens = min([TOKENS, *(length // 2 for length in longest if length)])  # some positions may be reserved
    vocabulary = getattr(text, "vocab_size", None) or 2
    names, main = parameters(model)[0], getattr(model, "main_input_name", "input_ids")
    wanted: dict[str, Input] = {}
    if main == "input_ids" or getattr(config, "text_config", None) is not None:
        for name in ("input_ids", "attention_mask"):
            kind = "mask" if name == "attention_mask" else "drawn"
            wanted[name] = Input(name, (BATCH, tokens), "int64", vocabulary if kind == "drawn" else 2, kind)
        if "token_type_ids" in names and (kinds := getattr(text, "type_vocab_size", 0)):
            wanted["token_type_ids"] = Input("token_type_ids", (BATCH, tokens), "int64", kinds)
    if getattr(config, "is_encoder_decoder", False):
        wanted["decoder_input_ids"] = Input("decoder_input_ids", (BATCH, tokens // 2), "int64", vocabulary)
    if main != "input_ids" or "pixel_values" in names:
        wanted |= _signal("pixel_values" if "pixel_values" in names else main, config)
    if any(name in wanted and name not in names for name in (main,)):
        raise BadInput(f"{type(model).__name__}.forward takes no {main}.", "State its inputs with --input.")
    return tuple(wanted[name] for name in names if name in wanted)


def _signal(name: str, config: Any) -> dict[str, Input]:
    """Pictures, spectra or samples, of the size that the configuration states."""
    vision = getattr(config, "vision_config", None) or config

    def number(key: str, default: int) -> int:
        value = getattr(vision, key, None)
        value = value[0] if isinstance(value, list | tuple) else value
        return int(value) if value else default

    if name == "pixel_values":
        size = getattr(vision, "image_size", None)
        sizes = tuple(size) if isinstance(size, list | tuple) else (number("image_size", 224),) * 2
        shape = (BATCH, number("num_channels", 3), *sizes)
    elif name == "input_features":
        shape = (BATCH, number("num_mel_bins", 80), 2 * number("max_source_positions", FRAMES))
    elif hasattr(vision, "num_mel_bins"):
        shape = (BATCH, number("max_length", FRAMES), number("num_mel_bins", 80))
    else:
        shape = (BATCH, SAMPLES)
    return {name: Input(name, shape)}
