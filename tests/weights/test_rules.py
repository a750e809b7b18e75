"""Weight rules: exact inverses, every name used once, faults listed in full."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinax.errors import WeightsError
from twinax.weights.rules import WeightMap

TORCH = {
    "conv1.weight": (8, 3, 5, 7),
    "bn1.weight": (8,),
    "bn1.bias": (8,),
    "bn1.running_mean": (8,),
    "bn1.running_var": (8,),
    "bn1.num_batches_tracked": (),
    "embed.weight": (11, 8),
    "norm.weight": (8,),
    "norm.bias": (8,),
    "fc.weight": (4, 4),
    "fc.bias": (4,),
    "scale": (1,),
}
JAX = {
    "conv1.kernel": (5, 7, 3, 8),
    "bn1.scale": (8,),
    "bn1.bias": (8,),
    "bn1.mean": (8,),
    "bn1.var": (8,),
    "embed.embedding": (11, 8),
    "norm.scale": (8,),
    "norm.bias": (8,),
    "fc.kernel": (4, 4),
    "fc.bias": (4,),
    "scale": (1,),
}
TYPES = {"": "Net", "conv1": "Conv", "bn1": "BatchNorm", "embed": "Embed", "norm": "LayerNorm", "fc": "Linear"}


def arrays(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def test_every_layer_type_maps_by_its_rule():
    weight_map = WeightMap.derive(TORCH, JAX, TYPES)
    weights = arrays(TORCH)
    jax = weight_map.to_jax(weights)
    assert {name: a.shape for name, a in jax.items()} == JAX
    assert weight_map.torch_only == ("bn1.num_batches_tracked",)
    # conv: the weight from input channel 2 to output channel 6 at row 4, column 1
    assert jax["conv1.kernel"][4, 1, 2, 6] == weights["conv1.weight"][6, 2, 4, 1]
    # a square matrix gives no hint by its shape, and is transposed all the same
    np.testing.assert_array_equal(jax["fc.kernel"], weights["fc.weight"].T)
    np.testing.assert_array_equal(jax["bn1.var"], weights["bn1.running_var"])


def test_plain_pytree_maps_by_parameter_names():
    weight_map = WeightMap.derive(TORCH, JAX, {})
    assert weight_map.to_jax(arrays(TORCH)).keys() == JAX.keys()
    assert weight_map == WeightMap.derive(TORCH, JAX, TYPES)


def test_any_subset_goes_both_ways():
    weight_map = WeightMap.derive(TORCH, JAX, TYPES)
    gradient = {"fc.weight": np.arange(16.0).reshape(4, 4)}
    assert list(weight_map.to_jax(gradient)) == ["fc.kernel"]
    np.testing.assert_array_equal(
        weight_map.to_torch(weight_map.to_jax(gradient))["fc.weight"], gradient["fc.weight"]
    )
    with pytest.raises(WeightsError, match=r"nothing\.kernel"):
        weight_map.to_torch({"nothing.kernel": np.zeros(1)})
    with pytest.raises(WeightsError, match=r"nothing\.weight"):
        weight_map.to_jax({"nothing.weight": np.zeros(1)})


def test_rename_takes_names_and_prefixes_and_the_longest_wins():
    torch = {
        "net.0.weight": (3, 2),
        "net.0.bias": (3,),
        "net.2.weight": (1, 3),
        "head.weight": (5, 5),
        "g": (2,),
    }
    jax = {
        "first.kernel": (2, 3),
        "first.bias": (3,),
        "rest.last.kernel": (3, 1),
        "out": (5, 5),
        "params.g": (2,),
    }
    rename = {"net.0": "first", "net": "rest", "net.2": "rest.last", "head.weight": "out", "g": "params.g"}
    weight_map = WeightMap.derive(torch, jax, {}, rename)
    assert {r.source: (r.target, r.axes) for r in weight_map.rules} == {
        "net.0.weight": ("first.kernel", (1, 0)),
        "net.0.bias": ("first.bias", None),
        "net.2.weight": ("rest.last.kernel", (1, 0)),
        "head.weight": ("out", None),
        "g": ("params.g", None),
    }


def test_rename_of_the_root_and_of_each_collection():
    torch = {"bn.weight": (3,), "bn.bias": (3,), "bn.running_mean": (3,), "bn.running_var": (3,)}
    jax = {
        "params.bn.scale": (3,),
        "params.bn.bias": (3,),
        "batch_stats.bn.mean": (3,),
        "batch_stats.bn.var": (3,),
    }
    rename = {"": "params", "bn.running_mean": "batch_stats.bn.mean", "bn.running_var": "batch_stats.bn.var"}
    targets = {rule.source: rule.target for rule in WeightMap.derive(torch, jax, {}, rename).rules}
    assert targets["bn.running_var"] == "batch_stats.bn.var"
    assert targets["bn.weight"] == "params.bn.scale"


def test_parameters_with_names_that_say_nothing_go_by_what_the_shapes_show():
    rename = {"a.weight": "w1", "b.weight": "w2"}
    torch = {"a.weight": (8, 2), "b.weight": (8, 8)}
    transposed = WeightMap.derive(torch, {"w1": (2, 8), "w2": (8, 8)}, {}, rename)
    assert [rule.axes for rule in transposed.rules] == [(1, 0), (1, 0)]
    kept = WeightMap.derive(torch, {"w1": (8, 2), "w2": (8, 8)}, {}, rename)
    assert [rule.axes for rule in kept.rules] == [None, None]


def test_equinox_convolution_bias_has_axes_of_one():
    torch = {"conv.weight": (8, 3, 3, 3), "conv.bias": (8,)}
    weight_map = WeightMap.derive(
        torch, {"conv.weight": (8, 3, 3, 3), "conv.bias": (8, 1, 1)}, {"conv": "Conv2d"}
    )
    weights = arrays(torch)
    assert weight_map.to_jax(weights)["conv.bias"].shape == (8, 1, 1)
    assert weight_map.to_torch(weight_map.to_jax(weights))["conv.bias"].shape == (8,)


def test_every_fault_is_listed():
    torch = {"a.weight": (3, 2), "b.weight": (4, 4), "c.weight": (2, 2), "d.bias": (5,)}
    jax = {"a.kernel": (3, 2), "b.kernel": (4, 4), "e.kernel": (7, 7), "f.bias": (6,)}
    with pytest.raises(WeightsError) as caught:
        WeightMap.derive(torch, jax, {"a": "Linear", "b": "Linear", "e": "Linear"})
    text = caught.value.what
    for part in (
        "5 faults",
        "only in torch: c.weight (2, 2)",
        "only in torch: d.bias (5,)",
        "only in JAX: e.kernel (7, 7)",
        "only in JAX: f.bias (6,)",
        "torch a.weight (3, 2), which becomes (2, 3); JAX a.kernel (3, 2)",
    ):
        assert part in text
    assert "b.weight" not in text


def test_a_name_cannot_be_used_twice():
    with pytest.raises(WeightsError, match="only in torch: b"):
        WeightMap.derive({"a": (2,), "b": (2,)}, {"x": (2,)}, {}, {"a": "x", "b": "x"})
    with pytest.raises(WeightsError, match=r"used twice: a\.weight"):
        WeightMap.derive({"a.weight": (2,)}, {"a.weight": (2,), "a.scale": (2,)}, {})


LAYER = st.sampled_from(["Linear", "Conv", "BatchNorm", "LayerNorm", "Embed", "Other"])


@st.composite
def models(draw):
    """A random stack of layers: torch shapes, JAX shapes, layer types."""
    torch, jax, types = {}, {}, {}
    for i, kind in enumerate(draw(st.lists(LAYER, min_size=1, max_size=6))):
        path = f"layers.{i}"
        types[path] = kind
        out, inner, *spatial = draw(st.lists(st.integers(1, 4), min_size=2, max_size=5))
        if kind in ("Linear", "Conv"):
            spatial = spatial if kind == "Conv" else []
            torch |= {f"{path}.weight": (out, inner, *spatial), f"{path}.bias": (out,)}
            jax |= {f"{path}.kernel": (*spatial, inner, out), f"{path}.bias": (out,)}
        elif kind == "Embed":
            torch[f"{path}.weight"], jax[f"{path}.embedding"] = (out, inner), (out, inner)
        elif kind == "Other":
            torch[f"{path}.kernel"], jax[f"{path}.kernel"] = (out, inner), (out, inner)
        else:
            pairs = {"weight": "scale", "bias": "bias"}
            pairs |= {"running_mean": "mean", "running_var": "var"} if kind == "BatchNorm" else {}
            torch |= {f"{path}.{name}": (out,) for name in pairs}
            jax |= {f"{path}.{name}": (out,) for name in pairs.values()}
    return torch, jax, types


@given(models(), st.integers(0, 2**32 - 1), st.sampled_from([np.float32, np.float64]))
def test_there_and_back_returns_the_same_bits(model, seed, dtype):
    torch, jax, types = model
    weight_map = WeightMap.derive(torch, jax, types)
    rng = np.random.default_rng(seed)
    # any bits at all, NaN payloads and signed zeros among them
    weights = {
        name: np.frombuffer(rng.bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize), dtype).reshape(shape)
        for name, shape in torch.items()
    }
    there = weight_map.to_jax(weights)
    assert {name: a.shape for name, a in there.items()} == jax
    back = weight_map.to_torch(there)
    assert back.keys() == weights.keys()
    assert all(back[n].tobytes() == weights[n].tobytes() and back[n].dtype == dtype for n in weights)


@given(models(), st.data())
def test_one_name_dropped_is_named(model, data):
    torch, jax, types = model
    victim = data.draw(st.sampled_from(sorted(jax)))
    with pytest.raises(WeightsError, match="only in torch"):
        WeightMap.derive(torch, {name: s for name, s in jax.items() if name != victim}, types)
    victim = data.draw(st.sampled_from(sorted(torch)))
    with pytest.raises(WeightsError, match="only in JAX"):
        WeightMap.derive({name: s for name, s in torch.items() if name != victim}, jax, types)
