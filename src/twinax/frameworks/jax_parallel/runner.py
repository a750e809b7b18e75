"""One process's part of a JAX model under a strategy: joins the group, runs steps, counts and measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from twinax.errors import CellFailed
from twinax.frameworks.base import Evaluation, Optimizer, SideCode, refusal
from twinax.frameworks.jax_backend import JaxRunner, compiler_facts
from twinax.frameworks.jax_models import Tree
from twinax.frameworks.jax_optimizers import STATE_KEYS, make_transform, make_update
from twinax.frameworks.jax_parallel.counting import collectives
from twinax.frameworks.jax_parallel.engine import Engine, Setting, is_key, lay
from twinax.frameworks.jax_parallel.pipeline import Pipeline
from twinax.frameworks.jax_parallel.shardings import (
    DataTensor,
    FullySharded,
    LocalBatchNorm,
    Sharded,
    TensorParallel,
)
from twinax.frameworks.jax_recording import Tap
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
from twinax.twin import Arrays, Config

ENGINES: Mapping[Strategy, type[Engine]] = {
    "data": Sharded,
    "data_local": LocalBatchNorm,
    "fully_sharded": FullySharded,
    "tensor": TensorParallel,
    "pipeline": Pipeline,
    "data_tensor": DataTensor,
}
AXES: Mapping[Strategy, tuple[str, ...]] = {
    "tensor": ("tensor",),
    "pipeline": ("pipe",),
    "data_tensor": ("data", "tensor"),
}
TIMED = Optimizer("sgd", learning_rate=1e-4, momentum=0.9)


@dataclass(frozen=True)
class Timed:
    """A compiled step that is timed, and the bytes of its arguments on this process's first device."""

    program: Any
    parameters: int
    state: int
    optimizer: int


