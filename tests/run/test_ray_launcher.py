"""Sweeps on a Ray cluster: machines that die, groups that kill, interrupts; nothing is lost or left behind."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
import ray_studies
from safetensors.numpy import save_file
from test_launch import INFO, gone

from twinax.errors import BadInput, FrameworkMissing, WeightsError
from twinax.records import Options, Outcome, Run
from twinax.run import plan, ray_launcher, ray_task
from twinax.run.launch import SCRATCH_PREFIX, LocalLauncher
from twinax.run.plan import Silent, execute
from twinax.run.ray_launcher import RayLauncher
from twinax.sources import zoo
from twinax.studies.base import STUDIES
from twinax.studies.parity import ParityStudy

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'twinax[ray]'")

MACHINE = {"num_cpus": 1, "object_store_memory": 100 << 20}


@pytest.fixture(scope="module")
def marks(tmp_path_factory):
    return tmp_path_factory.mktemp("marks")


@pytest.fixture(scope="module")
def started(marks):
    """A cluster of three machines of one core, all of them this one."""
    from ray._private import ray_constants
    from ray.cluster_utils import Cluster

    short = tempfile.mkdtemp(prefix="ray-")  # sockets lie in it, and their paths may not be long
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "RAY_TMPDIR": short,
            "RAY_AUTH_MODE": "disabled",  # else Ray writes a token into the home folder
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": str(Path(__file__).parent),
            "TWINAX_MARKS": str(marks),
        }.items():
            patch.setenv(name, value)
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)  # Ray's own: bind to 127.0.0.1
        cluster = Cluster(True, head_node_args={**MACHINE, "include_dashboard": False})
        for _ in range(2):
            cluster.add_node(**MACHINE)
        yield cluster
        ray.shutdown()
        cluster.shutdown()
    shutil.rmtree(short, ignore_errors=True)


@pytest.fixture
def cluster(started, marks, monkeypatch):
    for mark in marks.iterdir():
        mark.unlink()
    monkeypatch.setitem(STUDIES, ray_studies.NAME, ray_studies.CLASS)
    monkeypatch.setattr(ray_launcher, "run_group", ray_studies.run_group)
    return started


@pytest.fixture
def launcher(cluster, tmp_path):
    made = []

    def make(listener=None, info=INFO, weights="", options=None):
        options = options or Options(timeout=60)
        address = cluster.address
        made.append(RayLauncher(info, options, tmp_path, weights, listener or Silent(), address=address))
        return made[-1]

    yield make
    for each in made:
        each.close()


class Hearing(Silent):
    """A listener that counts what was started, and does something at a certain number."""

    def __init__(self, count=0, act=None):
        self.count, self.act = count, act
        self.begun, self.told = [], []

    def started(self, cell):
        self.begun.append(cell.id)
        if self.act and len(self.begun) == self.count:
            self.act()

    def said(self, cell, text):
        self.told.append(text)


class Interrupting(Silent):
    """A listener that does something once so many records are kept: groups run at the same time."""

    def __init__(self, count, act):
        self.count, self.act, self.ended_ones = count, act, 0

    def ended(self, record):
        self.ended_ones += 1
        if self.ended_ones == self.count:
            self.act()


def runs(marks, mode=""):
    """What ran: cell id, worker's pid, pid of the Ray process that conducted it."""
    found = [mark.name.split("~") for mark in sorted(marks.iterdir()) if "~" in mark.name]
    return [(cell, int(pid), int(parent)) for cell, _, pid, parent in found if mode in cell]


def wait_until(what):
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def scratch_of(pid):
    folders = [Path("/dev/shm"), Path(tempfile.gettempdir())]
    return [left for folder in folders for left in folder.glob(f"{SCRATCH_PREFIX}{pid}-*")]


