"""Every strategy but the pipeline: how torch's own engine is put around an unchanged model."""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor.experimental import implicit_replication
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel
from torch.utils import _pytree as pytree

from twinax.errors import CellFailed
from twinax.frameworks.base import outermost_blocks
from twinax.frameworks.parallel import NO_PARTS, Plan, planned
from twinax.frameworks.torch_parallel.batch_norm import synchronise
from twinax.frameworks.torch_parallel.counting import local_bytes
from twinax.frameworks.torch_parallel.engine import Data, Engine, Setting, world

TENSOR_RANKS = 2
"""Ranks along the tensor axis of ``data_tensor``."""


class DataParallel(Engine):
    """The whole model on every rank, a share of the batch each, gradients averaged: DDP."""

    does = "DistributedDataParallel"

    def __init__(self, setting: Setting, *, local_batch_norm: bool = False) -> None:
        super().__init__(setting)
        self.shares, self.share = setting.ranks, setting.process
        self.local_batch_norm = local_batch_norm
        self.wrapped: nn.Module | None = None
        if not local_batch_norm:
            self.model = synchronise(self.model, world(), setting.device)

    def fit_to(self, data: Data) -> None:
        if self.wrapped is None:
            loss = self.setting.code.loss(self.model(*self.arguments(data)), data)
            self.wrapped = DistributedDataParallel(
                self.model,
                # synchronised statistics are the same everywhere; local ones are rank 0's, as DDP has it
                broadcast_buffers=self.local_batch_norm,
                # else DDP waits for a gradient that never comes; where all come, looking for them costs time
                find_unused_parameters=not _reaches_all(loss, self.model),
            )

    def run(self, data: Data) -> Tensor:
        assert self.wrapped is not None
        loss = self.setting.code.loss(self.wrapped(*self.arguments(data)), data)
        loss.backward()
        return loss

    def buffer_bytes(self) -> int:
        """Buckets in which gradients travel, where these are no views of them: a second copy of each."""
        assert isinstance(self.wrapped, DistributedDataParallel)
        if self.wrapped.gradient_as_bucket_view:
            return 0
        return local_bytes([p for p in self.wrapped.parameters() if p.requires_grad])

    def facts(self) -> dict[str, object]:
        wrapped = self.wrapped
        if not isinstance(wrapped, DistributedDataParallel):
            return {}
        return {
            "gradient bucket MiB": wrapped.bucket_bytes_cap / 2**20,
            "parameters without gradient": "looked for" if wrapped.find_unused_parameters else "none",
        }


class FullySharded(Engine):
    """Every parameter in parts; each block is gathered while it computes: FSDP2."""

    does = "fully_shard (FSDP2)"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.shares, self.share = setting.ranks, setting.process
        self.model = synchronise(self.model, world(), setting.device)
        mesh = init_device_mesh(setting.device.type, (setting.ranks,), mesh_dim_names=("data",))
        self.units = _units(self.model)
        for unit in self.units:
            fully_shard(unit, mesh=mesh)

    def run(self, data: Data) -> Tensor:
        loss = self.setting.code.loss(self.model(*self.arguments(data)), data)
        loss.backward()
        return loss

    def facts(self) -> dict[str, object]:
        return {"units gathered at a time": len(self.units)}


class TensorParallel(Engine):
    """Linear layers in parts, everything else whole: DTensor between a column and its row layer."""

    does = "parallelize_module (DTensor)"
    checked = False  # whether a pass has shown that no gradient is in parts

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        mesh = init_device_mesh(setting.device.type, (setting.ranks,), mesh_dim_names=("tensor",))
        self.replicated = shard_layers(self.model, mesh, setting.plan)

    def run(self, data: Data) -> Tensor:
        # masks and constants that the model's source makes are plain tensors: the same on every rank
        with implicit_replication():
            outputs = pytree.tree_map(_whole, self.model(*self.arguments(data)))
            self.replicated.clear()
            loss = self.setting.code.loss(outputs, data)
            loss.backward()
        if not self.checked:
            _check_gradients(self.model)
            self.checked = True
        return loss


