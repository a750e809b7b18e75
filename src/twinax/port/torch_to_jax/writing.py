"""The body of a method: a canonical form as Python statements.

Values that are used once are written in place, as far as lines stay readable; others get the names that the
user's own source gives them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from twinax.port.torch_to_jax import naming, table
from twinax.port.torch_to_jax.code import (
    Assign,
    Code,
    Extent,
    Invoke,
    Local,
    Op,
    Own,
    Record,
)
from twinax.port.torch_to_jax.expressions import text, times_read
from twinax.port.torch_to_jax.phrases import WIDTH, Phrases, Scope, self_path
from twinax.port.torch_to_jax.program import Size

DEEPEST = 4
"""Calls in each other from which on a value gets a name, though the next line gives that name away."""


class Body:
    """Writes one body. ``lines`` holds it afterwards."""

    def __init__(self, code: Code, names: dict[str, str], scope: Scope, instances: list[Code]) -> None:
        """``names``: what the inputs are called; ``instances``: the same code of every module of the class."""
        self.code, self.scope, self.instances = code, scope, instances
        self.wanted = {**naming.results(code), **names}
        self.lines: list[str] = []
        self.shown = [c.values["i0"].shape if "i0" in c.values else () for c in instances]
        self.phrases = Phrases(code, scope, names)
        self.items = list(code.form.items)
        self.consumers: dict[str, set[int]] = {}
        self.sized: set[str] = set()
        for index, item in enumerate([*self.items, _Return(code.form.returns)]):
            for name, is_extent in _locals_of(item):
                self.consumers.setdefault(name, set()).add(index)
                if is_extent:
                    self.sized.add(name)
        self.uses = _count_uses([*self.items, _Return(code.form.returns)])
        self.emitted: set[int] = set()
        self._write()

    # --- statements ------------------------------------------------------------------------------

    def _write(self) -> None:
        index = 0
        while index < len(self.items):
            run = self._run(index)
            if run is not None:
                self._loop(index, run)
                index += len(run)
                continue
            self._item(index, self.items[index])
            index += 1
        included: set[int] = {len(self.items)}
        value = self.phrases.value(self.code.form.returns, included)
        value = self._shortened(lambda: self.phrases.value(self.code.form.returns, included), value, included)
        self._line(f"return {text(value)}", included)

    def _item(self, index: int, item: Any) -> None:
        if index in self.emitted:
            return
        if isinstance(item, Assign):
            self._flush()
            value = self.phrases.value(item.value, {index})
            self._line(f"{self_path(item.buffer)}[...] = {text(value)}", {index})
            return
        for local in self._read_again(item):
            self._settle(local)
        included = {index}
        make = lambda: self.phrases.call(item, included)  # noqa: E731
        value = self._shortened(make, make(), included)
        if not item.results:  # called for the statistics that it keeps
            self._line(text(value), included)
        elif item.several if isinstance(item, Op) else len(item.results) > 1:
            self._results(item, value, included)
        else:
            self._result(item.results[0], value, included)

    def _read_again(self, item: Any) -> list[str]:
        """Waiting values that the operation's expression would write several times, and compute so."""
        entry = table.read().get(item.op) if isinstance(item, Op) else None
        if entry is None or entry.expression is None:
            return []
        pairs = zip(entry.parameters, item.args, strict=False)
        again = [a.name for p, a in pairs if isinstance(a, Local) and times_read(entry.expression, p) > 1]
        return [name for name in again if name in self.phrases.pending]

    def _result(self, local: str, value: ast.expr, included: set[int]) -> None:
        alone = self.uses.get(local, 0) == 1 and local not in self.sized and not _is_bound_to_its_place(value)
        returned = self.code.form.returns == Local(local)
        fits = returned or len(text(value)) < WIDTH - 20
        if alone and fits and not self._keeps_name(local, value):
            self.phrases.pending[local] = (value, included)
            return
        self._assign(local, value, included)

    def _keeps_name(self, local: str, value: ast.expr) -> bool:
        """Whether the user's source gave the value a name that says something, on a line before its use."""
        if self.consumers.get(local) == {len(self.items)}:
            return False  # returned at once
        if self._is_renewed(local) and _depth(value) < DEEPEST:
            return False
        return (
            local in self.wanted
            and bool(self.consumers.get(local))
            and self._line_of(local) is not None
            and (self._line_of(local) != self._use_line(local))
        )

    def _is_renewed(self, local: str) -> bool:
        """Whether the name goes to what is made of the value: ``x = relu(x)``."""
        (index,) = self.consumers[local]
        results = getattr(self.items[index], "results", ())
        return len(results) == 1 and self.wanted.get(local) == self.wanted.get(results[0])

    def _line_of(self, local: str) -> Any:
        for index, item in enumerate(self.items):
            if local in getattr(item, "results", ()):
                return self.code.lines[index]
        return None

    def _use_line(self, local: str) -> Any:
        index = min(self.consumers[local])
        return self.code.lines[index] if index < len(self.code.lines) else None

    def _results(self, item: Any, value: ast.expr, included: set[int]) -> None:
        """Several results of a call: unpacked, with ``_`` for those that nobody uses."""
        entry = table.read().get(item.op) if isinstance(item, Op) else None
        given = list(item.results)
        alone = False
        if entry is not None and entry.results:
            given = [item.results[i] for i in entry.results]
            alone = len(given) == 1
        buffers = {r: self._buffer(r, max(included)) for r in given if r}
        if any(buffers.values()):
            self._flush()
        self.emitted |= included
        bound = [buffers[r] or self._bind(r) if r else "_" for r in given]
        targets = ", ".join(bound) + ("," if len(bound) == 1 and not alone else "")
        self._put(f"{targets} = {text(value)}", given[0])

    def _buffer(self, local: str, now: int) -> str:
        """The buffer that takes the value, where nothing else does and nobody still needs the old one."""
        for index in self.consumers.get(local, ()):
            item = self.items[index] if index < len(self.items) else None
            read = isinstance(item, Assign) and any(
                Own(item.buffer) in getattr(later, "args", ()) for later in self.items[now + 1 :]
            )
            if isinstance(item, Assign) and self.uses[local] == 1 and not read:
                self.emitted.add(index)
                return f"{self_path(item.buffer)}[...]"
        return ""

    def _assign(self, local: str, value: ast.expr, included: set[int]) -> None:
        rendered = text(value)
        self.emitted |= included
        self._put(f"{self._bind(local)} = {rendered}", local)

    def _bind(self, local: str) -> str:
        """Give a local its name: the wanted one, unless a value that is still needed has it."""
        wanted = self.wanted.get(local) or self._default_name(local)
        name, number = wanted, 2
        while any(
            n == name and other != local and not self._is_dead(other) for other, n in self.phrases.bound.items()
        ):
            name, number = f"{wanted}_{number}", number + 1
        for other in [o for o, n in self.phrases.bound.items() if n == name]:
            del self.phrases.bound[other]
        self.phrases.bound[local] = name
        return name

    def _is_taken(self, name: str, local: str) -> bool:
        return any(n == name and o != local and not self._is_dead(o) for o, n in self.phrases.bound.items())

    def _default_name(self, local: str) -> str:
        value, given = self.code.values.get(local), self.code.values.get("i0")
        first = self.phrases.bound.get("i0", "x")
        alike = value and given and (value.dtype, len(value.shape)) == (given.dtype, len(given.shape))
        return first if alike and self._is_dead("i0") else "y" if first == "x" else "x"

    def _is_dead(self, local: str) -> bool:
        return self.consumers.get(local, set()) <= self.emitted

    def _put(self, line: str, local: str) -> None:
        comment = self._shape_comment(local)
        if comment and len(line) + len(comment) < WIDTH:
            line += comment
        self.lines.append(line)

    def _line(self, line: str, included: set[int]) -> None:
        self.emitted |= included
        self.lines.append(line)

    def _flush(self) -> None:
        """Write down every value that waits: a buffer is about to change."""
        for local in list(self.phrases.pending):
            self._settle(local)

    def _settle(self, local: str) -> None:
        value, included = self.phrases.pending.pop(local)
        self._assign(local, value, included)

    def _shortened(self, make: Any, value: ast.expr, included: set[int]) -> ast.expr:
        """The expression, with its longest waiting parts written down first where it would be too long."""
        while len(text(value)) > WIDTH - 8:  # a call of many arguments is broken over lines later
            waiting = [
                n
                for n in self.code.values
                if n in self.phrases.pending and self.phrases.pending[n][1] <= included
            ]
            inside = [n for n in waiting if 12 < len(text(self.phrases.pending[n][0])) < len(text(value))]
            if not inside:
                break
            longest = max(inside, key=lambda n: len(text(self.phrases.pending[n][0])))
            included -= self.phrases.pending[longest][1]
            self._settle(longest)
            value = make()
        for local in [n for n in self.phrases.pending if self.phrases.pending[n][1] <= included]:
            del self.phrases.pending[local]
        return value

    # --- loops -----------------------------------------------------------------------------------

    def _run(self, start: int) -> list[Invoke] | None:
        """Calls of successive modules of one list, or of one module, each on what the one before gave.

        Two make no loop, unless they are the list.
        """
        run: list[Invoke] = []
        for item in self.items[start:]:
            if not isinstance(item, Invoke) or len(item.results) != 1:
                break
            if run and not self._follows(run[-1], item, run):
                break
            run.append(item)
        if len(run) == 2:
            path, _, index = run[0].child.rpartition(".")
            return run if index == "0" and self._covers(path, 2) else None
        return run if len(run) > 2 else None

    def _follows(self, before: Invoke, item: Invoke, run: list[Invoke]) -> bool:
        result = Local(before.results[0])
        if self.uses.get(result.name) != 1 or result not in item.args or len(before.args) != len(item.args):
            return False
        place = item.args.index(result)
        if any(a != b for i, (a, b) in enumerate(zip(before.args, item.args, strict=True)) if i != place):
            return False
        if len(run) > 1 and run[-1].args.index(Local(run[-2].results[0])) != place:
            return False
        here, there = before.child.rpartition("."), item.child.rpartition(".")
        if before.child == item.child:
            return len(run) == 1 or run[0].child == item.child
        follows = here[0] == there[0] and here[2].isdigit() and there[2].isdigit() and here[0] != ""
        return follows and int(there[2]) == int(here[2]) + 1 and (len(run) == 1 or run[0].child != run[1].child)

    def _loop(self, start: int, run: list[Invoke]) -> None:
        first, last = run[0], run[-1]
        place = run[1].args.index(Local(first.results[0]))
        initial = self.phrases.value(first.args[place], {start})
        others = [self.phrases.value(a, {start}) for i, a in enumerate(first.args) if i != place]
        for local in list(self.phrases.pending):
            if self.phrases.pending[local][1] <= {start} or any(
                local == a.name for a in first.args if isinstance(a, Local)
            ):
                self._settle(local)
        initial = self.phrases.value(first.args[place], {start})
        others = [self.phrases.value(a, {start}) for i, a in enumerate(first.args) if i != place]
        self.emitted |= set(range(start, start + 1))
        name = self._bind(last.results[0])
        self.emitted |= set(range(start, start + len(run)))
        if text(initial) != name:
            self.lines.append(f"{name} = {text(initial)}")
        arguments = [text(value) for value in others]
        arguments.insert(place, name)
        list_path, _, index = first.child.rpartition(".")
        if first.child == last.child:
            self.lines.append(f"for _ in range({len(run)}):")
            called = self_path(first.child)
        else:
            called = _singular(list_path, set(self.phrases.bound.values()))
            whole = f"{self_path(list_path)}"
            if not (index == "0" and self._covers(list_path, len(run))):
                whole += f"[{index}:{int(index) + len(run)}]"
            self.lines.append(f"for {called} in {whole}:")
        self.lines.append(f"    {name} = {called}({', '.join(arguments)})")

    def _covers(self, path: str, count: int) -> bool:
        entries = {
            t.removeprefix(f"{path}.").split(".")[0] for t in self.scope.taken if t.startswith(f"{path}.")
        }
        return len(entries) == count

    def _shape_comment(self, local: str) -> str:
        """``  # (batch, 64, 56, 56)`` where the shape is another than the first input's."""
        values = [code.values.get(local) for code in self.instances]
        if any(v is None for v in values) or len({len(v.shape) for v in values if v is not None}) > 1:
            return ""
        shapes = [v.shape for v in values if v is not None]
        before, self.shown = self.shown, shapes
        if shapes == before:
            return ""
        names = _axis_names(self.code)
        parts = []
        for sizes in zip(*shapes, strict=True):
            same = all(str(s) == str(sizes[0]) for s in sizes)
            known = names.get(str(sizes[0])) or (sizes[0] if isinstance(sizes[0], int) else "…")
            parts.append(str(known) if same else "…")
        return f"  # ({', '.join(parts)}{',' if len(parts) == 1 else ''})"