def test_a_killed_machine_loses_nothing_and_repeats_only_its_own_group(cluster, launcher, marks, tmp_path):
    killed = {}

    def kill_one():
        wait_until(lambda: len(runs(marks, "hold")) == 3)
        here = ray.get_runtime_context().get_node_id()
        raylets = {n.all_processes["raylet"][0].process.pid: n for n in cluster.worker_nodes}
        for cell, worker, parent in runs(marks, "hold"):
            node = raylets.get(psutil.Process(parent).ppid())
            if node and node.node_id != here:
                killed.update(cell=cell, node=node.node_id)
                cluster.remove_node(node, allow_graceful=False)
                assert gone(worker) and gone(parent)  # nothing of twinax outlives its machine's Ray
                break
        (marks / "go").touch()

    groups = [ray_studies.group("hold", i) for i in range(5)]
    hearing = Hearing(3, kill_one)
    records = list(launcher(hearing).launch(groups))

    cells = [cell for group in groups for cell in group.cells]
    assert sorted(r.cell.id for r in records) == sorted(cell.id for cell in cells)
    assert {r.outcome for r in records} == {Outcome.OK}
    counts = {cell.id: [run[0] for run in runs(marks)].count(cell.id) for cell in cells}
    assert counts.pop(killed["cell"]) == 2 and set(counts.values()) == {1}
    again = next(r for r in records if r.cell.id == killed["cell"])
    assert again.environment["ray_node"] != killed["node"] and again.environment["machine"]
    assert len({r.environment["ray_node"] for r in records}) == 2  # those that were left
    assert any("NodeDiedError" in text for text in hearing.told)
    for record in records:
        assert (tmp_path / record.files["note"]).read_text() == record.cell.id
        assert (tmp_path / record.files["log"]).exists()


def test_records_and_files_are_those_of_the_local_launcher(cluster, launcher, tmp_path, monkeypatch):
    groups = [ray_studies.group("work", 0), ray_studies.group("die", 1), ray_studies.group("work", 2)]
    local = LocalLauncher(INFO, Options(timeout=60), tmp_path / "local", "", Silent())
    (tmp_path / "local").mkdir()
    here = list(local.launch(groups))
    local.close()
    there = list(launcher().launch(groups))

    def told(records):
        return {r.cell.id: (r.outcome, r.message, sorted(r.files.items())) for r in records}

    assert told(there) == told(here)
    died = next(r for r in there if r.outcome is Outcome.CRASHED)
    assert died.hint == f"Log: {tmp_path}/logs/{died.cell.id}.log" and Path(died.hint[5:]).exists()

    def files(folder):
        return {str(f.relative_to(folder)) for name in ("arrays", "logs") for f in (folder / name).iterdir()}

    assert files(tmp_path) == files(tmp_path / "local")


def test_a_group_that_always_kills_what_runs_it_ends_crashed(cluster, launcher, marks):
    groups = [ray_studies.group("kill_ray", 0), ray_studies.group("work", 1)]
    records = {r.cell.id: r for r in launcher().launch(groups)}
    assert len(records) == 4
    for cell in groups[0].cells:
        assert records[cell.id].outcome is Outcome.CRASHED and records[cell.id].hint
        assert "died 3 times: WorkerCrashedError: The worker died" in records[cell.id].message
    assert all(records[cell.id].outcome is Outcome.OK for cell in groups[1].cells)
    assert len(runs(marks, "kill_ray")) == ray_launcher.TRIES
    assert all(gone(worker) for _, worker, _ in runs(marks, "kill_ray"))


@pytest.mark.slow
def test_an_interrupt_leaves_nothing_and_resume_runs_only_what_is_missing(
    cluster, marks, tmp_path, monkeypatch
):
    def on_ray(*arguments):
        return RayLauncher(*arguments, address=cluster.address)

    def interrupt():
        wait_until(lambda: runs(marks, "hold"))
        raise KeyboardInterrupt

    monkeypatch.setattr(plan, "LocalLauncher", on_ray)
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt, match="run"):
        execute("xor", [ray_studies.NAME], Options(), folder=folder, listener=Interrupting(2, interrupt))
    assert not ray.is_initialized()
    ((_, worker, conductor),) = runs(marks, "hold")
    assert gone(worker)
    wait_until(lambda: not scratch_of(conductor))
    kept = Run.load(folder)
    assert sorted(r.cell.repeat for r in kept.records) == [0, 1]

    (marks / "go").touch()
    again, _ = execute("", [], Options(), resume=folder)
    assert again.complete and {r.outcome for r in again.records} == {Outcome.OK}
    assert again.records[:2] == kept.records
    ran = [cell for cell, _, _ in runs(marks)]
    hold, last = ray_studies.group("hold", 1).cells
    assert {cell: ran.count(cell) for cell in ran} == {
        **{r.cell.id: 1 for r in kept.records},
        hold.id: 2,  # the one that was interrupted
        last.id: 1,
    }


