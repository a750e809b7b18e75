"""Checkpoints: read, written and fitted to a model as named NumPy arrays.

A checkpoint is data, never code: safetensors, or torch files that ``weights_only=True`` accepts.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from twinax.errors import WeightsError
from twinax.records import write_atomically
from twinax.twin import Array, Arrays

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt")

PREFIXES = ("module.", "_orig_mod.", "model.", "bert.")
"""What wrappers (DataParallel, torch.compile, a trainer) and base models put before every name."""

OLD_SUFFIXES = {".gamma": ".weight", ".beta": ".bias"}
"""Names of the LayerNorm weights in the first BERT checkpoints, which are still published so."""

WITHOUT_KNOWLEDGE = ("*num_batches_tracked", "*position_ids")
"""Counters and constants that checkpoints may hold and no model needs."""

_NOT_READABLE = "Download it again, or give another checkpoint with --weights."


def is_torch_file(path: Path) -> bool:
    """Whether the checkpoint is a torch file, which only a torch worker reads (:func:`read_pth`)."""
    return path.suffix in TORCH_SUFFIXES


def read(path: Path) -> Arrays:
    """Weights of a ``.safetensors`` file or of a Hugging Face folder (one file, or shards).

    float16 and bfloat16 become float32.

    Raises:
        WeightsError: It is missing, truncated, corrupt, or in another format.
    """
    if path.is_dir():
        return _read_folder(path)
    if is_torch_file(path):
        raise WeightsError(
            f"{path} is a torch file, which can be read only where torch is installed.",
            "Install twinax[torch], or convert the checkpoint to safetensors.",
        )
    return _read_file(path)


def _read_folder(folder: Path) -> Arrays:
    if (folder / WEIGHTS_FILE).exists():
        return _read_file(folder / WEIGHTS_FILE)
    if not (folder / INDEX_FILE).exists():
        present = sorted(file.name for file in folder.iterdir())
        raise WeightsError(
            f"{folder} holds neither {WEIGHTS_FILE} nor {INDEX_FILE}, but {', '.join(present) or 'nothing'}.",
            "Give a Hugging Face folder with safetensors weights, or the weights file itself.",
        )
    shard_of = read_json(folder / INDEX_FILE).get("weight_map")
    if not isinstance(shard_of, dict) or not all(isinstance(name, str) for name in shard_of.values()):
        raise WeightsError(f"{folder / INDEX_FILE} has no weight_map of names.", _NOT_READABLE)
    found: Arrays = {}
    for shard in sorted(set(shard_of.values())):
        # a shard lies beside the index; a path that leads elsewhere is not followed
        found.update(_read_file(folder / Path(shard).name))
    absent = [name for name in shard_of if name not in found]
    if absent:
        raise WeightsError(
            f"The shards in {folder} lack {len(absent)} weights: {', '.join(absent)}.", _NOT_READABLE
        )
    return found


def _read_file(file: Path) -> Arrays:
    try:
        with safe_open(file, framework="numpy") as opened:
            names = list(opened.keys())
            if not any(opened.get_slice(name).get_dtype() == "BF16" for name in names):
                return {name: _widened(opened.get_tensor(name)) for name in names}
        return {name: _decoded(name, t) for name, t in safetensors.deserialize(file.read_bytes())}
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror or error}.", "Check the path.") from error
    except SafetensorError as error:
        raise WeightsError(f"{file} is truncated, or no safetensors file: {error}.", _NOT_READABLE) from error
    except TypeError as error:  # an element type that NumPy lacks, such as float8
        raise WeightsError(
            f"{file} holds a type of number that NumPy lacks: {error}.", _NOT_READABLE
        ) from error


def _decoded(name: str, tensor: Mapping[str, Any]) -> Array:
    """One tensor of ``safetensors.deserialize``; bfloat16 is the upper half of a float32."""
    types = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32, "F64": np.float64}
    types |= {"I64": np.int64, "I32": np.int32, "U8": np.uint8, "BOOL": np.bool_}
    if tensor["dtype"] not in types:
        raise TypeError(f"{name} is {tensor['dtype']}")
    array = np.frombuffer(tensor["data"], types[tensor["dtype"]]).reshape(tensor["shape"])
    if tensor["dtype"] == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return _widened(array)


def _widened(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype == np.float16 else array


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        WeightsError: The file is missing, is not JSON, or holds something else than an object.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror}.", "Check the path.") from error
    except ValueError as error:
        raise WeightsError(f"{file} is not JSON: {error}.", _NOT_READABLE) from error
    if not isinstance(value, dict):
        raise WeightsError(f"{file} holds no JSON object.", _NOT_READABLE)
    return value


def read_pth(path: Path) -> Arrays:
    """Weights of a torch file, read with ``weights_only=True``; wrappers such as {"state_dict": …} are opened.

    Imports torch: only torch workers may call this. float16 and bfloat16 become float32.

    Raises:
        WeightsError: It is missing, corrupt, holds code, or holds no tensors by name.
    """
    import pickle

    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.", "Check the path.") from error
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is corrupt, or holds more than tensors, which twinax refuses to run: {_first_line(error)}",
            "Save only the state_dict: torch.save(model.state_dict(), path), or use safetensors.",
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:  # what torch raises on damaged archives
        raise WeightsError(f"{path} is truncated or corrupt: {_first_line(error)}", _NOT_READABLE) from error
    for wrapper in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = dict(content) if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(t, torch.Tensor) for t in tensors.values()):
        raise WeightsError(f"{path} holds no tensors by name.", "Save model.state_dict() with torch.save.")
    narrow = (torch.float16, torch.bfloat16)
    return {n: (t.float() if t.dtype in narrow else t).detach().numpy() for n, t in tensors.items()}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def write(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write a ``.safetensors`` file, whole or not at all.

    Raises:
        DiskFull: There is no room; an earlier file of that name is intact.
    """
    # a transposed view would be written in the wrong order
    write_atomically(path, safetensors.numpy.save({n: np.asarray(a, order="C") for n, a in arrays.items()}))


