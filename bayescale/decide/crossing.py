"""Crossings and speed-ups, computed from joint draws of two curves.

Where two curves cross is a ratio of differences: its draws have no mean, and in some draws the curves do not cross. Its
posterior is therefore a mixture of three cases: one recipe is better over the whole range, the other one is, or the
curves cross, with quantiles of the point where they do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayescale._display import Display
from bayescale.checked import known_keywords, one_screen
from bayescale.errors import InputError

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Probabilities of the quantiles that results contain."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class Crossing(Display):
    """Posterior of the point within a range from which on recipe A is better than recipe B.

    The probabilities `p_always`, `p_never`, `p_overtakes` and `p_falls_behind` add up to one. If the curves cross
    several times, the point of the crossing is the last one, after which one recipe stays better up to the end of the
    range.

    Attributes:
        first: Name of A.
        second: Name of B.
        low: Start of the range.
        high: End of the range.
        axis: Name of the axis.
        p_always: Probability that A is better over the whole range.
        p_never: Probability that B is better over the whole range.
        p_overtakes: Probability that A is better at the end, but not over the whole range.
        p_falls_behind: Probability that B is better at the end, but not over the whole range.
        p_several: Fraction of draws in which the curves cross more than once; these are also counted in one of the four
            probabilities above.
        point: Quantiles, by probability, of the point at which A overtakes B if it does; empty if it never does.
        point_behind: Quantiles of the point at which A falls behind B if it does; empty if it never does.
        deadline: A point of the axis, or None.
        p_before_deadline: Probability that A is better from the deadline, or earlier, to the end of the range.
        caveats: Reasons for which no confident answer is possible.
        along: Quantiles of ln y_A - ln y_B along the axis and P(A better), for plots: x, q05, q50, q95, p_first.
        response: Name of the response by which recipes are compared, e.g. "loss".
    """

    first: str
    second: str
    low: float
    high: float
    axis: str
    p_always: float
    p_never: float
    p_overtakes: float
    p_falls_behind: float
    p_several: float
    point: Mapping[float, float]
    point_behind: Mapping[float, float]
    deadline: float | None = None
    p_before_deadline: float | None = None
    caveats: tuple[str, ...] = ()
    along: pd.DataFrame | None = dataclasses.field(default=None, compare=False, repr=False)
    response: str = "loss"

    @property
    def text(self) -> str:
        """The answer in words."""
        if self.caveats:
            return f"Cannot say where {self.first} becomes better than {self.second}. {' '.join(self.caveats)}"
        parts = [
            f"Between {self.axis} {self.low:.3g} and {self.high:.3g}: {self.first} is better throughout with "
            f"probability {share(self.p_always)}, {self.second} with {share(self.p_never)};",
            f"  {self.first} overtakes with {share(self.p_overtakes)} and falls behind with "
            f"{share(self.p_falls_behind)}.",
        ]
        if self.point and self.p_overtakes >= 0.01:
            parts.append(
                f"  Where {self.first} overtakes it does so at {self.point[0.5]:.3g} (90 %: {self.point[0.05]:.3g} to "
                f"{self.point[0.95]:.3g})."
            )
        if self.p_before_deadline is not None:
            words = f"is better by {self.deadline:.3g} and stays so with probability {share(self.p_before_deadline)}."
            parts.append(f"  {self.first} {words}")
        return "\n".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, ready for JSON; the quantiles along the axis are left out."""
        plain = dataclasses.asdict(dataclasses.replace(self, along=None))
        del plain["along"]
        points = {
            name: {f"{level:g}": value for level, value in getattr(self, name).items()}
            for name in ("point", "point_behind")
        }
        return {**plain, **points}

    def __repr__(self) -> str:
        """Return the text, cut to one screen."""
        return one_screen(str(self))

    def __str__(self) -> str:
        """Return the answer in words."""
        return self.text


