"""Forms of the functions whose gradient is finite and the same on both sides, at their special point too.

Each is one expression of ``x`` and of ``xp``, which is ``torch`` on one side and ``jax.numpy`` on the
other: the same text is run on both. A gradient through ``where`` is only safe when the branch that is not
taken has a finite gradient too: hence the second ``where`` inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SMALL = "1e-12"
_FINITE = "xp.where(x < -1e30, -1e30, x)"  # minus infinity as a number
_LOGSUMEXP = f"(lambda z: xp.amax(z) + xp.log(xp.sum(xp.exp(z - xp.amax(z)))))({_FINITE})"
_FLAT = "xp.where(xp.isinf(x), 0.0, x)"

SAFE: Mapping[str, str] = {
    "abs": "x * xp.sign(x)",
    "leaky_relu": "xp.where(x > 0, x, 0.01 * x)",
    "hard_tanh": "xp.where(x < -1, -1.0, xp.where(x > 1, 1.0, x))",
    "clip": "xp.where(x < 0, 0.0, xp.where(x > 1, 1.0, x))",
    "l1_loss": "xp.mean(x * xp.sign(x))",
    "hinge": "xp.where(x < 1, 1.0 - x, 0.0)",
    "max_along_axis": "xp.amax(x, 1)",
    "zero_over_zero": "xp.where(x == 0, 1.0, x / xp.where(x == 0, 1.0, x))",
    "x_log_x": "x * xp.log(xp.where(x > 0, x, 1.0))",
    "xlogy": "x[0] * xp.log(xp.where(x[1] > 0, x[1], 1.0))",
    "power_zero": "xp.ones_like(x) + 0.0 * x",
    "x_to_the_x": "xp.exp(x * xp.log(xp.where(x > 0, x, 1.0)))",
    "atan2": "xp.arctan2(x[0], xp.where(xp.sum(x * x) == 0, 1.0, x[1]))",
    "hypot": f"xp.sqrt(xp.sum(x * x) + {SMALL})",
    "norm": f"xp.sqrt(xp.sum(x * x) + {SMALL})",
    "norm_1": "xp.sum(x * xp.sign(x))",
    "norm_3": f"(xp.sum((x * x) ** 1.5) + {SMALL}) ** (1 / 3)",
    "unit_vector": f"x / xp.sqrt(xp.sum(x * x) + {SMALL})",
    "cosine_similarity": f"xp.sum(x) / xp.sqrt(len(x) * xp.sum(x * x) + {SMALL})",
    "std_of_a_constant": f"xp.sqrt(xp.sum((x - xp.mean(x)) ** 2) / (len(x) - 1) + {SMALL})",
    "std_of_one": f"xp.sqrt(xp.sum((x - xp.mean(x)) ** 2) / max(len(x) - 1, 1) + {SMALL})",
    "sqrt_behind_where": "xp.where(x > 0, xp.sqrt(xp.where(x > 0, x, 1.0)), 0.0)",
    "determinant": "x[0, 0] * x[1, 1] - x[0, 1] * x[1, 0]",
    "silu": f"xp.where(xp.isinf(x), xp.where(x > 0, x, 0.0), {_FLAT} / (1 + xp.exp(-{_FLAT})))",
    "softmax_all_masked": f"(lambda z: (xp.exp(z) / xp.sum(xp.exp(z)))[0])({_FINITE} - xp.amax({_FINITE}))",
    "logsumexp": _LOGSUMEXP,
    "logaddexp": _LOGSUMEXP,
    "maximum_with_nan": "xp.where(x[0] > x[1], x[0], x[1])",
}


def safe_function(name: str, xp: Any) -> Any:
    """The safe form as a function of one array; None where there is none."""
    if name not in SAFE:
        return None
    return eval(f"lambda x: {SAFE[name]}", {"xp": xp})
