"""A user's own pair: one Python file that defines the model on both sides. Run only inside a worker.

The file is code and is executed; the parent process never does that. A worker holds one framework, so
the file imports a framework inside the function that needs it. What it may define is in
``docs/your-own-pair.md``; whatever is wrong with it ends in one error that names the file and the line.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import math
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from twinax.errors import FrameworkMissing, TwinaxError, UserFileError
from twinax.records import Size, TwinInfo
from twinax.twin import Array, Arrays, Config, Twin

SIDES = {"torch": "torch_model", "jax": "jax_model"}
LOSSES = {"torch": "torch_loss", "jax": "jax_loss"}
FRAMEWORKS = ("torch", "jax", "jaxlib", "flax", "optax", "equinox")
MOVE = "Move the import into the function that needs it: a worker holds one framework."
PARITY_BATCH = 4
"""Examples per batch in parity: with two, BatchNorm would leave nothing of a feature but its sign."""


@dataclass(frozen=True)
class FileTwin(Twin):
    """A twin from a user's file; ``sources`` is what its report shows of each side."""

    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def info(self) -> TwinInfo:
        """As every twin's, but with the two functions in place of the whole file."""
        return super().info.model_copy(update={"sources": dict(self.sources)})


def resolve(name: str) -> FileTwin:
    """The twin that a user's file defines. This executes the file.

    Args:
        name: Path of the pair file; workers find the twin again by it.

    Raises:
        UserFileError: The file raises, exits, cannot be parsed, or does not define what is needed.
    """
    pair = PairFile(Path(name))
    title = (ast.get_docstring(pair.tree) or f"The pair in {pair.path.name}").splitlines()[0]
    batch_size = pair.batch_size if pair.draws_batches else pair.examples_held()
    quick = Size(batch=min(batch_size, PARITY_BATCH) if pair.draws_batches else batch_size)
    full = Size(batch=batch_size)
    return FileTwin(
        name=name,
        title=title,
        sides={side: str(pair.path) for side in SIDES},
        config={},
        init=pair.init,
        batches=pair.batches,
        inputs=pair.inputs(quick.batch),
        presets={"parity": quick, "parity_quick": quick, "speed": full, "speed_quick": full},
        channels_last=pair.channels_last,
        tensor_plan=pair.tensor_plan,
        loader=lambda twin, side: PairSide(pair, side),
        sources={side: pair.source(side) for side in SIDES},
    )


