"""Kalman filter and smoother of the discrepancy along one input, in linear time.

The integrated Ornstein-Uhlenbeck process and its slope form a Markov process with two components. A Kalman filter
therefore evaluates the density of n ordered rows in time proportional to n, with the same result as the dense
evaluation. Rows are divided into blocks. The map from incoming to outgoing state is computed for all blocks in
parallel; then states are passed from block to block (sarkka2021temporal). Gradients are written out by hand: they take
the filter and one backward pass, without automatic differentiation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from bayescale._record import Array

if TYPE_CHECKING:
    from jaxtyping import Float


class Steps(NamedTuple):
    """Transition to each row, every leaf with leading axis row.

    `a` and `b` are the coefficients of the slope in the next value and slope. `q0`, `q1`, `q2` are the added variance
    of the value, covariance, and variance of the slope.
    """

    a: Any
    b: Any
    q0: Any
    q1: Any
    q2: Any


def steps(gap: Float[Array, "*row"], memory: float, square: Float[Any, ""]) -> Steps:
    """Return the transitions over gaps in units of the span; `square` is the squared amplitude."""
    u = jnp.asarray(gap) / memory
    decay = -jnp.expm1(-u)
    # Series are used where the closed forms cancel: the variance of the value grows with the third power of the gap.
    small = u < 0.05
    safe = jnp.where(small, 1.0, u)
    exact = safe + jnp.expm1(-safe) - 0.5 * jnp.expm1(-safe) ** 2
    series = u**3 * (1 / 3 - u * (1 / 4 - u * (7 / 60 - u * (1 / 24 - u * (31 / 2520 - u * (1 / 320))))))
    grown = jnp.where(small, series, exact)
    return Steps(
        a=memory * decay,
        b=1.0 - decay,
        q0=square * memory**3 * grown,
        q1=square * memory**2 * 0.5 * decay**2,
        q2=square * memory * 0.5 * (-jnp.expm1(-2.0 * u)),
    )


# --- Two-by-two arithmetic on tuples of arrays: matrices as (m00, m01, m10, m11), symmetric ones as (s0, s1, s2) -----


def product(m: Any, n: Any) -> Any:
    """Return the product of two matrices."""
    return (
        m[0] * n[0] + m[1] * n[2],
        m[0] * n[1] + m[1] * n[3],
        m[2] * n[0] + m[3] * n[2],
        m[2] * n[1] + m[3] * n[3],
    )


def square_of(s: Any) -> Any:
    """Return a symmetric matrix with all four elements."""
    return (s[0], s[1], s[1], s[2])


def congruent(m: Any, s: Any) -> Any:
    """Return M S M' for a symmetric S."""
    x0, x1 = m[0] * s[0] + m[1] * s[1], m[0] * s[1] + m[1] * s[2]
    y0, y1 = m[2] * s[0] + m[3] * s[1], m[2] * s[1] + m[3] * s[2]
    return (x0 * m[0] + x1 * m[1], x0 * m[2] + x1 * m[3], y0 * m[2] + y1 * m[3])


def transposed(m: Any) -> Any:
    """Return the transposed matrix."""
    return (m[0], m[2], m[1], m[3])


def applied(m: Any, v: Any) -> Any:
    """Return a matrix times vectors (v0, v1), each of shape (..., column)."""
    return (m[0][..., None] * v[0] + m[1][..., None] * v[1], m[2][..., None] * v[0] + m[3][..., None] * v[1])


def added(x: Any, y: Any) -> Any:
    """Return the element-wise sum of two tuples."""
    return tuple(i + j for i, j in zip(x, y, strict=True))


def inverse(m: Any) -> Any:
    """Return the inverse of a matrix."""
    scale = 1.0 / (m[0] * m[3] - m[1] * m[2])
    return (m[3] * scale, -m[1] * scale, -m[2] * scale, m[0] * scale)


class Element(NamedTuple):
    """Map of one or several rows from the incoming state; the fields are those of sarkka2021temporal, section IV."""

    A: Any
    b: Any
    C: Any
    eta: Any
    J: Any


def element(step: Any, y: Any, noise: Any, mask: Any) -> Element:
    """Return one row's element: `y` has shape (..., column), the others shape (...)."""
    total = mask * step.q0 + noise
    k0, k1 = mask * step.q0 / total, mask * step.q1 / total
    one, zero = jnp.ones_like(k0), jnp.zeros_like(k0)
    # A = (I - K H) [[1, a], [0, b]] and H A = [1, a].
    A = (one - k0, (1.0 - k0) * step.a, -k1, step.b - k1 * step.a)
    C = ((1.0 - k0) * step.q0, (1.0 - k0) * step.q1, step.q2 - k1 * step.q1)
    b = (k0[..., None] * y, k1[..., None] * y)
    pull = mask / total
    eta = (pull[..., None] * y, (pull * step.a)[..., None] * y)
    return Element(A, b, C, eta, (pull, pull * step.a, pull * step.a**2 + zero))


