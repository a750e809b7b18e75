"""The tables of ``docs/run-format.md``, written from the pydantic models themselves.

``python -m twinax.report.run_format docs/run-format.md`` puts them in place; a test holds the file to them.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from twinax.records import (
    Cell,
    Cluster,
    Device,
    Link,
    Options,
    Outcome,
    Record,
    Run,
    Size,
    TwinInfo,
)

MODELS: tuple[type[BaseModel], ...] = (
    Run,
    TwinInfo,
    Size,
    Options,
    Cluster,
    Device,
    Link,
    Cell,
    Record,
)
BEGIN, END = "<!-- models: begin -->", "<!-- models: end -->"
LINKS = {model.__name__ for model in MODELS} | {"Outcome"}


def tables() -> str:
    """A section per model: its purpose, and a row per field."""
    parts = [_section(model) for model in MODELS]
    outcomes = ", ".join(f"`{outcome.value}`" for outcome in Outcome)
    return "\n\n".join([*parts, f"### Outcome\n\n{_purpose(Outcome)} One of {outcomes}."])


def in_step(text: str) -> str:
    """The document with its tables renewed; what stands outside the markers is kept."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def _section(model: type[BaseModel]) -> str:
    told = _attributes(model)
    rows = [
        f"| `{name}` | {_type(field)} | {_default(field)} | {told.get(name, '')} |"
        for name, field in model.model_fields.items()
    ]
    head = "| Field | Type | Default | Meaning |\n| --- | --- | --- | --- |"
    return "\n".join([f"### {model.__name__}\n\n{_purpose(model)}\n", head, *rows])


def _purpose(model: type) -> str:
    """The docstring's first paragraph, in Markdown."""
    paragraph = inspect.cleandoc(model.__doc__ or "").split("\n\n")[0]
    return _markdown(paragraph)


def _attributes(model: type[BaseModel]) -> dict[str, str]:
    """What the docstring's ``Attributes:`` section says of each field."""
    text = inspect.cleandoc(model.__doc__ or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*(?:\n {8,}.*)*)", text, flags=re.MULTILINE)
    return {name: _markdown(meaning) for name, meaning in entries}


def _markdown(text: str) -> str:
    one_line = re.sub(r"\s+", " ", text).strip().replace("|", "\\|")
    return re.sub(r"``([^`]*)``", r"`\1`", one_line)


def _type(field: FieldInfo) -> str:
    """The field's type, with links to the models it holds."""
    annotation = field.annotation
    name = str(annotation)
    if isinstance(annotation, type) and not get_args(annotation):
        name = annotation.__name__
    name = re.sub(r"\b(?:typing|twinax\.records)\.", "", name).replace("Any", "JSON")
    if name in LINKS:
        return f"[`{name}`](#{name.lower()})"
    linked = [found for found in re.findall(r"\w+", name) if found in LINKS]
    links = "".join(f" ([{found}](#{found.lower()}))" for found in dict.fromkeys(linked))
    return f"`{name}`{links}".replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return f"`{field.get_default(call_default_factory=True)!r}`"


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(in_step(document.read_text()))
