"""Utility: what going and not going are worth for each outcome, and what knowing the outcome would be worth.

All functions take arrays of outcomes and return arrays of money, or of whatever unit cost and value have.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import norm

from bayescale import checked
from bayescale._record import Array
from bayescale.checked import known_keywords
from bayescale.data.value import ResponseScale
from bayescale.errors import InputError, nearest

UTILITIES = {
    "step": "going costs `cost` and brings `value` if the target is met, nothing otherwise",
    "per_nat": "going costs `cost` and brings `value` for every nat (of a score, one of it) better than the target, a "
    "loss where it is worse",
    "opportunity": "going and missing loses `cost`; staying where the target would have been met loses `value`",
}
"""Utilities that can be chosen by name, each with the sentence that describes it."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class Utility:
    """Worth of going and of not going, as functions of the outcome y of the run.

    Attributes:
        name: A key of `UTILITIES`, or "function".
        go: Worth of going, for outcomes of any shape.
        stay: Worth of not going.
        break_even: Probability of meeting the target above which going pays; None where the probability alone does not
            decide.
        says: The sentence that describes the utility in a report.
    """

    name: str
    go: Callable[[Array], Array]
    stay: Callable[[Array], Array]
    break_even: float | None
    says: str

    def gain(self, y: Array) -> np.ndarray:
        """Return the worth of going minus that of not going, shape of `y`."""
        return np.asarray(self.go(y), float) - np.asarray(self.stay(y), float)


def make_utility(
    utility: str | Callable[[Array], Array],
    target: float,
    cost: float,
    value: float | None,
    scale: ResponseScale | None = None,
) -> Utility:
    """Build a utility from its name or from a function.

    Args:
        utility: A name from `UTILITIES`, or a function from outcomes (an array of losses or scores) to the net worth of
            going over not going.
        target: The loss to be met, where lower is better, or the score or value, which `scale` gives a direction.
        cost: What the run costs.
        value: What meeting the target is worth (`step`, `opportunity`), or what each nat below it is worth (`per_nat`).
        scale: Scale of the outcomes if they are scores or values; None for losses.

    Raises:
        InputError: For an unknown name, or numbers that are missing or impossible.
    """
    check_target(target, scale)
    checked.options(cost=(cost, checked.AT_LEAST_ZERO))
    if callable(utility):
        return Utility(
            "function", utility, lambda y: np.zeros(np.shape(y)), None, "worth of each outcome by the given function"
        )
    if not isinstance(utility, str) or utility not in UTILITIES:
        raise InputError(f"There is no utility {utility!r}. {nearest(str(utility), UTILITIES)}")
    if not checked.POSITIVE.holds(value):
        raise InputError(
            f"utility {utility!r} needs value= (--value), a positive number in the unit of cost; found {value} "
            f"({UTILITIES[utility]})."
        )
    worth = float(value)

    def nothing(y: Array) -> np.ndarray:
        return np.zeros(np.shape(y))

    sign = -1.0 if scale is not None and scale.higher_is_better else 1.0

    def met(y: Array) -> np.ndarray:
        return (sign * np.asarray(y) < sign * target).astype(float)

    says = UTILITIES[utility].replace("`cost`", f"{cost:,.6g}").replace("`value`", f"{worth:,.6g}")
    if utility == "step":
        return Utility(utility, lambda y: worth * met(y) - cost, nothing, cost / worth, says)
    if utility == "per_nat":
        return Utility(utility, lambda y: worth * sign * (target - np.asarray(y)) - cost, nothing, None, says)
    break_even = cost / (cost + worth)
    return Utility(utility, lambda y: -cost * (1.0 - met(y)), lambda y: -worth * met(y), break_even, says)


def check_target(target: float, scale: ResponseScale | None) -> None:
    """Refuse an impossible target.

    Args:
        target: The loss, score or value to be met.
        scale: Scale of the score or value; None for losses.

    Raises:
        InputError: For a loss that is not positive, a score outside of its range, and a value that is not finite.
    """
    if scale is not None:
        scale.check_target(target)
    elif not checked.POSITIVE.holds(target):
        raise InputError(f"target must be a positive loss; found {checked.shortened(target)}.")


def as_law_describes(given: dict[str, float], scale: ResponseScale, refit: bool) -> dict[str, float]:
    """Return the aim of a plan of scores or values as what the law describes, such as odds against a right answer.

    Args:
        given: The aim: its name and its number.
        scale: Scale of the score or value.
        refit: Whether plans are judged by fits to simulated runs.

    Raises:
        InputError: For aims other than a target, and for refits.
    """
    if "target" not in given or refit:
        raise InputError(
            "For scores and values, give target= (--target), what is to be met, and leave out refit=True. The other "
            "aims, widths and differences, are defined only for losses."
        )
    check_target(given["target"], scale)
    return {"target": float(np.exp(scale.log_loss(given["target"])))}


def regrets(go: Array, stay: Array) -> tuple[float, float]:
    """Return the expected regrets of going and of not going: how much more the better action would bring on average.

    Args:
        go: Worth of going in equally likely joint draws, any shape.
        stay: Worth of not going in the same joint draws.

    Returns:
        Both regrets; the smaller one is the value of perfect information.
    """
    gain = np.asarray(go, float) - np.asarray(stay, float)
    return float(np.maximum(-gain, 0.0).mean()), float(np.maximum(gain, 0.0).mean())


def perfect_information(go: Array, stay: Array) -> float:
    """Return the expected value of perfect information (EVPI): the regret of the better action.

    Example:
        >>> y = np.array([1.9, 2.1])
        >>> perfect_information(2.01 - y, 0.0 * y)
        0.045
    """
    return min(regrets(go, stay))


def normal_information(mean: float, sd: float, target: float, posterior_sd: float = 0.0) -> float:
    """Return the value of information in closed form, where going is worth target - y and y is normal.

    EVSI = s (phi(u) - u (1 - Phi(u))) with u = |target - mean| / s and s^2 = sd^2 - posterior_sd^2. `sd` is the
    standard deviation of y now, and `posterior_sd` the one that remains after a pilot. With `posterior_sd` 0 this is
    the EVPI.
    """
    spread = float(np.sqrt(sd**2 - posterior_sd**2))
    u = abs(target - mean) / spread
    return float(spread * (norm.pdf(u) - u * norm.sf(u)))


def money(amount: Any, unit: str = "") -> str:
    """Write an amount with its unit."""
    number = float(amount)
    text = f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"
    return f"{text} {unit}".strip()
