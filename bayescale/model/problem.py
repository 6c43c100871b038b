"""Model: law x discrepancy x likelihood on the runs of one family, and what its coordinates mean.

    ln y_i = l + h(x_i) + A delta(t_i) + e_i

with level l, law h (relative to its value at the reference scale), discrepancy A delta and scatter e.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from bayescale._jax import on_cores
from bayescale._record import Array, record, static
from bayescale.data.ray import Ray
from bayescale.data.runs import Runs
from bayescale.laws.law import Law
from bayescale.model.discrepancy import Discrepancy
from bayescale.model.likelihood import SMALLEST_SCATTER, Likelihood

if TYPE_CHECKING:
    from jaxtyping import Float

SAME_DIGITS = 9
"""Digits after the point of ln x up to which settings count as equal."""


@record
class Model:
    """Model: the law with its priors, the discrepancy (or None) and the likelihood."""

    law: Law
    discrepancy: Discrepancy | None
    likelihood: Likelihood


@record
class Basis:
    """Eigenvectors in columns, shape (row, row), and eigenvalues, shape (row,), of a discrepancy among rows."""

    vectors: Float[Array, "row row"]
    eigenvalues: Float[Array, "row"]


@record
class Problem:
    """One family as the engine sees it: arrays padded to a bucket of rows, with a mask.

    Shapes are those of `Design` with row padded to a bucket. `evaluation` is how the density of the rows is evaluated,
    with the arrays that this takes; state-space evaluation has the rows in the order of the input. `reach` is the span
    of each of the law's `axes`, those of the inputs where it has none; `directions` and `origin` map positions in these
    spans to the axes of the discrepancy. `plateau` is zero where a law does without the plateau that it might have,
    minus one where it does without its floor as well, else one.
    """

    z: Float[Array, "row input"]
    y: Float[Array, "row"]
    mask: Float[Array, "row"]
    count: Float[Array, "row"]
    squares: Float[Array, "row"]
    error: Float[Array, "row"]
    seed_part: Float[Array, "row"]
    span: Float[Array, "input"]
    center: Float[Array, ""]
    single: Float[Array, ""]
    evaluation: Evaluation
    reach: Float[Array, "axis"]
    directions: Float[Array, "axis direction"]
    origin: Float[Array, "direction"]
    plateau: Float[Array, ""]
    active: tuple[bool, ...] = static()
    replicated: bool = static()
    latent: bool = static()
    """Each row has a precision of its own among the coordinates (Student-t noise with discrepancy)."""

    @property
    def rows(self) -> int:
        """Number of rows without padding."""
        return int(self.mask.sum())


class Values(NamedTuple):
    """Constrained values of one set of coordinates."""

    constants: dict[str, Any]
    """Constants of the law at the reference scale, in units of the level."""
    residual_sd: Float[Any, "*draw"]
    seed_sd: Float[Any, "*draw"]
    amplitude: Float[Any, "*draw"]
    """Amplitude of the discrepancy."""
    level: Float[Any, "*draw"]
    """Level where it is sampled (Student-t noise), else zero."""
    weights: Float[Any, "*draw row"]
    """Relative precision of each row (Student-t noise with discrepancy), else ones."""
    latent: Any = ()
    """Standard scores of log odds (see `evaluations.counts`), else none."""


class Whitened(NamedTuple):
    """Residuals and a column of ones in a basis where rows are independent with these precisions, shape (row,)."""

    residual: Float[Any, "row"]
    ones: Float[Any, "row"]
    precision: Float[Any, "row"]
    log_determinant: Float[Any, ""]


class Evaluation:
    """Evaluation of the density of a family's rows; `evaluations` has the implementations.

    Attributes:
        sequential: Whether it goes from row to row, so that draws are better evaluated one after the other.
        factorises: Whether it factorises a matrix of all rows for each draw.
    """

    sequential = False
    factorises = False

    def shape_of_scores(self, replicated: bool) -> int:
        """Return the number of standard scores of latent responses that are sampled; none for losses.

        Args:
            replicated: Whether some runs have equal inputs.
        """
        del replicated
        return 0

    def response(self, values: Values, mean: np.ndarray, problem: Problem) -> np.ndarray:
        """Return the response that each draw has for the rows, less the centre, shape (draw, row) or (row,).

        Args:
            values: Draws, every leaf with leading axis draw.
            mean: What law and level say of the rows, shape (draw, row).
            problem: The family.
        """
        del values, mean
        return problem.y[: problem.rows]

    @property
    def scored(self) -> bool:
        """Return whether standard scores of the law are formed (see `inference.reparam`)."""
        return True

    def whiten(self, values: Values, residual: Float[Array, "row"], model: Model, problem: Problem) -> Whitened:
        """Rotate, or factorise, the covariance of the rows without the level.

        Args:
            values: What the coordinates mean.
            residual: What law and level leave, zero on padding, shape (row,).
            model: Law, discrepancy and likelihood.
            problem: The family.
        """
        raise NotImplementedError

    def deviance(self, values: Values, residual: Float[Array, "row"], model: Model, problem: Problem) -> Float[Any, ""]:
        """Return quadratic form and log determinant of the rows, level integrated out; arguments as of `whiten`."""
        raise NotImplementedError

    def leave_one_out(
        self, values: Values, residual: Float[Array, "row"], model: Model, problem: Problem
    ) -> Float[Any, "row"]:
        """Return the log density of each row given all others, shape (row,); arguments as of `whiten`."""
        raise NotImplementedError

    def rotate(self, columns: Float[Array, "row *column"]) -> Float[Any, "row *column"]:
        """Express rows, shape (row,) or (row, column), in the basis that `weigh` takes them in."""
        raise NotImplementedError

    def weigh(
        self, values: Values, columns: Float[Array, "row *column"], problem: Problem
    ) -> tuple[Float[Any, "row *column"], Float[Any, "row"]]:
        """Return columns of rows, rotated before, and precisions that make these rows about independent."""
        raise NotImplementedError

    def draw_scatter(self, values: Values, problem: Problem, rng: np.random.Generator) -> Float[np.ndarray, "draw row"]:
        """Draw the scatter of the fitted rows around law and discrepancy, shape (draw, row); here it is independent."""
        spread = over_draws(row_variance, values, problem)[:, : problem.rows]
        return np.sqrt(spread) * rng.standard_normal(spread.shape)

    def condition(
        self,
        values: Values,
        residual: Float[np.ndarray, "draw row"],
        wrong: Float[np.ndarray, "draw row"],
        kernel: Float[np.ndarray, "row+point row+point"],
        problem: Problem,
    ) -> tuple[Float[np.ndarray, "draw point"], Float[np.ndarray, "draw point"], Float[np.ndarray, "draw point"]]:
        """Condition the discrepancy at new points on the rows.

        Args:
            values: Draws, every leaf with leading axis draw.
            residual: What law and level leave of the rows, shape (draw, row).
            wrong: What a path of the prior leaves of them, its scatter included, shape (draw, row).
            kernel: Kernel of unit amplitude over rows and new points, shape (row + point, row + point).
            problem: The family.

        Returns:
            Conditional mean, the variance that the rows remove, and the correction of the path at the new points, shape
            (draw, point) each.
        """
        raise NotImplementedError


def row_variance(values: Values, problem: Problem) -> Float[Any, "row"]:
    """Return the variance of each row's mean around law and discrepancy, shape (row,)."""
    seeds = values.seed_sd**2 * problem.seed_part
    return values.residual_sd**2 + seeds + (SMALLEST_SCATTER**2 + problem.error) / problem.count


