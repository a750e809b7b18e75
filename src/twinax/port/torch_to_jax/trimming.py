"""Functions of ``ops`` cut down to what one model needs of them.

A parameter that every call leaves out, or gives the same True, False or None, is taken out together with the
branches that it decides; so is one that the function does not read. One that every call gives has no default.
No function of ``ops`` has an ``elif``, which could not be cut out as it stands.
Text is cut by the places that the syntax tree gives, so that comments stay.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from functools import lru_cache

from twinax.port.torch_to_jax.expressions import ASKED, UNKNOWN, Substitute, decided, is_constant
from twinax.port.torch_to_jax.merging import blocks, merged
from twinax.port.torch_to_jax.table import head

MISSING = object()


def trimmed(functions: list[str], body: str) -> tuple[list[str], str]:
    """The functions and the code that calls them, without parameters that decide nothing there.

    Args:
        functions: Text of each function or constant; a call in one function counts like one in the code.
        body: The code, with every statement on one line.
    """
    before: object = None
    while before != (before := [*functions, body]):  # what a callee does not read, its caller may not either
        functions, body = _once(functions, body)
    return _used(functions, body), body


def _once(functions: list[str], body: str) -> tuple[list[str], str]:
    for index in reversed(range(len(functions))):  # a function before those that it calls
        text = functions[index]
        node = ast.parse(text).body[0]
        rest = [*functions[:index], *functions[index + 1 :], body]
        if not isinstance(node, ast.FunctionDef) or _is_passed(node.name, rest):
            continue
        calls = [call for piece in rest for call in _calls(piece, node.name)]
        fixed = _fixed(node, calls)
        left_out = {n for n in fixed if all(_argument(c, list(_parameters(node)), n) is MISSING for c in calls)}
        text = _without_types(text, _tuples(node, calls))
        given = _given(
            node, [list(_calls(piece, node.name)) for piece in rest[:-1]], list(_calls(body, node.name))
        )
        text = _folded(_with_constants(_without_branches(text, fixed, given), fixed, left_out))
        dropped = _unread(text, node)
        functions[index] = merged(_without_parameters(text, dropped, given))
        functions = [_without_arguments(f, node, dropped) for f in functions]
        body = _without_arguments(body, node, dropped)
    return functions, body


def _used(functions: list[str], body: str) -> list[str]:
    """The functions that the code still calls, or another of them does."""
    kept: list[str] = []
    for text in reversed(functions):
        node = ast.parse(text).body[0]
        name = node.name if isinstance(node, ast.FunctionDef) else ast.unparse(node).split(" = ")[0]
        rest = [*kept, body]
        if any(isinstance(n, ast.Name) and n.id == name for other in rest for n in _nodes(other)):
            kept.append(text)
    return kept[::-1]


@lru_cache(maxsize=256)
def _nodes(text: str) -> tuple[ast.AST, ...]:
    """The text's syntax tree, to be read only: it is asked for again and again."""
    return tuple(ast.walk(ast.parse(text)))


def _calls(text: str, name: str) -> Iterator[ast.Call]:
    for node in _nodes(text):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node


def _is_passed(name: str, texts: list[str]) -> bool:
    """Whether the function is somewhere used without being called: nobody knows with which arguments."""
    nodes = [n for text in texts for n in _nodes(text)]
    named = sum(isinstance(n, ast.Name) and n.id == name for n in nodes)
    return named != sum(
        isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == name for n in nodes
    )


def _parameters(node: ast.FunctionDef) -> dict[str, ast.expr | None]:
    """Parameter → default."""
    arguments = node.args
    names = [a.arg for a in arguments.args]
    found: dict[str, ast.expr | None] = dict.fromkeys(names)
    found |= dict(zip(names[len(names) - len(arguments.defaults) :], arguments.defaults, strict=True))
    return found | {a.arg: d for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)}


def _fixed(node: ast.FunctionDef, calls: list[ast.Call]) -> dict[str, ast.expr]:
    """Parameters that are the same constant in every call, or left out by all."""
    parameters = _parameters(node)
    names = list(parameters)
    fixed: dict[str, ast.expr] = {}
    for name, default in parameters.items():
        given = [_argument(call, names, name) for call in calls]
        values = [default if value is MISSING else value for value in given]
        constant = [v for v in values if isinstance(v, ast.expr) and is_constant(v)]
        if values and len(constant) == len(values) and len({ast.dump(v) for v in constant}) == 1:
            fixed[name] = constant[0]
    return fixed


def _given(node: ast.FunctionDef, inner: list[list[ast.Call]], outer: list[ast.Call]) -> set[str]:
    """Parameters that are never None: an expression in every call, and no function passes its own on."""
    names = list(_parameters(node))
    calls = [call for some in inner for call in some]

    def never_none(value: object, passed_on: bool) -> bool:
        if value is MISSING or not isinstance(value, ast.expr):
            return False
        return not (passed_on and isinstance(value, ast.Name)) and not (
            isinstance(value, ast.Constant) and value.value is None
        )

    return {
        name
        for name in names
        if (calls or outer)
        and all(never_none(_argument(call, names, name), True) for call in calls)
        and all(never_none(_argument(call, names, name), False) for call in outer)
    }


