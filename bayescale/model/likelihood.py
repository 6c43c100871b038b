"""Likelihood: distribution of a measurement around the mean curve."""

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
"""Standard deviation that is added to every residual: 1.2e-6 in ln(loss), below what is ever printed.

It keeps the density finite when a curve is interpolated exactly.
"""


DEFAULT: Any = None
"""Placeholder of a field until the number of inputs, and with it the default, is known."""
RESIDUALS: dict[int, dict[str, float]] = {
    1: {"residual_sd": 0.003, "residual_spread": 1.5},
    2: {"residual_sd": 0.01, "residual_spread": 1.0},
}
"""Defaults that depend on the number of inputs (one, or two and more), chosen on families set aside for that purpose.

A curve of a few smooth points contains little information about its residual sd. A small median with a wide prior
therefore suits both smooth and noisy curves. Grids of several inputs contain enough information themselves (see
`docs/evidence/calibration.md`).
"""
VALUES: dict[str, float] = {"residual_sd": 0.03, "residual_spread": 1.2, "seed_sd": 0.01, "seed_spread": 1.0}
"""Defaults for values such as rewards, for any number of inputs, in ranges of the fitted values.

Rewards scatter more around their curve than losses do. These numbers were not chosen on data.
"""
RULES = {
    **dict.fromkeys(("residual_sd", "residual_spread", "seed_spread"), checked.POSITIVE),
    **dict.fromkeys(("seed_sd", "tail"), checked.optional(checked.POSITIVE)),
}
"""Allowed values of each field."""


@known_keywords
@record
class Likelihood:
    """Distribution of a measurement of ln(loss) around law and discrepancy, with three components.

    - Residual, with standard deviation `residual_sd`: deviation from law and discrepancy at one set of inputs, shared
      by replicates.
    - Seed noise, with standard deviation `seed_sd`: differences of replicates. It is learned from replicates, or keeps
      the prior LogNormal(ln 0.0008, 0.8), which was chosen on published replicates.
    - Known standard errors (`value_se` of the runs).

    For values such as rewards, y of `ValueScale` takes the place of ln(loss), and the defaults are those in `VALUES`.

    Fields that are left out have the defaults of fits. The defaults in `RESIDUALS` depend on the number of inputs, so
    these fields are None until a fit knows the runs: `fit(runs, likelihood=Likelihood())` is the same as `fit(runs)`.

    Attributes:
        residual_sd: Median of the LogNormal prior of the residual's standard deviation.
        residual_spread: Standard deviation of the logarithm in that prior.
        seed_sd: Median of the LogNormal prior of the seed noise's standard deviation, relative to the loss; None leaves
            out seed noise.
        seed_spread: Standard deviation of the logarithm in that prior.
        tail: Degrees of freedom of a Student-t for data with outliers, or None for a normal.
    """

    residual_sd: float = DEFAULT
    residual_spread: float = DEFAULT
    seed_sd: float | None = 0.0008
    seed_spread: float = 0.8
    tail: float | None = None

    def __post_init__(self) -> None:
        """Refuse invalid numbers; placeholders that JAX puts in their place are accepted."""
        checked.fields(self, RULES)

    @property
    def samples_level(self) -> bool:
        """Return whether the level of a law is sampled, because rows are not normal around it."""
        return self.tail is not None

    @property
    def says(self) -> str:
        """Return a description of the distribution in words."""
        return "normal likelihood" if self.tail is None else f"Student-t({float(self.tail):g}) likelihood"

    def completed(self, n_inputs: int, valued: bool = False) -> Likelihood:
        """Return the likelihood with defaults in fields that were left out.

        Args:
            n_inputs: Number of inputs.
            valued: Whether the response is a value, such as a reward.
        """
        defaults = {name: VALUES[name] for name in RESIDUALS[1]} if valued else RESIDUALS[min(n_inputs, 2)]
        left = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **left)

    def draw_concentration(self, sample: Callable[..., Any]) -> Any:
        """Return `()`: only `BetaBinomial` has a concentration."""
        del sample
        return ()

    def draw(self, sample: Callable[..., Any]) -> tuple[Any, Any]:
        """Draw the standard deviations of the residual and of the seed noise."""
        residual = jnp.exp(sample("log_residual_sd", dist.Normal(jnp.log(self.residual_sd), self.residual_spread)))
        if self.seed_sd is None:
            return residual, 0.0
        return residual, jnp.exp(sample("log_seed_sd", dist.Normal(jnp.log(self.seed_sd), self.seed_spread)))


