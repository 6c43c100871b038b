"""Padding: families are padded to few sizes, since each size is a program of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

SMALLEST_BUCKET = 8
"""Fewest rows that a program is compiled for."""


def bucket(rows: int) -> int:
    """Round a number of rows up to the size that its program is compiled for.

    Powers of two where rows cost next to nothing, then also their 3/4, then steps of a sixteenth: the longer a curve,
    the more its padding costs against a program of its own.
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
