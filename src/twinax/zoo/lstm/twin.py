"""Twin ``lstm``: a long short-term memory that forecasts return and volatility."""

from __future__ import annotations

import numpy as np

from twinax.twin import Arrays, Config, Twin
from twinax.zoo import forecasting


def draw(config: Config, seed: int, gates: int) -> Arrays:
    """Weights as torch draws them, uniform in ±1/√width, from NumPy: the recurrent layers' and both heads'."""
    rng = np.random.default_rng(seed)
    hidden, ways = int(config["hidden"]), ("", "_reverse") if config["bidirectional"] else ("",)
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = int(config["features"])
    for layer in range(config["layers"]):
        for way in ways:
            shapes[f"rnn.weight_ih_l{layer}{way}"] = (gates * hidden, inputs)
            shapes[f"rnn.weight_hh_l{layer}{way}"] = (gates * hidden, hidden)
            shapes[f"rnn.bias_ih_l{layer}{way}"] = (gates * hidden,)
            shapes[f"rnn.bias_hh_l{layer}{way}"] = (gates * hidden,)
        inputs = len(ways) * hidden
    bounds = {name: hidden**-0.5 for name in shapes}
    for head in ("returns", "log_volatility"):
        shapes[f"{head}.weight"], shapes[f"{head}.bias"] = (config["horizon"], inputs), (config["horizon"],)
        bounds[f"{head}.weight"] = bounds[f"{head}.bias"] = inputs**-0.5
    return {
        name: rng.uniform(-bounds[name], bounds[name], shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def init(config: Config, seed: int) -> Arrays:
    """Four gates: i, f, g, o."""
    return draw(config, seed, gates=4)


TWINS = (
    Twin(
        name="lstm",
        title="LSTM: daily prices to return and volatility (Hochreiter & Schmidhuber, 1997; torch's names)",
        sides={"torch": "twinax.zoo.lstm.torch_model", "jax": "twinax.zoo.lstm.jax_model"},
        config=forecasting.CONFIG,
        init=init,
        batches=forecasting.batches,
        inputs=("features", "lengths"),
        presets=forecasting.PRESETS,
        task=forecasting.TASK,
        notes=(
            "Eager PyTorch runs each layer and direction in the kernel of torch.nn.LSTM; compiled, it runs the "
            "equations step by step, since torch.compile has no lowering for that kernel.",
        ),
    ),
)
