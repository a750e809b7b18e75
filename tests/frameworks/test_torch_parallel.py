"""Every strategy in PyTorch, on real processes, against one device: steps, traffic, bytes, refusals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cases import small
from frameworks.torch_ranks import Ranks
from twinax.errors import CellFailed
from twinax.frameworks.base import OPTIMIZERS, Evaluation, Optimizer
from twinax.frameworks.parallel import MICRO_BATCHES, Held, Kind, Membership, Traffic, micro_batches
from twinax.frameworks.torch_backend import TorchRunner, own_tensors
from twinax.frameworks.torch_parallel import TorchParallelRunner
from twinax.frameworks.torch_parallel.batch_norm import synchronise
from twinax.frameworks.torch_parallel.counting import Collectives
from twinax.sources.file import resolve
from twinax.twin import Arrays, Twin

PAIR = str(Path(__file__).parents[2] / "examples/encoder_pair.py")
BOUND = 1e-9
BATCH = 8


def twin_of(name: str) -> Twin:
    if name == "pair":
        return resolve(PAIR)
    if name == "pair, planned":
        plan = {"attention.out": "row", "attention.*": "column", "up": "column", "down": "row"}
        return replace(resolve(PAIR), tensor_plan=plan)
    twin = small(name.removesuffix(", deep"))
    if name.startswith("bert"):
        return replace(twin, config={**twin.config, "num_hidden_layers": 4 if name.endswith(", deep") else 2})
    return twin


def given(twin: Twin) -> tuple[Arrays, Arrays]:
    """Weights that hide nothing (no zero, no one), and a batch."""
    weights = {
        name: array + 0.02 * np.random.default_rng([i, 7]).standard_normal(array.shape)
        for i, (name, array) in enumerate(twin.init(twin.config, 0).items())
    }
    size = twin.presets["parity"].model_copy(update={"batch": BATCH})
    return weights, twin.batches(twin.config, size, 3, 1)[0]


class Code:
    """A twin's torch side, with a loss that may do something wrong."""

    def __init__(self, name: str, fault: str = "") -> None:
        self.name, self.code, self.fault = name, twin_of(name).code("torch"), fault

    def build(self, config):
        return self.code.build(config)

    def loss(self, outputs, batch):
        # a pair's loss, where it has none of its own, is no mean over examples
        loss = (
            (outputs - 1.0).square().mean() if self.name.startswith("pair") else self.code.loss(outputs, batch)
        )
        if self.fault == "sum in place of mean":
            return loss * len(next(iter(batch.values())))
        if self.fault == "rank 1 skips its share" and torch.distributed.get_rank() == 1:
            return loss * 0.0
        return loss


def make(membership: Membership, name: str, strategy: str, fault: str = "", **more) -> TorchParallelRunner:
    twin = twin_of(name)
    more = {"plan": twin.tensor_plan, "dtype": "float64", **more}
    return TorchParallelRunner(
        Code(name, fault),
        twin.config,
        given(twin)[0],
        twin.inputs,
        strategy=strategy,  # type: ignore[arg-type]
        ranks=membership.processes,
        membership=membership,
        channels_last=twin.channels_last,
        **more,
    )


def steps(membership: Membership, name: str, strategy: str, fault: str = "") -> list[Evaluation | None]:
    runner = make(membership, name, strategy, fault)
    weights, batch = given(twin_of(name))
    try:
        return [runner.step(batch, weights, rule) for rule in OPTIMIZERS.values()]
    finally:
        runner.leave()


