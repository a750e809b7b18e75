"""Lines of Python that are too long, over several lines."""

from __future__ import annotations

from twinax.port.torch_to_jax.phrases import WIDTH


def wrapped(line: str) -> list[str]:
    """The line, or where it is too long its outermost brackets over several lines."""
    code = line.partition("  # ")[0]
    if len(line) <= WIDTH + 8 or "(" not in code:
        return [line]
    if len(code) <= WIDTH + 8:
        return [code]
    indent = code[: len(code) - len(code.lstrip())]
    start, end = _outermost(code)
    inner = code[start + 1 : end]
    if len(inner) + len(indent) + 4 <= WIDTH + 8:
        return [code[: start + 1], f"{indent}    {inner}", indent + code[end:]]
    parts = _split(inner)
    called = (
        code[start] != "(" or code[start - 1 : start].isalnum() or code[start - 1 : start] in ("_", ")", "]")
    )
    if len(parts) == 1 and (
        not called or " for _ in " in inner
    ):  # brackets around one expression: with a comma they would be a tuple
        return [code[: start + 1], *wrapped(f"{indent}    {inner}"), indent + code[end:]]
    return [code[: start + 1], *_filled(parts, f"{indent}    "), indent + code[end:]]


def _filled(parts: list[str], indent: str) -> list[str]:
    """Arguments, as many on a line as fit."""
    rows: list[str] = []
    for part in parts:
        if rows and len(rows[-1]) + len(part) + 2 <= WIDTH + 8:
            rows[-1] += f" {part},"
        else:
            rows += [*wrapped(f"{indent}{part}")[:-1], f"{wrapped(f'{indent}{part}')[-1]},"]
    return rows


def _outermost(code: str) -> tuple[int, int]:
    """Where the longest outermost bracket opens and closes."""
    depth, start, found = 0, 0, (0, 0)
    for index, letter in enumerate(code):
        if letter in "([{":
            start, depth = (index, 1) if depth == 0 else (start, depth + 1)
        elif letter in ")]}":
            depth -= 1
            if depth == 0 and index - start > found[1] - found[0]:
                found = (start, index)
    return found


def _split(inner: str) -> list[str]:
    """Arguments, at the commas that are in no bracket."""
    parts, depth = [""], 0
    for letter in inner:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]
