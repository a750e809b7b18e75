"""The share of public PyTorch models that ``twinax`` ports to JAX, and proves.

Every model is ported in a torch process, and run in a JAX process without torch: its outputs, the gradient of
every parameter and its running statistics, in eval and in train mode without dropout, must agree with torch's
to 1e-9, norm-relative, in float64, after all weights were moved. ``support/port_models.py`` has the lists: a
model of each module of timm, and architectures of transformers from tiny random configurations. Nothing is
downloaded; needed are timm, transformers, torchvision (timm imports it).

    python benchmarks/port_coverage.py                       goes on where it stopped; two hours on two cores
    python benchmarks/port_coverage.py --only resnet18 bert  these alone, once more
    python benchmarks/port_coverage.py --table               what is known already
    python benchmarks/port_coverage.py --torchax PYTHON      the same models through torchax, in its environment

torchax 0.0.13 does not import beside torch 2.13; the pre-release does: ``pip install --pre torchax``, in an
environment of its own with torch, jax, twinax and the libraries above.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from support import heading

GOAL = 0.95
LIMIT_S = 300.0
"""Longest time that either process of a model may take."""
HERE = Path(__file__).parent
QUICK_COMPILER = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
"""For tiny models: compiling takes a third of the time. What fails so is tried with the usual compiler."""
Record = dict[str, Any]
WORKERS: set[subprocess.Popen[str]] = set()


def stopped(*_: object) -> None:
    """End the workers too: what was under way is done again next time."""
    for worker in list(WORKERS):
        worker.kill()
    os._exit(1)


def main() -> None:
    options = arguments()
    records = known(options.results)
    if not options.table:
        signal.signal(signal.SIGTERM, stopped)
        heading("PyTorch models ported to JAX, and proved")
        run(options, records)
    report(records)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("runs/port_coverage.jsonl"))
    parser.add_argument("--only", nargs="+", default=[], help="these models, though they have a result")
    parser.add_argument("--again", nargs="+", default=[], help="models with these outcomes, once more")
    parser.add_argument("--library", choices=("timm", "transformers"))
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no model after this time")
    parser.add_argument("--jobs", type=int, default=2, help="models at once; a core each")
    parser.add_argument("--keep", type=Path, help="keep the ported models in this folder")
    parser.add_argument(
        "--torchax", help="the python of an environment with torchax: its column instead of ours"
    )
    parser.add_argument("--table", action="store_true", help="print what is known, and run nothing")
    return parser.parse_args()


def run(options: argparse.Namespace, records: dict[tuple[str, ...], Record]) -> None:
    """Every model without a result."""
    tool = "torchax" if options.torchax else "twinax"
    todo = [one for one in models() if wanted(one, options, records.get((tool, *one[:2])))]
    random.Random(0).shuffle(todo)  # what is known before the end is a fair sample
    begin = time.monotonic()
    options.results.parent.mkdir(parents=True, exist_ok=True)

    def one(model: tuple[str, str, str]) -> Record | None:
        if time.monotonic() - begin > options.seconds:
            return None
        library, name, family = model
        record = {"tool": tool, "library": library, "family": family, "name": name}
        told = by_torchax(options.torchax, record) if options.torchax else by_twinax(record, options.keep)
        return record | told

    done = 0
    with ThreadPoolExecutor(options.jobs) as pool, options.results.open("a") as file:
        for record in (future.result() for future in as_completed([pool.submit(one, model) for model in todo])):
            if record is None:
                continue
            done += 1
            records[tool, record["library"], record["name"]] = record
            print(json.dumps(record), file=file, flush=True)
            told = " ".join(record[key] for key in ("name", "outcome", "reason") if record.get(key))
            print(f"{done}/{len(todo)} {told}", flush=True)
    print()
    if done < len(todo):
        print(f"{len(todo) - done} models are left: run it once more.\n")


def wanted(one: tuple[str, str, str], options: argparse.Namespace, record: Record | None) -> bool:
    library, name, _ = one
    if options.library and library != options.library:
        return False
    if options.only:
        return name in options.only
    return record is None or record["outcome"] in options.again


def models() -> list[tuple[str, str, str]]:
    """Library, name and family of every model; in a process, so that this one stays without torch."""
    code = "from support.port_models import listed\n"
    code += "for one in listed(): print(one.library, one.name, one.family, sep='|')"
    told = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    return [tuple(line.split("|")) for line in told.stdout.splitlines()]  # type: ignore[misc]


def by_twinax(record: Mapping[str, str], keep: Path | None) -> Record:
    """Port in one process, prove in another."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if keep:
            place = keep / f"{record['library']}_{record['name']}"
            place.mkdir(parents=True, exist_ok=True)
        torch = [sys.executable, "-m", "support.port_torch", record["library"], record["name"], str(place)]
        told = answer(torch, place / "torch.log")
        if "outcome" in told:
            return told
        prove = [sys.executable, "-m", "support.port_jax", str(place)]
        proof: Record = {}
        for flags in (QUICK_COMPILER, "") if record["library"] == "transformers" else ("",):
            if proof.get("outcome") != "proved":
                proof = answer(prove, place / "jax.log", flags)
        return told | proof


