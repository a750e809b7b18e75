"""Eval mode from train mode, where the two differ in BatchNorm and dropout layers alone.

An export takes seconds, and most models of pictures differ in nothing else. Imports torch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import nn

from twinax.port.torch_to_jax.code import ATTENTION, DROPOUT
from twinax.port.torch_to_jax.program import Program, Ref, Statement, keep_used, refs

BATCH_NORM = "_native_batch_norm_legit_functional.default"
IN_EVAL = "_native_batch_norm_legit_no_training.default"
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
KNOWN = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in (*NORMS, nn.Dropout)}
"""Layers whose two modes are known, by the name that a program has for them."""


@contextmanager
def readers_of_mode() -> Iterator[set[type]]:
    """Collects the classes of modules that read ``training`` in the block, other than torch.fx's own."""
    found: set[type] = set()

    def read(self: nn.Module) -> bool:
        if "/torch/fx/" not in sys._getframe(1).f_code.co_filename:
            found.add(type(self))
        return self.__dict__["training"]

    def write(self: nn.Module, value: bool) -> None:
        self.__dict__["training"] = value

    nn.Module.training = property(read, write)  # type: ignore[assignment]
    try:
        yield found
    finally:
        del nn.Module.training


def eval_follows(module: nn.Module, readers: set[type], train: Program) -> bool:
    """Whether the program in eval mode is that in train mode but for the layers that are known."""
    usual = all(
        type(one).train is nn.Module.train and type(one).eval is nn.Module.eval for one in module.modules()
    )
    known = readers <= set(KNOWN.values()) and _is_kept_apart(train)
    return usual and known and all(map(_is_plain, train.statements))


def _is_kept_apart(train: Program) -> bool:
    """Whether new running statistics go to the layers' next calls and to the buffers alone."""
    norms = [s for s in train.statements if s.op == BATCH_NORM]
    statistics = {Ref(name) for s in norms for name in s.results[3:5] if name}
    others = [(s.args, tuple(s.kwargs.values())) for s in train.statements if s.op != BATCH_NORM]
    return not statistics & set(refs((train.outputs, tuple(others))))


def _is_plain(statement: Statement) -> bool:
    """Whether it does not drop outside of layers."""
    if statement.op == DROPOUT:
        return _layer(statement) is nn.Dropout
    if statement.op == ATTENTION:
        return statement.args[4] == 0
    return statement.op != BATCH_NORM or isinstance(statement.args[6], float)


def in_eval(train: Program) -> Program:
    """The program in eval mode of a module for which ``eval_follows``."""
    norms = {s.levels[-1].path for s in train.statements if s.op == BATCH_NORM and _layer(s) in NORMS}
    program = replace(train, statements=list(_in_eval(train.statements)))
    program.updates = {n: r for n, r in train.updates.items() if n.rpartition(".")[0] not in norms}
    keep_used(program)
    return program


def _in_eval(statements: Iterable[Statement]) -> Iterator[Statement]:
    lasting: dict[Any, Any] = {}  # statistics that a layer's first call gives to its second → the buffers
    for one in statements:
        layer = _layer(one)
        if one.op == DROPOUT and layer is nn.Dropout:
            yield replace(one, op="clone.default", args=one.args[:1], results=one.results[:1], several=False)
        elif one.op == BATCH_NORM and layer in NORMS:
            statistics = tuple(lasting.get(given, given) for given in one.args[3:5])
            lasting |= zip(map(Ref, one.results[3:5]), statistics, strict=True)
            args = (*one.args[:3], *statistics, *one.args[6:])
            yield replace(one, op=IN_EVAL, args=args, results=(one.results[0], "", ""))
        else:
            yield one


def _layer(statement: Statement) -> type | None:
    """The class of the module in whose own code it stands, where it is a known one."""
    return KNOWN.get(statement.levels[-1].type) if statement.levels else None
