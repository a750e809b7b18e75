"""Losses are torch's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from op_testing import EXAMPLES, agree, draw, kinds, seeds, shapes

import twinax.port.torch_to_jax.ops.losses  # noqa: F401 - declares the operations

pytestmark = pytest.mark.slow

DTYPES = st.sampled_from([torch.float64, torch.float64, torch.float32, torch.bfloat16])
REDUCTIONS = st.integers(0, 2)
SIGNED = ["soft_margin_loss", "hinge_embedding_loss"]  # of a target that is 1 or −1


def bound(dtype):
    return {"tolerance": 1e-8} if dtype == torch.float64 else {}


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss"])
@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=shapes(0, 3), seed=seeds, kinked=kinds, dtype=DTYPES, reduction=REDUCTIONS)
def test_differences(name, shape, seed, kinked, dtype, reduction):
    x, target = draw(shape, seed, kinked, dtype), draw(shape, seed + 1, kinked, dtype)
    agree(f"{name}.default", x, target, reduction)
    agree(f"{name}.default", x.float(), target.double(), reduction)


@pytest.mark.parametrize("name", ["smooth_l1_loss", "huber_loss"])
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    shape=shapes(0, 3), seed=seeds, kinked=kinds, dtype=DTYPES, reduction=REDUCTIONS,
    edge=st.sampled_from([1.0, 0.5, 2.0]),
)  # fmt: skip
def test_differences_with_an_edge(name, shape, seed, kinked, dtype, reduction, edge):
    agree(
        f"{name}.default",
        draw(shape, seed, kinked, dtype),
        draw(shape, seed + 1, kinked, dtype),
        reduction,
        edge,
    )


def test_smooth_l1_without_an_edge():
    agree("smooth_l1_loss.default", draw((3, 4)), draw((3, 4), 1), 1, 0.0)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    shape=shapes(0, 3), seed=seeds, kinked=kinds, dtype=DTYPES, reduction=REDUCTIONS, weighted=st.booleans(),
    hard=st.booleans(),
)  # fmt: skip
def test_binary_cross_entropy(shape, seed, kinked, dtype, reduction, weighted, hard):
    """Probabilities 0 and 1 are among them, where the logarithm is clamped."""
    x = draw(shape, seed, kinked, dtype).clamp(0, 1) if kinked else draw(shape, seed, dtype=dtype).sigmoid()
    target = draw(shape, seed + 1, dtype=dtype).sigmoid()
    target = target.round() if hard else target
    weight = draw(shape, seed + 2, dtype=dtype) if weighted else None
    # torch's bound of the gradient's denominator is 1e-12 in float32
    agree(
        "binary_cross_entropy.default", x, target, weight, reduction, constants=(target, weight), **bound(dtype)
    )


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    shape=shapes(1, 3), seed=seeds, kinked=kinds, dtype=DTYPES, reduction=REDUCTIONS, weighted=st.booleans(),
    positive=st.booleans(),
)  # fmt: skip
def test_binary_cross_entropy_with_logits(shape, seed, kinked, dtype, reduction, weighted, positive):
    x = draw(shape, seed, kinked, dtype) * 10
    target = draw(shape, seed + 1, dtype=dtype).sigmoid()
    weight = draw(shape, seed + 2, dtype=dtype) if weighted else None
    pos_weight = draw(shape[-1:], seed + 3, dtype=dtype).abs() if positive else None
    held = (weight, pos_weight)
    agree("binary_cross_entropy_with_logits.default", x, target, weight, pos_weight, reduction, constants=held)


@settings(max_examples=EXAMPLES, deadline=None)
@given(shape=shapes(0, 3), seed=seeds, dtype=DTYPES, reduction=REDUCTIONS, zeros=st.booleans())
def test_kl_div(shape, seed, dtype, reduction, zeros):
    x, target = draw(shape, seed, dtype=dtype), draw(shape, seed + 1, zeros, dtype)
    agree("kl_div.default", x, target, reduction, log_target=True)
    target = target.clamp(0) if zeros else target.sigmoid()
    agree("kl_div.default", x, target, reduction)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    batch=st.integers(0, 4), classes=st.integers(1, 4), inner=shapes(0, 2, side=3), seed=seeds, kinked=kinds,
    strided=st.booleans(), dtype=DTYPES, reduction=REDUCTIONS, weighted=st.booleans(),
    ignored=st.sampled_from([-100, 1]), smoothing=st.sampled_from([0.0, 0.1]),
)  # fmt: skip
def test_class_indices(
    batch, classes, inner, seed, kinked, strided, dtype, reduction, weighted, ignored, smoothing
):
    x = draw((batch, classes, *inner), seed, kinked, dtype, strided)
    random = torch.Generator().manual_seed(seed)
    target = torch.randint(0, classes, (batch, *inner), generator=random)
    target = torch.where(torch.rand(target.shape, generator=random) < 0.3, ignored, target)
    if ignored >= classes:
        target = target.clamp(0, classes - 1)
    weight = draw((classes,), seed + 2, dtype=dtype).abs() + 0.1 if weighted else None
    held = (weight,)
    agree("cross_entropy_loss.default", x, target, weight, reduction, ignored, smoothing, constants=held)
    x = x.contiguous()  # torch has no gradient through another
    agree("nll_loss_nd.default", x, target, weight, reduction, ignored, constants=held)
    if not inner:
        agree("nll_loss.default", x, target, weight, reduction, ignored, constants=held)
        agree("nll_loss_forward.default", x, target, weight, reduction, ignored, constants=held)
    if len(inner) == 2:
        agree("nll_loss2d_forward.default", x, target, weight, reduction, ignored, constants=held)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    batch=st.integers(0, 3), classes=st.integers(1, 4), inner=shapes(0, 2, side=3), seed=seeds, kinked=kinds,
    dtype=DTYPES, reduction=REDUCTIONS, weighted=st.booleans(), smoothing=st.sampled_from([0.0, 0.1]),
)  # fmt: skip
def test_class_probabilities(batch, classes, inner, seed, kinked, dtype, reduction, weighted, smoothing):
    shape = (batch, classes, *inner)
    x, target = draw(shape, seed, kinked, dtype), draw(shape, seed + 1, dtype=dtype).softmax(1)
    weight = draw((classes,), seed + 2, dtype=dtype).abs() if weighted else None
    agree("cross_entropy_loss.default", x, target, weight, reduction, -100, smoothing, constants=(weight,))


@pytest.mark.parametrize("reduction", [0, 1, 2])
def test_one_sample_without_a_batch(reduction):
    agree("cross_entropy_loss.default", draw((4,)), torch.tensor(2), None, reduction)
    agree("cross_entropy_loss.default", draw((4,)), draw((4,), 1).softmax(0), None, reduction, -100, 0.1)
    agree("nll_loss.default", draw((4,)), torch.tensor(2), None, reduction)


def test_a_masked_logit_counts_only_for_its_own_class():
    x = draw((3, 4), dtype=torch.float32)
    x[0, 1] = -torch.inf
    agree("cross_entropy_loss.default", x, torch.tensor([0, 1, 2]))


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    batch=st.integers(1, 4), seed=seeds, kinked=kinds, dtype=DTYPES, reduction=REDUCTIONS,
    margin=st.sampled_from([0.0, 0.5, 1.0]),
)  # fmt: skip
def test_pairs(batch, seed, kinked, dtype, reduction, margin):
    a, b = draw((batch, 3), seed, kinked, dtype), draw((batch, 3), seed + 1, kinked, dtype)
    target = torch.where(draw((batch,), seed + 2) > 0, 1, -1)
    zero = bool((a == 0).all(1).any() or (b == 0).all(1).any())  # 1e-12 under a root: ill-conditioned
    agree("cosine_embedding_loss.default", a, b, target, margin, reduction, gradients=not zero)
    agree("margin_ranking_loss.default", a[:, 0], b[:, 0], target, margin, reduction)
    for name in SIGNED:
        extra = (margin,) if name == "hinge_embedding_loss" else ()
        signs = target.to(dtype)
        agree(f"{name}.default", a[:, 0], signs, *extra, reduction, constants=(signs,))


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    shape=shapes(0, 3), seed=seeds, kinked=kinds, dtype=DTYPES, reduction=REDUCTIONS, log=st.booleans(),
    full=st.booleans(),
)  # fmt: skip
def test_poisson(shape, seed, kinked, dtype, reduction, log, full):
    x = draw(shape, seed, kinked, dtype)
    target = draw(shape, seed + 1, kinked, dtype).abs() * 2
    agree(
        "poisson_nll_loss.default",
        x if log else x.abs() + 0.1, target, log, full, 1e-8, reduction, constants=(target,),
    )  # fmt: skip
