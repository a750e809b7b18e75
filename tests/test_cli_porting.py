"""``twinax port``: what it passes on, what it prints, and how it ends."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from twinax import cli
from twinax.errors import CannotPort, Unsupported
from twinax.port.torch_to_jax.folder import Proof, Subject
from twinax.run.porting import Port

GOOD = {"name": "outputs, eval mode", "count": 2, "worst": 1e-15, "where": "output", "passed": True}
BAD = {**GOOD, "worst": None, "passed": False}
SUBJECT = Subject("timm:x", "x", "timm", ("x",), (), {}, 0, 4)
OBSTACLE = Unsupported("aten.svd", "net.py:3: y = svd(x)", "Leave it out.")


@pytest.fixture
def call(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["twinax", "port", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out + captured.err

    return run


@pytest.fixture
def asked(monkeypatch):
    """What reaches the engine, which answers with what lies under ``answer``."""
    found: dict = {"answer": Proof([GOOD])}

    def port(source, folder, options, listener):
        found.update(source=source, folder=folder, options=options)
        if isinstance(found["answer"], Exception):
            raise found["answer"]
        return Port(folder, SUBJECT, found["answer"], ("A note.",))

    monkeypatch.setattr("twinax.run.porting.port", port)
    monkeypatch.setattr("twinax.run.porting.obstacles", lambda *_: found["obstacles"])
    return found


def test_every_option_reaches_the_engine(call, asked):
    options = "--input 2x3 --task fill-mask --random-weights --seed 7 --threads 1"
    code, shown = call("hf:x", "--to", "jax", "-o", "new folder", *options.split())
    assert code == 0 and "✓ outputs, eval mode: 2, largest error 1.0e-15" in shown and "· A note." in shown
    assert (asked["source"], asked["folder"]) == ("hf:x", Path("new folder"))
    kept = asked["options"].model_dump(include={"input", "task", "random_weights", "seed", "threads"})
    assert kept == {"input": "2x3", "task": "fill-mask", "random_weights": True, "seed": 7, "threads": 1}


def test_a_port_that_is_not_proved_ends_with_1(call, asked):
    asked["answer"] = Proof([GOOD, BAD], {"kind": "activation", "path": "layer1.0", "detail": ""})
    code, shown = call("timm:x", "-o", "new")
    assert code == 1 and "NOT PROVED: new" in shown and "The first difference is at layer1.0." in shown


def test_a_port_that_cannot_be_done_ends_with_2(call, asked):
    asked["answer"] = CannotPort("Net cannot be ported.", "Change it.", (OBSTACLE,))
    code, shown = call("timm:x", "-o", "new")
    assert code == 2 and "net.py:3" in shown and "Change it." in shown


@pytest.mark.parametrize(("found", "code", "said"), [((OBSTACLE,), 2, "net.py:3"), ((), 0, "can be ported")])
def test_check_lists_everything(call, asked, found, code, said):
    asked["obstacles"] = found
    ended, shown = call("timm:x", "--check")
    assert ended == code and said in shown


def test_it_wants_a_folder_or_a_check(call, asked):
    code, shown = call("timm:x")
    assert code == 2 and "--check" in shown
