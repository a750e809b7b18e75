"""Which modules are the same class, and what their constructors must be told.

Modules are compared by their canonical form (``code``), their parameters and the classes of their children,
innermost first. Numbers that differ between modules of one class become the constructor's parameters, named
after the torch module's own attributes where one has that value in every instance.
"""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from twinax.errors import CannotPort
from twinax.port.torch_to_jax import table
from twinax.port.torch_to_jax.capture import first_names
from twinax.port.torch_to_jax.code import Code, Form, Hole, Invoke, Op, code_of
from twinax.port.torch_to_jax.phrases import draws
from twinax.port.torch_to_jax.program import DROPOUTS, MODES, Program
from twinax.port.torch_to_jax.reading import COUNTER
from twinax.port.torch_to_jax.tree import Call, Modules, build, misplaced

LISTS = (nn.Sequential, nn.ModuleList)
PARAMETERS = (nn.ParameterList, nn.ParameterDict)
CONTAINERS = (*LISTS, nn.ModuleDict, *PARAMETERS)
DROPPED_AXES = {"Dropout": (), "Dropout1d": (2,), "Dropout2d": (2, 3), "Dropout3d": (2, 3, 4)}
"""Axes along which a dropout layer keeps or drops everything at once."""


RESERVED = ("Array", "Buffer", "Path", *table.LIBRARIES)
OF_FLAX = (
    "train", "eval", "sow", "perturb", "set_attributes", "iter_modules", "iter_children", "set_mode",
    "deterministic", "use_running_average", "rngs",
)  # fmt: skip
SMALL = 4
"""A number of code that is larger and also the size of a parameter is taken to be that size."""


@dataclass(frozen=True)
class Tensor:
    """A parameter or buffer that a module holds itself."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: str  # "parameter", "buffer", or "statistic" (a buffer that the model updates)


@dataclass
class Instance:
    """One module of the model.

    Attributes:
        path: Its torch name.
        module: Itself.
        tensors: What it holds.
        children: Path below it → the instance there; through containers. None where nothing is needed.
        code: By mode; one for both where only dropout differs; none where it is never called.
        holes: Every number of its source: of shapes, of its children's constructors, of its code.
        made: Its class.
        arguments: What its constructor is called with.
        given: Names of ``forward``'s parameters that are given tensors.
        inputs: Of the whole model: names of its inputs.
    """

    path: str
    module: nn.Module
    tensors: tuple[Tensor, ...]
    children: dict[str, Instance | Dropout] = field(default_factory=dict)
    code: dict[str, Code] = field(default_factory=dict)
    holes: list[Any] = field(default_factory=list)
    made: Class | None = None
    arguments: list[Any] = field(default_factory=list)
    given: tuple[str, ...] = ()
    inputs: list[str] = field(default_factory=list)
    guards: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Dropout:
    """A dropout layer: flax's own is used."""

    rate: float
    axes: tuple[int, ...]


@dataclass
class Class:
    """One class of the ported source.

    Attributes:
        name: Of the class.
        instances: Every module that it stands for; the first is the one that is written.
        columns: Of each hole, the constructor parameter that fills it, or "" where it is the same in all.
        parameters: Constructor parameter → type.
        random: Whether it draws at random, itself or below: its constructor takes ``rngs``.
    """

    name: str
    instances: list[Instance]
    columns: list[str] = field(default_factory=list)
    parameters: dict[str, str] = field(default_factory=dict)
    random: bool = False

    @property
    def first(self) -> Instance:
        """The instance that stands for all."""
        return self.instances[0]


def classes(module: nn.Module, programs: dict[str, Program]) -> tuple[list[Class], Instance]:
    """Every class, each after those that it uses, and the instance that is the whole model."""
    instances = _instances(module, programs)
    made: list[Class] = []
    for level in _by_height(instances[""], instances):
        groups: dict[Any, list[Instance]] = {}
        for instance in level:
            groups.setdefault(_key(instance), []).append(instance)
        for group in groups.values():
            made.append(_made(group))
    _name(made)
    return made, instances[""]