def by_torchax(python: str, record: Mapping[str, str]) -> Record:
    """The same model, through torchax."""
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-m", "support.port_torchax", record["library"], record["name"], folder]
        return answer(command, Path(folder) / "log")


def answer(command: list[str], log: Path, flags: str = "") -> Record:
    """The last line that a process prints, or how it ended without one."""
    with log.open("w") as errors:
        worker = subprocess.Popen(
            command,
            env={**environment(), "XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=HERE,
        )
        WORKERS.add(worker)
        try:
            out, _ = worker.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
            return {"outcome": "time limit", "reason": f"{command[2]} took more than {LIMIT_S:g} s"}
        finally:
            WORKERS.discard(worker)
    lines = out.strip().splitlines()
    if worker.returncode or not lines:
        return {"outcome": "process died", "reason": f"{command[2]} ended with {worker.returncode}"}
    return json.loads(lines[-1])


def environment() -> dict[str, str]:
    """Workers find ``support``, take a core each, and look for no network."""
    paths = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    quiet = {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "JAX_PLATFORMS": "cpu",
    }
    return {**os.environ, **quiet, "PYTHONPATH": paths}


def known(file: Path) -> dict[tuple[str, ...], Record]:
    """The newest record of each model."""
    lines = file.read_text().splitlines() if file.exists() else []
    found = [json.loads(line) for line in lines]
    return {(r["tool"], r["library"], r["name"]): r for r in found}


def report(records: Mapping[tuple[str, ...], Record]) -> None:
    """The shares, what did not work and why, and what is proved: Markdown, as in ``docs/port-coverage.md``."""
    theirs = {tuple(key): r for (tool, *key), r in records.items() if tool == "torchax"}
    ours = sorted(
        (r for (tool, *_), r in records.items() if tool == "twinax"),
        key=lambda r: (r["library"], r["family"], r["name"]),
    )
    shares(ours, theirs)
    failed = [r for r in ours if r["outcome"] != "proved"]
    markdown(
        ["library", "model", "outcome", "why", "torchax"],
        [[r["library"], r["name"], r["outcome"], cell(r.get("reason", "")), other(r, theirs)] for r in failed],
    )
    proved = [r for r in ours if r["outcome"] == "proved"]
    markdown(
        ["library", "family", "model", "lines", "worst error", "torchax"],
        [
            [r["library"], r["family"], r["name"], str(r["lines"]), f"{r['worst']:.0e}", other(r, theirs)]
            for r in proved
        ],
    )


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table for the docs; empty columns are left out."""
    columns = [n for n in range(len(header)) if any(row[n] for row in rows)]
    for row in (header, ["---"] * len(header), *rows):
        print("|", " | ".join(row[n] for n in columns), "|")
    print(flush=True)


def shares(ours: Sequence[Record], theirs: Mapping[tuple[str, ...], Record]) -> None:
    """How many were tried, and proved, of each library; torchax's without running statistics."""
    rows = []
    for tool, found in (("twinax", ours), ("torchax", list(theirs.values()))):
        for library in dict.fromkeys(r["library"] for r in found):
            outcomes = [r["outcome"] for r in found if r["library"] == library]
            proved = sum(outcome.startswith("proved") for outcome in outcomes)
            share = f"{proved / len(outcomes):.1%}"
            goal = f"{GOAL:.0%}" if tool == "twinax" else ""
            rows.append([tool, library, str(len(outcomes)), str(proved), share, goal])
    markdown(["tool", "library", "tried", "proved", "share", "goal"], rows)


def other(record: Record, theirs: Mapping[tuple[str, ...], Record]) -> str:
    """What torchax made of the same model."""
    return theirs.get((record["library"], record["name"]), {}).get("outcome", "")


def cell(text: str) -> str:
    """Short, and without this machine's folders."""
    return re.sub(r"\S*/site-packages/", "", text).replace("|", " ")[:160]


if __name__ == "__main__":
    main()
