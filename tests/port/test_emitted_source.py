"""What a ported model looks like, and that it computes what the torch module computes."""

import ast
import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from emitted import agrees, example, load, perturbed
from flax import nnx
from torch import nn

from twinax.errors import CannotPort
from twinax.port.torch_to_jax import convert, obstacles
from twinax.port.torch_to_jax.wrapping import wrapped


class Block(nn.Module):
    def __init__(self, features, hidden):
        super().__init__()
        self.wide = nn.Linear(features, hidden)
        self.narrow = nn.Linear(hidden, features)
        self.drop = nn.Dropout(0.1)
        self.norm = nn.BatchNorm1d(features)

    def forward(self, x):
        hidden = torch.relu(self.wide(x))
        return x + self.norm(self.drop(self.narrow(hidden)))


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(8, 16), Block(8, 32), Block(8, 32))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.blocks(x))


class Tied(nn.Module):
    """A language model's embedding, used again as its last layer."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids):
        return {"logits": self.head(torch.tanh(self.embed(ids))), "mean": self.embed(ids).mean()}


class Written(nn.Module):
    """Writes through a view, and in place."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x):
        y = x * self.scale
        y[:, 0] = 2 * y[:, 1]
        row = y.view(-1, 2, 2)[:, 1]
        row += 1
        return y, row


class Repeated(nn.Module):
    """One layer three times."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        for _ in range(3):
            x = torch.tanh(self.layer(x))
        return x


class Loose(nn.Module):
    """Parameters of its own, a buffer, an array in the code, a layer that is not used."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(3))
        self.register_buffer("offset", torch.ones(3))
        self.register_buffer("table", torch.linspace(0, 1, 50), persistent=False)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return (x + self.shift) * self.offset + self.table[:3] + torch.tensor([1.0, 2.0, 3.0], dtype=x.dtype)


class Row(nn.Sequential):
    """Its modules have numbers for names."""

    def forward(self, input):
        return super().forward(input) + 1


