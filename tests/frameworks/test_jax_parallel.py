"""Every strategy in JAX against one device, in one process and in several: steps, traffic, bytes, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cases import small
from frameworks.jax_ranks import Ranks
from twinax.errors import CellFailed
from twinax.frameworks.base import OPTIMIZERS, Evaluation, Optimizer
from twinax.frameworks.jax_backend import JaxRunner
from twinax.frameworks.jax_optimizers import make_transform, make_update
from twinax.frameworks.jax_parallel import JaxParallelRunner, runner, shardings
from twinax.frameworks.jax_parallel.counting import collectives
from twinax.frameworks.jax_parallel.engine import lay
from twinax.frameworks.parallel import MICRO_BATCHES, Held, Kind, Membership, Traffic, micro_batches
from twinax.sources.file import resolve
from twinax.twin import Arrays, Twin

EXAMPLES = Path(__file__).parents[2] / "examples"
BOUND = 1e-9
BATCH = 8
PLAN = {"attention.out": "row", "attention.*": "column", "up": "column", "down": "row"}


def twin_of(name: str) -> Twin:
    if name.endswith("_pair"):
        twin = resolve(str(EXAMPLES / f"{name}.py"))
        return replace(twin, tensor_plan=PLAN) if name == "encoder_pair" else twin
    return small(name)


def given(twin: Twin) -> tuple[Arrays, Arrays]:
    """Weights that hide nothing (no zero, no one), and a batch."""
    weights = {
        name: array + 0.02 * np.random.default_rng([i, 7]).standard_normal(array.shape)
        for i, (name, array) in enumerate(twin.init(twin.config, 0).items())
    }
    size = twin.presets["parity"].model_copy(update={"batch": BATCH})
    return weights, twin.batches(twin.config, size, 3, 1)[0]


class Code:
    """A twin's JAX side; a pair's loss, where it has none of its own, is no mean over examples."""

    def __init__(self, name: str) -> None:
        self.own = name not in ("encoder_pair", "equinox_pair")
        self.code = twin_of(name).code("jax")
        self.rename = getattr(self.code, "rename", {})

    def build(self, config: Any) -> Any:
        return self.code.build(config)

    def loss(self, outputs: Any, batch: Any) -> Any:
        return self.code.loss(outputs, batch) if self.own else jnp.square(outputs - 1.0).mean()


def make(membership: Membership, name: str, strategy: str, **more: Any) -> JaxParallelRunner:
    twin = twin_of(name)
    more = {"plan": twin.tensor_plan, "dtype": "float64", **more}
    return JaxParallelRunner(
        Code(name),
        twin.config,
        given(twin)[0],
        twin.inputs,
        strategy=strategy,  # type: ignore[arg-type]
        ranks=jax.device_count() if membership.processes == 1 else membership.processes,
        membership=membership,
        channels_last=twin.channels_last,
        **more,
    )


def single(name: str, dtype: str = "float64") -> JaxRunner:
    twin = twin_of(name)
    weights, more = given(twin)[0], {"dtype": dtype, "channels_last": twin.channels_last}
    return JaxRunner(Code(name), twin.config, weights, twin.inputs, **more)


def oracle(name: str, rule: Optimizer, parts: int, carried: bool) -> Evaluation:
    """One device: the batch in parts one after another, gradients averaged; buffers carried or the first's."""
    weights, batch = given(twin_of(name))
    one, found = single(name), []
    for part in micro_batches(batch, parts):
        if not carried:
            one.load(weights)
        found.append(one.evaluate(part, train=True))
    gradients = {n: np.mean([f.gradients[n] for f in found], 0) for n in found[0].gradients}
    buffers = found[-1 if carried else 0].buffers
    one.load(weights, rule)
    update = make_update(make_transform(rule))
    one.params, state = update(one._place(one.params, gradients), one.opt_state, one.params)
    after = one._torch_named(one.params)
    loss = float(np.mean([f.loss for f in found]))
    return Evaluation({}, loss, gradients, buffers, {}, after, one._optimizer_state(state))


