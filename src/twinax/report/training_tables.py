"""Tables of a training: test scores beside those of simpler ways, and how each side got there."""

from __future__ import annotations

from collections.abc import Mapping

from twinax.analyse import Findings, words
from twinax.records import Json
from twinax.report.tables import Row, Table


def scores(row: Mapping[str, Json]) -> Table:
    """One fold's test scores: what `twinax evaluate` prints."""
    names = {words.SIDES.get(row["side"], row["side"]): row["test"], **row["baselines"]}
    return _beside(
        f"Fold {row['fold'] + 1}, step {row['step']:,}: {row['about']}",
        names,
        " ".join([f"Weights: {row['checkpoint']}", *(f"Passed over: {what}" for what in row["passed_over"])]),
    )


def of_test(findings: Findings) -> Table | None:
    """Mean test scores over the folds, of each side that was trained and of the baselines."""
    trained = findings.of("training")
    if not trained:
        return None
    names = {words.SIDES[f.figures["side"]]: f.figures["test"] for f in trained}
    baselines = trained[0].figures["baselines"]
    folds = trained[0].figures["folds"]
    note = f"Means over {folds} folds, each trained on what came before its test days. " if folds > 1 else ""
    note += f"Goal of the tiny preset: {trained[0].figures['claim']}"
    return _beside("Test scores", {**names, **baselines}, note)


def _beside(title: str, columns: Mapping[str, Mapping[str, float]], note: str) -> Table:
    """A line per score, a column per way."""
    metrics = list(dict.fromkeys(name for found in columns.values() for name in found))
    rows = [
        Row((name.replace("_", " "), *(_number(found.get(name)) for found in columns.values())))
        for name in metrics
    ]
    return Table(title, ("Score", *columns), tuple(rows), tuple(range(1, len(columns) + 1)), note)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def runs(findings: Findings) -> Table | None:
    """Steps, time, and time to the goal of each side."""
    trained = findings.of("training")
    rows = [
        Row(
            (
                words.SIDES[f.figures["side"]],
                f"{f.figures['steps']:,}",
                f"{f.figures['epochs']:,}",
                words.seconds(f.figures["seconds"]),
                "never" if f.figures["goal_s"] is None else words.seconds(f.figures["goal_s"]),
                f"{f.figures['parameters']:,}",
            )
        )
        for f in trained
    ]
    columns = ("Side", "Steps", "Epochs", "Training", "Until the goal was met", "Weights")
    note = "Over all folds; training includes compiling, validation and checkpoints."
    return Table("Training", columns, tuple(rows), (1, 2, 3, 4, 5), note) if rows else None
