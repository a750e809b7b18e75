"""The one-screen answer."""

import io

import pytest
from rich.console import Console

import runs
from twinax.analyse import analyse, recommend
from twinax.records import Run
from twinax.report import terminal


def shown(run: Run, width: int = 100, colour: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=colour)
    findings = analyse(run)
    terminal.show(run, findings, recommend(findings), console)
    return console.file.getvalue()


@pytest.mark.parametrize("make", runs.MAKERS, ids=lambda make: make.__name__)
def test_it_fits_on_one_screen(make) -> None:
    lines = shown(make()).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100


def test_the_answer_comes_first_with_its_ratios() -> None:
    text = shown(runs.full())
    assert text.index("Choose PyTorch") < text.index("95 % interval") < text.index("It does not know")
    assert "PyTorch 2.3" in text
    assert "942 ms compile" in text


def test_a_mismatch_shows_the_layer_and_no_ratio() -> None:
    text = shown(runs.mismatched())
    assert "layer2.1.bn2" in text
    assert "No speed ratio is shown" in text
    assert "95 %" not in text


def test_markup_in_names_is_shown_not_obeyed() -> None:
    twin = runs.info("[bold red]x[/bold red]", title="[link=https://example.org]x[/link]")
    text = shown(runs.run(runs.parity_records(unproved=["[/nothing]\x1b[2J"]), twin=twin))
    assert "[bold red]x[/bold red]" in text
    assert "\x1b[2J" not in text


def test_no_control_character_reaches_the_terminal() -> None:
    text = shown(runs.hostile())
    assert all(c == "\n" or c.isprintable() for c in text)


def test_what_the_answer_says_is_not_said_again() -> None:
    findings = analyse(runs.trained())
    text = " ".join(shown(runs.trained(), width=2000).split())
    titles = [finding.title for finding in findings.of("training")]
    assert len(titles) == 2 and all(text.count(title) == 1 for title in titles)


def test_crashes_are_shown() -> None:
    text = shown(runs.crashed())
    assert "signal 11" in text
    assert "ran out of memory" in text
