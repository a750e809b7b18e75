"""Whether scores reach what a task promises."""

from __future__ import annotations

from collections.abc import Mapping

from twinax.records import Json


def met(goal: Mapping[str, Json], scores: Mapping[str, float]) -> bool:
    """Whether scores reach the goal (see :class:`twinax.twin.Task`); NaN, or a missing score, reaches none."""
    nan = float("nan")
    return (
        all(scores.get(name, nan) <= most for name, most in goal.get("at_most", {}).items())
        and all(scores.get(name, nan) >= least for name, least in goal.get("at_least", {}).items())
        and all(abs(scores.get(name, nan) - value) <= by for name, (value, by) in goal.get("near", {}).items())
    )
