"""Digits: numbers written as precisely as they are known, so that rounding hides no meaningful difference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

MOST_DECIMALS = 12
NOTHING = "\N{EN DASH}"
"""Text of an empty cell in a printed table."""


def decimals(resolution: float) -> int:
    """Return the number of decimals that show two digits of a resolution: 5 for .0003."""
    if not (math.isfinite(resolution) and resolution > 0.0):
        return 4
    return min(max(1 - math.floor(math.log10(resolution)), 0), MOST_DECIMALS)


def shown(value: float, resolution: float) -> str:
    """Write a number with two digits of its resolution.

    Args:
        value: The number.
        resolution: The smallest meaningful difference, such as a standard error.

    Example:
        >>> shown(3.278721, 0.0003)
        '3.27872'
    """
    return f"{value:.{decimals(resolution)}f}"


def factor_shown(value: float, digits: int = 2) -> str:
    """Write a factor with a number of significant digits, without an exponent.

    Args:
        value: The factor.
        digits: Number of significant digits.

    Example:
        >>> factor_shown(347.0), factor_shown(333.3333, 3), factor_shown(1.0, 3), factor_shown(25000.0)
        ('350', '333', '1', '25,000')
    """
    return f"{float(f'{value:.{digits}g}'):,.12g}" if math.isfinite(value) else f"{value:g}"


def spread_shown(value: float) -> str:
    """Write a standard deviation or standard error with two significant digits, without an exponent."""
    return f"{value:.{decimals(value)}f}"


def spreads_shown(values: Sequence[float]) -> list[str]:
    """Write standard deviations or errors with the same number of decimals, enough for two digits of the smallest.

    Args:
        values: The standard deviations.

    Example:
        >>> spreads_shown([0.0079, 0.0050, 0.015])
        ['0.0079', '0.0050', '0.0150']
    """
    finest = min((value for value in values if value > 0.0), default=math.nan)
    return [shown(value, finest) for value in values]


def inputs_text(inputs: Mapping[str, float]) -> str:
    """Write inputs as `n_params=7e+10, n_tokens=1.4e+12`."""
    return ", ".join(f"{name}={value:.3g}" for name, value in inputs.items())
