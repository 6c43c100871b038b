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


TAILS = {"normal": None, "student": 4.0}
"""Degrees of freedom of the likelihoods that have a name."""


def resolve_likelihood(likelihood: Any, n_inputs: int) -> Likelihood:
    """Return the likelihood that a name stands for, or a likelihood, with all fields for so many inputs.

    Raises:
        InputError: For an unknown name, what is no likelihood, and numbers that it cannot have.
    """
    if isinstance(likelihood, str):
        if likelihood not in TAILS:
            raise InputError(f"There is no likelihood {likelihood!r}. {nearest(likelihood, TAILS)}")
        likelihood = Likelihood(tail=TAILS[likelihood])
    if not isinstance(likelihood, Likelihood):
        found = checked.shortened(likelihood)
        raise InputError(f"likelihood must be a Likelihood or one of {', '.join(TAILS)}; found {found}.")
    found = likelihood.completed(n_inputs)
    checked.options(**{name: (getattr(found, name), rule) for name, rule in RULES.items()})
    return found
