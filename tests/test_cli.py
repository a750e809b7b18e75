"""The command line: what it passes on, what it prints, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import runs
from made_up import Engine
from twinax import cli
from twinax.errors import BadInput, CellFailed, DiskFull, WeightsError
from twinax.records import Run

COMMANDS = (
    "compare",
    "parity",
    "speed",
    "graph",
    "autodiff",
    "parallel",
    "usability",
    "report",
    "list",
    "doctor",
)
TWINAX = Path(sys.executable).with_name("twinax")


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def call(monkeypatch, capsys, tmp_path) -> Callable[..., Result]:
    """Run a command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["twinax", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return Result(ended.value.code or 0, captured.out, captured.err)

    return run


@pytest.fixture
def engine(monkeypatch, tmp_path) -> Engine:
    """An engine that answers with a run in which parity holds."""
    made_up = Engine(runs.full(), tmp_path / "made-up")
    monkeypatch.setattr("twinax.api.execute", made_up)
    return made_up


def written(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example_that_parses(call, command):
    shown = call(command, "--help")
    assert shown.code == 0
    example = re.search(r"Example: (twinax \S+.*?) *$", shown.out, re.MULTILINE)
    assert example and example[1].split()[1] == command
    assert call(*example[1].split()[1:], "--help").code == 0


def test_no_command_shows_all_of_them(call):
    shown = call()
    assert all(command in shown.out + shown.err for command in COMMANDS)


def test_compare_shows_the_answer_and_writes_the_reports(call, engine):
    shown = call("compare", "resnet50")
    assert shown.code == 0
    assert "Choose" in shown.out
    assert str(engine.folder / "report.html") in shown.out
    assert written(engine.folder) == ["report.html", "report.md", "run.json"]


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (runs.full, 0),
        (runs.only_torch, 0),
        (runs.mismatched, 1),
        (runs.crashed, 1),
        (runs.interrupted, 1),
        (runs.hostile, 1),
    ],
)
def test_the_exit_code_says_whether_all_is_well(call, engine, make, code):
    engine.run = make()
    assert call("compare", "resnet50").code == code
    assert call("report", str(engine.folder)).code == code


@pytest.mark.parametrize(
    ("command", "studies"),
    [
        ("compare", ("parity", "speed", "graph", "training")),
        ("parity", ("parity",)),
        ("speed", ("parity", "speed")),
        ("graph", ("graph", "shapes", "control_flow")),
        ("autodiff", ("derivative_cost", "autodiff", "conventions")),
        ("parallel", ("parallel",)),
        ("usability", ("code", "mistakes", "first_hour")),
    ],
)
def test_each_command_runs_its_studies(call, engine, command, studies):
    call(command, "xor")
    assert (engine.calls[0]["name"], engine.calls[0]["studies"]) == ("xor", studies)


