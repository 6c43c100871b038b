"""The layout that readers share: leading columns, scales, then the measurement and its remarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

MISSING = float("nan")
_LEADING = ("family", "run", "seed", "step")
_TRAILING = ("metric", "value", "value_se", "lower_is_better", "is_final", "flag", "source", "cite")


def tidy(table: Any, source: str, cite: str, scales: Sequence[str]) -> pd.DataFrame:
    """Convert one source's table to the shared columns.

    Args:
        table: One row per measurement, in the order to keep, with family, run, the scales, metric and value, and
            any other shared column that is not constant.
        source: Name of the source.
        cite: Keys of the papers, separated by semicolons.
        scales: The source's own columns, in order: scale inputs in raw counts, then settings.
    """
    constant = {
        "seed": MISSING,
        "step": MISSING,
        "value_se": MISSING,
        "lower_is_better": 1,
        "is_final": 1,
        "flag": MISSING,
        "source": source,
        "cite": cite,
    }
    absent = {name: value for name, value in constant.items() if name not in table}
    full = table.assign(**absent)[[*_LEADING, *scales, *_TRAILING]].reset_index(drop=True)
    return rounded(full, 8)


def rounded(table: Any, digits: int) -> pd.DataFrame:
    """Keep as many significant digits of every float as the checked tables hold; losses are never known to more."""
    floats = table.select_dtypes("float").columns
    return table.assign(**{name: significant(table[name], digits) for name in floats})


def significant(values: Any, digits: int) -> np.ndarray:
    """Round to significant digits through decimal text, which is exact where arithmetic is not."""
    return np.array([float(f"{value:.{digits}g}") for value in values])


def flagged(mask: Any, remark: str) -> np.ndarray:
    """Return the remark where the mask holds, and nothing elsewhere."""
    return np.where(mask, remark, np.array(MISSING, dtype=object))
