"""Figures of a source against hand counts; what is not code changes nothing; what is no code is named."""

import subprocess
import sys

import pytest

from twinax.measure.source import NotPython, measure
from twinax.sources import zoo

PLAIN = """
import torch
from torch import nn


class Net(nn.Module):
    def forward(self, x):
        for layer in self.layers:
            if layer.on and x.any():
                x = torch.relu(layer(x))
        return x.mean(0)
"""

DRESSED = '''
"""A module, explained."""

import torch  # the framework
from torch import nn


# A class.
class Net(nn.Module):
    """What it is."""

    def forward(self, x):
        """What it does,

        at length.
        """
        for layer in self.layers:
            # only some
            if (layer.on
                    and x.any()):
                x = torch.relu(
                    layer(x),
                )
        return (x.mean(0))
'''


def test_figures_are_those_counted_by_hand() -> None:
    found = measure(PLAIN, "torch")
    assert found.statements == 8  # two imports, class, def, for, if, assignment, return
    # import torch 2, from torch import nn 4, class … 8, def … 8, for … 7, if … 11, x = … 11, return … 7
    assert found.tokens == 2 + 4 + 8 + 8 + 7 + 11 + 11 + 7
    assert found.complexity == found.hardest_complexity == 4  # 1, for, if, and
    assert found.hardest == "forward"
    assert found.nesting == 2
    assert found.calls_deep == 2  # relu(layer(x))
    assert found.api == ("torch.nn.Module", "torch.relu")
    assert found.methods == ("any", "mean")
    assert found.state == found.keys == {"received": 0, "passed": 0, "returned": 0}


def test_comments_docstrings_and_layout_change_nothing() -> None:
    assert measure(DRESSED, "torch") == measure(PLAIN, "torch")


def test_a_docstring_alone_counts_as_pass() -> None:
    assert measure('def f():\n    """All there is."""', "jax") == measure("def f(): pass", "jax")


def test_one_more_statement_is_seen() -> None:
    longer = measure(PLAIN + "        x.sum()\n", "torch")
    assert longer.statements == 9 and longer.tokens == measure(PLAIN, "torch").tokens + 5


def test_halstead_is_that_of_the_book() -> None:
    found = measure("def f(a, b):\n    return a + b + a", "torch")
    # radon: operators + +, one distinct; operands a, b, (a + b), a: three distinct
    assert found.volume == pytest.approx(6 * 2)  # N log2 n = (2 + 4) log2 (1 + 3)
    assert found.difficulty == pytest.approx(1 / 2 * 4 / 3)
    assert found.effort == pytest.approx(found.volume * found.difficulty)


@pytest.mark.parametrize("line", ["y = x[:, 0]", "y: int = 3", "y = {1: 2}", "y = lambda x: x"])
def test_a_colon_within_a_line_is_no_second_logical_line(line) -> None:
    assert measure(line, "torch").statements == 1


def test_complexity_is_summed_over_classes_within_functions_too() -> None:
    pair = """
def torch_model():
    class Net:
        def forward(self, x):
            return x if x else 1

    return Net()
"""
    found = measure(pair, "torch")
    assert found.complexity == 1 + 2 and found.hardest == "forward"


@pytest.mark.parametrize(
    ("text", "nesting"),
    [
        ("x = 1", 0),
        ("if a:\n    b\nelif c:\n    d\nelif e:\n    f", 1),
        ("if a:\n    b\nelse:\n    for c in d:\n        e", 2),
        ("with a:\n    try:\n        while b:\n            c\n    except E:\n        d", 3),
        ("if a:\n    if b:\n        c", 2),
    ],
)
def test_nesting_is_that_of_control_structures(text, nesting) -> None:
    assert measure(text, "torch").nesting == nesting


@pytest.mark.parametrize(
    ("text", "deep"), [("x", 0), ("x.a().b().c()", 1), ("f(g(h(x)))", 3), ("f(x)(y)", 1), ("f(k=g(x))", 2)]
)
def test_calls_are_deep_in_arguments_and_not_in_chains(text, deep) -> None:
    assert measure(text, "torch").calls_deep == deep


def test_names_are_resolved_through_every_form_of_import() -> None:
    text = """
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx as modules
from .mine import helper

def f(x):
    import optax
    np.zeros(3)
    helper.run(x)
    y = jax.nn.relu(x) + jnp.zeros(3) + jnp.zeros(4)
    return optax.sgd(0.1), modules.Linear, y.at[0].set(1)
"""
    found = measure(text, "jax")
    assert found.api == ("flax.nnx.Linear", "jax.nn.relu", "jax.numpy.zeros", "optax.sgd")
    assert found.methods == ("set",)
    assert measure(text, "torch").api == ()
    bare = "from torch import Tensor, relu as r\ndef f(x: Tensor):\n    return r(x)"
    assert measure(bare, "torch").api == ("torch.Tensor", "torch.relu")
    assert measure("from torch.nn import *\nLinear(1, 2)", "torch").api == ("torch.nn.*",)


def test_own_methods_and_those_of_self_and_super_are_not_methods_of_values() -> None:
    text = """
class A:
    def go(self):
        super().__init__()
        self.step(1)
        other.go()
        return self.weight.reshape(3)
"""
    assert measure(text, "torch").methods == ("reshape",)


def test_state_and_keys_are_counted_where_they_are_handed_on() -> None:
    text = """
def step(params, opt_state, key, x):
    key, use = jax.random.split(key)
    loss, grads = gradient(params, x, rngs={"dropout": key})
    return update(grads, self.opt_state), params, opt_state
"""
    found = measure(text, "jax")
    assert found.state == {"received": 2, "passed": 2, "returned": 2}
    assert found.keys == {"received": 1, "passed": 2, "returned": 0}
    assert sum(measure(text, "torch").keys.values()) == 0  # torch draws from a global generator


def test_the_key_of_attention_is_no_random_key() -> None:
    text = "def attend(query, key, value):\n    return dot(query, key, value)"
    assert sum(measure(text, "jax").keys.values()) == 0
    assert measure("def draw(key, shape):\n    return normal(key, shape)", "jax").keys["passed"] == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def f(:", "Line 1"),
        ("x = 1\n  y = 2", "Line 2"),
        ("", "no code"),
        ("# only a comment\n", "no code"),
        ('"""Only a docstring."""', "no code"),
        ("x = '\0'", "null"),
        ("x = " + "(" * 500 + ")" * 500, "nested"),
        ("x = " + "-" * 100_000 + "1", "nested too deeply"),
        ("x = " + "+".join(["a"] * 900), "nested too deeply"),
        ("x = " + "+".join(["a"] * 20_000), "nested too deeply"),
    ],
)
def test_what_cannot_be_read_is_named(text, said) -> None:
    with pytest.raises(NotPython, match=said):
        measure(text, "torch")


def test_nothing_is_run(tmp_path) -> None:
    victim = tmp_path / "written"
    measure(f"import os\nopen({str(victim)!r}, 'w')\nraise SystemExit(1)", "torch")
    assert not victim.exists()


@pytest.mark.parametrize("name", zoo.names())
def test_every_twin_of_the_zoo_has_figures(name) -> None:
    least = 4 if name == "gru" else 5  # its file holds the cell alone; the layers are the lstm's
    for side, text in zoo.resolve(name).info.sources.items():
        found = measure(text, side)
        assert found.api and found.complexity >= least and found.tokens > 5 * found.statements


def test_no_framework_is_needed() -> None:
    code = "import sys, twinax.measure.alignment; sys.exit(bool({'torch', 'jax'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
