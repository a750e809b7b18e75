"""Event files for TensorBoard: curves, histograms, pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from twinax.errors import DiskFull
from twinax.twin import Array

HINT = "Make room there, or choose another folder with -o."


class Events:
    """A folder of event files; ``tensorboard --logdir FOLDER`` shows it."""

    def __init__(self, folder: Path, step: int) -> None:
        """What an earlier process wrote after ``step`` is not shown any more.

        Raises:
            DiskFull: The folder cannot be written.
        """
        from tensorboardX import SummaryWriter

        self.folder = folder
        self.writer: Any = self._attempt(
            lambda: SummaryWriter(str(folder), purge_step=step + 1, flush_secs=10, max_queue=1000)
        )

    def _attempt(self, work: Any) -> Any:
        try:
            return work()
        except OSError as error:
            raise DiskFull(f"TensorBoard's {self.folder} cannot be written: {error.strerror}.", HINT) from error

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def histograms(self, step: int, kind: str, arrays: Mapping[str, Array]) -> None:
        for name, array in arrays.items():
            if array.size and np.isfinite(array).all():  # of NaN there is no histogram
                self.writer.add_histogram(f"{kind}/{name}", np.asarray(array, np.float64), step)

    def picture(self, step: int, name: str, picture: Array) -> None:
        """A picture (height, width, 3), uint8."""
        self.writer.add_image(name, picture, step, dataformats="HWC")

    def flush(self) -> None:
        self._attempt(self.writer.flush)

    def close(self) -> None:
        self._attempt(self.writer.close)
