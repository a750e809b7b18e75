"""What every test shares."""

import os
import sys

import pytest
from hypothesis import settings

settings.register_profile("same", derandomize=True)
if "TWINAX_EXAMPLES" not in os.environ:  # `make test` tries the same cases each time, `make test-all` others
    settings.load_profile("same")


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_are_given_back():
    """Each compiled program holds memory maps, and a process may hold only so many of them."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