# --- instances --------------------------------------------------------------------------------------


def _instances(module: nn.Module, programs: dict[str, Program]) -> dict[str, Instance]:
    _check_names(module)
    modules = _modules(module)
    updated = {name for program in programs.values() for name in program.updates}
    codes = _codes(programs, modules)
    called, first = set(codes), first_names(module)
    found: dict[str, Instance] = {}
    for path, one in module.named_modules():
        if path in modules.containers or type(one).__name__ in DROPPED_AXES:
            continue
        holds = path in modules.stateful or any(type(m).__name__ in DROPPED_AXES for m in one.modules())
        if path == "" or holds or path in called:
            tensors = tuple(_tensors(one, path, updated, first))
            given = next((p.given[path] for p in programs.values() if path in p.given), ())
            found[path] = Instance(path, one, tensors, code=codes.get(path, {}), given=given)
    for path, instance in found.items():
        instance.children = dict(_children(instance.module, path, "", found, modules))
    return found


def _check_names(module: nn.Module) -> None:
    """Refuse attributes that a Flax module has for itself."""
    clashes = [
        f"{path}.{name}".strip(".")
        for path, one in module.named_modules()
        for name in (*one._modules, *one._parameters, *one._buffers)
        if name in OF_FLAX
    ]
    if clashes:
        raise CannotPort(
            f"A Flax module has an attribute of its own where this model has {', '.join(clashes)}.",
            "Rename it: the port keeps PyTorch's names.",
        )


def _modules(module: nn.Module) -> Modules:
    first_of = {id(m): path for path, m in module.named_modules()}
    every = dict(module.named_modules(remove_duplicate=False))
    return Modules(
        first={path: first_of[id(m)] for path, m in every.items()},
        stateful=frozenset(p for p, m in every.items() if any(True for _ in _state(m))),
        containers=frozenset(p for p, m in every.items() if type(m) in CONTAINERS and p),
    )