def _tuples(node: ast.FunctionDef, calls: list[ast.Call]) -> set[str]:
    """Parameters that are a tuple in every call."""
    names = list(_parameters(node))
    return {
        name for name in names if all(isinstance(_argument(call, names, name), ast.Tuple) for call in calls)
    }


def _without_types(text: str, tuples: set[str]) -> str:
    """The function without the question whether one of these parameters is a string."""
    for name in tuples:
        text = text.replace(f"isinstance({name}, str)", "False")
    return text


def _argument(call: ast.Call, names: list[str], name: str) -> object:
    if any(isinstance(a, ast.Starred) for a in call.args) or any(k.arg is None for k in call.keywords):
        return None
    place = names.index(name)
    if place < len(call.args):
        return call.args[place]
    return next((k.value for k in call.keywords if k.arg == name), MISSING)


def _without_branches(text: str, fixed: dict[str, ast.expr], given: set[str]) -> str:
    """The function without the ``if`` statements that constants decide, or arrays that are always there."""
    while True:
        node = ast.parse(text).body[0]
        assert isinstance(node, ast.FunctionDef)
        choices = [s for s in ast.walk(node) if isinstance(s, ast.If | ast.IfExp)]
        decisions = ((s, _answer(node, s, fixed, given)) for s in choices)
        found, answer = next(((s, a) for s, a in decisions if a is not UNKNOWN), (None, None))
        if found is None:
            return text
        if isinstance(found, ast.If):
            text = _taken(text, node, found, bool(answer))
        else:
            text = _replaced(text, found, _segment(text, found.body if answer else found.orelse))


def _segment(text: str, branch: ast.expr) -> str:
    return ast.get_source_segment(text, branch) or ast.unparse(branch)


def _answer(
    node: ast.FunctionDef, statement: ast.If | ast.IfExp, fixed: dict[str, ast.expr], given: set[str]
) -> object:
    before = _assigned_before(node, statement.lineno)
    known = {name: value for name, value in fixed.items() if name not in before}
    free = {n.id for n in ast.walk(statement.test) if isinstance(n, ast.Name)} - {*known, *ASKED}
    if not free <= given - before:
        return UNKNOWN
    return decided(Substitute(known).visit(ast.parse(ast.unparse(statement.test), mode="eval").body))


def _assigned_before(node: ast.FunctionDef, line: int) -> set[str]:
    """Names that a statement above this line gives a value."""
    names = (n for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
    return {n.id for n in names if n.lineno < line}


def _taken(text: str, function: ast.AST, statement: ast.If, answer: bool) -> str:
    """The text with one branch in the statement's place; nothing follows a branch that returns."""
    lines = text.splitlines()
    first, last = statement.lineno - 1, statement.end_lineno or statement.lineno
    kept: list[str] = []
    branch = statement.body if answer else statement.orelse
    if branch and isinstance(branch[-1], ast.Return | ast.Raise):
        block = next(b for b in blocks(function) if statement in b)
        last = block[-1].end_lineno or last
    if branch:
        inner = lines[branch[0].lineno - 1 : branch[-1].end_lineno]
        kept = textwrap.indent(textwrap.dedent("\n".join(inner)), " " * statement.col_offset).splitlines()
    return "\n".join([*lines[:first], *kept, *lines[last:]])


def _with_constants(text: str, fixed: dict[str, ast.expr], left_out: set[str]) -> str:
    """The function with constants for parameters that no call gives, or that are always True, False or None."""
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.FunctionDef)
    assigned = _assigned_before(node, node.end_lineno or 0)
    plain = {
        name: value
        for name, value in fixed.items()
        if name not in assigned
        and (name in left_out or (isinstance(value, ast.Constant) and value.value in (True, False, None)))
    }
    names = [n for s in node.body for n in ast.walk(s) if isinstance(n, ast.Name) and n.id in plain]
    for name in sorted(names, key=lambda n: (-n.lineno, -n.col_offset)):
        text = _replaced(text, name, ast.unparse(plain[name.id]))
    return text


def _folded(text: str) -> str:
    """The function with what a constant decides decided."""
    while True:
        tree = ast.parse(text)
        nodes = list(ast.walk(tree))
        statements = [n for n in nodes if isinstance(n, ast.If) and not _asks_for_none(n.test)]
        settled = next((n for n in statements if decided(n.test) is not UNKNOWN), None)
        if settled is not None:
            text = _taken(text, tree, settled, bool(decided(settled.test)))
            continue
        tests = [n.test for n in nodes if isinstance(n, ast.If | ast.IfExp)]
        shorter = next(((n, new) for n in tests if isinstance(n, ast.BoolOp) and (new := _shortened(n))), None)
        if shorter is not None:
            text = _replaced(text, *shorter)
            continue
        choices = [n for n in nodes if isinstance(n, ast.IfExp)]
        decisions = ((n, decided(n.test)) for n in choices if not _names_in(n.test))
        found = next(((n, a) for n, a in decisions if a is not UNKNOWN), None)
        if found is None:
            return text
        text = _replaced(text, found[0], _segment(text, found[0].body if found[1] else found[0].orelse))