def fit(
    arrays: Mapping[str, Array],
    expected: Mapping[str, tuple[int, ...]],
    prefixes: Iterable[str] = PREFIXES,
    optional: Iterable[str] = (),
) -> Arrays:
    """A checkpoint's arrays under the names that a model expects, in the model's order.

    Args:
        arrays: The checkpoint.
        expected: Shape of each weight of the model by name.
        prefixes: Put before, or taken off, a name where that makes it fit.
        optional: Patterns (``classifier.*``) of names that the checkpoint may lack, or may hold
            besides; those it lacks are absent from the result.

    Raises:
        WeightsError: Lists every missing, unexpected and mis-shaped name.
    """
    prefixes, optional = tuple(prefixes), tuple(optional)
    source_of: dict[str, str] = {}
    unexpected = []
    for name in arrays:
        place = _place(name, expected, prefixes)
        if place is None or place in source_of:
            unexpected.append(name)
        else:
            source_of[place] = name
    lines = [
        f"  missing: {n} {tuple(expected[n])}" for n in expected if n not in source_of and not _any(optional, n)
    ]
    lines += [
        f"  unexpected: {n} {arrays[n].shape}"
        for n in unexpected
        if not any(_any(optional + WITHOUT_KNOWLEDGE, v) for v in _variants(n, prefixes))
    ]
    lines += [
        f"  shapes differ: {place}: checkpoint {arrays[name].shape}, model {tuple(expected[place])}"
        for place, name in source_of.items()
        if arrays[name].shape != tuple(expected[place])
    ]
    if lines:
        raise WeightsError(
            f"The checkpoint does not fit the model ({len(lines)} faults):\n" + "\n".join(lines),
            "Give the checkpoint of this architecture, in the layout that the twin's README names.",
        )
    return {name: arrays[source_of[name]] for name in expected if name in source_of}


def _place(name: str, expected: Mapping[str, Any], prefixes: tuple[str, ...]) -> str | None:
    """The model's name for a checkpoint's name, or None."""
    return next((variant for variant in _variants(name, prefixes) if variant in expected), None)


def _variants(name: str, prefixes: tuple[str, ...]) -> list[str]:
    """A name as it is, without its leading prefixes, and with one put before."""
    bare = [name]
    while (shorter := _without_prefix(bare[-1], prefixes)) is not None:
        bare.append(shorter)
    bare += [n.removesuffix(old) + new for n in bare for old, new in OLD_SUFFIXES.items() if n.endswith(old)]
    return bare + [prefix + n for prefix in prefixes for n in bare]


def _without_prefix(name: str, prefixes: tuple[str, ...]) -> str | None:
    return next((name[len(p) :] for p in prefixes if name.startswith(p)), None)


def _any(patterns: Iterable[str], name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
