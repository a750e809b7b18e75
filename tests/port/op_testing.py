"""Holds one operation of the table against torch: values, gradients, dtypes."""

import inspect
import os

import jax
import jax.numpy as jnp
import numpy as np
import torch
from hypothesis import strategies as st
from torch.utils._pytree import tree_flatten, tree_map
from torch_promotion import common_dtype

from twinax.port.torch_to_jax.ops.base import FUNCTIONS, RESULTS

DROPPED = ("device", "layout", "pin_memory", "memory_format", "non_blocking", "generator")
EXAMPLES = int(os.environ.get("TWINAX_EXAMPLES", "2"))
"""Random cases of each property; `make test-all` tries 25."""
PRECISION = {"float64": 1e-12, "float32": 2e-5, "bfloat16": 2e-2, "float16": 3e-3}
PRECISION |= {"complex128": 1e-12, "complex64": 2e-5}
KINKS = np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])  # where ties and corners are

seeds = st.integers(0, 2**31)
kinds = st.booleans()  # whether the numbers are drawn from KINKS


def shapes(least=0, most=4, side=5, smallest=0):
    """Shapes of arrays, empty and 0-d ones among them."""
    return st.lists(st.integers(smallest, side), min_size=least, max_size=most).map(tuple)


def draw(shape, seed=0, kinked=False, dtype=torch.float64, strided=False):
    """A tensor: normal numbers or numbers that tie; ``strided`` makes it a view that is not contiguous."""
    random = np.random.default_rng(seed)
    if dtype == torch.bool:
        return torch.from_numpy(np.asarray(random.random(shape) < 0.5))
    if not dtype.is_floating_point:
        return torch.from_numpy(np.asarray(random.integers(-4, 5, shape))).to(dtype)
    numbers = random.choice(KINKS, shape) if kinked else random.standard_normal(shape)
    tensor = torch.from_numpy(np.asarray(numbers, np.float64)).to(dtype)
    if strided and tensor.ndim > 1:
        tensor = tensor.transpose(0, -1).contiguous().transpose(0, -1)
    return tensor


def agree(name, *args, gradients=True, tolerance=None, constants=(), **kwargs):
    """torch's ``aten.<name>`` and ours give the same values, dtypes, shapes and gradients for these arguments.

    Gradients with respect to every float tensor among the arguments, in float64 only, from a random direction;
    ``constants`` are those with respect to which torch has none.
    """
    operation = overload(name)
    floats = [
        t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor) and t.is_floating_point()
    ]
    differentiable = gradients and floats and all(t.dtype == torch.float64 for t in floats)
    held = set(map(id, constants))
    theirs_in = [t.detach().clone().requires_grad_(id(t) not in held) if differentiable else t for t in floats]
    swap = dict(zip(map(id, floats), theirs_in, strict=True))
    there = lambda t: swap.get(id(t), t) if isinstance(t, torch.Tensor) else t  # noqa: E731
    expected = operation(*tree_map(there, args), **tree_map(there, kwargs))
    if RESULTS[name]:
        expected = [expected[i] for i in RESULTS[name]]
    with jax.enable_x64(True):
        kwargs = kwargs | _filled(name, kwargs, expected)
        got, vjp = _ours(name, args, kwargs, floats)
        compare(name, expected, got, tolerance)
        if differentiable:
            _compare_gradients(name, expected, got, theirs_in, vjp, tolerance or 1e-10)


def overload(name):
    """torch's operation of that name: of ATen, unless another library stands in front."""
    *library, packet, one = name.split(".")
    return getattr(getattr(getattr(torch.ops, *library or ["aten"]), packet), one)


def _filled(name, kwargs, expected):
    """The result's dtype, where the function must be told it."""
    wanted = inspect.signature(FUNCTIONS[name]).parameters.get("dtype")
    if wanted is None or wanted.default is not inspect.Parameter.empty or "dtype" in kwargs:
        return {}
    return {"dtype": tree_flatten(expected)[0][0].dtype}


