"""Model: law, discrepancy and likelihood of the runs of one family, and the values of its parameters.

    ln y_i = l + h(x_i) + A delta(t_i) + e_i

with level l, law h (relative to its value at the reference scale), discrepancy A delta and noise e.
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
"""Settings count as equal if ln x agrees to this many decimals."""


@record
class Model:
    """Model: the law with its priors, the discrepancy (or None) and the likelihood."""

    law: Law
    discrepancy: Discrepancy | None
    likelihood: Likelihood


@record
class Basis:
    """Eigenvectors in columns, shape (row, row), and eigenvalues, shape (row,), of a discrepancy's covariance."""

    vectors: Float[Array, "row row"]
    eigenvalues: Float[Array, "row"]


@record
class Problem:
    """One family as arrays padded to a bucket of rows, with a mask.

    Shapes are those of `Design`, with row padded to a bucket. `evaluation` computes the density of the rows and has the
    arrays for that; in state-space evaluation, rows are in the order of the input. `reach` is the span of each of the
    law's `axes`, or of the inputs if it declares none. `directions` and `origin` map positions in these spans to the
    axes of the discrepancy. `plateau` is 1, except for laws that may have a plateau but here lack it (0), or lack the
    floor too (-1).
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
    """Whether each row has its own precision among the parameters (Student-t noise with discrepancy)."""

    @property
    def rows(self) -> int:
        """Number of rows without padding."""
        return int(self.mask.sum())


RANGE = ("chance", "ceiling", "concentration")
"""Fields of `Values` that are sampled only for some scores."""


class Values(NamedTuple):
    """Constrained values of one vector of unconstrained parameters."""

    constants: dict[str, Any]
    """Constants of the law at the reference scale, in units of the level."""
    residual_sd: Float[Any, "*draw"]
    seed_sd: Float[Any, "*draw"]
    amplitude: Float[Any, "*draw"]
    """Amplitude of the discrepancy."""
    level: Float[Any, "*draw"]
    """Level if it is sampled (Student-t noise, counts), else zero."""
    weights: Float[Any, "*draw row"]
    """Relative precision of each row (Student-t noise with discrepancy), else ones."""
    latent: Any = ()
    """Standardised log odds (see `evaluations.counts`), else empty."""
    chance: Any = ()
    """Chance level of a score if it is sampled, else empty."""
    ceiling: Any = ()
    """Ceiling of a score if it is sampled, else empty."""
    concentration: Any = ()
    """Concentration of beta-binomial counts, else empty."""


class Whitened(NamedTuple):
    """Residuals and a column of ones in a basis where rows are independent with these precisions, shape (row,)."""

    residual: Float[Any, "row"]
    ones: Float[Any, "row"]
    precision: Float[Any, "row"]
    log_determinant: Float[Any, ""]


class Evaluation:
    """Evaluation of the density of a family's rows; `evaluations` has the implementations.

    Attributes:
        sequential: Whether it processes rows one after the other, so that draws are better evaluated in a loop.
        factorises: Whether it factorises a matrix of all rows for each draw.
    """

    sequential = False
    factorises = False

    def shape_of_scores(self, replicated: bool) -> int:
        """Return the number of standardised latent responses that are sampled; zero for losses.

        Args:
            replicated: Whether some runs have equal inputs.
        """
        del replicated
        return 0

    def draw_range(self, sample: Callable[..., Any]) -> tuple[Any, Any]:
        """Draw the chance level and the ceiling of scores; `()` for what is known, and for losses."""
        del sample
        return (), ()

    def response(self, values: Values, mean: np.ndarray, problem: Problem) -> np.ndarray:
        """Return the response of the rows in each draw, minus the centre, shape (draw, row) or (row,).

        Args:
            values: Draws, every leaf with leading axis draw.
            mean: ln of the law plus level at the rows, shape (draw, row).
            problem: The family.
        """
        del values, mean
        return problem.y[: problem.rows]

    @property
    def scored(self) -> bool:
        """Return whether parameters of the law are standardised (see `inference.reparam`)."""
        return True

    def whiten(self, values: Values, residual: Float[Array, "row"], model: Model, problem: Problem) -> Whitened:
        """Rotate, or factorise, the covariance of the rows without the level.

        Args:
            values: Constrained values.
            residual: Deviations from law and level, zero on padding, shape (row,).
            model: Law, discrepancy and likelihood.
            problem: The family.
        """
        raise NotImplementedError

    def deviance(self, values: Values, residual: Float[Array, "row"], model: Model, problem: Problem) -> Float[Any, ""]:
        """Return quadratic form plus log determinant of the rows, level integrated out; arguments as for `whiten`."""
        raise NotImplementedError

    def leave_one_out(
        self, values: Values, residual: Float[Array, "row"], model: Model, problem: Problem
    ) -> Float[Any, "row"]:
        """Return the log density of each row given all others, shape (row,); arguments as for `whiten`."""
        raise NotImplementedError

    def rotate(self, columns: Float[Array, "row *column"]) -> Float[Any, "row *column"]:
        """Express rows, shape (row,) or (row, column), in the basis that `weigh` uses."""
        raise NotImplementedError

    def weigh(
        self, values: Values, columns: Float[Array, "row *column"], problem: Problem
    ) -> tuple[Float[Any, "row *column"], Float[Any, "row"]]:
        """Return rotated columns, and precisions with which their rows are about independent; see `rotate`."""
        raise NotImplementedError

    def draw_scatter(self, values: Values, problem: Problem, rng: np.random.Generator) -> Float[np.ndarray, "draw row"]:
        """Draw the noise of the fitted rows around law and discrepancy, shape (draw, row).

        Independent in this class.
        """
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
            residual: Deviations of the rows from law and level, shape (draw, row).
            wrong: Those deviations minus a path from the prior and its noise, shape (draw, row).
            kernel: Kernel with unit amplitude over rows and new points, shape (row + point, row + point).
            problem: The family.

        Returns:
            Conditional mean, the reduction of the variance due to the rows, and the correction of the path at the new
            points, shape (draw, point) each.
        """
        raise NotImplementedError