def step(membership: Membership, name: str, strategy: str, rule: str, fault: str = "") -> float | None:
    """How far a step is from one device's, norm-relative, at its worst; None where another process knows."""
    made = make(membership, name, strategy)
    weights, batch = given(twin_of(name))
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[fault](patch, membership) if fault else None
        found = made.step(batch, weights, OPTIMIZERS[rule])
    made.leave()
    parts = {"pipeline": MICRO_BATCHES, "data_local": made.ranks}.get(strategy, 1)
    if membership.process > 0:
        assert found is None
        return None
    assert found is not None
    return worst(given(twin_of(name))[0], oracle(name, OPTIMIZERS[rule], parts, strategy == "pipeline"), found)


def worst(weights: Arrays, expected: Evaluation, found: Evaluation) -> float:
    """The largest norm-relative distance; a tensor below 1e-6 of all of its kind is measured against that."""
    distances = [abs(found.loss - expected.loss) / abs(expected.loss)]
    for kind in ("gradients", "buffers", "weights", "optimizer"):
        a, b = dict(getattr(expected, kind)), dict(getattr(found, kind))
        assert a.keys() == b.keys(), kind
        if kind == "weights":
            # of the change, since a step is small beside the weights; but AdamW divides by √g², so that a
            # gradient that is truly zero (an attention key's bias) moves its weights by rounding noise
            least = 1e-9 * total(expected.gradients)
            moved = {n for n, gradient in expected.gradients.items() if np.linalg.norm(gradient) >= least}
            a, b = ({n: x[n] - weights[n] for n in moved} for x in (a, b))
        for n in a:
            assert a[n].shape == b[n].shape and a[n].dtype == b[n].dtype, (kind, n)
            like = total({m: a[m] for m in a if kind != "optimizer" or m.split(".")[0] == n.split(".")[0]})
            norm = max(float(np.linalg.norm(a[n])), 1e-6 * like)
            distances.append(float(np.linalg.norm(a[n] - b[n])) / norm)
    return float(np.max(distances))  # no number stays no number


def total(arrays: Any) -> float:
    return float(np.sqrt(sum(float((array**2).sum()) for array in arrays.values())))


# --- what could be wrong ---------------------------------------------------------------------------


def no_mean(patch: pytest.MonkeyPatch, membership: Membership) -> None:
    patch.setattr(jax.lax, "pmean", lambda x, axis: x)


def first_share_everywhere(patch: pytest.MonkeyPatch, membership: Membership) -> None:
    def place(engine: Any, data: Any) -> Any:
        sharding = jax.sharding.NamedSharding(engine.setting.mesh, jax.sharding.PartitionSpec("data"))
        share = BATCH // engine.shares
        same = {name: np.concatenate([array[:share]] * engine.shares) for name, array in data.items()}
        return {name: lay(array, sharding) for name, array in same.items()}

    patch.setattr(shardings.Sharded, "place_data", place)


def other_batch_on_rank_1(patch: pytest.MonkeyPatch, membership: Membership) -> None:
    place = shardings.Sharded.place_data

    def placed(engine: Any, data: Any) -> Any:
        return place(engine, {n: a[::-1] for n, a in data.items()} if membership.process else data)

    patch.setattr(shardings.Sharded, "place_data", placed)


def sum_for_mean(patch: pytest.MonkeyPatch, membership: Membership) -> None:
    patch.setattr(jax.lax, "pmean", jax.lax.psum)


def sent_nowhere(patch: pytest.MonkeyPatch, membership: Membership) -> None:
    send = jax.lax.ppermute
    patch.setattr(jax.lax, "ppermute", lambda x, axis, pairs: send(x, axis, [(i, i) for i, _ in pairs]))


FAULTS = {
    function.__name__: function
    for function in (no_mean, first_share_everywhere, other_batch_on_rank_1, sum_for_mean, sent_nowhere)
}


# --- a step is one device's ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def devices() -> Iterator[Ranks]:
    """One process with four devices."""
    ranks = Ranks(1, devices=4)
    yield ranks
    ranks.stop()


@pytest.fixture(scope="module")
def processes() -> Iterator[Ranks]:
    """Two processes with one device each, joined by gloo."""
    ranks = Ranks(2)
    yield ranks
    ranks.stop()


