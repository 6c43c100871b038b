"""Values: responses on the whole real line, such as rewards, and their relation to the losses that laws describe."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bayescale import checked
from bayescale._record import Array
from bayescale.checked import known_keywords
from bayescale.data.score import ScoreScale
from bayescale.errors import InputError, some

if TYPE_CHECKING:
    from bayescale.data.runs import Runs

DIGITS = 12
"""Decimal digits of y; with more, values in another unit would give another fit through rounding errors."""
FARTHEST = 300.0
"""Largest absolute y, whose exponential is still a number."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class ValueScale:
    """Relation between a value of any sign, such as a reward, and the logarithm y of what a law describes.

    A value v is written as v = middle - unit * y if higher is better, and as v = middle + unit * y if lower is better.
    Laws describe exp(y), which decreases as models get better, as a loss does. A fit chooses `middle` and `unit` so
    that y runs from -0.5 to 0.5 over the fitted values.

    Attributes:
        middle: Value at which y is zero; a fit uses the middle of the range of its values.
        unit: Difference of values that corresponds to a difference of one in y; a fit uses the range of its values.
        higher_is_better: Whether higher values are better.

    Raises:
        InputError: Unless middle is finite and unit positive.
    """

    middle: float = 0.0
    unit: float = 1.0
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        """Refuse invalid numbers."""
        checked.options(middle=(self.middle, checked.FINITE), unit=(self.unit, checked.POSITIVE))
        checked.options(higher_is_better=(self.higher_is_better, checked.FLAG))

    @property
    def sign(self) -> float:
        """Sign of the change of a value as y grows."""
        return -1.0 if self.higher_is_better else 1.0

    def response(self, log_loss: Array) -> np.ndarray:
        """Return the value from y, of any shape.

        Example:
            >>> float(ValueScale(middle=1.0, unit=10.0).response(0.2))
            -1.0
        """
        return self.middle + self.sign * self.unit * np.asarray(log_loss, float)

    def log_loss(self, value: Array) -> np.ndarray:
        """Return y from the value, of any shape.

        Example:
            >>> float(ValueScale(middle=1.0, unit=10.0).log_loss(-1.0))
            0.2
        """
        y = self.sign * (np.asarray(value, float) - self.middle) / self.unit
        # Adding zero turns -0.0 into 0.0.
        return np.round(y, DIGITS) + 0.0

    def spread(self, sd: Array) -> np.ndarray:
        """Return standard deviations of y from those of the value, of any shape."""
        return np.round(np.asarray(sd, float) / self.unit, DIGITS)

    def of(self, values: Array) -> ValueScale:
        """Return the scale of fitted values, in the same direction: the middle of their range, and their range.

        Example:
            >>> ValueScale(higher_is_better=False).of([-3.0, 1.0])
            ValueScale(middle=-1.0, unit=4.0, higher_is_better=False)
        """
        there = np.asarray(values, float)
        there = there[np.isfinite(there)]
        low, high = (float(there.min()), float(there.max())) if len(there) else (0.0, 0.0)
        # Values that are all equal have no range.
        unit = high - low or 1.0
        if not np.isfinite(unit):
            raise InputError(f"Values must not differ by more than numbers can hold; found {low:g} to {high:g}.")
        return dataclasses.replace(self, middle=0.5 * (low + high), unit=unit)

    def check_target(self, target: float) -> None:
        """Refuse a target that is no finite number.

        Raises:
            InputError: With what was found.
        """
        if not checked.FINITE.holds(target):
            raise InputError(f"target must be a finite number; found {checked.shortened(target)}.")


ResponseScale = ScoreScale | ValueScale
"""Relation between a response that is no loss and the logarithm of what laws describe."""


def value_columns(values: np.ndarray, scale: ValueScale, rows: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Return the columns of a family of values: value, and as loss the exponential of y.

    Args:
        values: Measured values, shape (row,).
        scale: Relation of values and y.
        rows: Row numbers to print in messages; if given, every row must have a finite value.

    Raises:
        InputError: For values that are missing or not finite, and values so far from `scale.middle` that exp(y) is no
            number.
    """
    if rows is not None and len(bad := np.flatnonzero(~np.isfinite(values))):
        raise InputError(
            f"value must be a finite number in every row; rows {some([int(rows[i]) for i in bad])} have none. Drop "
            "those runs."
        )
    y = scale.log_loss(values)
    if (np.abs(y[np.isfinite(y)]) > FARTHEST).any():
        raise InputError(
            f"A value of {values[np.nanargmax(np.abs(y))]:g} is too far from the values of the earlier fit, whose "
            f"middle is {scale.middle:g}. Fit these runs without prior_from (--prior-from)."
        )
    return {"value": values, "loss": np.exp(y)}


def rescaled(runs: Runs, scale: ValueScale | None = None) -> Runs:
    """Return runs with y relative to their own values, or to the values of an earlier fit.

    Args:
        runs: Runs; those without values are returned unchanged.
        scale: Scale of the earlier fit, or None for that of the runs.
    """
    if runs.value is None:
        return runs
    values = runs.frame["value"].to_numpy(float)
    chosen = runs.value.of(values) if scale is None else scale
    return dataclasses.replace(runs, frame=runs.frame.assign(**value_columns(values, chosen)), value=chosen)


def valued_table(table: pd.DataFrame, scale: ValueScale) -> tuple[pd.DataFrame, ValueScale]:
    """Return a table whose response is a value instead of a loss, and the scale of these values.

    Args:
        table: Rows whose column loss is the value.
        scale: The direction.
    """
    values = table["loss"].to_numpy(float)
    chosen = scale.of(values)
    finite = np.where(np.isfinite(values), values, np.nan)
    return table.drop(columns="value", errors="ignore").assign(**value_columns(finite, chosen)), chosen
