"""What several commands share: their options, and how an answer is printed."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from twinax.run.launch import Listener


class Device(StrEnum):
    """Devices."""

    cpu = "cpu"
    cuda = "cuda"


DeviceOption = Annotated[Device, typer.Option("--device", help="Where to run.")]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads per worker.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of every random draw.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="A new folder for the run.")]
Input = Annotated[
    str,
    typer.Option(
        "--input", help="What a PyTorch model takes: 8x3x224x224:float32, 2x16:int64<1000 (commas between)."
    ),
]
Task = Annotated[str, typer.Option("--task", help="Of a Hugging Face model: text-classification, …")]
RandomWeights = Annotated[
    bool, typer.Option("--random-weights", help="Make a Hugging Face model from its configuration alone.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON, and nothing else.")]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print the report as Markdown.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]  # read in main


def stated(context: typer.Context, name: str) -> bool:
    """Whether a parameter stands on the command line."""
    return context.get_parameter_source(name).name == "COMMANDLINE"  # type: ignore[union-attr]


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM, which batch systems send, is heard as Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def conducted(work: Callable[[Listener], Any]) -> Any:
    """What the work gives, with live progress; Ctrl-C or SIGTERM ends it with one message and exit code 130."""
    from twinax.report.progress import Progress

    errors = Console(stderr=True)
    try:
        with _terminable(), Progress(errors) as progress:
            return work(progress)
    except KeyboardInterrupt as stop:
        kept = f" {stop.args[0]} holds what was measured; go on with --resume." if stop.args else ""
        errors.print(f"Interrupted.{escape(kept)}", soft_wrap=True)
        raise typer.Exit(130) from None


def print_answer(comparison: Any, as_json: bool, as_markdown: bool) -> None:
    """Print the answer and exit: 0 where every cell ended well and parity holds, else 1."""
    from twinax.report import terminal

    if as_json:
        print(json.dumps(comparison.to_json(), indent=1))
    elif as_markdown:
        print(comparison.to_markdown())
    else:
        console = Console()
        show = terminal.show_conventions if comparison.run.studies == ("conventions",) else terminal.show
        show(comparison.run, comparison.findings, comparison.recommendation, console)
        console.print(f"[dim]Report:[/] {escape(str(comparison.folder / 'report.html'))}", soft_wrap=True)
    raise typer.Exit(0 if comparison.passed else 1)
