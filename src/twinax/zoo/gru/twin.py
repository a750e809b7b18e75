"""Twin ``gru``: a gated recurrent unit that forecasts return and volatility."""

from __future__ import annotations

from twinax.twin import Arrays, Config, Twin
from twinax.zoo import forecasting
from twinax.zoo.lstm.twin import draw


def init(config: Config, seed: int) -> Arrays:
    """Three gates: r, z, n."""
    return draw(config, seed, gates=3)


TWINS = (
    Twin(
        name="gru",
        title="GRU: daily prices to return and volatility (Cho et al., arXiv:1406.1078; torch's names)",
        sides={"torch": "twinax.zoo.gru.torch_model", "jax": "twinax.zoo.gru.jax_model"},
        config=forecasting.CONFIG,
        init=init,
        batches=forecasting.batches,
        inputs=("features", "lengths"),
        presets=forecasting.PRESETS,
        task=forecasting.TASK,
        notes=(
            "Eager PyTorch runs each layer and direction in the operation of torch.nn.GRU; compiled, it runs "
            "the equations step by step.",
        ),
    ),
)
