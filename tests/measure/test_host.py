"""Facts of the machine, and checks that must be able to fail."""

import json
import os
import subprocess
import sys

import pytest

from twinax.measure import host


def test_facts_are_json_and_name_the_machine():
    facts = json.loads(json.dumps(host.facts()))
    assert facts["cpu"] and facts["memory_bytes"] > 1 << 28
    assert 0 < facts["usable_cores"] <= facts["cores"]
    assert facts["packages"]["numpy"]


def test_facts_import_no_framework():
    code = (
        "import sys; from twinax.measure import host; host.facts(); host.checks();"
        "sys.exit(sum(m in sys.modules for m in ('torch', 'jax', 'flax')))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def named(name: str) -> host.Check:
    return next(check for check in host.checks() if check.name == name)


def test_every_check_that_is_not_ok_advises():
    for check in host.checks():
        assert check.value
        assert check.state == "ok" or check.advice


@pytest.mark.parametrize(("busy", "load", "state"), [(60.0, 2.0, "bad"), (1.0, 8.0, "warn"), (1.0, 0.0, "ok")])
def test_load(monkeypatch, busy, load, state):
    monkeypatch.setattr(host.psutil, "cpu_percent", lambda interval: busy)
    monkeypatch.setattr(host.os, "getloadavg", lambda: (load, load, load))
    monkeypatch.setattr(host, "usable_cores", lambda: 2.0)
    assert named("idle").state == state


@pytest.mark.parametrize(("governor", "state"), [("powersave", "warn"), ("", "warn"), ("performance", "ok")])
def test_governor(monkeypatch, governor, state):
    monkeypatch.setattr(host, "governor", lambda: governor)
    assert named("clock rate").state == state


def test_a_quota_counts(monkeypatch, tmp_path):
    quota = tmp_path / "cpu.max"
    quota.write_text("150000 100000\n")
    monkeypatch.setattr(host, "CPU_QUOTA", quota)
    allowed = len(os.sched_getaffinity(0))
    assert host.usable_cores() == min(1.5, allowed)
    quota.write_text("max 100000\n")
    assert host.usable_cores() == allowed
    assert named("cores").state == ("ok" if allowed == os.cpu_count() else "warn")


def test_settings_that_tilt_one_side_are_pointed_out(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    assert named("threads").state == "warn"
    monkeypatch.delenv("XLA_FLAGS")
    assert named("threads").state == "ok"


def test_a_missing_framework_says_what_to_install(monkeypatch):
    monkeypatch.setattr(host, "versions", lambda: {"torch": "2.13.0"})
    assert named("torch").state == "ok"
    assert named("jax").state == "bad" and "twinax[jax]" in named("jax").advice
