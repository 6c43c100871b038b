"""Design: reduction of a table of runs to arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bayescale._record import Array, record, static
from bayescale.data.checkpoints import averaged, curves, long_curves, most_rows
from bayescale.data.runs import Runs, need_scales
from bayescale.data.score import ScoreScale, counts
from bayescale.errors import InputError, some

INERT_FACTOR = 1.5
"""An input that varies by less than this factor has no estimable exponent."""
SHORTEST_SPAN = float(np.log(2.0))
"""Smallest span of ln x, so that two nearly equal sizes do not determine an exponent."""


@record
class Counted:
    """Numbers of right items and of all items for the scores of a family.

    Attributes:
        right: Number of right items of each run, shape (run,).
        items: Number of items of each run, shape (run,).
        setting: Index of each run's row in the design, shape (run,).
        chance: Score of guessing.
        ceiling: Score that no model exceeds.
        chance_sd: Standard deviation of the prior of chance; None for a known chance.
        ceiling_sd: The same for the ceiling.
    """

    right: Array
    items: Array
    setting: Array
    chance: float
    ceiling: float
    chance_sd: float | None = None
    ceiling_sd: float | None = None


@record
class Design:
    """The arrays of one family that a likelihood needs, reduced and centred.

    Replicates (runs at the same inputs) become one row with their mean, count and within-group sum of squares.
    Checkpoints of long curves are first averaged, see `checkpoints.averaged`.

    Attributes:
        z: ln(x / reference), shape (row, input).
        y: ln(loss) minus `center`, shape (row,).
        count: Number of replicates of each row, shape (row,).
        squares: Within-group sum of squares of ln(loss), shape (row,).
        error: Known squared standard error of one measurement of ln(loss), shape (row,).
        sharing: Fraction of the seed variance in each row, shape (row,), or shared by two rows, shape (row, row). The
            vector form spares long curves a matrix.
        likeness: 1 where two rows have the same inputs and therefore the same residual, shape (row, row); None if all
            rows have different inputs.
        reference: Geometric mean of each input, shape (input,).
        span: ln(max/min) of each input, at least ln 2, shape (input,).
        center: Mean of ln(loss).
        single: Additional variance of ln(loss) of a single measurement, where rows are averages of checkpoints.
        one_run: Whether all rows are measurements of a single run. Its seed noise then shifts all rows together.
        counted: Right items and items of each run if the response is a score, else None. Rows are then settings, and y
            is their log odds.
        inert: For each input whether it varies by less than a factor 1.5.
    """

    z: Array
    y: Array
    count: Array
    squares: Array
    error: Array
    sharing: Array
    likeness: Array | None
    reference: Array
    span: Array
    center: Array
    single: Array
    counted: Counted | None
    one_run: bool = static()
    inert: tuple[bool, ...] = static()

    @property
    def diagonal(self) -> bool:
        """Return whether no two rows share a seed or a residual."""
        return self.likeness is None and np.ndim(self.sharing) == 1

    @property
    def shared(self) -> np.ndarray:
        """Fraction of the seed variance that two rows share, shape (row, row)."""
        return np.diag(self.sharing) if np.ndim(self.sharing) == 1 else np.asarray(self.sharing)

    @property
    def alike(self) -> np.ndarray:
        """1 where two rows have the same inputs and therefore the same residual, shape (row, row)."""
        return np.eye(len(self.y)) if self.likeness is None else np.asarray(self.likeness)


def reduce_runs(runs: Runs, *, collapse: bool = True, exempt: Sequence[str] = (), one_scale: bool = False) -> Design:
    """Reduce the runs of one family to arrays.

    Args:
        runs: Runs of a single family.
        exempt: Inputs whose raw value has a meaning; checkpoints that differ in them are not averaged.
        collapse: Whether to merge replicates into means; tests use False to show that merging changes nothing.
        one_scale: Accept runs at one scale, whose span is then ln 2.

    Raises:
        InputError: If several families are present, and for runs at one scale where they are not accepted.
    """
    if len(runs.families) > 1:
        raise InputError(
            f"A fit takes one family, but these runs contain {len(runs.families)} ({some(runs.families)}). "
            "Use fit_many(runs.split(), ...) to get a posterior for each family."
        )
    frame = runs.frame
    inputs = list(runs.inputs)
    if not one_scale:
        need_scales(runs)
    rows = measured_rows(runs, np.isin(inputs, exempt))
    curve, x, y, error, single, scored = rows.curve, rows.x, rows.y, rows.error, rows.single, runs.score is not None
    # Rows without names are separate runs.
    run = curve if "run" in frame else np.arange(len(y))
    # Groups of equal inputs are numbered in order of appearance, so that sums over groups are in that order too.
    _, first, inverse = np.unique(x, axis=0, return_index=True, return_inverse=True)
    config = first.argsort().argsort()[inverse]
    one_run = len(np.unique(run)) == 1
    own = one_run or len(np.unique(run)) == len(run) or scored
    number, first = np.bincount(config), np.sort(first)
    center_x, means = x[first], np.bincount(config, y) / number
    center = means.mean()
    even = bool((np.abs(error - error[first][config]) < 1e-12).all())
    likeness = None
    if collapse and own and even:
        count = number.astype(float)
        squares = np.bincount(config, (y - means[config]) ** 2)
        error = np.bincount(config, error) / number
        x, y = center_x, means
        # The seed of a single run shifts all its rows together, as the level does.
        sharing = 0.0 * count if one_run else 1.0 / count
    else:
        count, squares = np.ones(len(y)), np.zeros(len(y))
        sharing = np.zeros(len(y)) if one_run else np.ones(len(y))
        if not own:
            sharing = (run[:, None] == run[None, :]).astype(float)
        elif number.max() > 1:
            # Checkpoints of several runs at one step share no residual; rows of one run share its seed.
            likeness = (config[:, None] == config[None, :]).astype(float)
    reference = center_x.mean(0)
    spread = np.ptp(center_x, axis=0)
    counted = None
    if isinstance(runs.score, ScoreScale):
        counted = Counted(rows.right, rows.items, config, *dataclasses.astuple(runs.score))
    return Design(
        z=x - reference,
        y=y - center,
        count=count,
        squares=squares,
        error=error,
        sharing=sharing,
        likeness=likeness,
        reference=np.exp(reference),
        span=np.maximum(spread, SHORTEST_SPAN),
        center=np.asarray(center),
        single=np.asarray(single),
        counted=counted,
        one_run=one_run,
        inert=inert_inputs(spread),
    )


class Rows(NamedTuple):
    """Rows of a family, or averages of its checkpoints.

    Attributes:
        curve: Number of the curve to which a row belongs, see `checkpoints.curves`.
        x: ln of the inputs, shape (row, input).
        y: ln of the loss, or of the odds against a right answer, shape (row,).
        error: Known squared standard errors of y, shape (row,).
        single: Additional variance of a single row compared with an average.
        right: Number of right items for scores, else `y`, shape (row,).
        items: Number of items for scores, else `y`, shape (row,).
    """

    curve: np.ndarray
    x: np.ndarray
    y: np.ndarray
    error: np.ndarray
    single: float
    right: np.ndarray
    items: np.ndarray


def measured_rows(runs: Runs, exempt: np.ndarray) -> Rows:
    """Return the rows of runs, with the checkpoints of long curves averaged.

    Args:
        runs: Runs of a single family.
        exempt: Whether the raw value of an input has a meaning, shape (input,).
    """
    frame = runs.frame
    y, x = np.log(frame["loss"].to_numpy()), np.log(frame[list(runs.inputs)].to_numpy(float))
    error = measurement_variance(runs) if runs.score is None else np.zeros(len(frame))
    right, items = (y, y) if runs.score is None else counts(frame)
    curve, single = curves(frame), 0.0
    most = most_rows(curve, runs.score is not None)
    if long_curves(frame, x, curve, most):
        if runs.score is not None:
            # Checkpoints are measured on the same items, so their average has as many items as each of them.
            right, items = (averaged(curve, x, each, error, exempt, most)[2] for each in (right, items))
        curve, x, y, error, single = averaged(curve, x, y, error, exempt, most)
        if runs.score is not None:
            y = runs.score.log_odds(runs.score.shrunk(right / items, items))
    return Rows(curve, x, y, error, single, right, items)


def referred(design: Design, reference: Array, center: Array) -> Design:
    """Return a design relative to another geometric mean of each input, shape (input,), and mean of ln(loss)."""
    return dataclasses.replace(
        design,
        z=np.asarray(design.z) + np.log(design.reference) - np.log(reference),
        y=np.asarray(design.y) + float(design.center) - float(center),
        reference=reference,
        center=np.asarray(center, float),
    )


def measurement_variance(runs: Runs) -> np.ndarray:
    """Return the variance of ln loss implied by the given standard errors, shape (row,); 0 without them."""
    frame = runs.frame
    if "value_se" not in frame:
        return np.zeros(len(frame))
    if runs.value is not None:
        return runs.value.spread(frame["value_se"].to_numpy()) ** 2
    return (frame["value_se"].to_numpy() / frame["loss"].to_numpy()) ** 2


def inert_inputs(spread: np.ndarray) -> tuple[bool, ...]:
    """Return which inputs vary too little to estimate a law, from the ranges of their logarithms, shape (input,).

    If no input varies enough, the one with the largest range is used nevertheless.
    """
    inert = spread < np.log(INERT_FACTOR)
    inert[int(np.argmax(spread))] = False
    return tuple(bool(flag) for flag in inert)
