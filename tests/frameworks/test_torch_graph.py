"""What is said of a torch model's graph: every break with its line, every constant, every change of type."""

import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

import runs
from twinax.analyse.graph import findings
from twinax.frameworks import torch_graph
from twinax.frameworks.make import make_runner
from twinax.frameworks.torch_flops import flop_counter
from twinax.records import Cell, Outcome, Record, Size
from twinax.sources.file import resolve


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        x = self.layer(x)
        if x.sum() > 0:  # the first break
            x = x * 2
        print("seen")  # the second
        return self.layer(x)


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.convolution = nn.Conv2d(2, 6, 3, groups=2)

    def forward(self, x):
        wide = self.layer(x).double() * torch.tensor([1.0, 2.0, 3.0, 4.0])  # a cast, a constant, mixed types
        return wide.sum() + self.convolution(x.reshape(1, 2, 8, 4)).mean()


def line_of(text):
    return next(i for i, line in enumerate(Path(__file__).read_text().splitlines(), 1) if text in line)


def test_every_break_is_reported_with_the_line_that_caused_it(capsys):
    found = torch_graph.dynamo("forward", Broken(), torch.randn(3, 4)).dynamo
    assert found["graphs"] >= 2 and found["guards"] > 0
    lines = {row["line"] for row in found["breaks"]}
    assert {line_of("# the first break"), line_of("# the second")} <= lines
    assert all(row["file"] == __file__ and row["reason"] and row["code"] for row in found["breaks"])


def test_a_model_without_breaks_is_one_graph():
    found = torch_graph.dynamo("forward", Whole(), torch.randn(16, 4)).dynamo
    assert found["graphs"] == 1 and found["breaks"] == []


def test_constants_and_changes_of_type_are_named():
    captured = torch_graph.forward(Whole(), (torch.randn(16, 4),))
    (constant,) = captured.constants
    assert (constant["shape"], constant["dtype"], constant["bytes"]) == ([4], "float32", 16)
    cast, mixed = captured.promotions
    assert cast["operation"] == "to" and cast["from"] == ["float32"] and cast["to"] == "float64"
    assert mixed["operation"] == "mul" and set(mixed["from"]) == {"float64", "float32"}
    assert cast["line"] == line_of("# a cast, a constant") and "double()" in cast["code"]


def test_work_is_counted_by_module_with_what_it_holds():
    tree = torch_graph.forward(Whole(), (torch.randn(16, 4),)).modules
    assert tree["layer"]["flops"] == 2 * 16 * 4 * 4
    assert tree["convolution"]["flops"] == 2 * (6 * 6 * 2) * (1 * 3 * 3)  # one input channel per group
    assert tree[""]["flops"] == tree["layer"]["flops"] + tree["convolution"]["flops"]
    assert tree["layer"]["operations"] == 1 and tree[""]["operations"] > 2


@pytest.mark.slow
def test_kernels_of_both_passes_are_counted():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    x = torch.randn(3, 4)
    forward = torch_graph.inductor("forward", model, x)
    assert forward.kernels == {"fused": 1, "library": 1}  # tanh; the product with its bias
    both = torch_graph.inductor("grad", lambda x: model(x).sum(), x)
    assert both.kernels["library"] >= 2 and both.kernels["fused"] >= 2


def test_the_joint_graph_holds_both_passes():
    module = make_fx(lambda w, x: torch.autograd.grad((x @ w).sum(), w))(
        torch.randn(4, 2, requires_grad=True), torch.randn(3, 4)
    )
    assert torch_graph.joint(module).operations["aten"]["mm"] == 2


def test_a_model_that_export_refuses_still_has_its_breaks_named(tmp_path):
    file = tmp_path / "pair.py"
    file.write_text(
        textwrap.dedent("""
        import numpy as np

        def example_batch(seed, batch_size):
            return {"x": np.random.default_rng(seed).standard_normal((batch_size, 3)).astype(np.float32)}

        def torch_model():
            from torch import nn
            class Model(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.out = nn.Linear(3, 2)
                def forward(self, x):
                    if x.sum() > 0:
                        x = x * 2
                    return self.out(x)
            return Model()

        def jax_model():
            import jax.numpy as jnp
            return (lambda p, x: x @ p["out"]["weight"].T + p["out"]["bias"]), {
                "out": {"weight": jnp.ones((2, 3)), "bias": jnp.ones(2)}}
        """)
    )
    twin = resolve(str(file))
    size = Size(batch=4)
    cell = Cell(twin=twin.name, study="graph", side="torch", mode="compile", size=size)
    runner = make_runner(cell, twin, twin.init(twin.config, 0))
    (batch,) = twin.batches(twin.config, size, 0, 1)
    for program in ("forward", "grad"):
        captured = runner.capture(program, batch, kernels=False)
        assert captured.refused and not captured.operations
        places = [(row["file"], row["code"]) for row in captured.dynamo["breaks"]]
        assert (str(file), "if x.sum() > 0:") in places
    record = Record(
        cell=cell, outcome=Outcome.OK, measurements={"programs": {"forward": runs.captured({}, refused="no")}}
    )
    (told,) = findings(runs.run([record]))
    assert told.severity == "warning" and "no whole graph" in told.title


def test_a_break_that_is_met_twice_is_named_once():
    model = Broken()

    def twice(x):
        return model(x) + model(x + 1)

    found = torch_graph.dynamo("forward", twice, torch.ones(3, 4)).dynamo["breaks"]
    assert found and all(row["file"] == __file__ for row in found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_work_of_a_recurrent_kernel_is_counted(dtype):
    time, batch, inputs, hidden = 7, 3, 5, 6
    layer = nn.LSTM(inputs, hidden, batch_first=True).to(dtype)
    x = torch.randn(batch, time, inputs, dtype=dtype)
    with flop_counter() as forward:
        outputs = layer(x)[0]
    products = 2 * time * batch * 4 * hidden * (inputs + hidden)
    assert forward.get_total_flops() == products
    with flop_counter() as backward:
        outputs.sum().backward()
    assert products < backward.get_total_flops() <= 2 * products  # none goes to a first state, or to x