CASES = [
    ("bert", "tensor", "sgd"),
    ("xor", "data", "adamw"),
    ("xor", "fully_sharded", "sgd"),
    ("xor", "tensor", "adamw"),
    ("encoder_pair", "fully_sharded", "adamw"),
    ("encoder_pair", "data_tensor", "sgd"),
    ("equinox_pair", "data", "sgd"),
    ("functions_pair", "fully_sharded", "adamw"),
    ("functions_pair", "data_tensor", "sgd"),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in [
            ("encoder_pair", "data", "sgd"),
            ("equinox_pair", "tensor", "adamw"),
            ("bert", "data", "sgd"),
            ("bert", "fully_sharded", "adamw"),
            ("bert", "data_tensor", "adamw"),
            ("resnet50", "data", "adamw"),
            ("resnet50", "fully_sharded", "sgd"),
            ("resnet50", "tensor", "sgd"),
            ("resnet50", "data_tensor", "adamw"),
            ("resnet50", "pipeline", "sgd"),
            ("bert", "pipeline", "adamw"),
            ("bert/encoder", "data", "sgd"),
            ("bert/encoder", "fully_sharded", "adamw"),
            ("bert/encoder", "tensor", "adamw"),
            ("bert/encoder", "data_tensor", "sgd"),
            ("encoder_pair", "tensor", "sgd"),
            ("functions_pair", "tensor", "sgd"),
        ]
    ),
]


@pytest.mark.parametrize(("name", "strategy", "rule"), CASES)
def test_a_step_on_four_devices_is_a_step_on_one(devices: Ranks, name: str, strategy: str, rule: str):
    assert devices.run(step, name, strategy, rule)[0] <= BOUND


ACROSS = [
    ("functions_pair", "data", "sgd"),
    ("functions_pair", "fully_sharded", "adamw"),
    ("encoder_pair", "tensor", "adamw"),
    ("xor", "pipeline", "sgd"),
    ("functions_pair", "data_local", "adamw"),
    pytest.param("equinox_pair", "pipeline", "sgd", marks=pytest.mark.slow),
    pytest.param("resnet50", "data", "sgd", marks=pytest.mark.slow),
    pytest.param("resnet50", "pipeline", "sgd", marks=pytest.mark.slow),
    pytest.param("bert", "tensor", "adamw", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "strategy", "rule"), ACROSS)
def test_a_step_in_two_processes_is_a_step_on_one_device(processes: Ranks, name: str, strategy: str, rule: str):
    distance, nothing = processes.run(step, name, strategy, rule)
    assert distance <= BOUND and nothing is None


@pytest.mark.parametrize(
    ("name", "strategy", "fault"),
    [
        ("xor", "data_local", "no_mean"),
        ("xor", "data_local", "sum_for_mean"),
        ("xor", "data", "first_share_everywhere"),
        ("xor", "fully_sharded", "first_share_everywhere"),
    ],
)
def test_a_wrong_step_is_seen(devices: Ranks, name: str, strategy: str, fault: str):
    assert devices.run(step, name, strategy, "sgd", fault)[0] > 1e-3


@pytest.mark.parametrize(
    ("name", "strategy", "fault"),
    [
        ("functions_pair", "data", "other_batch_on_rank_1"),
        ("functions_pair", "tensor", "other_batch_on_rank_1"),
        ("xor", "pipeline", "sent_nowhere"),
    ],
)
def test_a_wrong_step_in_two_processes_is_seen(processes: Ranks, name: str, strategy: str, fault: str):
    assert not processes.run(step, name, strategy, "sgd", fault)[0] <= 1e-3


@pytest.mark.slow
def test_batch_norm_over_shares_of_the_batch(devices: Ranks):
    """It is what one device does on one share after another, and not what it does on the whole batch."""
    ((of_shares, of_whole, held, alone),) = devices.run(local_batch_norm)
    assert of_shares <= BOUND
    assert of_whole > 1e-3
    # what the compiler tells of memory is one device's: a quarter of the batch, and all of the gradients
    assert 0 < held.activations < 0.5 * (alone - held.gradients)


