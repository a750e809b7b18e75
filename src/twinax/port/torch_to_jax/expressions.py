"""An operation as a Python expression: the table's function, called or written in place of its call."""

from __future__ import annotations

import ast
import copy
import math
from collections.abc import Mapping
from typing import Any

from twinax.port.torch_to_jax.table import Entry

DROPPED = ("device", "layout", "pin_memory", "memory_format", "non_blocking", "generator", "requires_grad")
LAYERS = ("drop", "dropout")
"""Parameters that take a dropout layer, which the model is given where it draws."""
UNKNOWN = object()
ASKED = {"any": any, "set": set, "len": len, "isinstance": isinstance, "str": str}
"""What a test on constants may call."""
SAME = "same_dtype"
"""Stands for a result's dtype where the operand has it already: a cast to it is left out."""


def parsed(text: str) -> ast.expr:
    """A Python expression."""
    return ast.parse(text, mode="eval").body


def literal(value: Any) -> ast.expr:
    """A number, string or None as an expression; infinities by jnp's names."""
    if isinstance(value, float) and not math.isfinite(value):
        return parsed("jnp.nan" if math.isnan(value) else "jnp.inf" if value > 0 else "-jnp.inf")
    if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
        return ast.UnaryOp(ast.USub(), literal(-value))
    return ast.Constant(value)


def bound(entry: Entry, args: list[ast.expr], kwargs: Mapping[str, ast.expr]) -> dict[str, ast.expr]:
    """Arguments by the function's parameters.

    Raises:
        TypeError: The function has no such parameter.
    """
    positional = [a.arg for a in entry.node.args.args]
    given = dict(zip(positional, args, strict=False))
    extra = args[len(positional) :]
    given |= {name: value for name, value in kwargs.items() if name not in DROPPED and not _is_none(value)}
    unknown = [name for name in given if name not in entry.parameters]
    if unknown or any(not _is_off(value) for value in extra):
        raise TypeError(unknown[0] if unknown else f"its argument {len(positional) + 1}")
    return given


def expression(entry: Entry, given: Mapping[str, ast.expr]) -> tuple[ast.expr, set[str]]:
    """The operation as an expression, and the names that it uses of the table's files or libraries."""
    if entry.expression is not None:
        filled = {**_defaults(entry), **given}
        body = Substitute(filled).visit(copy.deepcopy(entry.expression))
        return body, _names(body)
    call = ast.Call(ast.Name(entry.function), *_arguments(entry, given))
    return call, {entry.function}


def refusal(entry: Entry, given: Mapping[str, ast.expr]) -> str | None:
    """What the function says where it cannot compute with these constants; None where it can, or may."""
    layers = dict.fromkeys(LAYERS, ast.Name("given"))
    known = {**_defaults(entry), **layers, **given}
    for statement in entry.node.body:
        test: ast.expr = ast.Constant(True)
        if isinstance(statement, ast.If):
            test, statement = statement.test, statement.body[0]
        if isinstance(statement, ast.Raise) and isinstance(statement.exc, ast.Call):
            answer = decided(Substitute(known).visit(copy.deepcopy(test)))
            if answer is not UNKNOWN and answer:
                return ast.literal_eval(statement.exc.args[0])
    return None


def times_read(node: ast.AST, name: str) -> int:
    """How often an expression reads a name, at most: one branch of a choice is taken."""
    if isinstance(node, ast.IfExp):
        branches = max(times_read(node.body, name), times_read(node.orelse, name))
        return times_read(node.test, name) + branches if not _is_about_none(node.test) else branches
    if isinstance(node, ast.Name):
        return int(node.id == name)
    return sum(times_read(child, name) for child in ast.iter_child_nodes(node))


def _is_about_none(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Is | ast.IsNot)


def _arguments(entry: Entry, given: Mapping[str, ast.expr]) -> tuple[list[ast.expr], list[ast.keyword]]:
    """Arrays by position as far as they lead; everything else by name; nothing that is the default anyhow."""
    defaults = _defaults(entry)
    wanted = {
        name: value
        for name, value in given.items()
        if name not in defaults or ast.dump(defaults[name]) != ast.dump(value)
    }
    args: list[ast.expr] = []
    for parameter in entry.node.args.args:
        name = parameter.arg
        if name in wanted and (name not in defaults or not is_constant(wanted[name])):
            args.append(wanted.pop(name))
        else:
            break
    return args, [ast.keyword(name, value) for name, value in wanted.items()]


def _defaults(entry: Entry) -> dict[str, ast.expr]:
    arguments = entry.node.args
    found = dict(
        zip(
            [a.arg for a in arguments.args[len(arguments.args) - len(arguments.defaults) :]],
            arguments.defaults,
            strict=True,
        )
    )
    for parameter, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        if default is not None:
            found[parameter.arg] = default
    return found


def _names(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}


