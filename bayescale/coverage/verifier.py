"""Best of n with an imperfect verifier: accuracy by Bayes' rule, and the number of attempts worth their price."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import softmax

from bayescale import checked
from bayescale._display import Display
from bayescale._jax import on_cores
from bayescale.checked import known_keywords
from bayescale.coverage import density
from bayescale.coverage.density import Model, Parameters
from bayescale.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float

    from bayescale.coverage.posterior import CoveragePosterior

DRAWS = 500
"""Number of posterior draws that are used."""
ODDS = np.linspace(-40.0, 30.0, 281)
"""Log odds at which the distribution of success rates is evaluated."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class BestOfN(Display):
    """Accuracy of the first accepted one of k attempts, and its worth, on new problems.

    Attributes:
        k: Numbers of attempts at each problem.
        right: Draws of the fraction of problems with a right answer, shape (draw, k).
        wrong: Draws of the fraction of problems with a wrong answer, shape (draw, k); other problems get no answer.
        net: Draws of the net value of a problem, shape (draw, k); None if no `gain` was given.
        label: What was sampled.
    """

    k: tuple[int, ...]
    right: Float[np.ndarray, "draw k"]
    wrong: Float[np.ndarray, "draw k"]
    net: Float[np.ndarray, "draw k"] | None = None
    label: str = ""

    @property
    def mean(self) -> Float[np.ndarray, "k"]:
        """Mean fraction of problems with a right answer, shape (k,)."""
        return self.right.mean(0)

    @property
    def precision(self) -> Float[np.ndarray, "draw k"]:
        """Draws of the fraction of answers that are right, shape (draw, k)."""
        return self.right / (self.right + self.wrong)

    def interval(self, level: float = 0.8) -> Float[np.ndarray, "side k"]:
        """Return the central interval of the fraction of problems with a right answer, shape (2, k)."""
        checked.options(level=(level, checked.PROBABILITY))
        return np.quantile(self.right, [0.5 - level / 2, 0.5 + level / 2], axis=0)

    @property
    def best(self) -> int:
        """Requested number of attempts with the largest expected net value.

        Raises:
            InputError: If no `gain` was given.
        """
        if self.net is None:
            raise InputError("The best k depends on the worth of answers: give gain=, wrong= and price=.")
        return self.k[int(self.net.mean(0).argmax())]

    def to_frame(self, level: float = 0.8) -> pd.DataFrame:
        """Return a table with a row for each k."""
        low, high = self.interval(level)
        rows = {"k": self.k, "right": self.mean, f"q{0.5 - level / 2:.4g}": low, f"q{0.5 + level / 2:.4g}": high}
        rows |= {"wrong": self.wrong.mean(0), "precision": self.precision.mean(0)}
        return pd.DataFrame(rows | ({} if self.net is None else {"net": self.net.mean(0)}))

    def __repr__(self) -> str:
        """Show the fractions on one screen."""
        lines = [f"{self.label}: the first of k attempts that the verifier accepts, on new problems"]
        lines.append(self.to_frame().to_string(index=False, float_format="{:.4g}".format))
        if self.net is not None:
            lines.append(f"largest expected net value: k = {self.best:,}")
        return checked.one_screen("\n".join(lines))


def best_of_n(
    post: CoveragePosterior,
    k: list[int],
    false_positive: Any,
    true_positive: Any,
    gain: float | None,
    wrong: float,
    price: float,
) -> BestOfN:
    """Compute accuracies from draws of success rates; see `CoveragePosterior.best_of_n`."""
    checked.options(
        gain=(gain, checked.optional(checked.POSITIVE)),
        wrong=(wrong, checked.AT_LEAST_ZERO),
        price=(price, checked.AT_LEAST_ZERO),
    )
    if gain is None and (wrong or price):
        raise InputError("wrong= and price= have no effect without gain=, the worth of a right answer; give all three.")
    rng = np.random.default_rng([post.seed, 2])
    number = len(post.parameters.alpha)
    chosen = np.unique(np.linspace(0, number - 1, min(DRAWS, number)).astype(int))
    parameters = Parameters(*(values[chosen] for values in post.parameters))
    accepts_wrong = probability("false_positive", false_positive, len(chosen), rng)[:, None]
    accepts_right = probability("true_positive", true_positive, len(chosen), rng)[:, None]
    rate, weight = rates(parameters, post.model)
    good, bad = rate * accepts_right, (1.0 - rate) * accepts_wrong
    accepted = good + bad
    share = np.divide(good, accepted, out=np.zeros_like(good), where=accepted > 0)
    rights, wrongs = [], []
    for attempts in k:
        # Complements of powers, computed without cancellation at small rates.
        with np.errstate(divide="ignore"):
            any_accepted = -np.expm1(attempts * np.log1p(-np.minimum(accepted, 1.0)))
        rights.append((weight * share * any_accepted).sum(1))
        wrongs.append((weight * (1.0 - share) * any_accepted).sum(1))
    right, bad_answers = np.stack(rights, 1), np.stack(wrongs, 1)
    net = None if gain is None else gain * right - wrong * bad_answers - price * np.asarray(k, float)
    return BestOfN(tuple(k), right, bad_answers, net, post.counts.name)


def rates(parameters: Parameters, model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Return success rates and their weights for each draw, shape (draw, node); unsolvable problems come first."""
    columns = Parameters(*(values[:, None] for values in parameters))
    unsolvable, scale = columns.unsolvable, columns.scale
    odds = np.broadcast_to(ODDS, (len(scale), len(ODDS)))
    log_z, log_rest = -np.logaddexp(0.0, -odds), -np.logaddexp(0.0, odds)
    with on_cores():
        inside, below, above = map(np.array, density.log_densities(columns, model, odds, log_z, log_rest))
    inside += np.log(ODDS[1] - ODDS[0])
    inside[:, [0, -1]] -= np.log(2.0)
    # Below the first node rates are zero in effect; above the last one they equal the scale.
    rate = np.concatenate([np.zeros_like(scale), scale * np.exp(log_z / model.power(columns.alpha)), scale], 1)
    weight = softmax(np.concatenate([below, inside, above], 1), axis=1) * (1.0 - unsolvable)
    weight[:, :1] += unsolvable
    return rate, weight


def probability(name: str, given: Any, draws: int, rng: np.random.Generator) -> Float[np.ndarray, "draw"]:
    """Return draws of a probability: the given number, or draws from its posterior given counts.

    Raises:
        InputError: For anything but a probability or two counts.
    """
    if checked.is_real(given) and 0 <= given <= 1:
        return np.full(draws, float(given))
    if isinstance(given, list | tuple) and len(given) == 2 and all(map(checked.is_whole, given)):
        accepted, tried = given
        if 0 <= accepted <= tried and tried > 0:
            return rng.beta(0.5 + accepted, 0.5 + tried - accepted, draws)
    raise InputError(
        f"{name} must be a probability from 0 to 1, or counts (accepted, checked) such as (3, 200); found "
        f"{checked.shortened(given)}."
    )
