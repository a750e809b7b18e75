"""What the parity study does inside its workers.

A worker with a side runs the model and writes arrays; the worker of side ``both`` reads what two of
them wrote and compares.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from twinax.compare import Difference, compare, difference, together
from twinax.frameworks import make
from twinax.frameworks.base import OPTIMIZERS, DropoutSite, Evaluation, Runner, draw_masks
from twinax.records import Json, Options
from twinax.studies import parity_files as files
from twinax.studies.base import Context, Verb
from twinax.studies.parity_files import KINDS
from twinax.twin import Array, Arrays, Twin

NARROW_ULPS = 4
MOVE = 1e-3
NUDGES = 2  # of one alone, a scalar may by luck not move at all
STEADY = 1e-9  # sums in another order move the last places of float64; a random draw moves everything


def steps_of(options: Options) -> int:
    """How many optimizer steps are compared, each from the same state."""
    return 3 if options.quick else 20


def _both(context: Context) -> tuple[Runner, Twin]:
    assert context.runner is not None and context.twin is not None, "this verb needs a side"
    return context.runner, context.twin


# --- the same draws on both sides, made in NumPy ---------------------------------------------------


def perturb(weights: Arrays, seed: int) -> Arrays:
    """Weights at which nothing hides: no zero-initialised layer, no untouched running statistics.

    Each float tensor moves by a tenth of its own size (its root mean square; 1 where that is 0);
    running variances are scaled by U(0.5, 1.5), so that they stay positive. The result is rounded to
    float32, so that both precisions start from the same values.
    """
    moved: Arrays = {}
    for name, array in weights.items():
        draw = np.random.default_rng([seed, zlib.crc32(name.encode())])
        if not np.issubdtype(array.dtype, np.floating):
            moved[name] = array
        elif name.endswith("running_var"):
            moved[name] = (array * draw.uniform(0.5, 1.5, array.shape)).astype(np.float32)
        else:
            size = float(np.sqrt(np.mean(np.square(array)))) if array.size else 0.0
            noise = 0.1 * (size or 1.0) * draw.standard_normal(array.shape)
            moved[name] = (array + noise).astype(np.float32)
    return moved


def nudge_wide(weights: Arrays, seed: int, dtype: str = "float64") -> Arrays:
    """The weights, each moved by one unit in the last place of the type, up or down at random."""
    draw = np.random.default_rng([seed, 1])
    nudged: Arrays = {}
    for name, array in weights.items():
        if np.issubdtype(array.dtype, np.floating):
            wide = array.astype(dtype)
            towards = np.where(draw.random(wide.shape) < 0.5, -np.inf, np.inf).astype(dtype)
            nudged[name] = np.nextafter(wide, towards)
        else:
            nudged[name] = array
    return nudged


def nudge_narrow(weights: Arrays, seed: int) -> Arrays:
    """The weights in float64, each moved by ``NARROW_ULPS`` units in the last place of float32.

    A few, not one: in a sum of thousands of terms float32 rounds thousands of times.
    """
    draw = np.random.default_rng([seed, 3])
    size = NARROW_ULPS * float(np.finfo(np.float32).eps)
    return {
        name: array.astype(np.float64) * (1 + size * draw.choice([-1.0, 1.0], array.shape))
        if np.issubdtype(array.dtype, np.floating)
        else array
        for name, array in weights.items()
    }


NUDGED = {"": lambda weights, seed: weights, "float64": nudge_wide, "float32": nudge_narrow}


def move(batch: Arrays) -> Arrays:
    """The batch with its floating-point numbers moved by about a thousandth; the same on both sides."""
    moved: Arrays = {}
    for name, array in batch.items():
        draw = np.random.default_rng(zlib.crc32(name.encode()))
        floats = np.issubdtype(array.dtype, np.floating)
        moved[name] = (
            (array + MOVE * draw.standard_normal(array.shape)).astype(array.dtype) if floats else array
        )
    return moved


def _masks(context: Context, sites: Sequence[Mapping[str, Json]], step: int) -> Arrays:
    """What dropout keeps in one step, the same on both sides."""
    known = (DropoutSite(site["path"], site["rate"], tuple(site["shape"])) for site in sites)
    return draw_masks(known, context.options.seed, step)


def _batch(context: Context, index: int) -> Arrays:
    if "batches" not in context.memory:
        _, twin = _both(context)
        count = steps_of(context.options)
        made = twin.batches(twin.config, context.cell.size, context.options.seed, count)
        context.memory["batches"] = made
    return context.memory["batches"][index]  # type: ignore[index]


def _start(context: Context) -> Arrays:
    """The perturbed weights from which everything is proved."""
    if "start" not in context.memory:
        context.memory["start"] = perturb(context.weights, context.options.seed)
    return context.memory["start"]  # type: ignore[return-value]


# --- verbs of a side -------------------------------------------------------------------------------


def dropouts(context: Context) -> dict[str, Json]:
    """Where the side's dropout layers are, their rates, and the shapes that they see."""
    runner, _ = _both(context)
    return {"sites": [vars(site) for site in runner.dropouts(_batch(context, 0))]}


