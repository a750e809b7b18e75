"""Strategies that are nothing but where arrays lie: XLA's partitioner adds the collectives (GSPMD, Xu et al.,
arXiv:2105.04663). The program is the single device's own.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from twinax.errors import CellFailed
from twinax.frameworks.jax_models import JaxModel, Tree
from twinax.frameworks.jax_parallel.engine import Data, Engine, Setting, is_key, lay
from twinax.frameworks.parallel import NO_PARTS, planned


class Sharded(Engine):
    """Parameters and data laid over the mesh; the loss and its gradient as on one device."""

    does = "XLA's partitioner (GSPMD), from shardings alone"
    batch_axis: str | None = "data"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        mesh = setting.mesh
        self.shares = mesh.shape[self.batch_axis] if self.batch_axis else 1
        self.groups = frozenset({*mesh.shape.values(), mesh.size})
        self.replicated = NamedSharding(mesh, P())
        self.specs = self.parameter_specs()
        leaves = leaf_paths(setting.model, setting.model.params)
        self._params = [NamedSharding(mesh, self.specs[path]) for path in leaves]

    def parameter_specs(self) -> dict[str, P]:
        """Where each parameter lies, by its dotted path; whole on every device if nothing else is said."""
        return dict.fromkeys(self.setting.model.arrays(self.setting.model.params), P())

    def parameter_shardings(self, params: Tree) -> Tree:
        """The sharding of each leaf of a tree like the parameters."""
        return jax.tree.unflatten(jax.tree.structure(params), self._params)

    def place(self, params: Tree, state: Tree) -> tuple[Tree, Tree]:
        placed = jax.tree.map(lay, params, self.parameter_shardings(params))
        return placed, jax.tree.map(lambda leaf: lay_any(leaf, self.replicated), state)

    def place_data(self, data: Data) -> Data:
        sharding = NamedSharding(self.setting.mesh, P(self.batch_axis))
        return {name: lay(array, sharding) for name, array in data.items()}

    def value_and_grad(self, params: Tree, state: Tree, data: Data) -> tuple[jax.Array, Tree, Tree]:
        gradient = jax.value_and_grad(self.setting.objective, has_aux=True)
        (loss, state), grads = gradient(params, state, data)
        return loss, state, jax.lax.with_sharding_constraint(grads, self.parameter_shardings(grads))

    def whole(self, params: Tree, state: Tree) -> tuple[Tree, Tree]:
        return params, state

    def sharded_share(self) -> float:
        """Which share of the parameters, by size, no device holds whole."""
        sizes = {p: a.size for p, a in self.setting.model.arrays(self.setting.model.params).items()}
        cut = sum(size for path, size in sizes.items() if any(self.specs[path]))
        return cut / max(sum(sizes.values()), 1)


class FullySharded(Sharded):
    """Each parameter, and with it its gradient and optimizer state, in equal parts along its longest axis that
    divides (ZeRO-3, Rajbhandari et al., arXiv:1910.02054); what does not divide is whole everywhere.

    Parameters are put together once, before the forward pass, and stay so until the backward pass has used
    them. Left to itself the partitioner would cut some activations along their features, and move those.
    On a CPU, XLA sums whole gradients and takes its part of the sum (its GPU compiler has a pass,
    ReduceScatterCreator, that makes one operation of the two).
    """

    def parameter_specs(self) -> dict[str, P]:
        count = self.setting.mesh.shape["data"]
        arrays = self.setting.model.arrays(self.setting.model.params)
        return {path: along(longest(array.shape, count), "data") for path, array in arrays.items()}

    def value_and_grad(self, params: Tree, state: Tree, data: Data) -> tuple[jax.Array, Tree, Tree]:
        whole = jax.lax.with_sharding_constraint(params, self.replicated)
        return super().value_and_grad(whole, state, data)


class TensorParallel(Sharded):
    """Layers cut along their output or input features, as the plan says (Megatron-LM, arXiv:1909.08053).

    Raises:
        CellFailed: ``unsupported``; nothing can be cut.
    """

    batch_axis = None

    def parameter_specs(self) -> dict[str, P]:
        specs = tensor_specs(self.setting)
        if not any(any(spec) for spec in specs.values()):
            raise CellFailed(
                "unsupported",
                f"No layer of the model can be cut into {self.setting.mesh.shape['tensor']} parts: no planned "
                "layer's features divide.",
                NO_PARTS,
            )
        return specs


class DataTensor(TensorParallel):
    """The batch along one axis of the mesh, the layers along the other."""

    batch_axis = "data"


class LocalBatchNorm(Sharded):
    """Data parallel with everything that is computed over a batch left to each rank: explicit collectives."""

    does = "jax.shard_map, gradients averaged by pmean"

    def value_and_grad(self, params: Tree, state: Tree, data: Data) -> tuple[jax.Array, Tree, Tree]:
        @functools.partial(
            jax.shard_map,
            mesh=self.setting.mesh,
            in_specs=(P(), P(), P("data")),
            out_specs=P(),
            check_vma=False,
        )
        def local(params: Tree, state: Tree, data: Data) -> tuple[jax.Array, Tree, Tree]:
            (loss, state), grads = jax.value_and_grad(self.setting.objective, has_aux=True)(params, state, data)
            # the first rank's running statistics are kept, as DistributedDataParallel keeps them
            first = jax.lax.axis_index("data") == 0
            state = jax.tree.map(lambda leaf: of_first(leaf, first), state)
            return jax.lax.pmean(loss, "data"), state, jax.lax.pmean(grads, "data")

        return local(params, state, data)


def of_first(leaf: jax.Array, first: jax.Array) -> jax.Array:
    """The first rank's value, on every rank; random keys stay as they are (nothing draws from them)."""
    if is_key(leaf):
        return leaf
    return jax.lax.psum(jax.numpy.where(first, leaf, jax.numpy.zeros_like(leaf)), "data").astype(leaf.dtype)


