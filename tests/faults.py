"""Faults that ports really have, each with the place where twinax must find it.

A fault is an edit of the JAX side's own source (the text must be there, or the table is out of date), or
a runner that tampers with what it returns.
"""

import importlib.util
import sys
import types
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Fault:
    """What is wrong, and what must be said of it.

    Attributes:
        twin: The zoo's twin that is broken.
        edits: (old, new) text of the JAX side's source, in order.
        tamper: ``runner -> runner``, instead of edits.
        check: Beginning of the name of a check that must fail.
        at: Where the first difference must be; a prefix of its path.
        mode: Detail of the first difference must hold this; empty for any.
    """

    name: str
    twin: str
    check: str
    at: str
    edits: tuple[tuple[str, str], ...] = ()
    tamper: object = None
    mode: str = ""


def edited(twin, edits):
    """The twin with its JAX side's source changed."""
    path = Path(importlib.util.find_spec(twin.sides["jax"]).origin)
    text = path.read_text()
    for old, new in edits:
        assert old in text, f"{path.name} no longer holds {old!r}: renew the fault"
        text = text.replace(old, new)

    def load(twin, side):
        if side == "torch":
            return importlib.import_module(twin.sides["torch"])
        module = types.ModuleType("edited_jax_side")
        sys.modules[module.__name__] = module  # dataclasses look their module up
        exec(compile(text, str(path), "exec"), module.__dict__)
        return module

    return replace(twin, loader=load)


def after(change):
    """A tamper that changes what ``evaluate`` returns."""

    def wrap(runner):
        original = runner.evaluate

        def evaluate(batch, **given):
            result = original(batch, **given)
            change(result, given)
            return result

        runner.evaluate = evaluate
        return runner

    return wrap


def before(change):
    """A tamper that changes the batch before the side sees it."""

    def wrap(runner):
        original = runner.evaluate
        runner.evaluate = lambda batch, **given: original(change(dict(batch)), **given)
        return runner

    return wrap


def with_optimizer(**changes):
    """A tamper under which the side steps by another rule than it was told."""

    def wrap(runner):
        original = runner.load

        def load(weights, optimizer=None, state=None):
            original(weights, optimizer and replace(optimizer, **_numbers(optimizer, changes)), state)

        runner.load = load
        return runner

    return wrap


def _numbers(optimizer, changes):
    wanted = changes.get(optimizer.name, {})
    return {name: value(getattr(optimizer, name)) for name, value in wanted.items()}


def _set(group, name, value):
    def change(result, given):
        arrays = dict(getattr(result, group))
        if name in arrays:
            arrays[name] = value(np.array(arrays[name]))
        setattr(result, group, arrays)

    return change


def _nan(array):
    array.flat[0] = np.nan
    return array


def _shuffled(batch):
    return {**batch, "labels": batch["labels"][::-1].copy()}


_LAYER = "bert.encoder.layer.0"