def _shortened(test: ast.BoolOp) -> str:
    """The test without what its constants decide; "" where they decide nothing."""
    stop = isinstance(test.op, ast.Or)
    known = [UNKNOWN if _asks_for_none(value) else decided(value) for value in test.values]
    if any(answer is not UNKNOWN and bool(answer) == stop for answer in known):
        return str(stop)
    rest = [value for value, answer in zip(test.values, known, strict=True) if answer is UNKNOWN]
    if len(rest) == len(known):
        return ""
    return ast.unparse(rest[0] if len(rest) == 1 else ast.BoolOp(test.op, rest)) if rest else str(not stop)


def _asks_for_none(test: ast.expr) -> bool:
    asked = [
        n for n in ast.walk(test) if isinstance(n, ast.Compare) and isinstance(n.ops[0], ast.Is | ast.IsNot)
    ]
    return any(not isinstance(n.left, ast.Constant) for n in asked)


def _names_in(node: ast.expr) -> bool:
    return any(isinstance(n, ast.Name) for n in ast.walk(node))


def _replaced(text: str, node: ast.expr, new: str) -> str:
    """The text with other words in a node's place."""
    lines = text.splitlines()
    start, end = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    before = lines[start].encode()[: node.col_offset].decode()
    after = lines[end].encode()[node.end_col_offset :].decode()
    return "\n".join([*lines[:start], *(before + new + after).split("\n"), *lines[end + 1 :]])


def _unread(text: str, node: ast.FunctionDef) -> set[str]:
    """Parameters that the function does not read."""
    new = ast.parse(text).body[0]
    assert isinstance(new, ast.FunctionDef)
    read = {n.id for statement in new.body for n in ast.walk(statement) if isinstance(n, ast.Name)}
    return {name for name in _parameters(node) if name not in read}


def _without_parameters(text: str, dropped: set[str], given: set[str]) -> str:
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.FunctionDef)
    arguments = node.args
    defaults: list[ast.expr | None] = [None] * (len(arguments.args) - len(arguments.defaults))
    named = zip(arguments.args, [*defaults, *arguments.defaults], strict=True)
    pairs = [(a, d) for a, d in named if a.arg not in dropped]
    # one that every call gives needs no default, unless it follows one that some leave out
    left_out = [n for n, (a, d) in enumerate(pairs) if d is not None and a.arg not in given]
    first = left_out[0] if left_out else len(pairs)
    arguments.args, arguments.defaults = [a for a, _ in pairs], [d for _, d in pairs[first:] if d is not None]
    only = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    only = [(a, None if a.arg in given else d) for a, d in only if a.arg not in dropped]
    arguments.kwonlyargs, arguments.kw_defaults = [a for a, _ in only], [d for _, d in only]
    for parameter in (*arguments.args, *arguments.kwonlyargs):
        kind = parameter.annotation
        if parameter.arg in given and isinstance(kind, ast.BinOp) and ast.unparse(kind).endswith(" | None"):
            parameter.annotation = kind.left
    body = text.splitlines()[node.body[0].lineno - 1 :]
    return "\n".join([head(node), *_undescribed(body, dropped)])


def _undescribed(lines: list[str], dropped: set[str]) -> Iterator[str]:
    """The lines without a docstring's entries for these parameters: ``        name: …`` and what is deeper."""
    inside = False
    for line in lines:
        entry = re.match(r" {8}(\w+): \S", line)
        inside = entry.group(1) in dropped if entry else inside and line.startswith(" " * 9)
        if not inside:
            yield line


def _without_arguments(text: str, node: ast.FunctionDef, dropped: set[str]) -> str:
    """The text with these parameters' arguments taken out of every call of the function."""
    if not dropped:
        return text
    names = list(_parameters(node))
    while True:
        for call in _calls(text, node.name):
            place = next(
                (n for n, a in enumerate(call.args) if names[n] in dropped),
                None,
            )
            keywords = [k for k in call.keywords if k.arg in dropped]
            if place is not None:
                return _without_arguments(_rewritten(text, call, names, dropped), node, dropped)
            if keywords:
                text = _rewritten(text, call, names, dropped)
                break
        else:
            return text


def _rewritten(text: str, call: ast.Call, names: list[str], dropped: set[str]) -> str:
    """The call, which stands on one line, with what comes after the first dropped argument by name."""
    first = next((n for n in range(len(call.args)) if names[n] in dropped), len(call.args))
    keywords = [
        ast.keyword(names[n], a) for n, a in enumerate(call.args) if n > first and names[n] not in dropped
    ]
    new = ast.Call(
        call.func, call.args[:first], [*keywords, *(k for k in call.keywords if k.arg not in dropped)]
    )
    return _replaced(text, call, ast.unparse(new))
