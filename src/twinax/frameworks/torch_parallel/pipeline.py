"""The pipeline: the model cut into one stage per rank by ``torch.distributed.pipelining``."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, fx, nn
from torch.distributed.pipelining import Pipe, ScheduleGPipe, SplitPoint, pipeline
from torch.utils import _pytree as pytree

from twinax.errors import CellFailed
from twinax.frameworks.base import outermost_blocks
from twinax.frameworks.parallel import MICRO_BATCHES
from twinax.frameworks.torch_backend import own_tensors
from twinax.frameworks.torch_parallel.engine import Data, Engine, Setting, to_numpy
from twinax.frameworks.torch_parallel.relay import relay, stage_nodes
from twinax.twin import Array, Arrays


class Pipeline(Engine):
    """Stage i of the model on rank i; micro-batches go through one after another (GPipe, arXiv:1811.06965).

    All ranks are given the whole batch: the first one reads the inputs, the last one the labels.
    """

    does = "pipelining, ScheduleGPipe"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.cuts = cuts(self.model, setting.ranks)
        self.micro_batches = 0
        self.owners: dict[str, int] = {}
        self.forms: dict[str, Tensor] = {}  # every tensor of the whole model, without its numbers
        self.unused: dict[str, Tensor] = {}  # those that no stage uses; process 0 keeps them
        self.schedule: ScheduleGPipe | None = None
        self.data: Data = {}  # the batch of the step that runs
        self.order: list[str] = []  # the inputs as the first stage takes them

    # --- cutting the model ---------------------------------------------------------------------

    def fit_to(self, data: Data) -> None:
        """Trace the model on one micro-batch (its size becomes a constant) and keep this rank's stage."""
        setting, batch = self.setting, len(next(iter(data.values())))
        self.micro_batches = MICRO_BATCHES if batch % MICRO_BATCHES == 0 else setting.ranks
        if batch % self.micro_batches:
            raise CellFailed(
                "unsupported",
                f"A batch of {batch} divides neither into {MICRO_BATCHES} micro-batches nor into "
                f"{setting.ranks}, one per rank.",
                f"Give a batch that is a multiple of {MICRO_BATCHES}, or of the ranks.",
            )
        whole = setting.build()
        example = tuple(a[: batch // self.micro_batches] for a in self.arguments(data))
        with torch.no_grad():
            form = pytree.tree_structure(whole(*example))
        pipe = pipeline(whole, example, split_spec=dict.fromkeys(self.cuts, SplitPoint.BEGINNING))
        if pipe.num_stages != setting.ranks:
            raise CellFailed(
                "unsupported",
                f"Cut before {', '.join(self.cuts)}, the model has {pipe.num_stages} stages, not "
                f"{setting.ranks}: a part runs more than once, never, or before all others.",
                "Compare data parallel or fully sharded.",
            )
        self.owners = owners(pipe, whole)
        self.forms = {name: tensor.detach().to("meta") for name, tensor in own_tensors(whole).items()}
        self.unused = {n: t for n, t in own_tensors(whole).items() if n not in self.owners}
        relay(pipe)
        self.order = input_order(pipe, setting.inputs)
        places = output_order(pipe)

        def loss(found: Any, examples: Tensor) -> Tensor:
            leaves = found if isinstance(found, tuple | list) else [found]
            told = pytree.tree_unflatten([leaves[i] for i in places], form)
            return setting.code.loss(told, {name: t[examples] for name, t in self.data.items()})

        stage = pipe.build_stage(setting.process, setting.device)
        self.model = stage.submod
        self.schedule = ScheduleGPipe(stage, self.micro_batches, loss_fn=loss)

    # --- a step --------------------------------------------------------------------------------

    def run(self, data: Data) -> Tensor | None:
        assert self.schedule is not None
        self.data, process, losses = data, self.setting.process, list[Tensor]()
        last = process == self.setting.ranks - 1
        # the labels are cut by the schedule; what it cuts are the examples' numbers, which find all labels
        numbers = torch.arange(len(next(iter(data.values()))), device=self.setting.device) if last else None
        inputs = [data[name] for name in self.order] if process == 0 else []
        self.schedule.step(*inputs, target=numbers, losses=losses, return_outputs=False)
        return torch.stack(losses).mean() if last else None

    def loss_of_all(self, loss: Tensor | None) -> float:
        value = torch.zeros((), dtype=torch.float64, device=self.setting.device)
        if loss is not None:
            value += loss.detach()
        dist.broadcast(value, self.setting.ranks - 1)
        return float(value)

    # --- tensors -------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Those of this rank's stage; process 0 also keeps what no stage uses."""
        process, stage = self.setting.process, own_tensors(self.model)
        mine = {name: stage[name] for name, owner in self.owners.items() if owner == process}
        return {**mine, **self.unused} if process == 0 else mine

    def gather(self, names: Iterable[str], tensors: Mapping[str, Tensor]) -> Arrays:
        found: dict[str, Array] = {}
        process, device = self.setting.process, self.setting.device
        for name in names:
            owner = self.owners.get(name, 0)
            if owner == process:
                tensor = tensors[name].detach().contiguous()
            else:
                tensor = torch.empty_like(self.forms[name], device=device)
            if process == owner != 0:
                dist.send(tensor, 0)
            elif process == 0 != owner:
                dist.recv(tensor, owner)
            if process == 0:
                found[name] = to_numpy(tensor)
        return found

    def sharded_share(self) -> float:
        return 1.0

    def facts(self) -> dict[str, Any]:
        return {"micro-batches": self.micro_batches, "stages begin before": ", ".join(self.cuts)}


def cuts(model: nn.Module, ranks: int) -> list[str]:
    """Paths of the modules before which the model is cut: as many blocks to each rank as to any other.

    Without enough repeated blocks, the model's own children; the largest is opened until there are enough.

    Raises:
        CellFailed: ``unsupported``; there are fewer parts than ranks.
    """
    parts = outermost_blocks(path for path, _ in model.named_modules())
    if len(parts) < ranks:
        parts = children(model, "")
    while len(parts) < ranks:
        closed = [part for part in parts if children(model, part)]
        if not closed:
            raise CellFailed(
                "unsupported",
                f"The model has {len(parts)} parts with parameters ({', '.join(parts) or 'none'}), and a "
                f"pipeline of {ranks} ranks needs {ranks}.",
                "Use fewer ranks.",
            )
        largest = max(closed, key=lambda part: sum(p.numel() for p in model.get_submodule(part).parameters()))
        at = parts.index(largest)
        parts[at : at + 1] = children(model, largest)
    return [parts[rank * len(parts) // ranks] for rank in range(1, ranks)]


def children(model: nn.Module, above: str) -> list[str]:
    """Modules with parameters one level down; a list of modules never runs itself, so its members."""
    found: list[str] = []
    for name, child in model.get_submodule(above).named_children():
        path = f"{above}.{name}" if above else name
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            found += children(model, path)
        elif next(child.parameters(), None) is not None:
            found.append(path)
    return found


def owners(pipe: Pipe, whole: nn.Module) -> dict[str, int]:
    """The stage that holds each parameter and buffer, by its first name in the whole model.

    Raises:
        CellFailed: ``unsupported``; several stages use the same parameter, so none has all of its gradient.
    """
    first = {id(tensor): name for name, tensor in own_tensors(whole).items()}
    names = {alias: first.get(id(t)) for alias, t in whole.state_dict(keep_vars=True).items()}
    found: dict[str, int] = {}
    for stage in range(pipe.num_stages):
        for alias, tensor in pipe.get_stage_module(stage).state_dict(keep_vars=True).items():
            name = names.get(alias)
            if name is None:  # a counter, or a constant of the traced program
                continue
            if found.setdefault(name, stage) != stage and isinstance(tensor, nn.Parameter):
                raise CellFailed(
                    "unsupported",
                    f"{name} is used by stages {found[name]} and {stage} of the pipeline: torch gives each "
                    "stage a copy, and their gradients are not added.",
                    "Use fewer ranks, or untie the layers that share it.",
                )
    return found


def input_order(pipe: Pipe, inputs: tuple[str, ...]) -> list[str]:
    """The model's inputs in the order in which the first stage takes them.

    ``pipeline`` orders that stage's arguments by their first use, but gives it the signature of the model:
    in the model's order, two inputs of one shape would silently change places.
    """
    roots = [node for node in pipe.split_gm.graph.nodes if node.op == "placeholder"]
    names = dict(zip(roots, inputs, strict=True))
    return [names[node] for node in stage_nodes(pipe)[0].args if isinstance(node, fx.Node)]


def output_order(pipe: Pipe) -> list[int]:
    """Where each of the model's outputs stands among the last stage's.

    Raises:
        CellFailed: ``unsupported``; one of them is a constant.
    """
    last = stage_nodes(pipe)[-1]
    (returned,) = (node for node in pipe.split_gm.graph.nodes if node.op == "output")
    order: list[int] = []
    for output in pytree.tree_leaves(returned.args):
        place = 0
        if isinstance(output, fx.Node) and output.target is operator.getitem:
            output, place = output.args[0], output.args[1]
        if output is not last:
            raise CellFailed(
                "unsupported",
                f"Output {len(order)} of the model is {output}, which no stage of a pipeline makes.",
                "Compare data parallel or fully sharded.",
            )
        assert isinstance(place, int)
        order.append(place)
    return order
