"""Model: law x discrepancy x likelihood on the runs of one family, and what its coordinates mean.

    ln y_i = l + h(x_i) + A delta(t_i) + e_i

with level l, law h (relative to its value at the reference scale), discrepancy A delta and scatter e.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Unpack

import jax
import numpy as np

from bayescale import laws
from bayescale._jax import bucket, padded, padded_square
from bayescale._record import Array, record, static
from bayescale.data.design import SHORTEST_SPAN, Design, reduce_runs
from bayescale.data.ray import Ray, find_ray
from bayescale.data.runs import Runs, checked, need_scales
from bayescale.data.zeros import refuse_zeros
from bayescale.errors import InputError
from bayescale.laws.law import Law, without_span
from bayescale.laws.priors import Plateaus, Prior, check_priors
from bayescale.model.discrepancy import Discrepancy, directions, eigenbasis, kernel, resolve_discrepancy
from bayescale.model.likelihood import Likelihood, resolve_likelihood
from bayescale.model.options import ModelOptions

WALKING_ROWS = 128
"""Rows of one input from which on the evaluation in linear time is the faster one."""


@record
class Model:
    """What is assumed: the law with its priors, the discrepancy (or None) and the likelihood."""

    law: Law
    discrepancy: Discrepancy | None
    likelihood: Likelihood


@record
class Problem:
    """One family as the engine sees it: arrays padded to a bucket of rows, with a mask.

    `ones` is the column of the level in the basis in which rows are evaluated. `basis` and `eigenvalues` belong to
    the rotated evaluation, and where rows do not scatter alike to the coordinates of `reparam`; `discrepancy` (the
    kernel matrix), `shared` and `alike` belong to the dense one; `gap`, the distance from the row before in spans, to
    the one in linear time, whose rows are in the order of the input. The others are None. Shapes are those of `Design`
    with row padded to a bucket. `reach` is the span of each of the law's `axes`, those of the inputs where it has none;
    `directions` and `origin` map positions in these spans to the axes of the discrepancy. `plateau` is zero where a
    law does without the plateau that it might have, else one.
    """

    z: Array
    y: Array
    mask: Array
    count: Array
    squares: Array
    error: Array
    seed_part: Array
    span: Array
    center: Array
    single: Array
    ones: Array
    gap: Array | None
    basis: Array | None
    eigenvalues: Array | None
    discrepancy: Array | None
    shared: Array | None
    alike: Array | None
    reach: Array
    directions: Array
    origin: Array
    plateau: Array
    active: tuple[bool, ...] = static()
    dense: bool = static()
    replicated: bool = static()
    latent: bool = static()
    """Each row has a precision of its own among the coordinates (Student-t noise with discrepancy)."""


class Values(NamedTuple):
    """What one set of coordinates means."""

    constants: dict[str, Any]
    """Constants of the law at the reference scale, in units of the level."""
    residual_sd: Any
    seed_sd: Any
    amplitude: Any
    """Amplitude of the discrepancy."""
    level: Any
    """Level where it is sampled (Student-t noise), else zero."""
    weights: Any
    """Relative precision of each row (Student-t noise with discrepancy), else ones."""


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


def make_job(runs: Runs, law: str | Law = "auto", **options: Unpack[ModelOptions]) -> Job:
    """Check one family against one model and reduce it to arrays; arguments as of `make_jobs`.

    Raises:
        InputError: For names or data that cannot work together, and for a law that is a mixture of models.
    """
    jobs = make_jobs(runs, law, **options)
    if len(jobs) > 1:
        key = jobs[0].law.level[0] if jobs[0].law.level else ""
        raise InputError(
            f"{jobs[0].law.name} is fitted as a mixture of {len(jobs)} models; one is expected. Ask for one with "
            f"priors={{{key!r}: bs.Plateaus(plateau='present')}}, or 'absent'."
        )
    return jobs[0]


def make_jobs(
    runs: Runs,
    law: str | Law = "auto",
    *,
    discrepancy: Discrepancy | str | None = "auto",
    likelihood: Likelihood | str = "normal",
    priors: Mapping[str, Prior] | None = None,
) -> tuple[Job, ...]:
    """Check one family against a law and reduce it to arrays: one job, or one for each component of a mixture.

    Raises:
        InputError: For names or data that cannot work together.
    """
    runs = checked(runs)
    check_priors(priors)
    if not runs.inputs:
        need_scales(runs)
    ray = None
    if isinstance(law, str) and law == "auto":
        ray = None if runs.one_ray is False else find_ray(runs.frame, runs.inputs)
        chosen = laws.automatic(runs.inputs if ray is None else ray.names[:1])
    else:
        chosen = laws.get(law)
    chosen = laws.bind(chosen, runs.inputs if ray is None else ray.names[:1]).with_priors(priors or {})
    runs = dataclasses.replace(runs, inputs=chosen.inputs)
    refuse_zeros(chosen, runs.frame, runs.name)
    discrepancy = resolve_discrepancy(discrepancy, len(chosen.axes or chosen.inputs))
    likelihood = resolve_likelihood(likelihood, len(runs.inputs))
    design = reduce_runs(runs, exempt=chosen.exempt)

    def job(law: Law) -> Job:
        model, problem = prepare(law, discrepancy, likelihood, design)
        model = jax.tree.map(lambda leaf: np.asarray(leaf, float), model)
        low = model.law.coordinates(problem.z[: len(design.y)]).min(0)
        return Job(runs, law, discrepancy, likelihood, model, problem, low, np.asarray(design.reference), ray=ray)

    return tuple(job(law) for law in components(chosen))


def components(law: Law) -> tuple[Law, ...]:
    """Laws of the components of a mixture; one law where its priors name no mixture."""
    found = plateaus(law)
    if found is None or found[1].plateau != "mixture":
        return (law,)
    key, prior = found
    return tuple(law.with_priors({key: dataclasses.replace(prior, plateau=name)}) for name in ("present", "absent"))


def plateaus(law: Law) -> tuple[str, Plateaus] | None:
    """Key and prior of the law's floor and plateau, or None for a law that has no such prior."""
    return law.level if law.level is not None and isinstance(law.level[1], Plateaus) else None


