"""What every test shares."""

import sys

import pytest


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_are_given_back():
    """Each compiled program holds memory maps, and a process may hold only so many of them."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
