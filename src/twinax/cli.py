"""The command line: parse, call, print; nothing else."""

from __future__ import annotations

import inspect
import os
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from twinax import cli_porting, cli_training
from twinax.cli_options import (
    AsJson,
    AsMarkdown,
    Debug,
    Device,
    DeviceOption,
    Input,
    Output,
    RandomWeights,
    Seed,
    Task,
    Threads,
    conducted,
    print_answer,
    stated,
)
from twinax.errors import TwinaxError

app = typer.Typer(
    help="PyTorch or JAX, for my model, on my hardware? Answered with proof and measurement.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


class Dtype(StrEnum):
    """Element types in which speed can be measured."""

    float32 = "float32"
    float64 = "float64"
    bfloat16 = "bfloat16"


class Launcher(StrEnum):
    """Where cells are launched."""

    local = "local"
    ray = "ray"


NAME = "A twin of the zoo (see `twinax list`), a pair file of your own, or a PyTorch model (see `twinax port`)."
Quick = Annotated[bool, typer.Option("--quick", help="Fewer steps, samples and modes: minutes become seconds.")]
Batch = Annotated[int | None, typer.Option("--batch", min=1, help="Examples per batch.")]
DtypeOption = Annotated[Dtype, typer.Option("--dtype", help="Element type in which speed is measured.")]
Modes = Annotated[str, typer.Option("--modes", help="Modes to time: eager, compile, op_by_op, jit (commas).")]
Weights = Annotated[str, typer.Option("--weights", help="A checkpoint: .safetensors, .pth, or a folder.")]
Resume = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        help="A run to continue: what is missing runs, and what that is held against or timed in turn with.",
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", min=1, help="Seconds a worker may stay silent.")]
Lengths = Annotated[str, typer.Option("--lengths", help="A file of sequence lengths: the workload for shapes.")]
Ranks = Annotated[
    str | None, typer.Option("--ranks", help="Numbers of devices for `parallel`: 1,2,4 (2 with --quick).")
]
ClusterFile = Annotated[
    str,
    typer.Option("--cluster", help="A TOML file that states a cluster: predict step time and memory there."),
]
LauncherOption = Annotated[
    Launcher, typer.Option("--launcher", help="Where cells run: this machine, or the nodes of a Ray cluster.")
]
Conventions = Annotated[
    bool, typer.Option("--conventions", help="Only print the gradients at special points; needs no twin.")
]
Train = Annotated[
    bool, typer.Option("--train", help="Also train both sides to the twin's target, and say how long it takes.")
]
OptionalName = Annotated[str, typer.Argument(help=NAME, show_default=False)]


def _run(command: str, name: str, as_json: bool, as_markdown: bool, **choices: Any) -> None:
    """Run a command's studies with live progress, print the answer, and exit with its code."""
    from twinax import api
    from twinax.run import agents

    where = agents.place(os.environ)
    if where is not None and where.rank > 0:  # one of many that a cluster's starter began: rank 0 conducts
        agents.serve(where)
        raise typer.Exit(0)
    choices["modes"] = tuple(mode.strip() for mode in choices["modes"].split(",") if mode.strip())
    line = shlex.join(["twinax", *sys.argv[1:]])
    comparison = conducted(
        lambda listener: api.run_studies(api.STUDIES[command], name, listener=listener, command=line, **choices)
    )
    print_answer(comparison, as_json, as_markdown)


BESIDE_RESUME = frozenset({"resume", "as_json", "as_markdown", "debug"})
"""Parameters that mean something to a run which goes on; all others are those that it was begun with."""


def _tell_ignored(context: typer.Context) -> None:
    """Say which arguments a run that goes on does not heed."""
    given = {name for name in context.params if name not in BESIDE_RESUME and stated(context, name)}
    ignored = [p.opts[0] for p in context.command.params if p.name in given]
    if ignored:
        said = f"Not heeded: {', '.join(ignored)}. A run goes on with what it was begun with."
        Console(stderr=True).print(said, soft_wrap=True, markup=False)


ONLY = {
    "conventions": ("autodiff",),
    "ranks": ("parallel",),
    "cluster": ("parallel",),
    "train": ("compare",),
}
"""Options that only some commands have."""


def _whole_numbers(text: str | None) -> tuple[int, ...]:
    """``1,2,4`` as numbers; none where nothing was given."""
    try:
        return () if text is None else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"--ranks takes whole numbers with commas between, not {text!r}.") from None