def _state(module: nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _tensors(module: nn.Module, path: str, updated: set[str], first: Mapping[str, str]) -> Iterator[Tensor]:
    """The module's own parameters and persistent buffers, tied ones under their first name only.

    The counters of BatchNorm are left out where nothing reads them.
    """
    prefix = f"{path}." if path else ""
    for name, parameter in module._parameters.items():
        if parameter is not None and first[prefix + name] == prefix + name:
            yield Tensor(name, tuple(parameter.shape), _dtype(parameter), "parameter")
    for name, buffer in module._buffers.items():
        if (
            buffer is None
            or name in module._non_persistent_buffers_set
            or first[prefix + name] != prefix + name
        ):
            continue
        if name == COUNTER and prefix + name not in updated:
            continue
        kind = "statistic" if prefix + name in updated else "buffer"
        yield Tensor(name, tuple(buffer.shape), _dtype(buffer), kind)
    for name, child in module._modules.items():
        if isinstance(child, PARAMETERS):  # a list of the module's own
            for inner in _tensors(child, prefix + name, updated, first):
                yield replace(inner, name=f"{name}.{inner.name}")


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _children(
    module: nn.Module, path: str, below: str, found: dict[str, Instance], modules: Modules
) -> Iterator[tuple[str, Instance | Dropout]]:
    for name, child in module._modules.items():
        if child is None:
            continue
        relative = f"{below}{name}"
        full = f"{path}.{relative}" if path else relative
        if modules.first.get(full, full) != full:
            continue  # the same module under another name: reached by its first
        if full in modules.containers:
            yield from _children(child, path, f"{relative}.", found, modules)
        elif (
            isinstance(child, nn.modules.dropout._DropoutNd)
            and f"{type(child).__module__}.{type(child).__name__}" in DROPOUTS
        ):
            yield relative, Dropout(child.p, DROPPED_AXES[type(child).__name__])
        elif full in found:
            yield relative, found[full]


def _codes(programs: dict[str, Program], modules: Modules) -> dict[str, dict[str, Code]]:
    """The code of every called module, by path and mode; one under both modes' name where only dropout differs.

    A module of which two calls differ, or whose calls take other arguments in another mode, is written in
    place of its calls.
    """
    dissolved: set[str] = set()
    while True:
        roots = {mode: build(programs[mode], modules, frozenset(dissolved)) for mode in MODES}
        wrong = set().union(*(misplaced(root) for root in roots.values()))
        calls = {mode: _calls_by_path(root) for mode, root in roots.items()}
        codes: dict[str, dict[str, Code]] = {}
        for mode in MODES:
            for path, same in calls[mode].items():
                read = [code_of(call, programs[mode]) for call in same]
                if any(code.form != read[0].form or code.holes != read[0].holes for code in read):
                    wrong.add(path)
                codes.setdefault(path, {})[mode] = read[0]
        for path, by_mode in codes.items():
            if len(by_mode) == 2:
                plain = code_of(calls["train"][path][0], programs["train"], plain=True)
                if plain.form == by_mode["eval"].form and plain.holes == by_mode["eval"].holes:
                    codes[path] = {"both": by_mode["train"]}
                elif path and _signature(by_mode["eval"].form) != _signature(by_mode["train"].form):
                    wrong.add(path)
        if not wrong - dissolved:
            return codes
        dissolved |= wrong


def _signature(form: Form) -> tuple[int, int]:
    returns = form.returns
    return len(form.inputs), len(returns) if isinstance(returns, tuple) else 1


def _calls_by_path(root: Call) -> dict[str, list[Call]]:
    found: dict[str, list[Call]] = {}
    for call in root.calls():
        if not call.is_dropout:
            found.setdefault(call.path, []).append(call)
    return found


# --- classes ----------------------------------------------------------------------------------------


def _by_height(root: Instance, instances: dict[str, Instance]) -> list[list[Instance]]:
    """Instances without children first; each after its children."""
    heights: dict[str, int] = {}

    def height(instance: Instance) -> int:
        if instance.path not in heights:
            inner = [height(c) for c in instance.children.values() if isinstance(c, Instance)]
            heights[instance.path] = 1 + max(inner, default=0)
        return heights[instance.path]

    height(root)
    levels: list[list[Instance]] = [[] for _ in range(max(heights.values()))]
    for path, instance in instances.items():
        if path in heights:
            levels[heights[path] - 1].append(instance)
    return levels


def _key(instance: Instance) -> Any:
    """What modules of one class have in common; also fills in the instance's holes."""
    kind = type(instance.module)
    tensors = tuple((t.name, len(t.shape), t.dtype, t.kind) for t in instance.tensors)
    children = tuple(
        (path, id(child.made) if isinstance(child, Instance) else child.axes)
        for path, child in instance.children.items()
    )
    forms = tuple((mode, code.form) for mode, code in instance.code.items())
    instance.holes = [n for t in instance.tensors for n in t.shape]
    for child in instance.children.values():
        instance.holes += child.arguments if isinstance(child, Instance) else [child.rate]
    instance.holes += [hole for code in instance.code.values() for hole in code.holes]
    return kind, tensors, children, forms


def _made(group: list[Instance]) -> Class:
    """The class of these instances; sets each one's ``made`` and ``arguments``."""
    made = Class(type(group[0].module).__name__, group)
    columns = list(zip(*(instance.holes for instance in group), strict=True))
    shown: dict[Any, str] = {}  # a column's values → its parameter
    own = {t.name for t in group[0].tensors} | {path.split(".")[0] for path in group[0].children}
    beyond = [axis > 1 for t in group[0].tensors for axis in range(len(t.shape))]  # kernels
    shapes = len(beyond)
    open_shapes = not group[0].children and type(group[0].module).__module__.startswith("torch.nn")
    inherited = _inherited(group[0])
    for index, column in enumerate(columns):
        varies = any(_differ(value, column[0]) for value in column[1:])
        key = index < shapes and beyond[index], *((type(value), value) for value in column)
        again = open_shapes and key in shown and isinstance(column[0], int) and column[0] > SMALL
        if not varies and not again and not (open_shapes and index < shapes):
            made.columns.append("")
            continue
        if key not in shown:
            name = _attribute(group, column, {*shown.values(), *own}) or inherited.get(index, "size")
            shown[key] = _unused(name, {*shown.values(), *own})
            made.parameters[shown[key]] = type(column[0]).__name__
        made.columns.append(shown[key])
    made.parameters = _in_order(made.parameters, group[0].module)
    positions = {name: made.columns.index(name) for name in made.parameters}
    made.random = any(
        isinstance(child, Dropout) or (child.made is not None and child.made.random)
        for child in group[0].children.values()
    ) or _draws(group[0])
    for instance in group:
        instance.made = made
        instance.arguments = [instance.holes[index] for index in positions.values()]
    return made


def _in_order(parameters: dict[str, str], module: nn.Module) -> dict[str, str]:
    """In the order of the torch class's own constructor, as far as it has them."""
    order = list(inspect.signature(type(module).__init__).parameters)
    place = {name: index for index, name in enumerate(order)}
    return dict(sorted(parameters.items(), key=lambda pair: place.get(pair[0], len(place))))


def _draws(instance: Instance) -> bool:
    """Whether its own code draws at random, dropout within attention included."""
    return any(
        draws(item, code)
        for code in instance.code.values()
        for item in code.form.items
        if not isinstance(item, Invoke)
    )


def _differ(one: Any, other: Any) -> bool:
    return type(one) is not type(other) or (one != other and not (one != one and other != other))


def _inherited(instance: Instance) -> dict[int, str]:
    """Names that children's constructors, or operations, have for holes, by the hole's place."""
    names: dict[int, str] = {}
    index = sum(len(t.shape) for t in instance.tensors)
    for path, child in instance.children.items():
        parameters = (
            ["rate"] if isinstance(child, Dropout) else list(child.made.parameters) if child.made else []
        )
        for name in parameters:
            names[index] = name if name.isidentifier() else f"{path.split('.')[-1]}_{name}"
            index += 1
    for code in instance.code.values():
        for item in code.form.items:
            entry = table.read().get(item.op) if isinstance(item, Op) else None
            for name, value in zip(entry.parameters if entry else (), getattr(item, "args", ()), strict=False):
                parts = value if isinstance(value, tuple) else (value,)
                names |= {index + part.index: name for part in parts if isinstance(part, Hole)}
        index += len(code.holes)
    return names


def _attribute(group: list[Instance], column: tuple[Any, ...], taken: set[str]) -> str:
    """An attribute of the torch modules that has these values in all of them."""
    for name in vars(group[0].module):
        if name.startswith("_") or name in taken or keyword.iskeyword(name):
            continue
        values = [_first(getattr(instance.module, name, None)) for instance in group]
        if all(not _differ(value, wanted) for value, wanted in zip(values, column, strict=True)):
            return name
    return ""


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) and value else value


def _unused(name: str, taken: Any) -> str:
    if name not in taken:
        return name
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def _name(made: list[Class]) -> None:
    """Different classes of one torch class are told apart by what they hold, or by a number."""
    by_name: dict[str, list[Class]] = {}
    for one in made:
        by_name.setdefault(one.name, []).append(one)
    for name, same in by_name.items():
        same.sort(key=lambda c: -len(c.instances))
        same[0].name = f"{name}Module" if name in RESERVED else name
        held = [_held(c) for c in same]
        taken = {name}
        for one, mine in list(zip(same, held, strict=True))[1:]:
            more, less = mine - held[0], held[0] - mine
            extra = "With" + _title(more) if more else "Without" + _title(less) if less else ""
            one.name = _unused(f"{name}{extra}" if extra else f"{name}2", taken)
            taken.add(one.name)


def _held(one: Class) -> frozenset[str]:
    names = [t.name for t in one.first.tensors] + [p.split(".")[0] for p in one.first.children]
    return frozenset(names)


def _title(names: frozenset[str]) -> str:
    if len(names) > 2:
        return "More"
    return "And".join("".join(part.title() for part in name.split("_")) for name in sorted(names))
