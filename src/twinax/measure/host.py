"""The machine: facts for the record, and checks that say whether its timings can be trusted."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from twinax.records import Json

PACKAGES = ("torch", "jax", "jaxlib", "flax", "optax", "numpy", "twinax")
GIB = 1 << 30
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of this process's control group, as a container sees it


@dataclass(frozen=True)
class Check:
    """One thing that decides whether timings on this machine mean anything."""

    name: str
    state: Literal["ok", "warn", "bad"]
    value: str
    advice: str = ""


def facts() -> dict[str, Json]:
    """What a reader of the run must know of the machine."""
    return {
        "cpu": cpu_model(),
        "cores": psutil.cpu_count(logical=True),
        "usable_cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "governor": governor(),
        "load": round(os.getloadavg()[0], 2),
        "gpu": gpu(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": versions(),
    }


def cpu_model() -> str:
    """The processor's name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> float:
    """Cores that this process may use: its affinity, and its control group's quota."""
    allowed = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    with contextlib.suppress(OSError, ValueError):
        quota, period = CPU_QUOTA.read_text().split()
        allowed = min(allowed, int(quota) / int(period))  # "max" is no number: no quota
    return allowed


def governor() -> str:
    """How the kernel sets the clock rate; empty where it does not tell."""
    with contextlib.suppress(OSError):
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text().strip()
    return ""


def gpu() -> str:
    """The GPUs that the driver lists; empty where there is none."""
    if shutil.which("nvidia-smi") is None:
        return ""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        found = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        return "; ".join(found.stdout.split("\n")).strip("; ")
    return ""


def versions() -> dict[str, str]:
    """Versions of the packages that matter, read without importing them."""
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def checks() -> list[Check]:
    """What ``twinax doctor`` shows."""
    return [_load(), _cores(), _governor(), _threads(), *_frameworks(), _memory(), _disk(), _gpu(), _caches()]


def _load() -> Check:
    load, busy = os.getloadavg()[0], psutil.cpu_percent(interval=0.5)
    value = f"load {load:.2f}, {busy:.0f} % of the CPU in use"
    if busy > 10:
        return Check("idle", "bad", value, "Something else is running: stop it, or timings are of both.")
    if load > 0.5 * usable_cores():
        return Check("idle", "warn", value, "The machine was busy a moment ago: wait a minute.")
    return Check("idle", "ok", value)


def _cores() -> Check:
    usable, total = usable_cores(), psutil.cpu_count() or 1
    value = f"{usable:g} of {total} usable"
    if usable < total:
        return Check("cores", "warn", value, "A quota or an affinity limits this process; both sides alike.")
    return Check("cores", "ok", value)


def _governor() -> Check:
    found = governor()
    if not found:
        return Check("clock rate", "warn", "unknown", "A virtual machine hides it; repeat the run to be sure.")
    if found != "performance":
        return Check("clock rate", "warn", found, "Set it with: cpupower frequency-set -g performance")
    return Check("clock rate", "ok", found)


def _threads() -> Check:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "XLA_FLAGS")
    found = {name: os.environ[name] for name in names if name in os.environ}
    value = ", ".join(f"{k}={v}" for k, v in found.items()) or "no settings in the environment"
    if "XLA_FLAGS" in found:
        return Check("threads", "warn", value, "XLA_FLAGS changes the JAX side alone: unset it.")
    return Check("threads", "ok", value)


def _frameworks() -> list[Check]:
    found = versions()
    rows = []
    for side, package in (("torch", "torch"), ("jax", "flax")):
        if package in found:
            rows.append(Check(side, "ok", found[side] + (f", flax {found['flax']}" if side == "jax" else "")))
        else:
            advice = f"Install it with: pip install 'twinax[{side}]'"
            rows.append(Check(side, "bad", f"{package} is not installed", advice))
    return rows


def _memory() -> Check:
    free = psutil.virtual_memory().available / GIB
    state = "ok" if free > 8 else "warn"
    return Check("memory", state, f"{free:.1f} GiB free", "" if state == "ok" else "Large models need 8 GiB.")


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / GIB
    state = "ok" if free > 2 else "bad"
    return Check("disk", state, f"{free:.1f} GiB free here", "" if state == "ok" else "Make room for runs.")


def _gpu() -> Check:
    found = gpu()
    return Check("GPU", "ok", found or "none found: everything runs on the CPU")


def _caches() -> Check:
    default = Path(tempfile.gettempdir()) / f"torchinductor_{os.environ.get('USER', 'root')}"
    named = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    present = [str(p) for p in (default, named) if p and Path(p).exists()]
    value = ", ".join(present) or "none"
    return Check("compile caches", "ok", f"{value} (runs use fresh ones of their own)")