def combined(i: Element, j: Element) -> Element:
    """Return the element of steps `i`, then `j`."""
    mixed = product(square_of(i.C), square_of(j.J))
    M = inverse((1.0 + mixed[0], mixed[1], mixed[2], 1.0 + mixed[3]))
    AM = product(j.A, M)
    b = added(applied(AM, added(i.b, applied(square_of(i.C), j.eta))), j.b)
    mc = product(AM, square_of(i.C))
    full = product(mc, transposed(j.A))
    C = added((full[0], 0.5 * (full[1] + full[2]), full[3]), j.C)
    back = product(transposed(i.A), transposed(M))
    pulled = applied(square_of(j.J), i.b)
    eta = added(applied(back, (j.eta[0] - pulled[0], j.eta[1] - pulled[1])), i.eta)
    inner = product(product(back, square_of(j.J)), i.A)
    J = added((inner[0], 0.5 * (inner[1] + inner[2]), inner[3]), i.J)
    return Element(product(AM, i.A), b, C, eta, J)


class Filtered(NamedTuple):
    """Quantities of the filter at each row, in blocks: shape (step, block, ...)."""

    surprise: Any
    """Difference of each column from its prediction, shape (step, block, column)."""
    spread: Any
    """Variance of that difference."""
    gain: Any
    step: Any
    mask: Any


