"""The documented schema is the one that the code has."""

from pathlib import Path

import pytest

from twinax.records import Options, Run
from twinax.report import run_format

DOCUMENT = Path(__file__).parents[2] / "docs" / "run-format.md"


def test_the_document_is_in_step_with_the_models() -> None:
    text = DOCUMENT.read_text()
    command = "python -m twinax.report.run_format docs/run-format.md"
    assert run_format.in_step(text) == text, f"renew it with: {command}"


def test_a_stale_document_is_noticed() -> None:
    text = DOCUMENT.read_text()
    stale = text.replace("`planned`", "`planed`")
    assert run_format.in_step(stale) != stale


@pytest.mark.parametrize("model", run_format.MODELS, ids=lambda model: model.__name__)
def test_every_field_is_explained(model) -> None:
    section = run_format.tables().partition(f"### {model.__name__}\n")[2].partition("\n### ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert len(rows) == len(model.model_fields)
    assert [row for row in rows if row.endswith("|  |")] == []


def test_what_stands_outside_the_markers_is_kept() -> None:
    text = f"before\n{run_format.BEGIN}\nout of date\n{run_format.END}\nafter\n"
    renewed = run_format.in_step(text)
    assert renewed.startswith("before\n") and renewed.endswith("\nafter\n")
    assert "out of date" not in renewed
    assert Run.__name__ in renewed and Options.__name__ in renewed
