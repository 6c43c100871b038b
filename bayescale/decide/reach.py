"""Reach: at which size, budget or number of tokens the mean curve meets a target, with its uncertainty."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bayescale import checked
from bayescale._display import Display
from bayescale.checked import known_keywords
from bayescale.decide.trust import Caveat, caveats, far_caveat
from bayescale.decide.utility import check_target
from bayescale.digits import NOTHING, factor_shown
from bayescale.errors import InputError, nearest
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.posterior import fitted

POINTS = 240
"""Number of points, evenly spaced in ln input, at which the curve of each draw is evaluated."""
FARTHEST = 1000.0
"""The search ends this many times beyond the data by default."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class Reach(Display):
    """Distribution of the input at which the mean curve first meets a target.

    Attributes:
        target: The loss, or score, that the curve should meet.
        input: Name of the input that is varied.
        at: The other inputs, which are fixed.
        low: Start of the search.
        high: End of the search.
        log_input: ln of the input at which each draw's curve first meets the target, shape (draw,): minus infinity
            where the curve meets it at `low` already, infinity where it does not up to `high`.
        caveats: Reasons not to rely on the answer.
        remarks: Sentences that qualify the answer, such as that it lies beyond the tested extrapolation factor.
    """

    target: float
    input: str
    at: Mapping[str, float]
    low: float
    high: float
    log_input: np.ndarray
    caveats: tuple[Caveat, ...] = ()
    remarks: tuple[str, ...] = ()

    def probability_by(self, value: float) -> float:
        """Return the probability that the target is met at this value of the input or a smaller one.

        Raises:
            InputError: For a value outside the searched range.
        """
        if not (checked.POSITIVE.holds(value) and self.low <= value <= self.high):
            raise InputError(
                f"Values of {self.input} from {self.low:.3g} to {self.high:.3g} were searched; found "
                f"{checked.shortened(value)}. Search farther with upto= (--upto)."
            )
        return float((self.log_input <= np.log(value)).mean())

    def quantile(self, q: float) -> float:
        """Return the value of the input up to which the target is met with probability q.

        Infinite if not reached by `high`.

        Raises:
            InputError: For a probability outside (0, 1).
        """
        checked.options(q=(q, checked.PROBABILITY))
        found = float(np.quantile(self.log_input, q, method="inverted_cdf"))
        return 0.0 if found == -np.inf else float(np.exp(found))

    @property
    def p_already(self) -> float:
        """Return the probability that the target is met at `low` already."""
        return float(np.isneginf(self.log_input).mean())

    @property
    def p_never(self) -> float:
        """Return the probability that the target is not met up to `high`."""
        return float(np.isposinf(self.log_input).mean())

    @property
    def text(self) -> str:
        """The answer in words."""
        if self.caveats:
            return f"Cannot say at which {self.input} {self.target:g} is met. {self.caveats[0]}"
        held = "".join(f", at {name} {value:.3g}" for name, value in self.at.items())
        head = f"The mean curve meets {self.target:g} at {self.input} {self.written(0.5)}{held} (median; 80 %: "
        head += f"{self.written(0.1)} to {self.written(0.9)})."
        if self.p_never > 0:
            head += f" It does not by {self.high:.3g} with probability {self.p_never:.2f}."
        return " ".join([head, *self.remarks])

    def written(self, q: float) -> str:
        """Return a quantile in words, also where it lies outside the searched range."""
        value = self.quantile(q)
        if value == 0.0:
            return f"below {self.low:.3g}"
        return f"beyond {self.high:.3g}" if np.isinf(value) else factor_shown(value, 3)

    def to_frame(self) -> pd.DataFrame:
        """Return one row: median and interval of the input, and the probabilities that it lies outside the search."""
        row: dict[str, Any] = {"input": self.input, "target": self.target, **self.at}
        row |= {f"q{q:g}": self.quantile(q) for q in (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)}
        return pd.DataFrame([row | {"p_already": self.p_already, "p_never": self.p_never}])

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and texts; a quantile that is not reached becomes None."""
        row = self.to_frame().iloc[0].to_dict()
        plain = {name: None if isinstance(value, float) and np.isinf(value) else value for name, value in row.items()}
        return plain | {"text": self.text, "low": self.low, "high": self.high}

    def __repr__(self) -> str:
        """Return the text, cut to one screen."""
        return checked.one_screen(str(self))

    def __str__(self) -> str:
        """Return the answer and its table."""
        table = self.to_frame().to_string(index=False, na_rep=NOTHING, float_format=lambda value: f"{value:.4g}")
        return f"{self.text}\n{table}"


@known_keywords
def reach(
    posterior: Fitted,
    target: float,
    *,
    input: str | None = None,
    at: Mapping[str, float] | None = None,
    upto: float | None = None,
) -> Reach:
    """Find the value of an input at which the mean curve first meets a target.

    Each posterior draw is one curve of law and discrepancy. The point where this curve, from the smallest run on, first
    meets the target is one draw of the answer.

    Args:
        posterior: The fit.
        target: Loss, score or value that the curve should meet.
        input: Name of the input to vary; may be left out if the law has one input. For a fit along a ray, it is the
            fitted input.
        at: Values of the other inputs of the law.
        upto: End of the search; by default a thousand times the input of the largest run.

    Raises:
        InputError: For an unknown `input`, other inputs that are missing, or impossible numbers.

    Example:
        >>> bs.decide.reach(post, 2.3).quantile(0.5)  # doctest: +SKIP
    """
    posterior = fitted(posterior)
    check_target(target, posterior.runs.response_scale)
    names = posterior.law.inputs
    others = dict(at or {})
    if at is not None:
        checked.mapping("at", at, 'at={"n_tokens": 1e12}')
    if input is None:
        free = [name for name in names if name not in others]
        if len(free) != 1:
            raise InputError(
                f"Say which input to search: input= (--along), one of {', '.join(names)}, and the others in at= (--at)."
            )
        input = free[0]
    if input not in names:
        raise InputError(f"{posterior.law.name} has no input {input!r}. {nearest(input, names)}")
    if missing := [name for name in names if name != input and name not in others]:
        raise InputError(f"Give the other inputs in at= (--at); {', '.join(missing)} is missing.")
    seen = posterior.runs.frame[input].to_numpy(float)
    low, high = float(seen.min()), FARTHEST * float(seen.max()) if upto is None else upto
    if not checked.POSITIVE.holds(high) or high <= low:
        raise InputError(
            f"upto (--upto) must be larger than the smallest {input} of the runs, {low:.3g}; found {upto}."
        )
    grid = np.geomspace(low, high, POINTS)
    points = pd.DataFrame({input: grid, **{name: float(others[name]) for name in names if name != input}})
    forecast = posterior.forecast_at(posterior.on_ray(points[list(names)], {}), "mean")
    draws = forecast.draws.reshape(-1, POINTS)
    found = first_met(np.log(grid), draws if forecast.higher_is_better else -draws, target, forecast.higher_is_better)
    middle = float(np.exp(np.quantile(found, 0.5, method="inverted_cdf")).clip(low, high))
    question = {**{name: float(points[name].iloc[0]) for name in names}, input: middle}
    far = far_caveat(posterior, question)
    held = {name: float(others[name]) for name in names if name != input}
    reasons, remarks = tuple(caveats(posterior, question)), () if far is None else (far,)
    return Reach(float(target), input, held, low, float(high), found, reasons, remarks)


def first_met(x: np.ndarray, better: np.ndarray, target: float, rising: bool) -> np.ndarray:
    """Return the interpolated position at which each draw first meets the target, shape (draw,).

    Infinite if it never does.

    Args:
        x: Positions in order, shape (point,).
        better: Responses with a sign such that larger is better, shape (draw, point).
        target: The target.
        rising: Whether responses are scores, whose sign is not changed.
    """
    bar = target if rising else -target
    met = better >= bar
    number = met.argmax(1)
    found = np.full(len(better), np.inf)
    hit = np.flatnonzero(met.any(1))
    after = number[hit]
    before = np.maximum(after - 1, 0)
    a, b = better[hit, before], better[hit, after]
    share = np.where(b > a, (bar - a) / np.where(b > a, b - a, 1.0), 1.0)
    found[hit] = np.where(after == 0, -np.inf, x[before] + share * (x[after] - x[before]))
    return found