def test_every_option_reaches_the_engine(call, engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lengths.txt").write_text("12 30")
    line = (
        "compare bert --quick --batch 3 --dtype bfloat16 --threads 1 --device cuda --modes eager,jit --seed 7 "
        "--weights w.pth -o 'new folder' --timeout 30 --lengths lengths.txt --launcher ray "
        "--input 2x3 --task fill-mask --random-weights"
    )
    call(*(word.strip("'") for word in re.findall(r"'[^']*'|\S+", line)))
    (asked,) = engine.calls
    options = asked["options"].model_dump()
    assert options == {
        "quick": True,
        "batch": 3,
        "dtype": "bfloat16",
        "threads": 1,
        "device": "cuda",
        "modes": ("eager", "jit"),
        "seed": 7,
        "weights": "w.pth",
        "timeout": 30.0,
        "lengths": (12, 30),
        "launcher": "ray",
        "preset": "",
        "settings": {},
        "data": "",
        "sides": (),
        "crossing": False,
        "keep": 3,
        "checkpoint_s": 60.0,
        "input": "2x3",
        "task": "fill-mask",
        "random_weights": True,
        "ranks": (),  # which only `parallel` has
        "cluster": None,
    }
    assert asked["folder"] == Path("new folder")
    assert asked["command"] == f"twinax {line}"


def test_what_only_parallel_is_asked_reaches_the_engine(call, engine):
    Path("eight.toml").write_text(
        'name = "one node of eight"\nnodes = 1\ndevices_per_node = 8\n'
        "[device]\nmemory_bytes = 80e9\n[inside]\nlatency_s = 5e-6\nbandwidth_bytes_s = 4e11\n"
    )
    call("parallel", "bert", "--ranks", "1, 2,4", "--cluster", "eight.toml", "--launcher", "ray")
    options = engine.calls[0]["options"]
    assert (options.ranks, options.launcher) == ((1, 2, 4), "ray")
    assert options.cluster.name == "one node of eight" and options.cluster.devices_per_node == 8


def test_resume_needs_no_name(call, engine):
    call("compare", "--resume", "some/run")
    assert engine.calls[0]["resume"] == Path("some/run")
    assert "Not heeded" not in call("compare", "--resume", "some/run", "--json").err


def test_what_a_run_that_goes_on_does_not_heed_is_named(call, engine):
    shown = call("compare", "xor", "--resume", "some/run", "--batch", "4")
    assert "Not heeded: name, --batch." in shown.err


@pytest.mark.parametrize("command", ["compare", "report"])
def test_json_is_all_that_stdout_holds(call, engine, command):
    engine.run = runs.mismatched()
    engine.run.save(made(engine.folder))
    shown = call(command, {"compare": "resnet50", "report": str(engine.folder)}[command], "--json")
    answer = json.loads(shown.out, parse_constant=pytest.fail)
    assert shown.code == 1 and answer["passed"] is False
    assert answer["recommendation"]["choose"] == "undecided"
    assert {"parity", "speed"} <= {finding["kind"] for finding in answer["findings"]}


def test_markdown_is_all_that_stdout_holds(call, engine):
    shown = call("compare", "resnet50", "--markdown")
    assert shown.out.startswith("# resnet50")
    assert shown.out.strip() == (engine.folder / "report.md").read_text().strip()


def made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def test_report_rebuilds_the_same_bytes(call, engine):
    call("compare", "resnet50")
    before = {name: (engine.folder / name).read_bytes() for name in ("report.html", "report.md")}
    for name in before:
        (engine.folder / name).unlink()
    assert call("report", str(engine.folder)).code == 0
    assert before == {name: (engine.folder / name).read_bytes() for name in before}


# --- errors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadInput("There is no [red]such[/red] thing.", "Look [here]."), 2),
        (WeightsError("3 keys are missing:\n  a.weight\n  b.weight", "Use another file."), 2),
        (DiskFull("The disk is full.", "Make room."), 2),
        (CellFailed("crashed", "A worker died.", "See its log."), 1),
    ],
)
def test_an_error_is_one_message_that_says_what_to_do(call, engine, error, code):
    engine.error = error
    shown = call("compare", "xor")
    assert shown.code == code
    assert error.what in shown.err and error.hint in shown.err
    assert "Traceback" not in shown.err and shown.out == ""


def test_debug_shows_the_traceback(engine, monkeypatch):
    engine.error = BadInput("what", "hint")
    monkeypatch.setattr(sys, "argv", ["twinax", "compare", "xor", "--debug"])
    with pytest.raises(BadInput):
        cli.main()


def test_a_fault_of_twinax_asks_for_a_report(call, engine):
    engine.error = ZeroDivisionError("division by zero")
    shown = call("compare", "xor")
    assert shown.code == 1
    assert "ZeroDivisionError: division by zero" in shown.err and "--debug" in shown.err
    assert "Traceback" not in shown.err


def test_an_error_cannot_command_the_terminal(call, engine):
    engine.error = BadInput("a\x1b[2Jb", "hint\x07")
    shown = call("compare", "xor")
    assert "\x1b" not in shown.err and "\x07" not in shown.err


@pytest.mark.parametrize(("arguments", "said"), [(("runs/x",), "runs/x"), ((), "Interrupted.")])
def test_ctrl_c_says_where_the_run_is(call, engine, arguments, said):
    engine.error = KeyboardInterrupt(*arguments)
    shown = call("compare", "xor")
    assert shown.code == 130 and said in shown.err and "Traceback" not in shown.err


