"""Live progress: every cell shows, names cannot do harm, and nothing draws while cells are timed."""

from __future__ import annotations

import io
import re
import threading

import pytest
from rich.console import Console

import runs
from twinax.records import Run
from twinax.report.progress import Progress


def follow(run: Run, *, terminal: bool) -> str:
    """What a person sees while this run goes on."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, color_system=None)
    with Progress(console) as progress:
        progress.planned(run.planned)
        for record in run.records:
            progress.started(record.cell)
            progress.said(None, "sgd: step 1 of 3")
            progress.ended(record)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("make", runs.MAKERS)
def test_without_a_terminal_every_record_is_a_plain_line(make):
    run = make()
    text = follow(run, terminal=False)
    ends = [line for line in text.splitlines() if " after " in line]
    assert len(ends) == len(run.records)
    assert "\x1b" not in text


def test_a_terminal_shows_one_sign_per_cell():
    run = runs.crashed()
    last = follow(run, terminal=True).split("\x1b[2K")[-1]  # every redraw first clears the lines above it
    signs = re.findall(r"float(?:32|64)\s+([✓!–✗·▶]+)", last)
    assert sum(map(len, signs)) == len(run.planned)
    assert "!!" in last and "signal 11" in last


def test_cells_that_never_ran_are_shown_waiting():
    assert "···" in follow(runs.interrupted(), terminal=True)


def test_nothing_draws_between_events():
    before = threading.active_count()
    with Progress(Console(file=io.StringIO(), force_terminal=True)) as progress:
        progress.planned(runs.full().planned)
        assert threading.active_count() == before