def oracle(name: str, rule, parts: int = 1, carried: bool = True, fault: str = "") -> Evaluation:
    """One device: the batch in parts one after another, gradients averaged; buffers carried or the first's."""
    twin = twin_of(name)
    weights, batch = given(twin)
    runner = TorchRunner(Code(name, fault), twin.config, weights, twin.inputs, dtype="float64")
    found = []
    for part in micro_batches(batch, parts):
        if not carried:
            runner.load(weights)
        evaluation = runner.evaluate(part, train=True)
        found.append(replace(evaluation, gradients={n: g.copy() for n, g in evaluation.gradients.items()}))
    gradients = {n: np.mean([f.gradients[n] for f in found], 0) for n in found[0].gradients}
    buffers = found[-1 if carried else 0].buffers
    runner.load(weights, rule)
    for parameter_name, parameter in runner.model.named_parameters():
        parameter.grad = torch.from_numpy(gradients[parameter_name])
    assert runner.optimizer is not None
    runner.optimizer.step()
    after = {n: p.detach().numpy() for n, p in runner.model.named_parameters()}
    return Evaluation(
        {}, float(np.mean([f.loss for f in found])), gradients, buffers, {}, after, runner._optimizer_state()
    )


def worst(name: str, expected: Evaluation, found: Evaluation) -> tuple[float, str]:
    """The largest norm-relative distance; a tensor below 1e-6 of all of its kind is measured against that."""
    weights = given(twin_of(name))[0]
    distances = {"loss": abs(found.loss - expected.loss) / abs(expected.loss)}
    for kind in ("gradients", "buffers", "weights", "optimizer"):
        a, b = getattr(expected, kind), getattr(found, kind)
        assert a.keys() == b.keys(), kind
        if kind == "weights":
            # of the change, since a step is small beside the weights; but AdamW divides by √g², so that a
            # gradient that is truly zero (an attention key's bias) moves its weights by rounding noise
            least = 1e-9 * total(expected.gradients)
            zero = {n for n, gradient in expected.gradients.items() if np.linalg.norm(gradient) < least}
            a, b = ({n: x[n] - (0 if n in zero else weights[n]) for n in x} for x in (a, b))
        groups = {n: n.split(".")[0] if kind == "optimizer" else kind for n in a}
        for n in a:
            assert a[n].shape == b[n].shape and a[n].dtype == b[n].dtype, (kind, n)
            like = total({m: a[m] for m in a if groups[m] == groups[n]})
            norm = max(float(np.linalg.norm(a[n])), 1e-6 * like)
            distances[f"{kind} {n}"] = float(np.linalg.norm(a[n] - b[n])) / norm
    where = max(distances, key=lambda n: np.inf if np.isnan(distances[n]) else distances[n])
    return distances[where], where


def total(arrays) -> float:
    return float(np.sqrt(sum(float((array**2).sum()) for array in arrays.values())))


@pytest.fixture(scope="module")
def pool() -> Iterator[Ranks]:
    ranks = Ranks(4)
    yield ranks
    ranks.stop()


CASES = [
    ("bert", "data", 2),
    ("bert", "fully_sharded", 2),
    ("bert", "tensor", 2),
    ("bert", "pipeline", 2),
    ("bert", "data_tensor", 4),
    ("bert/encoder", "fully_sharded", 2),
    ("bert/encoder", "tensor", 4),
    ("bert/encoder", "pipeline", 2),
    ("resnet50", "data", 2),
    ("resnet50", "data_local", 2),
    ("resnet50", "fully_sharded", 2),
    ("resnet50", "tensor", 2),
    ("resnet50", "pipeline", 2),
    ("xor", "data", 2),
    ("xor", "fully_sharded", 2),
    ("xor", "tensor", 1),
    ("xor", "tensor", 2),
    ("xor", "pipeline", 2),
    ("pair", "fully_sharded", 2),
    ("pair", "tensor", 2),
    ("pair", "pipeline", 2),
    ("pair, planned", "tensor", 2),
    *(
        pytest.param(*case, marks=pytest.mark.slow)
        for case in [
            ("bert/encoder", "data", 4),
            ("bert/encoder", "data_tensor", 4),
            ("resnet50", "data", 4),
            ("resnet50", "data_local", 4),
            ("resnet50", "fully_sharded", 4),
            ("resnet50", "pipeline", 4),
            ("resnet50", "data_tensor", 4),
            ("xor", "data_tensor", 4),
            ("bert", "pipeline", 4),
            ("bert/encoder", "pipeline", 4),
            ("bert, deep", "pipeline", 4),
            ("pair", "data", 2),
            ("pair", "data_tensor", 4),
            ("pair, planned", "data_tensor", 4),
            ("pair", "pipeline", 4),
        ]
    ),
]


