"""The layout of all readers' tables: leading columns, scales, then the measurement and its remarks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayescale.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

MISSING = float("nan")
_LEADING = ("family", "run", "seed", "step")
_TRAILING = ("metric", "value", "value_se", "lower_is_better", "is_final", "flag", "source", "cite")


def tidy(table: Any, source: str, cite: str, scales: Sequence[str]) -> pd.DataFrame:
    """Convert one publication's table to the shared columns.

    Args:
        table: One row per measurement, in the order to keep, with family, run, the scales, metric and value, and any
            other shared column that is not constant.
        source: Name of the entry of the corpus.
        cite: Keys of the papers, separated by semicolons.
        scales: Further columns, in order: scale inputs in raw counts, then settings.
    """
    return rounded(_ordered(table, source, cite, scales), 8)


def tidy_cited(
    table: Any, source: str, citation: str, scales: Sequence[str], exact: Sequence[str] = ()
) -> pd.DataFrame:
    """Convert one publication's table to the shared columns, with ten digits and the papers under ``citation``.

    Args:
        table: As in `tidy`.
        source: Name of the entry of the corpus.
        citation: Keys of the papers, separated by semicolons.
        scales: Further columns, in order.
        exact: Columns that keep all their digits.
    """
    full = _ordered(table, source, citation, scales).rename(columns={"cite": "citation"})
    return rounded(full, 10).assign(**{name: full[name] for name in exact})


def _ordered(table: Any, source: str, cite: str, scales: Sequence[str]) -> Any:
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
    return table.assign(**absent)[[*_LEADING, *scales, *_TRAILING]].reset_index(drop=True)


def rounded(table: Any, digits: int) -> pd.DataFrame:
    """Round every float to the significant digits of the verified tables; losses are never known more precisely."""
    floats = table.select_dtypes("float").columns
    return table.assign(**{name: significant(table[name], digits) for name in floats})


def significant(values: Any, digits: int) -> np.ndarray:
    """Round to significant digits by way of decimal text, which is exact where arithmetic is not."""
    return np.array([float(f"{value:.{digits}g}") for value in values])


def flagged(mask: Any, remark: str) -> np.ndarray:
    """Return the remark where the mask is true, and an empty text elsewhere."""
    return np.where(mask, remark, np.array(MISSING, dtype=object))


def parquet(path: Path, columns: list[str] | None = None) -> Any:
    """Read a Parquet file.

    Args:
        path: The file.
        columns: Columns to read; all by default.

    Raises:
        InputError: If the package that reads Parquet is not installed.
    """
    import pandas as pd

    try:
        return pd.read_parquet(path, columns=columns)
    except ImportError as error:
        raise InputError(f"{path.name} is Parquet, which needs another package: pip install pyarrow.") from error