@pytest.mark.parametrize("left", [1.0, 0.0])
def test_a_group_too_large_for_what_is_left_goes_to_a_smaller_machine_or_ends(left, launcher, monkeypatch):
    monkeypatch.setattr(ray_launcher, "STRANDED_S", 0.5)
    largest = iter([99.0])
    made = launcher()
    monkeypatch.setattr(made, "_largest", lambda gpus: next(largest, left))
    records = list(made.launch([ray_studies.group("work", 0)]))
    assert {r.outcome for r in records} == {Outcome.OK if left else Outcome.CRASHED} and len(records) == 2
    assert left or all("lost every machine" in r.message for r in records)


def test_news_of_a_cell_that_has_ended_is_not_news(launcher):
    hearing = Hearing()
    made = launcher(hearing)
    list(made.launch([ray_studies.group("work", 0)]))
    begun = list(hearing.begun)
    letter = {"event": "started", "cell": ray_studies.cell("work", 0).model_dump(), "text": ""}
    ray.get(made._mailbox.put.remote(json.dumps(letter)))
    ray.get(made._mailbox.put.remote(json.dumps({**letter, "event": "said", "text": "later"})))
    made._hear()
    assert hearing.begun == begun and hearing.told[-1] == "later"


def test_a_file_that_a_machine_lacks_is_refused(launcher, tmp_path):
    missing = Options(weights=str(tmp_path / "nowhere.safetensors"))
    with pytest.raises(BadInput, match=r"On .+: There is no .*nowhere\.safetensors") as caught:
        list(launcher(options=missing).launch([ray_studies.group("work", 0)]))
    assert "shares" in caught.value.hint


@pytest.mark.slow
def test_parity_of_a_real_twin(launcher, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_launcher, "run_group", ray_task.run_group)
    info, options = zoo.resolve("xor").info, Options(quick=True)
    records = list(launcher(info=info, options=options).launch(ParityStudy().plan(info, options)))
    assert len(records) == 5 and {r.outcome for r in records} == {Outcome.OK}
    assert records[-1].measurements["holds"] is True
    torch = next(r for r in records if r.cell.side == "torch")
    assert torch.environment["torch"] and torch.environment["cpu"] and torch.environment["ray_node"]


def test_weights_that_do_not_fit_are_refused_by_the_machine_that_loads_them(launcher, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_launcher, "run_group", ray_task.run_group)
    twin, options = zoo.resolve("xor"), Options(quick=True)
    first, *others = twin.init(twin.config, 0).items()
    save_file(dict(others), tmp_path / "weights.safetensors")
    made = launcher(info=twin.info, options=options, weights=str(tmp_path / "weights.safetensors"))
    with pytest.raises(WeightsError, match=f"On .+: The checkpoint does not fit .*\n.*missing: {first[0]}"):
        list(made.launch(plan.plan(twin.info, ["graph"], options)))


# --- a cluster that the launcher starts -------------------------------------------------------------

SWEEP = """
import json, sys
from pathlib import Path
import psutil, ray_studies
from test_launch import INFO
from twinax.records import Options
from twinax.run import ray_launcher
from twinax.run.plan import Silent
from twinax.studies.base import STUDIES

STUDIES[ray_studies.NAME] = ray_studies.CLASS
ray_launcher.run_group = ray_studies.run_group
launcher = ray_launcher.RayLauncher(INFO, Options(threads=1), Path(sys.argv[1]), "", Silent(), address="local")
groups = [ray_studies.group("kill_ray", 0), ray_studies.group("work", 1)]
outcomes = sorted(record.outcome for record in launcher.launch(groups))
processes = psutil.Process().children(recursive=True)
def open_by(process):
    try:
        return process.net_connections("inet")
    except (psutil.Error, OSError):  # it has just ended
        return []
listening = {c.laddr.ip for p in processes for c in open_by(p) if c.status == "LISTEN"}
if sys.argv[2] == "close":
    launcher.close()
print(json.dumps([outcomes, sorted(listening), [p.pid for p in processes]]), flush=True)
if sys.argv[2] != "close":
    list(launcher.launch([ray_studies.group("hold", 2)]))
"""


