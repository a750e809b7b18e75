"""First hour: processes that are really fresh, timed to their first line, ended in time, and read."""

import importlib.metadata
import sys
import time
from importlib.metadata import PathDistribution

import psutil
import pytest

import runs
from twinax.errors import CellFailed
from twinax.records import Cell, Options, Outcome, Record, Size
from twinax.run.plan import execute
from twinax.studies import first_hour_verbs as verbs
from twinax.studies.base import Context
from twinax.studies.first_hour import (
    LEFT_OUT,
    MISTAKES,
    QUICK_MISTAKES,
    QUICK_STARTS,
    STARTS,
    FirstHourStudy,
)

SIDES = ("torch", "jax")


def context(folder, side="torch", **options):
    cell = Cell(twin="xor", study="first_hour", side=side, mode="eager", size=Size(batch=1))
    return Context(None, cell, Options(**options), None, {}, folder, folder)


# --- tracebacks --------------------------------------------------------------------------------------

PROGRAM = "/home/me/net.py"
SIMPLE = f"""Traceback (most recent call last):
  File "{PROGRAM}", line 9, in <module>
    print(model(x))
  File "{PROGRAM}", line 4, in forward
    return self.layer(x)
           ^^^^^^^^^^^^^
  File "/lib/linear.py", line 134, in forward
    return F.linear(input, self.weight, self.bias)
RuntimeError: shapes cannot be multiplied
  and a second line of the message
"""


def test_a_traceback_is_read_as_a_person_does():
    found = verbs.read_traceback(SIMPLE, PROGRAM)
    assert (found.lines, found.frames, found.own_frames) == (10, 3, 2)
    assert found.own_from_end == 7  # the line that names line 4, counted from the last
    assert found.own_line == "return self.layer(x)"
    assert found.message == "RuntimeError: shapes cannot be multiplied"


def test_logged_lines_count_and_the_last_of_chained_exceptions_speaks():
    last = SIMPLE.replace("Runtime", "Value")
    chained = f"W: a warning\n{SIMPLE}\nThe above exception was the direct cause:\n\n{last}"
    found = verbs.read_traceback(chained, PROGRAM)
    assert found.lines == 1 + 10 + 3 + 10 and found.own_frames == 4
    assert found.message.startswith("ValueError") and found.own_from_end == 7


def test_a_traceback_that_hides_the_program_says_so():
    found = verbs.read_traceback(SIMPLE, "/home/me/other.py")
    assert (found.own_frames, found.own_from_end, found.own_line) == (0, None, "")


@pytest.mark.parametrize("text", ["", "Warning: something\n", "Traceback (most recent call last):\n"])
def test_no_traceback_has_no_message(text):
    assert verbs.read_traceback(text, PROGRAM).message == ""


# --- processes ---------------------------------------------------------------------------------------


def test_time_ends_at_the_first_line_of_output(tmp_path):
    code = "import time; time.sleep(0.3); print(1); time.sleep(0.5); print(2)"
    begin = time.perf_counter()
    ended = verbs.run(["-c", code], context(tmp_path))
    assert ended.seconds >= 0.3 and time.perf_counter() - begin - ended.seconds > 0.45
    assert (ended.output, ended.code) == ("1\n2\n", 0)


def sleeper(folder):
    """Code that sleeps, in a process that can be told from those of other tests by its folder."""
    return f"import time; time.sleep(99)  # {folder}"


def asleep(folder):
    time.sleep(0.1)
    return [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [""])[-1] == sleeper(folder)]


def test_a_program_that_takes_too_long_is_ended_with_all_it_started(tmp_path):
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {sleeper(tmp_path)!r}]);"
    begin = time.perf_counter()
    ended = verbs.run(["-c", code + "time.sleep(99)"], context(tmp_path, timeout=1.0))
    assert time.perf_counter() - begin < 10
    assert ended.code is None and ended.seconds is None and "too long" in verbs.why(ended)
    assert not asleep(tmp_path) and not list(tmp_path.iterdir())


def test_what_a_program_leaves_running_is_ended(tmp_path):
    code = (
        f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {sleeper(tmp_path)!r}],"
        " stdout=subprocess.DEVNULL, start_new_session=True); print('done')"
    )
    assert verbs.run(["-c", code], context(tmp_path)).code == 0
    assert not asleep(tmp_path) and not list(tmp_path.iterdir())


