"""Verbs that misbehave, for the launcher's tests. Runs inside a worker."""

import ctypes
import os
import signal
import subprocess
import sys
import time

from twinax.errors import WeightsError


def echo(context, *, value):
    return {"value": value}


def shout(context):
    print("to standard output")
    print("to standard error", file=sys.stderr)
    os.write(1, b"past Python, straight to the descriptor\n")
    return {}


def sleep(context, *, seconds):
    time.sleep(seconds)
    return {}


def die(context, *, number):
    os.kill(os.getpid(), number)
    return {}


def segfault(context):
    ctypes.string_at(0)
    return {}


def leave(context):
    os._exit(7)


def ask_to_leave(context):
    sys.exit(3)


def fail(context):
    raise ValueError("three is not four")


def refuse(context):
    raise WeightsError("a key is missing", "add it")


def starve(context):
    raise MemoryError("cannot allocate 1 PiB")


def have_child(context):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    return {"pid": child.pid, "signal": int(signal.SIGKILL)}


def modules(context):
    return {"names": [name for name in ("torch", "jax", "flax") if name in sys.modules]}


def rank(context):
    return {"rank": int(os.environ["RANK"]), "world": int(os.environ["WORLD_SIZE"])}


def one_dies(context, *, who):
    """One rank is killed; the others wait for it, as in a collective."""
    if rank(context)["rank"] == who:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)
    return {}


def one_hangs(context, *, who):
    if rank(context)["rank"] == who:
        time.sleep(600)
    return {}


def complain_of_the_dead(context, *, who):
    """The others notice before the parent does."""
    if rank(context)["rank"] != who:
        raise RuntimeError("Connection closed by peer [127.0.0.1]:4711")
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def part_ways(context):
    """Each has left the other, and none is dead."""
    raise RuntimeError("Connection closed by peer [127.0.0.1]:4711")


def complain_of_the_late(context, *, who):
    if rank(context)["rank"] != who:
        raise RuntimeError("Timed out waiting 2000ms for recv operation to complete")
    time.sleep(600)


def one_fails(context, *, who):
    if rank(context)["rank"] == who:
        raise ValueError("a shape that does not fit")
    time.sleep(600)


VERBS = {
    verb.__name__: verb
    for verb in (
        echo,
        shout,
        sleep,
        die,
        segfault,
        leave,
        ask_to_leave,
        fail,
        refuse,
        starve,
        have_child,
        modules,
        rank,
        one_dies,
        one_hangs,
        complain_of_the_dead,
        complain_of_the_late,
        part_ways,
        one_fails,
    )
}
