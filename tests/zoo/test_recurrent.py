"""lstm and gru: torch.nn's names, outputs and gradients, on both sides, for sequences of any length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from sides import distances, runner, small
from torch import nn

from twinax.records import Size
from twinax.zoo.gru import jax_model as gru_jax
from twinax.zoo.gru import torch_model as gru_torch
from twinax.zoo.gru.twin import TWINS as GRU
from twinax.zoo.lstm import jax_model as lstm_jax
from twinax.zoo.lstm import torch_model as lstm_torch
from twinax.zoo.lstm.twin import TWINS as LSTM

TWIN = {"lstm": LSTM[0], "gru": GRU[0]}
OURS = {"lstm": lstm_torch.LSTM, "gru": gru_torch.GRU}
JAX = {"lstm": lstm_jax.LSTM, "gru": gru_jax.GRU}
THEIRS = {"lstm": nn.LSTM, "gru": nn.GRU}
KINDS = tuple(TWIN)
ONE_KIND = ("lstm", pytest.param("gru", marks=pytest.mark.slow))
"""For what both kinds share."""
SHAPES = [(1, False), pytest.param(2, False, marks=pytest.mark.slow), (1, True), (3, True)]
"""Layers, and whether there are two directions."""
FEATURES, HIDDEN, TIME = 3, 5, 7
LENGTHS = torch.tensor([7, 1, 4, 6])


def config(layers=1, bidirectional=False, dropout=0.0):
    return {
        "features": FEATURES,
        "hidden": HIDDEN,
        "layers": layers,
        "bidirectional": bidirectional,
        "dropout": dropout,
        "horizon": 2,
    }


def reference(kind, layers, bidirectional):
    """torch's own layer in float64, and what it makes of packed sequences: outputs, last states, gradients."""
    torch.manual_seed(layers)
    layer = THEIRS[kind](FEATURES, HIDDEN, layers, batch_first=True, bidirectional=bidirectional).double()
    x = torch.randn(len(LENGTHS), TIME, FEATURES, dtype=torch.float64)
    packed = nn.utils.rnn.pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    packed_outputs, state = layer(packed)
    outputs, _ = nn.utils.rnn.pad_packed_sequence(packed_outputs, batch_first=True, total_length=TIME)
    h = state[0] if kind == "lstm" else state
    last = torch.cat(list(h[-2:] if bidirectional else h[-1:]), 1)
    objective(outputs, last).backward()
    return layer, x, outputs.detach(), last.detach()


def objective(outputs, last):
    """A scalar to which every number contributes with a weight of its own."""
    ramp = np.linspace(-1, 2, outputs.size if isinstance(outputs, jax.Array) else outputs.numel())
    weights = ramp.reshape(outputs.shape)
    if not isinstance(outputs, jax.Array):
        weights = torch.from_numpy(weights)
    return (weights * outputs).sum() + (last**2).sum()


def torch_layer(kind, layer, **settings):
    ours = OURS[kind](lstm_torch.Config(**config(**settings))).double()
    ours.load_state_dict(layer.state_dict())  # every name and shape is torch's
    return ours


@pytest.fixture
def equations(monkeypatch):
    """What torch.compile sees: the equations in place of the kernel."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)


@pytest.mark.parametrize(("layers", "bidirectional"), SHAPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("written_out", [False, True])
def test_torch_side_is_torchs_own_layer(kind, layers, bidirectional, written_out, request):
    layer, x, outputs, last = reference(kind, layers, bidirectional)
    if written_out:
        request.getfixturevalue("equations")
    ours = torch_layer(kind, layer, layers=layers, bidirectional=bidirectional)
    x = x.masked_fill(torch.arange(TIME)[None, :, None] >= LENGTHS[:, None, None], 1e3)  # padding is not read
    found, found_last = ours(x, LENGTHS)
    torch.testing.assert_close(found, outputs, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(found_last, last, rtol=1e-12, atol=1e-13)
    assert not found[1, 1:].any()  # nothing after the end
    objective(found, found_last).backward()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name).grad, parameter.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("layers", "bidirectional"), SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_jax_side_is_torchs_own_layer(kind, layers, bidirectional):
    layer, x, outputs, last = reference(kind, layers, bidirectional)
    jax.config.update("jax_enable_x64", True)
    settings = lstm_jax.Config(**config(layers, bidirectional))
    module = JAX[kind](settings, rngs=nnx.Rngs(0))
    graph, _, rest = nnx.split(module, nnx.Param, ...)
    weights = {name: jnp.asarray(p.detach().numpy()) for name, p in layer.named_parameters()}
    assert set(weights) == {name for name in vars(module) if name.startswith(("weight", "bias"))}

    @jax.jit
    def run(weights):
        params = nnx.State({name: nnx.Param(value) for name, value in weights.items()})
        found = nnx.merge(graph, params, rest, copy=True)(jnp.asarray(x.numpy()), jnp.asarray(LENGTHS.numpy()))
        return objective(*found), found

    (_, found), gradients = jax.value_and_grad(run, has_aux=True)(weights)
    np.testing.assert_allclose(found[0], outputs, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found[1], last, rtol=1e-12, atol=1e-13)
    for name, parameter in layer.named_parameters():
        np.testing.assert_allclose(gradients[name], parameter.grad, rtol=1e-10, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_those_of_torchs_layer_in_its_order(kind):
    layer = THEIRS[kind](FEATURES, HIDDEN, 2, bidirectional=True)
    twin = small(TWIN[kind], **config(2, True))
    drawn = {name: a.shape for name, a in twin.init(twin.config, 0).items()}
    expected = {f"rnn.{name}": tuple(p.shape) for name, p in layer.named_parameters()}
    assert list(drawn)[: len(expected)] == list(expected)
    assert {name: shape for name, shape in drawn.items() if name.startswith("rnn.")} == expected
    assert runner(twin, "torch", twin.init(twin.config, 0)).parameters() == list(drawn)
    assert set(runner(twin, "jax", twin.init(twin.config, 0)).parameters()) == set(drawn)


@pytest.mark.parametrize(("layers", "bidirectional"), SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_both_sides_compute_the_same(kind, layers, bidirectional):
    twin = small(TWIN[kind], hidden=6, layers=layers, bidirectional=bidirectional, horizon=2)
    found = distances(twin, twin.presets["parity"], train=False)
    assert max(found.values()) < 1e-12, max(found, key=found.get)


def _swapped(self, x, w_ih, w_hh, b_ih, b_hh):
    """The first two gates in the other order."""
    order = torch.cat([torch.arange(6, 12), torch.arange(6), torch.arange(12, len(b_ih))])
    return type(self).right(self, x, w_ih[order], w_hh[order], b_ih[order], b_hh[order])


def _no_hidden_bias(self, x, w_ih, w_hh, b_ih, b_hh):
    """The hidden side's bias added outside the reset gate: as Keras, and a GRU cell without it, have it."""
    n = torch.arange(len(b_ih)) >= 12
    return type(self).right(self, x, w_ih, w_hh, torch.where(n, b_ih + b_hh, b_ih), torch.where(n, 0.0, b_hh))


