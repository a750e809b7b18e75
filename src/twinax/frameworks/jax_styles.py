"""JAX models beyond Flax NNX: linen, equinox, and a plain function of a pytree.

Each is reduced to :class:`~twinax.frameworks.jax_models.JaxModel`. Parameters and state are flat
dictionaries by dotted path: floats that are differentiated, and the other arrays with the random key.
Linen and equinox are imported only where a model of theirs is met.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import custom_vmap
from jax.extend.core import get_opaque_trace_state

from twinax.errors import CellFailed
from twinax.frameworks.jax_models import JaxModel, Tap, Tree, dotted, tapped_classes

Flat = dict[str, Any]  # arrays by dotted path

TRAIN_FLAGS = {"train": True, "training": True, "is_training": True, "deterministic": False}
"""Names under which a linen module may take the mode, and their value in train mode."""


class FlatModel(JaxModel):
    """``params`` is a flat dictionary; ``state`` is (a flat dictionary, a random key)."""

    params: Flat
    state: tuple[Flat, Any]

    def arrays(self, tree: Tree) -> dict[str, jax.Array]:
        return dict(tree[0] if isinstance(tree, tuple) else tree)

    def with_arrays(self, tree: Tree, arrays: Mapping[str, Any]) -> Tree:
        if isinstance(tree, tuple):
            return (self.with_arrays(tree[0], arrays), tree[1])
        return {path: arrays.get(path, leaf) for path, leaf in tree.items()}

    def layer_types(self) -> dict[str, str]:
        """None: linen's parameter names say enough, equinox lays its weights out as torch does."""
        return {}


class FunctionModel(FlatModel):
    """``apply_function(params, *inputs)`` with parameters in any pytree; it has no layers to look into."""

    def __init__(self, function: Callable[..., Any], params: Tree) -> None:
        self.function, self.tree = function, _Leaves(params)
        self.params, constants = self.tree.split()
        self.state = (constants, None)

    def apply(
        self, params: Tree, state: Tree, inputs: tuple[Any, ...], *, train: bool, tap: Tap | None = None
    ) -> tuple[Any, Tree]:
        return self.function(self.tree.join({**params, **state[0]}), *inputs), state

    def drop(self, path: str, x: jax.Array, *, train: bool) -> jax.Array:
        raise KeyError(f"a plain function has no dropout layer {path}")


class LinenModel(FlatModel):
    """A linen module with its variables; every collection but ``params`` is state."""

    def __init__(self, module: Any, variables: Tree) -> None:
        self.module = module
        self.trees = {collection: _Leaves(tree) for collection, tree in variables.items()}
        split = {collection: tree.split() for collection, tree in self.trees.items()}
        self.params = split["params"][0] if "params" in split else {}
        rest = [leaves for c, (floats, others) in split.items() for leaves in (floats, others) if c != "params"]
        constants = split["params"][1] if "params" in split else {}
        self.state = ({path: leaf for leaves in (constants, *rest) for path, leaf in leaves.items()}, _key())
        self.mutable = [collection for collection in variables if collection != "params"]
        self.flag = next((n for n in inspect.signature(module.__call__).parameters if n in TRAIN_FLAGS), None)
        self.dropouts: dict[str, Any] = {}  # linen makes its layers during the call: kept as they are met

    def apply(
        self, params: Tree, state: Tree, inputs: tuple[Any, ...], *, train: bool, tap: Tap | None = None
    ) -> tuple[Any, Tree]:
        leaves, key = {**params, **state[0]}, state[1]
        key, dropout = jax.random.split(key)
        mode = {} if self.flag is None else {self.flag: TRAIN_FLAGS[self.flag] == train}
        variables = {collection: tree.join(leaves) for collection, tree in self.trees.items()}
        with self._tapped(tap) if tap else contextlib.nullcontext():
            outputs, changed = self.module.apply(
                variables,
                *inputs,
                mutable=self.mutable if train else [],
                rngs={"dropout": dropout},
                **mode,
            )
        new = {path: leaf for tree in changed.values() for path, leaf in _Leaves(tree).arrays.items()}
        return outputs, ({path: new.get(path, leaf) for path, leaf in state[0].items()}, key)

    @contextlib.contextmanager
    def _tapped(self, tap: Tap) -> Iterator[None]:
        from flax import linen

        guarded = _at_this_level(tap)

        def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
            module = context.module
            if context.method_name != "__call__" or not module.path:
                return call(*args, **kwargs)
            rate = None
            if isinstance(module, linen.Dropout):
                rate = float(module.rate)
                self.dropouts[dotted(module.path)] = module.clone(parent=None, deterministic=None)
            first = args[0] if args else None
            return guarded(dotted(module.path), rate, lambda: call(*args, **kwargs), first)

        with linen.intercept_methods(intercept):
            yield

    def drop(self, path: str, x: jax.Array, *, train: bool) -> jax.Array:
        return self.dropouts[path].apply({}, x, deterministic=not train, rngs={"dropout": _key()})