def local_batch_norm(membership: Membership) -> tuple[float, float, Held, float]:
    (weights, batch), rule = given(twin_of("resnet50")), OPTIMIZERS["sgd"]
    made = make(membership, "resnet50", "data_local")
    found = made.step(batch, weights, rule)
    assert found is not None
    of_shares, of_whole = (worst(weights, oracle("resnet50", rule, parts, False), found) for parts in (4, 1))
    compiled = single("resnet50").prepare("step", [batch]).compiled
    return of_shares, of_whole, made.held(batch), compiled["temporary_bytes"]


# --- traffic and bytes -----------------------------------------------------------------------------


def measured(membership: Membership, name: str, strategy: str) -> tuple[list[Traffic], Held, dict[str, Any]]:
    made, batch = make(membership, name, strategy), given(twin_of(name))[1]
    return made.traffic(batch), made.held(batch), made.facts()


def taken(membership: Membership) -> tuple[int | None, Held]:
    made, batch = make(membership, "bert", "data"), given(twin_of("bert"))[1]
    return made.taken_bytes(batch), made.held(batch)


def test_a_step_takes_its_working_memory_from_the_system_and_no_room_for_what_it_is_given(devices: Ranks):
    ((temporary, held),) = devices.run(taken)
    assert temporary is not None
    beyond = temporary - held.activations - held.gradients
    assert 0 <= beyond < 1024  # the loss; new weights lie where the old ones were


def sizes_of(name: str) -> dict[str, int]:
    """Bytes in float64 of every parameter."""
    twin = twin_of(name)
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    return {n: 8 * a.size for n, a in twin.init(twin.config, 0).items() if not n.endswith(buffers)}


def bytes_by_kind(traffic: list[Traffic]) -> dict[str, int]:
    kinds = {t.kind for t in traffic}
    return {kind: sum(t.bytes * t.count for t in traffic if t.kind == kind) for kind in kinds}


def test_data_parallel_sums_every_gradient_once_and_the_loss(devices: Ranks):
    ((traffic, held, facts),) = devices.run(measured, "bert", "data")
    twin, parameters = twin_of("bert"), sum(sizes_of("bert").values())
    # XLA sums the position embeddings' gradient before it lays it into the table: rows of the tokens alone
    unused = twin.config["max_position_embeddings"] - given(twin)[1]["input_ids"].shape[1]
    unused *= 8 * twin.config["hidden_size"]
    assert bytes_by_kind(traffic) == {"all_reduce": parameters - unused + 8}
    assert {t.ranks for t in traffic} == {4}
    counters = 5 * 4  # of the five dropout layers
    assert (held.parameters - counters, held.gradients, held.optimizer) == (parameters,) * 3
    assert facts["sharded share"] == 0.0 and facts["backend"] == "XLA, in one process"


def test_tensor_parallel_sums_what_megatron_does_with_three_projections_apart(devices: Ranks):
    ((traffic, held, facts),) = devices.run(measured, "bert", "tensor")
    twin = twin_of("bert")
    # Megatron-LM: after attention and after the feed-forward, forward and backward. XLA sums the gradients that
    # come from query, key and value apart (in one all-reduce of three arrays), Megatron their sum.
    activation = given(twin)[1]["input_ids"].size * twin.config["hidden_size"] * 8
    layers = twin.config["num_hidden_layers"]
    assert bytes_by_kind(traffic) == {"all_reduce": (4 + 2) * layers * activation}
    sizes = sizes_of("bert")
    rows = ("attention.output.dense.weight", "output.dense.weight")
    cut = sum(s for n, s in sizes.items() if ".self." in n or ".intermediate." in n or n.endswith(rows))
    assert facts["sharded share"] == cut / sum(sizes.values())
    assert held.gradients == held.optimizer == sum(sizes.values()) - cut * 3 // 4


