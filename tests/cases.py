"""The one table of twins, small enough to be proved in seconds; tests cross it with every property."""

from dataclasses import replace

from twinax.records import Size
from twinax.sources import resolve

_SMALL = {
    "xor": ({}, Size(batch=4)),
    "xor/logistic": ({}, Size(batch=4)),
    "resnet50": ({"blocks": [1, 1, 1, 1], "width": 8, "classes": 10}, Size(batch=4, dims={"image": 64})),
    "bert": (
        {
            "vocab_size": 200,
            "hidden_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "max_position_embeddings": 24,
        },
        Size(batch=3, dims={"sequence": 12}),
    ),
}
_SMALL["bert/encoder"] = _SMALL["bert"]
_SMALL["lstm"] = ({"hidden": 6, "bidirectional": True, "window": 8}, Size(batch=3, dims={"time": 8}))
_SMALL["gru"] = _SMALL["lstm"]
_SMALL["knn"] = ({"rows": 60, "features": 4, "k": 5}, Size(batch=9))
_SMALL["knn/regressor"] = ({"rows": 60, "features": 4, "k": 5}, Size(batch=9))
_SMALL["svm"] = ({"features": 4, "support_vectors": 7}, Size(batch=9))
_SMALL["svm/linear"] = ({"features": 4}, Size(batch=9))
_SMALL["svm/regressor"] = ({"features": 4, "support_vectors": 7}, Size(batch=9))

TWINS = tuple(_SMALL)


def small(name: str):
    """The zoo's twin with its published structure and fewer, narrower layers."""
    config, size = _SMALL[name]
    twin = resolve(name)
    presets = dict.fromkeys(("parity", "parity_quick", "speed", "speed_quick"), size)
    return replace(twin, config={**twin.config, **config}, presets=presets)
