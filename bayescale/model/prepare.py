"""Preparation: from runs, a law and options to the arrays of a problem, one job for each fitted model."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import jax
import numpy as np

from bayescale import laws
from bayescale._record import Array
from bayescale.data.design import SHORTEST_SPAN, Design, reduce_runs, referred
from bayescale.data.ray import Ray, find_ray
from bayescale.data.runs import Runs, checked, need_scales
from bayescale.data.value import rescaled
from bayescale.data.zeros import refuse_zeros
from bayescale.errors import InputError
from bayescale.laws.law import Law, without_span
from bayescale.laws.priors import Plateaus, Prior, check_priors
from bayescale.model.choice import (
    ModelChoice,
    choose_model,
    earlier_jobs,
    earlier_model,
    kept_prior,
    plateaus,
    refuse_told,
)
from bayescale.model.designs import shape_weights
from bayescale.model.discrepancy import Discrepancy, directions, eigenbasis, kernel
from bayescale.model.evaluations import Counts, Dense, Independent, Rotated, StateSpace
from bayescale.model.evaluations.counts import counts_of
from bayescale.model.likelihood import Binomial, Likelihood
from bayescale.model.options import ModelOptions
from bayescale.model.padding import bucket, padded, padded_square
from bayescale.model.problem import Basis, Evaluation, Job, Model, PriorScale, Problem

STATE_SPACE_ROWS = 128
"""Number of rows of one input from which on evaluation in linear time is faster."""


def make_job(runs: Runs, law: str | Law = "auto", **options: Unpack[ModelOptions]) -> Job:
    """Check one family against one model and reduce it to arrays; arguments as for `make_jobs`.

    Raises:
        InputError: For impossible names or data, and for a law that is a mixture of models.
    """
    jobs = make_jobs(runs, law, **options)
    if len(jobs) > 1:
        key = jobs[0].law.level[0] if jobs[0].law.level else ""
        raise InputError(
            f"{jobs[0].law.name} is fitted as a mixture of {len(jobs)} models, and one model is expected. "
            "Choose one with "
            f"priors={{{key!r}: bs.Plateaus(plateau='present')}}, or 'absent'."
        )
    return jobs[0]


def make_jobs(
    runs: Runs,
    law: str | Law = "auto",
    *,
    discrepancy: Discrepancy | str | None = "auto",
    likelihood: Likelihood | str = "auto",
    priors: Mapping[str, Prior] | None = None,
    design: str = "auto",
    prior_from: Any = None,
) -> tuple[Job, ...]:
    """Check one family against a law and reduce it to arrays: one job, or one for each component of a mixture.

    Raises:
        InputError: For impossible names or data.
    """
    runs = checked(runs)
    check_priors(priors)
    if not runs.inputs:
        if not (isinstance(law, str) and law == "auto") and (named := laws.get(law)).inputs != ("x",):
            laws.bind(named, runs.inputs)
        need_scales(runs)
    if prior_from is not None:
        told = {"law": law, "discrepancy": discrepancy, "likelihood": likelihood, "priors": priors, "design": design}
        refuse_told(told, inspect.signature(make_jobs).parameters)
    earlier = earlier_jobs(prior_from, runs)
    runs = rescaled(runs, None if earlier is None else earlier[0].runs.value)
    automatic = isinstance(law, str) and law == "auto" if earlier is None else earlier[0].ray is not None
    ray = find_ray(runs.frame, runs.inputs) if automatic and runs.one_ray is not False else None
    if earlier is None:
        inputs = runs.inputs if ray is None else ray.names[:1]
        model = choose_model(
            law,
            inputs,
            runs.score is not None,
            valued=runs.value is not None,
            discrepancy=discrepancy,
            likelihood=likelihood,
            priors=priors,
            design=design,
        )
    else:
        model = earlier_model(earlier, ray)
        runs = dataclasses.replace(runs, log=(*runs.log, kept_prior(prior_from, runs)))
        need_scales(dataclasses.replace(runs, inputs=model.law.inputs))
    return jobs_of(runs, model, ray)


def jobs_of(runs: Runs, model: ModelChoice, ray: Ray | None = None) -> tuple[Job, ...]:
    """Reduce one family to the arrays of a model: one job for each of its components.

    Args:
        runs: The runs.
        model: The model.
        ray: The ray on which the runs lie, if one input stands for several.

    Raises:
        InputError: For runs at inputs where the law has no value.
    """
    runs = dataclasses.replace(runs, inputs=model.law.inputs)
    refuse_zeros(model.law, runs.frame, runs.name)
    # Runs at one scale have no span, so their priors are relative to the scales of other runs.
    rows = reduce_runs(runs, exempt=model.law.exempt, one_scale=None not in model.scales)

    def job(law: Law, scale: PriorScale | None) -> Job:
        shifted = rows if scale is None else on_scale(rows, scale)
        engine, problem, low = prepare(law, model.discrepancy, model.likelihood, shifted, scale)
        reference = np.asarray(shifted.reference)
        found = Job(runs, law, model.discrepancy, model.likelihood, engine, problem, low, reference)
        return dataclasses.replace(found, ray=ray, design=model.design, prior_scale=scale)

    return tuple(job(law, scale) for law, scale in zip(model.laws, model.scales, strict=True))


def on_scale(rows: Design, scale: PriorScale) -> Design:
    """Return the rows of a family relative to the scales of an earlier fit."""
    return dataclasses.replace(referred(rows, scale.reference, scale.center), span=scale.span, inert=scale.inert)


def mixture_weights(jobs: Sequence[Job]) -> tuple[float, ...]:
    """Return the weights of the components that `make_jobs` returns; they sum to one."""
    first = jobs[0]
    if len(jobs) == 1:
        return (1.0,)
    return tuple(shape_weights(first.design, first.discrepancy is None, first.runs.score is not None).values())


def prepare(
    law: Law,
    discrepancy: Discrepancy | None,
    likelihood: Likelihood,
    design: Design,
    scale: PriorScale | None = None,
) -> tuple[Model, Problem, np.ndarray]:
    """Build the model and the padded arrays for one family, choosing the evaluation that its rows allow.

    Args:
        law: The law.
        discrepancy: The discrepancy, or None.
        likelihood: The likelihood.
        design: The rows, relative to `scale` where there is one.
        scale: Scales of an earlier fit to which the prior is relative, or None for those of the rows.

    Returns:
        Model, arrays, and for each axis the origin of positions in spans, shape (axis,).
    """
    rows = len(design.y)
    # The directions of the discrepancy are in the arrays, so one program is enough for all.
    plain = None if discrepancy is None else dataclasses.replace(discrepancy, along="inputs")
    active = tuple(not flag for flag in design.inert)
    model = Model(engine_law(law, active, design.reference), plain, likelihood)
    model = jax.tree.map(lambda leaf: np.asarray(leaf, float), model)
    found = plateaus(law)
    point = model.law.coordinates(design.z)
    if scale is None:
        low = point.min(0)
        reach = np.maximum(np.ptp(point, axis=0), SHORTEST_SPAN) if law.axes else np.asarray(design.span, float)
    else:
        low, reach = scale.low, scale.reach
    kind = choose_evaluation(law, discrepancy, likelihood, design, begins=bool(np.allclose(low, point.min(0))))
    if kind is StateSpace:
        order = np.argsort(design.z[:, 0], kind="stable")
        design, point = ordered(design, order), point[order]
    position = (point - low) / reach
    if scale is None:
        matrix, origin = directions(position, "inputs" if discrepancy is None else discrepancy.along)
    else:
        matrix, origin = scale.directions, scale.origin
    latent = kind is Dense and likelihood.tail is not None
    # Student-t noise with discrepancy has one latent precision for each row, so these rows are not padded.
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
        evaluation=evaluation_of(kind, position, position @ matrix - origin, discrepancy, design, size, latent),
        reach=reach,
        directions=matrix,
        origin=origin,
        plateau=np.asarray(1.0 if found is None else {"absent": 0.0, "power": -1.0}.get(found[1].plateau, 1.0)),
        active=active,
        replicated=bool(np.max(design.count) > 1),
        latent=latent,
    )
    return model, problem, low


def choose_evaluation(
    law: Law, discrepancy: Discrepancy | None, likelihood: Likelihood, design: Design, *, begins: bool = True
) -> type[Evaluation]:
    """Return the fastest evaluation that is exact for the rows of a family.

    Args:
        law: The law.
        discrepancy: The discrepancy, or None.
        likelihood: The likelihood.
        design: The rows.
        begins: Whether the discrepancy starts at the first row, as state-space evaluation assumes.
    """
    rows, diagonal, heavy = len(design.y), design.diagonal, likelihood.tail is not None
    alike = np.ptp(design.count) == 0 and np.ptp(design.error) < 1e-12
    if isinstance(likelihood, Binomial):
        return Counts
    if discrepancy is None:
        return Independent if diagonal else Dense
    one_axis = begins and design.z.shape[1] == 1 and not law.axes
    if not heavy and diagonal and one_axis and (rows >= STATE_SPACE_ROWS or not alike):
        return StateSpace
    return Dense if heavy or not diagonal or not alike else Rotated


def evaluation_of(
    kind: type[Evaluation],
    position: np.ndarray,
    point: np.ndarray,
    discrepancy: Discrepancy | None,
    design: Design,
    size: int,
    latent: bool,
) -> Evaluation:
    """Build an evaluation of a family's padded rows.

    Args:
        kind: A class in `evaluations`.
        position: Positions of the rows in spans, shape (row, axis).
        point: Positions on the axes of the discrepancy, shape (row, axis).
        discrepancy: The discrepancy, or None.
        design: The rows.
        size: Number of rows with padding.
        latent: Whether each row has its own precision.
    """
    rows = len(design.y)
    if kind is Independent:
        return Independent(padded(np.ones(rows), size))
    gap = padded(np.diff(position[:, 0], prepend=position[0, 0]), size)
    if kind is StateSpace and rows >= STATE_SPACE_ROWS:
        return StateSpace(gap, None)
    covariance = np.zeros((rows, rows)) if discrepancy is None else kernel(point, point, discrepancy)
    basis, vectors = None, np.eye(rows)
    if discrepancy is not None and not latent:
        eigenvalues, vectors = eigenbasis(covariance)
        basis = Basis(padded_square(vectors, size), padded(eigenvalues, size))
    if kind is StateSpace:
        return StateSpace(gap, basis)
    if kind is Counts:
        assert design.counted is not None, "scores"
        whole = Basis(padded_square(vectors, size), np.zeros(size)) if basis is None else basis
        return counts_of(design.counted, whole, float(design.center), bucket(len(design.counted.right)))
    if kind is Dense:
        return Dense(*(padded_square(part, size) for part in (covariance, design.shared, design.alike)), basis)
    assert basis is not None, "rows with a discrepancy"
    return Rotated(basis, padded(vectors.T @ np.ones(rows), size))


def axis_positions(law: Law, problem: Problem, low: Array, z: Array) -> np.ndarray:
    """Return the positions of points on the axes of the discrepancy, shape (point, axis).

    Args:
        law: The law of the model.
        problem: The family.
        low: Smallest of the law's coordinates among the fitted rows, shape (axis,).
        z: ln(x / reference) of the points, shape (point, input).
    """
    position = (law.coordinates(z) - low) / problem.reach
    return position @ np.asarray(problem.directions) - problem.origin


def ordered(design: Design, order: np.ndarray) -> Design:
    """Return a design with its rows in another order; only for rows that share no seed or residual."""
    rows = {name: getattr(design, name)[order] for name in ("z", "y", "count", "squares", "error", "sharing")}
    return dataclasses.replace(design, **rows)


def engine_law(law: Law, active: tuple[bool, ...], reference: Array) -> Law:
    """Return a law in the form that programs use: without names, relative to the reference, numbers as arrays.

    Args:
        law: The law.
        active: Whether each input varies.
        reference: Geometric mean of each input.
    """
    inert = tuple(not flag for flag in active)
    plain = bare(without_span(law, inert).referred(reference))
    return jax.tree.map(lambda leaf: np.asarray(leaf, float), plain)


def bare(law: Law) -> Law:
    """Strip a law of everything that does not affect its program, so that equal programs are compiled once."""
    # Whether there is a plateau is stored in the problem.
    priors = {
        key: dataclasses.replace(prior, plateau="present") if isinstance(prior, Plateaus) else prior
        for key, prior in law.priors.items()
    }
    return Law(
        function=law.function,
        name="",
        inputs=tuple(f"x{i}" for i in range(len(law.inputs))),
        priors=priors,
        rescale=law.rescale,
        axes=law.axes,
    )
