"""One rank of a PyTorch model under a strategy: joins the group, runs steps, counts and measures them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from twinax.errors import CellFailed, DeviceMissing
from twinax.frameworks.base import Evaluation, Optimizer, SideCode, refusal
from twinax.frameworks.parallel import (
    Held,
    Kind,
    Membership,
    ParallelRunner,
    Plan,
    Strategy,
    Traffic,
    micro_batches,
)
from twinax.frameworks.torch_backend import on_device, own_tensors
from twinax.frameworks.torch_optimizers import STATE_KEYS, make_optimizer
from twinax.frameworks.torch_parallel.batch_norm import layers as batch_norms
from twinax.frameworks.torch_parallel.counting import Collectives, kept_for_backward, local_bytes
from twinax.frameworks.torch_parallel.engine import Data, Engine, Setting, put
from twinax.frameworks.torch_parallel.pipeline import Pipeline
from twinax.frameworks.torch_parallel.strategies import DataParallel, DataTensor, FullySharded, TensorParallel
from twinax.twin import Arrays, Config
from twinax.weights.checkpoint import fit

ENGINES: Mapping[Strategy, Callable[[Setting], Engine]] = {
    "data": DataParallel,
    "data_local": partial(DataParallel, local_batch_norm=True),
    "fully_sharded": FullySharded,
    "tensor": TensorParallel,
    "pipeline": Pipeline,
    "data_tensor": DataTensor,
}
TIMED = Optimizer("sgd", learning_rate=1e-4, momentum=0.9)
_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


class TorchParallelRunner(ParallelRunner):
    """One process, one rank; gloo on the CPU, NCCL on CUDA."""

    side = "torch"

    def __init__(
        self,
        code: SideCode,
        config: Config,
        weights: Arrays,
        inputs: Sequence[str],
        *,
        strategy: Strategy,
        ranks: int,
        membership: Membership,
        plan: Plan | None = None,
        dtype: str = "float32",
        device: str = "cpu",
        channels_last: bool = False,
    ) -> None:
        """``channels_last`` says that the JAX side reads NHWC; torch reads NCHW, as batches are made.

        Raises:
            CellFailed: ``unsupported``; what only the data shows is raised by the first method that has some.
            ValueError: There are more or fewer processes than ranks.
        """
        if ranks != membership.processes:
            raise ValueError(f"torch has one process per rank: {membership.processes} processes, {ranks} ranks")
        if device == "cuda" and not torch.cuda.is_available():
            raise DeviceMissing("torch finds no CUDA device on this machine.", "Use --device cpu.")
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32 on both sides
        torch.backends.cuda.matmul.allow_tf32 = False
        self.code, self.config, self.inputs = code, config, tuple(inputs)
        self.strategy, self.process, self.channels_last = strategy, membership.process, channels_last
        self.dtype, self.device = getattr(torch, dtype), torch.device(device)
        if device == "cuda":
            self.device = torch.device("cuda", membership.process % torch.cuda.device_count())
            torch.cuda.set_device(self.device)
        whole = own_tensors(code.build(config))
        self._shapes = {name: tuple(t.shape) for name, t in whole.items()}
        self._parameters = [name for name, t in whole.items() if isinstance(t, nn.Parameter)]
        self._weights = self._fitted(weights)
        join(membership, "nccl" if device == "cuda" else "gloo")
        setting = Setting(code, self.inputs, self._build, membership.process, ranks, self.device, plan or {})
        self.engine = ENGINES[strategy](setting)
        self._fits: dict[str, tuple[int, ...]] = {}  # the shapes that the engine was made ready for

    def _fitted(self, weights: Arrays) -> Arrays:
        return fit(weights, self._shapes, prefixes=())

    def _build(self) -> nn.Module:
        """A new whole model, in train mode, without dropout."""
        model: nn.Module = self.code.build(self.config).to(device=self.device, dtype=self.dtype)
        with torch.no_grad():
            for name, slot in own_tensors(model).items():
                put(slot, torch.from_numpy(np.array(self._weights[name])).to(slot.device, slot.dtype))
        for layer in model.modules():
            if isinstance(layer, _DROPOUTS):
                layer.p = 0.0
        return model.train()

    # --- one pass ------------------------------------------------------------------------------

    def _ready(self, batch: Arrays, rule: Optimizer, weights: Arrays) -> tuple[Data, torch.optim.Optimizer]:
        """This rank's share of the batch, and a fresh optimizer; the weights are in place."""
        shapes = {name: array.shape for name, array in batch.items()}
        if shapes != self._fits:
            self._check_sizes(batch)
            self._attempt(lambda: self.engine.fit_to(self._place(batch)))
            self._fits = shapes
        self.engine.load(self._fitted(weights))
        self.engine.model.zero_grad(set_to_none=True)
        return self._place(batch), make_optimizer(rule, self.engine.parameters().values())

    def _check_sizes(self, batch: Arrays) -> None:
        try:
            micro_batches(batch, self.engine.shares)
        except ValueError as error:
            raise CellFailed(
                "unsupported",
                f"{self.engine.shares} ranks share a batch, and {error}.",
                "Give a batch that is a multiple of the ranks.",
            ) from error

    def _attempt(self, work: Callable[[], Any]) -> Any:
        """What the engine cannot do with this model becomes ``unsupported``; a lost rank does not."""
        try:
            return work()
        except (CellFailed, MemoryError, torch.OutOfMemoryError, dist.DistError):
            raise
        except Exception as error:
            if "/gloo/" in str(error):  # gloo has no class of error: a rank is gone or silent
                raise
            raise CellFailed(
                "unsupported",
                f"torch's {self.engine.does} cannot run this model: {refusal(error)}",
                "The cell's log has the whole traceback. Compare another strategy.",
            ) from error

    def _place(self, batch: Arrays) -> Data:
        share = micro_batches(batch, self.engine.shares)[self.engine.share]
        return on_device(share, self.dtype, self.device)

    def step(self, batch: Arrays, weights: Arrays, optimizer: Optimizer) -> Evaluation | None:
        data, made = self._ready(batch, optimizer, weights)
        loss = self.engine.loss_of_all(self._attempt(lambda: self.engine.run(data)))
        parameters = self.engine.parameters()
        gradients = self._gather({n: _or_zeros(p.grad, p) for n, p in parameters.items()})
        buffers = self._gather(self.engine.tensors(), buffers=True)
        made.step()
        evaluation = Evaluation(
            outputs={},
            loss=loss,
            gradients=gradients,
            buffers=buffers,
            weights=self._gather(parameters),
            optimizer=self._optimizer_state(made, optimizer, parameters),
        )
        return evaluation if self.process == 0 else None

    def _gather(self, tensors: Mapping[str, Tensor], *, buffers: bool = False) -> Arrays:
        names = [name for name in self._shapes if (name in self._parameters) != buffers]
        return self.engine.gather(names, tensors)

    def _optimizer_state(
        self, made: torch.optim.Optimizer, rule: Optimizer, parameters: Mapping[str, nn.Parameter]
    ) -> Arrays:
        state: Arrays = {}
        for ours, theirs in STATE_KEYS[rule.name].items():
            held = {name: _or_zeros(made.state[p].get(theirs), p) for name, p in parameters.items()}
            state.update({f"{ours}.{name}": array for name, array in self._gather(held).items()})
        steps = [float(s["step"]) for s in made.state.values() if "step" in s]
        return {**state, "step": np.asarray(steps[0])} if steps else state

    # --- measuring -----------------------------------------------------------------------------

    def prepare(self, batches: Sequence[Arrays]) -> Callable[[int], None]:
        _, optimizer = self._ready(batches[0], TIMED, self._weights)
        placed = [self._place(batch) for batch in batches]

        def call(i: int) -> None:
            self._train(placed[i % len(placed)], optimizer)
            self._finish()

        self._attempt(lambda: call(0))
        return call

    def _train(self, data: Data, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)
        self.engine.run(data)
        optimizer.step()

    def _finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def traffic(self, batch: Arrays) -> list[Traffic]:
        data, optimizer = self._ready(batch, TIMED, self._weights)
        for _ in range(2):  # DDP agrees on its buckets at the beginning of the second pass
            self._train(data, optimizer)
        counted = Collectives()
        with counted:
            self._train(data, optimizer)
        return counted.found

    def held(self, batch: Arrays) -> Held:
        data, optimizer = self._ready(batch, TIMED, self._weights)
        self._train(data, optimizer)
        optimizer.zero_grad(set_to_none=True)
        activations = kept_for_backward(self.engine.model, lambda: self.engine.run(data))
        parameters = list(self.engine.parameters().values())
        states = [v for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor)]
        return Held(
            parameters=local_bytes([*parameters, *self.engine.model.buffers()]),
            gradients=local_bytes([p.grad for p in parameters if p.grad is not None]),
            optimizer=local_bytes(states),
            activations=activations,
            buffers=self.engine.buffer_bytes(),
        )

    def taken_bytes(self, batch: Arrays) -> int | None:
        return None  # tensor by tensor, and nobody counts them

    def collective(self, kind: Kind, size: int, ranks: int, arrays: int = 1) -> Callable[[], None]:
        if ranks not in self.engine.groups:
            known = sorted(self.engine.groups)
            raise ValueError(f"{self.strategy} has groups of {known} ranks, not of {ranks}")
        run = make_collective(kind, max(1, size // 4), self.engine.groups[ranks], self.device)

        def call() -> None:
            for _ in range(arrays):
                run()
            self._finish()

        return call

    def facts(self) -> dict[str, object]:
        synchronised = (
            "SyncBatchNorm" if self.device.type == "cuda" else "written out: SyncBatchNorm has no CPU"
        )
        normalised = {
            "data_local": "over each rank's share",
            "pipeline": "over each micro-batch",
            "tensor": "over the batch, which every rank has",
        }.get(self.strategy, f"over all ranks, {synchronised}")
        return {
            "engine": self.engine.does,
            "backend": dist.get_backend(),
            "threads": torch.get_num_threads(),
            "dtype": str(self.dtype).removeprefix("torch."),
            "matmul precision": torch.get_float32_matmul_precision(),
            "TF32": bool(torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32),
            "image layout": "NCHW, contiguous" if self.channels_last else "as given",
            "sharded share": self.engine.sharded_share(),
            "BatchNorm": normalised if batch_norms(self.engine.model) else "none",
            **self.engine.facts(),
        }

    def leave(self) -> None:
        # DistributedDataParallel's reducer keeps the group. Freed after it, it would end gloo's threads with
        # the GIL in hand, and one that lets go of its last collective waits for the GIL: for ever.
        del self.engine
        gc.collect()
        dist.destroy_process_group()


_STORES: dict[str, Store] = {}
_JOINED: dict[str, int] = {}


def join(membership: Membership, backend: str) -> None:
    """Meet the other processes; a process may do so several times, one group after the other.

    They all meet in one store, each group under a number of its own: a store made anew at the same address may
    still be the one before to a rank that is quicker, and the two would wait for each other for ever.
    """
    host, _, port = membership.address.rpartition(":")
    timeout = timedelta(seconds=membership.timeout)
    if membership.address not in _STORES:
        _STORES[membership.address] = TCPStore(
            host, int(port), membership.processes, is_master=membership.process == 0, timeout=timeout
        )
    number = _JOINED[membership.address] = _JOINED.get(membership.address, 0) + 1
    dist.init_process_group(
        backend,
        store=PrefixStore(f"group-{number}", _STORES[membership.address]),
        rank=membership.process,
        world_size=membership.processes,
        timeout=timeout,
    )


def make_collective(
    kind: Kind, count: int, group: dist.ProcessGroup, device: torch.device
) -> Callable[[], None]:
    """One collective over at least ``count`` float32 numbers, a multiple of the ranks."""
    ranks, rank = group.size(), group.rank()
    part = torch.zeros(-(-count // ranks), device=device)
    whole, received = (torch.zeros(len(part) * ranks, device=device) for _ in range(2))

    def send() -> None:
        operations = []
        if rank + 1 < ranks:
            operations.append(dist.P2POp(dist.isend, whole, group=group, group_peer=rank + 1))
        if rank > 0:
            operations.append(dist.P2POp(dist.irecv, received, group=group, group_peer=rank - 1))
        for work in dist.batch_isend_irecv(operations) if operations else []:
            work.wait()

    calls: dict[Kind, Callable[[], Any]] = {
        "all_reduce": lambda: dist.all_reduce(received, group=group),
        "all_gather": lambda: dist.all_gather_into_tensor(received, part, group=group),
        "reduce_scatter": lambda: dist.reduce_scatter_tensor(part, whole, group=group),
        "all_to_all": lambda: dist.all_to_all_single(received, whole, group=group),
        "broadcast": lambda: dist.broadcast(whole, group=group, group_src=0),
        "send": send,
    }
    return calls[kind]


def _or_zeros(tensor: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if tensor is None else tensor
