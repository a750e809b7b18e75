"""The commands that train a twin and use what was trained: parse, call, print; nothing else."""

from __future__ import annotations

import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from twinax.cli_options import (
    AsJson,
    AsMarkdown,
    Debug,
    Device,
    DeviceOption,
    Output,
    Seed,
    Threads,
    conducted,
    print_answer,
    stated,
)

app = typer.Typer()

NAME = "A twin of the zoo (see `twinax list`)."
TRAINED = Annotated[Path, typer.Argument(help="A folder that `twinax train` made, or a checkpoint in it.")]
SIDE_HELP = "The side that computes; left out, the one that trained."


class Framework(StrEnum):
    """Sides to train."""

    torch = "torch"
    jax = "jax"
    both = "both"


class OneSide(StrEnum):
    """A side."""

    torch = "torch"
    jax = "jax"


class Preset(StrEnum):
    """How large, and how long."""

    tiny = "tiny"
    full = "full"


class Dtype(StrEnum):
    """Element types in which a twin can be trained."""

    float32 = "float32"
    float64 = "float64"


SIDES: dict[Framework | None, tuple[str, ...]] = {
    None: (),
    Framework.torch: ("torch",),
    Framework.jax: ("jax",),
    Framework.both: ("torch", "jax"),
}
Side = Annotated[OneSide | None, typer.Option("--framework", help=SIDE_HELP)]
Data = Annotated[str, typer.Option("--data", help="A file or `hf:ID`; left out, the twin's own data.")]


@app.command()
def train(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=NAME, show_default=False)] = "",
    framework: Annotated[
        Framework | None,
        typer.Option("--framework", help="torch, jax, or both (the default). With --resume: who goes on."),
    ] = None,
    preset: Annotated[
        Preset, typer.Option("--preset", help="tiny: minutes on a CPU; full: the published size.")
    ] = Preset.tiny,
    data: Data = "",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="KEY=VALUE: epochs, batch, learning_rate, optimizer, clip, C …; may be repeated."
        ),
    ] = None,
    dtype: Annotated[
        Dtype, typer.Option("--dtype", help="Element type in which it is trained.")
    ] = Dtype.float32,
    seed: Seed = 0,
    threads: Threads = None,
    device: DeviceOption = Device.cpu,
    checkpoint_s: Annotated[
        float, typer.Option("--checkpoint-every", min=0.001, help="Seconds between two checkpoints.")
    ] = 60.0,
    keep: Annotated[int, typer.Option("--keep", min=1, help="Checkpoints that are kept.")] = 3,
    output: Output = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", help="A training to go on with, on whatever side.")
    ] = None,
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
    debug: Debug = False,
) -> None:
    """Train a twin on either side or on both, with checkpoints that cross over.

    Example: `twinax train lstm --framework both`
    """
    from twinax import api
    from twinax.train.recipe import parsed

    if not name and resume is None:
        raise typer.BadParameter("Name a twin, or give a training to --resume.")
    choices = {
        "preset": preset.value,
        "settings": parsed(settings or []),
        "data": str(Path(data).resolve()) if data and Path(data.partition("#")[0]).is_file() else data,
        "dtype": dtype.value,
        "seed": seed,
        "threads": threads,
        "device": device.value,
        "checkpoint_s": checkpoint_s,
        "keep": keep,
        "output": output,
    }
    if resume is not None:  # what was left out on the command line has only its default: nobody asks for it
        choices = {name: value for name, value in choices.items() if stated(context, name)}
    line = shlex.join(["twinax", *sys.argv[1:]])
    comparison = conducted(
        lambda listener: api.train(
            name, sides=SIDES[framework], resume=resume, listener=listener, command=line, **choices
        )
    )
    if not (as_json or as_markdown):
        logs = escape(str(comparison.folder / "tensorboard"))
        Console(stderr=True).print(f"[dim]Curves:[/] tensorboard --logdir {logs}", soft_wrap=True)
    print_answer(comparison, as_json, as_markdown)


@app.command()
def evaluate(
    path: TRAINED,
    framework: Side = None,
    data: Annotated[
        str, typer.Option("--data", help="Where the data lie now; left out, where they lay in training.")
    ] = "",
    device: DeviceOption = Device.cpu,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Print the test scores of a training's best weights, beside those of simpler ways.

    Example: `twinax evaluate runs/lstm-20260101-120000 --framework jax`
    """
    from twinax import api
    from twinax.report import terminal, training_tables

    rows = api.evaluate(path, side=framework.value if framework else "", data=data, device=device.value)
    if as_json:
        import json

        from pydantic_core import to_jsonable_python

        print(json.dumps(to_jsonable_python(rows, inf_nan_mode="null"), indent=1))  # NaN is no JSON
        return
    console = Console()
    for row in rows:
        console.print(terminal.as_rich(training_tables.scores(row)))


@app.command()
def predict(
    path: TRAINED,
    file: Annotated[Path, typer.Argument(help="A CSV file with the columns that it was trained on.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A new CSV file.")] = None,
    framework: Side = None,
    device: DeviceOption = Device.cpu,
    debug: Debug = False,
) -> None:
    """Predict for the rows of a CSV file: CSV in, CSV out.

    Example: `twinax predict runs/knn-20260101-120000 applicants.csv -o answers.csv`
    """
    import csv
    import io

    from twinax import api
    from twinax.analyse import words
    from twinax.run.trained import chosen, write_new

    if output is not None:
        write_new(output, "")  # say at once that it cannot be written
        output.unlink()
    for what in chosen(path).passed_over:
        Console(stderr=True).print(f"A checkpoint is passed over: {escape(what)}", soft_wrap=True)
    text = api.predict(path, file, side=framework.value if framework else "", device=device.value)
    if output is None:
        print(text, end="")
        return
    write_new(output, text)
    rows = sum(1 for _ in csv.reader(io.StringIO(text))) - 1  # a quoted cell may hold line breaks
    Console().print(f"{words.count(rows, 'row')} in {escape(str(output))}", soft_wrap=True)