FAULTS = (
    # --- a transformer -----------------------------------------------------------------------------
    Fault(
        "tanh GELU for erf GELU",
        "bert",
        "outputs, eval",
        f"{_LAYER}.intermediate",
        (("approximate=False", "approximate=True"),),
    ),
    Fault(
        "wrong eps in LayerNorm",
        "bert",
        "outputs, eval",
        "bert.embeddings.LayerNorm",
        (("epsilon=config.layer_norm_eps", "epsilon=1e-6"),),
    ),
    Fault(
        "scores not scaled",
        "bert",
        "outputs, eval",
        f"{_LAYER}.attention.self",
        ((" * (hidden // self.heads) ** -0.5", ""),),
    ),
    Fault(
        "scores scaled by the width, not by the head",
        "bert",
        "outputs, eval",
        f"{_LAYER}.attention.self",
        (("(hidden // self.heads) ** -0.5", "hidden ** -0.5"),),
    ),
    Fault(
        "padding not masked",
        "bert",
        "outputs, eval",
        f"{_LAYER}.attention.self",
        (("padding * jnp.finfo(x.dtype).min", "padding * 0.0"),),
    ),
    Fault(
        "padding masked too softly",
        "bert",
        "outputs, eval",
        f"{_LAYER}.attention.self",
        (("padding * jnp.finfo(x.dtype).min", "padding * -10.0"),),
    ),
    Fault(
        "heads split along the wrong axis",
        "bert",
        "outputs, eval",
        f"{_LAYER}.attention.self",
        (
            (
                "split = (batch, sequence, self.heads, hidden // self.heads)",
                "split = (batch, sequence, hidden // self.heads, self.heads)",
            ),
            (".reshape(split).swapaxes(1, 2)", ".reshape(split).transpose(0, 3, 1, 2)"),
        ),
    ),
    Fault(
        "softmax over the queries",
        "bert",
        "outputs, eval",
        f"{_LAYER}.attention.self",
        (("scores + mask, axis=-1", "scores + mask, axis=-2"),),
    ),
    Fault(
        "segment embeddings forgotten",
        "bert",
        "outputs, eval",
        "bert.embeddings.LayerNorm",
        (
            (
                " + self.token_type_embeddings(token_type_ids)",
                " + 0 * self.token_type_embeddings(token_type_ids)",
            ),
        ),
    ),
    Fault(
        "positions off by one",
        "bert",
        "outputs, eval",
        "bert.embeddings.position_embeddings",
        (("jnp.arange(input_ids.shape[1])", "jnp.arange(input_ids.shape[1]) + 1"),),
    ),
    Fault(
        "residual connection forgotten",
        "bert",
        "outputs, eval",
        f"{_LAYER}.output.LayerNorm",
        (
            (
                "x = self.attention(x, mask)\n        return self.output(self.intermediate(x), x)",
                "x = self.attention(x, mask)\n        return self.output(self.intermediate(x), 0 * x)",
            ),
        ),
    ),
    Fault(
        "pooler without tanh",
        "bert",
        "outputs, eval",
        "bert.pooler",
        (("jnp.tanh(self.dense(x[:, 0]))", "self.dense(x[:, 0])"),),
    ),
    Fault(
        "last token pooled instead of the first",
        "bert",
        "outputs, eval",
        "bert.pooler.dense",
        (("self.dense(x[:, 0])", "self.dense(x[:, -1])"),),
    ),
    Fault(
        "attention dropout forgotten",
        "bert",
        "dropout",
        f"{_LAYER}.attention.self",
        (("self.dropout(jax.nn.softmax(scores + mask, axis=-1))", "jax.nn.softmax(scores + mask, axis=-1)"),),
        mode="train",
    ),
    Fault(
        "wrong dropout rate",
        "bert",
        "dropout",
        f"{_LAYER}.attention.self",
        (("nnx.Dropout(config.attention_probs_dropout_prob", "nnx.Dropout(0.2"),),
        mode="train",
    ),
    Fault(
        "loss summed instead of averaged",
        "bert",
        "loss, eval",
        "",
        (("[:, None], axis=1).mean()", "[:, None], axis=1).sum()"),),
    ),
    Fault(
        "gradient cut off at the embeddings",
        "bert",
        "gradients, eval",
        "bert.embeddings",
        (
            (
                "x = self.embeddings(input_ids, token_type_ids)",
                "x = jax.lax.stop_gradient(self.embeddings(input_ids, token_type_ids))",
            ),
        ),
    ),
    Fault(
        "computed in float32 inside",
        "bert",
        "outputs, eval",
        "bert.pooler",
        (
            (
                "jnp.tanh(self.dense(x[:, 0]))",
                "jnp.tanh(self.dense(x[:, 0]).astype(jnp.float32)).astype(x.dtype)",
            ),
        ),
    ),
    # --- a convolutional network -------------------------------------------------------------------
    Fault("wrong eps in BatchNorm", "resnet50", "outputs, eval", "bn1", (("eps=1e-5", "eps=1e-3"),)),
    Fault(
        "wrong momentum in BatchNorm",
        "resnet50",
        "buffers, train",
        "bn1.running_mean",
        (("momentum=0.1", "momentum=0.01"),),
    ),
    Fault(
        "biased running variance",
        "resnet50",
        "buffers, train",
        "bn1.running_var",
        ((" * (count / (count - 1))", ""),),
    ),
    Fault(
        "running statistics lost",
        "resnet50",
        "buffers, train",
        "bn1.running_mean",
        (("running[...] = moved.astype(old.dtype)", "running[...] = old"),),
    ),
    Fault(
        "batch statistics in eval mode",
        "resnet50",
        "outputs, eval",
        "bn1",
        (("if self.use_running_average:", "if False:"),),
    ),
    Fault(
        "stride in the first 1×1 (v1 for v1.5)",
        "resnet50",
        "outputs, eval",
        "layer2.0.conv1",
        (
            ("self.conv1 = conv(channels, width, 1)", "self.conv1 = conv(channels, width, 1, stride=stride)"),
            ("conv(width, width, 3, stride=stride, padding=1)", "conv(width, width, 3, padding=1)"),
        ),
    ),
    Fault(
        "SAME padding, which is uneven at stride 2",
        "resnet50",
        "outputs, eval",
        "conv1",
        (("padding=((padding, padding), (padding, padding))", 'padding="SAME"'),),
    ),
    Fault(
        "ReLU forgotten after the addition",
        "resnet50",
        "outputs, eval",
        "layer1.0",
        (("return jax.nn.relu(y + x)", "return y + x"),),
    ),
    Fault(
        "mean over one image axis only",
        "resnet50",
        "outputs, eval",
        "fc",
        (("x = x.mean(axis=(1, 2))", "x = x.mean(axis=1)[:, 0]"),),
        mode="",
    ),
    # --- numbers, optimizers, data -----------------------------------------------------------------
    Fault(
        "one gradient is NaN",
        "xor",
        "gradients, eval",
        "hidden.weight",
        tamper=after(_set("gradients", "hidden.weight", _nan)),
    ),
    Fault(
        "one gradient dropped",
        "xor",
        "gradients, eval",
        "output.bias",
        tamper=after(_set("gradients", "output.bias", np.zeros_like)),
    ),
    Fault(
        "one gradient wrong by a millionth",
        "xor",
        "gradients, eval",
        "hidden.bias",
        tamper=after(_set("gradients", "hidden.bias", lambda g: g * (1 + 1e-6))),
    ),
    Fault(
        "learning rate × 1.01",
        "xor",
        "weights, 3 steps of sgd",
        "",
        tamper=with_optimizer(sgd={"learning_rate": lambda x: x * 1.01}),
    ),
    Fault(
        "momentum 0.89 for 0.9",
        "xor",
        "optimizer, 3 steps of sgd",
        "",
        tamper=with_optimizer(sgd={"momentum": lambda x: x - 0.01}),
    ),
    Fault(
        "weight decay forgotten",
        "xor",
        "weights, 3 steps of adamw",
        "",
        tamper=with_optimizer(adamw={"weight_decay": lambda x: 0.0}),
    ),
    Fault(
        "wrong eps in AdamW",
        "xor",
        "weights, 3 steps of adamw",
        "",
        tamper=with_optimizer(adamw={"eps": lambda x: 1e-6}),
    ),
    Fault("labels in another order", "bert", "loss, 3 steps", "", tamper=before(_shuffled)),
)
