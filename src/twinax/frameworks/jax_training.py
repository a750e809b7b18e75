"""Training in JAX: one compiled function per step, its state donated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from twinax.frameworks.jax_optimizers import make_transform
from twinax.frameworks.jax_recording import Tap
from twinax.frameworks.training import CLIP_EPS, Part, Training
from twinax.twin import Arrays

if TYPE_CHECKING:
    from twinax.frameworks.jax_backend import JaxRunner


@dataclass(frozen=True)
class Given:
    """A step's loss and gradient norm, still on the device."""

    loss: jax.Array
    norm: jax.Array

    def read(self) -> tuple[float, float]:
        return float(self.loss), float(self.norm)


class JaxTraining(Training):
    """Steps from the runner's parameters, state and optimizer state, which each step replaces."""

    def __init__(self, runner: JaxRunner, clip: float | None) -> None:
        assert runner.rule is not None, "load() an optimizer before training"
        self.runner, self.clip = runner, clip
        # donated: what the runner shares with anything else (weights that are loaded twice) must outlive it
        runner.params, runner.state, runner.opt_state = jax.tree.map(
            jnp.copy, (runner.params, runner.state, runner.opt_state)
        )

    def step(self, parts: Sequence[Part], learning_rate: float) -> Given:
        runner = self.runner
        data = [
            (
                {name: cast(runner._inward(a), runner.dtype) for name, a in part.batch.items()},
                {path: runner._inward(mask) for path, mask in part.masks.items()},
            )
            for part in parts
        ]
        (runner.params, runner.state, runner.opt_state), loss, norm = self._step(
            (runner.params, runner.state, runner.opt_state), data, np.asarray(learning_rate, runner.dtype)
        )
        return Given(loss, norm)

    @cached_property
    def _step(self) -> Any:
        runner, clip = self.runner, self.clip
        assert runner.rule is not None
        # every rule is linear in its learning rate, so one program serves a whole schedule
        transform = make_transform(replace(runner.rule, learning_rate=1.0))

        def objective(params: Any, state: Any, data: Any, masks: Any) -> Any:
            tap = Tap(masks, False, runner._torch_path)
            inputs = tuple(data[name] for name in runner.inputs)
            outputs, state = runner.model.apply(params, state, inputs, train=True, tap=tap)
            return runner.code.loss(outputs, data), state

        def step(carry: Any, parts: Any, learning_rate: jax.Array) -> Any:
            params, state, opt_state = carry
            loss, grads = jnp.zeros((), learning_rate.dtype), jax.tree.map(jnp.zeros_like, params)
            for data, masks in parts:
                (part, state), found = jax.value_and_grad(objective, has_aux=True)(params, state, data, masks)
                loss += part / len(parts)
                grads = jax.tree.map(lambda total, g: total + g / len(parts), grads, found)
            norm = optax.tree.norm(grads)
            if clip is not None:
                scale = jnp.minimum(1.0, clip / (norm + CLIP_EPS))
                grads = jax.tree.map(lambda g: g * scale, grads)
            updates, opt_state = transform.update(grads, opt_state, params)
            updates = jax.tree.map(lambda u: u * learning_rate, updates)
            return (optax.apply_updates(params, updates), state, opt_state), loss, norm

        return runner._compiled(step, donate_argnums=(0,))

    def optimizer_state(self) -> Arrays:
        return self.runner._optimizer_state(self.runner.opt_state)


def cast(array: Any, dtype: Any) -> Any:
    """A NumPy array, in the type if it holds floating-point numbers; jit moves it to the device."""
    return array.astype(dtype, copy=False) if np.issubdtype(array.dtype, np.floating) else array