def test_fully_sharded_moves_parameters_and_gradients(devices: Ranks):
    ((traffic, held, facts),) = devices.run(measured, "encoder_pair", "fully_sharded")
    sizes = sizes_of("encoder_pair")
    moved = bytes_by_kind(traffic)
    assert moved == {"all_gather": sum(sizes.values()), "all_reduce": sum(sizes.values()) + 8}
    assert held.gradients == held.optimizer == sum(sizes.values()) // 4
    assert facts["sharded share"] == 1.0


def test_axes_of_data_and_tensor_move_their_own(devices: Ranks):
    ((traffic, held, _),) = devices.run(measured, "encoder_pair", "data_tensor")
    twin, sizes = twin_of("encoder_pair"), sizes_of("encoder_pair")
    cut = sum(s for n, s in sizes.items() if "norm" not in n and n not in ("attention.out.bias", "down.bias"))
    assert held.gradients == sum(sizes.values()) - cut // 2
    assert {t.ranks for t in traffic} == {2}
    share = given(twin)[1]["x"].size * 8 // 2  # of two shares of the batch
    # over the data axis the gradients that a rank holds, and the loss; over the other one the outputs of
    # attention and feed-forward and the gradients of their inputs, of query, key and value apart
    assert bytes_by_kind(traffic) == {"all_reduce": held.gradients + 8 + (2 + 1 + 3) * share}


def test_a_pipeline_sends_one_way_in_every_tick(processes: Ranks):
    (first, held, facts), (last, other, _) = processes.run(measured, "xor", "pipeline")
    ticks = MICRO_BATCHES + 2 - 1
    for traffic in (first, last):  # activations forward, their gradients backward
        (sent,) = [t for t in traffic if t.kind == "send"]
        assert (sent.ranks, sent.count) == (2, ticks)
        assert sent.bytes % (BATCH // MICRO_BATCHES * 8) == 0
    assert max(held.parameters, other.parameters) < sum(sizes_of("xor").values())
    assert facts["micro-batches"] == MICRO_BATCHES
    assert facts["backend"] == "XLA, gloo between processes"


def test_a_pipeline_keeps_the_activations_of_its_own_stage(devices: Ranks):
    """And no parameter among them: of each micro-batch less than all ranks together would keep by a third."""
    ((longest, all_stages),) = devices.run(kept_for_backward)
    assert 0 < longest < all_stages * 2 / 3


def kept_for_backward(membership: Membership) -> tuple[int, int]:
    made, batch = make(membership, "encoder_pair", "pipeline"), given(twin_of("encoder_pair"))[1]
    made.held(batch)
    engine: Any = made.engine
    each = [
        sum(leaf.size for leaf in stage.leaves if not isinstance(leaf, int) and leaf.dtype == "float64")
        for stage in engine.residuals.values()
    ]
    parameters = {leaf.shape for leaf in jax.tree.leaves(made.base.params) if leaf.ndim == 2}
    kept = [
        leaf.shape for stage in engine.residuals.values() for leaf in stage.leaves if not isinstance(leaf, int)
    ]
    assert not parameters.intersection(kept)
    assert engine.lengths["float64"] == max(each)
    return max(each), sum(each)


class Spy:
    """``jax.jit`` that keeps what was compiled."""

    def __init__(self) -> None:
        self.texts, self.jit = list[str](), jax.jit

    def __call__(self, function: Any, **options: Any) -> Any:
        compiled = self.jit(function, **options)

        def call(*arguments: Any) -> Any:
            self.texts.append(compiled.lower(*arguments).compile().as_text() or "")
            return compiled(*arguments)

        return call


def alone(membership: Membership, kinds: list[Kind]) -> list[Traffic]:
    made, spy = make(membership, "xor", "data_tensor", plan={"hidden": "column"}), Spy()
    with pytest.raises(ValueError, match=r"groups of \[2, 4\] ranks, not of 3"):
        made.collective("all_reduce", 4, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.jax, "jit", spy)
        calls = [made.collective(kind, 4096, ranks) for ranks in sorted(made.engine.groups) for kind in kinds]
    for call in calls:
        call()
    return [row for text in spy.texts for row in collectives(text)]


def test_collectives_alone_have_the_size_that_was_asked_for(devices: Ranks):
    kinds: list[Kind] = ["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send"]
    (found,) = devices.run(alone, kinds)
    assert [(t.kind, t.bytes, t.count) for t in found] == [(kind, 4096, 1) for kind in kinds * 2]
    # both pairs of ranks send at the same time
    assert [t.ranks for t in found] == [2, 2, 2, 2, 4, 4, 4, 4, 4, 4]


def prepared(membership: Membership, name: str, strategy: str, dtype: str) -> float:
    """How far four prepared steps are from four on one device, relative to what they changed."""
    batch, made = given(twin_of(name))[1], make(membership, name, strategy, dtype=dtype)
    made_now: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "block_until_ready", lambda x: made_now.append(x) or x)
        made.prepare([batch])
        call = made.prepare([batch])  # starts anew: the first one's steps left the weights alone
        for i in range(3):
            call(i)
    losses = [float(loss) for loss, _ in made_now]
    assert losses[0] == losses[1] > losses[-1]
    _, (params, state, _) = made_now[-1]
    whole = jax.jit(made.engine.whole, out_shardings=made.replicated)
    found = made._named(whole(params, state)[0])
    weights, one = given(twin_of(name))[0], single(name, dtype)
    one.load(weights, runner.TIMED)
    before = one.weights()
    for _ in range(4):
        one.evaluate(batch, train=True, step=True)
    moved = {n: a - before[n] for n, a in one.weights().items()}
    return total({n: found[n] - before[n] - moved[n] for n in moved}) / total(moved)


