"""The pipeline: the traced model cut into one stage per rank, under ``jax.shard_map``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from twinax.errors import CellFailed
from twinax.frameworks.jax_models import Tree
from twinax.frameworks.jax_parallel.engine import Data, Engine, Setting, lay
from twinax.frameworks.jax_parallel.residuals import Residuals, longest, padded
from twinax.frameworks.jax_parallel.shardings import lay_any
from twinax.frameworks.jax_parallel.stages import Stage, cut, evaluate, form, trace, value
from twinax.frameworks.parallel import MICRO_BATCHES

AXIS = "pipe"


class Rows:
    """Several arrays of one type per stage, flat and behind one another in that stage's row of one array."""

    def __init__(self, stages: Sequence[Mapping[int, tuple[int, ...]]]) -> None:
        """``stages``: of each, the shapes of its leaves by number."""
        self.stages = stages
        self.length = max(1, *(sum(map(math.prod, shapes.values())) for shapes in stages))
        self.holders: dict[int, list[tuple[int, int]]] = {}  # leaf → (stage, where it begins)
        for stage, shapes in enumerate(stages):
            start = 0
            for leaf, shape in shapes.items():
                self.holders.setdefault(leaf, []).append((stage, start))
                start += math.prod(shape)

    def pack(self, stage: int, leaves: Mapping[int, Any]) -> jax.Array:
        """The row of a stage, with zeros behind its leaves."""
        flat = [jnp.ravel(leaves[leaf]) for leaf in self.stages[stage]]
        filled = sum(part.size for part in flat)
        dtype = flat[0].dtype if flat else jnp.result_type(float)
        return jnp.concatenate([*flat, jnp.zeros(self.length - filled, dtype)])

    def pack_all(self, leaves: Sequence[Any]) -> jax.Array:
        """All rows: (stages, longest row)."""
        return jnp.stack([self.pack(stage, dict(enumerate(leaves))) for stage in range(len(self.stages))])

    def take(self, stage: int, row: Any) -> dict[int, Any]:
        """The leaves of a stage from its row."""
        found, start = {}, 0
        for leaf, shape in self.stages[stage].items():
            found[leaf] = row[start : start + math.prod(shape)].reshape(shape)
            start += math.prod(shape)
        return found

    def whole(self, rows: Any) -> dict[int, Any]:
        """Every leaf, from the first stage that has it."""
        taken = {stage: self.take(stage, rows[stage]) for stage in range(len(self.stages))}
        return {leaf: taken[places[0][0]][leaf] for leaf, places in self.holders.items()}