def _ours(name, args, kwargs, floats):
    """Our results, and their vjp with respect to the float tensors."""
    kwargs = {k: v for k, v in kwargs.items() if k not in DROPPED}
    common = common_dtype(name, overload(name), args, kwargs)

    def call(values):
        swap = dict(zip(map(id, floats), values, strict=True))

        def here(value):
            if isinstance(value, torch.dtype):
                return to_jax_dtype(value)
            if not isinstance(value, torch.Tensor):
                return value
            array = swap[id(value)] if id(value) in swap else to_jax(value)
            return array.astype(to_jax_dtype(common)) if common is not None else array

        return FUNCTIONS[name](*tree_map(here, args), **tree_map(here, kwargs))

    return jax.vjp(call, [to_jax(t) for t in floats])


def _compare_gradients(name, expected, got, theirs_in, vjp, tolerance):
    outputs = [t for t in tree_flatten(expected)[0] if isinstance(t, torch.Tensor)]
    wanted = [(i, t) for i, t in enumerate(outputs) if t.requires_grad]
    if not wanted:
        return
    random = np.random.default_rng(1)
    directions = {i: random.standard_normal(tuple(t.shape)) for i, t in wanted}
    places = [i for i, t in enumerate(theirs_in) if t.requires_grad]
    theirs = torch.autograd.grad(
        [t for _, t in wanted],
        [theirs_in[i] for i in places],
        [torch.from_numpy(np.asarray(directions[i])) for i, _ in wanted],
        allow_unused=True,
    )
    flat, tree = jax.tree.flatten(got)
    cotangents = [
        jnp.asarray(directions[i]) if i in directions else _zero_cotangent(a) for i, a in enumerate(flat)
    ]
    (ours,) = vjp(jax.tree.unflatten(tree, cotangents))
    for i, there in zip(places, theirs, strict=True):
        here = ours[i]
        there = np.zeros(here.shape) if there is None else there.numpy()
        np.testing.assert_allclose(
            np.asarray(here),
            there,
            rtol=tolerance,
            atol=tolerance,
            equal_nan=True,
            err_msg=f"aten.{name}: gradient with respect to float tensor {i}",
        )


def _zero_cotangent(array):
    if jnp.issubdtype(array.dtype, jnp.floating):
        return jnp.zeros_like(array)
    return np.zeros(array.shape, jax.dtypes.float0)


def compare(name, expected, got, tolerance=None):
    theirs = [t for t in tree_flatten(expected)[0] if isinstance(t, torch.Tensor)]
    ours = jax.tree.leaves(got)
    assert len(theirs) == len(ours), f"aten.{name}: {len(theirs)} results, ours {len(ours)}"
    for there, here in zip(theirs, ours, strict=True):
        there = there.detach().resolve_conj()
        assert tuple(there.shape) == tuple(here.shape), f"aten.{name}: {tuple(there.shape)}, ours {here.shape}"
        assert to_jax_dtype(there.dtype) == here.dtype, f"aten.{name}: {there.dtype}, ours {here.dtype}"
        bound = tolerance or PRECISION.get(str(there.dtype).removeprefix("torch."), 0)
        if bound and not there.is_complex():
            there, here = there.to(torch.float64), here.astype(jnp.float64)
        there, here = np.asarray(there), np.asarray(here)
        np.testing.assert_allclose(here, there, rtol=bound, atol=bound, equal_nan=True, err_msg=f"aten.{name}")


def to_jax_dtype(dtype):
    return jnp.dtype(str(dtype).removeprefix("torch."))


def to_jax(tensor):
    """The tensor as a JAX array of the same dtype."""
    if tensor.dtype == torch.bfloat16:
        return jnp.asarray(tensor.detach().float().numpy()).astype(jnp.bfloat16)
    return jnp.asarray(tensor.detach().numpy())
