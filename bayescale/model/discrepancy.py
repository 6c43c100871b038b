"""Discrepancy: how the truth departs from the law, small inside the data and growing with distance."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from scipy.special import ndtri

from bayescale import checked
from bayescale._record import Array, record, static
from bayescale.checked import known_keywords
from bayescale.errors import InputError

if TYPE_CHECKING:
    from jaxtyping import Float

ALONG = {
    "inputs": "each input has a path of its own, each pair may have one over its plane, and the paths add up",
    "scale": "one path along the common scale of all inputs",
}
"""Along what a discrepancy varies."""
FEW_ROWS, MANY_ROWS = 8, 40
"""Rows between which the median of the factor on innovations falls; the record of curves has no more of them."""
DEFAULT: Any = None
"""Stands for the default of a field until the design is known."""
DEFAULTS: dict[str, dict[str, float]] = {
    "ladder": {"median": 0.05, "power": 1.0, "sd": 1.2, "ahead": 0.7, "ahead_median": 0.75}
    | {"ahead_power": 0.0, "trend": 0.0, "interaction": 0.0},
    "curve": {"median": 0.2, "power": 0.5, "sd": 1.0, "ahead": 0.7, "ahead_median": 0.75}
    | {"ahead_power": 0.4, "trend": 0.3, "interaction": 0.0},
    "several": {"median": 0.05, "power": 1.5, "sd": 0.8, "ahead": 0.5, "ahead_median": 0.85}
    | {"ahead_power": 0.0, "trend": 0.3, "interaction": 1.0},
}
"""Defaults that depend on the design, a key of `designs.DESIGNS` (`docs/evidence/calibration.md`)."""
RULES = {
    **dict.fromkeys(("median", "sd", "scale", "memory", "ahead_median"), checked.POSITIVE),
    **dict.fromkeys(("ahead", "ahead_power", "interaction"), checked.AT_LEAST_ZERO),
    **dict.fromkeys(("power", "trend"), checked.FINITE),
}
"""What each number may be."""


@known_keywords
@record
class Discrepancy:
    """An integrated Ornstein-Uhlenbeck process in log scale: the local slope varies and is forgotten.

    On each input axis the position t runs from 0 to 1 over the training span. The process is the integral of a
    stationary slope with a correlation length of `memory` spans; axes add up and share one amplitude A. Given the net
    fall b of the law over one span, A is LogNormal(ln(median (b / scale)^power), sd). With several axes each pair may
    add a path over its plane: the benefit of one input departs from the law as the other one grows.

    Beyond the training span the innovations of the slope (its new changes) have another amplitude: A times a factor
    that is LogNormal(ln ahead_median, ahead), with a smaller median for many rows. The future need not depart from the
    law as the past did. Data say nothing about that factor, so its posterior is its prior. The value and the slope that
    the data show at the edge carry on beyond it.

    A field that is left out has the value that fits use by default. For the fields in `DEFAULTS` that value depends on
    the design of the runs, so they are None until a fit knows it: `fit(runs, discrepancy=Discrepancy())` is the same as
    `fit(runs)`.

    Attributes:
        median: Median of A for a law that falls by `scale` over a span, in log units per span^1.5.
        power: How the amplitude grows with the law's own fall.
        sd: Spread of ln A.
        scale: The fall at which `median` holds.
        memory: Correlation length of the slope, in training spans.
        ahead: Spread of the logarithm of the factor on innovations beyond the training span.
        ahead_median: Median of that factor at `FEW_ROWS` rows or fewer.
        ahead_power: Its median falls with the number of rows n as n^-ahead_power, up to `MANY_ROWS`: wiggles of many
            points of one curve raise the amplitude and say little about its trend, and the process has no part of
            short memory for them.
        trend: Mean of what innovations beyond the training span add up to, in units of their standard deviation and in
            the direction in which the law goes: real curves still move where laws have flattened.
        interaction: Weight of the paths over planes, whose covariance is the product of those along their two axes;
            zero leaves them out. They are zero at the smallest runs.
        along: Along what the slope varies, a key of `ALONG`.
    """

    median: float = DEFAULT
    power: float = DEFAULT
    sd: float = DEFAULT
    scale: float = 0.4
    memory: float = 1.0
    ahead: float = DEFAULT
    ahead_median: float = DEFAULT
    ahead_power: float = DEFAULT
    trend: float = DEFAULT
    interaction: float = DEFAULT
    along: str = static(default="inputs")

    def __post_init__(self) -> None:
        """Refuse numbers and names that no discrepancy has; what JAX puts in their place passes."""
        if self.along not in ALONG:
            raise InputError(f"A discrepancy varies along {', '.join(ALONG)}; found along={self.along!r}.")
        checked.fields(self, RULES)

    def completed(self, design: str) -> Discrepancy:
        """Return the discrepancy with the defaults of a design, a key of `DEFAULTS`, for the fields left out."""
        left = {name: value for name, value in DEFAULTS[design].items() if getattr(self, name) is None}
        return dataclasses.replace(self, **left)

    def draw(self, sample: Callable[..., Any], fall: Any) -> Any:
        """Draw the amplitude, given the law's net fall over the training span."""
        median = jnp.log(self.median) + self.power * jnp.log(fall / self.scale)
        return jnp.exp(sample("log_discrepancy", dist.Normal(median, self.sd)))

    def median_factor(self, rows: int) -> float:
        """Return the median of the factor on innovations beyond the training span of so many rows."""
        more = min(max(rows, FEW_ROWS), MANY_ROWS) / FEW_ROWS
        return float(self.ahead_median) * more ** -float(self.ahead_power)

    def factors(self, draws: int, rows: int) -> Float[np.ndarray, "draw"]:
        """Return factors on the innovations beyond the training span, shape (draw,), in an order fixed for ever."""
        # Normal quantiles are less noisy than independent draws, and equal for every point that is asked about.
        scores = ndtri((np.random.default_rng(0).permutation(draws) + 0.5) / draws)
        return self.median_factor(rows) * np.exp(float(self.ahead) * scores)


