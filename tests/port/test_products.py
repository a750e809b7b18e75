"""Products of vectors and matrices are torch's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers.integrations.moe  # noqa: F401 - has an operation of its own
from hypothesis import given, settings
from hypothesis import strategies as st
from op_testing import EXAMPLES, agree, draw, kinds, seeds, shapes

from twinax.port.torch_to_jax.ops.products import grouped_product

pytestmark = pytest.mark.slow

DTYPES = st.sampled_from(
    [torch.float64, torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64]
)
SIDES = st.tuples(*[st.integers(0, 4)] * 3)  # of an (m, k) and a (k, n) matrix
FACTORS = st.sampled_from([0, 1, 2, -3])
BATCH = shapes(0, 2, side=3)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    batch=BATCH,
    sides=SIDES,
    seed=seeds,
    kinked=kinds,
    strided=st.booleans(),
    dtype=DTYPES,
    biased=st.booleans(),
)
def test_linear(batch, sides, seed, kinked, strided, dtype, biased):
    m, k, n = sides
    x, weight = (
        draw((*batch, m, k), seed, kinked, dtype, strided),
        draw((n, k), seed + 1, kinked, dtype, strided),
    )
    agree("linear.default", x, weight, draw((n,), seed + 2, dtype=dtype) if biased else None)
    if not batch and m:
        agree("linear.default", x[0], weight)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    left=BATCH, right=st.integers(0, 2), sides=SIDES, seed=seeds, kinked=kinds, strided=st.booleans(),
    dtype=DTYPES,
)  # fmt: skip
def test_matmul(left, right, sides, seed, kinked, strided, dtype):
    """Batches of different rank broadcast; vectors on either side."""
    m, k, n = sides
    x = draw((*left, m, k), seed, kinked, dtype, strided)
    y = draw((*left[right:], k, n), seed + 1, kinked, dtype, strided)
    agree("matmul.default", x, y)
    agree("linalg_matmul.default", draw((k,), seed, dtype=dtype), y)
    agree("matmul.default", x, draw((k,), seed, dtype=dtype))
    agree("matmul.default", draw((k,), seed, dtype=dtype), draw((k,), seed + 1, dtype=dtype))


@settings(max_examples=EXAMPLES, deadline=None)
@given(batch=st.integers(0, 3), sides=SIDES, seed=seeds, strided=st.booleans(), dtype=DTYPES)
def test_products_of_one_rank(batch, sides, seed, strided, dtype):
    m, k, n = sides
    x, y = (
        draw((batch, m, k), seed, False, dtype, strided),
        draw((batch, k, n), seed + 1, False, dtype, strided),
    )
    v, w = draw((k,), seed + 2, dtype=dtype), draw((k,), seed + 3, dtype=dtype)
    agree("bmm.default", x, y)
    agree("dot.default", v, w)
    agree("vdot.default", v, w)
    agree("inner.default", x, w)
    agree("inner.default", x, draw((n, k), seed, dtype=dtype))
    if dtype != torch.int64:
        agree("linalg_vecdot.default", x, w)
    if batch:
        agree("mm.default", x[0], y[0])
        agree("mv.default", x[0], v)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    batch=st.integers(1, 3),
    sides=SIDES,
    seed=seeds,
    dtype=DTYPES,
    beta=FACTORS,
    alpha=FACTORS,
    flat=st.booleans(),
)
def test_sums_with_products(batch, sides, seed, dtype, beta, alpha, flat):
    m, k, n = sides
    x, y = draw((batch, m, k), seed, dtype=dtype), draw((batch, k, n), seed + 1, dtype=dtype)
    added = draw((n,) if flat else (m, n), seed + 2, dtype=dtype)
    factors = {"beta": beta, "alpha": alpha}
    tolerance = {torch.bfloat16: 0.2, torch.float16: 0.05}.get(dtype)  # terms of size 10 that cancel
    agree("addmm.default", added, x[0], y[0], **factors, tolerance=tolerance)
    agree("baddbmm.default", added, x, y, **factors, tolerance=tolerance)
    agree("addbmm.default", added, x, y, **factors, tolerance=tolerance)
    vec = draw((k,), seed + 3, dtype=dtype)
    agree("addmv.default", draw((m,), seed, dtype=dtype), x[0], vec, **factors, tolerance=tolerance)
    u, w = draw((m,), seed, dtype=dtype), draw((n,), seed, dtype=dtype)
    agree("addr.default", added, u, w, **factors, tolerance=tolerance)


def test_what_beta_0_leaves_out_may_be_nan():
    nan = torch.full((2, 2), torch.nan, dtype=torch.float64)
    agree("addmm.default", nan, draw((2, 3)), draw((3, 2), 1), beta=0, gradients=False)


EINSUMS = [
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 2)),
    ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)),
    ("...ij,...kj", (2, 3, 4), (5, 4)),
    ("ij, jk", (3, 4), (4, 2)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("ij->", (3, 4)),
    ("bA,bB", (3, 2), (3, 4)),
    ("bi,oij,bj->bo", (2, 3), (4, 3, 2), (2, 2)),
    ("bij,bjk->bik", (1, 3, 4), (5, 4, 2)),
    ("i,j->ji", (0,), (3,)),
]


@pytest.mark.parametrize("case", EINSUMS, ids=[c[0] for c in EINSUMS])
def test_einsum(case):
    equation, *sides = case
    agree("einsum.default", equation, [draw(shape, n) for n, shape in enumerate(sides)])
    agree("einsum.default", equation, [draw(shape, n, dtype=torch.bfloat16) for n, shape in enumerate(sides)])


@settings(max_examples=EXAMPLES, deadline=None)
@given(sides=SIDES, seed=seeds, dtype=DTYPES)
def test_tensordot_and_chains(sides, seed, dtype):
    m, k, n = sides
    x, y = draw((m, k, 2), seed, dtype=dtype), draw((2, n, k), seed + 1, dtype=dtype)
    agree("tensordot.default", x, y, [1, -1], [2, 0])
    agree("tensordot.default", x, y, [], [])
    chain = [
        draw((m, k), seed, dtype=dtype),
        draw((k, n), seed + 1, dtype=dtype),
        draw((n, 2), seed + 2, dtype=dtype),
    ]
    loose = {torch.bfloat16: 0.2, torch.float16: 0.05}.get(dtype)
    agree("linalg_multi_dot.default", chain, tolerance=loose)
    agree("chain_matmul.default", chain[:1])


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    batch=BATCH,
    sides=SIDES,
    seed=seeds,
    biased=st.booleans(),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)
def test_bilinear(batch, sides, seed, biased, dtype):
    one, other, out = (n + 1 for n in sides)
    agree(
        "bilinear.default",
        draw((*batch, one), seed, dtype=dtype),
        draw((*batch, other), seed + 1, dtype=dtype),
        draw((out, one, other), seed + 2, dtype=dtype),
        draw((out,), seed + 3, dtype=dtype) if biased else None,
    )


@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=shapes(0, 2, side=3), seed=seeds, dtype=DTYPES, other=DTYPES)
def test_outer_cross_kron(shape, seed, dtype, other):
    agree("outer.default", draw((3,), seed, dtype=dtype), draw((len(shape),), seed, dtype=other))
    agree("kron.default", draw(shape, seed, dtype=dtype), draw((2, 3)[: len(shape)], seed, dtype=dtype))
    agree("kron.default", draw(shape, seed, dtype=dtype), draw((2, 3), seed, dtype=dtype))
    x = draw((*shape, 3, 2), seed, dtype=dtype)
    agree("linalg_cross.default", x, draw((*shape, 3, 2), seed + 1, dtype=dtype), dim=-2)
    agree("linalg_cross.default", x, draw((*shape, 3, 1), seed + 1, dtype=dtype), dim=len(shape))
    agree("cross.default", x, draw(tuple(x.shape), seed + 1, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int32, torch.int64, torch.uint8])
@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (0, 2)])
def test_trace(dtype, shape):
    agree("trace.default", draw(shape, 0, dtype=dtype).abs(), gradients=shape != (0, 2))


def test_products_of_groups():
    """torch's own kernel wants bfloat16 and a multiple of 8: ours is held against a loop, its gradient too."""
    x, w = (np.random.default_rng(n).standard_normal(s) for n, s in enumerate([(6, 3), (4, 3, 2)]))
    ends = jnp.array([2, 2, 5, 6])

    def loop(x, w):
        return jnp.concatenate([x[a:b] @ w[g] for g, (a, b) in enumerate([(0, 2), (2, 2), (2, 5), (5, 6)])])

    with jax.enable_x64(True):
        ours, pull = jax.vjp(lambda x, w: grouped_product(x, w, ends), jnp.asarray(x), jnp.asarray(w))
        theirs, wanted = jax.vjp(loop, jnp.asarray(x), jnp.asarray(w))
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)
        for here, there in zip(pull(jnp.cos(ours)), wanted(jnp.cos(ours)), strict=True):
            np.testing.assert_allclose(here, there, rtol=1e-12)
    groups = torch.tensor([2, 2, 5, 6])  # nothing is multiplied after the last
    for rows in (6, 8):
        agree("transformers.grouped_mm_fallback.default", draw((rows, 3), 0), draw((4, 3, 2), 1), groups)
    half = torch.bfloat16
    offs = torch.tensor([3, 3, 8], dtype=torch.int32)
    agree(
        "_grouped_mm.default",
        draw((8, 16), 0, dtype=half),
        draw((3, 16, 16), 1, dtype=half),
        offs,
        tolerance=0.1,
    )
    agree(
        "_grouped_mm.default", draw((2, 8, 16), 0, dtype=half), draw((2, 16, 16), 1, dtype=half), tolerance=0.1
    )
    with pytest.raises(NotImplementedError, match="columns"):
        grouped_product(jnp.ones((8, 16)), jnp.ones((16, 8)), ends)
    with pytest.raises(NotImplementedError, match="bias"):
        grouped_product(jnp.ones((8, 16)), jnp.ones((4, 16, 8)), ends, jnp.ones(8))