@known_keywords
@record
class Binomial(Likelihood):
    """Distribution of a score: right items are binomial, and the log odds of a run vary around law and discrepancy.

    The probability that an item is right lies between chance and ceiling of the score (`Runs.score`). Residual and seed
    noise are those of `Likelihood`, but on the scale of log odds instead of ln(loss). Because of them, scores at equal
    settings differ by more than their number of items explains.

    Attributes:
        residual_sd: Median of the LogNormal prior of the residual's standard deviation in log odds.
        residual_spread: Standard deviation of the logarithm in that prior.
        seed_sd: Median of the LogNormal prior of the seed noise's standard deviation in log odds; None leaves out seed
            noise.
        seed_spread: Standard deviation of the logarithm in that prior.
        tail: Always None: log odds are normal.
    """

    residual_sd: float = 0.1
    residual_spread: float = 1.0
    seed_sd: float | None = 0.05

    def __post_init__(self) -> None:
        """Refuse invalid numbers; placeholders that JAX puts in their place are accepted."""
        super().__post_init__()
        if self.tail is not None:
            name = type(self).__name__
            raise InputError(f"{name} allows only tail=None, because log odds are normal; found tail={self.tail!r}.")

    @property
    def samples_level(self) -> bool:
        """Return True: counts of right items are not normal."""
        return True

    @property
    def says(self) -> str:
        """Return a description of the distribution in words."""
        return "binomial likelihood"


@known_keywords
@record
class BetaBinomial(Binomial):
    """Distribution of a score whose right items are beta-binomial: items of a run are correlated.

    The expected score p of a run comes from its log odds, as in `Binomial`. The score q of one run on endlessly many
    items is Beta(p k, (1 - p) k) with concentration k, and right items are binomial given q. Runs therefore scatter by
    sqrt(p (1 - p) / (k + 1)) around p, also at chance and at the ceiling, where scatter in log odds has no effect.
    This scatter of single runs takes the place of seed noise. The residual remains, with a smaller prior.

    Attributes:
        residual_sd: Median of the LogNormal prior of the residual's standard deviation in log odds.
        residual_spread: Standard deviation of the logarithm in that prior.
        seed_sd: Median of the LogNormal prior of seed noise in log odds; None, the default, leaves it out.
        seed_spread: Standard deviation of the logarithm in that prior.
        tail: Always None: log odds are normal.
        concentration: Median of the LogNormal prior of the concentration k; at 300, runs of a score of one half have a
            standard deviation of 2.9 points.
        concentration_spread: Standard deviation of ln k in that prior.

    Example:
        >>> import bayescale as bs
        >>> bs.BetaBinomial(concentration=100.0).says
        'beta-binomial likelihood'
    """

    residual_sd: float = 0.03
    seed_sd: float | None = None
    concentration: float = 300.0
    concentration_spread: float = 1.5

    @property
    def says(self) -> str:
        """Return a description of the distribution in words."""
        return "beta-binomial likelihood"

    def __post_init__(self) -> None:
        """Refuse invalid numbers; placeholders that JAX puts in their place are accepted."""
        super().__post_init__()
        checked.fields(self, dict.fromkeys(("concentration", "concentration_spread"), checked.POSITIVE))

    def draw_concentration(self, sample: Callable[..., Any]) -> Any:
        """Draw the concentration."""
        prior = dist.Normal(jnp.log(self.concentration), self.concentration_spread)
        return jnp.exp(sample("log_concentration", prior))


SCORED: dict[str, type[Binomial]] = {"binomial": Binomial, "beta-binomial": BetaBinomial}
"""Likelihoods of scores with a name."""
KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Likelihood, Binomial, BetaBinomial)}
"""Classes of likelihoods by name, as files contain them."""
TAILS = {"normal": None, "student": 4.0}
"""Degrees of freedom of the likelihoods with a name."""


def resolve_likelihood(likelihood: Any, n_inputs: int, scored: bool = False, valued: bool = False) -> Likelihood:
    """Return the likelihood that a name means, or a given likelihood, with the defaults for this number of inputs.

    Args:
        likelihood: A likelihood or its name; "auto" is binomial for scores and normal for losses.
        n_inputs: Number of inputs.
        scored: Whether the response is a score.
        valued: Whether the response is a value, such as a reward, whose noise has priors of its own.

    Raises:
        InputError: For an unknown name, another object, invalid numbers, and a likelihood that does not suit the
            response.
    """
    if isinstance(likelihood, str):
        known = (*TAILS, *SCORED)
        if likelihood not in ("auto", *known):
            raise InputError(f"There is no likelihood {likelihood!r}. {nearest(likelihood, ('auto', *known))}")
        if likelihood == "auto":
            likelihood = "binomial" if scored else "normal"
        own = {name: VALUES[name] for name in ("seed_sd", "seed_spread")} if valued else {}
        kind = SCORED.get(likelihood)
        likelihood = Likelihood(tail=TAILS[likelihood], **own) if kind is None else kind()
    if not isinstance(likelihood, Likelihood):
        found = checked.shortened(likelihood)
        raise InputError(f"likelihood must be a Likelihood or one of {', '.join(TAILS)}; found {found}.")
    if scored != isinstance(likelihood, Binomial):
        raise InputError(
            "Scores allow only a binomial likelihood, which is their default, or a beta-binomial one. Leave out "
            "likelihood= (--likelihood), or give beta-binomial."
            if scored
            else f"These runs have {'values' if valued else 'losses'}, and a {likelihood.says} is for scores. Read "
            "scores with score= (--score)."
        )
    found = likelihood.completed(n_inputs, valued)
    checked.options(**{name: (getattr(found, name), rule) for name, rule in RULES.items()})
    return found