@dataclass(frozen=True)
class _Return:
    value: Any


def _axis_names(code: Code) -> dict[str, str]:
    """Symbols by what they are: the first open size is the batch, the next the length."""
    names: dict[str, str] = {}
    for value in code.values.values():
        for axis, size in enumerate(value.shape):
            if isinstance(size, Size) and size.expression.is_symbol:
                names.setdefault(str(size), "batch" if axis == 0 else "length")
    return names


def _locals_of(item: Any) -> Iterator[tuple[str, bool]]:
    """Locals that an item uses, and whether it needs their shape."""
    if isinstance(item, _Return | Assign):
        yield from _locals_in(item.value)
    else:
        yield from _locals_in(item.args)
        if isinstance(item, Op):
            yield from _locals_in(tuple(v for _, v in item.kwargs))


def _locals_in(value: Any) -> Iterator[tuple[str, bool]]:
    if isinstance(value, Local):
        yield value.name, False
    elif isinstance(value, Extent):
        for name in re.findall(r"\b[iv]\d+\b", value.text):
            yield name, True
    elif isinstance(value, Record):
        for _, inner in value.items:
            yield from _locals_in(inner)
    elif isinstance(value, tuple):
        for inner in value:
            yield from _locals_in(inner)


def _count_uses(items: list[Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in items:
        for name, _ in _locals_of(item):
            counts[name] = counts.get(name, 0) + 1
    return counts


def _is_bound_to_its_place(value: ast.expr) -> bool:
    """Whether it draws at random, or names an array for its dtype only: that name may soon be another's."""
    return "self.rngs" in text(value) or ".dtype" in text(value)


def _depth(value: ast.AST) -> int:
    """How many calls stand in each other."""
    below = max((_depth(child) for child in ast.iter_child_nodes(value)), default=0)
    return below + isinstance(value, ast.Call)


def _singular(path: str, taken: set[str]) -> str:
    last = path.split(".")[-1].rstrip("0123456789_")
    name = last[:-1] if last.endswith("s") and len(last) > 2 else last
    return name if len(name) > 1 and naming.usable(name) and name not in taken else "block"