def own_dropout(context: Context, *, sites: list[dict[str, Json]]) -> dict[str, Json]:
    """Send ones through each dropout layer itself: share dropped, scale of what is kept, eval mode."""
    runner, _ = _both(context)
    found = {}
    for site in (DropoutSite(**s) for s in sites):
        ones = np.ones((256, 256), np.float32)
        kept = np.asarray(runner.drop(site.path, ones, train=True))
        nonzero = kept[kept != 0]
        found[site.path] = {
            "dropped": float((kept == 0).mean()),
            "scale": float(nonzero.mean()) if nonzero.size else None,
            "identity_in_eval": bool(np.array_equal(runner.drop(site.path, ones, train=False), ones)),
        }
    return {"found": found}


def evaluate(
    context: Context,
    *,
    train: bool,
    sites: list[dict[str, Json]],
    output: str,
    nudge: str = "",
    nudge_seed: int = 0,
    again: bool = False,
    record: bool = True,
    gradients: bool = True,
    moved: bool = False,
) -> dict[str, Json]:
    """One pass from the perturbed weights, with every gradient and every activation if not told otherwise.

    ``nudge`` (``float64`` or ``float32``) first moves the weights in that precision's last places.
    ``again`` makes the pass twice: ``changed`` is the first tensor that came out otherwise, or "".
    ``moved`` moves the inputs a little, off every kink, tie and singular point that the data sit on.
    """
    runner, _ = _both(context)
    weights = NUDGED[nudge](_start(context), nudge_seed)
    masks = _masks(context, sites, 0) if train else None

    def once() -> Evaluation:
        runner.load(weights)
        batch = move(_batch(context, 0)) if moved else _batch(context, 0)
        return runner.evaluate(batch, train=train, gradients=gradients, record=record, masks=masks)

    result = once()
    answer = {
        "changed": first_change(result, once()) if again else "",
        "gradients": list(result.gradients),
        "weights": list(weights),
        "activations": list(result.activations),
    }
    files.write(output, result)
    return answer


def first_change(first: Evaluation, second: Evaluation) -> str:
    """The first tensor, in forward order, that differs between two passes of one side; "" where none does."""
    for kind in ("activations", "outputs", "gradients"):
        again = getattr(second, kind)
        for name, array in getattr(first, kind).items():
            same = np.array_equal(array, again[name], equal_nan=True)
            if not same and difference(array, again[name]).error > STEADY:
                return name
    return ""


def step(
    context: Context,
    *,
    optimizer: str,
    index: int,
    sites: list[dict[str, Json]],
    output: str,
    state: str = "",
) -> dict[str, Json]:
    """One optimizer step in train mode, from the start (index 0), from a state, or from where it stands.

    The state is removed once it has been read: the next ones need the room.
    """
    runner, _ = _both(context)
    if state:
        stand(context, optimizer=optimizer, state=state)
        files.remove(state)
    elif index == 0:
        runner.load(_start(context), OPTIMIZERS[optimizer])
    masks = _masks(context, sites, index)
    # recorded, though activations are not kept: the program compiled for `evaluate` serves here too
    result = runner.evaluate(_batch(context, index), train=True, record=True, masks=masks, step=True)
    files.write(output, result, kinds=KINDS[:-1])
    return {"loss": result.loss}


