"""A traced training objective cut into consecutive stages, for the pipeline."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var
from jax.extend.core import primitives as lax_primitives

from twinax.errors import CellFailed

SLACK = 1.25
"""The busiest stage may have this many times the work of the best balanced cut's, where that crosses less."""

_CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr"}  # only group equations


@dataclass(frozen=True)
class Program:
    """``params, state, data -> loss, new state`` as equations, all by leaf.

    Attributes:
        equations: In order; each depends on earlier ones only.
        constants: Values of variables that are neither computed nor given.
        changed: Numbers of the state's leaves that come out as something else.
        moving: Variables that depend on parameters or on changing state. All others are cheap to repeat: each
            stage computes those that it needs from the data.
    """

    equations: list[JaxprEqn]
    constants: dict[Var, Any]
    params: list[Var]
    state: list[Var]
    data: list[Var]
    loss: Any
    new_state: list[Any]
    changed: list[int]
    moving: set[Var]


@dataclass(frozen=True)
class Stage:
    """Consecutive equations.

    Attributes:
        params: Numbers of the parameters' leaves that it uses.
        state: Numbers of the state's leaves that it changes.
        incoming: What earlier stages computed and it, or a later one, uses.
        outgoing: The same, for the next stage.
    """

    equations: list[JaxprEqn]
    params: list[int]
    state: list[int]
    incoming: list[Var]
    outgoing: list[Var]


def trace(objective: Callable[..., Any], params: Any, state: Any, data: Any) -> Program:
    """The objective of arrays (or shapes) like these, with nested ``jax.jit`` inlined."""
    leaves, structure = jax.tree.flatten((params, state, data))

    def flat(*leaves: Any) -> list[Any]:
        return jax.tree.leaves(objective(*jax.tree.unflatten(structure, leaves)))

    closed = jax.make_jaxpr(flat)(*leaves)
    closed = jax.make_jaxpr(lambda *leaves: _inlined(closed, leaves))(*leaves)
    given, numbers = list(closed.jaxpr.invars), [len(jax.tree.leaves(tree)) for tree in (params, state)]
    own, rest = given[: numbers[0]], given[numbers[0] :]
    old, new = rest[: numbers[1]], list(closed.jaxpr.outvars[1:])
    changed = [i for i, (before, after) in enumerate(zip(old, new, strict=True)) if before is not after]
    moving = {*own, *(old[i] for i in changed)}
    for equation in closed.jaxpr.eqns:
        if moving.intersection(variables(equation.invars)):
            moving.update(equation.outvars)
    return Program(
        list(closed.jaxpr.eqns),
        dict(zip(closed.jaxpr.constvars, closed.consts, strict=True)),
        own,
        old,
        rest[numbers[1] :],
        closed.jaxpr.outvars[0],
        new,
        changed,
        moving,
    )


def form(atom: Any) -> Any:
    """Shape, size and type of a variable."""
    return atom.aval


def variables(atoms: Iterable[Any]) -> list[Var]:
    """Those that are no literals."""
    return [atom for atom in atoms if not isinstance(atom, Literal)]


def value(atom: Any, known: dict[Var, Any]) -> Any:
    """What a variable or a literal stands for."""
    return atom.val if isinstance(atom, Literal) else known[atom]


def evaluate(equations: Iterable[JaxprEqn], known: dict[Var, Any]) -> None:
    """Add what the equations compute to the known values."""
    for equation in equations:
        arguments = [value(atom, known) for atom in equation.invars]
        if inner := _CALLS.get(equation.primitive.name):
            results = _inlined(equation.params[inner], arguments)
        else:
            options = equation.primitive.get_bind_params(equation.params)
            results = equation.primitive.bind(*arguments, **options)
            results = results if equation.primitive.multiple_results else [results]
        known.update(zip(equation.outvars, results, strict=True))


def _inlined(closed: ClosedJaxpr, arguments: Sequence[Any]) -> list[Any]:
    known: dict[Var, Any] = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    known.update(zip(closed.jaxpr.invars, arguments, strict=True))
    evaluate(closed.jaxpr.eqns, known)
    return [value(atom, known) for atom in closed.jaxpr.outvars]


# --- where to cut ------------------------------------------------------------------------------


def flops(equation: JaxprEqn) -> int:
    """Floating-point operations of its matrix products and convolutions; 0 for everything else."""
    if equation.primitive is lax_primitives.dot_general_p:
        (contracted, _), _ = equation.params["dimension_numbers"]
        depth = math.prod(form(equation.invars[0]).shape[axis] for axis in contracted)
        return 2 * depth * form(equation.outvars[0]).size
    if equation.primitive is lax_primitives.conv_general_dilated_p:
        kernel = form(equation.invars[1])
        features = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
        return 2 * kernel.size // features * form(equation.outvars[0]).size
    inner = [f for p in equation.params.values() for f in (p if isinstance(p, tuple | list) else (p,))]
    bodies = [f.jaxpr if isinstance(f, ClosedJaxpr) else f for f in inner if hasattr(f, "eqns")]
    return equation.params.get("length", 1) * sum(flops(e) for body in bodies for e in body.eqns)


