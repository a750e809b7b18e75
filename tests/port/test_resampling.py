"""Images of another size, and images read off at points, are torch's."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from op_testing import EXAMPLES, agree, draw, kinds, seeds

import twinax.port.torch_to_jax.ops.resampling  # noqa: F401 - declares the operations
from twinax.port.torch_to_jax.ops.base import FUNCTIONS

pytestmark = pytest.mark.slow  # a minute

NEAREST = ["upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"]
EXACT = ["_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"]
LINEAR = ["upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d"]
OTHERS = ["upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"]
FACTORS = [0.3, 0.5, 0.75, 1.0, 1.3, 1.5, 2.0, 2.6, 3.0]


def axes_of(name):
    return next(d for d in (1, 2, 3) if f"{d}d" in name)


@st.composite
def problems(draws, name):
    """An image, its new size, and the factors that gave it, or None."""
    axes = axes_of(name)
    x = draw((draws(st.integers(1, 2)), 2, *(draws(st.integers(1, 7)) for _ in range(axes))), draws(seeds))
    if draws(st.booleans()):
        return x, [draws(st.integers(1, 12)) for _ in range(axes)], None
    factors = [draws(st.sampled_from([f for f in FACTORS if int(n * f) > 0])) for n in x.shape[2:]]
    return x, [int(n * f) for n, f in zip(x.shape[2:], factors, strict=True)], factors


def contradictory(x, size, factors):
    """Whether torch's gradient belongs to another result than its own: a factor not the ratio of the sizes."""
    pairs = zip(
        x.shape[2:],
        size,
        factors or [new / old for old, new in zip(x.shape[2:], size, strict=True)],
        strict=True,
    )
    return any(new in (old, 2 * old) and new != old * factor for old, new, factor in pairs)


@pytest.mark.parametrize("name", NEAREST + EXACT)
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data(), dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.uint8]))
def test_nearest(name, data, dtype):
    x, size, factors = data.draw(problems(name))
    assume(name not in NEAREST or not contradictory(x, size, factors))
    x = (x * 20).to(dtype) if dtype != torch.uint8 else (x * 20).abs().to(dtype)
    agree(f"{name}.vec", x, None if factors else size, factors)
    if name in (*NEAREST, "_upsample_nearest_exact2d"):
        agree(f"{name}.default", x, size, *(factors or ()))


def test_nearest_where_torch_contradicts_itself():
    x = draw((1, 1, 2)).requires_grad_()
    y = torch.ops.aten.upsample_nearest1d.vec(x, None, [1.3])
    assert torch.equal(y[..., 0], y[..., 1]) and torch.autograd.grad(y.sum(), x)[0].tolist() == [[[1, 1]]]
    with pytest.raises(NotImplementedError, match="give the new size"):
        agree("upsample_nearest1d.vec", x, None, [1.3])


@pytest.mark.parametrize("size", range(1, 40, 3))
def test_nearest_rounds_as_torch_does(size):
    for dtype in (torch.float32, torch.float64):
        x = torch.arange(size, dtype=dtype).reshape(1, 1, size)
        for new in (7, 29, 49, 100):
            agree("upsample_nearest1d.vec", x, [new], None, gradients=False)
            agree("_upsample_nearest_exact1d.vec", x, [new], None, gradients=False)


@pytest.mark.parametrize("name", LINEAR + OTHERS)
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data(), corners=st.booleans())
def test_interpolation(name, data, corners):
    x, size, factors = data.draw(problems(name))
    assume(not name.endswith("_aa") or (size[-1] > 1 and not contradictory(x, size, factors)))
    agree(f"{name}.vec", x, None if factors else size, corners, factors)
    agree(f"{name}.default", x, size, corners, *(factors or ()))


def test_antialiased_width_of_1_where_torch_repeats_the_first_row():
    x = draw((1, 1, 7, 1), kinked=True).requires_grad_()
    y = torch.ops.aten._upsample_bilinear2d_aa.default(x, [3, 1], False)
    rows = torch.stack(
        [torch.autograd.grad(y[0, 0, i, 0], x, retain_graph=True)[0].flatten() for i in range(3)]
    )
    assert (y == y[0, 0, 0, 0]).all()
    # its gradient is right, and ours is the result to which it belongs
    ours = FUNCTIONS["_upsample_bilinear2d_aa.vec"](x.detach().float().numpy(), [3, 1], False, None)
    np.testing.assert_allclose(ours.flatten(), rows @ x.detach().flatten(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [*LINEAR, "upsample_bicubic2d"])
def test_interpolation_in_other_dtypes(name, dtype):
    agree(
        f"{name}.vec", draw((2, 3, *[9] * axes_of(name)), dtype=dtype), [6, 13, 5][: axes_of(name)], False, None
    )


@pytest.mark.parametrize("name", ["_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa"])
def test_antialiased_in_float32(name):
    agree(f"{name}.vec", draw((2, 3, 9, 9), dtype=torch.float32), [6, 13], False, None)


@pytest.mark.parametrize("name", ["upsample_bilinear2d", *OTHERS])
def test_interpolation_of_integers_is_refused(name):
    with pytest.raises(NotImplementedError, match="with integers is not ported"):
        agree(f"{name}.vec", draw((1, 2, 4, 4)).to(torch.uint8), [3, 3], False, None)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("interpolation", [0, 1])
@pytest.mark.parametrize("padding", [0, 1, 2])
@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data(), seed=seeds, kinked=kinds, corners=st.booleans())
def test_grid_sampler(axes, interpolation, padding, data, seed, kinked, corners):
    # few shapes: each is compiled
    x = draw(
        (2, 2, *data.draw(st.sampled_from([(3, 4), (5, 1)] if axes == 2 else [(2, 3, 4), (4, 1, 2)]))), seed
    )
    grid = draw((2, *[2, 1, 3][-axes:], axes), seed + 1, kinked) * data.draw(st.sampled_from([0.5, 1.0, 3.0]))
    agree(
        data.draw(st.sampled_from(["grid_sampler.default", f"grid_sampler_{axes}d.default"])),
        x,
        grid,
        interpolation,
        padding,
        corners,
    )


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("corners", [False, True])
def test_grid_sampler_on_pixels_and_edges(padding, corners):
    for x in (draw((1, 2, 5, 3)), draw((1, 2, 1, 4))):
        ticks = torch.linspace(-3, 3, 25, dtype=torch.float64)
        grid = torch.stack(torch.meshgrid(ticks, ticks, indexing="ij"), -1)[None]
        for interpolation in (0, 1):
            agree("grid_sampler.default", x, grid, interpolation, padding, corners)


def test_grid_sampler_in_float32():
    x, grid = draw((2, 2, 5, 4), dtype=torch.float32), draw((2, 3, 3, 2), 1, dtype=torch.float32)
    agree("grid_sampler.default", x, grid, 0, 0, False)


def test_grid_sampler_refuses_bicubic():
    with pytest.raises(NotImplementedError, match="bicubic"):
        agree("grid_sampler.default", draw((1, 1, 4, 4)), draw((1, 2, 2, 2)), 2, 0, False)


@settings(max_examples=EXAMPLES, deadline=None)
@given(axes=st.integers(2, 3), data=st.data(), seed=seeds, corners=st.booleans())
def test_affine_grid(axes, data, seed, corners):
    size = [data.draw(st.integers(1, 3)), 2, *(data.draw(st.integers(1, 4)) for _ in range(axes))]
    agree("affine_grid_generator.default", draw((size[0], axes, axes + 1), seed), size, corners)
