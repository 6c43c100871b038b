"""Priors of the chance level and the ceiling of a score, for ends of the range that are not known.

An end that lies inside (0, 1) has a logit-normal prior on its half of the range: chance between 0 and the middle of the
stated range, ceiling between the middle and 1. Its median is the stated value, and its standard deviation is about the
stated one. A chance of 0 and a ceiling of 1 are at the edge: the distance from the edge is half-normal, bent to stay
within the half of the range. Chance is therefore always below the ceiling.

Both are functions of one standard normal parameter each, `standard_chance` and `standard_ceiling`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import ndtr, ndtri

from bayescale._record import Array


def draw_range(
    sample: Callable[[str, Any], Any], chance: Array, ceiling: Array, chance_sd: Any, ceiling_sd: Any
) -> tuple[Any, Any]:
    """Draw the chance level and the ceiling of a score; `()` in place of an end that is known.

    Args:
        sample: Function that supplies unconstrained parameters by name (see `laws.priors.Sample`).
        chance: Stated chance level.
        ceiling: Stated ceiling.
        chance_sd: Standard deviation of the prior of chance, or None if it is known.
        ceiling_sd: The same for the ceiling.
    """
    middle = 0.5 * (chance + ceiling)
    found: list[Any] = [(), ()]
    if chance_sd is not None:
        found[0] = uncertain_chance(sample("standard_chance", dist.Normal(0.0, 1.0)), chance, chance_sd, middle)
    if ceiling_sd is not None:
        # Seen from 1 downwards, the ceiling is what chance is from 0 upwards.
        score = sample("standard_ceiling", dist.Normal(0.0, 1.0))
        found[1] = 1.0 - uncertain_chance(-score, 1.0 - ceiling, ceiling_sd, 1.0 - middle)
    return found[0], found[1]


def uncertain_chance(score: Any, chance: Any, sd: Any, width: Any) -> Any:
    """Return the chance level, between 0 and `width`, at a standard normal score.

    Args:
        score: Standard normal score, of any shape.
        chance: Median of the chance level; 0 for a half-normal one.
        sd: Its standard deviation; of the normal distribution whose half it is, if `chance` is 0.
        width: Largest chance level.

    Example:
        >>> round(float(uncertain_chance(0.0, 0.25, 0.02, 0.6)), 6)
        0.25
    """
    inside = chance > 0.0
    # Arrays of JAX, because shapes of parameters are also computed for a range without width.
    share = jnp.where(inside, jnp.asarray(chance) / width, 0.5)
    logit_sd = sd / (jnp.asarray(width) * share * (1.0 - share))
    logistic = width * jax.nn.sigmoid(jnp.log(share) - jnp.log1p(-share) + logit_sd * score)
    # The quantile of a half-normal distribution, in a form that is exact in its upper tail.
    half = -ndtri(0.5 * ndtr(-score))
    return jnp.where(inside, logistic, width * jnp.tanh(sd * half / width))