def default_discrepancy(design: str) -> Discrepancy:
    """Return the default discrepancy of a design, a key of `DEFAULTS`; see `docs/evidence/calibration.md`."""
    return Discrepancy().completed(design)


def resolve_discrepancy(discrepancy: Discrepancy | str | None, design: str) -> Discrepancy | None:
    """Return the discrepancy that a name stands for, its numbers checked.

    Args:
        discrepancy: "auto", a `Discrepancy` or None.
        design: A key of `DEFAULTS`.

    Raises:
        InputError: For anything else.
    """
    if discrepancy is None:
        return None
    if isinstance(discrepancy, str) and discrepancy == "auto":
        discrepancy = Discrepancy()
    if not isinstance(discrepancy, Discrepancy):
        raise InputError(f"discrepancy must be 'auto', None or a Discrepancy; found {discrepancy!r}.")
    found = discrepancy.completed(design)
    checked.options(**{name: (getattr(found, name), rule) for name, rule in RULES.items()})
    return found


def directions(
    position: Float[Array, "row input"], along: str
) -> tuple[Float[np.ndarray, "input axis"], Float[np.ndarray, "axis"]]:
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


def kernel(
    a: Float[Array, "row axis"], b: Float[Array, "column axis"], discrepancy: Discrepancy
) -> Float[np.ndarray, "row column"]:
    """Return the covariance of the integrated Ornstein-Uhlenbeck process with unit amplitude, shape (row, column).

    k(s, t) = L^3 / 2 [2 min(s, t)/L + e^{-s/L} + e^{-t/L} - 1 - e^{-|s-t|/L}] for s, t >= 0, continued to
    points left of the data by its stationary increments. Axes add up, and so do, with their weight, the products of
    two axes: main effects and interactions (duvenaud2011additive).

    Args:
        a: Positions in spans, shape (row, input).
        b: Positions in spans, shape (column, input).
        discrepancy: For its memory L, the correlation length of the slope in spans, and the weight of interactions.
    """
    first, second = np.asarray(a)[:, None, :], np.asarray(b)[None, :, :]
    return over_axes(axis_kernels(first, second, float(discrepancy.memory)), discrepancy)


