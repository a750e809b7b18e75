"""What both sides of a support vector machine share: settings, checks, machines, folds. NumPy only."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from itertools import combinations

import numpy as np

from twinax.errors import BadInput
from twinax.twin import Array
from twinax.twin import Config as Settings

KERNELS = ("linear", "rbf", "poly", "sigmoid")
SOLVERS = ("smo", "dual", "primal")
LOSSES = ("hinge", "squared_hinge")
FOLDS = 5  # of the cross-validation that Platt scaling is fitted on
TINY = 1e-12  # curvature of a pair of points that lie on each other (libsvm's TAU)
# What differs by rounding alone counts as equal, so that both sides take the same pairs in the same order:
# after a step the pair's slopes are equal, and rounding would say which of the two is steeper.
NEAR = 1e-6  # of two slopes, in tolerances
SAME = 1e-9  # of two gains, as a share of the larger
SNUG = 1e-12  # of a variable and its bound, as a share of the largest range
CERTAIN = 1e-7  # how near to 0 and 1 coupled probabilities come: their linear system then has a solution
PLATT_STEPS = 100  # of Newton's method, at most
POLISHES = 2  # whole Newton steps at the end: near the optimum each doubles the right digits
REFRESHES = 10  # times that SMO's gradient is computed anew, at most


@dataclass(frozen=True)
class Config:
    """The machine and how it is solved.

    Attributes:
        features: Numbers per example.
        classes: Classes; of no meaning in regression.
        regression: ε-SVR rather than C-SVC.
        solver: ``smo`` gives a machine of support vectors; ``dual`` (coordinate descent) and ``primal``
            (Newton) give a linear machine of one weight per feature.
        loss: ``hinge``, or ``squared_hinge`` (linear machines only; ``primal`` needs it).
        kernel: One of :data:`KERNELS`; linear machines have ``linear``.
        C: Cost of an error.
        gamma: Scale of the kernel; ``scale`` is 1 / (features · variance of all feature values).
        degree: Of ``poly``.
        coef0: Constant of ``poly`` and ``sigmoid``.
        epsilon: Half the width of the tube in which errors of a regression cost nothing.
        class_weight: Factor on C for each class; ``balanced`` is n / (classes · n of the class).
        tolerance: Of ``smo`` the largest violation of the optimality conditions (as in libsvm); of ``dual``
            and ``primal`` the duality gap over the primal objective.
        iterations: Steps of ``smo``, epochs of ``dual`` or Newton steps of ``primal``, at most.
        budget_mib: Memory for the kernel matrix; beyond it, its rows are computed as they are needed.
        support_vectors: How many the machine holds.
    """

    features: int
    classes: int
    regression: bool
    solver: str
    loss: str
    kernel: str
    C: float
    gamma: float | str
    degree: int
    coef0: float
    epsilon: float
    class_weight: str | tuple[float, ...] | None
    tolerance: float
    iterations: int
    budget_mib: float
    support_vectors: int

    @classmethod
    def of(cls, settings: Settings) -> Config:
        """Those of the settings that are a machine's.

        Raises:
            BadInput: One of them has no meaning; it is named with its value.
        """
        given = {field.name: settings[field.name] for field in fields(cls)}
        if isinstance(given["class_weight"], list):
            given["class_weight"] = tuple(given["class_weight"])
        config = cls(**given)
        _check(config)
        return config

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Machine by machine (one against one), which class is on its negative and its positive side."""
        return list(combinations(range(self.classes), 2))

    @property
    def machines(self) -> int:
        """How many decision functions there are."""
        return 1 if self.regression else len(self.pairs)


def _check(c: Config) -> None:
    _one_of("kernel", c.kernel, KERNELS)
    _one_of("solver", c.solver, SOLVERS)
    _one_of("loss", c.loss, LOSSES)
    _number("C", c.C, positive=True)
    _number("tolerance", c.tolerance, positive=True)
    for name in ("iterations", "degree"):
        _count(name, getattr(c, name))
    if c.gamma != "scale":
        _number("gamma", c.gamma, positive=True, hint="Give a number above 0, or scale.")
    _number("epsilon", c.epsilon, positive=False)
    _number("budget_mib", c.budget_mib, positive=False)
    if not _is_number(c.coef0):
        raise BadInput(f"coef0 is {c.coef0!r}, which is no finite number.", "Give a number; 0 is usual.")
    if c.solver != "smo" and (c.kernel != "linear" or c.regression):
        what = "regression" if c.regression else f"the kernel {c.kernel}"
        raise BadInput(
            f"The solver {c.solver} finds linear classifiers; it cannot do {what}.", "Set solver to smo."
        )
    if (c.solver, c.loss) in (("smo", "squared_hinge"), ("primal", "hinge")):
        other = "hinge" if c.solver == "smo" else "squared_hinge"
        raise BadInput(f"The solver {c.solver} has no {c.loss} loss.", f"Set loss to {other}.")
    _check_class_weight(c)


