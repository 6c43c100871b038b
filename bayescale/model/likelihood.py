"""Likelihood: how one measurement scatters around its truth."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist

from bayescale import checked
from bayescale._record import record
from bayescale.checked import known_keywords
from bayescale.errors import InputError, nearest

SMALLEST_SCATTER = 0.01 * math.exp(-9)
"""Standard deviation added to every residual: 1.2e-6 in ln(loss), below what anybody prints.

It keeps the density finite when a curve is interpolated exactly.
"""


DEFAULT: Any = None
"""Stands for the default of a field until the number of inputs is known."""
RESIDUALS: dict[int, dict[str, float]] = {
    1: {"residual_sd": 0.003, "residual_spread": 1.5},
    2: {"residual_sd": 0.01, "residual_spread": 1.0},
}
"""Defaults that depend on the number of inputs: for one, and for two or more, as development families chose them.

A curve of a few smooth points says little about its residual, so a low and wide prior tells them apart from scattered
ones; grids of several inputs say enough themselves (`docs/evidence/calibration.md`).
"""
RULES = {
    **dict.fromkeys(("residual_sd", "residual_spread", "seed_spread"), checked.POSITIVE),
    **dict.fromkeys(("seed_sd", "tail"), checked.optional(checked.POSITIVE)),
}
"""What each number may be."""


@known_keywords
@record
class Likelihood:
    """Distribution of one measurement of ln(loss) around its truth, in three separate parts.

    - residual, with standard deviation `residual_sd`: what the law and the discrepancy leave at one set of inputs,
      shared by replicates;
    - seed noise, with standard deviation `seed_sd`: what replicates differ by, learned from them or held by the prior
      LogNormal(ln 0.0008, 0.8) of published replicates;
    - known standard errors (`value_se` of the runs).

    Fields that are left out are those that fits use by default. Of `RESIDUALS` they depend on the number of inputs, so
    they stay None until runs are at hand: `fit(runs, likelihood=Likelihood())` is `fit(runs)`.

    Attributes:
        residual_sd: Median of the LogNormal prior of the residual's standard deviation.
        residual_spread: Standard deviation of the logarithm of that prior.
        seed_sd: Median of the LogNormal prior of the seed noise's standard deviation, relative to the loss; None leaves
            the term out.
        seed_spread: Standard deviation of the logarithm of that prior.
        tail: Degrees of freedom of a Student-t for data with outliers, or None for a normal.
    """

    residual_sd: float = DEFAULT
    residual_spread: float = DEFAULT
    seed_sd: float | None = 0.0008
    seed_spread: float = 0.8
    tail: float | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that no likelihood has; what JAX puts in their place passes."""
        checked.fields(self, RULES)

    @property
    def samples_level(self) -> bool:
        """Return whether the level of a law is sampled, because rows are not normal around it."""
        return self.tail is not None

    @property
    def says(self) -> str:
        """Return what it is, in words."""
        return "normal likelihood" if self.tail is None else f"Student-t({float(self.tail):g}) likelihood"

    def completed(self, n_inputs: int) -> Likelihood:
        """Return the likelihood with the default, for so many inputs, of each field that was left out."""
        left = {name: value for name, value in RESIDUALS[min(n_inputs, 2)].items() if getattr(self, name) is None}
        return dataclasses.replace(self, **left)

    def draw(self, sample: Callable[..., Any]) -> tuple[Any, Any]:
        """Draw the standard deviations of the residual and of the seed noise."""
        residual = jnp.exp(sample("log_residual_sd", dist.Normal(jnp.log(self.residual_sd), self.residual_spread)))
        if self.seed_sd is None:
            return residual, 0.0
        return residual, jnp.exp(sample("log_seed_sd", dist.Normal(jnp.log(self.seed_sd), self.seed_spread)))


@known_keywords
@record
class Binomial(Likelihood):
    """Distribution of a score: right items are binomial, and the log odds of a run scatter around law and discrepancy.

    The chance of an item lies between chance and ceiling of the score (`Runs.score`). Residual and seed noise are those
    of `Likelihood`, on the scale of its log odds instead of ln(loss): they are what makes scores of equal settings
    differ by more than their number of items explains.

    Attributes:
        residual_sd: Median of the LogNormal prior of the residual's standard deviation in log odds.
        residual_spread: Standard deviation of the logarithm of that prior.
        seed_sd: Median of the LogNormal prior of the seed noise's standard deviation in log odds; None leaves it out.
        seed_spread: Standard deviation of the logarithm of that prior.
        tail: None: log odds are normal.
    """

    residual_sd: float = 0.1
    residual_spread: float = 1.0
    seed_sd: float | None = 0.05

    def __post_init__(self) -> None:
        """Refuse numbers that no likelihood has; what JAX puts in their place passes."""
        super().__post_init__()
        if self.tail is not None:
            raise InputError(f"The log odds of scores are normal, tail=None; found tail={self.tail!r}.")

    @property
    def samples_level(self) -> bool:
        """Return True: counts of right items are not normal."""
        return True

    @property
    def says(self) -> str:
        """Return what it is, in words."""
        return "binomial likelihood"


TAILS = {"normal": None, "student": 4.0}
"""Degrees of freedom of the likelihoods that have a name."""


def resolve_likelihood(likelihood: Any, n_inputs: int, scored: bool = False) -> Likelihood:
    """Return the likelihood that a name stands for, or a likelihood, with all fields for so many inputs.

    Args:
        likelihood: A likelihood or its name; "auto" is binomial for scores and normal for losses.
        n_inputs: Number of inputs.
        scored: Whether the response is a score.

    Raises:
        InputError: For an unknown name, what is no likelihood, numbers that it cannot have, and one that the response
            does not take.
    """
    if isinstance(likelihood, str):
        known = (*TAILS, "binomial")
        if likelihood not in ("auto", *known):
            raise InputError(f"There is no likelihood {likelihood!r}. {nearest(likelihood, ('auto', *known))}")
        if likelihood == "auto":
            likelihood = "binomial" if scored else "normal"
        likelihood = Binomial() if likelihood == "binomial" else Likelihood(tail=TAILS[likelihood])
    if not isinstance(likelihood, Likelihood):
        found = checked.shortened(likelihood)
        raise InputError(f"likelihood must be a Likelihood or one of {', '.join(TAILS)}; found {found}.")
    if scored != isinstance(likelihood, Binomial):
        raise InputError(
            "Scores have the likelihood bs.Binomial() or 'binomial' (--likelihood binomial), the default of scores."
            if scored
            else "A binomial likelihood is for scores: read them with score= (--score). These runs have losses."
        )
    found = likelihood.completed(n_inputs)
    checked.options(**{name: (getattr(found, name), rule) for name, rule in RULES.items()})
    return found
