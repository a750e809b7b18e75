"""Who imports whom, and what an import costs."""

from __future__ import annotations

import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
FRAMEWORKS = ("torch", "jax", "flax", "optax", "equinox")
PARENT = (
    "twinax, twinax.cli, twinax.api, twinax.testing, twinax.run.plan, twinax.sources.zoo, "
    "twinax.studies.parity, twinax.studies.speed, twinax.studies.graph, twinax.studies.training, twinax.report.html"  # noqa: E501
)


def loaded_after(code: str) -> set[str]:
    """Top-level packages in memory after this code ran in a fresh process."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(shown.stdout.split())


def test_the_import_contracts_hold():
    checked = subprocess.run([BIN / "lint-imports", "--no-logo"], cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_the_linter_is_told_of_every_file_that_holds_a_framework():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    for side in ("torch", "jax"):
        told = next(c for c in contracts if c["name"].startswith(f"The {side} side".replace("jax", "JAX")))
        files = (ROOT / "src/twinax/frameworks").glob(f"{side}_*.py")
        assert {f"twinax.frameworks.{file.stem}" for file in files} <= set(told["source_modules"])
        assert f"twinax.zoo.*.{side}_model" in told["source_modules"]


def test_the_parent_imports_no_framework():
    found = loaded_after(f"import {PARENT}\nfrom twinax.sources import zoo\nzoo.titles()")
    assert not found & set(FRAMEWORKS)


def test_importing_twinax_loads_nothing_else():
    assert not loaded_after("import twinax") & {"numpy", "pydantic", "rich", "typer", "jinja2", "plotly"}


@pytest.mark.parametrize("command", [["-c", "import twinax"], [BIN / "twinax", "--help"]])
def test_starting_is_quick(command):
    """At most 0.5 s; the best of several tries, since other tests may share the processor."""

    def once() -> float:
        begin = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begin

    assert min(once() for _ in range(5)) < 0.5
