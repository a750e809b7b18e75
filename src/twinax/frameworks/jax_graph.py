"""What JAX makes of a model: jaxpr, StableHLO, and the HLO that XLA has optimised.

Imports jax: only JAX workers import this.
"""

from __future__ import annotations

import linecache
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, jaxprs_in_params

from twinax.frameworks.base import Captured, is_model_code, module_tree
from twinax.records import Json

_COMPILED = "/jax/core/compile/backend_compile_duration"
LEAST = 2  # numbers that a constant holds; a scalar is no array that was baked in
_INSTRUCTION = re.compile(r" = \S+(?: \S+)*? ([a-z][\w-]*)\(")
_LIBRARY = ("dot", "convolution", "custom-call", "sort", "rng-bit-generator")


def scoped(path: str, rate: float | None, call: Callable[[], Any], x: Any) -> Any:
    """A tap that writes each submodule's path on the operations that it traces."""
    with jax.named_scope(f"@{path}"):
        return call()


def capture(
    program: str, function: Callable[..., Any], arguments: tuple[Any, ...], types: Mapping[str, str]
) -> Captured:
    """Trace, lower and compile; what each of the three gives.

    Args:
        program: The program's name.
        function: Traced with ``arguments``, its submodules :func:`scoped`.
        arguments: Of the function.
        types: Class name of the module at each path.
    """
    traced = jax.jit(function).trace(*arguments)
    lowered = traced.lower()
    optimised = lowered.compile().as_text() or ""
    equations = list(_equations(traced.jaxpr.jaxpr))
    texts = {"jaxpr": str(traced.jaxpr), "stablehlo": lowered.as_text(), "hlo": optimised}
    modules = _modules(equations, types) if program == "forward" else {}
    return Captured(
        {f"{program}.{form}.txt": text for form, text in texts.items()},
        {
            "jaxpr": _ranked(equation.primitive.name for equation, _ in equations),
            "hlo": _ranked(_INSTRUCTION.findall(optimised)),
        },
        modules=modules,
        constants=[_constant(i, value) for i, value in enumerate(traced.jaxpr.consts) if _is_array(value)],
        promotions=list(_promotions(equations)),
        kernels=_kernels(optimised),
    )


def compilations() -> Callable[[], int]:
    """Switch the persistent cache off; a count of the programs that XLA has compiled since."""
    jax.config.update("jax_enable_compilation_cache", False)
    compiled: list[float] = []

    def hear(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == _COMPILED:
            compiled.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(hear)
    return lambda: len(compiled)


def _ranked(names: Any) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _equations(jaxpr: Jaxpr, scope: str = "", times: int = 1) -> Iterator[tuple[JaxprEqn, tuple[str, int]]]:
    """Every equation with its module and how often it runs; those inside a call instead of the call itself."""
    for equation in jaxpr.eqns:
        inner = list(jaxprs_in_params(equation.params))
        where = _module(str(equation.source_info.name_stack)) or scope
        if not inner:
            yield equation, (where, times)
        for sub in inner:
            yield from _equations(sub, where, times * int(equation.params.get("length", 1)))


def _module(stack: str) -> str:
    """``transpose(jvp(@layer1))/@layer1.conv`` → ``layer1.conv``; JAX's own functions open scopes too."""
    names = [
        re.sub(r"^(?:(?:jvp|transpose|vmap|checkpoint|rematted_computation)\()+|\)+$", "", part)
        for part in stack.split("/")
    ]
    return next((n for n in reversed(names) if n.startswith("@")), "").removeprefix("@")


def _modules(equations: list[tuple[JaxprEqn, tuple[str, int]]], types: Mapping[str, str]) -> dict[str, Json]:
    operations, flops = Counter[str](), Counter[str]()
    for equation, (where, times) in equations:
        operations[where] += 1
        flops[where] += times * _flops(equation)
    return module_tree(types, operations, flops)


def _flops(equation: JaxprEqn) -> int:
    """Two for each multiply-add of a matrix product or a convolution; nothing else is counted."""
    name, params = equation.primitive.name, equation.params
    if name not in ("dot_general", "conv_general_dilated"):
        return 0
    (left, right), (out,) = _avals(equation)
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return 2 * out.size * math.prod(left.shape[i] for i in contracted)
    # input channels of a group × kernel area
    reach = right.size // right.shape[params["dimension_numbers"].rhs_spec[0]]
    # a transposed convolution puts zeros between its inputs: no work
    return 2 * (out.size // math.prod(params["lhs_dilation"])) * reach


def _avals(equation: JaxprEqn) -> tuple[list[Any], list[Any]]:
    """Shapes and types of an equation's inputs and outputs."""
    return [v.aval for v in equation.invars], [v.aval for v in equation.outvars]


def _promotions(equations: list[tuple[JaxprEqn, tuple[str, int]]]) -> Iterator[dict[str, Json]]:
    """Where the type of more than one number changes."""
    for equation, _ in equations:
        if equation.primitive.name != "convert_element_type":
            continue
        (before,), (after,) = _avals(equation)
        floats = jnp.issubdtype(before.dtype, jnp.floating) and jnp.issubdtype(after.dtype, jnp.floating)
        if floats and before.dtype != after.dtype and after.size >= LEAST:
            yield {
                "operation": "convert_element_type",
                "from": [str(before.dtype)],
                "to": str(after.dtype),
                **_place(equation),
            }


def _place(equation: JaxprEqn) -> dict[str, Json]:
    """The innermost line of the user's code that made an equation."""
    trace = equation.source_info.traceback
    own = [f for f in (trace.frames if trace else ()) if is_model_code(f.file_name)]
    if not own:
        return {"file": "", "line": 0, "code": ""}
    file, line = own[0].file_name, own[0].line_num
    return {"file": file, "line": line, "code": linecache.getline(file, line).strip()}


def _is_array(value: Any) -> bool:
    return np.size(value) >= LEAST


def _constant(index: int, value: Any) -> dict[str, Json]:
    shape, dtype = list(np.shape(value)), str(value.dtype)
    return {"name": f"constant {index}", "shape": shape, "dtype": dtype, "bytes": int(value.nbytes)}


def _kernels(hlo: str) -> dict[str, int]:
    """Instructions outside of fused computations that are a kernel of XLA's, or a library's.

    A fusion of kind ``kCustom`` is handed to a library whole (XNNPACK, oneDNN, cuDNN).
    """
    inside, count = False, {"fused": 0, "library": 0}
    for line in hlo.splitlines():
        if line.startswith(("%fused", "%wrapped", "fused_", "wrapped_")):
            inside = True
        elif line.startswith("}"):
            inside = False
        elif not inside and (found := _INSTRUCTION.search(line)):
            name = found.group(1)
            count["library"] += name in _LIBRARY or (name == "fusion" and "kind=kCustom" in line)
            count["fused"] += name == "fusion" and "kind=kCustom" not in line
    return count