def row_variance(values: Values, problem: Problem) -> Float[Any, "row"]:
    """Return the variance of each row's mean around law and discrepancy, shape (row,)."""
    seeds = values.seed_sd**2 * problem.seed_part
    return values.residual_sd**2 + seeds + (SMALLEST_SCATTER**2 + problem.error) / problem.count


def share_residuals(problem: Problem) -> bool:
    """Return whether a new run at fitted settings shares the residual there; not if rows are checkpoints of one run."""
    return not float(problem.single) and bool(np.any(problem.seed_part))


def typical_weights(values: Values, problem: Problem, basis: Basis) -> Float[Any, "row"]:
    """Return the precisions in the discrepancy's eigenbasis as if all rows had the same variance, shape (row,).

    Approximate standardisation is sufficient, and this one needs no factorisation.
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
    """Broadcast constant leaves (of a component that is switched off) along the draw axis."""
    return jax.tree.map(
        lambda leaf: np.broadcast_to(leaf, (draws, *np.shape(leaf)[1:])) if np.ndim(leaf) == 0 else leaf, values
    )


@dataclasses.dataclass(frozen=True)
class PriorScale:
    """Scales to which the priors of a model are relative: those of the runs for which it was made.

    Attributes:
        reference: Geometric mean of each input, shape (input,).
        center: Mean of ln(loss).
        span: Training span of ln x, shape (input,).
        inert: For each input whether it hardly varies.
        low: Smallest of the law's coordinates, shape (axis,).
        reach: Span of each axis, shape (axis,).
        directions: See `discrepancy.directions`, shape (input, axis).
        origin: See `discrepancy.directions`, shape (axis,).
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
    """Design of the family's runs, a key of `designs.DESIGNS`."""
    prior_scale: PriorScale | None = None
    """Scales of the earlier fit whose prior is kept, or None for those of the runs themselves."""
