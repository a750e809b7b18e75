"""Porting from end to end, in processes: what is proved, what is not, and what is left when it fails."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

import twinax
from twinax.errors import BadInput, CannotPort, RunError
from twinax.records import Options
from twinax.run import porting
from twinax.run.plan import Silent, execute

GOOD = """
import torch
from torch import nn

class Net(nn.Module):
    '''A small net.'''
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)
        self.last = nn.Linear(4, 2)

    def forward(self, x):
        x = self.drop(torch.tanh(self.norm(self.first(x))))
        return self.last(nn.functional.dropout(x, 0.1, self.training))
"""
LYING = GOOD.replace("torch.tanh(", "(torch.sin if torch.compiler.is_exporting() else torch.tanh)(")
BRANCHING = GOOD.replace("        x = self.drop(", "        if x.sum() > 0: x = -x\n        x = self.drop(")
OPTIONS = Options(input="4x3")


def model(folder: Path, text: str = GOOD) -> str:
    path = folder / "net.py"
    path.write_text(textwrap.dedent(text))
    return f"{path}:Net"


@pytest.fixture(scope="module")
def proved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proved")
    return porting.port(model(folder), folder / "jax", OPTIONS, Silent())


def test_a_port_is_proved(proved):
    assert proved.proof.holds
    kinds = {check["name"].split(",")[0] for check in proved.proof.checks}
    assert kinds == {"PyTorch repeats itself", "outputs", "loss", "gradients", "buffers"}
    assert proved.proof.batches == (4, 2)
    assert "dropout as a function at dropout" in proved.proof.limits[0]
    text = (proved.folder / "README.md").read_text()
    assert "NOT PROVED" not in text and "| gradients, train mode, float64 | 7 |" in text


def test_its_own_test_passes_without_torch_and_twinax_and_can_fail(proved, tmp_path):
    block = "import sys; sys.modules['torch'] = sys.modules['twinax'] = None; import pytest"
    command = [
        sys.executable,
        "-c",
        f"{block}; sys.exit(pytest.main())",
        "-q",
        "-p",
        "no:cacheprovider",
        "test_parity.py",
    ]
    shown = subprocess.run(command, cwd=proved.folder, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stdout[-2000:]
    for file in proved.folder.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    text = (tmp_path / "model.py").read_text()
    (tmp_path / "model.py").write_text(text.replace("jnp.tanh(", "jnp.sin("))
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert shown.returncode == 1 and "eval|outputs|output" in shown.stdout


def test_a_wrong_port_is_not_proved_and_names_where(tmp_path):
    made = porting.port(model(tmp_path, LYING), tmp_path / "jax", OPTIONS, Silent())
    assert not made.proof.holds
    assert made.proof.first_difference["path"] in ("drop", "last")  # tanh is no module: the next one is
    assert "**NOT PROVED.** It was compared" in (made.folder / "README.md").read_text()


def test_what_cannot_be_ported_leaves_nothing(tmp_path):
    with pytest.raises(CannotPort, match=r"net.py:13"):
        porting.port(model(tmp_path, BRANCHING), tmp_path / "jax", OPTIONS, Silent())
    found = porting.obstacles(model(tmp_path, BRANCHING), OPTIONS, Silent())
    assert found and "net.py:13" in found[0].where
    assert porting.obstacles(model(tmp_path), OPTIONS, Silent()) == ()
    assert {file.name for file in tmp_path.iterdir()} <= {"net.py", "__pycache__"}


def test_a_folder_that_is_not_empty_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(RunError, match="not empty"):
        porting.port(model(tmp_path), tmp_path, OPTIONS, Silent())


def test_a_study_runs_on_a_model_in_pytorch_alone(tmp_path):
    options = Options(input="4x3", quick=True)
    # the bias before BatchNorm has a gradient that is rounding alone, and so is what AdamW makes of it
    run, folder = execute(model(tmp_path), ("parity",), options, folder=tmp_path / "run")
    assert [record.outcome for record in run.records] == ["ok"] * 5, [r.message for r in run.records]
    assert run.twin.title.startswith("A small net: in PyTorch, and in JAX")
    assert "ported from" in run.twin.notes[0]
    assert "class Net(nn.Module)" in run.twin.sources["torch"] and "nnx.Module" in run.twin.sources["jax"]
    assert (folder / "port" / "model.py").exists()


def test_a_study_on_what_cannot_be_ported_leaves_no_folder(tmp_path):
    with pytest.raises(BadInput, match=r"net.py:13"):
        execute(model(tmp_path, BRANCHING), ("parity",), OPTIONS, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_live_module():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.BatchNorm1d(4)).eval()
    ported = twinax.port(net, torch.randn(4, 3))
    assert ported.proof.holds
    apply, params = ported
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    np.testing.assert_allclose(apply(params, x), net(torch.from_numpy(x)).detach(), rtol=1e-5, atol=1e-6)
    assert set(params) == {name for name in net.state_dict() if "num_batches" not in name}


def test_a_live_module_whose_port_is_wrong_is_told():
    class Lying(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(x.sin() if torch.compiler.is_exporting() else x)

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with pytest.raises(UserWarning, match="NOT PROVED: it differs at layer"):
            twinax.port(Lying(), torch.randn(4, 3))


REVERSED = """
import torch
from torch import nn

class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1.0

    @staticmethod
    def backward(ctx, gradient):
        return -gradient

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(3, 2)

    def forward(self, x):
        return self.line(Reversed.apply(x))
"""


def test_a_gradient_towards_the_input_is_proved_too(tmp_path):
    made = porting.port(model(tmp_path, REVERSED), tmp_path / "jax", OPTIONS, Silent())
    assert not made.proof.holds and made.proof.first_difference["path"] == "input x"
    assert any("Reversed" in note for note in made.notes)


KEEPING = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.line, self.state = nn.Linear(3, 2), None

    def forward(self, x):
        y = self.line(x) + (0 if self.state is None else self.state)
        self.state = y.detach()
        return y
"""


def test_what_python_keeps_from_call_to_call_is_found(tmp_path):
    made = porting.port(model(tmp_path, KEEPING), tmp_path / "jax", OPTIONS, Silent())
    failed = {check["name"] for check in made.proof.checks if not check["passed"]}
    assert "PyTorch repeats itself, eval mode" in failed


WIDE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((3,), 1 + 1e-9, dtype=torch.float64))
        self.narrow = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))

    def forward(self, x):
        return x * (self.scale - 1) * 1e9 * self.narrow.float()
"""


def test_weights_of_64_bits_stay_so_and_narrow_ones_are_told(tmp_path):
    made = porting.port(model(tmp_path, WIDE), tmp_path / "jax", OPTIONS, Silent())
    kept = load_file(tmp_path / "jax" / "weights.safetensors")
    assert kept["scale"].dtype == np.float64 and kept["scale"][0] - 1 > 1e-10
    assert kept["narrow"].dtype == np.float32
    assert made.proof.holds and len(made.notes) == 2
    assert "jax_enable_x64" in made.notes[0] and "bfloat16" in made.notes[1]
