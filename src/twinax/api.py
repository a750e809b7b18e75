"""The public Python functions, which the command line calls too: run, derive, show."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from twinax.analyse import Findings, Recommendation, analyse, recommend, words
from twinax.data import cluster, lengths
from twinax.errors import BadInput, Unsupported
from twinax.records import Options, Outcome, Run, write_atomically
from twinax.report import html, markdown, terminal
from twinax.run import porting, trained
from twinax.run.launch import Listener
from twinax.run.plan import Silent, cross, execute
from twinax.sources import is_file, resolve
from twinax.train.recipe import chosen, task_of

if TYPE_CHECKING:
    import pandas
    import torch
    from rich.console import Console

    from twinax.run.porting_live import LivePort

STUDIES = {
    "compare": ("parity", "speed", "graph", "training"),
    "parity": ("parity",),
    "speed": ("parity", "speed"),  # parity gates speed: without it no ratio is shown
    "graph": ("graph", "shapes", "control_flow"),
    "autodiff": ("derivative_cost", "autodiff", "conventions"),
    "conventions": ("conventions",),
    "train": ("training",),
    "parallel": ("parallel",),
    "usability": ("code", "mistakes", "first_hour"),
}
"""The studies behind each command."""

NOTEBOOK = "<pre style='white-space:pre;overflow-x:auto;line-height:1.3'>{code}</pre>"
"""How a notebook shows the answer: its lines are not broken, a narrow screen scrolls."""


@dataclass(frozen=True)
class Comparison:
    """A run and what follows from it.

    Printing it shows the one-screen answer; in a notebook it shows itself.

    Attributes:
        run: What was asked and measured.
        folder: Where it lies, with ``report.html`` and ``report.md``.
        findings: What follows from the records, with evidence.
        recommendation: The answer, what it rests on, what it does not know, what would change it.
    """

    run: Run
    folder: Path
    findings: Findings
    recommendation: Recommendation

    @property
    def passed(self) -> bool:
        """Whether every planned cell has ended ``ok`` or ``skipped``; a mismatch is neither."""
        fine = (Outcome.OK, Outcome.SKIPPED)
        return self.run.complete and all(record.outcome in fine for record in self.run.records)

    def __repr__(self) -> str:
        return self._shown().export_text().rstrip()

    def _repr_html_(self) -> str:
        return self._shown().export_html(inline_styles=True, code_format=NOTEBOOK)

    def _shown(self) -> Console:
        from rich.console import Console

        # in a notebook rich would display the text itself instead of keeping it
        console = Console(file=io.StringIO(), record=True, width=100, force_jupyter=False)
        terminal.show(self.run, self.findings, self.recommendation, console)
        return console

    def to_pandas(self) -> pandas.DataFrame:
        """One row per finding: kind, title, verdict, severity, and its figures.

        Raises:
            BadInput: pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise BadInput(
                "pandas is not installed here.", "Install it with: pip install 'twinax[pandas]'"
            ) from error
        rows = [
            {"kind": f.kind, "title": f.title, "verdict": f.verdict, "severity": f.severity, **f.figures}
            for f in self.findings.items
        ]
        return pandas.DataFrame(rows)

    def to_json(self) -> dict[str, Any]:
        """The recommendation and the findings as JSON values."""
        return {
            "folder": str(self.folder),
            "passed": self.passed,
            "recommendation": self.recommendation.model_dump(mode="json"),
            "findings": self.findings.model_dump(mode="json")["items"],
        }

    def to_markdown(self) -> str:
        """The report as Markdown."""
        return markdown.render(self.run, self.findings, self.recommendation)

    def write_report(self) -> Path:
        """Write ``report.html`` and ``report.md`` into the run's folder; the path of the first.

        Raises:
            DiskFull: There is no room for them.
        """
        page = self.folder / "report.html"
        write_atomically(page, html.render(self.run, self.findings, self.recommendation).encode())
        write_atomically(self.folder / "report.md", self.to_markdown().encode())
        return page


def load(folder: str | Path) -> Comparison:
    """Read a run and derive everything from it again.

    Raises:
        RunError: There is no run, it is damaged, or another version made it.
    """
    return _derive(Run.load(Path(folder)), Path(folder))


