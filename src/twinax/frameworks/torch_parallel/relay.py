"""Values that several stages of a pipeline need, handed on from stage to stage.

``torch.distributed.pipelining`` returns the gradient of what a stage sends to *one* later stage, feeds the
model's inputs to the first stage only, and takes the outputs from the last. An attention mask that every layer
adds, or an output that an early layer makes, has more readers: here each reader passes it on to the next, as a
person would write it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

from torch import fx
from torch.distributed.pipelining import Pipe
from torch.utils import _pytree as pytree


def relay(pipe: Pipe) -> None:
    """Rewrite the stages: each value has one reader, the first takes all inputs, the last makes all outputs."""
    graph = pipe.split_gm.graph
    stages = stage_nodes(pipe)
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    for maker in (None, *stages[:-1]):
        for value in inputs if maker is None else _values(maker):
            readers = [stage for stage in stages if stage in value.users]
            first = stages[0] if maker is None else (readers or stages[-1:])[0]
            others = [user for user in value.users if user is not first]
            if not others:
                continue
            passed_on = _given_on(pipe, first, _taken(pipe, first, value))
            for user in others:
                user.replace_input_with(value, passed_on)
    for stage in stages:
        module = _module(pipe, stage)
        module.graph.lint()
        module.recompile()
    graph.lint()
    pipe.split_gm.recompile()


def stage_nodes(pipe: Pipe) -> list[fx.Node]:
    """The calls of the stages, in order."""
    return [node for node in pipe.split_gm.graph.nodes if node.op == "call_module"]


def _module(pipe: Pipe, stage: fx.Node) -> fx.GraphModule:
    module = pipe.split_gm.get_submodule(str(stage.target))
    assert isinstance(module, fx.GraphModule)
    return module


def _values(stage: fx.Node) -> list[fx.Node]:
    """What a stage returns: itself, or the parts that are taken out of its tuple."""
    parts = [user for user in stage.users if user.target is operator.getitem]
    return parts or [stage]


def _taken(pipe: Pipe, reader: fx.Node, value: fx.Node) -> fx.Node:
    """The reader's argument that the value goes into; a new one where it does not read it yet."""
    module = _module(pipe, reader)
    slots = [node for node in module.graph.nodes if node.op == "placeholder"]
    if value in reader.args:
        return slots[reader.args.index(value)]
    example = _example(pipe, value)
    with module.graph.inserting_after(slots[-1]):
        slot = module.graph.placeholder(f"relayed_{value.name}")
    slot.meta["val"] = example
    reader.args = (*reader.args, value)
    return slot


def _example(pipe: Pipe, value: fx.Node) -> Any:
    """The traced tensor (its form, not its numbers) behind a value between stages."""
    if value.op == "placeholder":  # an input: as the stage that reads it has it
        reader = next(user for user in value.users if user.op == "call_module")
        return _taken(pipe, reader, value).meta["val"]
    maker, place = value.args if value.target is operator.getitem else (value, 0)
    assert isinstance(maker, fx.Node) and isinstance(place, int)
    return list(_outputs(_module(pipe, maker)))[place].meta["val"]


def _outputs(module: fx.GraphModule) -> Iterator[Any]:
    (returned,) = (node for node in module.graph.nodes if node.op == "output")
    return iter(pytree.tree_leaves(returned.args))


def _given_on(pipe: Pipe, stage: fx.Node, inner: fx.Node) -> fx.Node:
    """Let a stage return one of its own values too; that value between the stages."""
    module, graph = _module(pipe, stage), pipe.split_gm.graph
    (returned,) = (node for node in module.graph.nodes if node.op == "output")
    outputs = list(_outputs(module))
    returned.args = ((*outputs, inner),)
    if _values(stage) == [stage]:  # it returned a lone tensor
        users = list(stage.users)
        with graph.inserting_after(stage):
            alone = graph.call_function(operator.getitem, (stage, 0))
        for user in users:
            user.replace_input_with(stage, alone)
    # behind those that are there: torch numbers a stage's outputs in this order
    with graph.inserting_after(_values(stage)[-1]):
        return graph.call_function(operator.getitem, (stage, len(outputs)))