def test_caches_are_empty_and_the_workers_settings_are_not_inherited(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/somewhere")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/somewhere")
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    code = (
        "import os, tempfile; print(os.environ.get('JAX_COMPILATION_CACHE_DIR'), os.environ['JAX_PLATFORMS'],"
        " os.environ['TORCHINDUCTOR_CACHE_DIR'], tempfile.gettempdir(), os.getcwd())"
    )
    jax, platform, torch, temporary, here = verbs.run(["-c", code], context(tmp_path)).output.split()
    assert jax == "None" and platform == "cpu"  # where torch computes too
    assert temporary == here and torch == f"{here}/inductor" and here.startswith(str(tmp_path))


def test_a_program_that_fails_has_no_time_and_says_why(tmp_path, monkeypatch):
    broken = tmp_path / "torch_result.py"
    broken.write_text('"""Fails."""\nprint(1)\nraise ValueError("no compiler")\n')
    monkeypatch.setattr(verbs, "path_of", lambda side, name: broken)
    row = verbs.start(context(tmp_path), what="result")
    assert row["seconds"] is None and row["said"] == "ValueError: no compiler"
    broken.write_text("x = 1")
    assert verbs.start(context(tmp_path), what="result")["seconds"] is None


def test_others_at_work_are_seen(tmp_path):
    spin = "import time\nend = time.time() + 1.5\nwhile time.time() < end: pass"
    others = [psutil.Popen([sys.executable, "-c", spin]) for _ in range(psutil.cpu_count())]
    try:
        ended = verbs.run(["-c", "import time; time.sleep(0.6); print()"], context(tmp_path))
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert ended.foreign_cpu > 0.2


# --- a beginner's programs ---------------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
def test_every_program_is_there_and_names_no_other_framework(side):
    for name in {*STARTS, *MISTAKES} - {"python", "import"}:
        text = verbs.path_of(side, name).read_text()
        assert verbs.title_of(verbs.path_of(side, name))
        assert ("import torch" in text) == (side == "torch") and ("jax" in text) == (side == "jax")


@pytest.mark.parametrize(
    ("side", "message"),
    [("torch", "RuntimeError: Only Tensors of floating point"), ("jax", "TypeError: grad requires")],
)
def test_a_mistake_is_run_and_read(tmp_path, side, message):
    row = verbs.mistake(context(tmp_path, side), "integer_gradient")
    assert row["raised"] and row["message"].startswith(message)
    assert row["own_frames"] == 1 and 2 <= row["own_from_end"] <= row["lines"] <= 20
    assert row["own_line"] in verbs.path_of(side, "integer_gradient").read_text()


# --- what is installed -------------------------------------------------------------------------------