def test_a_batch_systems_signal_ends_a_run_as_ctrl_c_does(call, monkeypatch):
    def execute(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("twinax.api.execute", execute)
    before = signal.getsignal(signal.SIGTERM)
    shown = call("compare", "xor")
    assert shown.code == 130 and "Interrupted." in shown.err
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["compare"], "--resume"),
        (["compare", "resnet"], "resnet50"),  # the closest name is offered
        (["compare", "xor", "--batch", "0"], "--batch"),
        (["compare", "xor", "--dtype", "int8"], "--dtype"),
        (["compare", "xor", "--device", "tpu"], "--device"),
        (["compare", "xor", "--modes", "eagre"], "eagre"),
        (["compare", "xor", "--seed", "-1"], "--seed"),
        (["compare", "missing_pair.py"], "missing_pair.py"),
        (["compare", "resnet50", "--weights", "none.pth"], "none.pth"),
        (["compare", "xor", "--resume", "nowhere"], "nowhere"),
        (["compare", "xor", "-o", "taken"], "taken"),
        (["compare", "xor", "-o", "taken/file"], "taken"),
        (["report", "nowhere"], "nowhere"),
        (["report", "taken"], "taken"),
        (["compare", "xor", "--fast"], "--fast"),
        (["train"], "train"),
        (["parallel", "xor", "--ranks", "0"], "--ranks 0 cannot be used"),
        (["parallel", "xor", "--ranks", "2,65"], "from 1 to 64"),
        (["parallel", "xor", "--ranks", "-2"], "--ranks -2 cannot be used"),
        (["parallel", "xor", "--ranks", "a"], "not 'a'"),
        (["parallel", "xor", "--ranks", "1,2.5"], "not '1,2.5'"),
        (["parallel", "xor", "--ranks", "1,,2"], "not '1,,2'"),
        (["parallel", "xor", "--ranks", ""], "not ''"),
        (["parallel", "xor", "--ranks", "2,2"], "--ranks 2,2 cannot be used"),
        (["parallel", "xor", "--cluster", "missing.toml"], "missing.toml"),
        (["parallel", "xor", "--cluster", "taken"], "taken"),
        (["compare", "xor", "--ranks", "2"], "--ranks"),  # only parallel has it
        (["usability", "xor", "--cluster", "a.toml"], "--cluster"),
        (["parallel", "xor", "--launcher", "slurm"], "--launcher"),
    ],
)
def test_bad_input_ends_with_2_and_leaves_everything_as_it_was(call, tmp_path, line, said):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    shown = call(*line)
    assert shown.code == 2
    assert said in shown.err and "Traceback" not in shown.err and shown.out == ""
    assert written(tmp_path) == ["taken"] and written(tmp_path / "taken") == ["file"]


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "not a run"), ('{"schema_version": 99}', "schema version 99"), ('{"schema_version": 1}', "damaged")],
)
def test_a_run_that_cannot_be_read(call, tmp_path, text, said):
    (tmp_path / "run.json").write_text(text)
    shown = call("report", ".")
    assert shown.code == 2 and said in shown.err and written(tmp_path) == ["run.json"]


# --- the other commands -----------------------------------------------------------------------------------


def test_list_shows_every_twin(call):
    from twinax.sources import zoo

    shown = call("list")
    assert shown.code == 0 and all(name in shown.out for name in zoo.names())


def test_doctor_shows_every_check(call, monkeypatch):
    from twinax.measure import host

    checks = [host.Check("idle", "bad", "99 % [busy]", "Stop it."), host.Check("disk", "ok", "9 GiB free")]
    monkeypatch.setattr(host, "checks", lambda: checks)
    shown = call("doctor")
    assert shown.code == 0 and "99 % [busy]" in shown.out and "Stop it." in shown.out and "disk" in shown.out


def test_doctor_looks_at_this_machine(call):
    assert "cores" in call("doctor").out


# --- in a process of its own ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [["--markdown"], ["--json"], []])
def test_a_reader_that_leaves_early_causes_no_traceback(tmp_path, how):
    runs.full().save(tmp_path)
    process = subprocess.Popen(
        [TWINAX, "report", tmp_path, *how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    assert "Traceback" not in process.stderr.read() and process.wait() in (0, 1)


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_can_be_read_and_continued(tmp_path):
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [TWINAX, "compare", "xor", "--quick", "--threads", "1", "-o", folder],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 120
    while not (folder / "run.json").exists() or not Run.load(folder).of("parity"):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert str(folder) in errors and "--resume" in errors and "Traceback" not in errors
    kept = Run.load(folder)
    assert not kept.complete and kept.records
    read = subprocess.run([TWINAX, "report", folder], capture_output=True, text=True)
    assert read.returncode == 1 and (folder / "report.html").exists()

    again = subprocess.run([TWINAX, "compare", "--resume", folder], capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr
    whole = Run.load(folder)
    assert whole.complete
    assert all(whole.record(record.cell) == record for record in kept.records)  # nothing was run twice


def test_train_resumes_with_nothing_but_the_side(call, tmp_path):
    shown = call("train", "--resume", "some/run", "--seed", "0")
    assert shown.code == 2 and "seed cannot be given" in shown.err
    shown = call("train", "--resume", "some/run")
    assert shown.code == 2 and "cannot be given" not in shown.err  # there is no such run
