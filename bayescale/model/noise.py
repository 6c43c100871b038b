"""Noise: how one run scatters around its own truth."""

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
class Noise:
    """Scatter of one measurement of ln(loss), in three parts that stay apart.

    - residual scatter, sd `scatter`: what the law and the drift leave at one set of inputs, shared by replicates;
    - seed noise, sd `seed`: what replicates differ by, learned from them or held by the published-replicates
      prior LogNormal(ln 0.0008, 0.8);
    - known standard errors (`value_se` of the runs).

    Attributes:
        scatter: Median of the residual scatter's LogNormal prior.
        scatter_sd: Its spread in log units.
        seed: Median of the seed noise's LogNormal prior, relative to the loss; None leaves the term out.
        seed_sd: Its spread in log units.
        tail: Degrees of freedom of a Student-t for rows that stray, or None for normal rows.
    """

    scatter: float = 0.01
    scatter_sd: float = 1.0
    seed: float | None = 0.0008
    seed_sd: float = 0.8
    tail: float | None = None

    def draw(self, sample: Callable[..., Any]) -> tuple[Any, Any]:
        """Draw the standard deviations of the residual scatter and of the seed noise."""
        scatter = jnp.exp(sample("log_scatter", dist.Normal(jnp.log(self.scatter), self.scatter_sd)))
        if self.seed is None:
            return scatter, 0.0
        return scatter, jnp.exp(sample("log_seed", dist.Normal(jnp.log(self.seed), self.seed_sd)))


TAILS = {"normal": None, "student": 4.0}
"""Degrees of freedom of the noise models that have a name."""


def check_noise(noise: Any) -> None:
    """Refuse what is no noise, and numbers that it cannot have.

    Raises:
        InputError: With the first field that cannot be.
    """
    if not isinstance(noise, Noise):
        raise InputError(f"noise must be a Noise or one of {', '.join(TAILS)}; found {checked.shortened(noise)}.")
    positive, perhaps = checked.POSITIVE, checked.optional(checked.POSITIVE)
    checked.options(scatter=(noise.scatter, positive), scatter_sd=(noise.scatter_sd, positive))
    checked.options(seed=(noise.seed, perhaps), seed_sd=(noise.seed_sd, positive), tail=(noise.tail, perhaps))


def named_noise(name: str, n_inputs: int) -> Noise:
    """Return a noise model by its name, with the scatter that development families chose for one input or for several.

    A curve of a few smooth points says little about its scatter, so a low and wide prior tells them apart from
    scattered ones; grids of several inputs say enough themselves (`docs/calibration.md`).

    Raises:
        InputError: For an unknown name.
    """
    if name not in TAILS:
        raise InputError(f"There is no noise {name!r}. {nearest(name, TAILS)}")
    scatter = {"scatter": 0.003, "scatter_sd": 1.5} if n_inputs == 1 else {}
    return Noise(**scatter, tail=TAILS[name])
