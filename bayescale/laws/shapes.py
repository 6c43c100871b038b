"""Shapes: functions that several laws use, each of scalars (or arrays), with derivatives that are always finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def break_factor(x: Any, location: Any, width: Any, turn: Any) -> Any:
    """Return the bend of a power law at `location`: (1 + (x / location)^(1 / width))^(-turn * width).

    Far below `location` it is constant; far above, it decreases as x^(-turn). A small width gives a sharp bend. It is
    computed with a softplus, so that no power overflows.
    """
    return jnp.exp(-turn * width * jax.nn.softplus((jnp.log(x) - jnp.log(location)) / width))


def repeats(unique: Any, total: Any, decay: Any) -> Any:
    """Return the effective amount of `total` data (or parameters) made of `unique`: U (1 + R* (1 - e^(-R / R*))).

    R = total / unique - 1 is the number of repetitions, and R* is `decay`. Each repetition is worth less than the one
    before, and all of them together are worth at most `decay` times the first pass.
    """
    repeated = jnp.maximum(total / unique - 1.0, 0.0)
    return unique * (1.0 - decay * jnp.expm1(-repeated / decay))


def gate(amount: Any, scale: Any) -> Any:
    """Return a saturating gate from 0 to 1: 1 - e^(-amount / scale)."""
    return -jnp.expm1(-amount / scale)


def two_sided(x: Any, start: Any, most: Any) -> Any:
    """Return a value that saturates below and above: `start` at x = 0, about x in between, `most` as x grows."""
    return 1.0 / (1.0 / (x + 1.0 / (1.0 / start - 1.0 / most)) + 1.0 / most)


def share_curve(p: Any, c1: Any, c2: Any, c3: Any) -> Any:
    """Return the effective fraction of a task with a fraction p of the data: p + c1 p^c2 (1 - p)^c3.

    0 at 0 and 1 at 1.
    """
    return p + c1 * raised_from_zero(p, c2) * raised_from_zero(1.0 - p, c3)


def with_embeddings(n: Any, factor: Any) -> Any:
    """Return all parameters from those without embeddings: n + factor n^(1/3)."""
    return n + factor * n ** (1.0 / 3.0)


def smooth_minimum(a: Any, b: Any, sharpness: Any) -> Any:
    """Return the minimum of two positive numbers with a rounded corner: (a^-s + b^-s)^(-1/s)."""
    return jnp.exp(-jnp.logaddexp(-sharpness * jnp.log(a), -sharpness * jnp.log(b)) / sharpness)


def exponential_mix(shares: tuple[Any, ...], slopes: tuple[Any, ...]) -> Any:
    """Return the response to a mixture, e^(sum_j t_j r_j), from all slopes t_j but the last; all slopes add up to 0.

    The fractions r_j add up to 1, so adding a constant to all slopes only rescales the curve. Without the constraint,
    slopes and amplitude could not be distinguished.
    """
    return jnp.exp(sum(t * (r - shares[-1]) for t, r in zip(slopes, shares, strict=False)))


def mean_along(values: Any, steps: Any) -> Any:
    """Return the mean of a quantity that changes in training, e.g. active parameters: `values`, each for `steps`."""
    return jnp.sum(jnp.asarray(values) * jnp.asarray(steps)) / jnp.sum(jnp.asarray(steps))


def raised(base: Any, power: Any) -> Any:
    """Return e^(power ln base) for a positive number: several times as fast as `**`, above all in its gradient."""
    return jnp.exp(power * jnp.log(base))


def raised_from_zero(base: Any, power: Any) -> Any:
    """Return a positive power of a number that may be zero; at zero, value and derivatives are 0.

    Negative numbers count as 0.
    """
    above = base > 0.0
    return jnp.where(above, raised(jnp.where(above, base, 1.0), power), 0.0)


FEW_STEPS = 5
"""Largest number of steps that are unrolled."""


def root(function: Callable[[Any], Any], start: Any, steps: int = 3) -> Any:
    """Solve function(x) = 0 element by element, with derivatives from the implicit function theorem.

    Args:
        function: A function that is monotone in x and convex or concave.
        start: Starting point.
        steps: Number of steps of Householder's method with three derivatives; each raises the error to about its fourth
            power.
    """

    def along(f: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, Any]]:
        return lambda x: jax.jvp(f, (x,), (jnp.ones_like(x),))

    def solve(f: Callable[[Any], Any], x: Any) -> Any:
        def step(_: Any, x: Any) -> Any:
            ((value, slope), (_, bend)), (_, (_, turn)) = along(along(along(f)))(x)
            newton = value / slope
            second, third = newton * bend / slope, newton**2 * turn / slope
            return x - newton * (6.0 - 3.0 * second) / (6.0 - 6.0 * second + third)

        # Unrolled, a few steps run faster inside a density, but many steps take long to compile.
        return jax.lax.fori_loop(0, steps, step, x, unroll=steps <= FEW_STEPS)

    return jax.lax.custom_root(function, start, solve, lambda linear, y: y / linear(jnp.ones_like(y)))


HOPELESS = 60.0
"""Negative log probability beyond which an event counts as impossible; its odds against can still be represented."""


def odds_against(surprise: Any) -> Any:
    """Return the odds against an event of probability e^-surprise: e^surprise - 1."""
    return jnp.expm1(jnp.minimum(surprise, HOPELESS))


SMALLEST_SHARE = 1e-6
"""Smallest value of a straight line that would become negative, as a fraction of its value at the reference."""


def above_zero(share: Any) -> Any:
    """Return a fraction of a positive response, but at least `SMALLEST_SHARE`."""
    return jnp.maximum(share, SMALLEST_SHARE)


def log_gamma_ratio(z: Any, a: Any) -> Any:
    """Return ln(Gamma(z) / Gamma(z + a)) for positive numbers, without cancellation of two large logarithms."""
    steps = jnp.log1p(a / z) + jnp.log1p(a / (z + 1.0)) + jnp.log1p(a / (z + 2.0)) + jnp.log1p(a / (z + 3.0))
    # From z = 4 on, the series is accurate to 1e-9.
    low = z + 4.0
    high = low + a

    def series(x: Any) -> Any:
        square = 1.0 / (x * x)
        return (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0))) / x

    return steps - (low - 0.5) * jnp.log1p(a / low) - a * jnp.log(high) + a + series(low) - series(high)
