"""Digits: numbers written as precisely as they are known, so that no difference that matters is rounded away."""

from __future__ import annotations

import math

MOST_DECIMALS = 12


def decimals(resolution: float) -> int:
    """Return how many decimals show two digits of a resolution: 5 for .0003."""
    if not (math.isfinite(resolution) and resolution > 0.0):
        return 4
    return min(max(1 - math.floor(math.log10(resolution)), 0), MOST_DECIMALS)


def shown(value: float, resolution: float) -> str:
    """Write a number with two digits of the resolution that it has.

    Args:
        value: The number.
        resolution: The smallest difference that means something, such as a standard error.

    Example:
        >>> shown(3.278721, 0.0003)
        '3.27872'
    """
    return f"{value:.{decimals(resolution)}f}"


def spread_shown(value: float) -> str:
    """Write a standard deviation or standard error with two significant digits, without an exponent."""
    return f"{value:.{decimals(value)}f}"
