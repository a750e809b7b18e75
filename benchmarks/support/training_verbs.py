"""twinax's training loop and a bare loop of the framework, taking turns in one process."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from twinax.frameworks.make import make_runner
from twinax.records import Json, Options
from twinax.studies.base import Context
from twinax.train import setting
from twinax.train.loop import Loop

COUNT = {"tiny": 28, "full": 12}  # steps per sample, less than an epoch


def compare(context: Context, *, preset: str, rounds: int) -> dict[str, Json]:
    """Seconds per step of both; each round, each of them once, in random order; and of some checkpoints."""
    assert context.twin is not None
    options = Options(preset=preset)  # type: ignore[arg-type]
    made = setting.make(context.twin, context.cell, options, context.scratch, 0)
    weights = made.twin.init(made.twin.config, 0)
    loop = Loop(make_runner(context.cell, made.twin, weights), made, None, weights)
    bare = {"torch": torch_loop, "jax": jax_loop}[context.cell.side](made, weights)

    def ours(count: int) -> None:
        for _ in range(count):
            loop.make_step()
        loop.wait()

    found: dict[str, list[float]] = {"twinax": [], "bare": [], "checkpoint_s": []}
    rng = random.Random(context.cell.repeat)
    for _ in range(rounds):
        order = [("twinax", ours), ("bare", bare)]
        rng.shuffle(order)
        for name, run in order:
            run(2)
            begin = time.perf_counter()
            run(COUNT[preset])
            found[name].append((time.perf_counter() - begin) / COUNT[preset])
    loop.save()  # compiles the gradients for the histograms
    for _ in range(3):
        begin = time.perf_counter()
        loop.save()
        found["checkpoint_s"].append(time.perf_counter() - begin)
    return found


def torch_loop(made: Any, weights: Any) -> Callable[[int], None]:
    """As PyTorch's tutorials write it: shuffled index, model, loss, backward, clip, step, and the loss read."""
    import torch

    code, recipe = made.twin.code("torch"), made.recipe
    model = code.build(made.twin.config)
    model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
    model.train()
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    optimizer = kind(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    arrays = {name: torch.from_numpy(array) for name, array in made.dataset.train.arrays.items()}
    count = len(made.dataset.train)

    def run(steps: int) -> None:
        for rows in torch.randperm(count)[: steps * recipe.batch].split(recipe.batch):
            batch = {name: array[rows] for name, array in arrays.items()}
            optimizer.zero_grad()
            loss = code.loss(model(*(batch[name] for name in made.twin.inputs)), batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip or 1e9)
            optimizer.step()
            loss.item()

    return run


def jax_loop(made: Any, weights: Any) -> Callable[[int], None]:
    """As Flax's and Optax's guides write it: one jitted step, its state donated."""
    import jax
    import optax
    from flax import nnx

    from twinax.frameworks.jax_backend import JaxRunner

    code, recipe = made.twin.code("jax"), made.recipe
    holder = JaxRunner(code, made.twin.config, weights, made.twin.inputs)  # only for the weights
    model = code.build(made.twin.config)
    model.train()
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    params = jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(holder.params))
    kind = {"adam": optax.adam, "adamw": optax.adamw}[recipe.optimizer]
    decay = {"weight_decay": recipe.weight_decay} if recipe.optimizer == "adamw" else {}
    transform = optax.chain(optax.clip_by_global_norm(recipe.clip or 1e9), kind(recipe.learning_rate, **decay))

    @jax.jit(donate_argnums=(0, 1, 2))
    def step(params: Any, rest: Any, state: Any, batch: Any) -> Any:
        def objective(params: Any) -> Any:
            model = nnx.merge(graph, params, rest, copy=True)
            loss = code.loss(model(*(batch[name] for name in made.twin.inputs)), batch)
            return loss, nnx.split(model, nnx.Param, ...)[2]

        (loss, rest_), grads = jax.value_and_grad(objective, has_aux=True)(params)
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), rest_, state, loss

    carry = (params, rest, transform.init(params))
    arrays, count = made.dataset.train.arrays, len(made.dataset.train)
    draw = np.random.default_rng(0)

    def run(steps: int) -> None:
        nonlocal carry
        order = draw.permutation(count)
        for i in range(steps):
            rows = order[i * recipe.batch : (i + 1) * recipe.batch]
            *held, loss = step(*carry, {name: array[rows] for name, array in arrays.items()})
            carry = tuple(held)
        float(loss)

    return run


VERBS = {"compare": compare}
