"""Discrepancy: departure of the truth from the law, small inside the data and growing with distance from them."""

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
"""Values of `along`, with descriptions."""
FEW_ROWS, MANY_ROWS = 8, 40
"""Numbers of rows between which the median factor on innovations decreases; no tested curve has more."""
DEFAULT: Any = None
"""Placeholder of a field until the design, and with it the default, is known."""
DEFAULTS: dict[str, dict[str, float]] = {
    "ladder": {"median": 0.05, "power": 1.0, "sd": 1.2, "ahead": 0.7, "ahead_median": 0.75}
    | {"ahead_power": 0.0, "trend": 0.0, "interaction": 0.0},
    "curve": {"median": 0.2, "power": 0.5, "sd": 1.0, "ahead": 0.7, "ahead_median": 0.75}
    | {"ahead_power": 0.4, "trend": 0.3, "interaction": 0.0},
    "several": {"median": 0.05, "power": 1.5, "sd": 0.8, "ahead": 0.5, "ahead_median": 0.85}
    | {"ahead_power": 0.0, "trend": 0.3, "interaction": 1.0},
}
"""Defaults that depend on the design, a key of `designs.DESIGNS` (see `docs/evidence/calibration.md`)."""
RULES = {
    **dict.fromkeys(("median", "sd", "scale", "memory", "ahead_median"), checked.POSITIVE),
    **dict.fromkeys(("ahead", "ahead_power", "interaction"), checked.AT_LEAST_ZERO),
    **dict.fromkeys(("power", "trend"), checked.FINITE),
}
"""Allowed values of each field."""


@known_keywords
@record
class Discrepancy:
    """An integrated Ornstein-Uhlenbeck process in log scale, whose slope varies with a finite memory.

    On the axis of each input, the position t runs from 0 to 1 over the training span. The process is the integral of a
    stationary slope with a correlation length of `memory` spans; the processes of all axes add up and share one
    amplitude A. If ln of the law decreases by b over a span, A is LogNormal(ln(median (b / scale)^power), sd). With
    several axes, each pair may add a process over its plane: the benefit of one input departs from the law as the other
    input grows.

    Beyond the training span, the innovations of the slope (its new random changes) have another amplitude: A times a
    factor that is LogNormal(ln ahead_median, ahead). Its median is smaller for many rows. The future need not depart
    from the law as the past did, and data say nothing about that factor, so its posterior is its prior. The value and
    the slope of the discrepancy at the edge of the data continue beyond it.

    Fields that are left out have the defaults of fits. The fields in `DEFAULTS` are None until a fit knows the design
    of the runs: `fit(runs, discrepancy=Discrepancy())` is the same as `fit(runs)`.

    Attributes:
        median: Median of A for a law whose logarithm decreases by `scale` over a span, in log units per span^1.5.
        power: Power of the law's own decrease with which the median of A grows.
        sd: Standard deviation of ln A.
        scale: Decrease of ln of the law at which `median` holds.
        memory: Correlation length of the slope, in training spans.
        ahead: Standard deviation of the logarithm of the factor on innovations beyond the training span.
        ahead_median: Median of that factor at `FEW_ROWS` rows or fewer.
        ahead_power: The median of that factor decreases with the number of rows n as n^-ahead_power, up to `MANY_ROWS`.
            In a curve of many points, small wiggles raise A although they say little about its trend, because the
            process has no component of short memory.
        trend: Mean of the accumulated innovations beyond the training span, in units of their standard deviation and in
            the direction in which the law goes: real curves still change where laws have become flat.
        interaction: Weight of the processes over planes, whose covariance is the product of the covariances along both
            axes; zero leaves them out. These processes are zero at the smallest runs.
        along: Direction along which the slope varies, a key of `ALONG`.
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
        """Refuse invalid numbers and names; placeholders that JAX puts in their place are accepted."""
        if self.along not in ALONG:
            raise InputError(f"A discrepancy varies along {', '.join(ALONG)}; found along={self.along!r}.")
        checked.fields(self, RULES)

    def completed(self, design: str) -> Discrepancy:
        """Return the discrepancy with the defaults of a design, a key of `DEFAULTS`, in fields that were left out."""
        left = {name: value for name, value in DEFAULTS[design].items() if getattr(self, name) is None}
        return dataclasses.replace(self, **left)

    def draw(self, sample: Callable[..., Any], fall: Any) -> Any:
        """Draw the amplitude, given the decrease of ln of the law over the training span."""
        median = jnp.log(self.median) + self.power * jnp.log(fall / self.scale)
        return jnp.exp(sample("log_discrepancy", dist.Normal(median, self.sd)))

    def median_factor(self, rows: int) -> float:
        """Return the median, for this number of rows, of the factor on innovations beyond the training span."""
        more = min(max(rows, FEW_ROWS), MANY_ROWS) / FEW_ROWS
        return float(self.ahead_median) * more ** -float(self.ahead_power)

    def factors(self, draws: int, rows: int) -> Float[np.ndarray, "draw"]:
        """Return factors on the innovations beyond the training span, shape (draw,), always in the same order."""
        # Normal quantiles are less noisy than independent draws, and the same for all forecast points.
        scores = ndtri((np.random.default_rng(0).permutation(draws) + 0.5) / draws)
        return self.median_factor(rows) * np.exp(float(self.ahead) * scores)


def default_discrepancy(design: str) -> Discrepancy:
    """Return the default discrepancy of a design, a key of `DEFAULTS`; see `docs/evidence/calibration.md`."""
    return Discrepancy().completed(design)


def resolve_discrepancy(discrepancy: Discrepancy | str | None, design: str) -> Discrepancy | None:
    """Return the discrepancy that an option means, with checked numbers.

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
    """Return an affine map from positions in spans to the axes of `kernel`, along which the slope varies.

    For `along="scale"` the first axis is the common scale: the sum of the positions, divided by its range in training
    (by one if that is less). It does not depend on the units of the inputs. The other axes stay at zero and add nothing
    to the kernel.

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

    k(s, t) = L^3 / 2 [2 min(s, t)/L + e^{-s/L} + e^{-t/L} - 1 - e^{-|s-t|/L}] for s, t >= 0, continued to points left
    of the data by its stationary increments. The covariances along the axes add up, and so do, with their weight, the
    products of two axes: main effects and interactions (duvenaud2011additive).

    Args:
        a: Positions in spans, shape (row, input).
        b: Positions in spans, shape (column, input).
        discrepancy: Its `memory` is L, the correlation length of the slope in spans; `interaction` is the weight of
            products.
    """
    first, second = np.asarray(a)[:, None, :], np.asarray(b)[None, :, :]
    return over_axes(axis_kernels(first, second, float(discrepancy.memory)), discrepancy)