class Pipeline(Engine):
    """Stage i of the model on rank i; micro-batches go through one after another (GPipe, arXiv:1811.06965).

    Every rank runs the same program: in each tick of a ``lax.scan``, a ``lax.switch`` on the rank's number runs
    its stage, and ``lax.ppermute`` hands what it computed to the next; a second scan goes back. Rank i's
    parameters are row i of one array, what it changes of the state row i of another. All ranks are given the
    whole batch.
    """

    does = "stages of the traced program, GPipe schedule under shard_map with ppermute"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.ranks = setting.mesh.size
        self.groups = frozenset({self.ranks})
        self.shares = self.micro_batches = self.ranks
        self.residuals: dict[int, Residuals] = {}  # by stage; found when it is traced
        self.forms: list[tuple[Any, Any]] = []  # shape and type of every leaf that the stages were made for
        self.split, self.replicated = (NamedSharding(setting.mesh, spec) for spec in (P(AXIS), P()))

    # --- cutting the model ---------------------------------------------------------------------

    def fit_to(self, data: Data) -> None:
        batch = len(next(iter(data.values())))
        self.shares = self.micro_batches = MICRO_BATCHES if batch % MICRO_BATCHES == 0 else self.ranks
        if batch % self.micro_batches:
            raise CellFailed(
                "unsupported",
                f"A batch of {batch} divides neither into {MICRO_BATCHES} micro-batches nor into "
                f"{self.ranks}, one per rank.",
                f"Give a batch that is a multiple of {MICRO_BATCHES}, or of the ranks.",
            )
        self.part = {
            name: jax.ShapeDtypeStruct((batch // self.micro_batches, *a.shape[1:]), a.dtype)
            for name, a in data.items()
        }
        model, wide = self.setting.model, jnp.result_type(float)  # the type that a runner usually casts to
        self._cut(*(_shapes(tree, wide) for tree in (model.params, model.state)))

    def _cut(self, params: Tree, state: Tree) -> None:
        """Trace the objective of one micro-batch with leaves like these, and lay out the stages."""
        leaves, self.params_form = jax.tree.flatten(params)
        states, self.state_form = jax.tree.flatten(state)
        self.forms = [(leaf.shape, leaf.dtype) for leaf in (*leaves, *states)]
        if len(types := {str(leaf.dtype) for leaf in leaves}) != 1:
            raise CellFailed(
                "unsupported",
                f"The parameters are of the types {', '.join(sorted(types))}; a stage's lie in one array.",
                "Compare data parallel or fully sharded.",
            )
        self.program = trace(self.setting.objective, params, state, self.part)
        self.stages = cut(self.program, self.ranks)
        held = [list(stage.params) for stage in self.stages]
        used = {leaf for some in held for leaf in some}
        held[0] += [i for i in range(len(leaves)) if i not in used]  # they have no gradient, but lie somewhere
        packed = {i for i in self.program.changed if states[i].dtype == leaves[0].dtype}
        self.others = [i for i in range(len(states)) if i not in packed]  # whole on every rank
        self.rows = Rows([{i: leaves[i].shape for i in some} for some in held])
        self.kept = Rows([{i: states[i].shape for i in s.state if i in packed} for s in self.stages])
        self.width = max(1, *(sum(form(v).size for v in stage.outgoing) for stage in self.stages))
        self.shared = {leaf: at for leaf, at in self.rows.holders.items() if len(at) > 1}

    # --- laying out ----------------------------------------------------------------------------

    def place(self, params: Tree, state: Tree) -> tuple[Tree, Tree]:
        leaves, states = jax.tree.leaves(params), jax.tree.leaves(state)
        if self.forms != [(leaf.shape, leaf.dtype) for leaf in (*leaves, *states)]:
            self._cut(_shapes(params), _shapes(state))
        rows, kept = jax.jit(lambda *given: (self.rows.pack_all(given[0]), self.kept.pack_all(given[1])))(
            leaves, states
        )
        others = {i: lay_any(states[i], self.replicated) for i in self.others}
        return {"stages": lay(rows, self.split)}, {"stages": lay(kept, self.split), "others": others}

    def place_data(self, data: Data) -> Data:
        return {name: lay(array, self.replicated) for name, array in data.items()}

    def whole(self, params: Tree, state: Tree) -> tuple[Tree, Tree]:
        leaves = self.rows.whole(params["stages"])
        states = {**self.kept.whole(state["stages"]), **state["others"]}
        return (
            jax.tree.unflatten(self.params_form, [leaves[i] for i in range(len(leaves))]),
            jax.tree.unflatten(self.state_form, [states[i] for i in range(len(states))]),
        )

    # --- computing -----------------------------------------------------------------------------

    def value_and_grad(self, params: Tree, state: Tree, data: Data) -> tuple[jax.Array, Tree, Tree]:
        where = {"stages": P(AXIS), "others": P()}
        step = self._sharded(self._on_one_rank, (P(AXIS), where, P()), (P(), where, P(AXIS)))
        return step(params, state, data)

    def _sharded(self, function: Callable[..., Any], given: Any, made: Any) -> Callable[..., Any]:
        # check_vma=False: the equations were traced before anything was known to differ between ranks
        mesh = self.setting.mesh
        return jax.shard_map(function, mesh=mesh, in_specs=given, out_specs=made, check_vma=False)

    def _on_one_rank(self, params: Tree, state: Tree, data: Data) -> tuple[jax.Array, Tree, Tree]:
        """Loss of the whole batch, new state and gradients, from this rank's rows.

        Differentiated by hand, tick by tick: of a ``lax.switch``, JAX would keep for the backward pass what
        every branch would have kept, so that each rank held the activations of all stages.
        """
        row, kept, others = params["stages"][0], state["stages"][0], state["others"]
        count = self.micro_batches
        parts = {name: a.reshape(count, -1, *a.shape[1:]) for name, a in data.items()}
        self._measure(row, kept, others, {name: a[0] for name, a in parts.items()})
        ticks = jnp.arange(count + self.ranks - 1)
        branches = [*map(self._branch, range(self.ranks)), self._idle]
        backs = [*map(self._back, range(self.ranks)), self._idle_back]

        def forward(carry: Any, now: Any) -> Any:
            kept, others, arrived, saved = carry
            branch, slot, part = self._now(now, parts)
            sent, kept, others, loss, more = jax.lax.switch(branch, branches, row, kept, others, arrived, part)
            saved = {k: jax.lax.dynamic_update_index_in_dim(a, more[k], slot, 0) for k, a in saved.items()}
            arrived = jax.lax.ppermute(sent, AXIS, [(i, i + 1) for i in range(self.ranks - 1)])
            return (kept, others, arrived, saved), loss

        def backward(carry: Any, now: Any) -> Any:
            gradient, came = carry
            branch, slot, part = self._now(now, parts)
            mine = {k: jax.lax.dynamic_index_in_dim(a, slot, keepdims=False) for k, a in saved.items()}
            more, sent = jax.lax.switch(branch, backs, row, part, mine, came)
            came = jax.lax.ppermute(sent, AXIS, [(i + 1, i) for i in range(self.ranks - 1)])
            return (gradient + more, came), None

        nothing = jnp.zeros(self.width, row.dtype)
        # one slot for each micro-batch, and one for what an idle rank would write
        saved = {kind: jnp.zeros((count + 1, length), kind) for kind, length in self.lengths.items()}
        (kept, others, _, saved), losses = jax.lax.scan(forward, (kept, others, nothing, saved), ticks)
        (gradient, _), _ = jax.lax.scan(backward, (jnp.zeros_like(row), nothing), ticks, reverse=True)
        if self.shared:
            gradient = self._summed(gradient)
        loss = jax.lax.psum(losses.sum(), AXIS) / count  # only the last stage's are not zero
        return loss, {"stages": kept[None], "others": self._told(others)}, {"stages": gradient[None]}

    def _now(self, tick: Any, parts: Data) -> tuple[Any, Any, Data]:
        """What this rank does in a tick: its branch, the number of its micro-batch, and the micro-batch.

        An idle rank takes the last branch and a number beyond the last: it runs no stage, since what that
        would make of an empty buffer could be no number.
        """
        rank = jax.lax.axis_index(AXIS)
        number = tick - rank
        busy = (number >= 0) & (number < self.micro_batches)
        part = {n: jax.lax.dynamic_index_in_dim(a, number, keepdims=False) for n, a in parts.items()}
        return jnp.where(busy, rank, self.ranks), jnp.where(busy, number, self.micro_batches), part

    def _measure(self, row: Any, kept: Any, others: dict[int, Any], part: Data) -> None:
        """Find out what each stage keeps for its backward pass."""
        arrived = jnp.zeros(self.width, row.dtype)
        given = (row, kept, others, arrived, part)
        saved = [jax.eval_shape(self._stage(i), *given)[-1] for i in range(self.ranks)]
        self.lengths = longest(saved)

    def _told(self, others: dict[int, Any]) -> dict[int, Any]:
        """State that lies whole on every rank, as the stage that changes it left it."""
        rank = jax.lax.axis_index(AXIS)
        owners = {leaf: i for i, stage in enumerate(self.stages) for leaf in stage.state}
        for leaf in owners.keys() & others.keys():
            mine = jnp.where(rank == owners[leaf], others[leaf], jnp.zeros_like(others[leaf]))
            others = {**others, leaf: jax.lax.psum(mine, AXIS).astype(others[leaf].dtype)}
        return others

    def _branch(self, number: int) -> Callable[..., Any]:
        """As :meth:`_stage`; what is saved has the same length in every branch."""
        run = self._stage(number)

        def branch(*given: Any) -> Any:
            *made, saved = run(*given)
            return *made, padded(saved, self.lengths)

        return branch

    def _stage(self, number: int) -> Callable[..., Any]:
        """``row, kept, others, arrived, part -> sent, kept, others, loss, saved`` of a stage."""
        program, stage = self.program, self.stages[number]

        def run(row: Any, kept: Any, others: dict[int, Any], arrived: Any, part: Data) -> Any:
            states = {**self.kept.take(number, kept), **others}
            inputs = jax.tree.leaves(part)

            def pure(leaves: dict[int, Any], arrived: Any) -> Any:
                known = dict(program.constants)
                known |= {program.params[i]: leaf for i, leaf in leaves.items()}
                known |= {program.state[i]: leaf for i, leaf in states.items()}
                known |= dict(zip(program.data, inputs, strict=True))
                known |= _unpacked(stage, arrived)
                evaluate(stage.equations, known)
                after = {**states, **{i: value(program.new_state[i], known) for i in stage.state}}
                sent = [jnp.ravel(known[variable]) for variable in stage.outgoing]
                rest = jnp.zeros(self.width - sum(part.size for part in sent), row.dtype)
                last = number == self.ranks - 1
                loss = value(program.loss, known) if last else jnp.zeros((), row.dtype)
                return (jnp.concatenate([*sent, rest]), loss), after

            leaves = self.rows.take(number, row)
            (sent, loss), pull, after = jax.vjp(pure, leaves, arrived, has_aux=True)
            self.residuals[number], saved = Residuals.of(pull, [*leaves.values(), *inputs])
            kept_now = self.kept.pack(number, after).astype(kept.dtype)
            return sent, kept_now, {i: jnp.asarray(after[i]) for i in others}, loss, saved

        return run

    def _back(self, number: int) -> Callable[..., Any]:
        """``row, part, saved, came -> gradient of row, gradient of arrived`` of a stage.

        ``came`` is the gradient of what the stage sent; the loss is a mean over micro-batches.
        """

        def run(row: Any, part: Data, saved: Any, came: Any) -> Any:
            leaves = self.rows.take(number, row)
            pull = self.residuals[number].pull(saved, [*leaves.values(), *jax.tree.leaves(part)])
            gradients, sent = pull((came, jnp.asarray(1 / self.micro_batches, row.dtype)))
            return self.rows.pack(number, gradients).astype(row.dtype), sent

        return run

    def _idle(self, row: Any, kept: Any, others: Any, arrived: Any, part: Data) -> Any:
        nothing = padded({}, self.lengths)
        return jnp.zeros_like(arrived), kept, others, jnp.zeros((), row.dtype), nothing

    def _idle_back(self, row: Any, part: Data, saved: Any, came: Any) -> Any:
        return jnp.zeros_like(row), jnp.zeros_like(came)

    def _summed(self, row: Any) -> Any:
        """Gradients in which a parameter that several stages use has the sum of theirs, in each of them."""
        sizes = {leaf: math.prod(self.rows.stages[at[0][0]][leaf]) for leaf, at in self.shared.items()}

        def read(stage: int) -> Callable[[Any], Any]:
            def of(row: Any) -> Any:
                starts = {leaf: dict(at).get(stage) for leaf, at in self.shared.items()}
                return jnp.concatenate(
                    [
                        jnp.zeros(sizes[leaf], row.dtype) if start is None else row[start : start + sizes[leaf]]
                        for leaf, start in starts.items()
                    ]
                )

            return of

        def write(stage: int) -> Callable[[Any, Any], Any]:
            def into(row: Any, sums: Any) -> Any:
                begin = 0
                for leaf, at in self.shared.items():
                    if (start := dict(at).get(stage)) is not None:
                        row = row.at[start : start + sizes[leaf]].set(sums[begin : begin + sizes[leaf]])
                    begin += sizes[leaf]
                return row

            return into

        rank = jax.lax.axis_index(AXIS)
        sums = jax.lax.psum(jax.lax.switch(rank, [read(i) for i in range(self.ranks)], row), AXIS)
        return jax.lax.switch(rank, [write(i) for i in range(self.ranks)], row, sums)


def _shapes(tree: Tree, wide: Any = None) -> Tree:
    """Shape and type of every leaf; floating ones of the type ``wide`` if given."""

    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        floating = wide is not None and jnp.issubdtype(leaf.dtype, jnp.floating)
        return jax.ShapeDtypeStruct(leaf.shape, wide if floating else leaf.dtype)

    return jax.tree.map(shape, tree)


def _unpacked(stage: Stage, arrived: Any) -> dict[Any, Any]:
    found, start = {}, 0
    for variable in stage.incoming:
        found[variable] = arrived[start : start + form(variable).size].reshape(form(variable).shape)
        start += form(variable).size
    return found