class EquinoxModel(FlatModel):
    """An equinox module, called on a whole batch; with an ``eqx.nn.State`` where it keeps one."""

    def __init__(self, module: Any, state: Any = None) -> None:
        self.tree, self.memory = _Leaves(module), None if state is None else _Leaves(state, "state")
        self.params, constants = self.tree.split()
        # floats of the State are buffers (running statistics); its flags go along with the random key
        floats, flags = ({}, {}) if self.memory is None else self.memory.split()
        self.state = ({**constants, **floats}, (_key(), flags))
        self.takes_key = "key" in inspect.signature(type(module).__call__).parameters

    def apply(
        self, params: Tree, state: Tree, inputs: tuple[Any, ...], *, train: bool, tap: Tap | None = None
    ) -> tuple[Any, Tree]:
        buffers, (key, flags) = state
        module = self._module({**params, **buffers}, train)
        key, own = jax.random.split(key)
        arguments = inputs if self.memory is None else (*inputs, self.memory.join({**buffers, **flags}))
        with _tapped_equinox(module, tap) if tap else contextlib.nullcontext():
            outputs = module(*arguments, **({"key": own} if self.takes_key else {}))
        if self.memory is not None:
            outputs, memory = outputs
            floats, flags = _Leaves(memory, "state").split()
            buffers = {**buffers, **floats}
        return outputs, (buffers, (key, flags))

    def _module(self, leaves: Flat, train: bool) -> Any:
        import equinox

        return equinox.nn.inference_mode(self.tree.join(leaves), value=not train)

    def drop(self, path: str, x: jax.Array, *, train: bool) -> jax.Array:
        module = self._module({**self.params, **self.state[0]}, train)
        layer = next(m for p, m in _equinox_modules(module) if p == path)
        return layer(x, key=_key())


@contextlib.contextmanager
def _tapped_equinox(module: Any, tap: Tap) -> Iterator[None]:
    """Send every submodule's call through the tap; equinox has no hooks, so objects go by ``id``."""
    import equinox

    modules = list(_equinox_modules(module))
    paths = {id(m): path for path, m in modules}
    rates = {id(m): float(m.p) for _, m in modules if isinstance(m, equinox.nn.Dropout)}
    with tapped_classes({type(m) for _, m in modules}, paths, rates, _at_this_level(tap)):
        yield


def _equinox_modules(module: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every submodule that can be called, by dotted path."""
    import equinox

    found = jax.tree_util.tree_flatten_with_path(
        module, is_leaf=lambda x: isinstance(x, equinox.Module) and x is not module
    )[0]
    for keys, leaf in found:
        if isinstance(leaf, equinox.Module):
            path = prefix + _key_path(keys)
            if callable(leaf):
                yield path, leaf
            yield from _equinox_modules(leaf, f"{path}.")


def _at_this_level(tap: Tap) -> Tap:
    """The tap, for layers called in ``jax.vmap`` too: there it sees the whole batch, its axes in front.

    Out of ``jax.lax.scan`` and the like no value can leave: such a layer's output is not recorded. A
    dropout layer there cannot be given its mask, and that may not go unnoticed.
    """
    level = get_opaque_trace_state()

    def guarded(path: str, rate: float | None, call: Callable[[], Any], x: Any) -> Any:
        if get_opaque_trace_state() == level:
            return tap(path, rate, call, x)

        def whole(batch: Any) -> Any:
            if get_opaque_trace_state() == level:
                return tap(path, rate, lambda: batch, batch)
            if rate is None:
                return batch
            raise CellFailed(
                "unsupported",
                f"The dropout layer {path} is called inside jax.lax.scan or another transformation.",
                "Call it outside, on the whole batch: dropout takes arrays of any shape.",
            )

        if rate is not None:
            return _outside_vmap(whole, x)
        output = call()
        if isinstance(output, jax.Array):
            _outside_vmap(whole, output)
        return output

    return guarded


def _outside_vmap(function: Callable[[Any], Any], x: Any) -> Any:
    """``function(x)`` with x as it looks outside of every ``jax.vmap`` around it.

    ``custom_vmap`` hands the whole batch to a rule of ours, one map at a time.
    """
    if not _inside_vmap(x):
        return function(x)
    return _with_rule(lambda batch: _outside_vmap(function, batch))(x)


def _inside_vmap(x: Any) -> bool:
    reached: list[Any] = []
    _with_rule(lambda batch: reached.append(batch) or batch)(jax.lax.stop_gradient(x))
    return bool(reached)


def _with_rule(rule: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The identity, but ``rule(batch)`` under a map."""
    identity = custom_vmap(lambda x: x)
    identity.def_vmap(lambda size, batched, x: (rule(x), batched[0]))
    return identity


class _Leaves:
    """A pytree as its arrays by dotted path, and the rest of it, into which they go back."""

    def __init__(self, tree: Tree, prefix: str = "") -> None:
        found, self.structure = jax.tree_util.tree_flatten_with_path(tree)
        names = [".".join(part for part in (prefix, _key_path(keys)) if part) for keys, _ in found]
        self.leaves = dict(zip(names, (leaf for _, leaf in found), strict=True))

    @property
    def arrays(self) -> Flat:
        """Leaves that are arrays; numbers and functions stay part of the structure."""
        return {p: x for p, x in self.leaves.items() if isinstance(x, jax.Array | np.ndarray)}

    def split(self) -> tuple[Flat, Flat]:
        """Floating-point arrays, which can be differentiated, and the other ones."""
        floats = {p: jnp.asarray(x) for p, x in self.arrays.items() if jnp.issubdtype(x.dtype, jnp.inexact)}
        return floats, {p: jnp.asarray(x) for p, x in self.arrays.items() if p not in floats}

    def join(self, arrays: Mapping[str, Any]) -> Tree:
        """The pytree with these arrays in place of its own."""
        return jax.tree_util.tree_unflatten(
            self.structure, [arrays.get(path, leaf) for path, leaf in self.leaves.items()]
        )


def _key_path(keys: tuple[Any, ...]) -> str:
    """``(DictKey('layers'), SequenceKey(0), GetAttrKey('weight'))`` → ``layers.0.weight``."""
    return jax.tree_util.keystr(keys, simple=True, separator=".")


def _key() -> jax.Array:
    """The random key from which dropout starts; parity replays masks and does not use it."""
    return jax.random.PRNGKey(0)