def report(folder: str | Path) -> Comparison:
    """Write a run's ``report.html`` and ``report.md`` again, from its records.

    Raises:
        RunError: There is no run, it is damaged, or another version made it.
    """
    comparison = load(folder)
    comparison.write_report()
    return comparison


def compare(name: str, **choices: Any) -> Comparison:
    """Parity, speed, graphs, and training where the twin has a target.

    Args:
        name: A twin of the zoo (``resnet50``), a pair file of your own (``my_pair.py``), or a model in PyTorch
            (``my_model.py:make_model``, ``timm:resnet50``), whose JAX side is ported first.
        choices: ``quick``, ``batch``, ``dtype``, ``threads``, ``device``, ``modes``, ``seed``, ``weights``,
            ``timeout``, ``lengths`` (a file, or numbers), ``ranks``, ``cluster`` (a file, or a
            :class:`twinax.records.Cluster`), ``launcher``, ``input``, ``task``, ``random_weights``;
            see :class:`twinax.records.Options`. ``output``,
            a new folder for the run; ``resume``, a run to continue; ``listener``, which hears what happens.

    Raises:
        TwinaxError: The input cannot be used, or there is no room for the run.
    """
    return run_studies(STUDIES["compare"], name, **choices)


def parity(name: str, **choices: Any) -> Comparison:
    """Parity alone; arguments as for :func:`compare`."""
    return run_studies(STUDIES["parity"], name, **choices)


def speed(name: str, **choices: Any) -> Comparison:
    """Speed, and the parity that it needs; arguments as for :func:`compare`."""
    return run_studies(STUDIES["speed"], name, **choices)


def graph(name: str, **choices: Any) -> Comparison:
    """The captured graphs, changing sizes, programs with control flow; arguments as for :func:`compare`."""
    return run_studies(STUDIES["graph"], name, **choices)


def autodiff(name: str, **choices: Any) -> Comparison:
    """What derivatives cost, how right they are, and at special points; arguments as for :func:`compare`."""
    return run_studies(STUDIES["autodiff"], name, **choices)


def train(
    name: str = "",
    *,
    sides: Sequence[str] = (),
    resume: str | Path | None = None,
    listener: Listener | None = None,
    command: str = "",
    **choices: Any,
) -> Comparison:
    """Train a twin on one side or on both, or go on with a training, on whatever side.

    Args:
        name: A twin of the zoo.
        sides: ``torch``, ``jax``; empty trains both (with ``resume``: those that the run trains).
        resume: A training's folder: what is missing is trained from its newest checkpoints; a side that the run
            did not train continues the other side's. What the run was begun with stays: nothing else is taken.
        listener: Hears what happens.
        command: The command line, for the record.
        choices: ``preset`` (``tiny``, the default, or ``full``), ``settings`` (fields of
            :class:`twinax.records.Recipe`, or of the twin's configuration),
            ``data``, ``keep``, ``checkpoint_s``; the others as for :func:`compare`.

    Raises:
        TwinaxError: The input cannot be used, or there is no room for the run.
    """
    heard: dict[str, Any] = {"listener": listener, "command": command}
    if resume is not None:
        refused = [*(["the twin"] if name else []), *sorted(choices)]
        if refused:
            raise BadInput(
                f"{resume} is continued with what it was begun with; {words.listing(refused)} cannot be given.",
                "Leave it out, or begin a new training without --resume.",
            )
        if sides:
            cross(Path(resume), make_options({"sides": tuple(sides)}).sides)
        return run_studies(STUDIES["train"], "", resume=resume, **heard)
    given = {"preset": "tiny", **choices, "sides": tuple(sides)}
    check_training(name, make_options({k: v for k, v in given.items() if k in Options.model_fields}))
    return run_studies(STUDIES["train"], name, **given, **heard)


def check_training(name: str, options: Options) -> None:
    """Refuse settings and data that cannot be used, before a folder is made.

    Raises:
        BadInput: The twin has no task, or a setting or the data cannot be used.
    """
    twin = resolve(name) if not is_file(name) else None
    if twin is None:
        raise BadInput(f"{name} has no task: only twins of the zoo can be trained.", "See: twinax list")
    twin, _ = chosen(twin, options.preset or "tiny", options.settings)
    if options.data:
        task_of(twin).load(twin.config, options.data, 0, options.seed)


