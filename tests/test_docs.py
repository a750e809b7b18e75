"""The documentation is in step with the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md"), *ROOT.glob("src/**/*.md")]
)


def test_the_commands_page_is_generated_from_the_commands(tmp_path):
    page = tmp_path / "commands.md"
    make = ["-m", "typer", "twinax.cli", "utils", "docs", "--name", "twinax", "--output", str(page)]
    subprocess.run([sys.executable, *make], check=True, capture_output=True, cwd=ROOT)
    assert page.read_text() == (ROOT / "docs/commands.md").read_text(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_named_files_exist(page):
    text = page.read_text()
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    named = re.findall(r"`((?:docs|examples|src|benchmarks|tests)/[\w./-]+)`", text)
    missing += [name for name in named if not (ROOT / name).exists()]
    assert not missing


def test_the_readme_names_commands_and_targets_that_exist():
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    commands = (ROOT / "docs/commands.md").read_text()
    for target in re.findall(r"(?:\$ |`)make ([a-z-]+)", readme):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for command in re.findall(r"(?:\$ |`)twinax ([a-z]+)", readme):
        assert f"## `twinax {command}`" in commands, command