def innovation_kernel(
    new: Float[Array, "point axis"], old: Float[Array, "row axis"], discrepancy: Discrepancy
) -> Float[np.ndarray, "point point"]:
    """Return the part of `kernel` among new points that comes from innovations beyond the old ones.

    The process is Markov along an axis given value and slope at the edge of the old points. What is added beyond it is
    the same process begun at the edge with a slope of zero, independent of everything within.

    Args:
        new: Positions in spans, shape (point, input).
        old: Positions of the fitted rows, shape (row, input).
        discrepancy: See `kernel`.

    Returns:
        Shape (point, point); zero for points between the smallest and the largest old one on every axis.
    """
    new = np.asarray(new)
    return innovations(new[:, None, :], new[None, :, :], old, discrepancy)


def innovation_variance(
    new: Float[Array, "point axis"], old: Float[Array, "row axis"], discrepancy: Discrepancy
) -> Float[np.ndarray, "point"]:
    """Return the diagonal of `innovation_kernel`, shape (point,), without the matrix."""
    return np.maximum(innovations(np.asarray(new), np.asarray(new), old, discrepancy), 0.0)


def innovations(
    a: Float[np.ndarray, "... axis"],
    b: Float[np.ndarray, "... axis"],
    old: Float[Array, "row axis"],
    discrepancy: Discrepancy,
) -> Float[np.ndarray, "..."]:
    """Return covariances of innovations between points of one broadcast shape (..., input), shape (...)."""
    old, memory = np.asarray(old), float(discrepancy.memory)
    axes = axis_kernels(a, b, memory)
    fresh = np.zeros_like(axes)
    # The process is zero at position zero, wherever the rows lie. Innovations on the two sides are independent.
    for edge, side in ((np.maximum(old.max(0), 0.0), 1.0), (np.minimum(old.min(0), 0.0), -1.0)):
        s, t = (np.maximum(side * (point - edge), 0.0) for point in (a, b))
        slope = 0.5 * memory**3 * -np.expm1(-s / memory) * -np.expm1(-t / memory)
        fresh += np.where(s * t > 0.0, axis_kernels(s, t, memory) - slope, 0.0)
    return over_axes(axes, discrepancy) - over_axes(axes - fresh, discrepancy)


def axis_kernels(
    a: Float[Array, "... axis"], b: Float[Array, "... axis"], memory: float
) -> Float[np.ndarray, "... axis"]:
    """Return the covariance along each axis between points of one broadcast shape (..., input)."""
    s, t = a / memory, b / memory
    return 0.5 * memory**3 * (increment(s) + increment(t) - increment(s - t))


def over_axes(axes: Float[np.ndarray, "... axis"], discrepancy: Discrepancy) -> Float[np.ndarray, "..."]:
    """Add up covariances along axes, shape (..., input), and the weighted products of each two of them."""
    total = axes.sum(-1)
    # The square of a sum holds each product of two axes twice.
    return total + 0.5 * float(discrepancy.interaction) * (total**2 - (axes**2).sum(-1))


def increment(lag: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return the variance of the process over a lag, up to a factor: |u| + e^{-|u|} - 1."""
    distance = np.abs(lag)
    # expm1 keeps the quadratic start of the curve exact for neighbouring points.
    return distance + np.expm1(-distance)


def eigenbasis(
    covariance: Float[np.ndarray, "row row"],
) -> tuple[Float[np.ndarray, "row"], Float[np.ndarray, "row row"]]:
    """Return eigenvalues, shape (row,), and eigenvectors, shape (row, row), of a discrepancy covariance.

    Done once for a family: with the kernel fixed, every density afterwards is diagonal in this basis.
    """
    values, vectors = np.linalg.eigh(covariance)
    return np.maximum(values, 0.0), vectors
