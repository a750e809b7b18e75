"""The two roles of a cluster's ranks, for the agents' tests: ``python agent_roles.py conduct|serve FOLDER``."""

import json
import os
import sys
import time
from pathlib import Path

from test_launch import INFO

from twinax.errors import TwinaxError
from twinax.records import Cell, Options, Size
from twinax.run import agents
from twinax.run.launch import LocalCrew, LocalLauncher
from twinax.run.plan import Silent
from twinax.run.process import ThisMachine

CELL = Cell(twin="none", study="test", side="both", mode="data", size=Size(batch=1), ranks=2, processes=2)


def conduct(folder: Path, verb: str) -> dict:
    """Rank 0: a gang of two, the second on the agent's machine."""
    where = agents.place(os.environ)
    with agents.gathered(where) as others:
        launcher = LocalLauncher(
            INFO,
            Options(timeout=5),
            folder,
            "",
            Silent(),
            hosts=[ThisMachine(), *others],
            address=where.address,
        )
        with LocalCrew("worker_verbs", launcher) as crew:
            worker = crew.worker(CELL)
            begin = time.monotonic()
            try:
                answer = worker.call(verb, **({} if verb == "rank" else {"who": 1}))
                return {"answer": answer}
            except TwinaxError as error:
                return {"error": error.what, "seconds": time.monotonic() - begin}


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        agents.serve(agents.place(os.environ))
    else:
        print(json.dumps(conduct(Path(sys.argv[2]), sys.argv[3])), flush=True)
