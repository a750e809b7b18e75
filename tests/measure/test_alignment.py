"""Blocks beside each other: everything is in one block, and what belongs together is found together."""

import ast

import pytest

from twinax.measure import source
from twinax.measure.alignment import align, split
from twinax.sources import zoo

TORCH = '''
"""A net."""

import torch
from torch import nn

RATE = 0.1


@decorated
class TorchNet(nn.Module):
    """A class of one idea."""

    size = 3

    # how it is made
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 1)

    @torch.no_grad()
    def forward(self, x):
        return self.layer(x)  # (batch, 1)


class Other(nn.Module):
    def forward(self, x):
        return x


def loss(y):
    return y.mean()
'''
JAX = (
    TORCH.replace("TorchNet", "JaxNet")
    .replace("forward", "__call__")
    .replace("nn.Linear(2, 1)", "nnx.Linear(2, 1, rngs=rngs)")
)


def paired(torch: str, jax: str) -> dict[str, tuple[bool, bool, int]]:
    return {p.title: (p.torch is not None, p.jax is not None, p.extra) for p in align(torch, jax)}


def test_a_source_is_split_into_all_that_it_does() -> None:
    assert [block.path for block in split(TORCH)] == [
        "TorchNet",
        "TorchNet.__init__",
        "TorchNet.forward",
        "Other",
        "Other.forward",
        "loss",
        "imports",
        "module level",
    ]


@pytest.mark.parametrize(
    "text", [TORCH, *(t for n in zoo.names() for t in zoo.resolve(n).info.sources.values())]
)
def test_blocks_add_up_to_the_source(text) -> None:
    whole, blocks = source.measure(text, "torch"), split(text)
    assert sum(b.tokens for b in blocks) == whole.tokens
    assert sum(b.statements for b in blocks) == whole.statements
    assert sum(b.complexity for b in blocks) == whole.complexity


@pytest.mark.parametrize(
    "text", [TORCH, *(t for n in zoo.names() for t in zoo.resolve(n).info.sources.values())]
)
def test_the_text_shown_is_the_code_counted(text) -> None:
    for block in split(text):
        try:
            shown = source.parse(block.text)
        except source.NotPython:  # a class without its methods, which has no body
            assert block.text.startswith(("class ", "@"))
            continue
        extra = (
            1 if isinstance(shown.body[0], ast.ClassDef) and isinstance(shown.body[0].body[0], ast.Pass) else 0
        )
        assert source.tokens(shown) == block.tokens + extra, block.path


def test_comments_and_decorators_stay_with_what_they_belong_to() -> None:
    texts = {block.path: block.text for block in split(TORCH)}
    assert texts["TorchNet.__init__"].startswith("# how it is made\ndef __init__")
    assert texts["TorchNet.forward"].startswith("@torch.no_grad()\ndef forward")
    assert texts["TorchNet"].startswith("@decorated\nclass") and "size = 3" in texts["TorchNet"]
    assert "how it is made" not in texts["TorchNet"]


def test_names_that_only_tell_the_side_belong_together() -> None:
    found = paired(TORCH, JAX)
    assert found["TorchNet.forward / JaxNet.__call__"] == (True, True, 0)
    assert found["TorchNet.__init__ / JaxNet.__init__"] == (True, True, 4)  # , rngs = rngs
    assert all(torch and jax for torch, jax, _ in found.values())


def test_the_order_does_not_matter() -> None:
    functions = ["def a(x):\n    return x\n", "def b(x, y):\n    return x + y\n", "def c():\n    pass\n"]
    found = paired("\n".join(functions), "\n".join(reversed(functions)))
    assert found == {"a": (True, True, 0), "b": (True, True, 0), "c": (True, True, 0)}


def test_a_function_that_was_renamed_stands_alone() -> None:
    found = paired(TORCH, JAX.replace("def loss", "def cost"))
    assert found["loss"] == (True, False, -12)
    assert found["cost"] == (False, True, 12)


def test_of_two_with_one_name_the_first_goes_with_the_first() -> None:
    twice = "def f(x):\n    return x\n\ndef f(x, y):\n    return x + y + y\n"
    assert [(p.title, p.extra) for p in align(twice, twice)] == [("f", 0), ("f (2)", 0)]
    assert [(p.torch is None, p.jax is None) for p in align(twice, "def f(x):\n    return x\n")] == [
        (False, False),
        (False, True),
    ]


def test_the_only_class_goes_with_the_only_class() -> None:
    torch = "import torch\nclass Classifier:\n    def forward(self, x):\n        return x\n"
    jax = "import jax\nclass MLP:\n    def __call__(self, x):\n        return x\n"
    assert paired(torch, jax)["Classifier.forward / MLP.__call__"] == (True, True, 0)
    two = jax + "class Extra:\n    def __call__(self, x):\n        return x\n"
    assert paired(torch, two)["Classifier.forward"] == (True, False, -10)


def test_pairs_are_split_by_what_stands_in_their_functions() -> None:
    torch = """
def torch_model():
    from torch import nn

    class Net(nn.Module):
        def forward(self, x):
            return x

    return Net()
"""
    jax = torch.replace("torch_model", "jax_model").replace("forward", "__call__").replace("torch", "flax")
    found = paired(torch, jax)
    assert list(found) == ["torch_model / jax_model", "Net", "Net.forward / Net.__call__"]
    assert all(extra == 0 for _, _, extra in found.values())


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_other_ends_of_lines_and_odd_characters_do_not_shift_the_text(end) -> None:
    text = "x = '\x0c \x85 \u2028'\ndef f():\n    return 1\ndef g():\n    return 2".replace("\n", end)
    assert [b.text for b in split(text)][:2] == ["def f():\n    return 1", "def g():\n    return 2"]


def test_several_statements_on_a_line_are_shown_once() -> None:
    (block,) = split("a = 1; b = 2")
    assert block.text == "a = 1; b = 2" and block.statements == 2


def test_hostile_names_are_kept_as_data() -> None:
    text = "def ａlert():\n    return '</script><script>alert(1)</script>'"
    (pair,) = align(text, text)
    assert "</script>" in pair.torch.text and pair.extra == 0


@pytest.mark.parametrize(
    ("torch", "jax"), [("def f(:", "x = 1"), ("x = 1", ""), ("x = 1", "x = " + "+".join("a" * 20_000))]
)
def test_a_side_that_cannot_be_read_is_an_error_that_says_so(torch, jax) -> None:
    with pytest.raises(source.NotPython):
        align(torch, jax)