def evaluate(path: str | Path, *, side: str = "", data: str = "", device: str = "cpu") -> list[dict[str, Any]]:
    """Test scores of a training's best weights beside those of the baselines, per fold.

    Args:
        path: A training's folder, or a checkpoint's.
        side: The side that computes them; empty takes the one that trained.
        data: Where the data lie now; empty takes the place they were trained from.
        device: ``cpu`` or ``cuda``.

    Raises:
        BadInput: There is no checkpoint, or the data are others.
    """
    return trained.evaluate(Path(path), side, data, device)


def predict(path: str | Path, file: str | Path, *, side: str = "", device: str = "cpu") -> str:
    """Predictions for the rows of a CSV file, as CSV text; arguments as for :func:`evaluate`.

    Raises:
        BadInput: The file cannot be used, or there is no checkpoint.
    """
    return trained.predict(Path(path), Path(file), side, device)


def parallel(name: str, **choices: Any) -> Comparison:
    """Strategies on several devices: proved, timed, counted; arguments as for :func:`compare`."""
    return run_studies(STUDIES["parallel"], name, **choices)


def usability(name: str, **choices: Any) -> Comparison:
    """The code of both sides, common mistakes, the first hour; arguments as for :func:`compare`."""
    return run_studies(STUDIES["usability"], name, **choices)


def port(module: torch.nn.Module, example: Any) -> LivePort:
    """Port a live PyTorch module to JAX, in a process that holds both frameworks; prove it in float64.

    Args:
        module: The module; left as it is.
        example: A tensor, a tuple of them in the order of ``forward``, or ``{parameter: tensor}``; a batch of
            at least two.

    Returns:
        The JAX function and its parameters (``apply, params = twinax.port(…)``), with the Flax NNX module, its
        source and its proof as attributes.

    Raises:
        CannotPort: Names everything that stands in the way, with the lines of the source.
    """
    from twinax.run import porting_live

    return porting_live.port(module, example)


def port_source(
    source: str, output: str | Path, *, listener: Listener | None = None, **options: Any
) -> porting.Port:
    """Port a source (``timm:resnet50``, ``my_model.py:make_model``) into a new folder, and prove it.

    Args:
        source: A model that exists in PyTorch only.
        output: A new folder.
        listener: Hears what happens.
        options: ``input``, ``task``, ``random_weights``, ``seed``, ``threads``.

    Raises:
        BadInput: The source cannot be used or ported; nothing is left.
    """
    return porting.port(source, Path(output), make_options(options), listener or Silent())


def obstacles(source: str, *, listener: Listener | None = None, **options: Any) -> tuple[Unsupported, ...]:
    """Everything in a source that cannot be ported; arguments as for :func:`port_source`."""
    return porting.obstacles(source, make_options(options), listener or Silent())


def run_studies(
    studies: Sequence[str],
    name: str,
    *,
    output: str | Path | None = None,
    resume: str | Path | None = None,
    listener: Listener | None = None,
    command: str = "",
    **options: Any,
) -> Comparison:
    """Run studies on a twin, write the reports, and return what follows."""
    run, folder = execute(
        name,
        studies,
        make_options(options),
        folder=Path(output) if output else None,
        resume=Path(resume) if resume else None,
        command=command,
        listener=listener,
    )
    comparison = _derive(run, folder)
    comparison.write_report()
    return comparison


def make_options(given: dict[str, Any]) -> Options:
    """Options from what was given.

    Raises:
        BadInput: A value cannot be used; every such value is named.
    """
    if isinstance(given.get("lengths"), str | Path):
        given = {**given, "lengths": lengths.read(str(given["lengths"])) if given["lengths"] else ()}
    if isinstance(given.get("cluster"), str | Path):
        given = {**given, "cluster": cluster.read(str(given["cluster"])) if given["cluster"] else None}
    try:
        return Options(**given)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in error.errors()]
        raise BadInput(
            f"Options that cannot be used: {'; '.join(faults)}.", "See the command's --help."
        ) from None


def _derive(run: Run, folder: Path) -> Comparison:
    findings = analyse(run)
    return Comparison(run, folder, findings, recommend(findings))
