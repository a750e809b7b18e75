"""A cluster stated in a TOML file: how many devices, how fast, how much memory, how they are linked."""

from __future__ import annotations

import tomllib
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from twinax.errors import BadInput
from twinax.records import Cluster

HINT = "docs/cost-model.md lists the keys and their units; examples/cluster.toml is a file to start from."
LARGEST = 1_000_000  # devices


def read(file: str) -> Cluster:
    """The cluster that the file states.

    Raises:
        BadInput: It cannot be read, is no TOML, or a key is missing, unknown or out of range; all are named.
    """
    try:
        stated = tomllib.loads(Path(file).read_bytes().decode())
    except OSError as error:
        raise BadInput(f"The cluster in {file} cannot be read: {error.strerror}.", HINT) from error
    except UnicodeDecodeError as error:
        raise BadInput(f"The cluster in {file} cannot be read: it is no text.", HINT) from error
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{file} is no TOML: {error}.", HINT) from error
    except RecursionError as error:
        raise BadInput(f"{file} is no TOML that can be read: it is nested too deeply.", HINT) from error
    try:
        cluster = Cluster.model_validate(stated)
    except ValidationError as error:
        faults = "; ".join(_told(fault) for fault in error.errors())
        raise BadInput(f"{file} states no cluster: {faults}.", HINT) from error
    if cluster.nodes > 1 and cluster.between is None:
        raise BadInput(f"{file} has {cluster.nodes} nodes, but [between] is missing.", HINT)
    if (devices := cluster.nodes * cluster.devices_per_node) > LARGEST:
        raise BadInput(
            f"{file} states {cluster.nodes:,} nodes of {cluster.devices_per_node:,} devices, {devices:,} in "
            f"all; twinax predicts for at most {LARGEST:,}.",
            HINT,
        )
    return cluster


def _told(fault: ErrorDetails) -> str:
    """``device.flops = -1.0: input should be greater than or equal to 1000000``."""
    key = ".".join(_short(part) for part in fault["loc"])
    match fault["type"]:
        case "missing":
            return f"{key} is missing"
        case "extra_forbidden":
            return f"{key} is no key of a cluster"
    return f"{key} = {_short(repr(fault['input']))}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def _short(text: object) -> str:
    """Text from the file on one line, cut where it is long."""
    plain = "".join(c if c.isprintable() else "\ufffd" for c in str(text))
    return plain if len(plain) <= 40 else f"{plain[:39]}…"
