"""Discrepancy: how the truth departs from the law, small inside the data and growing with distance."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from scipy.special import ndtri

from bayescale import checked
from bayescale._record import Array, record, static
from bayescale.errors import InputError

ALONG = {
    "inputs": "each input has a path of its own, each pair may have one over its plane, and the paths add up",
    "scale": "one path along the common scale of all inputs",
}
"""Along what a discrepancy varies."""
MOST_ROWS = 40
"""Rows from which on the factor ahead stays as it is."""


DEFAULT: Any = None
"""Stands for the default of a field until the number of inputs is known."""
DEFAULTS: dict[int, dict[str, float]] = {
    1: {"median": 0.2, "power": 0.5, "ahead": 0.7, "ahead_median": 0.85, "ahead_power": 0.4}
    | {"trend": 0.3, "interaction": 0.0},
    2: {"median": 0.05, "power": 1.5, "ahead": 0.5, "ahead_median": 0.85, "ahead_power": 0.0}
    | {"trend": 0.3, "interaction": 1.0},
}
"""Defaults that depend on the number of inputs: for one, and for two or more (`docs/evidence/calibration.md`)."""
RULES = {
    **dict.fromkeys(("median", "sd", "scale", "memory", "ahead_median", "ahead_rows"), checked.POSITIVE),
    **dict.fromkeys(("ahead", "interaction"), checked.AT_LEAST_ZERO),
    **dict.fromkeys(("power", "ahead_power", "trend"), checked.FINITE),
}
"""What each number may be."""


@record
class Discrepancy:
    """An integrated Ornstein-Uhlenbeck process in log scale: the local slope varies and is forgotten.

    On each input axis the position t runs from 0 to 1 over the training span. The process is the integral of
    a stationary slope with memory of `memory` spans; axes add up and share one amplitude A. Given the net fall
    b of the law over one span, A is LogNormal(ln(median (b / scale)^power), sd). With several axes each pair may add
    a path over its plane: the benefit of one input departs from the law as the other one grows.

    Fields that are left out are those that fits use by default. Of `DEFAULTS` they depend on the number of inputs, so
    they stay None until runs are at hand: `fit(runs, discrepancy=Discrepancy())` is `fit(runs)`.

    Attributes:
        median: Median amplitude at the fall `scale`, in log units per span^1.5.
        power: How the amplitude grows with the law's own fall.
        sd: Spread of ln A.
        scale: The fall at which `median` holds.
        memory: Correlation length of the slope, in training spans.
        ahead: Spread of the logarithm of a factor, one for each posterior draw, on the discrepancy's conditional
            standard deviation beyond the data: the future need not depart as the past did. Between the smallest
            and the largest value of every input nothing changes.
        ahead_median: That factor's median at `ahead_rows` rows.
        ahead_rows: Rows at which it is largest.
        ahead_power: How it falls on either side, by exp(-ahead_power |ln(rows / ahead_rows)|): wiggles of many rows
            overstate what their trend will do, and what few rows leave open the law holds open too. More than
            `MOST_ROWS` count as so many: the record that chose these numbers has no more.
        trend: By how much the discrepancy goes on where the law goes, in units of the standard deviation that it
            gains beyond the data: real curves still move where laws have flattened. Nothing inside the data changes.
        interaction: Weight of the paths over planes, whose covariance is the product of those along their two axes;
            zero leaves them out. They are zero at the smallest runs.
        along: Along what the slope varies, a key of `ALONG`.
    """

    median: float = DEFAULT
    power: float = DEFAULT
    sd: float = 0.8
    scale: float = 0.4
    memory: float = 1.0
    ahead: float = DEFAULT
    ahead_median: float = DEFAULT
    ahead_rows: float = 8.0
    ahead_power: float = DEFAULT
    trend: float = DEFAULT
    interaction: float = DEFAULT
    along: str = static(default="inputs")

    def __post_init__(self) -> None:
        """Refuse numbers and names that no discrepancy has; what JAX puts in their place passes."""
        if self.along not in ALONG:
            raise InputError(f"A discrepancy varies along {', '.join(ALONG)}; found along={self.along!r}.")
        checked.fields(self, RULES)

    def completed(self, axes: int) -> Discrepancy:
        """Return the discrepancy with the default, for so many inputs or axes, of each field that was left out."""
        left = {name: value for name, value in DEFAULTS[min(axes, 2)].items() if getattr(self, name) is None}
        return dataclasses.replace(self, **left)

    def draw(self, sample: Callable[..., Any], fall: Any) -> Any:
        """Draw the amplitude, given the law's net fall over the training span."""
        median = jnp.log(self.median) + self.power * jnp.log(fall / self.scale)
        return jnp.exp(sample("log_discrepancy", dist.Normal(median, self.sd)))

    def factors(self, draws: int, rows: int) -> np.ndarray:
        """Return factors on the conditional sd at new points, shape (draw,), in an order fixed for ever."""
        # Normal quantiles are less noisy than independent draws, and equal for every point that is asked about.
        scores = ndtri((np.random.default_rng(0).permutation(draws) + 0.5) / draws)
        away = abs(np.log(min(rows, MOST_ROWS) / float(self.ahead_rows)))
        return float(self.ahead_median) * np.exp(float(self.ahead) * scores - float(self.ahead_power) * away)