class PairFile:
    """The executed file, and where each of its names was defined."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree, self.names = execute_file(path)
        self.lines = _defined_lines(self.tree)
        for side, wanted in SIDES.items():
            if not callable(self.need(wanted)) and not _is_reference(self.names[wanted]):
                raise self.error(
                    wanted,
                    f"{wanted} is of type {type(self.names[wanted]).__name__}.",
                    f"Make it a function that returns the {side} model, or 'file.py:function'.",
                )
        given = [name for name in LOSSES.values() if name in self.names]
        if len(given) == 1:
            raise self.error(given[0], f"Only {given[0]} is defined.", "Define a loss for both sides or none.")
        for name in given:
            self.get(name, Callable, None)
        self.draws_batches = callable(self.need("example_batch"))
        self.batch_size: int = self.get("batch_size", int, 8)
        self.channels_last: bool = self.get("channels_last", bool, False)
        self.rename: Mapping[str, str] = self.get("rename", Mapping, {})
        self.shown: Mapping[str, str] = self.get("shown", Mapping, {})
        self.tensor_plan: Mapping[str, str] = self.get("tensor_plan", Mapping, {})
        wrong = [how for how in self.tensor_plan.values() if how not in ("column", "row")]
        if wrong:
            raise self.error("tensor_plan", f"tensor_plan says {wrong[0]!r}.", 'Say "column" or "row".')

    def error(self, name: str, what: str, hint: str) -> UserFileError:
        """An error at the line that defines ``name``; the first line where none does."""
        return UserFileError(f"{self.path}:{self.lines.get(name, 1)}: {what}", hint)

    def need(self, name: str) -> Any:
        """The value of a name that every pair file defines."""
        if name not in self.names:
            raise self.error(
                name,
                f"The file defines no {name}.",
                f"A pair file defines {', '.join(SIDES.values())} and example_batch.",
            )
        return self.names[name]

    def get(self, name: str, kind: Any, default: Any) -> Any:
        """The value of an optional name, of the right type."""
        value = self.names.get(name, default)
        if value is not default and not isinstance(value, kind):
            wanted = getattr(kind, "__name__", "function")
            raise self.error(name, f"{name} is of type {type(value).__name__}.", f"Make it a {wanted}.")
        return value

    def call(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        """Call one of the file's functions; what it raises names the file and the line."""
        with blamed(self.path, f"{name}()", self.lines.get(name, 1)):
            return function(*args)

    def function(self, name: str) -> Callable[..., Any]:
        """The function behind a name: itself, or what ``file.py:function`` stands for."""
        value = self.names[name]
        if not isinstance(value, str):
            return value
        where, _, attribute = value.rpartition(":")
        with blamed(self.path, f"{name} = {value!r}", self.lines[name]):
            if where.endswith(".py"):
                return execute_file(self.path.parent / where)[1][attribute]
            return getattr(importlib.import_module(where), attribute)

    def source(self, side: str) -> str:
        """The text of a side: its function, or all of the other file that it stands for or is ``shown``."""
        name = SIDES[side]
        if side in self.shown:
            with blamed(self.path, f"shown[{side!r}]", self.lines["shown"]):
                return (self.path.parent / self.shown[side]).read_text()
        value = self.names[name]
        if isinstance(value, str):
            where = value.rpartition(":")[0]
            with blamed(self.path, f"{name} = {value!r}", self.lines[name]):
                spec = None if where.endswith(".py") else importlib.util.find_spec(where)
                return Path(spec.origin if spec and spec.origin else self.path.parent / where).read_text()
        text = self.path.read_text()
        nodes = [n for n in self.tree.body if isinstance(n, ast.FunctionDef) and n.name == name]
        return (ast.get_source_segment(text, nodes[-1]) if nodes else None) or text

    # --- weights and data ----------------------------------------------------------------------

    def init(self, config: Config, seed: int) -> Arrays:
        """The torch model's own initial weights: float32, tied ones once, without the counters of BatchNorm."""
        try:
            import torch

            from twinax.frameworks.torch_backend import own_tensors
        except ModuleNotFoundError as error:
            raise FrameworkMissing(
                f"PyTorch is not installed here, and the weights of {self.path} come from its torch_model.",
                "Install it with: pip install 'twinax[torch]'",
            ) from error
        torch.manual_seed(seed)
        state = own_tensors(PairSide(self, "torch").build(config))
        return {
            name: (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy().copy()
            for name, tensor in state.items()
        }

    def inputs(self, batch_size: int) -> tuple[str, ...]:
        """Names of the arrays that go into the model: ``inputs`` of the file, or every array.

        Every process draws the batches anew, so a second draw must give the same ones.
        """
        batch, again = (self.batches({}, Size(batch=batch_size), 0, 1)[0] for _ in range(2))
        for name, array in batch.items():
            if name not in again or not np.array_equal(array, again[name], equal_nan=array.dtype.kind == "f"):
                raise self.error(
                    "example_batch",
                    f"example_batch gives other data for {name!r} when it is called again with the same seed.",
                    "Draw from np.random.default_rng(seed): each side's process makes the batches for itself.",
                )
        named = tuple(self.get("inputs", (list, tuple), tuple(batch)))
        unknown = [name for name in named if name not in batch]
        if unknown:
            raise self.error(
                "inputs",
                f"inputs names {', '.join(map(str, unknown))}, which example_batch does not hold.",
                f"It holds {', '.join(batch)}.",
            )
        return named

    def examples_held(self) -> int:
        """Rows in an ``example_batch`` that is a constant."""
        return len(next(iter(self._checked(self.names["example_batch"]).values())))

    def batches(self, config: Config, size: Size, seed: int, count: int) -> list[Arrays]:
        """Batches that all differ: drawn by the file's function, or its constant with noise."""
        if self.draws_batches:
            draw = partial(self.call, "example_batch", self.names["example_batch"])
            return [self._checked(draw(1000 * seed + index, size.batch)) for index in range(count)]
        batch, held = self._checked(self.names["example_batch"]), self.examples_held()
        if size.batch != held:
            raise self.error(
                "example_batch",
                f"example_batch holds {held} examples and cannot give {size.batch}.",
                "Make it a function example_batch(seed, batch_size), or leave out --batch.",
            )
        return [with_noise(batch, seed, index) for index in range(count)]

    def _checked(self, batch: Any) -> Arrays:
        """{name: array} with int64 integers and float32 or float64 floats."""
        if isinstance(batch, tuple):
            batch = {f"input_{index}": array for index, array in enumerate(batch)}
        wrong = f"is of type {type(batch).__name__}" if not isinstance(batch, Mapping) else ""
        if not wrong and not batch:
            wrong = "is empty"
        for name, array in {} if wrong else batch.items():
            if not isinstance(array, np.ndarray) or array.ndim == 0 or array.dtype.kind not in "fiub":
                described = (
                    f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
                )
                wrong = f"holds {name!r}: {described}"
        if wrong:
            raise self.error(
                "example_batch",
                f"What example_batch gives {wrong}.",
                "Give {name: NumPy array}, numbers with one row per example.",
            )
        return {str(name): _standard(array) for name, array in batch.items()}


class PairSide:
    """One side's code, as a runner needs it: ``build``, ``loss`` and ``rename``."""

    def __init__(self, pair: PairFile, side: str) -> None:
        self.pair, self.side = pair, side
        self.rename = pair.rename
        self.channels_last = side == "jax" and pair.channels_last
        self.own_loss: Callable[..., Any] | None = pair.names.get(LOSSES[side])
        # imported here, not in the loss: a compiler would have to follow the import
        self._named_outputs = importlib.import_module(f"twinax.frameworks.{side}_backend").named_outputs
        self._waves: dict[tuple[Any, ...], Any] = {}

    def build(self, config: Config) -> Any:
        """The side's untrained model: an ``nn.Module``, or a :class:`JaxModel`.

        Raises:
            UserFileError: The function raises, or returns something else.
        """
        name = SIDES[self.side]
        built = self.pair.call(name, self.pair.function(name))
        if self.side == "jax":
            from twinax.frameworks.jax_models import as_jax_model

            try:
                return as_jax_model(built)
            except TypeError as error:
                raise self.pair.error(
                    name, f"{name}() cannot be used. {error}", "See docs/your-own-pair.md."
                ) from error
        from torch import nn

        if not isinstance(built, nn.Module):
            what = f"{name}() returned {type(built).__name__}."
            raise self.pair.error(name, what, "Return a torch.nn.Module.")
        return built

    def loss(self, outputs: Any, batch: Mapping[str, Any]) -> Any:
        """The file's loss of this side; without one, the mean of w·y + log(1 + eʸ) over every output y.

        It is a mean over examples, each on its own, so that a batch may be split over devices; w is a fixed
        wave over the elements of one example. Curved, since normalised outputs have fixed sums.
        """
        if self.own_loss is not None:
            return self.own_loss(outputs, batch)
        terms = [(v * self._wave(name, v) + self._softplus(v)).mean() for name, v in self._floats(outputs)]
        if not terms:
            raise self.pair.error(
                SIDES[self.side],
                f"The {self.side} model returns no array of floats.",
                "Define torch_loss and jax_loss, or return arrays (a tuple, list or dict of them will do).",
            )
        return sum(terms) / len(terms)

    def _floats(self, outputs: Any) -> Iterator[tuple[str, Any]]:
        return ((n, v) for n, v in self._named_outputs(outputs) if "float" in str(v.dtype))

    def _wave(self, name: str, value: Any) -> Any:
        """cos(φ + k) over the elements k of one example in torch's order, φ from the output's name.

        Made by the framework, so that compilers see plain arithmetic, and kept where nothing is compiled.
        """
        # by plain arithmetic: dynamo leaves the graph at a checksum
        phase, shape = sum(i * ord(letter) for i, letter in enumerate(name, 1)) % 1000, tuple(value.shape[1:])
        if self.side == "torch":
            import torch

            def wave() -> Any:
                wide = torch.promote_types(value.dtype, torch.float32)
                counted = torch.arange(math.prod(shape), dtype=wide, device=value.device)
                return torch.cos(phase + counted).reshape(shape).to(value.dtype)

            if torch.compiler.is_compiling():
                return wave()
            key = (name, shape, value.dtype)
            if key not in self._waves:
                self._waves[key] = wave()
            return self._waves[key]
        import jax.numpy as jnp

        moved = self.channels_last and len(shape) == 3
        shape = (shape[2], shape[0], shape[1]) if moved else shape  # HWC → CHW
        counted = jnp.arange(math.prod(shape), dtype=jnp.promote_types(value.dtype, jnp.float32))
        made = jnp.cos(phase + counted).reshape(shape).astype(value.dtype)
        return jnp.moveaxis(made, 0, -1) if moved else made

    def _softplus(self, value: Any) -> Any:
        """log(1 + eʸ), exact on both sides: torch's own softplus is cut off at 20."""
        if self.side == "torch":
            import torch

            return torch.logaddexp(value, torch.zeros_like(value))
        import jax.numpy as jnp

        return jnp.logaddexp(value, 0.0)


# --- executing a file --------------------------------------------------------------------------------


def execute_file(path: Path) -> tuple[ast.Module, dict[str, Any]]:
    """Run a file once: its syntax tree, and what it defines.

    Compiled from its text: a cached ``.pyc`` goes by the second in which the file was saved.
    """
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        raise UserFileError(
            f"{path}:{error.lineno or 1}: {type(error).__name__}: {error.msg}.", "Correct the line."
        ) from error
    except (OSError, ValueError) as error:  # unreadable; null bytes
        raise UserFileError(f"{path}:1: The file cannot be read: {error}.", "Check the path.") from error
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # its neighbours, as if it had been started itself
    module = types.ModuleType(path.stem)
    module.__file__ = str(path)
    sys.modules[f"twinax_pair.{path.stem}"] = module
    module.__dict__["__name__"] = f"twinax_pair.{path.stem}"
    with blamed(path, "The file", 1):
        exec(compile(tree, str(path), "exec"), module.__dict__)
    return tree, module.__dict__


@contextlib.contextmanager
def blamed(path: Path, what: str, line: int) -> Iterator[None]:
    """Turn whatever the user's code raises, sys.exit() too, into an error that names file and line."""
    try:
        yield
    except (TwinaxError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [
            f for f in frames if Path(f.filename).parent == path.parent and "site-packages" not in f.filename
        ]
        where = f"{own[-1].filename}:{own[-1].lineno}" if own else f"{path}:{line}"
        if isinstance(error, ModuleNotFoundError) and str(error.name).split(".")[0] in FRAMEWORKS:
            raise UserFileError(
                f"{where}: {what} imports {error.name}, which this worker does not hold.", MOVE
            ) from error
        if isinstance(error, SystemExit):
            raise UserFileError(f"{where}: {what} ended the process.", "Remove sys.exit().") from error
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise UserFileError(
            f"{where}: {what} raised {text[:1000]}", "Correct the line, or what calls it."
        ) from error


def _defined_lines(tree: ast.Module) -> dict[str, int]:
    """The line on which each top-level name is defined."""
    lines: dict[str, int] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            lines[node.name] = node.lineno
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            lines |= {target.id: node.lineno for target in targets if isinstance(target, ast.Name)}
    return lines


def _is_reference(value: Any) -> bool:
    """Whether the value names a function elsewhere: ``file.py:function``, ``package.module:function``."""
    return isinstance(value, str) and all(value.rpartition(":")[::2])


# --- data ------------------------------------------------------------------------------------------


def _standard(array: Array) -> Array:
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    return array if array.dtype in (np.float32, np.float64, np.bool_) else array.astype(np.float32)


def with_noise(batch: Arrays, seed: int, index: int) -> Arrays:
    """The batch with Gaussian noise on its floats: a tenth of each array's root mean square."""
    draw = np.random.default_rng([seed, index])
    noisy: Arrays = {}
    for name, array in batch.items():
        if array.dtype.kind == "f":
            scale = 0.1 * (float(np.sqrt(np.mean(np.square(array)))) or 1.0)
            array = (array + scale * draw.standard_normal(array.shape)).astype(array.dtype)
        noisy[name] = array
    return noisy