def _one_of(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise BadInput(f"{name} is {value!r}, which is not known.", f"Give one of: {', '.join(known)}.")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _number(name: str, value: object, *, positive: bool, hint: str = "") -> None:
    """Finite, and above 0 (``positive``) or not below it."""
    if _is_number(value) and (value > 0 or (value == 0 and not positive)):  # type: ignore[operator]
        return
    bound = "above 0" if positive else "of 0 or more"
    raise BadInput(f"{name} is {value!r}; it must be a number {bound}.", hint or f"Give a number {bound}.")


def _count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise BadInput(
            f"{name} is {value!r}; it must be a whole number above 0.", "Give a whole number above 0."
        )


def _check_class_weight(c: Config) -> None:
    weight = c.class_weight
    if weight is None or weight == "balanced":
        return
    if isinstance(weight, str) or len(weight) != c.classes or not all(_is_number(w) and w > 0 for w in weight):
        raise BadInput(
            f"class_weight is {weight!r}; the machine has {c.classes} classes.",
            "Give a number above 0 for each class, balanced, or null.",
        )


def check_data(c: Config, features: Array, targets: Array) -> None:
    """Whether a machine can be fitted to these examples.

    Args:
        c: The machine.
        features: (n, d).
        targets: (n,): numbers of the classes, or values.

    Raises:
        BadInput: A value is not finite, sizes do not fit, or a class lacks examples.
    """
    if features.ndim != 2 or features.shape[1] != c.features or len(features) != len(targets):
        raise BadInput(
            f"There are features of shape {features.shape} and {len(targets)} targets; the machine takes "
            f"{c.features} features.",
            "Give one row of features for each target.",
        )
    wrong = np.argwhere(~np.isfinite(features))
    if len(wrong):
        row, column = wrong[0]
        raise BadInput(
            f"Feature {column} of example {row} is {features[row, column]}; not finite: {len(wrong)} values.",
            "Fill in or leave out such examples.",
        )
    _check_values(targets) if c.regression else _check_labels(c, targets)


def _check_values(targets: Array) -> None:
    wrong = np.flatnonzero(~np.isfinite(targets))
    if len(wrong):
        raise BadInput(f"The target of example {wrong[0]} is {targets[wrong[0]]}.", "Leave such examples out.")
    if len(targets) < 2:
        raise BadInput(f"There are {len(targets)} examples.", "Give 2 or more.")


def _check_labels(c: Config, labels: Array) -> None:
    if c.classes < 2:
        raise BadInput(f"The machine has {c.classes} classes.", "Give data of two classes or more.")
    outside = np.flatnonzero((labels < 0) | (labels >= c.classes))
    if len(outside):
        raise BadInput(
            f"Example {outside[0]} is of class {labels[outside[0]]}; classes count from 0 to {c.classes - 1}.",
            "Number the classes from 0, without a gap.",
        )
    counts = np.bincount(labels, minlength=c.classes)
    if np.count_nonzero(counts) == 1:
        raise BadInput(
            f"All {len(labels)} examples are of class {labels[0]}; there is nothing to tell apart.",
            "Give examples of two classes or more.",
        )
    if counts.min() < 2:
        raise BadInput(
            f"Class {counts.argmin()} has {counts.min()} examples; probabilities are fitted on examples that "
            "were held out, and need 2 of each class.",
            "Give more examples of it, or leave the class out.",
        )


def costs(c: Config, labels: Array) -> Array:
    """C of each example (n,), float64: that of its class."""
    if c.class_weight is None:
        return np.full(len(labels), float(c.C))
    if c.class_weight == "balanced":
        weights = len(labels) / (c.classes * np.bincount(labels, minlength=c.classes))
    else:
        weights = np.asarray(c.class_weight, dtype=np.float64)
    return c.C * weights[labels]


def signs(labels: Array, pair: tuple[int, int]) -> Array:
    """−1 for the pair's first class, +1 for its second, 0 for examples of others (n,), float64."""
    return (labels == pair[1]).astype(np.float64) - (labels == pair[0])


def scale(c: Config, features: Array) -> float:
    """gamma as a number; the variance is taken in float64, over all feature values together.

    Raises:
        BadInput: gamma is ``scale`` and the features never vary.
    """
    if not isinstance(c.gamma, str):
        return float(c.gamma)
    variance = float(np.var(features, dtype=np.float64))
    if not variance > 0:
        raise BadInput("All features of all examples have the same value.", "Give features that vary.")
    return 1.0 / (c.features * variance)


def folds(labels: Array) -> Array:
    """Fold of each example (n,), 0 to 4: drawn once, each class spread evenly, the same on both sides."""
    draw = np.random.default_rng(0)
    found = np.empty(len(labels), dtype=np.int64)
    start = 0
    for label in np.unique(labels):
        members = draw.permutation(np.flatnonzero(labels == label))
        found[members] = (start + np.arange(len(members))) % FOLDS
        start += len(members)
    return found


def order(count: int, epoch: int) -> Array:
    """The order in which an epoch of coordinate descent goes through the examples."""
    return np.random.default_rng([epoch, 0xC0]).permutation(count)


def unsolved(c: Config, steps: int, violation: float) -> BadInput:
    """The error of a solver that came to its limit, with the violation that is left."""
    what = {
        "smo": "SMO steps the optimality conditions are violated by",
        "dual": "epochs of coordinate descent the relative duality gap is",
        "primal": "Newton steps the relative duality gap is",
    }[c.solver]
    return BadInput(
        f"The machine is not solved: after {steps} {what} {violation:.3g}; the tolerance is {c.tolerance:g}.",
        "Raise iterations or tolerance, lower C, scale the features, or compute in float64.",
    )


def uncalibrated(slope: float) -> BadInput:
    """The error of Platt scaling that came to its limit."""
    return BadInput(
        f"Platt scaling did not converge in {PLATT_STEPS} Newton steps; its gradient is still {slope:.3g}.",
        "Scale the features or change C: the decision values are too large or too small to fit a sigmoid to.",
    )
