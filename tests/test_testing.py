"""The examples, proved through real workers by the assertion that projects put into their own tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from twinax.records import Run
from twinax.testing import assert_twins_agree

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.parametrize(
    "name",
    [*(pytest.param(n, marks=pytest.mark.slow) for n in ("encoder_pair", "functions_pair")), "equinox_pair"],
)
def test_right_examples_hold(name: str, tmp_path: Path) -> None:
    assert_twins_agree(EXAMPLES / f"{name}.py", folder=tmp_path / "run")
    (found,) = [r.measurements for r in Run.load(tmp_path / "run").records if "checks" in r.measurements]
    kinds = {check["kind"] for check in found["checks"]}
    assert {"outputs", "loss", "gradients", "optimizer", "trajectory"} <= kinds
    # a key's bias moves every score of a softmax alike: nothing notices it
    assert set(found["unproved"]) <= {"attention.key.bias"}


def test_the_wrong_gelu_is_found_and_located(tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as caught:
        assert_twins_agree(EXAMPLES / "encoder_pair_wrong_gelu.py", folder=tmp_path / "run")
    text = str(caught.value)
    assert "First difference: activation of gelu" in text
    assert "outputs, eval mode, float64" in text
    assert str(tmp_path / "run") in text
    (found,) = [r.measurements for r in Run.load(tmp_path / "run").records if "checks" in r.measurements]
    assert found["first_difference"]["path"] == "gelu"
    assert [row["path"] for row in found["layers"] if row["error"] < 1e-12] == ["norm", "up"]


def test_it_imports_no_framework() -> None:
    code = "import sys, twinax.testing; sys.exit(any(m in sys.modules for m in ('torch', 'jax', 'flax')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