def blocked(values: Array, blocks: int) -> Any:
    """Return the rows in blocks, shape (step, block, ...), so that a scan processes all blocks in parallel."""
    values = jnp.asarray(values)
    shaped = values.reshape(blocks, values.shape[0] // blocks, *values.shape[1:])
    return jnp.swapaxes(shaped, 0, 1)


def unblocked(values: Any) -> Any:
    """Return rows from their blocks: the inverse of `blocked`."""
    return jnp.swapaxes(values, 0, 1).reshape(-1, *values.shape[2:])


def block_count(rows: int) -> int:
    """Return the number of blocks for a padded number of rows, a multiple of 8: about its square root."""
    return next(b for b in range(max(1, round(rows**0.5)), 0, -1) if rows % b == 0)


class Predicted(NamedTuple):
    """Predicted state of each row given the rows before it, in blocks: shape (step, block, ...)."""

    mean: Any
    """Value and slope of each column, a pair of shape (step, block, column)."""
    variance: Any
    """Variance of the value, covariance, and variance of the slope: a triple."""


def filtered(
    columns: Float[Any, "row column"],
    noise: Float[Any, "row"],
    square: Float[Any, ""],
    gap: Float[Array, "row"],
    mask: Float[Array, "row"],
    memory: float,
) -> Filtered:
    """Run the Kalman filter over ordered rows; arguments as for `filter_rows`."""
    return filter_rows(columns, noise, square, gap, mask, memory)[0]


def filter_rows(
    columns: Float[Any, "row column"],
    noise: Float[Any, "row"],
    square: Float[Any, ""],
    gap: Float[Array, "row"],
    mask: Float[Array, "row"],
    memory: float,
) -> tuple[Filtered, Predicted]:
    """Run the Kalman filter over ordered rows.

    Args:
        columns: Shape (row, column); all columns are filtered with the same gains.
        noise: Variance of each row around the discrepancy, shape (row,).
        square: Squared amplitude of the discrepancy.
        gap: Distance from the previous row in spans, zero for the first, shape (row,).
        mask: One for rows, zero for padding, shape (row,).
        memory: Correlation length of the slope in spans.
    """
    blocks = block_count(len(gap))
    noise = jnp.where(jnp.asarray(mask) > 0, noise, 1.0)
    move = jax.tree.map(lambda leaf: blocked(leaf, blocks), steps(gap, memory, square))
    y, r, m = blocked(columns, blocks), blocked(noise, blocks), blocked(mask, blocks)
    first = jax.tree.map(lambda leaf: leaf[0], (move, y, r, m))
    rest = jax.tree.map(lambda leaf: leaf[1:], (move, y, r, m))
    whole, _ = lax.scan(lambda e, row: (combined(e, element(*row)), None), element(*first), rest)

    width = y.shape[-1]
    zero = jnp.zeros(width, y.dtype)
    # The process starts at zero with a stationary slope.
    none = jnp.zeros((), y.dtype)
    start = ((zero, zero), (none, none, none + 0.5 * square * memory))

    def hand_over(state: Any, block: Element) -> tuple[Any, Any]:
        mean, variance = state
        mixed = product(square_of(variance), square_of(block.J))
        M = inverse((1.0 + mixed[0], mixed[1], mixed[2], 1.0 + mixed[3]))
        AM = product(block.A, M)
        new = added(applied(AM, added(mean, applied(square_of(variance), block.eta))), block.b)
        full = product(product(AM, square_of(variance)), transposed(block.A))
        return (new, added((full[0], 0.5 * (full[1] + full[2]), full[3]), block.C)), state

    _, states = lax.scan(hand_over, start, whole)

    def advance(state: Any, row: Any) -> tuple[Any, Any]:
        (m0, m1), (p0, p1, p2) = state
        move, y, r, mask = row
        m0, m1 = m0 + move.a[..., None] * m1, move.b[..., None] * m1
        p0, p1, p2 = (
            p0 + move.a * (2.0 * p1 + move.a * p2) + move.q0,
            move.b * (p1 + move.a * p2) + move.q1,
            move.b**2 * p2 + move.q2,
        )
        predicted = Predicted((m0, m1), (p0, p1, p2))
        spread = mask * p0 + r
        k0, k1 = mask * p0 / spread, mask * p1 / spread
        surprise = mask[..., None] * (y - m0)
        state = (
            (m0 + k0[..., None] * surprise, m1 + k1[..., None] * surprise),
            (p0 * r / spread, p1 * r / spread, p2 - k1 * p1),
        )
        # Padding has noise one and gain zero, so the state passes through unchanged.
        return state, (surprise, spread, (k0, k1), predicted)

    _, (surprise, spread, gain, predicted) = lax.scan(advance, states, (move, y, r, m))
    return Filtered(surprise, spread, gain, move, m), predicted


def adjoint(run: Filtered) -> tuple[Any, Any]:
    """Solve with the covariance of the rows, by one backward pass over the results of the filter.

    Returns:
        The inverse covariance times the columns, shape (row, column), and its diagonal, shape (row,).
    """
    solved, diagonal, _ = pass_back(run)
    return unblocked(solved), unblocked(diagonal)


def smoothed(
    columns: Float[Any, "row column"],
    noise: Float[Any, "row"],
    square: Float[Any, ""],
    gap: Float[Any, "row"],
    mask: Float[Any, "row"],
    memory: Any,
) -> tuple[Any, Any, Any, Any]:
    """Smooth ordered rows: condition the process at each row on all rows that are not masked.

    Args:
        columns: See `filter_rows`.
        noise: See `filter_rows`.
        square: See `filter_rows`.
        gap: See `filter_rows`.
        mask: One for measured rows, zero for forecast points and for padding, shape (row,).
        memory: See `filter_rows`.

    Returns:
        Mean of the value, shape (row, column), and its variance, shape (row,); mean of the slope at the start, shape
        (column,), and its variance.
    """
    run, (mean, variance) = filter_rows(columns, noise, square, gap, mask, memory)
    _, _, ((r0, r1), n) = pass_back(run)
    p0, p1, _ = variance
    value = mean[0] + p0[..., None] * r0 + p1[..., None] * r1
    left = p0 - (p0**2 * n[0] + 2.0 * p0 * p1 * n[1] + p1**2 * n[2])
    # The first row is at the start of the process, where only the slope is unknown.
    start = 0.5 * square * memory
    return unblocked(value), unblocked(left), start * r1[0, 0], start - start**2 * n[2][0, 0]


def pass_back(run: Filtered) -> tuple[Any, Any, Any]:
    """Propagate adjoints backward over the filter's steps, see `adjoint`; also return the adjoint state, in blocks."""
    blocks, width = run.spread.shape[1], run.surprise.shape[-1]
    weight = run.mask / run.spread

    def back(state: Any, row: Any) -> tuple[Any, Any]:
        (l0, l1), n, phi = state
        surprise, weight, (k0, k1), move = row
        scaled = weight[..., None] * surprise
        solved = scaled - (k0[..., None] * l0 + k1[..., None] * l1)
        diagonal = weight + k0**2 * n[0] + 2.0 * k0 * k1 * n[1] + k1**2 * n[2]
        # (I - K H)' l = l - H' (K' l); then the transition of this row.
        closed = (1.0 - k0, jnp.zeros_like(k0), -k1, jnp.ones_like(k0))
        r0, r1 = l0 + solved, l1
        n0, n1, n2 = congruent(transposed(closed), n)
        n0 = n0 + weight
        a, b = move.a, move.b
        lam = (r0, a[..., None] * r0 + b[..., None] * r1)
        cov = (n0, a * n0 + b * n1, a**2 * n0 + 2.0 * a * b * n1 + b**2 * n2)
        one, zero = jnp.ones_like(a), jnp.zeros_like(a)
        phi = product(phi, product(closed, (one, a, zero, b)))
        return (lam, cov, phi), (solved, diagonal, ((r0, r1), (n0, n1, n2)))

    rows = (run.surprise, weight, run.gain, run.step)
    none = jnp.zeros(blocks, weight.dtype)
    nothing = jnp.zeros((blocks, width), weight.dtype)
    identity = (none + 1.0, none, none, none + 1.0)
    (c, w, phi), _ = lax.scan(back, ((nothing, nothing), (none, none, none), identity), rows, reverse=True)

    def hand_over(state: Any, block: Any) -> tuple[Any, Any]:
        lam, cov = state
        c, w, phi = block
        turned = transposed(phi)
        return (added(applied(turned, lam), c), added(congruent(turned, cov), w)), state

    end = jax.tree.map(lambda leaf: jnp.zeros_like(leaf[0]), ((c[0], c[1]), w))
    _, states = lax.scan(hand_over, end, (c, w, phi), reverse=True)
    _, found = lax.scan(back, (*states, identity), rows, reverse=True)
    return found


@jax.custom_vjp
def deviance(
    residual: Float[Any, "row"],
    noise: Float[Any, "row"],
    square: Float[Any, ""],
    ones: Float[Any, "row"],
    gap: Float[Any, "row"],
    mask: Float[Any, "row"],
    memory: Any,
    prior: Any,
) -> Float[Any, ""]:
    """Return quadratic form plus log determinant of ordered rows, with the level integrated out.

    Args:
        residual: Deviations from law and centre, zero on padding, shape (row,).
        noise: Variance of each row around the discrepancy, shape (row,).
        square: Squared amplitude.
        ones: Column of the level, shape (row,); zeros if it is not integrated out.
        gap: See `filtered`.
        mask: See `filtered`.
        memory: See `filtered`.
        prior: Precision of the level's prior.
    """
    return evaluated(residual, noise, square, ones, gap, mask, memory, prior)[0]


def evaluated(
    residual: Any,
    noise: Float[Any, "row"],
    square: Float[Any, ""],
    ones: Any,
    gap: Float[Any, "row"],
    mask: Float[Any, "row"],
    memory: Any,
    prior: Any,
) -> tuple[Any, Any]:
    """Return the value of `deviance`, and what is needed for its gradient."""
    run = filtered(jnp.stack([residual, ones], axis=1), noise, square, gap, mask, memory)
    weight = run.mask / run.spread
    precision = prior + (weight * run.surprise[..., 1] ** 2).sum()
    mean = (weight * run.surprise[..., 0] * run.surprise[..., 1]).sum() / precision
    # A sum of squares instead of a difference, so that exact interpolation causes no cancellation.
    left = run.surprise[..., 0] - mean * run.surprise[..., 1]
    value = (weight * left**2).sum() + prior * mean**2 + (run.mask * jnp.log(run.spread)).sum()
    value = value + jnp.log(precision / prior)
    return value, (run, mean, precision, noise, square, mask, residual, ones)


def pull_back(kept: Any, slope: Any) -> tuple[Any, ...]:
    """Return the gradient of `deviance` with respect to residual, noise and squared amplitude; others have none."""
    run, mean, precision, noise, square, mask, residual, ones = kept
    solved, diagonal = adjoint(run)
    left = solved[:, 0] - mean * solved[:, 1]
    # Inverse covariance with the level: K^-1 - u u' / precision.
    inner = mask * (diagonal - solved[:, 1] ** 2 / precision)
    by_noise = inner - left**2
    # K = square K0 + diag(noise), so traces and products with K0 follow from those with K.
    trace = (mask - jnp.where(mask > 0, noise, 0.0) * diagonal).sum() - solved[:, 1] @ (
        ones - noise * mask * solved[:, 1]
    ) / precision
    product_ = left @ (residual - mean * ones) - (noise * mask * left**2).sum()
    by_square = (trace - product_) / square
    return (slope * 2.0 * left, slope * by_noise, slope * by_square, None, None, None, None, None)


deviance.defvjp(evaluated, pull_back)