def sweep(tmp_path, end):
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "RAY_TMPDIR": str(tmp_path / "ray"),
        "RAY_AUTH_MODE": "disabled",
        "PYTHONPATH": str(Path(__file__).parent),
        "TWINAX_MARKS": str(tmp_path / "marks"),
    }
    for name in ("marks", "run"):
        (tmp_path / name).mkdir()
    command = [sys.executable, "-c", SWEEP, str(tmp_path / "run"), end]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def short_path():
    path = Path(tempfile.mkdtemp(prefix="ray-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_a_cluster_of_its_own_listens_to_this_machine_alone_and_ends_with_it(short_path):
    process = sweep(short_path, "close")
    said, _ = process.communicate(timeout=120)
    outcomes, listening, pids = json.loads(said)  # Ray's own reports would stand before it
    assert outcomes == ["crashed", "crashed", "ok", "ok"]
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}
    assert pids and all(gone(pid) for pid in pids)


def test_what_runs_dies_with_a_killed_run(short_path):
    process = sweep(short_path, "hold")
    _, _, pids = json.loads(process.stdout.readline())
    wait_until(lambda: runs(short_path / "marks", "hold"))
    process.kill()
    process.wait()
    ((_, worker, conductor),) = runs(short_path / "marks", "hold")
    assert gone(worker) and gone(conductor)
    for pid in pids:  # Ray's own agents see to it only after a minute
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()


# --- without a cluster -----------------------------------------------------------------------------


def test_without_ray_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(FrameworkMissing, match=r"Ray is not installed here\.") as caught:
        RayLauncher(INFO, Options(), tmp_path, "", Silent())
    assert caught.value.hint == "Install it with: pip install 'twinax[ray]'"


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "127.0.0.1:99999", "ray://127.0.0.1:1"])
def test_a_cluster_that_is_not_there_is_refused_at_once(address, tmp_path):
    begin = time.monotonic()
    with pytest.raises(BadInput, match=f"no Ray cluster at {address}") as caught:
        RayLauncher(INFO, Options(), tmp_path, "", Silent(), address=address)
    assert time.monotonic() - begin < 5 and "ray start" in caught.value.hint


def order(**changes):
    version = importlib.metadata.version("twinax")
    cells = [ray_studies.cell("work", 0).model_dump()]
    return {"version": version, "group": {"cells": cells}, "same": {}, **changes}


def test_a_machine_that_would_run_something_else_is_refused(tmp_path, monkeypatch):
    ray_task.check_machine(order())
    with pytest.raises(BadInput, match=r"twinax is .* there and 0\.0\.0 here"):
        ray_task.check_machine(order(version="0.0.0"))
    pair = tmp_path / "pair.py"
    pair.write_text("a = 1")
    same = {str(pair): ray_task.fingerprint(pair)}
    ray_task.check_machine(order(same=same))
    pair.write_text("a = 2")
    with pytest.raises(BadInput, match="is not the one that is here"):
        ray_task.check_machine(order(same=same))
    monkeypatch.setattr(ray_task, "installed_sides", lambda: ("torch",))
    jax = order(group={"cells": [{**ray_studies.cell("work", 0).model_dump(), "side": "jax"}]})
    with pytest.raises(FrameworkMissing, match="jax is not installed"):
        ray_task.check_machine(jax)


def test_a_folder_is_the_same_when_every_file_is(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert ray_task.fingerprint(tmp_path / "a") == ray_task.fingerprint(tmp_path / "b")
    (tmp_path / "b" / "config.json").rename(tmp_path / "b" / "other.json")
    assert ray_task.fingerprint(tmp_path / "a") != ray_task.fingerprint(tmp_path / "b")