@pytest.mark.parametrize(("name", "strategy", "ranks"), CASES)
def test_one_step_is_the_step_on_one_device(pool: Ranks, name: str, strategy: str, ranks: int):
    found = pool.run(steps, ranks, name, strategy)
    assert all(evaluation is None for other in found[1:] for evaluation in other)
    parts = {"pipeline": MICRO_BATCHES, "data_local": ranks}.get(strategy, 1)
    for rule, evaluation in zip(OPTIMIZERS.values(), found[0], strict=True):
        distance, where = worst(name, oracle(name, rule, parts, strategy == "pipeline"), evaluation)
        assert distance <= BOUND, where


@pytest.mark.parametrize(
    ("name", "strategy", "fault"),
    [
        ("xor", "data", "sum in place of mean"),
        ("bert", "fully_sharded", "sum in place of mean"),
        ("bert", "pipeline", "sum in place of mean"),
        ("xor", "data", "rank 1 skips its share"),
        ("bert", "fully_sharded", "rank 1 skips its share"),
        ("bert", "tensor", "rank 1 skips its share"),
    ],
)
def test_a_wrong_step_is_seen(pool: Ranks, name: str, strategy: str, fault: str):
    found = pool.run(steps, 2, name, strategy, fault)[0][0]
    same_loss = fault if fault.startswith("sum") else ""
    assert worst(name, oracle(name, OPTIMIZERS["sgd"], fault=same_loss), found)[0] > 1e-3


def test_batch_norm_over_a_share_is_not_batch_norm_over_the_batch(pool: Ranks):
    found = pool.run(steps, 2, "resnet50", "data_local")[0][0]
    assert worst("resnet50", oracle("resnet50", OPTIMIZERS["sgd"]), found)[0] > 1e-3


# --- traffic and bytes -----------------------------------------------------------------------------


def measured(membership: Membership, name: str, strategy: str) -> tuple[list[Traffic], Held, dict[str, object]]:
    runner = make(membership, name, strategy)
    batch = given(twin_of(name))[1]
    try:
        assert runner.taken_bytes(batch) is None  # nobody counts it
        return runner.traffic(batch), runner.held(batch), runner.facts()
    finally:
        runner.leave()


def sizes_of(name: str) -> dict[str, int]:
    """Bytes in float64 of every parameter."""
    model = twin_of(name).code("torch").build(twin_of(name).config)
    return {n: p.numel() * 8 for n, p in model.named_parameters()}


def bytes_by_kind(traffic: list[Traffic]) -> dict[str, int]:
    return {
        kind: sum(t.bytes * t.count for t in traffic if t.kind == kind) for kind in {t.kind for t in traffic}
    }


def test_data_parallel_sums_every_gradient_once(pool: Ranks):
    (traffic, held, facts), _ = pool.run(measured, 2, "bert", "data")
    parameters = sum(sizes_of("bert").values())
    assert bytes_by_kind(traffic) == {"all_reduce": parameters}
    assert {t.ranks for t in traffic} == {2}
    assert (held.parameters, held.gradients, held.optimizer) == (parameters, parameters, parameters)
    assert held.buffers == parameters  # a second copy of the gradients, in buckets
    assert facts["sharded share"] == 0.0 and facts["backend"] == "gloo"


def test_the_buckets_are_those_that_torch_tells_of(pool: Ranks):
    counted, logged = pool.run(buckets, 2)[0]
    assert counted == sum(logged) > 0


def buckets(membership: Membership) -> tuple[int, list[int]]:
    runner = make(membership, "bert", "data")
    try:
        counted = runner.held(given(twin_of("bert"))[1]).buffers
        logged = runner.engine.wrapped._get_ddp_logging_data()
        assert logged["gradient_as_bucket_view"] == 0
        return counted, [int(size) for size in logged["bucket_sizes"].split(", ")]
    finally:
        runner.leave()


