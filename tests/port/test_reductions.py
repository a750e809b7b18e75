"""Operations that make one number of many are torch's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_testing import EXAMPLES, agree, draw, kinds, seeds, shapes

import twinax.port.torch_to_jax.ops.reductions  # noqa: F401 - declares the operations

pytestmark = pytest.mark.slow

some = settings(max_examples=EXAMPLES, deadline=None)
ANY = [torch.float64, torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.int32, torch.bool]
FLOATS = [torch.float64, torch.float64, torch.float32, torch.bfloat16]


def inputs(dtypes=ANY, least=0, most=3, smallest=0, side=4):
    return st.builds(
        draw, shapes(least, most, side, smallest), seeds, kinds, st.sampled_from(dtypes), st.booleans()
    )


def dims_of(x, least=0):
    """Some dimensions, all, or none named, which is all."""
    if x.ndim == 0:
        return st.just(())
    some_dims = st.lists(st.integers(0, x.ndim - 1), unique=True, min_size=least)
    return st.builds(lambda dims, back: tuple(d - x.ndim * back for d in dims), some_dims, st.booleans())


def dim_of(x):
    return st.integers(-x.ndim, x.ndim - 1)


@some
@given(x=inputs(), data=st.data(), keepdim=st.booleans())
def test_sums(x, data, keepdim):
    dims = data.draw(dims_of(x))
    agree("sum.default", x)
    agree("sum.dim_IntList", x, dims, keepdim)
    agree("sum.dim_IntList", x, None, keepdim)
    agree("sum.default", x, dtype=torch.float64)
    agree("sum.default", x, dtype=torch.float32, gradients=False)
    agree("sum.default", x.to(torch.uint8)) if not x.dtype.is_floating_point else None
    agree("nansum.default", x, dims, keepdim)
    agree("prod.default", x)
    agree("count_nonzero.default", x)
    agree("count_nonzero.dim_IntList", x, dims)
    if x.dtype.is_floating_point:
        agree("mean.default", x)
        agree("mean.dim", x, dims, keepdim)
        agree("mean.dim", x, dims, keepdim, dtype=torch.float64)


@some
@given(x=inputs(least=1), data=st.data(), keepdim=st.booleans())
def test_along(x, data, keepdim):
    dim = data.draw(dim_of(x))
    agree("prod.dim_int", x, dim, keepdim)
    agree("cumsum.default", x, dim)
    agree("cumprod.default", x, dim)
    agree("cumsum.default", x, dim, dtype=torch.float32, gradients=False)
    agree("any.dim", x, dim, keepdim)
    agree("all.dim", x, dim, keepdim)
    agree("count_nonzero.default", x, dim)
    agree("diff.default", x, 1, dim)
    agree("diff.default", x, 2, dim, x, x) if x.dtype != torch.bool else None


@some
@given(x=inputs(), data=st.data(), keepdim=st.booleans())
def test_any_and_all(x, data, keepdim):
    dims = data.draw(dims_of(x))
    for name in ("any", "all"):
        agree(f"{name}.default", x)
        agree(f"{name}.dims", x, dims, keepdim)
        agree(f"{name}.dims", x, None, keepdim)


@some
@given(
    x=inputs([torch.float64, torch.float32]),
    bins=st.integers(1, 9),
    low=st.integers(-3, 1),
    wide=st.integers(0, 5),
)
def test_histograms(x, bins, low, wide):
    if wide or low == 0:
        agree("histc.default", x, bins, low, low + wide, gradients=False) if x.numel() else None
    agree("histc.default", torch.arange(bins, dtype=x.dtype), bins, 0, max(bins - 1, 1), gradients=False)


@some
@given(x=inputs(smallest=1), data=st.data(), keepdim=st.booleans(), seed=seeds)
def test_extremes(x, data, keepdim, seed):
    dims = data.draw(dims_of(x))
    for name in ("max", "min"):
        agree(f"{name}.default", x)
        agree(f"{name}.other", x, draw(x.shape[1:], seed, True))
        agree(f"a{name}.default", x, dims, keepdim)
        agree(f"a{name}.default", x)
        if x.ndim:
            agree(f"{name}.dim", x, data.draw(dim_of(x)), keepdim)
    agree("aminmax.default", x)
    if x.ndim:
        dim = data.draw(dim_of(x))
        agree("aminmax.default", x, dim=dim, keepdim=keepdim)
        if x.dtype != torch.bool:
            agree("cummax.default", x, dim)
            agree("cummin.default", x, dim)


@pytest.mark.parametrize("name", ["var", "std", "var_mean", "std_mean"])
@some
@given(
    x=inputs(FLOATS),
    data=st.data(),
    unbiased=st.booleans(),
    keepdim=st.booleans(),
    constant=st.booleans(),
    correction=st.sampled_from([None, 0, 1, 0.5]),
)
def test_moments(name, x, data, unbiased, keepdim, constant, correction):
    x = torch.ones_like(x) if constant else x
    dims = data.draw(dims_of(x, 1)) or None  # torch's own gradient is off for dim=[]
    tolerance = 3e-2 if x.dtype == torch.bfloat16 else None
    agree(f"{name}.default", x, unbiased, tolerance=tolerance)
    agree(f"{name}.dim", x, dims, unbiased, keepdim, tolerance=tolerance)
    agree(f"{name}.correction", x, dims, correction=correction, keepdim=keepdim, tolerance=tolerance)
    agree(f"{name}.correction", x, tolerance=tolerance)


@pytest.mark.parametrize("p", [2, 1, 0, 3, 1.5, 0.5, float("inf"), float("-inf")])
@settings(max_examples=EXAMPLES, deadline=None)
@given(x=inputs(FLOATS, smallest=1), data=st.data(), keepdim=st.booleans(), zero=st.sampled_from([0, 0, 1, 2]))
def test_vector_norm(p, x, data, keepdim, zero):
    x = torch.zeros_like(x) if zero == 1 else x[:1] * 0 if zero == 2 and x.ndim else x
    dims = data.draw(dims_of(x))
    agree("linalg_vector_norm.default", x, p)
    agree("linalg_vector_norm.default", x, p, dims, keepdim)
    agree("linalg_vector_norm.default", x, p, dtype=torch.float64)
    agree("norm.ScalarOpt_dim", x, p, dims, keepdim)
    if x.ndim:
        agree("linalg_norm.default", x, p, dims[:1] or (0,), keepdim)


@some
@given(x=inputs(FLOATS[:3], 2, 3, 1), keepdim=st.booleans())
def test_matrix_norm(x, keepdim):
    agree("norm.Scalar", x)
    agree("norm.ScalarOpt_dim", x, None, (0,), keepdim)
    agree("linalg_norm.default", x, None, None, keepdim)
    agree("linalg_norm.default", x, None, (-1,), keepdim)
    agree("linalg_matrix_norm.str_ord", x, "fro", (-2, -1), keepdim)
    agree("linalg_norm.ord_str", x, "fro", (0, 1), keepdim)
    with pytest.raises(NotImplementedError):
        agree("linalg_norm.default", x, 2, (0, 1))


@pytest.mark.parametrize("p", [2, 1, 3, 1.5])
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    batch=st.sampled_from([(), (2,), (0,)]),
    n=st.integers(1, 3),
    d=st.integers(1, 3),
    seed=seeds,
    kinked=kinds,
    same=st.booleans(),
)
def test_distances(p, batch, n, d, seed, kinked, same):
    x = draw((*batch, n, d), seed, kinked)
    y = x.clone() if same else draw((*batch, n, d), seed + 1, kinked)
    agree("cdist.default", x, y, float(p))
    agree("cdist.default", x, draw((n + 1, d), seed), float(p))
    agree("dist.default", x, y, p)
    agree("pairwise_distance.default", x, y, float(p), 1e-6, True)
    agree("pairwise_distance.default", x, y, float(p))


@some
@given(shape=shapes(1, 3, 4, 1), data=st.data(), seed=seeds, kinked=kinds, eps=st.sampled_from([1e-8, 0.7]))
def test_cosine_similarity(shape, data, seed, kinked, eps):
    x, y = (draw(shape, seed + i, kinked) for i in (0, 1))
    dim = data.draw(dim_of(x))
    agree("cosine_similarity.default", x, y, dim, eps)
    agree("cosine_similarity.default", x, torch.zeros_like(x), dim, eps)
    agree("cosine_similarity.default", x, y[:1], dim, eps)


@some
@given(x=inputs(FLOATS, 1), data=st.data(), keepdim=st.booleans())
def test_exponentials(x, data, keepdim):
    dim = data.draw(dim_of(x))
    for name in ("softmax", "log_softmax"):
        agree(f"{name}.int", x, dim)
        agree(f"{name}.int", x, dim, torch.float32, gradients=False)
        agree(f"_{name}.default", x, dim, False)
    agree("logcumsumexp.default", x, dim)
    agree("logsumexp.default", x, data.draw(dims_of(x, 1)), keepdim)  # torch fails at dim=[]


def test_masked_rows():
    """Scores of -inf, in part of a row and in all of one."""
    x = torch.tensor([[0.0, -torch.inf, 1.0], [-torch.inf] * 3], dtype=torch.float64)
    agree("softmax.int", x, -1)
    agree("log_softmax.int", x[:1], -1)
    agree("logsumexp.default", x, [-1])
    agree("amax.default", x, [-1])


def test_not_a_number():
    x = torch.tensor([1.0, torch.nan, 3.0, torch.nan], dtype=torch.float64)
    agree("max.dim", x, 0)
    agree("min.dim", x, 0)
    agree("nansum.default", x)
    agree("max.default", x, gradients=False)
