"""Where people are warned of mistakes: pages of documentation, and threads of issue trackers."""

from __future__ import annotations

from twinax.probes.mistakes.base import Citation

GITHUB = "https://github.com"

SHARP = Citation("JAX: the sharp bits", "https://docs.jax.dev/en/latest/notebooks/Common_Gotchas_in_JAX.html")
FAQ = Citation("JAX: frequently asked questions", "https://docs.jax.dev/en/latest/faq.html")
ERRORS = Citation("JAX: errors", "https://docs.jax.dev/en/latest/errors.html")
FLAGS = Citation("JAX: debugging flags", "https://docs.jax.dev/en/latest/debugging/flags.html")
BENCHMARKS = Citation("JAX: benchmarking JAX code", "https://docs.jax.dev/en/latest/benchmarking.html")
DONATION = Citation("JAX: buffer donation", "https://docs.jax.dev/en/latest/buffer_donation.html")
TORCH_FAQ = Citation(
    "PyTorch: frequently asked questions", "https://docs.pytorch.org/docs/stable/notes/faq.html"
)
AUTOGRAD = Citation("PyTorch: autograd mechanics", "https://docs.pytorch.org/docs/stable/notes/autograd.html")
ZEROING = Citation(
    "PyTorch: zeroing out gradients",
    f"{GITHUB}/pytorch/tutorials/blob/main/recipes_source/recipes/zeroing_out_gradients.py",
)


def thread(repository: str, number: int, title: str) -> Citation:
    """An issue or a pull request: GitHub leads from the one address to the other."""
    return Citation(f"{repository}#{number}: {title}", f"{GITHUB}/{repository}/issues/{number}")
