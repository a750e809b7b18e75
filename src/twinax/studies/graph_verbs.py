"""What the graph study does inside its workers."""

from __future__ import annotations

from collections.abc import Mapping

from twinax.records import Json, write_atomically
from twinax.studies.base import Context, Verb


def capture(context: Context, *, program: str, kernels: bool) -> dict[str, Json]:
    """Turn a program into a graph, and keep its texts in the run."""
    assert context.runner is not None and context.twin is not None
    twin = context.twin
    (batch,) = twin.batches(twin.config, context.cell.size, context.options.seed, 1)
    captured = context.runner.capture(program, batch, kernels=kernels)
    (context.folder / "graphs").mkdir(exist_ok=True)
    files = {}
    for name, text in captured.texts.items():
        path = f"graphs/{context.cell.side}.{name}"
        write_atomically(context.folder / path, text.encode())
        files[name.removesuffix(".txt")] = path
    found = {
        "operations": {form: dict(counts) for form, counts in captured.operations.items()},
        "modules": dict(captured.modules),
        "constants": list(captured.constants),
        "promotions": list(captured.promotions),
        "dynamo": dict(captured.dynamo),
        "kernels": dict(captured.kernels),
        "refused": captured.refused,
    }
    return {"found": found, "files": files}


VERBS: Mapping[str, Verb] = {"capture": capture}