def tensor_specs(setting: Setting) -> dict[str, P]:
    """Each parameter's cut by the plan; without one, every layer that divides is cut by its output features.

    Raises:
        CellFailed: ``unsupported``; a planned layer's features do not divide.
    """
    count = setting.mesh.shape["tensor"]
    model, specs = setting.model, dict[str, P]()
    arrays = model.arrays(model.params)
    layers = {setting.names[path].rpartition(".")[0] for path, array in arrays.items() if array.ndim >= 2}
    for path, array in arrays.items():
        module, _, leaf = setting.names[path].rpartition(".")
        embedding = is_embedding(path, model.layer_types())
        how = planned(setting.plan, module) if setting.plan else "" if embedding else "column"
        axis = None
        if array.ndim >= 2 and how:
            outputs, inputs = setting.feature_axes[path]
            # torch's weight of an embedding is (entries, features)
            axis = inputs if (how == "row") != embedding else outputs
        elif leaf == "bias" and how == "column" and module in layers:  # a norm has no features to cut
            axis = 0
        if axis is not None and array.shape[axis] % count:
            if setting.plan:
                raise CellFailed(
                    "unsupported",
                    f"{module} cannot be cut by {how}: its {array.shape[axis]} features do not divide into "
                    f"{count} parts.",
                    "Use another number of ranks, or leave it out of the tensor_plan.",
                )
            axis = None
        specs[path] = along(axis, "tensor")
    return specs


def is_embedding(path: str, types: Mapping[str, str]) -> bool:
    """Whether a parameter is a table of rows, by its layer's type or its own name."""
    module, _, leaf = path.rpartition(".")
    return leaf == "embedding" or "Embed" in types.get(module, "")


def longest(shape: tuple[int, ...], count: int) -> int | None:
    """The longest axis that divides by ``count``, or None."""
    fits = [axis for axis, size in enumerate(shape) if size % count == 0]
    return max(fits, key=lambda axis: shape[axis], default=None)


def along(axis: int | None, name: str) -> P:
    """Cut along one axis; whole where there is none."""
    return P() if axis is None else P(*([None] * axis), name)


def leaf_paths(model: JaxModel, tree: Tree) -> list[str]:
    """Dotted path of each leaf, in the order in which ``jax.tree`` sees them."""
    paths = list(model.arrays(tree))
    numbered: Mapping[str, Any] = {path: np.asarray(i) for i, path in enumerate(paths)}
    return [paths[int(leaf)] for leaf in jax.tree.leaves(model.with_arrays(tree, numbered))]


def lay_any(leaf: jax.Array, sharding: NamedSharding) -> jax.Array:
    """As :func:`lay`, for random keys too: they are the same in every process."""
    if is_key(leaf):
        data = lay(jax.random.key_data(leaf), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return lay(leaf, sharding)