class JaxParallelRunner(ParallelRunner):
    """Several processes of one device each, or one process with several devices: one program for all (SPMD)."""

    side = "jax"

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
        """``channels_last``: 4-d arrays of a batch are NHWC on this side (and NCHW outside).

        Raises:
            CellFailed: ``unsupported``; what only the data shows is raised by the first method that has some.
            ValueError: There are more or fewer devices than ranks.
        """
        join(membership, device)
        if jax.device_count() != ranks:
            raise ValueError(f"{jax.device_count()} devices, {ranks} ranks")
        self.base = JaxRunner(
            code, config, weights, inputs, dtype=dtype, device=device, channels_last=channels_last
        )
        self.strategy, self.ranks, self.membership = strategy, ranks, membership
        self._start = weights
        mesh = make_mesh(strategy, ranks)
        self.mesh, self.replicated = mesh, NamedSharding(mesh, P())
        self.engine = ENGINES[strategy](self._setting(tuple(inputs), plan or {}))
        self._fits: dict[str, tuple[int, ...]] = {}  # the shapes that the engine was made ready for
        self._programs: dict[tuple[Any, ...], Timed] = {}  # by the shapes of their data

    def _setting(self, inputs: tuple[str, ...], plan: Plan) -> Setting:
        model = self.base.model
        rules = {rule.target: rule for rule in self.base.map.rules}
        arrays = model.arrays(model.params)
        feature_axes = {}
        for path, array in arrays.items():
            if array.ndim >= 2:  # torch's weights are (output, input, …)
                axes = rules[path].axes or tuple(range(array.ndim))
                feature_axes[path] = (axes.index(0), axes.index(1))
        tap = Tap({}, False, self.base._torch_path)  # replays no mask: dropout is off
        names = {path: rules[path].source for path in arrays}
        return Setting(self.base.code, model, inputs, tap, self.mesh, plan, names, feature_axes)

    # --- one step ------------------------------------------------------------------------------

    def _ready(self, batch: Arrays) -> dict[str, Any]:
        """The batch as this side wants it, still on the host; the engine is fit for it."""
        data = {name: np.asarray(array) for name, array in self.base._on_device(batch).items()}
        shapes = {name: array.shape for name, array in data.items()}
        if shapes != self._fits:
            self._attempt(lambda: self.engine.fit_to(data))
            try:
                micro_batches(batch, self.engine.shares)
            except ValueError as error:
                raise CellFailed(
                    "unsupported",
                    f"{self.engine.shares} ranks share a batch, and {error}.",
                    "Give a batch that is a multiple of the ranks.",
                ) from error
            self._fits = shapes
        return data

    def _attempt(self, work: Callable[[], Any]) -> Any:
        """What JAX cannot do with this model is ``unsupported``; lack of memory or a lost rank is not."""
        try:
            return work()
        except (CellFailed, MemoryError, jax.errors.JaxRuntimeError):
            raise
        except Exception as error:
            raise CellFailed(
                "unsupported",
                f"JAX's {self.strategy.replace('_', ' ')} cannot run this model: {refusal(error)}",
                "The cell's log has the whole traceback. Compare another strategy.",
            ) from error

    def _carry(self, weights: Arrays, rule: Optimizer) -> tuple[Tree, Tree, Tree]:
        """Parameters, state and a fresh optimizer state, laid over the mesh."""
        self.base.load(weights)
        params, state = self.engine.place(self.base.params, self.base.state)
        self.base.params = jax.tree.map(_weightless, self.base.params)  # its place is all that is needed now
        transform = make_transform(rule)
        shapes = jax.eval_shape(transform.init, params)
        where = optax.tree_utils.tree_map_params(
            transform,
            lambda _, param: param.sharding,
            shapes,
            params,
            transform_non_params=lambda _: self.replicated,
        )
        return params, state, jax.jit(transform.init, out_shardings=where)(params)

    def _program(self, rule: Optimizer, *, gradients: bool) -> Callable[..., Any]:
        """``step(params, state, optimizer, data) -> loss, (params, state, optimizer)``; gradients if asked."""
        update = make_update(make_transform(rule))

        def step(params: Tree, state: Tree, optimizer: Tree, data: Any) -> Any:
            loss, state, grads = self.engine.value_and_grad(params, state, data)
            params, optimizer = update(grads, optimizer, params)
            carry = (params, state, optimizer)
            return (loss, carry, grads) if gradients else (loss, carry)

        return step

    def step(self, batch: Arrays, weights: Arrays, optimizer: Optimizer) -> Evaluation | None:
        data = self.engine.place_data(self._ready(batch))
        carry = self._carry(weights, optimizer)
        out = (self.replicated, _where(carry), _where(carry[0]))
        step = self._program(optimizer, gradients=True)
        program = jax.jit(step, donate_argnums=(0, 1, 2), out_shardings=out)
        loss, carry, grads = self._attempt(lambda: program(*carry, data))
        params, state, slots = carry
        # one kind after the other: gathered, each is as large as the whole model
        gradients, buffers = self._gathered(grads, state)
        del grads, carry
        weights_now, _ = self._gathered(params, state)
        state_of: Arrays = {}
        for ours, theirs in STATE_KEYS[optimizer.name].items():
            slot, _ = self._gathered(optax.tree_utils.tree_get(slots, theirs), state)
            state_of |= {f"{ours}.{name}": array for name, array in slot.items()}
        if optimizer.name == "adamw":
            state_of["step"] = np.asarray(float(_local(optax.tree_utils.tree_get(slots, "count"))))
        if self.membership.process > 0:
            return None
        return Evaluation({}, float(_local(loss)), gradients, buffers, {}, weights_now, state_of)

    def _gathered(self, params: Tree, state: Tree) -> tuple[Arrays, Arrays]:
        """Placed trees as whole host arrays by torch name; all processes call it, the first one keeps."""
        if all(leaf.is_fully_replicated for leaf in jax.tree.leaves((params, state))):
            whole = self.engine.whole(params, state)  # nobody has to be asked
        else:
            whole = jax.jit(self.engine.whole, out_shardings=self.replicated)(params, state)
        if self.membership.process > 0:
            jax.block_until_ready(whole)
            return {}, {}
        return self._named(whole[0]), self._named(whole[1])

    def _named(self, tree: Tree) -> Arrays:
        return self.base._torch_named(jax.tree.map(_local, tree))

    # --- measuring -----------------------------------------------------------------------------

    def _compiled(self, data: Any, carry: tuple[Tree, Tree, Tree]) -> Timed:
        """The timed step for data of these shapes."""
        shapes = tuple(self._fits.items())
        if shapes not in self._programs:
            step = jax.jit(
                self._program(TIMED, gradients=False),
                donate_argnums=(0, 1, 2),
                out_shardings=(self.replicated, _where(carry)),
            )
            program = self._attempt(lambda: step.lower(*carry, data).compile())
            self._programs[shapes] = Timed(program, *map(_bytes_here, carry))
        return self._programs[shapes]

    def _timed(self, batch: Arrays) -> Timed:
        """The timed step for such a batch; one that is known needs no weights laid out again."""
        data = self._ready(batch)
        known = self._programs.get(tuple(self._fits.items()))
        return known or self._compiled(self.engine.place_data(data), self._carry(self._start, TIMED))

    def prepare(self, batches: Sequence[Arrays]) -> Callable[[int], None]:
        first = self.engine.place_data(self._ready(batches[0]))
        carry = self._carry(self._start, TIMED)
        program = self._compiled(first, carry).program
        placed = [first, *(self.engine.place_data(self._ready(batch)) for batch in batches[1:])]

        def call(i: int) -> None:
            nonlocal carry
            loss, carry = program(*carry, placed[i % len(placed)])
            jax.block_until_ready((loss, carry))

        call(0)
        return call

    def traffic(self, batch: Arrays) -> list[Traffic]:
        # in one process the first rank is 0; else each process is one rank
        text, rank = self._timed(batch).program.as_text(), self.membership.process
        return collectives(text, rank, apart=jax.default_backend() == "cpu")

    def held(self, batch: Arrays) -> Held:
        timed = self._timed(batch)
        temporary = int(timed.program.memory_analysis().temp_size_in_bytes)
        return Held.compiled(timed.parameters + timed.state, timed.parameters, timed.optimizer, temporary)

    def taken_bytes(self, batch: Arrays) -> int | None:
        taken = compiler_facts(self._timed(batch).program).get("taken_bytes")
        return None if taken is None else int(taken)

    def collective(self, kind: Kind, size: int, ranks: int, arrays: int = 1) -> Callable[[], None]:
        if ranks not in self.engine.groups:
            known = sorted(self.engine.groups)
            raise ValueError(f"{self.strategy} has groups of {known} ranks, not of {ranks}")
        return make_collective(kind, size // 4, ranks, self.mesh, arrays)

    def facts(self) -> dict[str, object]:
        share = self.engine.sharded_share() if isinstance(self.engine, Sharded) else 1.0
        return {
            **self.base.facts(),
            "engine": self.engine.does,
            "backend": "XLA, gloo between processes"
            if self.membership.processes > 1
            else "XLA, in one process",
            "processes": self.membership.processes,
            "devices": self.ranks,
            "sharded share": share,
            **({"micro-batches": self.engine.shares} if self.strategy == "pipeline" else {}),
        }

    def leave(self) -> None:
        """Nothing: JAX joins its group once per process, and stays in it until the process ends."""


def join(membership: Membership, device: str) -> None:
    """Meet the other processes; once per process, before anything touches a device."""
    if membership.processes == 1 or jax.distributed.is_initialized():
        return
    if device == "cpu":
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        membership.address,
        membership.processes,
        membership.process,
        initialization_timeout=int(membership.timeout),
    )


