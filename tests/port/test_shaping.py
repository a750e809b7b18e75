"""Operations that only move numbers are torch's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_testing import EXAMPLES, agree, draw, kinds, seeds, shapes

import twinax.port.torch_to_jax.ops.patches
import twinax.port.torch_to_jax.ops.shaping  # noqa: F401 - declares the operations
from twinax.port.torch_to_jax.ops.base import FUNCTIONS

DTYPES = st.sampled_from([torch.float64, torch.float64, torch.bfloat16, torch.int64, torch.bool])
some = settings(max_examples=EXAMPLES, deadline=None)


def dims_of(x):
    return st.integers(-x.ndim, x.ndim - 1)


def inputs(least=1, most=4, smallest=0, side=4):
    """Tensors of some shape and dtype, contiguous and not."""
    return st.builds(draw, shapes(least, most, side, smallest), seeds, dtype=DTYPES, strided=st.booleans())


@some
@given(x=inputs(0))
def test_of_the_whole(x):
    agree("view.default", x.contiguous(), [x.numel()])
    agree("reshape.default", x, [1, x.numel()])
    agree("view_as.default", x.contiguous(), torch.zeros(x.numel()))
    agree("squeeze.default", x)
    agree("alias.default", x)
    if x.ndim <= 2:
        agree("t.default", x)
    if x.ndim >= 2:
        agree("mT.default", x)
        agree("fliplr.default", x)
        agree("view.default", x.contiguous(), [*x.shape[:-2], x.shape[-2] * x.shape[-1]])
    if x.ndim:
        agree("flipud.default", x)
    if x.numel():
        agree("reshape.default", x, [-1])
        agree("reshape.default", x, [1, -1, 1])


@some
@given(x=inputs(), data=st.data())
def test_dims(x, data):
    dim, other = data.draw(dims_of(x)), data.draw(dims_of(x))
    order = data.draw(st.permutations(range(x.ndim)))
    several = data.draw(st.lists(st.integers(0, x.ndim - 1), unique=True))
    agree("transpose.int", x, dim, other)
    agree("swapaxes.default", x, dim, other)
    agree("permute.default", x, [d - x.ndim if d % 2 else d for d in order])
    agree("movedim.int", x, dim, other)
    agree("movedim.intlist", x, several, several[::-1])
    agree("unsqueeze.default", x, data.draw(st.integers(-x.ndim - 1, x.ndim)))
    agree("squeeze.dim", x, dim)
    agree("squeeze.dims", x, several)
    agree("flip.default", x, several)
    agree("flatten.using_ints", x, min(dim % x.ndim, other % x.ndim), max(dim % x.ndim, other % x.ndim))
    agree("flatten.using_ints", x)
    agree("unbind.int", x, dim)
    agree("select.int", x.unsqueeze(dim), dim, data.draw(st.sampled_from([0, -1])))
    if x.ndim > 1 and dim % x.ndim != other % x.ndim:
        offset = data.draw(st.integers(-2, 2))
        agree("rot90.default", x, data.draw(st.integers(-3, 5)), (dim, other))
        if abs(offset) <= min(x.shape[dim], x.shape[other]):  # torch refuses what lies outside
            agree("diagonal.default", x, offset, dim, other)
            there = x.diagonal(offset, dim, other)
            agree("diagonal_scatter.default", x, draw(there.shape, dtype=x.dtype), offset, dim, other)


def test_numbers():
    """0-d tensors."""
    x = torch.tensor(2.0, dtype=torch.float64)
    agree("permute.default", x, [])
    agree("flatten.using_ints", x)
    agree("unsqueeze.default", x, 0)
    agree("expand.default", x, [2, 3])
    agree("repeat.default", x, [2, 3])
    agree("repeat_interleave.self_int", x, 3)
    agree("flip.default", x, [])
    agree("roll.default", x, [1])
    agree("hstack.default", [x, x])
    agree("stack.default", [x, x], -1)
    agree("copy.default", torch.zeros(2, 3, dtype=torch.int64), x)


@some
@given(x=inputs(0, 3), data=st.data())
def test_expand_and_repeat(x, data):
    front = data.draw(st.lists(st.integers(0, 3), max_size=2))
    x = x.unsqueeze(-1)
    n = data.draw(st.integers(0, 3))
    agree("expand.default", x, [*front, *x.shape[:-1], n])
    agree("expand.default", x, [*front, *[-1] * (x.ndim - 1), n])
    agree("broadcast_to.default", x, [*front, *x.shape[:-1], n])
    agree("expand_as.default", x, torch.zeros(*front, *x.shape[:-1], n))
    agree("repeat.default", x, [*front, *[2] * (x.ndim - 1), n])
    agree("tile.default", x, [*front, n])
    agree("repeat_interleave.self_int", x, n)
    agree("repeat_interleave.self_int", x, n, data.draw(dims_of(x)))
    agree("unflatten.int", x, -2, [x.shape[-2], 1]) if x.ndim > 1 else None
    agree("unflatten.int", x, 0, [1, -1]) if x.numel() else None


@some
@given(x=inputs(smallest=1), data=st.data())
def test_roll(x, data):
    dims = data.draw(st.lists(dims_of(x), max_size=3))
    shifts = data.draw(st.lists(st.integers(-6, 6), min_size=len(dims), max_size=len(dims)))
    agree("roll.default", x, shifts, dims) if dims else None
    agree("roll.default", x, [data.draw(st.integers(-6, 6))])
    agree("roll.default", x[:0], [1], [0])


def test_repeats_that_are_data():
    x, repeats = draw((3, 2)), torch.tensor([2, 0, 3])
    agree("repeat_interleave.self_Tensor", x, repeats, 0, output_size=5)
    agree("repeat_interleave.self_Tensor", x[:, 0], repeats, output_size=5)
    agree("repeat_interleave.Tensor", repeats, output_size=5)
    with pytest.raises(NotImplementedError, match="output_size"):
        FUNCTIONS["repeat_interleave.self_Tensor"](x.numpy(), repeats.numpy(), 0)


@some
@given(x=inputs(), data=st.data(), seed=seeds)
def test_together(x, data, seed):
    dim = data.draw(dims_of(x))
    shape = list(x.shape)
    shape[dim] = data.draw(st.integers(0, 3))
    other = draw(shape, seed, dtype=data.draw(DTYPES))
    agree("cat.default", [x, other, x], dim)
    agree("stack.default", [x, draw(x.shape, seed, dtype=other.dtype)], data.draw(dims_of(x[None])))
    for name in ("hstack", "vstack", "dstack", "column_stack"):
        agree(f"{name}.default", [x, draw(x.shape, seed)])
    agree("broadcast_tensors.default", [x, draw(x.shape[1:], seed), torch.tensor(1)])


@some
@given(x=inputs(), data=st.data())
def test_pieces(x, data):
    dim = data.draw(dims_of(x))
    n = x.shape[dim]
    size = data.draw(st.integers(1, 5))
    agree("split.Tensor", x, size, dim)
    agree("chunk.default", x, size, dim) if n else None
    agree("tensor_split.sections", x, size, dim)
    cut = data.draw(st.integers(0, n))
    agree("split_with_sizes.default", x, [cut, 0, n - cut], dim)
    agree("tensor_split.indices", x, [cut, cut], dim)
    agree("narrow.default", x, dim, cut, n - cut)
    agree("narrow.default", x, dim, -1, 1) if n else None


@some
@given(x=inputs(), data=st.data(), seed=seeds)
def test_slices(x, data, seed):
    dim, step = data.draw(dims_of(x)), data.draw(st.integers(1, 3))
    ends = st.one_of(st.none(), st.integers(-7, 7), st.just(2**63 - 1))
    start, end = data.draw(ends), data.draw(ends)
    agree("slice.Tensor", x, dim, start, end, step)
    there = torch.ops.aten.slice.Tensor(x, dim, start, end, step)
    agree("slice_scatter.default", x, draw(there.shape, seed, dtype=x.dtype), dim, start, end, step)
    if x.shape[dim]:
        index = data.draw(st.integers(-x.shape[dim], x.shape[dim] - 1))
        there = x.select(dim, index)
        agree("select.int", x, dim, index)
        agree("select_scatter.default", x, draw(there.shape, seed, dtype=x.dtype), dim, index)


@some
@given(data=st.data(), seed=seeds, least=st.integers(0, 3))
def test_as_strided(data, seed, least):
    size = data.draw(st.lists(st.integers(0, 3), min_size=least, max_size=3))
    stride = data.draw(st.lists(st.integers(0, 4), min_size=len(size), max_size=len(size)))
    agree("as_strided.default", draw((5, 6), seed), size, stride, data.draw(st.integers(0, 5)))
    agree("as_strided.default", draw((30,), seed), size, stride)


@some
@given(x=inputs(0, 3), seed=seeds, source=DTYPES)
def test_copy_and_fill(x, seed, source):
    agree("copy.default", x, draw(x.shape, seed, dtype=source), gradients=False)  # torch has none
    agree("copy.default", x, draw(x.shape[1:], seed, dtype=source), gradients=False)
    agree("fill.Scalar", x, 2)
    agree("fill.Tensor", x, draw((), seed, dtype=x.dtype))


@some
@given(sizes=st.lists(st.integers(0, 3), min_size=1, max_size=3), seed=seeds)
def test_meshgrid(sizes, seed):
    vectors = [draw((n,), seed + i) for i, n in enumerate(sizes)]
    agree("meshgrid.indexing", vectors, indexing="ij")
    agree("meshgrid.indexing", vectors, indexing="xy")
    agree("meshgrid.default", vectors)


@some
@given(
    batch=shapes(0, 2, 3, 1), c=st.integers(1, 2), r=st.integers(1, 3), h=st.integers(1, 3), w=st.integers(1, 3)
)
def test_shuffles(batch, c, r, h, w):
    agree("pixel_shuffle.default", draw((*batch, c * r * r, h, w)), r)
    agree("pixel_unshuffle.default", draw((*batch, c, h * r, w * r)), r)
    agree("channel_shuffle.default", draw((1, c * r, h, w)), r)


@some
@given(x=inputs(smallest=1), data=st.data())
def test_unfold(x, data):
    dim = data.draw(dims_of(x))
    agree("unfold.default", x, dim, data.draw(st.integers(0, x.shape[dim])), data.draw(st.integers(1, 3)))


pairs = st.tuples(st.integers(1, 3), st.integers(1, 2))


@some
@given(
    batch=st.sampled_from([(), (2,)]),
    kernel=pairs,
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    stride=pairs,
    size=st.tuples(st.integers(5, 7), st.integers(3, 6)),
)
def test_im2col(batch, kernel, dilation, padding, stride, size):
    agree("im2col.default", draw((*batch, 2, *size)), kernel, dilation, padding, stride)
    columns = torch.ops.aten.im2col.default(draw((*batch, 2, *size)), kernel, dilation, padding, stride)
    agree("col2im.default", draw(columns.shape, 3), size, kernel, dilation, padding, stride)


@some
@given(x=inputs(smallest=1), data=st.data(), value=st.sampled_from([0, 1.5, -2]))
def test_constant_pad(x, data, value):
    dims = data.draw(st.integers(1, x.ndim))
    pad = [data.draw(st.integers(-(x.shape[-1 - i // 2] // 2), 2)) for i in range(2 * dims)]
    value = int(value) if not x.dtype.is_floating_point else value
    agree("constant_pad_nd.default", x, pad, value)
    agree("constant_pad_nd.default", x, pad)
    agree("pad.default", x, pad, "constant", float(value))
    agree("pad.default", x, pad)


@pytest.mark.parametrize("dims", [1, 2, 3])
@some
@given(data=st.data(), batched=st.booleans(), seed=seeds, kinked=kinds)
def test_pad(dims, data, batched, seed, kinked):
    size = data.draw(st.lists(st.integers(1, 4), min_size=dims, max_size=dims))
    x = draw((*[2] * batched, 1, *size), seed, kinked)
    least = [n - 1 for n in reversed(size) for _ in range(2)]
    pad = [data.draw(st.integers(0, n)) for n in least]
    agree(f"reflection_pad{dims}d.default", x, pad)
    agree("pad.default", x, pad, "reflect")
    agree("pad.default", x, pad, "circular")
    pad = [data.draw(st.integers(0, 3)) for _ in pad]
    agree(f"replication_pad{dims}d.default", x, pad)
    agree("pad.default", x, pad, "replicate")