@pytest.mark.parametrize("strategy", ["data", "data_local", "fully_sharded", "tensor"])
def test_a_prepared_step_trains(devices: Ranks, strategy: str):
    assert devices.run(prepared, "functions_pair", strategy, "float64")[0] <= BOUND


def test_a_second_runner_of_another_type_works_in_the_same_group(processes: Ranks):
    for dtype, bound in (("float64", BOUND), ("float32", 1e-2), ("float64", BOUND)):
        assert max(processes.run(prepared, "functions_pair", "fully_sharded", dtype)) <= bound


# --- what cannot be done ---------------------------------------------------------------------------


def refused(membership: Membership, name: str, strategy: str, plan: dict[str, str], size: int) -> None:
    made = make(membership, name, strategy, plan=plan)
    weights, batch = given(twin_of(name))
    made.step({name: array[:size] for name, array in batch.items()}, weights, OPTIMIZERS["sgd"])


@pytest.mark.parametrize(
    ("name", "strategy", "plan", "size", "told"),
    [
        ("xor", "data", {}, 3, "4 ranks share a batch, and a batch of .* does not divide into 4 parts"),
        ("xor", "tensor", {"output": "column"}, 8, "output cannot be cut by column: its 1 features"),
        ("xor", "tensor", {"hidden": "row"}, 8, "hidden cannot be cut by row: its 2 features"),
        ("xor", "tensor", {"nothing": "column"}, 8, "No layer of the model can be cut into 4 parts"),
        ("xor/logistic", "tensor", {}, 8, "No layer of the model can be cut into 4 parts"),
        ("xor/logistic", "pipeline", {}, 8, "a pipeline over 4 ranks needs 4"),
    ],
)
def test_what_an_engine_cannot_do_is_named(devices: Ranks, name, strategy, plan, size, told: str):
    with pytest.raises(CellFailed, match=told) as raised:
        devices.run(refused, name, strategy, plan, size)
    assert raised.value.outcome == "unsupported"


def test_data_and_tensor_need_four_ranks(processes: Ranks):
    with pytest.raises(CellFailed, match=r"4, 6, 8 … ranks; there are 2") as raised:
        processes.run(refused, "xor", "data_tensor", {}, 8)
    assert raised.value.outcome == "unsupported"


def test_every_rank_is_a_device(devices: Ranks):
    with pytest.raises(RuntimeError, match="4 devices, 3 ranks"):
        devices.run(too_few)


def too_few(membership: Membership) -> None:
    twin = twin_of("xor")
    JaxParallelRunner(
        Code("xor"), twin.config, {}, twin.inputs, strategy="data", ranks=3, membership=membership
    )
