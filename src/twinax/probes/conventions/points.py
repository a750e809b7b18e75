"""The points: a function's name, and the float64 array at which it is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from twinax.twin import Array

INF, NAN = float("inf"), float("nan")


@dataclass(frozen=True)
class Point:
    """Where a function is looked at.

    Attributes:
        function: The function's name; both sides define it.
        what: ``kink``, ``tie``, ``singular``, ``infinite`` or ``empty``.
        at: The input.
    """

    function: str
    what: str
    at: Array


def _points(what: str, inputs: Mapping[str, object]) -> list[Point]:
    return [Point(function, what, np.asarray(at, dtype=np.float64)) for function, at in inputs.items()]


ONES = [[1.0, 1.0], [1.0, 1.0]]
EQUAL = [[2.0, 0.0], [0.0, 2.0]]

POINTS: tuple[Point, ...] = (
    *_points(
        "kink",
        {
            "abs": 0.0,
            "relu": 0.0,
            "relu6": [0.0, 6.0],
            "leaky_relu": 0.0,
            "elu": 0.0,
            "selu": 0.0,
            "celu": 0.0,
            "hard_tanh": [-1.0, 1.0],
            "hard_sigmoid": [-3.0, 3.0],
            "hard_swish": [-3.0, 3.0],
            "clip": [0.0, 1.0],
            "sign": 0.0,
            "floor": 1.0,
            "round": [0.5, 1.5],
            "trunc": 0.0,
            "remainder": 2.0,
            "huber": [-1.0, 1.0],
            "l1_loss": 0.0,
            "hinge": 1.0,
            "logaddexp_of_equal": 0.0,
        },
    ),
    *_points(
        "tie",
        {
            "maximum": [1.0, 1.0],
            "minimum": [1.0, 1.0],
            "max": [1.0, 1.0, 0.0],
            "min": [1.0, 1.0, 2.0],
            "amax": [1.0, 1.0, 0.0],
            "max_along_axis": ONES,
            "sort_then_first": [1.0, 1.0, 2.0],
            "median": [1.0, 1.0, 1.0],
            "top_k": [3.0, 3.0, 3.0],
            "norm_infinity": [2.0, -2.0],
            "cumulative_maximum": [1.0, 1.0, 0.0],
            "max_pool": [1.0, 1.0, 1.0, 1.0],
        },
    ),
    *_points(
        "singular",
        {
            "sqrt": 0.0,
            "rsqrt": 0.0,
            "reciprocal": 0.0,
            "log": 0.0,
            "log1p": -1.0,
            "zero_over_zero": 0.0,
            "x_log_x": 0.0,
            "entropy": [0.0, 1.0],
            "xlogy": [0.0, 0.0],
            "power_zero": 0.0,
            "power_half": 0.0,
            "zero_to_the_x": 2.0,
            "x_to_the_x": 0.0,
            "atan2": [0.0, 0.0],
            "hypot": [0.0, 0.0],
            "asin": 1.0,
            "acos": 1.0,
            "acosh": 1.0,
            "atanh": 1.0,
            "erfinv": 1.0,
            "lgamma": 0.0,
            "digamma": 0.0,
            "sinc": 0.0,
            "norm": [0.0, 0.0],
            "norm_1": [0.0, 1.0],
            "norm_3": [0.0, 0.0],
            "unit_vector": [0.0, 0.0],
            "cosine_similarity": [0.0, 0.0],
            "std_of_a_constant": [2.0, 2.0, 2.0],
            "std_of_one": [2.0],
            "product_with_a_zero": [0.0, 2.0, 3.0],
            "product_with_two_zeros": [0.0, 0.0, 3.0],
            "cumulative_product": [2.0, 0.0, 3.0],
            "sqrt_behind_where": [-1.0, 0.0],
            "determinant": ONES,
            "inverse": ONES,
            "eigenvalues_of_equal": EQUAL,
            "eigenvectors_of_equal": EQUAL,
            "singular_vectors_of_equal": EQUAL,
            "cholesky": ONES,
        },
    ),
    *_points(
        "infinite",
        {
            "exp": 1000.0,
            "sigmoid": [-1000.0, 1000.0],
            "tanh": [-INF, INF],
            "softplus": [-1000.0, 1000.0],
            "gelu": [-INF, INF],
            "silu": [-INF, INF],
            "softmax": [0.0, -INF],
            "softmax_all_masked": [-INF, -INF],
            "log_softmax": [0.0, -INF],
            "logsumexp": [-INF, -INF],
            "logaddexp": [-INF, -INF],
            "nan_to_num": NAN,
            "clip_nan": NAN,
            "maximum_with_nan": [NAN, 1.0],
            "mean_with_infinity": [INF, 1.0],
        },
    ),
    *_points(
        "empty",
        {
            "sum_of_nothing": [],
            "mean_of_nothing": [],
            "max_of_nothing": [],
            "product_of_nothing": [],
            "logsumexp_of_nothing": [],
            "norm_of_nothing": [],
            "std_of_nothing": [],
        },
    ),
)