def make_mesh(strategy: Strategy, ranks: int) -> Mesh:
    """All devices, along the strategy's axes.

    Raises:
        CellFailed: ``unsupported``; two axes need an even number of ranks, four or more.
    """
    axes = AXES.get(strategy, ("data",))
    if len(axes) == 2 and (ranks < 4 or ranks % 2):
        raise CellFailed(
            "unsupported", f"Data × tensor needs 4, 6, 8 … ranks; there are {ranks}.", "Use --ranks 4."
        )
    shape = (ranks // 2, 2) if len(axes) == 2 else (ranks,)
    return Mesh(np.asarray(jax.devices()).reshape(shape), axes)


def make_collective(kind: Kind, count: int, ranks: int, mesh: Mesh, arrays: int) -> Callable[[], None]:
    """One program that does it over arrays of at least ``count`` float32 numbers, a multiple of the ranks."""
    if ranks == mesh.size:
        mesh = Mesh(mesh.devices.reshape(-1), ("all",))
    axis = next(name for name, size in mesh.shape.items() if size == ranks)
    every = P(tuple(mesh.shape))
    part = max(-(-count // ranks), 1)
    mine = part if kind == "all_gather" else part * ranks
    operations: dict[Kind, Callable[[jax.Array], jax.Array]] = {
        "all_reduce": lambda x: jax.lax.psum(x, axis),
        "all_gather": lambda x: jax.lax.all_gather(x, axis, tiled=True),
        "reduce_scatter": lambda x: jax.lax.psum_scatter(x, axis, tiled=True),
        "all_to_all": lambda x: jax.lax.all_to_all(x, axis, 0, 0, tiled=True),
        "send": lambda x: jax.lax.ppermute(x, axis, [(i, i + 1) for i in range(ranks - 1)]),
    }
    if kind not in operations:
        raise ValueError(f"JAX's programs here have no {kind}")
    every_array = partial(jax.tree.map, operations[kind])
    run = jax.jit(jax.shard_map(every_array, mesh=mesh, in_specs=every, out_specs=every, check_vma=False))
    numbers = np.ones(mine * mesh.size, np.float32)
    data = [lay(numbers, NamedSharding(mesh, every)) for _ in range(arrays)]

    def call() -> None:
        jax.block_until_ready(run(data))

    return call


def _weightless(leaf: Any) -> np.ndarray:
    """An array of the same shape and type that takes no room."""
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


def _where(tree: Tree) -> Tree:
    """Where each leaf lies."""
    return jax.tree.map(lambda leaf: leaf.sharding, tree)


def _local(leaf: jax.Array) -> jax.Array:
    """This process's first copy of a replicated array."""
    return leaf.addressable_data(0)


def _bytes_here(tree: Tree) -> int:
    """Bytes on this process's first device; random keys are left out."""
    arrays = [x for x in jax.tree.leaves(tree) if not is_key(x)]
    return sum(array.addressable_shards[0].data.nbytes for array in arrays)