def _study(command: str, summary: str, example: str) -> None:
    """Add one command; those that run studies have the same options."""

    def run(
        context: typer.Context,
        name: OptionalName = "",
        quick: Quick = False,
        batch: Batch = None,
        dtype: DtypeOption = Dtype.float32,
        threads: Threads = None,
        device: DeviceOption = Device.cpu,
        modes: Modes = "",
        seed: Seed = 0,
        weights: Weights = "",
        output: Output = None,
        resume: Resume = None,
        timeout: Timeout = 600.0,
        lengths: Lengths = "",
        input: Input = "",
        task: Task = "",
        random_weights: RandomWeights = False,
        ranks: Ranks = None,
        cluster: ClusterFile = "",
        launcher: LauncherOption = Launcher.local,
        conventions: Conventions = False,
        train: Train = False,
        as_json: AsJson = False,
        as_markdown: AsMarkdown = False,
        debug: Debug = False,
    ) -> None:
        if conventions:  # the points are the same for every twin; the smallest is built fastest
            name = name or "xor"
        if not name and resume is None:
            raise typer.BadParameter("Name a twin, or give a run to --resume.")
        if resume is not None:
            _tell_ignored(context)
        _run(
            "conventions" if conventions else command,
            name,
            as_json,
            as_markdown,
            quick=quick,
            batch=batch,
            dtype=dtype.value,
            threads=threads,
            device=device.value,
            modes=modes,
            seed=seed,
            weights=weights,
            output=output,
            resume=resume,
            timeout=timeout,
            lengths=lengths,
            input=input,
            task=task,
            random_weights=random_weights,
            ranks=_whole_numbers(ranks),
            cluster=cluster,
            launcher=launcher.value,
            preset="tiny" if train else "",
        )

    run.__doc__ = f"{summary}\n\nExample: `{example}`"
    mine = inspect.signature(run, eval_str=True)
    others = {name for name, commands in ONLY.items() if command not in commands}
    kept = [p for name, p in mine.parameters.items() if name not in others]
    run.__signature__ = mine.replace(parameters=kept)  # type: ignore[attr-defined] # what typer reads
    app.command(command)(run)


_study(
    "compare",
    "Prove that the two sides agree, measure both, and recommend one.",
    "twinax compare resnet50 --quick",
)
_study("parity", "Prove that the two sides compute the same thing.", "twinax parity my_pair.py")
_study("speed", "Measure both sides (and prove parity first).", "twinax speed bert --modes eager,jit --batch 4")
_study(
    "autodiff",
    "Differentiate on both sides: what it costs, how right it is, and where it is a matter of convention.",
    "twinax autodiff bert --quick",
)
_study(
    "graph",
    "Turn both sides into graphs: what is captured, what a new size costs, what control flow does.",
    "twinax graph resnet50 --quick",
)

_study(
    "parallel",
    "Leave one device: prove, time and count each strategy on both sides, and predict a cluster.",
    "twinax parallel bert --quick --cluster my_cluster.toml",
)
_study(
    "usability",
    "What a person goes through: the code of both sides, common mistakes run, the first hour.",
    "twinax usability xor",
)

app.add_typer(cli_training.app)
app.add_typer(cli_porting.app)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run's folder.")],
    as_json: AsJson = False,
    as_markdown: AsMarkdown = False,
    debug: Debug = False,
) -> None:
    """Rebuild the answer, report.html and report.md from a run.

    Example: `twinax report runs/resnet50-20260101-120000`
    """
    from twinax import api

    print_answer(api.report(run), as_json, as_markdown)


@app.command("list")
def list_twins() -> None:
    """Show the twins of the zoo.

    Example: `twinax list`
    """
    from twinax.sources import zoo

    table = Table("twin", "what it is", box=None, header_style="dim")
    for name, title in zoo.titles().items():
        table.add_row(escape(name), escape(title))
    Console().print(table)


@app.command()
def doctor() -> None:
    """Check whether timings on this machine can be trusted.

    Example: `twinax doctor`
    """
    from twinax.measure import host

    marks = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "bad": "[red]bad[/]"}
    table = Table("check", "state", "value", "advice", box=None, header_style="dim")
    for check in host.checks():
        table.add_row(check.name, marks[check.state], escape(check.value), escape(check.advice))
    Console().print(table)


def _version(asked: bool) -> None:
    if asked:
        import importlib.metadata

        print(importlib.metadata.version("twinax"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None: ...


def main() -> None:
    """Run the command line; every error becomes one message and an exit code."""
    errors = Console(stderr=True)
    debug = "--debug" in sys.argv
    try:
        app()
    except TwinaxError as error:
        if debug:
            raise
        _complain(errors, error.what, error.hint)
        sys.exit(error.exit_code)
    except Exception as error:  # a fault of twinax: say so, and how to report it
        if debug:
            raise
        what = f"twinax itself failed: {type(error).__name__}: {error}"
        _complain(errors, what, "Run the command again with --debug and report the traceback.")
        sys.exit(1)


def _complain(errors: Console, what: str, hint: str) -> None:
    """Print what happened and what to do. Names in it may come from a stranger: no markup, no escape codes."""
    from twinax.analyse import words

    for text, style in ((what, "red"), (hint, "")):
        for line in text.splitlines():
            errors.print(Text(words.printable(line), style=style), soft_wrap=True)
