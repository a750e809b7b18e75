"""A program's statements, put back into the calls of the module tree. No framework is imported.

Calls that would only be in the way are dissolved into the call around them: containers (``nn.Sequential``),
modules without parameters (``nn.ReLU``), modules that lie elsewhere in the tree (tied ones).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from twinax.port.torch_to_jax.program import DROPOUTS, Program, Ref, Size, Statement, Value, refs

Item = "Statement | Call | Update"
MOST_INLINED = 4
"""Statements of a module without parameters that are written in place of its call."""


@dataclass(frozen=True)
class Update:
    """A buffer's new value."""

    buffer: str
    value: Ref


@dataclass
class Call:
    """One call of a module.

    Attributes:
        path: The module's path, under its first name where it has several.
        type: Its class, with the module that it was defined in.
        body: Statements, calls and updates, in order.
        inputs: Values from outside, in the order in which they are first used; then sizes (symbols) that no
            array among them has.
        outputs: Names of results that are used outside.
        depth: How many calls are around it; containers count.
    """

    path: str
    type: str
    depth: int = 0
    body: list[Statement | Call | Update] = field(default_factory=list)
    inputs: list[Ref | Size] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    @property
    def is_dropout(self) -> bool:
        """Whether it is one of torch's dropout layers."""
        return self.type in DROPOUTS

    def calls(self) -> Iterator[Call]:
        """Itself and every call inside."""
        yield self
        for item in self.body:
            if isinstance(item, Call):
                yield from item.calls()


@dataclass(frozen=True)
class Modules:
    """What is known of the live module tree, by path.

    Attributes:
        first: Any path → the first path of the same module.
        stateful: Paths of modules that hold parameters or buffers, themselves or below.
        containers: Paths of modules that only hold others.
    """

    first: Mapping[str, str]
    stateful: frozenset[str]
    containers: frozenset[str]


def build(program: Program, modules: Modules, dissolved: frozenset[str]) -> Call:
    """The call of the whole model.

    Args:
        program: One mode.
        modules: Of the live module.
        dissolved: Paths of modules that are to be written in place of their calls.
    """
    root = Call("", "")
    root.body = list(_grouped(program.statements, 1, modules))
    if program.statements and program.statements[0].levels:
        root.type = program.statements[0].levels[0].type
    root.body = list(_spliced(root, lambda call, parent: _is_dissolved(call, parent, modules, dissolved)))
    _place_updates(root, program)
    _sign(root, program)
    return root


def _grouped(statements: list[Statement], depth: int, modules: Modules) -> Iterator[Statement | Call]:
    """Runs of statements that share a call at this depth become that call."""
    start = 0
    while start < len(statements):
        levels = statements[start].levels
        if len(levels) <= depth:
            yield statements[start]
            start += 1
            continue
        end = start
        while end < len(statements) and _at(statements[end], depth) == levels[depth].key:
            end += 1
        path = levels[depth].path
        body = list(_grouped(statements[start:end], depth + 1, modules))
        yield Call(modules.first.get(path, path), levels[depth].type, depth, body)  # type: ignore[arg-type]
        start = end


def _at(statement: Statement, depth: int) -> str:
    return statement.levels[depth].key if len(statement.levels) > depth else ""


def _spliced(call: Call, dissolve: Callable[[Call, Call], bool]) -> Iterator[Statement | Call | Update]:
    for item in call.body:
        if isinstance(item, Call):
            item.body = list(_spliced(item, dissolve))
            if dissolve(item, call):
                yield from item.body
            else:
                yield item
        else:
            yield item


def _is_dissolved(call: Call, parent: Call, modules: Modules, dissolved: frozenset[str]) -> bool:
    if call.is_dropout:
        return not _is_under(call.path, parent.path)
    if call.path in dissolved or call.path in modules.containers or call.path not in modules.first:
        return True
    if call.path not in modules.stateful:
        inner = [item for item in call.body if isinstance(item, Call)]
        return len(call.body) <= MOST_INLINED and not inner
    return False


def _is_under(path: str, parent: str) -> bool:
    return parent == "" or path.startswith(f"{parent}.")


