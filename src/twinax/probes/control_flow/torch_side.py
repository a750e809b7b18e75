"""The programs in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._higher_order_ops import while_loop

from twinax.frameworks import torch_graph
from twinax.probes.control_flow.cases import SEEN

Program = Callable[[Any], Tensor]


def place(array: np.ndarray) -> Tensor:
    return torch.tensor(array)


REAL = False  # without its code generator


def compiled(program: Program, *, real: bool) -> Program:
    torch._dynamo.reset()  # recompilations of other programs must not count against this one
    # dynamo and AOTAutograd decide what is asked here; the code generator behind them takes seconds for each
    return torch.compile(program, backend="inductor" if real else "aot_eager")


def graphs(program: Program, argument: Any) -> tuple[int, list[dict[str, Any]]]:
    """How many graphs dynamo made of the program (0: it gave up and runs it as it is), and each break."""
    found = torch_graph.dynamo("program", program, argument).dynamo
    return found["graphs"], found["breaks"]


def finish() -> None:
    """Everything that was printed is there."""


# --- as a person would first write it ----------------------------------------------------------------


def branch(x: Tensor) -> Tensor:
    if x.sum() > 0:
        return x * 2
    return x - 1


def converge(x: Tensor) -> Tensor:
    z = x
    while abs(z * z - x) > 1e-9 * x:
        z = (z + x / z) / 2
    return z


def early_exit(x: Tensor) -> Tensor:
    total = torch.zeros((), dtype=x.dtype)
    for value in x:
        total = total + value
        if total > 3:
            break
    return total


def tree(node: Any) -> Tensor:
    return (
        node.sum()
        if isinstance(node, Tensor)
        else torch.tanh(torch.stack([tree(child) for child in node]).sum())
    )


def any_length(x: Tensor) -> Tensor:
    return torch.cumsum(x, 0)[-1] / len(x)


def in_place(x: Tensor) -> Tensor:
    y = x.clone()
    y[0] = 5
    return y


def side_effect(x: Tensor) -> Tensor:
    SEEN.effects.append(len(x))
    return x * 2


def random(x: Tensor) -> Tensor:
    return x + torch.randn(x.shape, dtype=x.dtype)


def growing_list(x: Tensor) -> Tensor:
    kept = []
    for value in x:
        if value > 0:
            kept.append(value * 2)
    return torch.stack(kept)


def printing(x: Tensor) -> Tensor:
    total = x.sum()
    print("total", total.item())
    return total


def numpy_inside(x: Tensor) -> Tensor:
    return torch.from_numpy(np.sin(x.numpy()))


def shape_from_data(x: Tensor) -> Tensor:
    return x[x > 0] * 2


def object_state(x: Tensor) -> Tensor:
    SEEN.calls += 1
    return x * SEEN.calls


def raising(x: Tensor) -> Tensor:
    if (x < 0).any():
        raise ValueError("negative input")
    return torch.sqrt(x)


# --- as the framework wants it -----------------------------------------------------------------------


def branch_idiom(x: Tensor) -> Tensor:
    return torch.cond(x.sum() > 0, lambda x: x * 2, lambda x: x - 1, (x,))


def converge_idiom(x: Tensor) -> Tensor:
    return while_loop(lambda z: abs(z * z - x) > 1e-9 * x, lambda z: ((z + x / z) / 2,), (x.clone(),))[0]


def early_exit_idiom(x: Tensor) -> Tensor:
    totals = torch.cumsum(x, 0)
    over = totals > 3
    first = torch.where(over.any(), torch.argmax(over.to(torch.int64)), len(x) - 1)
    return totals[first]


def growing_list_idiom(x: Tensor) -> Tensor:
    return torch.where(x > 0, x * 2, 0)  # of fixed size; the mask says which count


def numpy_idiom(x: Tensor) -> Tensor:
    return torch.sin(x)


def raising_idiom(x: Tensor) -> Tensor:
    return torch.where((x < 0).any(), torch.full_like(x, torch.nan), torch.sqrt(x.abs()))


NAIVE: Mapping[str, Program] = {
    "branch on data": branch,
    "loop to convergence": converge,
    "early exit": early_exit,
    "recursion over a tree": tree,
    "sequences of any length": any_length,
    "in-place update": in_place,
    "side effect in Python": side_effect,
    "random numbers": random,
    "a list that grows": growing_list,
    "print": printing,
    "NumPy inside": numpy_inside,
    "shape from data": shape_from_data,
    "state in an object": object_state,
    "exception raised on data": raising,
}

IDIOM: Mapping[str, Program] = {
    "branch on data": branch_idiom,
    "loop to convergence": converge_idiom,
    "early exit": early_exit_idiom,
    "a list that grows": growing_list_idiom,
    "NumPy inside": numpy_idiom,
    "shape from data": growing_list_idiom,
    "exception raised on data": raising_idiom,
}

IDIOM_ARGUMENTS: Mapping[str, Callable[[list[Any]], list[Any]]] = {}
"""What the caller passes where the idiom needs another signature."""
