"""JAX models of every style, reduced to one shape: a pure function of parameters and state.

Imports jax: only JAX workers import this. The styles beyond Flax NNX are in ``jax_styles.py``.
"""

from __future__ import annotations

import contextlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

Tree = Any  # a pytree of arrays

Tap = Callable[[str, float | None, Callable[[], Any], Any], Any]
"""``tap(path, dropout_rate, call, first_argument) -> output``: stands around every submodule's call.

``dropout_rate`` is None for everything but dropout layers; ``call()`` runs the submodule itself.
"""


class JaxModel(ABC):
    """A model as ``apply(params, state, inputs) -> outputs, state``.

    Attributes:
        params: What is differentiated.
        state: Everything else that may change (running statistics, random state).
    """

    params: Tree
    state: Tree

    @abstractmethod
    def apply(
        self, params: Tree, state: Tree, inputs: tuple[Any, ...], *, train: bool, tap: Tap | None = None
    ) -> tuple[Any, Tree]:
        """Run the model; pure, so that it can be traced."""

    @abstractmethod
    def arrays(self, tree: Tree) -> dict[str, jax.Array]:
        """Leaves of ``params``, of ``state``, or of a tree like them (gradients), by dotted path.

        Random state is left out: it is no buffer.
        """

    @abstractmethod
    def with_arrays(self, tree: Tree, arrays: Mapping[str, Any]) -> Tree:
        """The tree with these leaves (by dotted path) put in place of its own."""

    @abstractmethod
    def layer_types(self) -> dict[str, str]:
        """Class name of the module at each dotted path; empty where there are no modules."""

    @abstractmethod
    def drop(self, path: str, x: jax.Array, *, train: bool) -> jax.Array:
        """Send an array through the dropout layer at ``path``."""


class NnxModel(JaxModel):
    """A Flax NNX module, split once; merged inside the traced function."""

    def __init__(self, module: nnx.Module) -> None:
        _follow_weights(module)
        self.graph, self.params, random, rest = nnx.split(module, nnx.Param, nnx.RngState, ...)
        self.state = (random, rest)
        self._types = {dotted(path): type(m).__name__ for path, m in nnx.iter_modules(module)}

    def apply(
        self, params: Tree, state: Tree, inputs: tuple[Any, ...], *, train: bool, tap: Tap | None = None
    ) -> tuple[Any, Tree]:
        module = self._merge(params, state, train)
        with _tapped(module, tap) if tap else contextlib.nullcontext():
            outputs = module(*inputs)
        _, _, random, rest = nnx.split(module, nnx.Param, nnx.RngState, ...)
        return outputs, (random, rest)

    def _merge(self, params: Tree, state: Tree, train: bool) -> Any:
        # copy: the module updates its statistics in place, and may only do so to variables of this trace
        module = nnx.merge(self.graph, params, *state, copy=True)
        module.train() if train else module.eval()
        return module

    def arrays(self, tree: Tree) -> dict[str, jax.Array]:
        tree = tree[1] if isinstance(tree, tuple) else tree  # (random state, the rest)
        return {dotted(path): variable[...] for path, variable in nnx.to_flat_state(tree)}

    def with_arrays(self, tree: Tree, arrays: Mapping[str, Any]) -> Tree:
        if isinstance(tree, tuple):
            return (tree[0], self.with_arrays(tree[1], arrays))
        flat = nnx.to_flat_state(tree)
        return nnx.from_flat_state([(p, v.replace(arrays.get(dotted(p), v[...]))) for p, v in flat])

    def layer_types(self) -> dict[str, str]:
        return self._types

    def drop(self, path: str, x: jax.Array, *, train: bool) -> jax.Array:
        module = self._merge(self.params, self.state, train)
        layer = next(m for p, m in nnx.iter_modules(module) if dotted(p) == path)
        return layer(x)


