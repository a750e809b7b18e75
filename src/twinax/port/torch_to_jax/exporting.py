"""A PyTorch module through ``torch.export``, or why it cannot go there. Imports torch: runs in torch workers.

``torch.export`` in float64, so that every cast shows: a float64 in the graph follows the weights' dtype, a
float32 was asked for by the model. Its decomposition with an empty table makes the graph functional (no
in-place operation, no view that is written through) and keeps high-level operations whole.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import nn
from torch.export import Dim

from twinax.errors import CannotPort, Unsupported
from twinax.port.torch_to_jax.finite import Finite
from twinax.port.torch_to_jax.function_mode import FunctionMode
from twinax.port.torch_to_jax.gradients import Detached
from twinax.port.torch_to_jax.program import Frame, frame_at, frames_of, is_own, own_line
from twinax.port.torch_to_jax.whole import whole_layers

BRANCH = "control flow"
ON_DATA = "What happens there depends on the data. Replace the branch by torch.where, or torch.cond."


def exported(
    module: nn.Module, inputs: Mapping[str, torch.Tensor], mode: str, lengths: bool
) -> tuple[torch.export.ExportedProgram, tuple[Frame, ...]]:
    """The module in one mode, functional, and the lines on which its numbers were taken to be finite.

    Sizes of the batch stay open, and lengths if they are to.

    Raises:
        CannotPort: It cannot be exported; with the user's own line.
    """
    module.train(mode == "train")
    shapes = {name: dict.fromkeys(open_axes(tensor, lengths), Dim.AUTO) for name, tensor in inputs.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with whole_layers(), Finite() as finite, Detached(), Faithful():
                found = torch.export.export(module, (), dict(inputs), dynamic_shapes=shapes, strict=False)
            return found.run_decompositions({}), tuple(finite.lines)
        except CannotPort:
            raise
        except Exception as error:
            _run(module, inputs)
            raise _refused(error, mode) from error


class Faithful(FunctionMode):
    """Refuses what an export in float64 would leave out without a word.

    Autocast turns float32 to half precision, float64 it leaves alone; a draw of Python's or NumPy's becomes a
    constant.
    """

    def __enter__(self) -> Self:
        self._drawn, self._mixed = _random_states(), _autocast()
        return super().__enter__()

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        if raised[0] is None and _random_states() != self._drawn:
            raise CannotPort(
                "The model's forward draws with Python's random, or NumPy's: a port would repeat what it drew.",
                "Draw with torch.rand and its like, and choose with torch.where.",
            )

    def called(self, func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if _autocast() != self._mixed:
            hint = "A port computes in the weights' dtype: take autocast out of forward."
            one = Unsupported("torch.autocast", str(own_line()), hint)
            raise CannotPort("The model's forward changes its precision by itself.", "", (one,))
        return func(*args, **kwargs)


def _autocast() -> tuple[bool, ...]:
    return tuple(torch.is_autocast_enabled(device) for device in ("cpu", "cuda"))


def _random_states() -> tuple[str, str]:
    return str(random.getstate()), str(np.random.get_state())


def _run(module: nn.Module, inputs: Mapping[str, torch.Tensor]) -> None:
    """Call the model as it is: where that fails, it is not torch.export's affair."""
    try:
        with torch.no_grad():
            module(**inputs)
    except Exception as error:
        lines = own_lines(error)
        raise CannotPort(
            "The model itself fails on these inputs in float64, in which it is ported: "
            + f"{type(error).__name__}: {first_line(error)}"
            + (f" ({lines[-1]})" if lines else ""),
            "State other inputs with --input or example_inputs(), or let its types follow its weights.",
        ) from error


def open_axes(tensor: torch.Tensor, lengths: bool) -> range:
    """Axes whose sizes may stay open: the batch; of sequences (not images) the length too."""
    return range(min(tensor.dim(), 2 if lengths and tensor.dim() <= 3 else 1))


def _refused(error: Exception, mode: str) -> CannotPort:
    """What torch.export said, with the user's line."""
    text = str(error)
    frames = [f for f in frames_of(text) if is_own(f.file)]
    own = own_lines(error)
    where = str(frames[-1]) if frames else own[-1] if own else ""
    hint = "Change the line so that torch.export can follow it."
    if "pytree" in text:
        hint = (
            "Where the model returns an object of a class of its own, return tensors in tuples, lists or dicts."
        )
    branch = "data-dependent" in text.lower() or type(error).__name__.startswith("GuardOnDataDependent")
    what = Unsupported(BRANCH, where, ON_DATA) if branch else Unsupported("torch.export", where, hint)
    return CannotPort(
        f"torch.export cannot follow the model in {mode} mode: {type(error).__name__}: {first_line(error)}",
        "",
        (what,),
    )


def first_line(error: Exception) -> str:
    """The first line of its message."""
    return (str(error).strip().splitlines() or ["no message"])[0][:500]


def own_lines(error: BaseException) -> list[str]:
    """The model's own lines in its traceback."""
    found: list[str] = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if is_own(code.co_filename):
            found.append(str(frame_at(code, trace.tb_lineno)))
        trace = trace.tb_next
    return found