@pytest.mark.parametrize(("kind", "fault"), [("lstm", _swapped), ("gru", _swapped), ("gru", _no_hidden_bias)])
def test_another_cell_is_noticed(monkeypatch, kind, fault):
    monkeypatch.setattr(OURS[kind], "right", OURS[kind].recur, raising=False)
    monkeypatch.setattr(OURS[kind], "recur", fault)
    twin = small(TWIN[kind], hidden=6, layers=1)
    assert distances(twin, twin.presets["parity"], train=False)["outputs returns"] > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_a_reverse_direction_that_begins_with_the_padding_is_noticed(monkeypatch, kind):
    monkeypatch.setattr(lstm_torch, "reversed_within", lambda x, lengths: x.flip(1))
    twin = small(TWIN[kind], hidden=6, layers=1, bidirectional=True)
    assert distances(twin, twin.presets["parity"], train=False)["outputs returns"] > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_both_sides_have_the_same_dropout_layers_and_none_after_the_last(kind):
    twin = small(TWIN[kind], hidden=4, layers=3, dropout=0.25, bidirectional=True)
    (batch,) = twin.batches(twin.config, Size(batch=2, dims={"time": 6}), 0, 1)
    sites = [runner(twin, side, twin.init(twin.config, 0)).dropouts(batch) for side in ("torch", "jax")]
    assert sites[0] == sites[1]
    assert [(s.path, s.rate, s.shape) for s in sites[0]] == [
        ("rnn.dropouts.0", 0.25, (2, 6, 8)),
        ("rnn.dropouts.1", 0.25, (2, 6, 8)),
    ]


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ONE_KIND)
def test_second_derivatives_and_gradients_of_each_example(kind, dtype):
    twin = small(TWIN[kind], hidden=6, layers=2, bidirectional=True)
    (batch,) = twin.batches(twin.config, Size(batch=3, dims={"time": 6}), 0, 1)
    weights = twin.init(twin.config, 0)
    found = {}
    for side in ("torch", "jax"):
        for derivative in ("hvp", "per_sample", "per_sample_loop"):
            made = runner(twin, side, weights, dtype).derivative(derivative, batch)
            arrays = made.arrays(made.call())
            found[side, derivative] = np.concatenate([arrays[name].ravel() for name in weights])

    def distance(a, b):
        return float(np.linalg.norm(found[a] - found[b]) / np.linalg.norm(found[b]))

    bound = {"float64": 1e-11, "float32": 1e-4}[dtype]
    assert distance(("torch", "hvp"), ("jax", "hvp")) < bound
    for side in ("torch", "jax"):
        assert distance((side, "per_sample"), (side, "per_sample_loop")) < bound
    assert distance(("torch", "per_sample"), ("jax", "per_sample")) < bound


@pytest.mark.parametrize("kind", ONE_KIND)
def test_compiled_it_is_one_graph_with_the_eager_result(kind):
    torch.compiler.reset()
    twin = small(TWIN[kind], hidden=6, layers=2, bidirectional=True)
    (batch,) = twin.batches(twin.config, Size(batch=3, dims={"time": 5}), 0, 1)
    data = {name: torch.from_numpy(array) for name, array in batch.items()}
    code = twin.code("torch")
    model = code.build(twin.config).eval()
    model.load_state_dict({name: torch.from_numpy(a) for name, a in twin.init(twin.config, 0).items()})

    def objective(features, lengths):
        return code.loss(model(features, lengths), data)

    gradients = []
    for run in (objective, torch.compile(objective, fullgraph=True, backend="aot_eager")):
        model.zero_grad()
        run(data["features"], data["lengths"]).backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for eager, compiled in zip(*gradients, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-6)


def test_reversing_within_the_length_twice_is_the_identity():
    x = torch.arange(2 * 4 * 1.0).reshape(2, 4, 1)
    lengths = torch.tensor([4, 2])
    once = lstm_torch.reversed_within(x, lengths)
    assert once[:, :, 0].tolist() == [[3, 2, 1, 0], [5, 4, 6, 7]]
    assert torch.equal(lstm_torch.reversed_within(once, lengths), x)
    in_jax = lstm_jax.reversed_within(jnp.asarray(x.numpy()), jnp.asarray(lengths.numpy()))
    np.testing.assert_array_equal(in_jax, once)
