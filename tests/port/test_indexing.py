"""Operations that read, write and order by numbers are torch's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_testing import EXAMPLES, agree, draw, kinds, seeds, shapes

import twinax.port.torch_to_jax.ops.indexing  # noqa: F401 - declares the operations

pytestmark = pytest.mark.slow

some = settings(max_examples=EXAMPLES, deadline=None)
DTYPES = st.sampled_from([torch.float64, torch.float64, torch.bfloat16, torch.int64])


def inputs(least=1, most=3, smallest=1, side=4):
    return st.builds(draw, shapes(least, most, side, smallest), seeds, kinds, DTYPES, st.booleans())


def places(shape, n, seed, negative=False):
    """Indices below n, with repetitions."""
    return torch.randint(-n if negative else 0, n, shape, generator=torch.Generator().manual_seed(seed))


def distinct(n, m, seed):
    """m of n indices, each once: torch promises nothing where a place is written twice."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:m]


def untied(shape, seed):
    """Numbers of which no two are equal."""
    n = torch.Size(shape).numel()
    return distinct(n, n, seed).reshape(shape).to(torch.float64) - n / 2


@some
@given(x=inputs(2, 3), seed=seeds, shape=shapes(0, 2, 3), negative=st.booleans())
def test_index(x, seed, shape, negative):
    first, last = (places(shape, x.shape[i], seed + i, negative) for i in (0, -1))
    agree("index.Tensor", x, [first])
    agree("index.Tensor", x, [None, places(shape, x.shape[1], seed, negative)])
    agree("index.Tensor", x, [first, *[None] * (x.ndim - 2), last])
    agree("index.Tensor", x, [first[..., None], *[None] * (x.ndim - 2), last.ravel()])
    agree("take.default", x, places(shape, x.numel(), seed, negative))


def test_masks_are_refused():
    x = draw((3, 2))
    with pytest.raises(NotImplementedError, match=r"torch\.where"):
        agree("index.Tensor", x, [x[:, 0] > 0])
    with pytest.raises(NotImplementedError, match="masked_scatter"):
        agree("index_put.default", torch.ones(3), [torch.tensor([True, False, True])], torch.ones(2))
    with pytest.raises(NotImplementedError, match="num_classes"):
        agree("one_hot.default", torch.tensor([0, 1]))
    with pytest.raises(NotImplementedError, match="scale_grad_by_freq"):
        agree("embedding.default", x, torch.tensor([0, 1]), -1, True)


@some
@given(x=inputs(), data=st.data(), seed=seeds, m=st.integers(0, 4))
def test_select_along(x, data, seed, m):
    dim = data.draw(st.integers(-x.ndim, x.ndim - 1))
    n = x.shape[dim]
    agree("index_select.default", x, dim, places((m,), n, seed))
    agree("index_select.default", x, dim, places((), n, seed))
    shape = [data.draw(st.integers(0, s)) for s in x.shape]  # gather's index may be smaller
    shape[dim] = m
    agree("gather.default", x, dim, places(shape, n, seed))
    shape = [data.draw(st.sampled_from([1, s])) for s in x.shape]  # take_along_dim's index is broadcast
    shape[dim] = m
    agree("take_along_dim.default", x, places(shape, n, seed), dim)
    agree("take_along_dim.default", x.contiguous(), places((m, 1), x.numel(), seed))


@some
@given(shape=shapes(0, 2, 3), seed=seeds, padding=st.integers(-1, 4))
def test_embedding(shape, seed, padding):
    agree("embedding.default", draw((5, 3), seed), places(shape, 5, seed), padding)
    agree("one_hot.default", places(shape, 5, seed), 5)


