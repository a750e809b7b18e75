"""The JAX side behind the Runner contract. Imports jax: only JAX workers import this."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from twinax.errors import CellFailed, DeviceMissing
from twinax.frameworks import jax_derivatives, jax_graph
from twinax.frameworks.base import (
    INPUT,
    Captured,
    Derivative,
    DropoutSite,
    Evaluation,
    Optimizer,
    Phases,
    Prepared,
    Reshaping,
    Runner,
    SideCode,
    direction,
    refusal,
)
from twinax.frameworks.jax_models import Tap as ModelTap
from twinax.frameworks.jax_models import Tree, as_jax_model
from twinax.frameworks.jax_optimizers import STATE_KEYS, make_transform, make_update
from twinax.frameworks.jax_recording import Later, Tap, named_outputs
from twinax.frameworks.jax_training import JaxTraining, cast
from twinax.records import Json
from twinax.twin import Arrays, Config
from twinax.weights import checkpoint
from twinax.weights.rules import WeightMap


class JaxRunner(Runner):
    """One twin in JAX, in mode ``op_by_op`` or ``jit``.

    NNX modules are split once and the *state* goes through ``jax.jit``: ``nnx.jit`` walks the module
    in Python at every call, which costs milliseconds for a model of many small tensors.
    """

    side = "jax"

    def __init__(
        self,
        code: SideCode,
        config: Config,
        weights: Arrays,
        inputs: Sequence[str],
        *,
        mode: str = "jit",
        dtype: str = "float32",
        device: str = "cpu",
        channels_last: bool = False,
    ) -> None:
        """``channels_last``: 4-d arrays of a batch are NHWC on this side (and NCHW outside)."""
        if device == "cuda" and jax.default_backend() != "gpu":
            raise DeviceMissing("JAX finds no CUDA device on this machine.", "Use --device cpu.")
        jax.config.update("jax_enable_x64", dtype == "float64")
        if device == "cuda":
            jax.config.update("jax_default_matmul_precision", "highest")  # no TF32, as on the torch side
        self.code, self.inputs, self.mode = code, tuple(inputs), mode
        self.dtype, self.channels_last = jnp.dtype(dtype), channels_last
        self.input_gradients = False
        self.model = as_jax_model(code.build(config))
        self.params, self.state = self.model.params, self.model.state
        self.rename: Mapping[str, str] = getattr(code, "rename", {})
        self._own_paths: dict[str, str] = {}  # of dropout layers, by what torch calls them
        slots = {**self.model.arrays(self.params), **self.model.arrays(self.state)}
        names = {name: tuple(array.shape) for name, array in weights.items()}
        self.map = WeightMap.derive(
            names,
            {name: tuple(array.shape) for name, array in slots.items()},
            self.model.layer_types(),
            self.rename,
        )
        self.shapes = {name: names[name] for name in self.map.sources}
        self.rule: Optimizer | None = None
        self.load(weights)

    # --- weights -------------------------------------------------------------------------------

    def _cast(self, tree: Tree) -> Tree:
        return jax.tree.map(
            lambda x: x.astype(self.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
        )

    def _place(self, tree: Tree, weights: Arrays) -> Tree:
        """The tree with its leaves taken from arrays under torch names; others of them are left aside."""
        mine = self.map.sources_of(self.model.arrays(tree))
        return self.model.with_arrays(tree, self._import({name: weights[name] for name in mine}))

    @cached_property
    def _import(self) -> Callable[[Arrays], Any]:
        # under jit all transposes run as one program, on every core; NumPy's take seconds for a large model
        return jax.jit(lambda named: self._cast(self.map.to_jax(named)))

    @cached_property
    def _export(self) -> Callable[[Tree], Any]:
        return jax.jit(lambda tree: self.map.to_torch(self.model.arrays(tree)))

    def load(self, weights: Arrays, optimizer: Optimizer | None = None, state: Arrays | None = None) -> None:
        weights = checkpoint.fit(weights, self.shapes, prefixes=())
        self.params = self._place(self.params, weights)
        self.state = self._place(self.state, weights)
        self.rule = optimizer
        if optimizer is not None:
            self.transform = make_transform(optimizer)
            self.opt_state = self.transform.init(self.params)
            if state:
                self._load_optimizer(optimizer, state)

    def _load_optimizer(self, optimizer: Optimizer, state: Arrays) -> None:
        slots: dict[str, Any] = {}
        for ours, theirs in STATE_KEYS[optimizer.name].items():
            named = {n.removeprefix(f"{ours}."): a for n, a in state.items() if n.startswith(f"{ours}.")}
            slots[theirs] = self._place(self.params, named)
        if "step" in state:
            slots["count"] = jnp.asarray(int(state["step"]), jnp.int32)
        self.opt_state = optax.tree_utils.tree_set(self.opt_state, **slots)

    def _torch_named(self, tree: Tree) -> Arrays:
        return {name: _numpy(array) for name, array in self._export(tree).items()}

    def weights(self) -> Arrays:
        return {**self._torch_named(self.params), **self._torch_named(self.state)}

    def parameters(self) -> list[str]:
        return list(self._torch_named(self.params))

    def training(self, clip: float | None) -> JaxTraining:
        return JaxTraining(self, clip)

    def _optimizer_state(self, opt_state: Tree) -> Arrays:
        assert self.rule is not None
        state: Arrays = {}
        for ours, theirs in STATE_KEYS[self.rule.name].items():
            slots = self._torch_named(optax.tree_utils.tree_get(opt_state, theirs))
            state |= {f"{ours}.{name}": array for name, array in slots.items()}
        if self.rule.name != "sgd":
            state["step"] = np.asarray(float(optax.tree_utils.tree_get(opt_state, "count")))
        return state

    # --- parity --------------------------------------------------------------------------------

    def evaluate(
        self,
        batch: Arrays,
        *,
        train: bool,
        gradients: bool = True,
        record: bool = False,
        masks: Arrays | None = None,
        step: bool = False,
    ) -> Evaluation:
        data = self._on_device(batch)
        keep = {path: jnp.asarray(self._inward(mask)) for path, mask in (masks or {}).items()}
        function, order = self._evaluator(train, gradients, record)
        floats = {n: data[n] for n in self.inputs if jnp.issubdtype(data[n].dtype, jnp.floating)}
        floats = floats if self.input_gradients else {}
        (loss, (outputs, state, activations)), (grads, by_input) = function(
            self.params, floats, self.state, data, keep
        )
        result = Evaluation(
            outputs={name: self._outward(value) for name, value in outputs.items()},
            loss=float(loss),
            gradients=Later(lambda: {**self._torch_named(grads), **self._of_inputs(by_input)})
            if gradients
            else {},
            buffers=self._torch_named(state),
            activations=Later(lambda: {n: self._outward(activations[n]) for n in order if n in activations}),
        )
        self.state = state
        if step:
            assert self.rule is not None, "load() an optimizer before asking for a step"
            self.params, self.opt_state = self._updater(self.rule)(grads, self.opt_state, self.params)
            params, opt_state = self.params, self.opt_state
            result.weights = Later(lambda: self._torch_named(params))
            result.optimizer = Later(lambda: self._optimizer_state(opt_state))
        return result

    @cache  # noqa: B019 - a runner lives as long as its process
    def _evaluator(self, train: bool, gradients: bool, record: bool) -> tuple[Callable[..., Any], list[str]]:
        """The function and, once it has run, the activations' names in forward order (jit sorts them)."""
        order: list[str] = []

        def objective(
            params: Tree, floats: dict[str, Any], state: Tree, data: dict[str, Any], masks: dict[str, Any]
        ) -> Any:
            tap = Tap(masks, record, self._torch_path)
            data = {**data, **floats}
            inputs = tuple(data[name] for name in self.inputs)
            outputs, state = self.model.apply(params, state, inputs, train=train, tap=tap)
            order[:] = tap.activations
            named = dict(named_outputs(outputs))
            return self.code.loss(outputs, data), (named, state, tap.activations)

        if gradients:
            function = jax.value_and_grad(objective, argnums=(0, 1), has_aux=True)
        else:

            def function(*args: Any) -> Any:
                return objective(*args), (None, {})

        return self._compiled(function), order

    def _of_inputs(self, gradients: Mapping[str, Any]) -> Arrays:
        return {f"{INPUT}{name}": self._outward(gradient) for name, gradient in gradients.items()}

    @cache  # noqa: B019 - a runner lives as long as its process
    def _updater(self, rule: Optimizer) -> Callable[..., Any]:
        return self._compiled(make_update(make_transform(rule)), donate_argnums=(1, 2))

    def _compiled(self, function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
        return jax.jit(function, **options) if self.mode == "jit" else function

    def _inward(self, array: Any) -> Any:
        return np.moveaxis(array, 1, -1) if self.channels_last and np.ndim(array) == 4 else array

    def _outward(self, array: Any) -> Any:
        array = _numpy(array)
        return np.moveaxis(array, -1, 1) if self.channels_last and array.ndim == 4 else array

    def _on_device(self, batch: Arrays) -> dict[str, jax.Array]:
        return {
            name: self._cast(jnp.asarray(np.asarray(self._inward(array), order="C")))
            for name, array in batch.items()
        }

    def dropouts(self, batch: Arrays) -> list[DropoutSite]:
        tap = Tap({}, record=False, name=self._torch_path)
        data = self._on_device(batch)
        inputs = tuple(data[name] for name in self.inputs)
        jax.eval_shape(
            lambda p, s: self.model.apply(p, s, inputs, train=True, tap=tap)[0], self.params, self.state
        )
        self._own_paths = tap.own_paths
        return [DropoutSite(path, rate, self._outward_shape(shape)) for path, rate, shape in tap.sites]

    def _torch_path(self, path: str) -> str:
        """What torch calls the module at a JAX path: the rename map read backwards, longest prefix first."""
        for theirs, ours in sorted(self.rename.items(), key=lambda pair: -len(pair[1])):
            if path == ours or path.startswith(f"{ours}."):
                return theirs + path[len(ours) :]
        return path

    def _outward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if self.channels_last and len(shape) == 4:
            return (shape[0], shape[3], shape[1], shape[2])
        return shape

    def drop(self, path: str, ones: Any, *, train: bool) -> Any:
        own_path = self._own_paths.get(path, path)
        return _numpy(self.model.drop(own_path, jnp.asarray(ones, self.dtype), train=train))

    # --- timing --------------------------------------------------------------------------------

    def prepare(self, program: str, batches: Sequence[Arrays], *, dropout: bool = True) -> Prepared:
        data = [self._on_device(batch) for batch in batches]
        without = None if dropout else Tap({}, False, self._torch_path)
        function, carry, donated = self._program(program, without)
        start = time.perf_counter()
        traced, compiled, facts = 0.0, 0.0, {}
        if self.mode == "jit":
            lowered = jax.jit(function, donate_argnums=donated).lower(*carry, data[0])
            traced = time.perf_counter() - start
            function = lowered.compile()
            compiled = time.perf_counter() - start - traced
            facts = compiler_facts(function)
        call = _stepping(function, carry, data) if program == "step" else _repeating(function, carry, data)
        call(0)
        first = time.perf_counter() - start

        def outputs() -> Arrays:
            if program != "forward":
                return {}
            return {n: self._outward(value) for n, value in named_outputs(function(*carry, data[0])[0])}

        return Prepared(call, Phases(trace=traced, compile=compiled, first=first), facts, outputs)

    def _program(
        self, program: str, tap: ModelTap | None = None
    ) -> tuple[Callable[..., Any], tuple[Tree, ...], tuple[int, ...]]:
        """``function(*carry, data) -> result, new carry``, its first carry, and which of it is donated."""

        def forward(params: Tree, state: Tree, data: dict[str, Any]) -> Any:
            inputs = tuple(data[name] for name in self.inputs)
            return self.model.apply(params, state, inputs, train=False, tap=tap)[0], None

        def objective(params: Tree, state: Tree, data: dict[str, Any]) -> Any:
            inputs = tuple(data[name] for name in self.inputs)
            outputs, state = self.model.apply(params, state, inputs, train=True, tap=tap)
            return self.code.loss(outputs, data), state

        def grad(params: Tree, state: Tree, data: dict[str, Any]) -> Any:
            (loss, state), grads = jax.value_and_grad(objective, has_aux=True)(params, state, data)
            return (loss, grads, state), None

        transform = make_transform(self.rule or Optimizer("sgd", 1e-4, momentum=0.9))
        update = make_update(transform)

        def step(params: Tree, state: Tree, opt_state: Tree, data: dict[str, Any]) -> Any:
            (loss, state), grads = jax.value_and_grad(objective, has_aux=True)(params, state, data)
            params, opt_state = update(grads, opt_state, params)
            return loss, (params, state, opt_state)

        if program == "step":
            # copies: the step donates its carry, and the runner's own weights must outlive it
            carry = jax.tree.map(jnp.copy, (self.params, self.state, transform.init(self.params)))
            return step, carry, (0, 1, 2)
        return {"forward": forward, "grad": grad}[program], (self.params, self.state), ()

    def kernel(self, kind: str, shape: Sequence[int]) -> Callable[[], None]:
        def draw(seed: int, *sizes: int) -> jax.Array:
            return jax.random.normal(jax.random.key(seed), sizes, self.dtype)

        if kind == "matmul":
            m, k, n = shape
            operands = draw(0, m, k), draw(1, k, n)
            operation = jax.jit(jnp.matmul)
        elif kind == "convolution":
            batch, channels, height, width, out, size = shape
            operands = draw(0, batch, height, width, channels), draw(1, size, size, channels, out)
            convolve = partial(jax.lax.conv_general_dilated, window_strides=(1, 1), padding="SAME")
            operation = jax.jit(partial(convolve, dimension_numbers=("NHWC", "HWIO", "NHWC")))
        else:
            operands = draw(0, *shape), draw(1, *shape)
            operation = jax.jit(lambda a, b: a + 3.0 * b)

        def call() -> None:
            jax.block_until_ready(operation(*operands))

        return call

    def derivative(self, kind: str, batch: Arrays) -> Derivative:
        def objective(params: Tree, data: Mapping[str, jax.Array], tap: ModelTap | None) -> jax.Array:
            inputs = tuple(data[name] for name in self.inputs)
            outputs = self.model.apply(params, self.state, inputs, train=False, tap=tap)[0]
            return self.code.loss(outputs, data)

        def v() -> Tree:
            shapes = {name: array.shape for name, array in self._torch_named(self.params).items()}
            return self._place(self.params, direction(shapes))

        data = self._on_device(batch)
        paths: list[str] = []

        def met(path: str, rate: float | None, call: Callable[[], Any], x: Any) -> Any:
            paths.append(path)
            return call()

        jax.eval_shape(lambda params: objective(params, data, met), self.params)
        return jax_derivatives.make(kind, objective, self.params, data, v, paths, self._torch_named)

    def reshaping(self, program: str) -> Reshaping:
        function, carry, _ = self._program(program)
        function = self._compiled(function)

        def call(data: dict[str, jax.Array]) -> None:
            jax.block_until_ready(function(*carry, data))

        return Reshaping(self._on_device, call, jax_graph.compilations())

    # --- graph ---------------------------------------------------------------------------------

    def capture(self, program: str, batch: Arrays, *, kernels: bool) -> Captured:
        """The kernels are counted anyhow: XLA compiles in seconds."""
        data = self._on_device(batch)

        def scoped(path: str, rate: float | None, call: Callable[[], Any], x: Any) -> Any:
            return jax_graph.scoped(self._torch_path(path), rate, call, x)

        function, carry, _ = self._program(program, scoped)
        types = {self._torch_path(path): name for path, name in self.model.layer_types().items()}
        try:
            return jax_graph.capture(program, function, (*carry, data), types)
        except Exception as error:  # whatever the user's model does to the tracer is an outcome
            raise CellFailed(
                "unsupported",
                f"JAX could not trace {program}: {refusal(error)}",
                "The traceback in the cell's log names the line of the model.",
            ) from error

    # --- facts ---------------------------------------------------------------------------------

    def peak_device_bytes(self) -> int | None:
        statistics = jax.devices()[0].memory_stats() if jax.default_backend() == "gpu" else None
        return statistics.get("peak_bytes_in_use") if statistics else None

    def facts(self) -> dict[str, Json]:
        on_cpu = jax.default_backend() == "cpu"
        precision = jax.config.values["jax_default_matmul_precision"]
        return {
            "dtype": str(self.dtype),
            # XLA's CPU backend knows nothing lower than "highest" for float32
            "matmul precision": "highest" if on_cpu else str(precision),
            "TF32": not on_cpu and precision is None,
            "threads": threads(),
            "image layout": "NHWC" if self.channels_last else "as given",
            "compiler": "XLA, default options" if self.mode == "jit" else "none (one kernel per operation)",
            "buffers reused in step": "donated" if self.mode == "jit" else "no",
            "attention kernel": "as the model's source writes it",
            "matrix library": "XLA's own (Eigen, oneDNN)" if on_cpu else "cuBLAS",
        }


def fit(code: Any, config: Config, batch: Arrays, dtype: str, device: str) -> Arrays:
    """The weights that the side's own solver (program ``fit``) finds for these training examples."""
    jax.config.update("jax_enable_x64", dtype == "float64")
    data = {name: jnp.asarray(cast(array, jnp.dtype(dtype))) for name, array in batch.items()}
    return {name: _numpy(array) for name, array in code.fit(config, data).items()}


def _stepping(
    function: Callable[..., Any], carry: tuple[Tree, ...], data: Sequence[Any]
) -> Callable[[int], None]:
    """Each call takes up what the call before left: a loop of training."""
    count = len(data)

    def call(i: int) -> None:
        nonlocal carry
        result, carry = function(*carry, data[i % count])
        jax.block_until_ready((result, carry))

    return call


def _repeating(
    function: Callable[..., Any], carry: tuple[Tree, ...], data: Sequence[Any]
) -> Callable[[int], None]:
    """Each call starts from the same parameters and state."""
    count = len(data)

    def call(i: int) -> None:
        jax.block_until_ready(function(*carry, data[i % count]))

    return call


def compiler_facts(compiled: Any) -> dict[str, float]:
    """XLA's own figures: operations and memory; a backend that gives none leaves them out."""
    cost = compiled.cost_analysis() or {}
    memory = compiled.memory_analysis()
    facts = {"flops": float(cost["flops"])} if "flops" in cost else {}
    if memory is not None:
        facts |= {
            "argument_bytes": float(memory.argument_size_in_bytes),
            "output_bytes": float(memory.output_size_in_bytes),
            "temporary_bytes": float(memory.temp_size_in_bytes),
        }
        if jax.default_backend() == "cpu":  # a device's allocator keeps its memory
            results = memory.output_size_in_bytes - memory.alias_size_in_bytes
            facts["taken_bytes"] = float(memory.temp_size_in_bytes + results)
    return facts


def threads() -> int:
    """Threads that XLA's CPU backend uses: as NPROC says, else one per core that the process may run on."""
    if stated := os.environ.get("NPROC"):
        return int(stated)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _numpy(array: Any) -> Any:
    """The array on the host; bfloat16, which NumPy lacks, becomes float32."""
    host = np.asarray(array)
    return host.astype(np.float32) if host.dtype == jnp.bfloat16 else host