def test_batch_norm_is_synchronised_by_a_gather_and_a_sum_per_layer(pool: Ranks):
    (traffic, _, facts), _ = pool.run(measured, 2, "resnet50", "data")
    model = twin_of("resnet50").code("torch").build(twin_of("resnet50").config)
    channels = [m.num_features for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    sums = sum(sizes_of("resnet50").values()) + sum(2 * c * 8 for c in channels)
    assert bytes_by_kind(traffic) == {"all_gather": sum(2 * c * 8 * 2 for c in channels), "all_reduce": sums}
    assert "over all ranks" in str(facts["BatchNorm"])


def test_fully_sharded_gathers_blocks_twice_and_the_rest_once(pool: Ranks):
    (traffic, held, facts), _ = pool.run(measured, 2, "bert", "fully_sharded")
    shapes = {
        n: p.shape for n, p in twin_of("bert").code("torch").build(twin_of("bert").config).named_parameters()
    }
    # a parameter is cut along its first axis, filled up to a multiple of the ranks
    padded = {n: 2 * -(-s[0] // 2) * int(np.prod(s[1:])) * 8 for n, s in shapes.items()}
    blocks = sum(size for n, size in padded.items() if ".layer." in n)
    rest = sum(padded.values()) - blocks
    assert bytes_by_kind(traffic) == {"all_gather": 2 * blocks + rest, "reduce_scatter": blocks + rest}
    assert held.parameters == held.gradients == held.optimizer  # rank 0 has the larger halves
    assert sum(sizes_of("bert").values()) / 2 <= held.parameters <= sum(padded.values()) / 2
    assert facts["sharded share"] == 1.0


def test_tensor_parallel_sums_four_times_a_layer(pool: Ranks):
    (traffic, held, facts), _ = pool.run(measured, 2, "bert", "tensor")
    twin = twin_of("bert")
    _, batch = given(twin)
    # Megatron-LM: after attention and after the feed-forward, forward and backward
    activation = batch["input_ids"].size * twin.config["hidden_size"] * 8
    assert traffic == [Traffic("all_reduce", activation, 2, 4 * twin.config["num_hidden_layers"])]
    sizes = sizes_of("bert")
    cut = sum(
        size
        for n, size in sizes.items()
        if (".self." in n or ".intermediate." in n)
        or n.endswith(("attention.output.dense.weight", "output.dense.weight"))
    )
    assert facts["sharded share"] == cut / sum(sizes.values())
    assert held.parameters == held.gradients == sum(sizes.values()) - cut / 2


def test_a_pipeline_sends_activations_one_way(pool: Ranks):
    (first, held, facts), (last, other, _) = pool.run(measured, 2, "bert", "pipeline")
    twin = twin_of("bert")
    _, batch = given(twin)
    tokens = batch["input_ids"].size // MICRO_BATCHES
    hidden, mask = tokens * twin.config["hidden_size"] * 8, tokens * 8
    assert first == [Traffic("send", hidden, 2, MICRO_BATCHES), Traffic("send", mask, 2, MICRO_BATCHES)]
    assert last == first  # the gradients of both
    assert held.parameters + other.parameters == sum(sizes_of("bert").values())
    assert facts["micro-batches"] == MICRO_BATCHES


def test_less_is_kept_for_the_backward_pass_where_the_batch_is_shared(pool: Ranks):
    kept = {s: pool.run(measured, 2, "bert", s)[0][1].activations for s in ("data", "fully_sharded", "tensor")}
    model, batch = (
        twin_of("bert").code("torch").build(twin_of("bert").config).double(),
        given(twin_of("bert"))[1],
    )
    whole = saved_whole(model, {n: torch.from_numpy(a) for n, a in batch.items()})
    assert kept["data"] == pytest.approx(whole / 2, rel=0.02)  # what does not grow with the batch stays
    assert kept["fully_sharded"] == kept["data"]
    assert kept["data"] < kept["tensor"] < whole


def saved_whole(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> int:
    """Bytes that one device keeps of the whole batch, found by another way: what the graph's nodes hold."""
    for layer in model.modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    twin = twin_of("bert")
    loss = twin.code("torch").loss(model(*(batch[n] for n in twin.inputs)), batch)
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    storages, seen, left = {}, set(), [loss.grad_fn]
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        for slot in dir(node):
            tensor = getattr(node, slot) if slot.startswith("_saved_") else None
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in own:
                storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        left += [following for following, _ in node.next_functions]
    return sum(storages.values())


def collectives(membership: Membership, strategy: str) -> list[tuple[Kind, int]]:
    runner, done = make(membership, "bert", strategy), []
    kinds: list[Kind] = ["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send", "broadcast"]
    try:
        for ranks in sorted(runner.engine.groups):
            for kind in kinds:
                call = runner.collective(kind, 4096, ranks)
                counted = Collectives()
                with counted:
                    call()
                done += [(t.kind, t.bytes, t.ranks, t.count) for t in counted.found]
        with pytest.raises(ValueError, match="groups of"):
            runner.collective("all_reduce", 4, 3)
        return done
    finally:
        runner.leave()


def test_collectives_alone_have_the_size_that_was_asked_for(pool: Ranks):
    kinds = ["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send", "broadcast"]
    found = pool.run(collectives, 4, "data_tensor")
    assert found[0] == [(kind, 4096, ranks, 1) for ranks in (2, 4) for kind in kinds]
    assert found[3] == [row for row in found[0] if row[0] != "send"]  # the last one only receives


def prepared(membership: Membership, name: str, strategy: str) -> dict[str, Any]:
    """Weights after four prepared steps: the first was made by ``prepare``."""
    runner = make(membership, name, strategy)
    batch = given(twin_of(name))[1]
    try:
        call = runner.prepare([batch])
        for i in range(3):
            call(i)
        return runner.engine.gather(runner.engine.parameters(), runner.engine.tensors())
    finally:
        runner.leave()


@pytest.mark.parametrize("strategy", ["data", "fully_sharded", "tensor"])
def test_a_prepared_step_trains(pool: Ranks, strategy: str):
    found = pool.run(prepared, 2, "bert", strategy)[0]
    twin = twin_of("bert")
    weights, batch = given(twin)
    runner = TorchRunner(Code("bert"), twin.config, weights, twin.inputs, dtype="float64")
    runner.load(weights, Optimizer("sgd", learning_rate=1e-4, momentum=0.9))
    for _ in range(4):
        runner.evaluate(batch, train=True, step=True)
    moved = {n: a - weights[n] for n, a in runner.weights().items()}
    assert total({n: found[n] - weights[n] - moved[n] for n in moved}) < 1e-9 * total(moved)


# --- what cannot be done ---------------------------------------------------------------------------


class Tied(torch.nn.Module):
    """A language model whose head is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(16, 8)
        self.middle = torch.nn.Linear(8, 8)
        self.head = torch.nn.Linear(8, 16, bias=False)
        self.head.weight = self.embed.weight
        self.unused = torch.nn.Linear(8, 8)

    def forward(self, tokens):
        return self.head(torch.tanh(self.middle(self.embed(tokens))))


class TiedCode:
    def build(self, config):
        return Tied()

    def loss(self, outputs, batch):
        return torch.nn.functional.cross_entropy(outputs, batch["labels"])


def of_tied() -> tuple[Arrays, Arrays]:
    draw = np.random.default_rng(0)
    weights = {n: draw.standard_normal(t.shape) for n, t in own_tensors(Tied()).items()}
    return weights, {"tokens": draw.integers(0, 16, 8), "labels": draw.integers(0, 16, 8)}


def tied(membership: Membership, strategy: str, plan: dict[str, str], size: int) -> list[Evaluation | None]:
    weights, batch = of_tied()
    runner = TorchParallelRunner(
        TiedCode(),
        {},
        weights,
        ("tokens",),
        strategy=strategy,  # type: ignore[arg-type]
        ranks=membership.processes,
        membership=membership,
        plan=plan,
        dtype="float64",
    )
    try:
        part = {name: array[:size] for name, array in batch.items()}
        return [runner.step(part, weights, OPTIMIZERS["adamw"]) for _ in range(2)]
    finally:
        runner.leave()


@pytest.mark.parametrize("strategy", ["data", "fully_sharded", "tensor"])
def test_tied_and_unused_parameters_are_right(pool: Ranks, strategy: str):
    """DDP alone would leave the gradients beside an unused parameter unsummed in the first step."""
    weights, batch = of_tied()
    runner = TorchRunner(TiedCode(), {}, weights, ("tokens",), dtype="float64")
    runner.load(weights, OPTIMIZERS["adamw"])
    expected = runner.evaluate(batch, train=True, step=True)
    for found in pool.run(tied, 2, strategy, {}, 8)[0]:
        for kind in ("gradients", "weights", "optimizer"):
            for name, array in getattr(expected, kind).items():
                assert np.linalg.norm(getattr(found, kind)[name] - array) <= BOUND * np.linalg.norm(array), name
    assert not expected.gradients["unused.weight"].any()


@pytest.mark.parametrize(
    ("strategy", "ranks", "plan", "size", "told"),
    [
        ("pipeline", 2, {}, 8, "embed.weight is used by stages 0 and 1"),
        ("pipeline", 2, {}, 3, "A batch of 3 divides neither into 4 micro-batches nor into 2"),
        ("data", 2, {}, 3, "2 ranks share a batch"),
        ("tensor", 2, {"head": "column"}, 8, "head.weight is also another layer's weight"),
        ("tensor", 2, {"nothing": "column"}, 8, "Nothing can be sharded over 2 ranks"),
        ("tensor", 3, {"middle": "row"}, 3, "middle cannot be sharded by row: its 8 features"),
        ("tensor", 3, {}, 3, "of 3 linear layers none has output features that divide"),
        (
            "tensor",
            2,
            {"middle": "column"},
            8,
            "embed.weight is whole on every rank, but what goes into it is sharded",
        ),
        ("data_tensor", 2, {}, 8, "an even number of ranks, 4 or more; there are 2"),
    ],
)
def test_what_an_engine_cannot_do_is_named(pool: Ranks, strategy, ranks, plan, size, told: str):
    with pytest.raises(CellFailed, match=told) as raised:
        pool.run(tied, ranks, strategy, plan, size)
    assert raised.value.outcome == "unsupported"


def test_a_pipeline_needs_as_many_parts_as_ranks(pool: Ranks):
    with pytest.raises(CellFailed, match=r"The model has 2 parts with parameters \(hidden, output\)"):
        pool.run(steps, 4, "xor", "pipeline")


def test_a_batch_norm_of_the_users_own_is_not_replaced():
    class Own(torch.nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x).relu()

    with pytest.raises(CellFailed, match="1 is a Own, a BatchNorm of its own"):
        synchronise(torch.nn.Sequential(torch.nn.Identity(), Own(3)), None, torch.device("cpu"))  # type: ignore


def test_ranks_and_processes_are_the_same():
    with pytest.raises(ValueError, match="1 processes, 2 ranks"):
        TorchParallelRunner(
            TiedCode(), {}, of_tied()[0], ("tokens",), strategy="data", ranks=2, membership=Membership(0, 1, "")
        )


def lost(membership: Membership) -> None:
    runner = make(membership, "xor", "data")
    try:
        if membership.process == 0:
            runner.step(given(twin_of("xor"))[1], given(twin_of("xor"))[0], OPTIMIZERS["sgd"])
    finally:
        runner.leave()


def test_a_rank_that_leaves_is_no_refusal_of_the_engine(pool: Ranks):
    with pytest.raises(RuntimeError, match="gloo"):
        pool.run(lost, 2, timeout=5.0)