@some
@given(
    seed=seeds,
    n=st.integers(1, 6),
    mode=st.sampled_from([0, 1]),
    padding=st.sampled_from([None, -1, 2]),
    last=st.booleans(),
    weighted=st.booleans(),
)
def test_embedding_bag(seed, n, mode, padding, last, weighted):
    weight, offsets = draw((4, 3), seed), torch.tensor([0, n // 2, n // 2] + [n] * last)
    share = draw((n,), seed + 1) if weighted and mode == 0 else None
    agree(
        "embedding_bag.padding_idx",
        weight,
        places((n,), 4, seed),
        offsets,
        False,
        mode,
        False,
        share,
        last,
        padding,
    )


@some
@given(x=inputs(2, 3), seed=seeds, m=st.integers(0, 4))
def test_index_put(x, seed, m):
    first, last = (places((m,), x.shape[i], seed + i, True) for i in (0, 1))
    values = draw((m, *x.shape[2:]), seed + 3, dtype=x.dtype)
    agree("index_put.default", x, [first, last], values, True)
    agree("index_put.default", x, [None, last], draw((), seed, dtype=x.dtype), True)
    agree("index_put.default", x, [None, last], draw((x.shape[0], m, *x.shape[2:]), dtype=x.dtype), True)
    once = distinct(x.shape[1], m, seed)
    agree("index_put.default", x, [None, once], draw(x.shape[2:], seed, dtype=x.dtype))
    agree("index_put.default", x, [None, once], draw((x.shape[0], len(once), *x.shape[2:]), dtype=x.dtype))


@some
@given(x=inputs(2, 3), seed=seeds, accumulate=st.booleans())
def test_index_put_mask(x, seed, accumulate):
    value = draw((), seed + 1, dtype=x.dtype)
    row = draw((1, *x.shape[1:]), seed + 2, dtype=x.dtype)
    agree("index_put.default", x, [draw(x.shape, seed, dtype=torch.bool)], value, accumulate)
    agree("index_put.default", x, [draw(x.shape[:1], seed, dtype=torch.bool)], value, accumulate)
    agree("index_put.default", x, [draw(x.shape[:1], seed, dtype=torch.bool)], row, accumulate)
    agree("index_put.default", x, [draw(x.shape[:1], seed, dtype=torch.bool)], row[0], accumulate)
    agree("index_put.default", x, [None, draw(x.shape[1:2], seed, dtype=torch.bool)], value, accumulate)
    column = draw((x.shape[0], 1, *x.shape[2:]), seed + 2, dtype=x.dtype)
    agree("index_put.default", x, [None, draw(x.shape[1:2], seed, dtype=torch.bool)], column, accumulate)


@some
@given(x=inputs(), data=st.data(), seed=seeds)
def test_scatter(x, data, seed):
    dim = data.draw(st.integers(-x.ndim, x.ndim - 1))
    shape = [data.draw(st.integers(0, s)) for s in x.shape]
    repeated = places(shape, x.shape[dim], seed)
    once = torch.argsort(torch.rand(x.shape), dim)[tuple(slice(s) for s in shape)]
    for longer in (0, 1):  # torch takes a source that is longer than its index, and has no gradient then
        src = draw([s + longer for s in shape], seed, dtype=x.dtype)
        agree("scatter.src", x, dim, once, src, gradients=not longer)
        agree("scatter_add.default", x, dim, repeated, src, gradients=not longer)
        agree("scatter.reduce", x, dim, repeated, src, reduce="add", gradients=False)
    agree("scatter.value", x, dim, repeated, 2)
    if not x.dtype.is_floating_point:  # JAX has no gradient of products, and says so
        agree("scatter.reduce", x, dim, repeated, src, reduce="multiply")
        agree("scatter.value_reduce", x, dim, repeated, 2, reduce="multiply")


@pytest.mark.parametrize("reduce", ["sum", "mean", "prod", "amax", "amin"])
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    shape=shapes(1, 2, 4, 1),
    dtype=st.sampled_from([torch.float64, torch.int64]),
    kinked=kinds,
    seed=seeds,
    include_self=st.booleans(),
)
def test_scatter_reduce(reduce, shape, dtype, kinked, seed, include_self):
    x, src = (draw(shape, seed + i, kinked, dtype) for i in (0, 1))
    index = places(shape, shape[0], seed)
    if reduce == "prod" and dtype.is_floating_point:  # JAX has no gradient, and says so
        with pytest.raises(NotImplementedError):
            agree("scatter_reduce.two", x, 0, index, src, reduce, include_self=include_self)
    else:
        agree("scatter_reduce.two", x, 0, index, src, reduce, include_self=include_self)


@some
@given(x=inputs(), data=st.data(), seed=seeds, m=st.integers(0, 4))
def test_index_writes(x, data, seed, m):
    dim = data.draw(st.integers(-x.ndim, x.ndim - 1))
    shape = list(x.shape)
    shape[dim] = m
    source = draw(shape, seed, dtype=x.dtype)
    index = places((m,), x.shape[dim], seed)
    agree("index_add.default", x, dim, index, source)
    agree("index_add.default", x, dim, index, source, alpha=2)
    agree("index_fill.int_Scalar", x, dim, index, 2)
    agree("index_fill.int_Tensor", x, dim, index, draw((), seed, dtype=x.dtype))
    once = distinct(x.shape[dim], m, seed)
    agree("index_copy.default", x, dim, once, source.narrow(dim, 0, len(once)))


@some
@given(x=inputs(), seed=seeds)
def test_masked_scatter(x, seed):
    mask = draw(x.shape, seed, dtype=torch.bool)
    agree("masked_scatter.default", x, mask, draw((x.numel() + 1,), seed, dtype=x.dtype))
    agree("masked_scatter.default", x, mask[..., :1], draw(x.shape, seed, dtype=x.dtype))


@some
@given(x=inputs(), data=st.data(), descending=st.booleans())
def test_order(x, data, descending):
    dim = data.draw(st.integers(-x.ndim, x.ndim - 1))
    for name in ("argmax.default", "argmin.default"):
        agree(name, x)
        agree(name, x, dim)
        agree(name, x, dim, True)
        agree(name, x, None, True)
    agree("sort.stable", x, stable=True, dim=dim, descending=descending)
    agree("argsort.stable", x, stable=True, dim=dim, descending=descending)


@some
@given(shape=shapes(1, 3, 4, 1), data=st.data(), seed=seeds, flag=st.booleans())
def test_order_of_distinct_numbers(shape, data, seed, flag):
    """At ties torch promises no order for these."""
    x = untied(shape, seed)
    dim = data.draw(st.integers(-x.ndim, x.ndim - 1))
    k = data.draw(st.integers(1, x.shape[dim]))
    agree("topk.default", x, k, dim, flag)
    agree("topk.default", x, k, dim, flag, True)
    agree("sort.default", x, dim, flag)
    agree("argsort.default", x, dim, flag)
    agree("kthvalue.default", x, k, dim, flag)
    if flag:
        x.view(-1)[0] = torch.nan
        agree("topk.default", x, k, dim)
        agree("topk.default", x, k, dim, False)
        agree("sort.default", x, dim, True)
        agree("argmax.default", x, dim)


@some
@given(seed=seeds, shape=shapes(0, 2, 4), kinked=kinds, right=st.booleans(), n=st.integers(0, 5))
def test_search(seed, shape, kinked, right, n):
    x, numbers = draw(shape, seed, kinked), draw((n,), seed + 1, kinked)
    sequence, sorter = numbers.sort()
    agree("searchsorted.Tensor", sequence, x, right=right)
    agree("searchsorted.Tensor", numbers, x, side="right" if right else "left", sorter=sorter)
    agree("searchsorted.Scalar", sequence, 0.5, right=right, out_int32=True)
    agree("bucketize.Tensor", x, sequence, right=right, out_int32=right)
    agree("bucketize.Scalar", 0.5, sequence, right=right)
    rows = draw((*shape, n), seed, kinked).sort(-1).values
    agree("searchsorted.Tensor", rows, draw((*shape, 3), seed, kinked), right=right)
