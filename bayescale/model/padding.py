"""Padding: families are padded to few sizes, because each size needs its own compiled program."""

from __future__ import annotations

from typing import Any

import numpy as np

SMALLEST_BUCKET = 8
"""Smallest number of rows for which a program is compiled."""


def bucket(rows: int) -> int:
    """Round a number of rows up to the size for which its program is compiled.

    Sizes are powers of two where rows cost almost nothing, then also 3/4 of these, then steps of a sixteenth. Longer
    curves have finer steps, because padding costs more, compared with compiling another program.
    """
    power = max(SMALLEST_BUCKET, 1 << (rows - 1).bit_length())
    if power <= 32:
        return power
    part = power // 4 if power <= 512 else power // 16
    return -(-rows // part) * part


def padded(values: Any, size: int, fill: float = 0.0) -> np.ndarray:
    """Pad the first axis with `fill` up to `size`."""
    values = np.asarray(values, float)
    width = [(0, size - len(values))] + [(0, 0)] * (values.ndim - 1)
    return np.pad(values, width, constant_values=fill)


def padded_square(values: Any, size: int) -> np.ndarray:
    """Pad a square matrix with zeros up to `size`."""
    extra = size - len(values)
    return np.pad(np.asarray(values, float), ((0, extra), (0, extra)))