def innovation_kernel(
    new: Float[Array, "point axis"], old: Float[Array, "row axis"], discrepancy: Discrepancy
) -> Float[np.ndarray, "point point"]:
    """Return the part of `kernel` between new points that is due to innovations beyond the old ones.

    Along an axis the process is Markov, given its value and slope at the edge of the old points. The part added beyond
    the edge is the same process, started at the edge with a slope of zero and independent of everything inside.

    Args:
        new: Positions in spans, shape (point, input).
        old: Positions of the fitted rows, shape (row, input).
        discrepancy: See `kernel`.

    Returns:
        Shape (point, point); zero for points that lie between the smallest and the largest old point on every axis.
    """
    new = np.asarray(new)
    return innovations(new[:, None, :], new[None, :, :], old, discrepancy)


def innovation_variance(
    new: Float[Array, "point axis"], old: Float[Array, "row axis"], discrepancy: Discrepancy
) -> Float[np.ndarray, "point"]:
    """Return the diagonal of `innovation_kernel`, shape (point,), without computing the matrix."""
    return np.maximum(innovations(np.asarray(new), np.asarray(new), old, discrepancy), 0.0)


def innovations(
    a: Float[np.ndarray, "... axis"],
    b: Float[np.ndarray, "... axis"],
    old: Float[Array, "row axis"],
    discrepancy: Discrepancy,
) -> Float[np.ndarray, "..."]:
    """Return covariances of innovations between points whose positions broadcast to shape (..., input); shape (...)."""
    old, memory = np.asarray(old), float(discrepancy.memory)
    axes = axis_kernels(a, b, memory)
    fresh = np.zeros_like(axes)
    # The process is zero at position zero, wherever the rows lie. Innovations on the two sides of the rows are
    # independent.
    for edge, side in ((np.maximum(old.max(0), 0.0), 1.0), (np.minimum(old.min(0), 0.0), -1.0)):
        s, t = (np.maximum(side * (point - edge), 0.0) for point in (a, b))
        slope = 0.5 * memory**3 * -np.expm1(-s / memory) * -np.expm1(-t / memory)
        fresh += np.where(s * t > 0.0, axis_kernels(s, t, memory) - slope, 0.0)
    return over_axes(axes, discrepancy) - over_axes(axes - fresh, discrepancy)


def axis_kernels(
    a: Float[Array, "... axis"], b: Float[Array, "... axis"], memory: float
) -> Float[np.ndarray, "... axis"]:
    """Return the covariance along each axis between points whose positions broadcast to shape (..., input)."""
    s, t = a / memory, b / memory
    return 0.5 * memory**3 * (increment(s) + increment(t) - increment(s - t))


def over_axes(axes: Float[np.ndarray, "... axis"], discrepancy: Discrepancy) -> Float[np.ndarray, "..."]:
    """Return the sum of covariances along axes, shape (..., input), plus the weighted products of all pairs of axes."""
    total = axes.sum(-1)
    # The square of a sum contains each product of two axes twice.
    return total + 0.5 * float(discrepancy.interaction) * (total**2 - (axes**2).sum(-1))


def increment(lag: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return the variance of the process' increment over a lag, up to a factor: |u| + e^{-|u|} - 1."""
    distance = np.abs(lag)
    # expm1 is accurate at small lags, where the curve starts quadratically.
    return distance + np.expm1(-distance)


def eigenbasis(
    covariance: Float[np.ndarray, "row row"],
) -> tuple[Float[np.ndarray, "row"], Float[np.ndarray, "row row"]]:
    """Return eigenvalues, shape (row,), and eigenvectors, shape (row, row), of a discrepancy covariance.

    This is done once for each family: the kernel is fixed, so every later evaluation of the density is diagonal in this
    basis.
    """
    values, vectors = np.linalg.eigh(covariance)
    return np.maximum(values, 0.0), vectors
