"""An engine that measures nothing: it answers with a made-up run and tells its listener of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinax.records import Options, Run
from twinax.run.launch import Listener


@dataclass
class Engine:
    """Stands for ``twinax.run.plan.execute``.

    Attributes:
        run: What every call answers with.
        folder: Where the run lies when the caller names no folder.
        error: Raised by every call, after the first record.
        calls: The arguments of every call.
    """

    run: Run
    folder: Path
    error: BaseException | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)

    def __call__(
        self,
        name: str,
        studies: Sequence[str],
        options: Options,
        *,
        folder: Path | None,
        listener: Listener,
        **more: Any,
    ) -> tuple[Run, Path]:
        self.calls.append({"name": name, "studies": studies, "options": options, "folder": folder, **more})
        folder = folder or self.folder
        folder.mkdir(exist_ok=True)
        if listener:
            self._tell(listener)
        if self.error:
            raise self.error
        self.run.save(folder)
        return self.run, folder

    def _tell(self, listener: Listener) -> None:
        listener.planned(self.run.planned)
        for record in self.run.records[: 1 if self.error else None]:
            listener.started(record.cell)
            listener.said(None, "measuring")
            listener.ended(record)
