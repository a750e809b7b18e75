"""What a strategy is to the JAX runner: where arrays lie, and how loss and gradients are computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from twinax.frameworks.base import SideCode
from twinax.frameworks.jax_models import JaxModel, Tap, Tree
from twinax.frameworks.parallel import Plan

Data = Mapping[str, Any]
"""Arrays by name: the host's before they are laid over the mesh, JAX's after."""


@dataclass(frozen=True)
class Setting:
    """What every engine is made of.

    Attributes:
        code: The side's code: its ``loss(outputs, data)`` is a mean over examples.
        model: ``model.apply(params, state, inputs, train=True, tap=tap) -> outputs, state``.
        inputs: Names of the data that go into the model, in order.
        tap: Switches dropout off.
        mesh: All devices, with the strategy's axes.
        plan: The tensor-parallel plan.
        names: Dotted path of each leaf of ``model.params`` → torch name of the parameter.
        feature_axes: Dotted path → the axes of a weight's output and input features, where it has both.
    """

    code: SideCode
    model: JaxModel
    inputs: tuple[str, ...]
    tap: Tap
    mesh: Mesh
    plan: Plan
    names: Mapping[str, str]
    feature_axes: Mapping[str, tuple[int, int]]

    def objective(self, params: Tree, state: Tree, data: Data) -> tuple[jax.Array, Tree]:
        """Loss and new state of the whole model on these data; pure."""
        inputs = tuple(data[name] for name in self.inputs)
        outputs, state = self.model.apply(params, state, inputs, train=True, tap=self.tap)
        return self.code.loss(outputs, data), state


class Engine(ABC):
    """One strategy. ``placed`` trees are global arrays laid over the mesh; optimizers work on them element by
    element."""

    does: str
    """In words: what computes."""
    shares: int
    """Into how many equal parts the global batch is divided."""
    groups: frozenset[int]
    """Sizes of the groups of ranks that its collectives span."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    def fit_to(self, data: Data) -> None:  # noqa: B027 - most engines fit any shape
        """Be made ready for data of these shapes (global, not yet placed); called before anything below.

        Raises:
            CellFailed: ``unsupported``; names what cannot be done with this model, and why.
        """

    @abstractmethod
    def place(self, params: Tree, state: Tree) -> tuple[Tree, Tree]:
        """The model's own trees (host arrays or whole arrays on one device), laid over the mesh."""

    @abstractmethod
    def place_data(self, data: Data) -> Data:
        """A global batch laid over the mesh."""

    @abstractmethod
    def value_and_grad(self, params: Tree, state: Tree, data: Data) -> tuple[jax.Array, Tree, Tree]:
        """``loss, new state, gradients`` of placed trees, the last two laid as they came in; traceable."""

    @abstractmethod
    def whole(self, params: Tree, state: Tree) -> tuple[Tree, Tree]:
        """The model's own trees from placed ones (``params`` may be gradients or a slot of the optimizer's);
        traceable: the runner asks for replicated results."""


def lay(array: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    """A host array, the same in every process, as one global array."""
    host = np.asarray(array)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def is_key(leaf: jax.Array) -> bool:
    """Whether a leaf is a random key: it has no bytes of its own to lay or to compare."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
