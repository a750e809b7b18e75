"""Rules that carry weights from torch to JAX and back: one per layer type, as data.

The map between two models follows from their structure: the same module paths on both sides, and
for each layer type the names and layouts that its parameters have. Every name is used exactly once,
and the way back returns the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from twinax.errors import WeightsError
from twinax.twin import Array

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Leaf:
    """One parameter of a layer type: what torch calls it, and whether its axes are moved.

    ``moved``: torch's (out, in, *spatial) becomes JAX's (*spatial, in, out); a matrix is transposed.
    """

    torch: str
    moved: bool = False


_KERNEL = {"kernel": Leaf("weight", moved=True), "bias": Leaf("bias")}
_NORM = {"scale": Leaf("weight"), "bias": Leaf("bias")}
_BATCH_NORM = {**_NORM, "mean": Leaf("running_mean"), "var": Leaf("running_var")}
_EMBED = {"embedding": Leaf("weight")}

LAYERS: Mapping[str, Mapping[str, Leaf]] = {
    "Linear": _KERNEL,
    "Dense": _KERNEL,
    "Conv": _KERNEL,
    "BatchNorm": _BATCH_NORM,
    "LayerNorm": _NORM,
    "GroupNorm": _NORM,
    "RMSNorm": _NORM,
    "Embed": _EMBED,
    "Embedding": _EMBED,
}
"""Layer type (JAX class name) → JAX parameter name → its torch counterpart."""

_ANY_LAYER: Mapping[str, Leaf] = {**_KERNEL, **_BATCH_NORM, **_EMBED}
"""For parameters whose layer type is unknown, as in a user's plain pytree: the name alone decides."""

TORCH_ONLY = "num_batches_tracked"
"""torch's count of BatchNorm batches; nothing on the JAX side reads it."""


@dataclass(frozen=True)
class Rule:
    """One weight's way from torch to JAX.

    Attributes:
        source: torch name.
        target: Dotted JAX path.
        axes: target = source.transpose(axes); None leaves the layout as it is.
        ones: Axes of length one that the target has after those of the source (equinox keeps the
            bias of a convolution as (out, 1, 1)).
    """

    source: str
    target: str
    axes: tuple[int, ...] | None
    ones: int = 0

    def forward(self, array: Array) -> Array:
        """torch layout → JAX layout (a view, where the array is NumPy's; JAX arrays may be traced)."""
        moved = array if self.axes is None else array.transpose(self.axes)
        return moved.reshape(moved.shape + (1,) * self.ones) if self.ones else moved

    def backward(self, array: Array) -> Array:
        """JAX layout → torch layout; returns the bits that :meth:`forward` was given."""
        moved = array.reshape(array.shape[: array.ndim - self.ones]) if self.ones else array
        return moved if self.axes is None else moved.transpose(tuple(np.argsort(self.axes).tolist()))


