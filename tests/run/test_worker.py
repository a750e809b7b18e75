"""What a worker tells of an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from twinax.errors import CellFailed, WeightsError
from twinax.run.worker import describe


def test_an_error_inside_a_library_names_the_users_line(tmp_path: Path) -> None:
    file = tmp_path / "theirs.py"
    file.write_text("import numpy as np\n\ndef forward():\n    return np.linalg.inv(np.zeros((2, 2)))\n")
    names: dict = {}
    exec(compile(file.read_text(), str(file), "exec"), names)
    with pytest.raises(np.linalg.LinAlgError) as caught:
        names["forward"]()
    told = describe(caught.value)
    assert told["outcome"] == "crashed"
    assert f"({file}:4)" in told["what"] and "Singular matrix" in told["what"]


@pytest.mark.parametrize(
    ("error", "kind", "outcome"),
    [
        (MemoryError(), "CellFailed", "out_of_memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "CellFailed", "out_of_memory"),
        (CellFailed("unsupported", "what", "hint"), "CellFailed", "unsupported"),
        (WeightsError("what", "hint"), "WeightsError", None),
        (OSError(28, "No space left on device"), "DiskFull", None),
        (SafetensorError("Error while serializing: I/O error: No space left (os error 28)"), "DiskFull", None),
        (SystemExit(3), "UserFileError", None),
    ],
)
def test_an_error_has_a_name(error: BaseException, kind: str, outcome: str | None) -> None:
    told = describe(error)
    assert (told["type"], told.get("outcome")) == (kind, outcome)
    assert told["what"] and told["hint"]


def test_a_branch_on_traced_data_is_unsupported_and_names_its_line(tmp_path: Path) -> None:
    import jax

    file = tmp_path / "theirs.py"
    file.write_text("def forward(x):\n    if x > 0:\n        return x\n    return -x\n")
    names: dict = {}
    exec(compile(file.read_text(), str(file), "exec"), names)
    with pytest.raises(jax.errors.TracerBoolConversionError) as caught:
        jax.jit(names["forward"])(1.0)
    told = describe(caught.value)
    assert told["outcome"] == "unsupported" and f"({file}:2)" in told["what"]
    assert "\n" not in told["what"] and "lax.cond" in told["hint"]