def prepare(law: Law, discrepancy: Discrepancy | None, likelihood: Likelihood, design: Design) -> tuple[Model, Problem]:
    """Build the model and the padded arrays for one family, choosing the evaluation that its rows allow."""
    rows = len(design.y)
    # Where it wanders is in the arrays, so one program serves all.
    plain = None if discrepancy is None else dataclasses.replace(discrepancy, along="inputs")
    model = Model(bare(without_span(law, design.inert).referred(design.reference)), plain, likelihood)
    found = plateaus(law)
    diagonal = design.diagonal
    alike = np.ptp(design.count) == 0 and np.ptp(design.error) < 1e-12
    heavy = likelihood.tail is not None
    walking = discrepancy is not None and not heavy and diagonal and design.z.shape[1] == 1 and not law.axes
    walking = walking and (rows >= WALKING_ROWS or not alike)
    dense = not walking and (not diagonal or (discrepancy is not None and (heavy or not alike)))
    latent = dense and heavy
    if walking:
        design = ordered(design)
    place = model.law.coordinates(design.z)
    reach = np.maximum(np.ptp(place, axis=0), SHORTEST_SPAN) if law.axes else np.asarray(design.span, float)
    position = (place - place.min(0)) / reach
    matrix, origin = directions(position, "inputs" if discrepancy is None else discrepancy.along)
    place = position @ matrix - origin
    eigenvalues, basis, covariance = None, None, None
    if discrepancy is not None and (not walking or rows < WALKING_ROWS):
        covariance = kernel(place, place, discrepancy)
        if not latent:
            eigenvalues, basis = eigenbasis(covariance)
    # Student-t with discrepancy has one latent precision a row, so its rows are not padded.
    size = rows if latent else bucket(rows)
    problem = Problem(
        z=padded(design.z, size),
        y=padded(design.y, size),
        mask=padded(np.ones(rows), size),
        count=padded(design.count, size, 1.0),
        squares=padded(design.squares, size),
        error=padded(design.error, size),
        seed_part=padded(design.sharing if np.ndim(design.sharing) == 1 else np.diag(design.sharing), size),
        span=np.asarray(design.span, float),
        center=np.asarray(design.center, float),
        single=np.asarray(design.single, float),
        ones=padded(np.ones(rows) if basis is None else basis.T @ np.ones(rows), size),
        gap=padded(np.diff(position[:, 0], prepend=position[0, 0]), size) if walking else None,
        basis=None if basis is None else padded_square(basis, size),
        eigenvalues=None if eigenvalues is None else padded(eigenvalues, size),
        discrepancy=padded_square(covariance, size) if dense and covariance is not None else None,
        shared=padded_square(design.shared, size) if dense else None,
        alike=padded_square(design.alike, size) if dense else None,
        reach=reach,
        directions=matrix,
        origin=origin,
        plateau=np.asarray(0.0 if found is not None and found[1].plateau == "absent" else 1.0),
        active=tuple(not flag for flag in design.inert),
        dense=dense,
        replicated=bool(np.max(design.count) > 1),
        latent=latent,
    )
    return model, problem


def places(law: Law, problem: Problem, low: Array, z: Array) -> np.ndarray:
    """Where points lie on the axes along which the slope wanders, shape (point, axis).

    Args:
        law: The law of the model.
        problem: The family.
        low: Smallest of its coordinates among the fitted rows, shape (axis,).
        z: ln(x / reference) of the points, shape (point, input).
    """
    position = (law.coordinates(z) - low) / problem.reach
    return position @ np.asarray(problem.directions) - problem.origin


def ordered(design: Design) -> Design:
    """Return a design of one input, whose rows have nothing in common, in the order of the input."""
    order = np.argsort(design.z[:, 0], kind="stable")
    rows = {name: getattr(design, name)[order] for name in ("z", "y", "count", "squares", "error", "sharing")}
    return dataclasses.replace(design, **rows)


def bare(law: Law) -> Law:
    """Strip a law of everything that does not change its program, so that equal programs are compiled once."""
    # Whether there is a plateau is in the problem.
    priors = {
        key: dataclasses.replace(prior, plateau="present") if isinstance(prior, Plateaus) else prior
        for key, prior in law.priors.items()
    }
    return Law(
        curve=law.curve,
        name="",
        inputs=tuple(f"x{i}" for i in range(len(law.inputs))),
        priors=priors,
        rescale=law.rescale,
        axes=law.axes,
    )
