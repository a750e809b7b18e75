"""The table is whole: read from text as it is when imported, and closed under what its functions use."""

import builtins
import importlib
import inspect

import transformers.integrations.moe  # noqa: F401  has an operation of its own
from op_testing import overload

from twinax.port.torch_to_jax import table
from twinax.port.torch_to_jax.ops.base import FUNCTIONS, RESULTS

for file in sorted(table.OPS.glob("*.py")):
    importlib.import_module(f"twinax.port.torch_to_jax.ops.{file.stem}")

SPECIAL = {"dtype", "key", "dropout", "drop"}
"""Parameters that the porter fills in."""


def test_the_text_and_the_imported_functions_agree():
    entries = table.read()
    assert set(entries) == set(FUNCTIONS)
    for name, entry in entries.items():
        assert entry.function == FUNCTIONS[name].__name__
        assert entry.results == RESULTS[name]
        assert entry.parameters == list(inspect.signature(FUNCTIONS[name]).parameters)


def test_functions_use_only_what_a_ported_file_has():
    known = {*table.LIBRARIES, *table.definitions(), *dir(builtins), "Array", "aten", "Callable", "Sequence"}
    for name, definition in table.definitions().items():
        assert definition.uses <= known, f"{name} uses {sorted(definition.uses - known)}"


def test_no_branch_begins_with_elif():
    """A branch that a constant decides is cut out as it stands."""
    assert not [d.name for d in table.definitions().values() if "elif " in d.text]


def test_parameters_are_those_of_torchs_schema():
    """By position no more than torch's; by name, where torch takes them by name only, the same names."""
    named: dict[str, set[str]] = {}  # of all operations that one function is
    for name, entry in table.read().items():
        named.setdefault(entry.function, {"copy"}).update(a.name for a in schema(name))
    for name, entry in table.read().items():
        arguments = entry.node.args
        bare = [a.arg for a in arguments.args[: len(arguments.args) - len(arguments.defaults)]]
        beyond = bare[sum(not a.kwarg_only for a in schema(name)) :]  # one with a default is the function's own
        only = {a.arg for a in entry.node.args.kwonlyargs} - SPECIAL
        assert {*beyond, *only} <= named[entry.function], f"{name}: {beyond} {only}"


def schema(name):
    return overload(name)._schema.arguments