def share_residuals(problem: Problem) -> bool:
    """Return whether a new run at fitted settings shares the residual there, unlike checkpoints of one other run."""
    return not float(problem.single) and bool(np.any(problem.seed_part))


def typical_weights(values: Values, problem: Problem, basis: Basis) -> Float[Any, "row"]:
    """Return the precisions in the discrepancy's eigenbasis as if all rows scattered alike, shape (row,).

    Any scores serve that are nearly standard, and these need no factorisation.
    """
    variance = row_variance(values, problem)
    typical = problem.mask.sum() / (problem.mask / variance).sum()
    return problem.mask / (typical + values.amplitude**2 * basis.eigenvalues)


def over_draws(
    function: Callable[[Values, Problem], Any], values: Values, problem: Problem
) -> Float[np.ndarray, "draw ..."]:
    """Evaluate a function of one draw for all draws, in float64, shape (draw, ...)."""
    with on_cores():
        return np.asarray(jax.vmap(lambda value: function(value, problem))(values))


def filled(values: Values, draws: int) -> Values:
    """Broadcast constant leaves (a term that is switched off) along the draw axis."""
    return jax.tree.map(
        lambda leaf: np.broadcast_to(leaf, (draws, *np.shape(leaf)[1:])) if np.ndim(leaf) == 0 else leaf, values
    )


@dataclasses.dataclass(frozen=True)
class PriorScale:
    """Scales that turn the priors of a model into priors of laws in raw units: those of the runs that it was made for.

    Attributes:
        reference: Geometric mean of each input, shape (input,).
        center: Mean of ln(loss).
        span: Training span of ln x, shape (input,).
        inert: For each input whether it hardly varies.
        low: Smallest of the law's coordinates, shape (axis,).
        reach: Span of each axis, shape (axis,).
        directions: See `discrepancy.directions`, shape (input, axis).
        origin: Likewise, shape (axis,).
    """

    reference: np.ndarray
    center: float
    span: np.ndarray
    inert: tuple[bool, ...]
    low: np.ndarray
    reach: np.ndarray
    directions: np.ndarray
    origin: np.ndarray


@dataclasses.dataclass(frozen=True)
class Job:
    """One model of one family, ready to be sampled."""

    runs: Runs
    law: Law
    discrepancy: Discrepancy | None
    likelihood: Likelihood
    model: Model
    problem: Problem
    low: np.ndarray
    """Smallest of the law's coordinates among the runs, shape (axis,): ln(x / reference) for most laws."""
    reference: np.ndarray
    """Geometric mean of each input, shape (input,)."""
    ray: Ray | None = None
    """The ray along which one of several inputs was fitted, or None."""
    design: str = "curve"
    """What kind of runs the family has, a key of `designs.DESIGNS`."""
    prior_scale: PriorScale | None = None
    """Scales of the fit whose prior was kept, or None for those of the runs themselves."""
