"""The text of a ported model: a class for each distinct module, the functions that it uses, how to load it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from twinax.port.torch_to_jax import naming, table
from twinax.port.torch_to_jax.classes import Class, Dropout, Instance
from twinax.port.torch_to_jax.code import Code, Invoke
from twinax.port.torch_to_jax.expressions import literal, text
from twinax.port.torch_to_jax.phrases import Scope, self_path
from twinax.port.torch_to_jax.trimming import trimmed
from twinax.port.torch_to_jax.wrapping import wrapped
from twinax.port.torch_to_jax.writing import Body

VARIABLES = {"parameter": "nnx.Param", "statistic": "nnx.BatchStat", "buffer": "Buffer"}
ABSTRACT = ("Callable", "Iterator", "Mapping", "Sequence")
INTEGERS = ("int64", "int32", "int16", "int8", "uint8")

HEAD = '''"""{title}

Ported from PyTorch by twinax, whose parameters keep PyTorch's names and layouts. ``model.train()`` and
``model.eval()`` switch dropout and batch statistics, which the model updates in its own variables.
"""
{imports}


'''

BUFFER = '''class Buffer(nnx.Variable):
    """What the model holds and does not learn."""


'''

CONSTANT = '''@cache
def constants() -> dict[str, np.ndarray]:
    """Arrays that are part of the model's code: positions, masks."""
    return load_file(Path(__file__).with_name("constants.safetensors"))


def constant(name: str) -> Array:
    """One of them."""
    return jnp.asarray(constants()[name])


'''

LOAD = '''def build() -> {model}:
    """The model with all weights zero, in eval mode."""
    model = {model}({arguments})
    model.eval()
    return model


def load(path: str | Path) -> {model}:
    """The model with the weights of a safetensors file, in their dtype."""
    model, weights = build(), load_file(path)
    state = nnx.state(model, (nnx.Param, nnx.BatchStat{buffer}))
    for names, variable in nnx.to_flat_state(state):
        variable.set_value(jnp.asarray(weights[".".join(map(str, names))]))
    nnx.update(model, state)
    return model
