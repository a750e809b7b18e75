"""The command that derives the side which is missing: parse, call, print; nothing else."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from twinax.cli_options import Debug, Input, RandomWeights, Seed, Task, Threads, conducted

if TYPE_CHECKING:
    from twinax.run.porting import Port

app = typer.Typer()


class Target(StrEnum):
    """Sides that can be derived."""

    jax = "jax"


SOURCE = (
    "A model in PyTorch: `my_model.py:function` (or a class), `package.module:callable`, `model.pt2`, "
    "`timm:NAME`, `torchvision:NAME`, `hf:ID`, `hf:FOLDER`."
)


@app.command()
def port(
    source: Annotated[str, typer.Argument(help=SOURCE)],
    to: Annotated[Target, typer.Option("--to", help="The side to derive.")] = Target.jax,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new folder for the source code, weights and proof.")
    ] = None,
    input: Input = "",
    task: Task = "",
    random_weights: RandomWeights = False,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing: list everything that cannot be ported.")
    ] = False,
    seed: Seed = 0,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Derive the JAX side of a PyTorch model: readable source code, weights, and proof.

    Example: `twinax port timm:resnet50 --to jax -o resnet50_jax`
    """
    from twinax import api

    given = {
        "input": input,
        "task": task,
        "random_weights": random_weights,
        "seed": seed,
        "threads": threads,
    }
    if check:
        found = conducted(lambda listener: api.obstacles(source, listener=listener, **given))
        for one in found:
            _tell(str(one), "red")
        _tell(f"{len(found)} operations of {source} cannot be ported." if found else f"{source} can be ported.")
        raise typer.Exit(2 if found else 0)
    if output is None:
        raise typer.BadParameter("Give a new folder with -o, or --check.")
    made = conducted(lambda listener: api.port_source(source, output, listener=listener, **given))
    _show(made)
    raise typer.Exit(0 if made.proof.holds else 1)


def _show(made: Port) -> None:
    """What was proved, and where it lies."""
    proof = made.proof
    for check in proof.checks:
        mark, style = ("✓", "green") if check["passed"] else ("✗", "red")
        worst = "cannot be compared" if check["worst"] is None else f"largest error {check['worst']:.1e}"
        _tell(f"{mark} {check['name']}: {check['count']}, {worst}", style)
    for note in (*made.notes, *proof.limits):
        _tell(f"· {note}")
    if proof.first_difference and not proof.holds:
        _tell(f"The first difference is at {proof.first_difference['path']}.", "red")
    _tell(f"{'Proved' if proof.holds else 'NOT PROVED'}: {made.folder}", "" if proof.holds else "red")


def _tell(text: str, style: str = "") -> None:
    """Print a line; names in it may come from a stranger."""
    from twinax.analyse import words

    Console().print(Text(words.printable(text), style=style), soft_wrap=True)