def stand(context: Context, *, optimizer: str, state: str) -> dict[str, Json]:
    """Go where a step ended: that of the other side, or an own one after something else was tried."""
    runner, _ = _both(context)
    weights = {**files.read(state, "buffers"), **files.read(state, "weights")}
    runner.load(weights, OPTIMIZERS[optimizer], files.read(state, "optimizer"))
    return {}


def fit(context: Context, *, output: str) -> dict[str, Json]:
    """Let the side's solver find weights for some batches' examples, and run the first batch through them."""
    _, twin = _both(context)
    batches = [_batch(context, index) for index in range(steps_of(context.options))]
    examples = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    weights = make.fit(context.cell, twin, examples)
    config = twin.fitted(twin.config, weights) if twin.fitted else twin.config
    runner = make.make_runner(context.cell, replace(twin, config=config), weights)
    result = runner.evaluate(batches[0], train=False, gradients=False)
    result.buffers, result.weights = {}, weights
    files.write(output, result, kinds=("outputs", "loss", "weights"))
    return {}


def noise(
    context: Context,
    *,
    names: list[str],
    train: bool,
    sites: list[dict[str, Json]],
    gradients: bool = True,
    optimizer: str = "",
) -> dict[str, Json]:
    """How far tensors move at most when the weights move by one unit in the last place of float64.

    Args:
        names: Parameters, whose gradients, values and optimizer state are meant, or other tensors.
        train: Train mode.
        sites: Dropout layers.
        gradients: Whether the model has any.
        optimizer: Also make one step of it, from the start.

    Returns:
        ``{kind: {name: gap}}``
    """
    runner, _ = _both(context)
    start = _start(context)
    masks = _masks(context, sites, 0) if train else None

    def of_these(weights: Arrays) -> dict[str, Arrays]:
        runner.load(weights, OPTIMIZERS.get(optimizer))
        batch, step = _batch(context, 0), bool(optimizer)
        result = runner.evaluate(batch, train=train, gradients=gradients, record=True, masks=masks, step=step)
        kept = {}
        for kind in KINDS[:-1]:
            held = files.arrays(result, kind)
            wanted = [key for key in held if any(key == n or key.endswith(f".{n}") for n in names)]
            kept[kind] = {key: np.array(held[key]) for key in wanted}
        return kept

    base = of_these(start)
    widest: dict[str, dict[str, float]] = {}
    for seed in range(NUDGES):
        for kind, moved in of_these(nudge_wide(start, seed)).items():
            for name, array in moved.items():
                known = widest.setdefault(kind, {})
                known[name] = wider(known.get(name, 0.0), difference(base[kind][name], array).gap)
    return widest


def wider(floor: float, gap: float) -> float:
    """The larger of the two; a tensor that became NaN moved without bound, and excuses nothing."""
    return max(floor, gap) if math.isfinite(gap) else floor


def run_free(
    context: Context,
    *,
    optimizer: str,
    steps: int,
    sites: list[dict[str, Json]],
    output: str,
    nudge_seed: int | None = None,
) -> dict[str, Json]:
    """Train freely for some steps and keep the outputs and the loss of each."""
    runner, _ = _both(context)
    weights = _start(context)
    runner.load(weights if nudge_seed is None else nudge_wide(weights, nudge_seed), OPTIMIZERS[optimizer])
    kept: Arrays = {}
    for index in range(steps):
        masks = _masks(context, sites, index)
        result = runner.evaluate(_batch(context, index), train=True, record=True, masks=masks, step=True)
        kept |= {f"{index}/{name}": np.asarray(a, order="C") for name, a in result.outputs.items()}
        kept[f"{index}/loss"] = np.asarray([result.loss])
    save_file(kept, output)
    return {}