def crossing_of(
    difference: Any,
    log_x: Any,
    *,
    names: tuple[str, str] = ("A", "B"),
    axis: str = "x",
    deadline: float | None = None,
) -> Crossing:
    """Return the posterior of the crossing from joint draws of ln y_A - ln y_B along an axis.

    Args:
        difference: Draws, shape (draw, point); negative where A is better.
        log_x: Logarithms of the axis, increasing, shape (point,).
        names: Names of A and B.
        axis: Name of the axis.
        deadline: A point of the axis by which A should be better.

    Raises:
        InputError: For shapes that do not fit, or a deadline outside the range.

    Example:
        >>> x = np.linspace(0.0, 2.0, 9)
        >>> draws = np.array([[-1.0], [1.0], [0.0]]) + np.array([[0.0], [0.0], [1.0]]) * (1.0 - x)
        >>> found = crossing_of(draws, x)
        >>> round(found.p_always, 2), round(found.p_never, 2), round(float(np.log(found.point[0.5])), 2)
        (0.33, 0.33, 1.0)
    """
    values, x = np.asarray(difference, float), np.asarray(log_x, float)
    if values.ndim != 2 or x.shape != values.shape[1:] or len(x) < 2 or (np.diff(x) <= 0).any():
        raise InputError(
            f"Draws of shape (draw, point) and an increasing axis of shape (point,) are needed; found {values.shape} "
            f"and {x.shape}."
        )
    low, high = float(np.exp(x[0])), float(np.exp(x[-1]))
    if deadline is not None and not low * (1 - 1e-9) <= deadline <= high * (1 + 1e-9):
        raise InputError(f"deadline must lie in the range {low:.4g} to {high:.4g}; found {deadline:g}.")
    better = values < 0
    changes = better[:, 1:] != better[:, :-1]
    ends, crossed = better[:, -1], changes.any(1)
    last = changes.shape[1] - 1 - np.argmax(changes[:, ::-1], axis=1)
    rows = np.arange(len(values))
    left, right = values[rows, last], values[rows, last + 1]
    # Between neighbouring points the difference is linear; draws without a crossing are dropped.
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where(crossed, left / (left - right), 0.0)
    point = x[last] + part * (x[last + 1] - x[last])
    always, never, overtakes, behind = ends & ~crossed, ~ends & ~crossed, ends & crossed, ~ends & crossed
    q05, q50, q95 = np.quantile(values, [0.05, 0.5, 0.95], axis=0)
    by = None
    if deadline is not None:
        by = float((always | (overtakes & (point <= np.log(deadline) + 1e-12))).mean())
    return Crossing(
        *names,
        *(low, high, axis),
        *(float(part.mean()) for part in (always, never, overtakes, behind)),
        p_several=float((changes.sum(1) > 1).mean()),
        point=quantiles(np.exp(point[overtakes])),
        point_behind=quantiles(np.exp(point[behind])),
        deadline=deadline,
        p_before_deadline=by,
        along=pd.DataFrame({"x": np.exp(x), "q05": q05, "q50": q50, "q95": q95, "p_first": better.mean(0)}),
    )


def quantiles(values: np.ndarray, levels: Iterable[float] = LEVELS) -> dict[float, float]:
    """Return quantiles by probability; an empty mapping for no values. Infinite values are allowed."""
    if not len(values):
        return {}
    # No interpolation between an infinite and a finite value.
    found = np.quantile(values, list(levels), method="inverted_cdf")
    return {level: float(value) for level, value in zip(levels, found, strict=True)}


def factor_needed(difference: Any, relative: Any, log_factor: Any) -> np.ndarray:
    """Return the logarithm of the factor by which A must grow along the axis to equal B where B is now.

    This is the first passage of A's own curve through B's value at the point in question.

    Args:
        difference: ln y_A - ln y_B at the point in question, shape (draw,).
        relative: ln y_A along the axis minus ln y_A at the point in question, shape (draw, factor).
        log_factor: Logarithms of the factors, increasing, with a zero among them, shape (factor,).

    Returns:
        Shape (draw,); inf where A does not equal B at any of the factors, -inf where A is better even at the least one.

    Example:
        >>> grid = np.linspace(-5.0, 5.0, 101)
        >>> factor_needed(np.array([0.1]), -0.05 * grid[None], grid).round(6).tolist()
        [2.0]
    """
    gap, curve, grid = np.asarray(difference, float), np.asarray(relative, float), np.asarray(log_factor, float)
    start = int(np.argmin(np.abs(grid)))
    # With larger factors the discrepancy may raise the curve again, so the first passage counts.
    up = np.minimum.accumulate(curve[:, start:], axis=1)
    down = np.maximum.accumulate(curve[:, start::-1], axis=1)
    result = np.zeros(len(gap))
    for row, target in enumerate(-gap):
        if target < 0:
            result[row] = passage(-up[row], -target, grid[start:], np.inf)
        elif target > 0:
            result[row] = passage(down[row], target, grid[start::-1], -np.inf)
    return result


def passage(values: np.ndarray, target: float, grid: np.ndarray, otherwise: float) -> float:
    """Return the point where non-decreasing values that start at zero first reach a target, or `otherwise`."""
    point = int(np.searchsorted(values, target))
    if point >= len(values):
        return otherwise
    if point == 0:
        return float(grid[0])
    before, after = values[point - 1], values[point]
    return float(grid[point - 1] + (target - before) / (after - before) * (grid[point] - grid[point - 1]))


def share(probability: float) -> str:
    """Write a probability in percent; probabilities close to 0 and 1 are written as "< 1 %" and "> 99 %"."""
    if probability < 0.005:
        return "< 1 %"
    return "> 99 %" if probability > 0.995 else f"{100 * probability:.0f} %"
