"""What it takes in lines to leave one device: each strategy's program against the one for a single device.

The programs are ``twinax.probes.parallel``: the same small model and training loop in every one, and each
runs. They are read here as text; none is imported.
"""

from __future__ import annotations

import difflib
import io
import tokenize
from collections.abc import Mapping
from importlib import resources

from twinax.frameworks.parallel import STRATEGIES
from twinax.records import Json


def of_side(side: str) -> dict[str, Json]:
    """Strategy → ``lines``, ``added``, ``removed`` (lines of code) and the ``diff`` as text."""
    folder = resources.files("twinax.probes.parallel") / f"{side}_side"
    single = (folder / "single.py").read_text()
    return {
        strategy: changed(single, (folder / f"{strategy}.py").read_text())
        for strategy in STRATEGIES
        if (folder / f"{strategy}.py").is_file()
    }


def changed(before: str, after: str) -> Mapping[str, Json]:
    """Lines of code that are new or gone; comments, docstrings and blank lines do not count."""
    old, new = code_lines(before), code_lines(after)
    moves = difflib.SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes()
    gone = sum(stop - start for tag, start, stop, _, _ in moves if tag != "equal")
    come = sum(stop - start for tag, _, _, start, stop in moves if tag != "equal")
    diff = "\n".join(difflib.unified_diff(old, new, "single.py", "strategy", lineterm="", n=1))
    return {"lines": len(new), "added": come, "removed": gone, "diff": diff}


def code_lines(text: str) -> list[str]:
    """The lines that hold code, without their comments."""
    lines = text.splitlines()
    kept: dict[int, str] = {}
    comments: dict[int, int] = {}
    fresh = True  # a string that begins a statement is a docstring
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = token.start[1]
        if token.type in (tokenize.COMMENT, tokenize.NL):
            continue
        if token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            fresh = True
            continue
        if token.type == tokenize.STRING and fresh:
            continue
        fresh = False
        for number in range(token.start[0], token.end[0] + 1):
            if token.type != tokenize.ENDMARKER:
                kept[number] = lines[number - 1]
    return [kept[number][: comments.get(number)].rstrip() for number in sorted(kept)]