@dataclass(frozen=True)
class WeightMap:
    """All rules of one model, each name used exactly once.

    Attributes:
        rules: In the order of the JAX side.
        torch_only: torch names that have no counterpart by design; accepted and left out.
    """

    rules: tuple[Rule, ...]
    torch_only: tuple[str, ...] = ()

    @classmethod
    def derive(
        cls,
        source_shapes: Shapes,
        target_shapes: Shapes,
        layer_types: Mapping[str, str],
        rename: Mapping[str, str] | None = None,
    ) -> WeightMap:
        """Find the map from the structure of both sides.

        Args:
            source_shapes: Shape of each torch weight by name (``layer1.0.conv1.weight``).
            target_shapes: Shape of each JAX weight by dotted path (``layer1.0.conv1.kernel``).
            layer_types: JAX module path → class name (``layer1.0.conv1`` → ``Conv``; ``""`` is the
                root). Paths that are not listed, as in a plain pytree, go by the parameter's name. A
                name that says nothing (``w1``) keeps its layout, unless the shapes of the weights so
                named show that they are all transposed.
            rename: torch name or prefix → JAX path or prefix, where they differ. The longest wins.

        Raises:
            WeightsError: Lists every weight without a counterpart and every pair whose shapes differ.
        """
        torch_only = tuple(name for name in source_shapes if name.split(".")[-1] == TORCH_ONLY)
        renamed, clashes = _renamed((name for name in source_shapes if name not in torch_only), rename or {})
        pairs = {}
        for target in target_shapes:
            source = next((renamed[n] for n in _torch_names(target, layer_types) if n in renamed), None)
            if source is not None:
                pairs[target] = source
        rules = _with_layouts(pairs, source_shapes, target_shapes, layer_types)
        used = [rule.source for rule in rules]
        _require_complete(
            unexpected=[n for n in renamed.values() if n not in set(used)] + clashes,
            missing=[t for t in target_shapes if t not in pairs],
            doubled=sorted({n for n in used if used.count(n) > 1}) if len(set(used)) < len(used) else [],
            misshaped=[r for r in rules if _target_shape(r, source_shapes) != tuple(target_shapes[r.target])],
            source_shapes=source_shapes,
            target_shapes=target_shapes,
        )
        return cls(tuple(rules), torch_only)

    @property
    def sources(self) -> list[str]:
        """torch names, in the order of the rules."""
        return [rule.source for rule in self.rules]

    def sources_of(self, targets: Iterable[str]) -> list[str]:
        """torch names of those JAX paths that have a rule."""
        wanted = set(targets)
        return [rule.source for rule in self.rules if rule.target in wanted]

    @property
    def targets(self) -> list[str]:
        """JAX paths, in the order of the rules."""
        return [rule.target for rule in self.rules]

    def to_jax(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Weights, or any named like them (gradients, momenta), by JAX path and in JAX layout.

        Any subset will do; ``torch_only`` names are left out.

        Raises:
            WeightsError: A name has no rule.
        """
        by_source = {rule.source: rule for rule in self.rules}
        wanted = [name for name in arrays if name not in self.torch_only]
        _require_known(wanted, by_source, "torch")
        return {by_source[name].target: by_source[name].forward(arrays[name]) for name in wanted}

    def to_torch(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """The way back of :meth:`to_jax`: torch names, torch layout, the same bits.

        Raises:
            WeightsError: A path has no rule.
        """
        by_target = {rule.target: rule for rule in self.rules}
        _require_known(arrays, by_target, "JAX")
        return {by_target[path].source: by_target[path].backward(array) for path, array in arrays.items()}


def _split(path: str) -> tuple[str, str]:
    """``layer1.0.conv1.kernel`` → (``layer1.0.conv1``, ``kernel``)."""
    module, _, leaf = path.rpartition(".")
    return module, leaf


def _join(prefix: str, rest: str) -> str:
    return ".".join(part for part in (prefix, rest) if part)


def _renamed(names: Iterable[str], rename: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """{name after renaming: torch name}, and the names that would take a place that is taken."""
    found: dict[str, str] = {}
    clashes = []
    for name in names:
        fitting = [old for old in rename if not old or name == old or name.startswith(old + ".")]
        new = name
        if fitting:
            old = max(fitting, key=len)
            new = _join(rename[old], name[len(old) :].lstrip("."))
        if new in found:
            clashes.append(name)
        found.setdefault(new, name)
    return found, clashes


def _leaf_rule(target: str, layer_types: Mapping[str, str]) -> Leaf | None:
    """What the layer type, where it has rules, says of the parameter."""
    module, leaf = _split(target)
    return LAYERS.get(layer_types.get(module, ""), {}).get(leaf)


def _torch_names(target: str, layer_types: Mapping[str, str]) -> list[str]:
    """Names under which torch may hold the parameter, the likeliest first."""
    module, leaf = _split(target)
    known = _leaf_rule(target, layer_types)
    if known is not None:
        return [_join(module, known.torch), target]
    usual = _ANY_LAYER.get(leaf)
    return [target] if usual is None else [target, _join(module, usual.torch)]


def _kernel_axes(rank: int) -> tuple[int, ...]:
    """(out, in, *spatial) → (*spatial, in, out)."""
    return (*range(2, rank), 1, 0)


def _with_layouts(
    pairs: Mapping[str, str], source_shapes: Shapes, target_shapes: Shapes, layer_types: Mapping[str, str]
) -> list[Rule]:
    transposed = _transposed_stems(pairs, source_shapes, target_shapes, layer_types)
    rules = []
    for target, source in pairs.items():
        shape = tuple(source_shapes[source])
        leaf = _split(target)[1]
        known = _leaf_rule(target, layer_types)
        if known is None and leaf != _split(source)[1]:
            known = _ANY_LAYER.get(leaf)
        moved = known.moved if known is not None else _stem(target) in transposed
        axes = _kernel_axes(len(shape)) if moved and len(shape) >= 2 else None
        extra = len(target_shapes[target]) - len(shape)
        ones = extra if leaf == "bias" and extra > 0 and len(shape) == 1 else 0
        rules.append(Rule(source, target, axes, ones))
    return rules


def _stem(target: str) -> str:
    """``layers.0.w1`` → ``w``: weights of one stem are laid out alike."""
    return _split(target)[1].rstrip("0123456789_")


def _transposed_stems(
    pairs: Mapping[str, str], source_shapes: Shapes, target_shapes: Shapes, layer_types: Mapping[str, str]
) -> set[str]:
    """Stems without a rule of which one weight fits only when moved, and none only when left alone."""
    only_moved, only_kept = set(), set()
    for target, source in pairs.items():
        kept, wanted = tuple(source_shapes[source]), tuple(target_shapes[target])
        if _leaf_rule(target, layer_types) is not None or len(kept) < 2:
            continue
        moved = tuple(kept[axis] for axis in _kernel_axes(len(kept)))
        if moved == wanted != kept:
            only_moved.add(_stem(target))
        elif kept == wanted != moved:
            only_kept.add(_stem(target))
    return only_moved - only_kept


def _target_shape(rule: Rule, source_shapes: Shapes) -> tuple[int, ...]:
    shape = tuple(source_shapes[rule.source])
    moved = shape if rule.axes is None else tuple(shape[axis] for axis in rule.axes)
    return moved + (1,) * rule.ones


def _require_known(names: Iterable[str], known: Mapping[str, Rule], side: str) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise WeightsError(
            f"{len(unknown)} names are no {side} weights of this model: {', '.join(unknown)}.",
            f"Its {side} weights are {', '.join(list(known)[:5])}, …",
        )


def _require_complete(
    *,
    unexpected: list[str],
    missing: list[str],
    doubled: list[str],
    misshaped: list[Rule],
    source_shapes: Shapes,
    target_shapes: Shapes,
) -> None:
    lines = [f"  only in torch: {n} {tuple(source_shapes[n])}" for n in unexpected]
    lines += [f"  only in JAX: {n} {tuple(target_shapes[n])}" for n in missing]
    lines += [f"  used twice: {n} {tuple(source_shapes[n])}" for n in doubled]
    lines += [
        f"  shapes differ: torch {r.source} {tuple(source_shapes[r.source])}, which becomes "
        f"{_target_shape(r, source_shapes)}; JAX {r.target} {tuple(target_shapes[r.target])}"
        for r in misshaped
    ]
    if lines:
        raise WeightsError(
            f"The weights of the two sides do not correspond ({len(lines)} faults):\n" + "\n".join(lines),
            "Give the sides the same module names, or map torch names or prefixes to JAX paths (`rename`).",
        )