def as_jax_model(built: Any) -> JaxModel:
    """Whatever a JAX side's ``build`` returned, as a :class:`JaxModel`.

    Args:
        built: A Flax NNX module; a linen ``(module, variables)``; an equinox module, or one with its
            ``eqx.nn.State``; ``(apply_function, params)`` with ``apply_function(params, *inputs)``.

    Raises:
        TypeError: It is none of these.
    """
    from twinax.frameworks import jax_styles

    if isinstance(built, JaxModel):
        return built
    if isinstance(built, nnx.Module):
        return NnxModel(built)
    model, rest = built if isinstance(built, tuple) and len(built) == 2 else (built, None)
    if _is_a(model, "flax.linen", "Module"):
        if not isinstance(rest, Mapping):
            raise TypeError("A linen module has no weights of its own: return (module, variables).")
        return jax_styles.LinenModel(model, rest)
    if _is_a(model, "equinox", "Module"):
        return jax_styles.EquinoxModel(model, rest)
    if callable(model) and built is not model:
        return jax_styles.FunctionModel(model, rest)
    raise TypeError(
        f"The JAX model is of type {type(built).__name__}; expected a Flax NNX module, a linen "
        f"(module, variables), an equinox module, or (apply_function, params)."
    )


def _is_a(thing: Any, library: str, name: str) -> bool:
    """isinstance() with a class of a library that nobody need have imported."""
    return library in sys.modules and isinstance(thing, getattr(sys.modules[library], name))


def _follow_weights(module: nnx.Module) -> None:
    """Let flax's layers compute in the precision of their weights.

    Some (``nnx.Embed``) note the weights' dtype when they are made, and would go on in float32 after
    the weights have become float64. A dtype that differs from the weights' is the author's choice.
    """
    for _, layer in nnx.iter_modules(module):
        ours = any(cls.__module__.startswith("flax.nnx.nn.") for cls in type(layer).__mro__)
        dtype, weights = getattr(layer, "dtype", None), getattr(layer, "param_dtype", None)
        if ours and dtype is not None and weights is not None and jnp.dtype(dtype) == jnp.dtype(weights):
            setattr(layer, "dtype", None)  # noqa: B010 - not every module has one


def dotted(path: tuple[Any, ...]) -> str:
    """``("layers", 0, "kernel")`` → ``layers.0.kernel``."""
    return ".".join(str(part) for part in path)


@contextlib.contextmanager
def _tapped(module: nnx.Module, tap: Tap) -> Iterator[None]:
    """Send every submodule's call through the tap, while the block runs.

    NNX has no forward hooks, so the classes' ``__call__`` are replaced for the time of one call; an
    object that is not part of ``module`` is left alone.
    """
    paths = {id(m): dotted(path) for path, m in nnx.iter_modules(module) if path}
    rates = {id(m): m.rate for _, m in nnx.iter_modules(module) if isinstance(m, nnx.Dropout)}
    with tapped_classes({type(m) for _, m in nnx.iter_modules(module)}, paths, rates, tap):
        yield


@contextlib.contextmanager
def tapped_classes(
    classes: set[type], paths: Mapping[int, str], rates: Mapping[int, float], tap: Tap
) -> Iterator[None]:
    """Replace ``__call__`` of these classes; objects are known by ``id``."""
    own = {cls: cls.__dict__.get("__call__") for cls in classes if "__call__" in dir(cls)}
    running: set[int] = set()

    def through(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            me = id(self)
            if me not in paths or me in running:  # running: a subclass that calls super().__call__
                return original(self, *args, **kwargs)
            running.add(me)
            try:
                return tap(
                    paths[me],
                    rates.get(me),
                    lambda: original(self, *args, **kwargs),
                    args[0] if args else None,
                )
            finally:
                running.discard(me)

        return call

    for cls in own:
        cls.__call__ = through(cls.__call__)
    try:
        yield
    finally:
        for cls, original in own.items():
            if original is None:
                del cls.__call__
            else:
                cls.__call__ = original