def insensitive(context: Context, *, names: list[str]) -> dict[str, Json]:
    """Which of these weights can be changed by half without any output noticing (eval mode).

    Whole numbers are turned by one place along their first axis.
    """
    runner, _ = _both(context)
    weights = _start(context)
    runner.load(weights)
    batch = _batch(context, 0)
    before = runner.evaluate(batch, train=False, gradients=False, record=True).outputs
    unnoticed = []
    for name in names:
        draw = np.random.default_rng([context.options.seed, zlib.crc32(name.encode()), 2])
        array = weights[name]
        if np.issubdtype(array.dtype, np.floating):
            size = float(np.sqrt(np.mean(array.astype(np.float64) ** 2))) or 1.0
            changed = array.astype(np.float64) + 0.5 * size * draw.standard_normal(array.shape)
        else:
            changed = np.roll(array, 1, axis=0)
        runner.load({**weights, name: changed})
        after = runner.evaluate(batch, train=False, gradients=False, record=True).outputs
        if together(compare(before, after).values()) < 1e-12:
            unnoticed.append(name)
    runner.load(weights)
    return {"names": unnoticed}


# --- verbs of the worker that compares -------------------------------------------------------------


def judge(context: Context, *, torch: str, jax: str) -> dict[str, Json]:
    """Compare two evaluations tensor by tensor: ``{kind: {name: [error, norm, gap, fault]}}``.

    One tensor of each is in memory at a time.
    """
    found: dict[str, dict[str, Json]] = {}
    for kind in KINDS:
        with files.opened(torch, kind) as a, files.opened(jax, kind) as b:
            found[kind] = {name: _plain(difference(a[name], b[name])) for name in a if name in b}
            if kind != "activations":  # the two sides may be cut into submodules differently
                found[kind] |= {name: [None, 0.0, None, "missing in jax"] for name in a if name not in b}
                found[kind] |= {name: [None, 0.0, None, "missing in torch"] for name in b if name not in a}
    return {"found": found}


def distances(context: Context, *, reference: str, others: dict[str, str]) -> dict[str, Json]:
    """How far other evaluations lie from the float64 one: ``{kind: {other: distance}}``.

    Each kind is taken as one vector; a kind that the others were not asked for is left out.
    """
    found: dict[str, dict[str, Json]] = {}
    for kind in ("outputs", "loss", "gradients", "buffers"):
        for label, path in others.items():
            with files.opened(reference, kind) as wide, files.opened(path, kind) as narrow:
                if wide and narrow:
                    each = (difference(wide[name], narrow[name]) for name in wide)
                    found.setdefault(kind, {})[label] = _finite(together(each))
    return found


def drifts(context: Context, *, steps: int, torch: str, jax: str, nudged: list[str]) -> dict[str, Json]:
    """Free-running drift per step: of jax from torch, and of torch from itself (the widest nudge)."""
    runs = {path: _read_flat(path) for path in [torch, jax, *nudged]}

    def drift(path: str, index: int) -> float:
        mine, base = (_of_step(runs[p], index) for p in (path, torch))
        return together(compare(base, mine).values())

    return {
        "twin": [_finite(drift(jax, i)) for i in range(steps)],
        "envelope": [_finite(max(drift(path, i) for path in nudged)) for i in range(steps)],
    }


def _read_flat(path: str) -> dict[str, Array]:
    with safe_open(path, framework="np") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def _of_step(tensors: Mapping[str, Array], index: int) -> dict[str, Array]:
    return {key: array for key, array in tensors.items() if key.startswith(f"{index}/")}


def _plain(found: Difference) -> list[Json]:
    return [_finite(found.error), found.norm, _finite(found.gap), found.fault]


def _finite(value: float) -> float | None:
    """JSON has no infinity: None stands for it."""
    return value if math.isfinite(value) else None


def remove(context: Context, *, paths: list[str]) -> dict[str, Json]:
    """Delete evaluations that nobody needs any more."""
    for path in paths:
        files.remove(path)
    return {}


VERBS: Mapping[str, Verb] = {
    verb.__name__: verb
    for verb in (
        dropouts,
        own_dropout,
        evaluate,
        step,
        fit,
        stand,
        noise,
        run_free,
        insensitive,
        judge,
        distances,
        drifts,
        remove,
    )
}
