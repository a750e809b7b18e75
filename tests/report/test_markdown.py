"""The Markdown report."""

import re

import pytest

import runs
from twinax.analyse import analyse, recommend
from twinax.records import Run
from twinax.report import markdown


def rendered(run: Run) -> str:
    findings = analyse(run)
    return markdown.render(run, findings, recommend(findings))


@pytest.mark.parametrize("make", runs.MAKERS, ids=lambda make: make.__name__)
def test_the_same_run_gives_the_same_text(make) -> None:
    assert rendered(make()) == rendered(make())


@pytest.mark.parametrize("make", runs.MAKERS, ids=lambda make: make.__name__)
def test_every_table_row_has_as_many_cells_as_its_head(make) -> None:
    width = 0
    for line in rendered(make()).splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert cells == 0 or width in (0, cells), line
        width = cells


@pytest.mark.parametrize("make", runs.MAKERS, ids=lambda make: make.__name__)
def test_every_planned_cell_is_in_it(make) -> None:
    text = rendered(make()).replace("\\_", "_")
    assert all(cell.id in text for cell in make().planned)


def test_the_answer_comes_first() -> None:
    text = rendered(runs.full())
    assert text.index("Choose PyTorch") < text.index("It rests on") < text.index("Which is faster?")
    assert "0.4" in text


def test_a_mismatch_comes_before_everything_else() -> None:
    text = rendered(runs.mismatched())
    headings = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert headings[0] == "Where they differ"
    assert "Speed ratios" not in text
    assert "layer2.1.bn2" in text[:400]


def test_names_cannot_become_markup() -> None:
    text = rendered(runs.hostile())
    assert "<" not in text.replace("\\<", "")
    assert "\x1b" not in text
    assert "a\\|b\\`c\\`" in text


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("<b>", "&lt;b&gt;"),
        ("[x](https://example.org)", "\\[x\\](https://example.org)"),
        ("a|b", "a\\|b"),
        ("*_`#~\\", "\\*\\_\\`\\#\\~\\\\"),
        ("two\nlines", "two\ufffdlines"),
    ],
)
def test_escaping(text: str, safe: str) -> None:
    assert markdown.escaped(text) == safe