class Half(nn.Module):
    """Asks for float32 within, as RMSNorm does."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, x):
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


class Branch(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return -x


class Odd(nn.Module):
    def forward(self, x):
        median = x.median(dim=1).values
        return median + torch.special.airy_ai(x).sum(1)


class Positions(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 5, 4))

    def forward(self, x):
        return x * self.table[:, 1:] + self.table[..., 3:].sum(1)[:, None]


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.slow, self.fast = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        with torch.no_grad():
            slow, _ = (self.slow(x) * 2).max(-1, keepdim=True)
        return self.fast(x) + slow


class Aside(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.line = nn.BatchNorm1d(3), nn.Linear(3, 2)

    def forward(self, x):
        self.norm(x)  # for its statistics alone
        return self.line(x)


MODELS = {
    "aside": (Aside, {"x": (4, 3)}),
    "frozen": (Frozen, {"x": (2, 3)}),
    "positions": (Positions, {"x": (2, 4, 4)}),
    "stack": (Stack, {"x": (4, 8)}),
    "tied": (Tied, {"ids": (2, 5)}),
    "written": (Written, {"x": (3, 4)}),
    "repeated": (Repeated, {"x": (2, 4)}),
    "loose": (Loose, {"x": (2, 3)}),
    "leaf": (lambda: nn.Linear(3, 2), {"input": (2, 3)}),
    "row": (lambda: Row(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), {"input": (2, 3)}),
    "sequential": (lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), {"input": (2, 3)}),
}


@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", MODELS)
def test_outputs_gradients_and_buffers_are_torchs(name, train, tmp_path):
    kind, shapes = MODELS[name]
    agrees(perturbed(kind()), example(shapes), tmp_path, train=train)


def test_a_class_for_each_distinct_module_and_a_loop_for_those_that_repeat():
    source = convert(Stack(), example({"x": (4, 8)})).source
    classes = [node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    assert classes == ["Linear", "BatchNorm1d", "Block", "Stack"]
    assert "for block in self.blocks:" in source
    assert "hidden = " in source or "jax.nn.relu(self.wide(x))" in source
    assert "nnx.List([Block(16, rngs=rngs), *(Block(32, rngs=rngs) for _ in range(2))])" in source
    assert "import torch" not in source and "twinax." not in source.replace("by twinax.", "")


def test_one_port_serves_every_batch_and_length(tmp_path):
    module = Tied().eval()
    model = load(convert(module, example({"ids": (2, 5)})), tmp_path).load(tmp_path / "weights.safetensors")
    for batch, length in ((1, 1), (3, 9)):
        ids = example({"ids": (batch, length)})["ids"]
        got = nnx.jit(model)(jnp.asarray(ids.numpy()))
        np.testing.assert_allclose(got["logits"], module(ids)["logits"].detach(), rtol=1e-5, atol=1e-5)


def test_the_dtype_follows_the_weights(tmp_path):
    module, inputs = perturbed(Half()), example({"x": (3, 4)})
    ported = convert(module, inputs)
    assert "promote_types" in ported.source
    model = load(ported, tmp_path).load(tmp_path / "weights.safetensors")
    graph, state = nnx.split(model)
    state = jax.tree.map(lambda a: a.astype(jnp.bfloat16), state)
    x = inputs["x"].bfloat16()
    got = nnx.merge(graph, state)(jnp.asarray(x.float().numpy(), jnp.bfloat16))
    assert got.dtype == jnp.bfloat16
    wanted = copy.deepcopy(module).bfloat16()(x)
    np.testing.assert_allclose(np.asarray(got, np.float32), wanted.detach().float(), rtol=1e-2)


def test_dropout_takes_a_key_and_repeats_with_it(tmp_path):
    module = load(convert(Stack(), example({"x": (4, 8)})), tmp_path)
    x = jnp.ones((64, 8))

    def run(seed):
        model = module.Stack(rngs=nnx.Rngs(seed))
        for path, value in nnx.to_flat_state(nnx.state(model, nnx.Param)):
            value.set_value(jnp.ones_like(value[...]) * (0.1 + len(path)))
            del path
        nnx.update(model, nnx.state(model))
        model.train()
        return model.blocks[0].drop(x)

    np.testing.assert_array_equal(run(0), run(0))
    assert (run(0) != run(1)).any()


def test_a_branch_on_data_is_refused_with_its_line():
    with pytest.raises(CannotPort, match=r"test_emitted_source\.py:\d+"):
        convert(Branch(), example({"x": (2, 3)}))


def test_every_obstacle_is_listed_with_its_line():
    found = obstacles(Odd(), example({"x": (2, 3)}))
    assert any("airy" in one.operation for one in found)
    assert all("test_emitted_source.py" in one.where for one in found)
    with pytest.raises(CannotPort, match="airy"):
        convert(Odd(), example({"x": (2, 3)}))


class Below(nn.Module):
    def forward(self, x):
        return x.t().as_strided((2, 2), (1, 1)) + x[1:].as_strided((2, 2), (1, 1)), torch.any(x.to(torch.uint8))


def test_what_reads_the_memory_below_a_view_is_refused():
    found = obstacles(Below(), example({"x": (3, 3)}))
    assert [one.operation for one in found] == [
        "aten.as_strided.default of a view",
        "aten.any.default of uint8",
    ]


class Refused(nn.Module):
    def forward(self, x):
        y = torch.linalg.matrix_norm(x, ord="nuc")
        return y + nn.functional.rrelu(x, training=True).sum()


def test_what_an_operation_cannot_do_with_its_constants_is_found_before_it_runs():
    found = obstacles(Refused(), example({"x": (3, 3)}))
    assert [one.operation for one in found] == [
        "aten.linalg_matrix_norm is ported as 'fro' only",
        "aten.rrelu with training=True is not ported",
    ]


class Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clamp(0)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(2, 2)

    def forward(self, x):
        return Gate.apply(self.line(x)).sum()


def test_a_backward_that_the_export_leaves_out_is_named():
    ported = convert(Gated(), example({"x": (3, 2)}))
    (note,) = ported.notes
    assert note.startswith("Gate (test_emitted_source.py:")
    assert "stop_gradient" not in ported.source


def test_long_lines_are_broken_without_changing_what_they_mean():
    long = "x = f((alpha_beta_gamma_delta + 1) // 2 * (" + " + ".join(["some_long_name"] * 9) + " + 3))"
    for line in (long, "y = " + long[4:].replace("f(", "f(first_argument, key=")):
        assert ast.dump(ast.parse("\n".join(wrapped(line)))) == ast.dump(ast.parse(line))


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 2, 3, bias=False)

    def forward(self, x):
        return self.second(self.first(x))


def test_an_argument_that_some_calls_leave_out_keeps_its_default():
    ported = convert(Two(), example({"x": (2, 2, 7, 7)}))
    assert "bias: Array | None = None" in ported.source


class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(4, 4)

    def forward(self, x):
        h = torch.zeros(x.shape[0], 4)
        for step in range(x.shape[1]):
            h = torch.tanh(self.line(x[:, step]) + h)
        return nn.functional.pad(h, (0, 3 - x.shape[1])) if x.shape[1] < 3 else h


def test_a_length_that_the_export_fixed_is_refused_in_jax(tmp_path):
    module, inputs = Steps(), example({"x": (2, 5, 4)})
    model = load(convert(module, inputs), tmp_path).build()
    assert model(jnp.ones((3, 5, 4))).shape == (3, 4)
    with pytest.raises(AssertionError):
        model(jnp.ones((2, 6, 4)))


class AlwaysDrops(nn.Module):
    def forward(self, x):
        q = x[:, None]
        x = nn.functional.scaled_dot_product_attention(q, q, q, dropout_p=0.1)[:, 0]
        return nn.functional.dropout(x, 0.5, training=True)


def test_dropout_that_is_on_in_eval_mode_is_refused():
    found = obstacles(AlwaysDrops(), example({"x": (2, 3, 4)}))
    assert [one.operation.partition(" ")[2] for one in found] == ["that drops in eval mode"] * 2


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(4, 6)

    def forward(self, x):
        q, k, v = self.line(x).split(2, dim=-1)
        return q * k + v


def test_a_module_is_called_as_often_as_in_torch():
    assert convert(Twice(), example({"x": (2, 4)})).source.count("self.line(") == 1


class Counted(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(2, 2).requires_grad_(False)

    def forward(self, x, ids):
        return self.line(x) + torch.randn_like(x) + (ids * ids % 7)[:, None]


def test_what_a_person_should_know_is_noted():
    notes = convert(Counted(), {**example({"x": (2, 2)}), "ids": torch.arange(2)}).notes
    assert [note.split(" ")[0] for note in notes] == ["2", "Random", "Integers"]
    assert all("test_emitted_source.py:" in note for note in notes[1:])


def test_a_model_that_fails_by_itself_is_told_apart_from_one_that_cannot_be_exported():
    with pytest.raises(
        CannotPort, match=r"itself fails on these inputs .*RuntimeError: .*test_emitted_source\.py:\d+"
    ):
        convert(Twice(), example({"x": (2, 5)}))


class Spans(nn.Module):
    """A number that comes from a length by way of a tensor."""

    def forward(self, x):
        half = torch.tensor(x.shape[1]) // 2
        return x[:, int(half) :]


def test_a_number_that_comes_from_a_length_fixes_the_length(tmp_path):
    inputs = example({"x": (3, 6)})
    model = load(convert(Spans(), inputs), tmp_path).load(tmp_path / "weights.safetensors")
    np.testing.assert_array_equal(model(jnp.asarray(inputs["x"].numpy())), inputs["x"][:, 3:])
    with pytest.raises(AssertionError):
        model(jnp.ones((3, 8)))


class Reading(nn.Module):
    """Numbers that are read from arrays have no gradient."""

    def __init__(self):
        super().__init__()
        self.line, self.scale = nn.Linear(3, 2), nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        for value in x[0].tolist():
            x = x + value
        return self.line(x) * self.scale.item()


def test_numbers_that_are_read_have_no_gradient(tmp_path):
    module, inputs = Reading(), example({"x": (4, 3)})
    model = load(convert(module, inputs), tmp_path).load(tmp_path / "weights.safetensors")
    x = inputs["x"].requires_grad_()
    module(x).square().sum().backward()
    got = jax.grad(lambda x: jnp.square(model(x)).sum())(jnp.asarray(x.detach().numpy()))
    np.testing.assert_allclose(got, x.grad, rtol=1e-5, atol=1e-5)


class Rescued(nn.Module):
    def forward(self, x):
        y = x.exp()
        if not torch.isfinite(y).all() or y.isnan().any():
            y = y.clamp(max=1.0)
        if torch.isinf(y).any():
            y = y * 0
        return y


def test_numbers_are_taken_to_be_finite_and_that_is_told(tmp_path):
    inputs = example({"x": (4, 3)})
    ported = convert(Rescued(), inputs)
    assert sum("whether its numbers are finite" in note for note in ported.notes) == 2
    model = load(ported, tmp_path).load(tmp_path / "weights.safetensors")
    np.testing.assert_allclose(model(jnp.asarray(inputs["x"].numpy())), inputs["x"].exp(), rtol=1e-6)


class Calls(nn.Module):
    """Counts its calls in Python."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Identity()
        self.inner.calls = 0

    def forward(self, x):
        self.inner.calls += 1
        return x * self.inner.calls


def test_an_attribute_that_forward_changes_is_named():
    module = Calls()
    (note,) = convert(module, example({"x": (2, 3)})).notes
    assert "inner.calls" in note and module.inner.calls == 0


class Channels(nn.Module):
    """Drops whole channels, in a kernel whose size is the number of channels."""

    def __init__(self):
        super().__init__()
        self.conv, self.drop = nn.Conv2d(3, 4, 3), nn.Dropout2d(0.2)

    def forward(self, x):
        return self.drop(self.conv(x)).relu()


def test_dropped_channels_do_not_need_a_second_body():
    source = convert(Channels(), example({"x": (2, 3, 8, 8)})).source
    assert (
        source.count("self.conv(x)") == 1 and "(out_channels, in_channels, kernel_size, kernel_size)" in source
    )