def made(folder, name, requires=(), size=0):
    """A distribution with one file of that many bytes."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    needs = "".join(f"Requires-Dist: {text}\n" for text in requires)
    info.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}")
    folder.joinpath(f"{name}.bin").write_bytes(b"x" * size)
    info.joinpath("RECORD").write_text(f"{name}.bin,,\n{name}-missing.bin,,\n")
    return PathDistribution(info)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    needs = {
        "torch": [
            'numpy>=1; python_version > "3"',
            'elsewhere; sys_platform == "none"',
            "Shared_Thing[fast]",
            "gone",
        ],
        "shared-thing": ["torch", 'quick; extra == "fast"', 'slow; extra == "other"', "not a (requirement"],
        "numpy": [],
        "quick": [],
        "slow": [],
        "elsewhere": [],
    }
    found = {name: made(tmp_path, name, texts, 10 + i) for i, (name, texts) in enumerate(needs.items())}

    def distribution(name):
        if name not in found:
            raise importlib.metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: list(found.values()))
    return found


def test_what_a_framework_needs_is_followed_and_counted_once(tmp_path, installed):
    found = verbs.install(context(tmp_path))
    assert {p["name"] for p in found["packages"]} == {"torch", "shared-thing", "numpy", "quick"}
    assert found["own_bytes"] == 10 and found["bytes"] == 10 + 11 + 12 + 13
    assert found["build"] == "CPU only"


def test_libraries_for_an_accelerator_are_told(tmp_path, installed):
    installed["numpy"] = made(tmp_path, "nvidia-cudnn-cu13", size=5)
    assert verbs.install(context(tmp_path))["build"] == "with libraries for an accelerator"


def test_a_plugin_that_jax_does_not_require_is_counted(tmp_path, installed):
    installed["jax"] = made(tmp_path, "jax", size=1)
    installed["jax-cuda13-plugin"] = made(tmp_path, "jax-cuda13-plugin", size=100)
    found = verbs.install(context(tmp_path, "jax"))
    assert found["bytes"] == 101 and found["own_bytes"] == 1 and "accelerator" in found["build"]


def test_a_package_without_a_list_of_files_has_no_size(tmp_path, installed):
    (tmp_path / "numpy-1.0.dist-info" / "RECORD").unlink()
    sizes = {p["name"]: p["bytes"] for p in verbs.install(context(tmp_path))["packages"]}
    assert sizes["numpy"] is None and sizes["quick"] == 13


# --- conducting --------------------------------------------------------------------------------------


class Worker:
    def __init__(self, crew, cell):
        self.crew, self.cell = crew, cell

    def send(self, verb, **arguments):
        self.crew.asked.append((self.cell.side, verb, *arguments.values()))

    def receive(self, timeout=None):
        _, verb, *arguments = [row for row in self.crew.asked if row[0] == self.cell.side][-1]
        if self.cell.side == self.crew.fails and len(self.crew.asked) > 6:
            raise CellFailed("crashed", "It died.", "See its log.", self.cell)
        return {"mistakes": list(arguments[0])} if verb == "mistakes" else {"seconds": 1.0}

    def call(self, verb, timeout=None, **arguments):
        self.send(verb, **arguments)
        return self.receive()


class Crew:
    def __init__(self, options, fails):
        self.options, self.fails, self.asked, self.stopped = options, fails, [], []

    def worker(self, cell):
        return Worker(self, cell)

    def start(self, *cells): ...

    def settle(self):
        self.asked.append(("settled",))

    def stop(self, cell):
        self.stopped.append(cell.side)

    def say(self, text): ...

    def record(self, cell, measurements=None, **more):
        return Record(cell=cell, measurements=measurements or {}, **{"outcome": Outcome.OK, **more})


def conduct(fails="", **options):
    crew = Crew(Options(**options), fails)
    (group,) = FirstHourStudy().plan(runs.info(), crew.options)
    return {r.cell.side: r for r in FirstHourStudy().conduct(group, crew)}, crew


def test_processes_of_both_sides_are_mixed_in_the_order_of_the_seed():
    orders = {}
    for seed in (0, 0, 1):
        records, crew = conduct(seed=seed)
        order = [row for row in crew.asked if row[1:2] == ("start",)]
        assert orders.setdefault(seed, order) == order
        assert [r[0] for r in order] != sorted(r[0] for r in order)
        before = [crew.asked[i - 1] for i, row in enumerate(crew.asked) if row[1:2] == ("start",)]
        assert set(before) == {("settled",)}  # nothing else computes when a clock starts
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])
    assert {w: len(s) for w, s in records["jax"].measurements["times"].items()} == STARTS
    assert len(records["torch"].measurements["mistakes"]) == len(MISTAKES)
    assert crew.stopped == ["torch", "jax"]


def test_a_quick_run_says_what_it_leaves_out():
    records, _ = conduct(quick=True)
    for record in records.values():
        assert {w: len(s) for w, s in record.measurements["times"].items()} == QUICK_STARTS
        assert len(record.measurements["mistakes"]) == len(QUICK_MISTAKES)
        left_out = (set(STARTS) - set(QUICK_STARTS)) | (set(MISTAKES) - set(QUICK_MISTAKES)) - {
            "integer_gradient"
        }
        assert record.measurements["left_out"] == dict.fromkeys(left_out, LEFT_OUT)


def test_a_side_that_fails_is_named_and_the_other_goes_on():
    records, _ = conduct(fails="jax")
    assert (records["jax"].outcome, records["jax"].message) == (Outcome.CRASHED, "It died.")
    assert "install" in records["jax"].measurements  # what was measured before is kept
    assert records["torch"].outcome is Outcome.OK
    assert {w: len(s) for w, s in records["torch"].measurements["times"].items()} == STARTS


@pytest.mark.slow
def test_the_whole_quick_study_on_both_frameworks(tmp_path):
    run, _ = execute("xor", ["first_hour"], Options(quick=True), folder=tmp_path / "run")
    for record in run.records:
        assert record.outcome is Outcome.OK
        times = {what: samples[0] for what, samples in record.measurements["times"].items()}
        assert not any(sample["said"] for sample in times.values())
        assert times["python"]["seconds"] < times["import"]["seconds"] < times["step"]["seconds"]
        assert record.measurements["install"]["own_bytes"] > 50e6
        shapes, integers = record.measurements["mistakes"]
        assert shapes["raised"] and shapes["own_frames"] and "8" in shapes["message"]
        assert integers["raised"] == (record.cell.side == "torch")
