"""A study that waits, dies or kills what runs it, for the Ray launcher's tests; and its verbs.

What runs leaves a mark in the folder that ``TWINAX_MARKS`` names: all machines of a test are this one.
"""

import os
import signal
import time
from pathlib import Path

from twinax.records import Cell, Size
from twinax.run import ray_task
from twinax.studies.base import STUDIES, Group, Study

NAME = "waiting"
CLASS = "ray_studies:WaitingStudy"


def cell(mode, repeat):
    """Mode ``hold`` waits for a file ``go``; ``kill_ray`` kills what conducts it; ``die`` kills itself."""
    return Cell(twin="xor", study=NAME, side="both", mode=mode, size=Size(batch=1), repeat=repeat)


def group(mode, number):
    """Two cells; the second works at once."""
    return Group(NAME, (cell(mode, 2 * number), cell("work", 2 * number + 1)))


class WaitingStudy(Study):
    name = NAME
    needs = frozenset()
    loads = "nothing"
    verbs_module = "ray_studies"

    def plan(self, info, options):
        return [group("work", 0), group("hold", 1)]

    def conduct(self, group, crew):
        for cell in group.cells:
            found = crew.worker(cell).call("act")
            yield crew.record(cell, found, files={"note": f"arrays/{cell.id}.txt"})


def act(context):
    marks, mode = Path(os.environ["TWINAX_MARKS"]), context.cell.mode
    (marks / f"{context.cell.id}~{time.time_ns()}~{os.getpid()}~{os.getppid()}").touch()
    if mode == "kill_ray":
        os.kill(os.getppid(), signal.SIGKILL)
    if mode == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    while mode in ("hold", "kill_ray") and not (marks / "go").exists():
        time.sleep(0.05)
    note = context.folder / "arrays" / f"{context.cell.id}.txt"
    note.parent.mkdir(exist_ok=True)
    note.write_text(context.cell.id)
    return {"pid": os.getpid()}


VERBS = {"act": act}


def run_group(order, weights, mailbox):
    """The task that is tested, on a machine that knows this study too."""
    STUDIES[NAME] = CLASS
    return ray_task.run_group(order, weights, mailbox)
