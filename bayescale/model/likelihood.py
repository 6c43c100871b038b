"""Likelihood: how one measurement scatters around its truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpyro.distributions as dist

from bayescale import checked
from bayescale._record import record
from bayescale.errors import InputError, nearest

SMALLEST_SCATTER = 0.01 * math.exp(-9)
"""Standard deviation added to every residual: 1.2e-6 in ln(loss), below what anybody prints.

It keeps the density finite when a curve is interpolated exactly.
"""


@record
class Likelihood:
    """How one measurement of ln(loss) scatters around its truth, in three parts that stay apart.

    - residual, with standard deviation `residual_sd`: what the law and the discrepancy leave at one set of inputs,
      shared by replicates;
    - seed noise, with standard deviation `seed_sd`: what replicates differ by, learned from them or held by the prior
      LogNormal(ln 0.0008, 0.8) of published replicates;
    - known standard errors (`value_se` of the runs).

    Attributes:
        residual_sd: Median of the LogNormal prior of the residual's standard deviation.
        residual_spread: Standard deviation of the logarithm of that prior.
        seed_sd: Median of the LogNormal prior of the seed noise's standard deviation, relative to the loss; None leaves
            the term out.
        seed_spread: Standard deviation of the logarithm of that prior.
        tail: Degrees of freedom of a Student-t for rows that stray, or None for normal rows.
    """

    residual_sd: float = 0.01
    residual_spread: float = 1.0
    seed_sd: float | None = 0.0008
    seed_spread: float = 0.8
    tail: float | None = None

    def draw(self, sample: Callable[..., Any]) -> tuple[Any, Any]:
        """Draw the standard deviations of the residual and of the seed noise."""
        residual = jnp.exp(sample("log_residual_sd", dist.Normal(jnp.log(self.residual_sd), self.residual_spread)))
        if self.seed_sd is None:
            return residual, 0.0
        return residual, jnp.exp(sample("log_seed_sd", dist.Normal(jnp.log(self.seed_sd), self.seed_spread)))


TAILS = {"normal": None, "student": 4.0}
"""Degrees of freedom of the likelihoods that have a name."""


def check_likelihood(likelihood: Any) -> None:
    """Refuse what is no likelihood, and numbers that it cannot have.

    Raises:
        InputError: With the first field that cannot be.
    """
    if not isinstance(likelihood, Likelihood):
        found = checked.shortened(likelihood)
        raise InputError(f"likelihood must be a Likelihood or one of {', '.join(TAILS)}; found {found}.")
    positive, perhaps = checked.POSITIVE, checked.optional(checked.POSITIVE)
    rules = {"residual_sd": positive, "residual_spread": positive, "seed_sd": perhaps, "seed_spread": positive}
    checked.options(**{name: (getattr(likelihood, name), rule) for name, rule in (rules | {"tail": perhaps}).items()})


def named_likelihood(name: str, n_inputs: int) -> Likelihood:
    """Return a likelihood by its name, with the residual that development families chose for one input or for several.

    A curve of a few smooth points says little about its residual, so a low and wide prior tells them apart from
    scattered ones; grids of several inputs say enough themselves (`docs/calibration.md`).

    Raises:
        InputError: For an unknown name.
    """
    if name not in TAILS:
        raise InputError(f"There is no likelihood {name!r}. {nearest(name, TAILS)}")
    residual = {"residual_sd": 0.003, "residual_spread": 1.5} if n_inputs == 1 else {}
    return Likelihood(**residual, tail=TAILS[name])
