"""Lines of code that a strategy takes: what counts as one, and what is new or gone."""

from __future__ import annotations

import pytest

from twinax.frameworks.parallel import STRATEGIES
from twinax.studies import parallel_lines

BEFORE = '''"""What it is."""
import a  # the library


def f(x):
    """One line.

    And more.
    """
    # a remark
    text = "no  # comment"
    return g(
        x,

        text,
    )
'''


def test_only_lines_with_code_count():
    assert parallel_lines.code_lines(BEFORE) == [
        "import a",
        "def f(x):",
        '    text = "no  # comment"',
        "    return g(",
        "        x,",
        "        text,",
        "    )",
    ]


def test_a_text_that_is_used_is_code():
    text = 'x = """one\n\nthree"""\ny = 1 # near\n'
    assert parallel_lines.code_lines(text) == ['x = """one', "", 'three"""', "y = 1"]


def test_comments_and_docstrings_change_nothing():
    after = BEFORE.replace("What it is", "Something else").replace("  # the library", "").replace("# a", "# b")
    found = parallel_lines.changed(BEFORE, after)
    assert (found["added"], found["removed"], found["diff"], found["lines"]) == (0, 0, "", 7)


def test_new_and_gone_lines_are_counted_and_shown():
    after = BEFORE.replace("import a", "import a\nimport b").replace("        x,\n", "")
    found = parallel_lines.changed(BEFORE, after)
    assert (found["added"], found["removed"], found["lines"]) == (1, 1, 7)
    assert "+import b" in found["diff"].splitlines() and "-        x," in found["diff"].splitlines()
    other = parallel_lines.changed("a = 1\n", "a = 2\nb = 3\n")
    assert (other["added"], other["removed"]) == (2, 1)


@pytest.mark.parametrize("side", ["torch", "jax"])
def test_every_strategy_of_a_side_has_its_program(side):
    found = parallel_lines.of_side(side)
    assert set(found) == set(STRATEGIES) - {"data_local"}
    for strategy, counted in found.items():
        assert counted["added"] > 0, strategy
        alone = counted["lines"] - counted["added"] + counted["removed"]  # the one device's program
        assert alone == found["data"]["lines"] - found["data"]["added"] + found["data"]["removed"]
        assert counted["diff"].count("\n+") - 1 == counted["added"]