def cut(program: Program, count: int) -> list[Stage]:
    """The program in ``count`` stages, balanced by work, between which few numbers cross.

    Raises:
        CellFailed: ``unsupported``: it cannot be cut into so many.
    """
    moving = [e for e in program.equations if program.moving.intersection(variables(e.invars))]
    spans = _spans(program, moving)
    done = [0, *accumulate(flops(equation) for equation in moving)]  # work before each place
    crossing = _crossing(program, spans, moving)
    best: dict[int, int] = {}  # of places with the same work before them, the one that least crosses
    for place, size in enumerate(crossing):
        if size is not None and 0 < done[place] < done[-1]:
            there = best.get(done[place])
            if there is None or size <= (
                crossing[there] or 0
            ):  # of equals the last: a norm stays with its block
                best[done[place]] = place
    places = sorted(best.values())
    if len(places) < count - 1:
        raise CellFailed(
            "unsupported",
            f"The model's JAX program can be cut into {len(places) + 1} stages that each have a matrix product "
            f"or a convolution, and a pipeline over {count} ranks needs {count} (a loop is never cut).",
            "Use fewer ranks, or compare data parallel or fully sharded.",
        )
    ends = _chosen(places, [done[p] for p in places], [crossing[p] or 0 for p in places], done[-1], count)
    bounds = [0, *ends, len(moving)]
    return [_stage(program, moving, spans, first, last) for first, last in pairwise(bounds)]


def _spans(program: Program, moving: list[JaxprEqn]) -> dict[Var, tuple[int, int]]:
    """Of each moving variable: the equation that makes it (-1: given) and the last that uses it."""
    spans = {variable: (-1, -1) for variable in (*program.params, *program.state)}
    for i, equation in enumerate(moving):
        for variable in variables(equation.invars):
            if variable in program.moving:
                spans[variable] = (spans[variable][0], i)
        spans.update((variable, (i, i)) for variable in equation.outvars)
    if program.loss in spans:  # the last stage tells it
        spans[program.loss] = (spans[program.loss][0], len(moving))
    return spans


def _crossing(program: Program, spans: dict[Var, tuple[int, int]], moving: list[JaxprEqn]) -> list[int | None]:
    """Numbers that cross each place; None where there must be no cut."""
    dtype = form(program.loss).dtype
    sizes, forbidden = [0] * (len(moving) + 1), set()
    for variable, (first, last) in spans.items():
        if first >= 0:
            for place in range(first + 1, last + 1):
                sizes[place] += form(variable).size
                if form(variable).dtype != dtype:  # it would not survive in a buffer of this type
                    forbidden.add(place)
    for i in program.changed:  # the stage that changes a state must be the only one that reads it
        uses = [n for n, equation in enumerate(moving) if program.state[i] in variables(equation.invars)]
        uses += [spans[v][0] for v in variables([program.new_state[i]]) if v in spans]
        if uses:
            forbidden.update(range(min(uses) + 1, max(uses) + 1))
    return [None if place in forbidden else size for place, size in enumerate(sizes)]


def _chosen(places: list[int], done: list[int], sizes: list[int], total: int, count: int) -> list[int]:
    """The places to cut at: those that least cross among the nearly best balanced."""

    def best(
        cost: Callable[[int, int], float], join: Callable[[float, float], float]
    ) -> tuple[float, list[int]]:
        """Least joined cost of ``count`` stages; ``cost(first, last)`` is of a stage between two cuts."""
        ways: dict[int, tuple[float, list[int]]] = {-1: (0.0, [])}
        for stage in range(count - 1):
            found: dict[int, tuple[float, list[int]]] = {}
            for end in range(stage, len(places) - (count - 2 - stage)):
                options = [(join(c, cost(p, end)), [*cuts, end]) for p, (c, cuts) in ways.items() if p < end]
                found[end] = min(options, key=lambda way: way[0])
            ways = found
        return min(((join(c, cost(p, len(places))), cuts) for p, (c, cuts) in ways.items()), key=lambda w: w[0])

    ends = [*done, total, 0]  # 0: before the first, at -1

    def work(first: int, last: int) -> float:
        return ends[last] - ends[first]

    limit = SLACK * best(work, max)[0]
    crossed = [*sizes, 0]
    _, cuts = best(lambda a, b: crossed[b] if work(a, b) <= limit else math.inf, operator.add)
    return [places[i] for i in cuts]


def _stage(
    program: Program, moving: list[JaxprEqn], spans: dict[Var, tuple[int, int]], first: int, last: int
) -> Stage:
    """The stage of the moving equations ``first`` to ``last``, with the others that these need."""
    own, final = {id(e) for e in moving[first:last]}, last == len(moving)
    moves = program.moving
    state = [
        i
        for i in program.changed
        if (first <= spans[v][0] < last if (v := program.new_state[i]) in moves else final)
    ]
    results = [program.new_state[i] for i in state] + ([program.loss] if final else [])
    needed, equations = {v for v in variables(results) if v not in moves}, []
    for equation in reversed(program.equations):
        if id(equation) in own or needed.intersection(equation.outvars):
            equations.insert(0, equation)
            needed.update(v for v in variables(equation.invars) if v not in moves)
    used = {v for e in equations for v in variables(e.invars)}
    made = [v for v, (start, _) in spans.items() if start >= 0]
    return Stage(
        equations,
        [i for i, v in enumerate(program.params) if v in used],
        state,
        [v for v in made if spans[v][0] < first <= spans[v][1]],
        [v for v in made if spans[v][0] < last <= spans[v][1] and not final],
    )