def default_discrepancy(n_inputs: int) -> Discrepancy:
    """Return the default discrepancy for one input, or for several, see `docs/evidence/calibration.md`."""
    return Discrepancy().completed(n_inputs)


def resolve_discrepancy(discrepancy: Discrepancy | str | None, axes: int) -> Discrepancy | None:
    """Return the discrepancy that a name stands for, checked against the number of axes that it would run along.

    Args:
        discrepancy: "auto", a `Discrepancy` or None.
        axes: Number of inputs, or of axes that the law declares.

    Raises:
        InputError: For anything else.
    """
    if discrepancy is None:
        return None
    if isinstance(discrepancy, str) and discrepancy == "auto":
        discrepancy = Discrepancy()
    if not isinstance(discrepancy, Discrepancy):
        raise InputError(f"discrepancy must be 'auto', None or a Discrepancy; found {discrepancy!r}.")
    found = discrepancy.completed(axes)
    checked.options(**{name: (getattr(found, name), rule) for name, rule in RULES.items()})
    return found


def directions(position: Array, along: str) -> tuple[np.ndarray, np.ndarray]:
    """Return along what the slope varies: an affine map of positions in spans to the axes of `kernel`.

    The common scale is the sum of the positions, divided by how far it reaches in training or by one, if that is
    more. No input has a unit in it, so it is the same however inputs are recoded. It takes the first axis; axes that
    stay at zero add nothing to the kernel.

    Args:
        position: Training positions in spans, shape (row, input).
        along: "inputs" or "scale".

    Returns:
        Matrix, shape (input, axis), and origin, shape (axis,): axes are `position @ matrix - origin`.
    """
    inputs = np.shape(position)[1]
    matrix, origin = np.eye(inputs), np.zeros(inputs)
    if along == "scale":
        total = np.asarray(position).sum(1)
        reach = max(np.ptp(total), 1.0)
        matrix = np.zeros((inputs, inputs))
        matrix[:, 0], origin[0] = 1.0 / reach, total.min() / reach
    return matrix, origin


def kernel(a: Array, b: Array, discrepancy: Discrepancy) -> np.ndarray:
    """Return the covariance of the integrated Ornstein-Uhlenbeck process with unit amplitude.

    k(s, t) = L^3 / 2 [2 min(s, t)/L + e^{-s/L} + e^{-t/L} - 1 - e^{-|s-t|/L}] for s, t >= 0, continued to
    points left of the data by its stationary increments. Axes add up, and so do, with their weight, the products of
    two axes: main effects and interactions (duvenaud2011additive).

    Args:
        a: Positions in spans, shape (row, input).
        b: Positions in spans, shape (column, input).
        discrepancy: For its memory L, the correlation length of the slope in spans, and the weight of interactions.

    Returns:
        Shape (row, column).
    """
    memory = float(discrepancy.memory)
    s, t = np.asarray(a)[:, None, :] / memory, np.asarray(b)[None, :, :] / memory
    axes = 0.5 * memory**3 * (increment(s) + increment(t) - increment(s - t))
    total = axes.sum(-1)
    # The square of a sum holds each product of two axes twice.
    return total + 0.5 * float(discrepancy.interaction) * (total**2 - (axes**2).sum(-1))


def increment(lag: np.ndarray) -> np.ndarray:
    """Return the variance of the process over a lag, up to a factor: |u| + e^{-|u|} - 1."""
    distance = np.abs(lag)
    # expm1 keeps the quadratic start of the curve exact for neighbouring points.
    return distance + np.expm1(-distance)


def eigenbasis(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues, shape (row,), and eigenvectors, shape (row, row), of a discrepancy covariance.

    Done once for a family: with the kernel fixed, every density afterwards is diagonal in this basis.
    """
    values, vectors = np.linalg.eigh(covariance)
    return np.maximum(values, 0.0), vectors