'''


def source(made: list[Class], root: Instance, title: str) -> str:
    """The whole file."""
    used: set[str] = set()
    names = _input_names(made, root)
    written = [_class_text(one, names, used) for one in made]
    functions, body = trimmed([d.text for d in table.needed(used)], "\n\n\n".join(written))
    body = "\n".join(row for line in body.splitlines() for row in wrapped(line))
    functions = ["\n".join([*_head(text), *text.splitlines()[1:]]) for text in functions]
    kinds = {t.kind for one in made for t in one.first.tensors}
    random = root.made.random if root.made else False
    parts = [BUFFER] if "buffer" in kinds else []
    parts += [CONSTANT] if "constant" in used else []
    parts += [f"{text}\n\n\n" for text in functions]
    arguments = [text(literal(value)) for value in root.arguments] + ["rngs=nnx.Rngs(0)"] * random
    load = LOAD.format(
        model=root.made.name if root.made else "",
        arguments=", ".join(arguments),
        buffer=", Buffer" if "buffer" in kinds else "",
    )
    rest = "".join(parts) + body + "\n\n\n" + load
    return HEAD.format(title=title, imports=_imports(rest)) + rest


def _head(function: str) -> list[str]:
    """A function's first line, or where it is too long its parameters on a line of their own."""
    return wrapped(function.splitlines()[0])


def _imports(rest: str) -> str:
    used = {n.id for n in ast.walk(ast.parse(rest)) if isinstance(n, ast.Name)}
    standard = []
    if "math" in used:
        standard.append("import math")
    cached = [n for n in ("cache", "partial") if n in used]
    if cached:
        standard.append(f"from functools import {', '.join(cached)}")
    standard.append("from pathlib import Path")
    abstract = sorted(n for n in ABSTRACT if n in used)
    if abstract:
        standard.insert(0, f"from collections.abc import {', '.join(abstract)}")
    standard.sort(key=lambda line: (line.startswith("from"), line))
    third = ["import jax"] if "jax" in used else []
    third += ["import jax.numpy as jnp"]
    third += ["import numpy as np"] if "np" in used else []
    third += ["from flax import nnx"]
    third += ["from jax import Array, lax"] if "lax" in used else ["from jax import Array"]
    loaded = "from safetensors.numpy import load_file"
    return "\n" + "\n".join(standard) + "\n\n" + "\n".join([*third, loaded])


# --- names of inputs ----------------------------------------------------------------------------------


def _input_names(made: list[Class], root: Instance) -> dict[str, list[str]]:
    """Path → what its inputs are called: as where it is first called from, from the top down."""
    names: dict[str, list[str]] = {}

    def visit(instance: Instance, given: list[str]) -> None:
        names[instance.path] = given
        for code in instance.code.values():
            known = {**naming.results(code), **{f"i{n}": name for n, name in enumerate(given)}}
            for item in code.form.items:
                child = instance.children.get(item.child) if isinstance(item, Invoke) else None
                if isinstance(child, Instance) and child.path not in names and isinstance(item, Invoke):
                    callers = naming.inputs(code, known, item)
                    visit(child, naming.parameters(child.module.forward, child.given, callers))

    visit(root, root.inputs)
    return names


def _distinct(names: list[str], count: int, leaf: bool) -> list[str]:
    """A usable name for each input, no two alike; a leaf's only input is x."""
    found: list[str] = []
    spare = iter(("x", "y", "z", *(f"x{n}" for n in range(2, 99))))
    for index in range(count):
        name = names[index] if index < len(names) else ""
        if not naming.usable(name) or name in found or (leaf and count == 1):
            name = next(s for s in spare if s not in found)
        found.append(name)
    return found


# --- one class ----------------------------------------------------------------------------------------


def _class_text(one: Class, input_names: Mapping[str, list[str]], used: set[str]) -> str:
    instance = one.first
    codes = instance.code
    scope_taken = {
        *(t.name for t in instance.tensors),
        *instance.children,
        *(p.split(".")[0] for p in instance.children),
    }
    scopes: dict[str, Scope] = {}
    bodies: dict[str, list[str]] = {}
    signature: list[str] = []
    offset = len(instance.holes) - sum(len(code.holes) for code in codes.values())
    for mode, code in codes.items():
        scope = Scope(
            holes=one.columns[offset : offset + len(code.holes)],
            weights=_float_weights(instance),
            taken=scope_taken,
            idle=_idle(one),
        )
        offset += len(code.holes)
        leaf = bool(instance.path) and not instance.children
        signature = signature or _distinct(input_names.get(instance.path, []), len(code.form.inputs), leaf)
        names = {f"i{n}": name for n, name in enumerate(signature)}
        same = [i.code[mode] for i in one.instances]
        bodies[mode] = Body(code, names, scope, same).lines
        scopes[mode] = scope
        used |= scope.used
    flag = _flag(one, codes)
    attributes = {a for scope in scopes.values() for a in scope.attributes}
    dropouts = {name: rate for scope in scopes.values() for name, rate in scope.dropouts.items()}
    if dropouts:
        one.random = True
    lines = [f"class {one.name}(nnx.Module):", f'    """{_described(instance)}"""']
    lines += _constructor(
        one, attributes, dropouts, flag, any("self.rngs" in ln for b in bodies.values() for ln in b)
    )
    if codes:
        returned = _returned(next(iter(codes.values())))
        arguments = "".join(f", {n}: {_annotated(codes, i)}" for i, n in enumerate(signature))
        lines += ["", f"    def __call__(self{arguments}) -> {returned}:"]
        lines += [f"        {row}" for row in (*_guarded(instance.guards, signature), *_joined(bodies, flag))]
    return "\n".join(lines)


def _guarded(guards: list[str], names: list[str]) -> list[str]:
    """A refusal of sizes for which the statements that follow would be others."""
    return ["assert " + re.sub(r"\bi(\d+)\.", lambda m: f"{names[int(m.group(1))]}.", text) for text in guards]


def _idle(one: Class) -> dict[str, float]:
    """Dropout layers of the module itself that it does not call, with a rate that is the same everywhere."""
    called = {i.child for code in one.first.code.values() for i in code.form.items if isinstance(i, Invoke)}
    idle = {
        path: child
        for path, child in one.first.children.items()
        if isinstance(child, Dropout) and not child.axes and path.isidentifier() and path not in called
    }
    return {p: layer.rate for p, layer in idle.items() if all(i.children[p] == layer for i in one.instances)}


def _annotated(codes: Mapping[str, Code], index: int) -> str:
    return "int" if next(iter(codes.values())).form.dtypes[index] == "size" else "Array"


def _returned(code: Code) -> str:
    value = code.form.returns
    if type(value).__name__ == "Record":
        return "dict[str, Array]" if all(type(v).__name__ == "Local" for _, v in value.items) else "dict"
    return f"tuple[{', '.join(['Array'] * len(value)) or '()'}]" if isinstance(value, tuple) else "Array"


def _joined(bodies: Mapping[str, list[str]], flag: str) -> list[str]:
    if len(bodies) == 1:
        return next(iter(bodies.values()))
    indented = {mode: [f"    {line}" for line in lines] for mode, lines in bodies.items()}
    return [f"if self.{flag}:", *indented["eval"], *bodies["train"]]


def _flag(one: Class, codes: Mapping[str, Code]) -> str:
    """The attribute that ``train()`` and ``eval()`` set, where the class needs one."""
    if len(codes) == 2:
        statistics = any(t.kind == "statistic" for t in one.first.tensors)
        return "use_running_average" if statistics else "deterministic"
    return ""


def _described(instance: Instance) -> str:
    kind = type(instance.module)
    if kind.__module__.startswith("torch."):
        return f"torch.nn.{kind.__qualname__}."
    try:
        file = Path(inspect.getsourcefile(kind) or "")
        line = inspect.getsourcelines(kind)[1]
    except (TypeError, OSError):
        return f"{kind.__qualname__} of {kind.__module__}."
    where = (
        "/".join(file.parts[file.parts.index("site-packages") + 1 :])
        if "site-packages" in file.parts
        else file.name
    )
    return f"{kind.__qualname__} ({where}, line {line})."


def _float_weights(instance: Instance, limit: int = 1) -> list[str]:
    """Float parameters of the module, or else of one below it."""
    own = [f"self.{t.name}" for t in instance.tensors if t.dtype.startswith(("float", "bfloat"))]
    if own:
        return own[:limit]
    for path, child in instance.children.items():
        if isinstance(child, Instance):
            below = _float_weights(child)
            if below:
                return [self_path(path) + below[0].removeprefix("self")]
    return []


def _constructor(
    one: Class, attributes: set[str], dropouts: Mapping[str, ast.expr], flag: str, draws: bool
) -> list[str]:
    instance = one.first
    body = [f"self.{name} = {name}" for name in one.parameters if name in attributes]
    columns = iter(one.columns)
    holes = iter(instance.holes)

    def next_value() -> str:
        name, value = next(columns), next(holes)
        return name or text(literal(value))

    made: dict[str, str] = {}
    for tensor in instance.tensors:
        sizes = [next_value() for _ in tensor.shape]
        shape = f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
        dtype = ", int" if tensor.dtype in INTEGERS else ", bool" if tensor.dtype == "bool" else ""
        made[tensor.name] = f"{VARIABLES[tensor.kind]}(jnp.zeros({shape}{dtype}))"
    for path, child in instance.children.items():
        if isinstance(child, Dropout):
            axes = f", broadcast_dims={child.axes}" if child.axes else ""
            made[path] = f"nnx.Dropout({next_value()}{axes}, rngs=rngs)"
        else:
            assert child.made is not None
            values = [next_value() for _ in child.arguments]
            values += ["rngs=rngs"] if child.made.random else []
            made[path] = f"{child.made.name}({', '.join(values)})"
    body += list(_children_lines(made))
    for name, rate in dropouts.items():
        body.append(f"self.{name} = nnx.Dropout({text(rate).removeprefix('self.')}, rngs=rngs)")
    if flag:
        body.append(f"self.{flag} = True")
    if draws:
        body.append("self.rngs = rngs")
        body += [] if flag else ["self.deterministic = True"]
    if not body:
        return []
    parameters = [f"{name}: {kind}" for name, kind in one.parameters.items()]
    parameters += ["*, rngs: nnx.Rngs"] if one.random else []
    head = f"    def __init__({', '.join(['self', *parameters])}) -> None:"
    return ["", head, *[f"        {row}" for row in body]]


def _children_lines(made: Mapping[str, str]) -> Iterator[str]:
    """One statement for each attribute; those of a list together."""
    groups: dict[str, dict[str, str]] = {}
    for path, value in made.items():
        first, _, rest = path.partition(".")
        groups.setdefault(first, {})[rest] = value
    for first, inner in groups.items():
        value = _container(inner)  # the modules of a class derived from nn.Sequential have numbers for names
        yield f"self.{first} = {value}" if first.isidentifier() else f"setattr(self, {first!r}, {value})"


def _container(inner: Mapping[str, str]) -> str:
    if list(inner) == [""]:
        return inner[""]
    keys: dict[str, dict[str, str]] = {}
    for path, value in inner.items():
        first, _, rest = path.partition(".")
        keys.setdefault(first, {})[rest] = value
    parts = {key: _container(below) for key, below in keys.items()}
    if all(key.isdigit() for key in parts):
        entries = [parts.get(str(n), "None") for n in range(max(map(int, parts)) + 1)]
        return _list(entries)
    return f"nnx.Dict({{{', '.join(f'{key!r}: {value}' for key, value in parts.items())}}})"


def _list(entries: list[str]) -> str:
    """``nnx.List([…])``; equal entries in a row are written once."""
    if len(entries) > 1 and len(set(entries)) == 1:
        return f"nnx.List([{entries[0]} for _ in range({len(entries)})])"
    runs: list[tuple[str, int]] = []
    for entry in entries:
        if runs and runs[-1][0] == entry:
            runs[-1] = (entry, runs[-1][1] + 1)
        else:
            runs.append((entry, 1))
    parts = [e if n == 1 else f"*({e} for _ in range({n}))" for e, n in runs]
    return f"nnx.List([{', '.join(parts)}])"
