"""Every mistake: what it is, where it is warned of or was seen, and what the right program returns."""

from __future__ import annotations

import numpy as np

from twinax.probes.mistakes.base import (
    BUFFER,
    COLUMN,
    FINE,
    IMAGE,
    KEEP,
    LABELS,
    LOGITS,
    PIXELS,
    STEPS,
    TARGETS,
    TOKENS,
    WEIGHTS,
    Case,
    X,
)
from twinax.probes.mistakes.citations import (
    AUTOGRAD,
    BENCHMARKS,
    DONATION,
    ERRORS,
    FAQ,
    FLAGS,
    SHARP,
    TORCH_FAQ,
    ZEROING,
    thread,
)
from twinax.twin import Array

W = WEIGHTS.astype(float)


def softmax(x: Array, axis: int) -> Array:
    powers = np.exp(x.astype(float) - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def cross_entropies(logits: Array, labels: Array) -> Array:
    """One for each row."""
    return -np.log(softmax(logits, 1)[np.arange(len(labels)), labels])


def iterated(steps: int) -> Array:
    """What the program that is compiled at every step computes."""
    x = X.astype(float)
    for _ in range(steps):
        x = 2 * np.tanh(x) + np.sin(x)
    return x


def attended() -> Array:
    """Self-attention of ``TOKENS`` with the keys that are not kept left out."""
    q = TOKENS[0].astype(float).transpose(1, 0, 2)
    scores = np.where(KEEP, q @ q.transpose(0, 2, 1) / np.sqrt(q.shape[-1]), -np.inf)
    return (softmax(scores, -1) @ q).transpose(1, 0, 2)[None]


def windows() -> Array:
    """Sums over all channels of every 2 × 2 window of ``IMAGE``: (2, 1, 3, 4)."""
    sums = IMAGE.astype(float).sum(-1)
    return (sums[:, :-1, :-1] + sums[:, 1:, :-1] + sums[:, :-1, 1:] + sums[:, 1:, 1:])[:, None]


PROBABILITIES = 1 / (1 + np.exp(-LOGITS[:, 0].astype(float)))
COLUMN_LOSS = ((COLUMN[:, 0] - X) ** 2).mean()

TRAINING = (
    Case("forgotten zero_grad", "gradients of several steps add up", ZEROING, W * 0.8**3),
    Case(
        "forgotten eval",
        "dropout stays active when the model is used",
        thread(
            "pytorch/tutorials",
            1624,
            "[quickstart_tutorial] why model.eval() in not turn off at training stage",
        ),
        X,
    ),
    Case(
        "forgotten detach",
        "a target that should be a constant is differentiated too",
        thread("philtabor/Deep-Q-Learning-Paper-To-Code", 9, "Detach target nexwork in DQN"),
        2 * (W - 0.9 * W[::-1]),
    ),
    Case(
        "history kept in a running total",
        "losses are added up with their graphs, which stay in memory",
        TORCH_FAQ,
        np.asarray(0),
    ),
    Case(
        "softmax twice",
        "probabilities given to a loss that applies the softmax itself",
        thread(
            "Lightning-Universe/lightning-bolts",
            654,
            "Softmax applied twice when computing loss in LogisticRegression",
        ),
        cross_entropies(LOGITS, LABELS).mean(),
    ),
    Case(
        "probabilities' loss on logits",
        "logits given to a loss that expects probabilities",
        thread(
            "pytorch/pytorch",
            99151,
            "torch.nn.functional.binary_cross_entropy … documentation wrong on description about target",
        ),
        -np.where(TARGETS == 1, np.log(PROBABILITIES), np.log(1 - PROBABILITIES)).mean(),
    ),
    Case(
        "wrong reduction",
        "the sum over the batch where the learning rate is meant for the mean",
        thread("jax-ml/jax", 3113, "Correct notebooks for neural networks in docs"),
        (softmax(LOGITS, 1) - np.eye(3)[LABELS]) / 2,
    ),
    Case("the same random numbers twice", "a key used again, a generator seeded again", SHARP, np.asarray(0)),
    Case(
        "in-place step on a parameter",
        "a parameter is changed in place where that is not allowed",
        SHARP,
        0.8 * W,
    ),
    Case(
        "in-place on what backward needs",
        "a value that the gradient is computed from is overwritten",
        AUTOGRAD,
        2 * np.exp(W),
    ),
    Case(
        "the optimiser steps something else",
        "parameters replaced after the optimiser was made, or stepped ones not kept",
        thread(
            "pytorch/pytorch",
            54765,
            "I wonder if I need to reset optimizer function when network structure is changed?",
        ),
        0.8 * W,
    ),
    Case(
        "layers in a plain list",
        "the model does not know the parameters of layers in a Python list",
        thread(
            "pytorch/pytorch", 715, "Module: parameters are not included if the module is initialized in a list"
        ),
        np.asarray(12),
    ),
    Case(
        "the same graph used twice",
        "two gradients through one forward pass",
        thread("davda54/sam", 45, "RuntimeError: Trying to backward through the graph a second time, …"),
        4 * W,
    ),
    Case(
        "gradient of a vector",
        "losses that were not reduced to one number are differentiated",
        thread("Animadversio/GAN-Geometry", 4, "When I use GANForwardHVPOperator, I find some errors reported"),
        2 * W,
    ),
    Case(
        "schedule stepped before the optimiser",
        "the first learning rate is skipped",
        thread("zju3dv/NeuralRecon", 51, "Detected call of `lr_scheduler.step()` before `optimizer.step()`."),
        0.8 * W,
    ),
    Case(
        "best weights kept without a copy",
        "they go on changing with the model",
        thread(
            "pytorch/pytorch", 34765, "Add ability to return a copy to Module's state_dict member function."
        ),
        W,
    ),
)

NUMBERS = (
    Case(
        "integer input",
        "whole numbers written without a point meet floating-point weights",
        thread("BindsNET/bindsnet", 201, "Expected object of scalar type Long but got scalar type Float"),
        X @ W,
    ),
    Case(
        "gradient by an integer",
        "the input to differentiate by is an integer",
        thread("jax-ml/jax", 2663, "jax.numpy.tanh(2) works but jax.grad(tanh)(2) fails"),
        2 * X,
    ),
    Case(
        "log of zero",
        "0 × log 0 in an entropy",
        FLAGS,
        np.asarray(-(0.25 * np.log(0.25) + 0.75 * np.log(0.75))),
    ),
    Case(
        "where after the log",
        "where hides an infinite value but not its gradient",
        FAQ,
        np.asarray([0.0, 1.0, 0.25]),
    ),
    Case(
        "square root of zero",
        "the gradient of a norm at zero",
        thread("jax-ml/jax", 3058, "NaN in gradient of `np.linalg.norm` at 0"),
        np.zeros(3),
    ),
    Case("float64 cut", "float64 data loses digits on its way in", SHARP, FINE - 1),
    Case("float64 asked for by name", "float64 is asked for where it is switched off", SHARP, FINE - 1),
    Case(
        "float64 data meets float32 weights",
        "NumPy's default type meets the framework's",
        thread("pytorch/pytorch", 15436, "Type Conversions"),
        X @ W,
    ),
    Case(
        "integer overflow",
        "a sum beyond 2³¹ − 1 in 32 bits",
        thread(
            "jax-ml/jax",
            39273,
            "Raise OverflowError instead of silently truncating 64-bit NumPy integer inputs …",
        ),
        np.asarray(2**31),
    ),
    Case(
        "bytes subtracted",
        "a difference of images in uint8 wraps around",
        thread("pytorch/pytorch", 110854, "torch.square outputs incorrect result on an uint8 tensor"),
        PIXELS[0].astype(int) - PIXELS[1],
    ),
    Case(
        "overflow in half precision",
        "squares beyond 65,504 in float16",
        thread("facebookresearch/fairscale", 263, "Resolve issue where grad norms because inf with OSS / fp16"),
        np.asarray(300.0),
    ),
    Case(
        "a fraction written into integers",
        "0.75 assigned to an element of an integer array",
        thread("jax-ml/jax", 10924, "[x64] deprecate unsafe type casting in scatter-update operations"),
        np.asarray([0.75, 0, 0]),
    ),
)

SHAPES = (
    Case(
        "(N, 1) against (N,) in the library's loss",
        "a column and a row broadcast to a square",
        thread(
            "pytorch/pytorch",
            16045,
            "Bug: fail to throw error when computing loss between tensors with shapes [n, 1] and [n]",
        ),
        COLUMN_LOSS,
    ),
    Case(
        "(N, 1) against (N,) by hand",
        "the same in a loss written out",
        thread("pytorch/pytorch", 19699, "Different loss value based on shape"),
        COLUMN_LOSS,
    ),
    Case(
        "layout swapped",
        "images with channels last given to a convolution with channels first",
        thread(
            "LeeJunHyun/Image_Segmentation",
            29,
            "RuntimeError: … expected input[1, 512, 512, 3] to have 3 channels, …",
        ),
        windows(),
    ),
    Case(
        "reshape instead of transpose",
        "the shape comes out right, the values do not",
        thread(
            "zhouhaoyi/Informer2020",
            59,
            "In oder to change the order of dimensions, why is torch.tensor.view used??",
        ),
        IMAGE.transpose(0, 3, 1, 2),
    ),
    Case(
        "softmax over another axis",
        "the default axis is not that of the classes",
        thread(
            "linnaeushuang/pensieve-pytorch",
            4,
            "UserWarning: Implicit dimension choice for softmax has been deprecated.",
        ),
        np.repeat(softmax(LOGITS, 1)[:, :, None], 2, axis=2),
    ),
    Case(
        "batch flattened too",
        "reshape(-1) where the batch should stay",
        thread(
            "wqshmzh/CANet-CZSL",
            7,
            "RuntimeError: mat1 and mat2 shapes cannot be multiplied (1048576x1 and 512x512)",
        ),
        IMAGE.reshape(2, -1).sum(1, keepdims=True),
    ),
    Case("index out of bounds", "one past the end", SHARP, X[1]),
    Case(
        "label out of range",
        "a label that is not a class",
        thread(
            "google-deepmind/optax",
            1185,
            "Throw error for softmax_cross_entropy_with_integer_labels when sizes aren't correct",
        ),
        cross_entropies(LOGITS, LABELS).mean(),
    ),
    Case(
        "padding counted in the loss",
        "a label for padding that the loss does not know",
        thread("pytorch/pytorch", 108345, "Cross Entropy doesn't work with the specific batch, …"),
        cross_entropies(LOGITS, LABELS)[0],
    ),
    Case(
        "attention mask inverted",
        "True means keep in one function and leave out in another",
        thread(
            "rasbt/LLMs-from-scratch", 1061, "Bug in Ch03 … scaled dot product attention without FlashAttention"
        ),
        attended(),
    ),
    Case(
        "sizes that do not fit",
        "a product of matrices whose inner sizes differ",
        thread("pytorch/pytorch", 139037, "RuntimeError: mat1 and mat2 shapes cannot be multiplied"),
        np.repeat(IMAGE.sum((0, 1))[:, :].sum(1, keepdims=True), 2, axis=1),
    ),
)

COMPILING = (
    Case("Python if on a traced value", "a branch on data in a compiled function", ERRORS, 2 * X),
    Case(
        "side effect in a compiled function", "something is appended to a list outside", SHARP, np.ones(STEPS)
    ),
    Case(
        "traced value kept outside",
        "a value of a compiled function is used after it returned",
        ERRORS,
        X.mean() + 1,
    ),
    Case(
        "closure over what changes later",
        "a compiled function reads a setting that is changed afterwards",
        FAQ,
        0.1 * X.astype(float),
    ),
    Case("donated buffer used again", "an array is used after it was given away", DONATION, 2 * X + 1),
    Case(
        "compiled anew at every step",
        "a new function, or a changed constant, at every step",
        thread("jax-ml/jax", 9288, "unjitted_loop_body is not constantly re-compiled in the JIT tutorial"),
        iterated(STEPS),
        1e-4,
    ),
    Case("shape from data", "a boolean mask in a compiled function", ERRORS, np.asarray(5.0)),
    Case("a list as a static setting", "a setting that cannot be hashed", FAQ, 2 * X),
    Case(
        "NumPy inside a compiled function",
        "a NumPy function is applied to a traced value",
        ERRORS,
        np.sin(X.astype(float)),
    ),
    Case(
        "NumPy's random numbers inside",
        "they are drawn once, when the function is compiled",
        thread("jcmgray/autoray", 27, "JAX tracing out the random global key"),
        np.asarray(0),
    ),
    Case("timing without waiting", "the clock is read before the work is done", BENCHMARKS, np.asarray(True)),
)

DATA = (
    Case("workers with the same seed", "every worker process draws the same numbers", TORCH_FAQ, np.asarray(4)),
    Case(
        "NumPy array changed afterwards",
        "a buffer is used again while an array shares its memory",
        thread("jax-ml/jax", 37830, "`jax.device_put` silently aliases writeable numpy buffers"),
        BUFFER,
    ),
    Case(
        "a function that changes its argument",
        "x -= … in a function changes the caller's array",
        thread(
            "huggingface/transformers",
            47741,
            "Several models modify caller-provided tensors in place during forward",
        ),
        X,
    ),
)

CASES = (*TRAINING, *NUMBERS, *SHAPES, *COMPILING, *DATA)