def _is_off(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and (node.value is None or node.value is False)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def is_constant(node: ast.expr) -> bool:
    """Whether an expression is made of numbers alone."""
    return not any(isinstance(n, ast.Name | ast.Attribute | ast.Call) for n in ast.walk(node))


class Substitute(ast.NodeTransformer):
    """Puts arguments in place of parameters, and takes the branches that constants decide."""

    def __init__(self, given: Mapping[str, ast.expr]) -> None:
        self.given = given

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return copy.deepcopy(self.given[node.id]) if node.id in self.given else node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        test = self.visit(node.test)
        answer = decided(test)
        if answer is UNKNOWN:
            return ast.IfExp(_undecided(test), self.visit(node.body), self.visit(node.orelse))
        return self.visit(node.body if answer else node.orelse)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and len(node.args) == 1:
            if node.func.attr == "astype" and text(node.args[0]) == SAME:
                return node.func.value
            if node.func.attr == "reshape" and isinstance(node.args[0], ast.Tuple) and node.args[0].elts:
                node.args = _left_open(node.args[0].elts)  # x.reshape(2, 3) rather than x.reshape((2, 3))
        # nobody writes these: they are what the functions do anyhow
        node.keywords = [
            k for k in node.keywords if not (k.arg in ("keepdims", "dtype", "where") and _is_default(k))
        ]
        return node


def _left_open(sizes: list[ast.expr]) -> list[ast.expr]:
    """The sizes, with -1 for one that is computed."""
    computed = [place for place, size in enumerate(sizes) if isinstance(size, ast.BinOp)]
    if len(computed) != 1:
        return sizes
    return [literal(-1) if place == computed[0] else size for place, size in enumerate(sizes)]


def _undecided(test: ast.expr) -> ast.expr:
    """The part of a test that its constants leave open."""
    if not isinstance(test, ast.BoolOp):
        return test
    values = [value for value in test.values if decided(value) is UNKNOWN]
    return values[0] if len(values) == 1 else ast.BoolOp(test.op, values)


def _is_default(keyword: ast.keyword) -> bool:
    return isinstance(keyword.value, ast.Constant) and keyword.value.value in (False, None)


def decided(test: ast.expr) -> Any:
    """The value of a test on constants, or UNKNOWN; an array is never None."""
    if isinstance(test, ast.BoolOp):
        values = [decided(value) for value in test.values]
        stop = isinstance(test.op, ast.Or)
        if any(value is not UNKNOWN and bool(value) == stop for value in values):
            return stop
        return UNKNOWN if UNKNOWN in values else not stop
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = decided(test.operand)
        return UNKNOWN if inner is UNKNOWN else not inner
    if isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Is | ast.IsNot):
        if _is_none(test.comparators[0]):
            return _is_none(test.left) == isinstance(test.ops[0], ast.Is)
        return UNKNOWN
    if not any(
        isinstance(n, ast.Attribute) or (isinstance(n, ast.Name) and n.id not in ASKED) for n in ast.walk(test)
    ):
        code = compile(ast.Expression(ast.fix_missing_locations(copy.deepcopy(test))), "", "eval")
        try:
            return eval(code, {"__builtins__": ASKED})
        except TypeError:  # such as None > 0, in a branch that another test keeps from being asked
            return UNKNOWN
    return UNKNOWN


# --- basic indexing -----------------------------------------------------------------------------------

FULL = ast.Slice(None, None, None)


def subscript(base: ast.expr, items: list[ast.expr | None]) -> ast.expr:
    """``base[items]``; None stands for ``:``. Ellipsis and trailing ``:`` are left out."""
    items = list(items)
    while items and items[-1] is None:
        items.pop()
    if not items:
        return base
    parts: list[ast.expr] = [FULL if item is None else item for item in items]
    return ast.Subscript(base, parts[0] if len(parts) == 1 else ast.Tuple(parts), ast.Load())


def text(node: ast.expr) -> str:
    """The expression as source; ``x.shape[0], x.shape[1]`` is written ``*x.shape[:2]``."""
    plain = ast.unparse(ast.fix_missing_locations(copy.deepcopy(node)))
    if ".shape[0], " not in plain:
        return plain
    return ast.unparse(ast.fix_missing_locations(_Leading().visit(parsed(plain))))


class _Leading(ast.NodeTransformer):
    """Writes the first sizes of an array as one slice of its shape."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        node.args = _sliced(node.args)
        return node

    def visit_Tuple(self, node: ast.Tuple) -> ast.AST:
        self.generic_visit(node)
        node.elts = _sliced(node.elts)
        return node


def _sliced(items: list[ast.expr]) -> list[ast.expr]:
    for start, item in enumerate(items):
        of = ast.unparse(item).removesuffix(".shape[0]")
        count = 0
        while start + count < len(items) and ast.unparse(items[start + count]) == f"{of}.shape[{count}]":
            count += 1
        if count > 1:
            return [
                *items[:start],
                ast.Starred(parsed(f"{of}.shape[:{count}]")),
                *_sliced(items[start + count :]),
            ]
    return items