def misplaced(root: Call) -> set[str]:
    """Paths of calls that are made from a module that they do not lie under."""
    return {
        inner.path
        for call in root.calls()
        for inner in call.body
        if isinstance(inner, Call) and not _is_under(inner.path, call.path)
    }


def _place_updates(root: Call, program: Program) -> None:
    """Each update goes where its value is computed, or above, in a module that the buffer lies under."""
    for buffer, value in program.updates.items():
        owner = root
        for call in _around(root, value.name):
            if _is_under(buffer, call.path):
                owner = call
        owner.body.append(Update(buffer, value))


def _around(call: Call, name: str) -> list[Call]:
    """The calls around the statement that gives this value, outermost first; none where it is an input."""
    for item in call.body:
        if isinstance(item, Statement) and name in item.results:
            return [call]
        if isinstance(item, Call):
            inner = _around(item, name)
            if inner:
                return [call, *inner]
    return []


# --- inputs and outputs --------------------------------------------------------------------------------


def _sign(root: Call, program: Program) -> None:
    users: dict[str, list[tuple[int, ...]]] = {}
    _note_users(root, (), users)
    for reference in refs(program.outputs):
        users.setdefault(reference.name, []).append(())
    _set_signature(root, (), users, program)
    root.inputs = [Ref(name) for name in program.inputs]


def _note_users(call: Call, chain: tuple[int, ...], users: dict[str, list[tuple[int, ...]]]) -> None:
    chain = (*chain, id(call))
    for item in call.body:
        if isinstance(item, Call):
            _note_users(item, chain, users)
        else:
            for reference in _used(item):
                users.setdefault(reference.name, []).append(chain)


def _used(item: Statement | Update) -> Iterator[Ref]:
    return refs(item.value if isinstance(item, Update) else (item.args, tuple(item.kwargs.values())))


def _set_signature(
    call: Call, chain: tuple[int, ...], users: Mapping[str, list[tuple[int, ...]]], program: Program
) -> set[str]:
    """Fill in inputs and outputs, innermost first; returns the names that are defined inside."""
    defined: set[str] = set()
    inputs: dict[Ref, None] = {}
    symbols: dict[str, Size] = {}
    for item in call.body:
        if isinstance(item, Call):
            inner = _set_signature(item, (*chain, id(call)), users, program)
            inputs |= {r: None for r in item.inputs if isinstance(r, Ref) and r.name not in defined}
            symbols |= {str(s.expression): s for s in item.inputs if isinstance(s, Size)}
            defined |= inner
        elif isinstance(item, Statement):
            used = [r for r in _used(item) if r.name not in defined]
            inputs |= dict.fromkeys(used)
            symbols |= {str(s): Size(s) for s in _symbols((item.args, tuple(item.kwargs.values())))}
            defined |= {r for r in item.results if r}
    own = {r for r in inputs if _is_own(r.name, call.path, program)}
    arrays = [r for r in inputs if r not in own]
    known = _known_symbols([program.values[r.name] for r in arrays])
    call.inputs = [*arrays, *(s for name, s in symbols.items() if name not in known)]
    order = [name for item in call.body for name in _results(item)]
    call.outputs = [n for n in order if any(id(call) not in user for user in users.get(n, ()))]
    return defined


def _results(item: Statement | Call | Update) -> list[str]:
    if isinstance(item, Update):
        return []
    return [r for r in item.results if r] if isinstance(item, Statement) else item.outputs


def _is_own(name: str, path: str, program: Program) -> bool:
    """Whether a name is a parameter, buffer or constant that the module at this path reaches as its own."""
    if name in program.constants:
        return True
    return name in program.values and name in program.weights and _is_under(name, path)


def _known_symbols(values: list[Value]) -> set[str]:
    """Symbols that are a size of one of these arrays."""
    return {
        str(size.expression)
        for value in values
        for size in value.shape
        if isinstance(size, Size) and size.expression.is_symbol
    }


def _symbols(value: object) -> Iterator[object]:
    """Every symbol in the sizes of a nest of arguments."""
    if isinstance(value, Size):
        yield from sorted(value.expression.free_symbols, key=str)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _symbols(item)