class DataTensor(TensorParallel):
    """Tensor parallel in pairs of ranks; the pairs share the batch and average: DTensor in two dimensions."""

    does = "parallelize_module (DTensor) × replicate"

    def __init__(self, setting: Setting) -> None:
        # the form of DDP that knows DTensor; it lies in no public module yet (torch 2.13)
        from torch.distributed._composable.replicate_with_fsdp import replicate

        if setting.ranks % TENSOR_RANKS or setting.ranks < 2 * TENSOR_RANKS:
            raise CellFailed(
                "unsupported",
                f"data × tensor parallel needs an even number of ranks, 4 or more; there are {setting.ranks}.",
                "Give --ranks 4.",
            )
        Engine.__init__(self, setting)
        sizes = (setting.ranks // TENSOR_RANKS, TENSOR_RANKS)
        mesh = init_device_mesh(setting.device.type, sizes, mesh_dim_names=("data", "tensor"))
        data = mesh["data"]
        self.shares, self.share = data.size(), data.get_local_rank()
        self.groups = {data.size(): data.get_group(), TENSOR_RANKS: mesh["tensor"].get_group(), **self.groups}
        self.model = synchronise(self.model, data.get_group(), setting.device)
        self.replicated = shard_layers(self.model, mesh["tensor"], setting.plan)
        for unit in _units(self.model):
            replicate(unit, mesh=data)


class Replicated:
    """Inputs of column layers as DTensors: one for all layers that read the same tensor.

    Query, key and value then add their parts of the input's gradient before it is summed over the ranks,
    once (Megatron-LM, arXiv:1909.08053), where ``ColwiseParallel`` alone would sum three times.
    """

    def __init__(self, mesh: DeviceMesh) -> None:
        self.mesh = mesh
        self._made: dict[int, tuple[Tensor, DTensor]] = {}  # holds the tensor too, so that its id stays its own

    def clear(self) -> None:
        """Forget the tensors of this pass."""
        self._made.clear()

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (x,) = inputs
        if isinstance(x, DTensor):
            return inputs
        if id(x) not in self._made:
            self._made[id(x)] = x, DTensor.from_local(x, self.mesh, [Replicate()], run_check=False)
        return (self._made[id(x)][1],)


def shard_layers(model: nn.Module, mesh: DeviceMesh, plan: Plan) -> Replicated:
    """Shard the linear layers that the plan names; without a plan, those that divide.

    Raises:
        CellFailed: ``unsupported``; nothing can be sharded, or a layer of the plan does not divide.
    """
    ranks, styles = mesh.size(), dict[str, ParallelStyle]()
    linear = {path: m for path, m in model.named_modules() if isinstance(m, nn.Linear)}
    names = [(name, id(p)) for name, p in model.named_parameters(remove_duplicate=False)]
    uses = {name: sum(other == key for _, other in names) for name, key in names}
    for path, layer in linear.items():
        how = planned(plan, path)
        if how and uses[f"{path}.weight"] > 1:
            raise CellFailed(
                "unsupported",
                f"{path}.weight is also another layer's weight: sharding one of the two would untie them.",
                "Leave this layer out of the tensor-parallel plan.",
            )
        width = layer.out_features if how == "column" else layer.in_features
        if how and width % ranks:
            raise CellFailed(
                "unsupported",
                f"{path} cannot be sharded by {how}: its {width} features do not divide by {ranks} ranks.",
                "Use a number of ranks that divides them, or leave the layer out of the plan.",
            )
        several = layer.out_features > 1  # DTensor drops an axis of size 1, which every size of group divides
        if not plan and several and layer.out_features % ranks == 0 and uses[f"{path}.weight"] == 1:
            styles[path] = ColwiseParallel(output_layouts=Replicate())
        elif how == "column":
            styles[path] = ColwiseParallel(use_local_output=False)
        elif how == "row":
            # an input that no column layer made is whole
            styles[path] = RowwiseParallel(input_layouts=Replicate())
    if not styles:
        raise CellFailed(
            "unsupported",
            f"Nothing can be sharded over {ranks} ranks: of {len(linear)} linear layers "
            "none " + ("is in the tensor-parallel plan." if plan else "has output features that divide."),
            NO_PARTS,
        )
    parallelize_module(model, mesh, styles)
    replicated = Replicated(mesh)
    for path, style in styles.items():
        if isinstance(style, ColwiseParallel):
            linear[path].register_forward_pre_hook(replicated, prepend=True)
    return replicated


def _units(model: nn.Module) -> list[nn.Module]:
    """The repeated blocks, and last the model itself with everything that lies in none."""
    blocks = outermost_blocks(path for path, _ in model.named_modules())
    return [*(model.get_submodule(path) for path in blocks), model]


def _whole(output: object) -> object:
    return output.full_tensor() if isinstance(output, DTensor) else output


def _check_gradients(model: nn.Module) -> None:
    """A whole layer behind a column layer sees a part of each example only, and so does its gradient."""
    for name, parameter in model.named_parameters():
        if isinstance(parameter.grad, DTensor) and not isinstance(parameter, DTensor):
            raise CellFailed(
                "unsupported",
                f"{name} is whole on every rank, but what goes into it is sharded: its gradient is in parts.",
                "Let a row layer follow the column layer in the tensor-parallel plan, before this one.",
            )


def _reaches_all(loss: Tensor, model: nn.Module) -> bool:
    """Whether the loss depends on every parameter, read off its graph."""
    reached, seen, left = set[int](), set[object](), [loss.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        reached.add(id(getattr(node, "variable", None)))  # a node that gives a parameter its gradient
        left.extend(following for following, _ in node.next_functions)
    return all(id(p) in reached for p in model.parameters())
