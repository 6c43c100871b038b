"""Importance sampling of jobs: weighted points, repeated attempts, and posteriors resampled from the points."""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from bayescale.errors import Status
from bayescale.fitting.batches import compiled_once, jitted, machine, stacked, stream_key
from bayescale.inference.diagnostics import Diagnostics, diagnose_weights
from bayescale.inference.importance import (
    ADAPTING,
    ATTEMPTS,
    KEPT_POINTS,
    LONGER,
    ROUND_POINTS,
    STREAM,
    Effort,
    interpret_batch,
    resample,
    smoothed,
    weigh_batch,
)
from bayescale.inference.nuts import Nuts
from bayescale.model.problem import Job, Values
from bayescale.posterior.posterior import Posterior

# --- From weights to posteriors ----------------------------------------------------------------------------


class Points(NamedTuple):
    """Weighted points of one family.

    Attributes:
        position: Unconstrained parameters, shape (point, parameter).
        log_weight: Logarithms of density divided by proposal density, shape (point,).
        modes: Number of modes from which points were drawn.
    """

    position: np.ndarray
    log_weight: np.ndarray
    modes: int


class Chosen(NamedTuple):
    """Draws of one family, resampled by weight.

    Attributes:
        position: Unconstrained parameters, shape (draw, parameter).
        log_weight: Smoothed log weights of the points, shape (draw,).
        level_scores: Standard normal numbers from which the level is computed, shape (draw,).
        diagnostics: Diagnostics of the weights.
    """

    position: np.ndarray
    log_weight: np.ndarray
    level_scores: np.ndarray
    diagnostics: Diagnostics


def weigh_jobs(jobs: Sequence[Job], streams: Sequence[int], seed: int, settings: Nuts) -> list[Posterior]:
    """Sample jobs of one shape by importance sampling; repeat with more points while the weights are unreliable.

    If fewer draws are requested than reliable weights need, only the requested ones are made.

    Args:
        jobs: Jobs of one shape.
        streams: Number of each job's own random stream.
        seed: Seed of all random numbers.
        settings: Numbers of chains and draws, and of steps towards a mode.
    """
    smoother_aside()
    weighed = weigh_points(jobs, streams, seed, settings, 0)
    chosen = [choose(part, streams[i], seed, settings) for i, part in enumerate(weighed)]
    enough = settings.chains * settings.draws >= settings.least_ess
    for attempt in range(1, ATTEMPTS if enough else 1):
        doubtful = [i for i, part in enumerate(chosen) if goes_on(part.diagnostics.status, attempt)]
        if not doubtful:
            break
        own = [streams[i] for i in doubtful]
        more = weigh_points([jobs[i] for i in doubtful], own, seed, settings, attempt)
        for i, part in zip(doubtful, more, strict=True):
            weighed[i] = part if attempt == 1 else joined(weighed[i], part)
            chosen[i] = choose(weighed[i], streams[i], seed, settings)
    values = interpreted(jobs, chosen)
    shape = (settings.chains, settings.draws)

    def folded(leaf: Any) -> np.ndarray:
        return np.asarray(leaf).reshape(*shape, *np.shape(leaf)[1:])

    return [
        Posterior(
            job=job,
            seed=seed,
            settings=settings,
            unconstrained=folded(part.position),
            values=jax.tree.map(folded, value),
            stats={"log_weight": folded(part.log_weight)},
            diagnostics=part.diagnostics,
        )
        for job, part, value in zip(jobs, chosen, values, strict=True)
    ]


def interpreted(jobs: Sequence[Job], chosen: Sequence[Chosen]) -> list[Values]:
    """Return the constrained values of the draws of jobs of one shape, leading axis draw."""
    devices = machine(len(jobs))

    def run(members: list[int]) -> list[Values]:
        filled = [members[i] for i in devices.members(len(members))]
        position, scores = stacked([(part.position, part.level_scores) for part in chosen], filled)
        with devices.entered(), compiled_once(jobs[0], devices.vectorized, len(filled), len(scores[0])):
            problems = stacked([job.problem for job in jobs], filled)
            program = jitted(interpret_batch, ("vectorized",), not devices.vectorized)
            constrained = program(jobs[0].model, problems, position, scores, devices.vectorized)
            values = jax.tree.map(np.asarray, jax.device_get(constrained))
        return [jax.tree.map(lambda leaf, i=i: leaf[i], values) for i in range(len(members))]

    return devices.pieces(len(jobs), run)


def goes_on(status: Status, attempt: int) -> bool:
    """Return whether another attempt may help: after the first one always, later only if points are too few."""
    return status is Status.FEW_POINTS or (status is not Status.OK and attempt == 1)


def joined(first: Points, second: Points) -> Points:
    """Join the points of two attempts; their weights need no rescaling, because both have the same target density."""
    position, log_weight = (np.concatenate([first[i], second[i]]) for i in range(2))
    return Points(position, log_weight, max(first.modes, second.modes))


def weigh_points(jobs: Sequence[Job], streams: Sequence[int], seed: int, settings: Nuts, attempt: int) -> list[Points]:
    """Return weighted points for jobs of one shape; all attempts use one program."""
    devices = machine(len(jobs))
    fewest = -(-KEPT_POINTS * settings.chains * settings.draws // ROUND_POINTS)
    later = min(attempt, 1)
    kept, most = fewest * (LONGER if later else 1), fewest * LONGER
    # Points of the first attempt are not kept when there are later ones, so the second may use the same random stream.
    stream = STREAM + max(attempt - 1, 0)
    effort, used = Effort(np.int64(ADAPTING[later]), np.int64(kept)), kept * ROUND_POINTS

    def run(members: list[int]) -> list[Points]:
        filled = [members[i] for i in devices.members(len(members))]
        with devices.entered(), compiled_once(jobs[0], devices.vectorized, len(filled), most, settings.mode_steps):
            keys = np.stack([stream_key(seed, stream, streams[i]) for i in filled])
            problems = stacked([job.problem for job in jobs], filled)
            program = jitted(weigh_batch, ("most", "steps", "vectorized"), not devices.vectorized)
            output = program(keys, jobs[0].model, problems, effort, most, settings.mode_steps, devices.vectorized)
            weighted, modes = jax.tree.map(np.asarray, jax.device_get(output))
        rows = range(len(members))
        return [Points(weighted.position[i, :used], weighted.log_weight[i, :used], int(modes[i])) for i in rows]

    return devices.pieces(len(jobs), run)


def choose(points: Points, stream: int, seed: int, settings: Nuts) -> Chosen:
    """Resample draws by weight, with diagnostics of the weights."""
    draws = settings.chains * settings.draws
    smooth, pareto = smoothed(points.log_weight)
    rng = np.random.default_rng([seed, stream, STREAM])
    rows = resample(np.exp(smooth), draws, rng)
    measures = diagnose_weights(points.position, np.exp(smooth), pareto, draws, points.modes, settings.least_ess)
    return Chosen(points.position[rows], smooth[rows], rng.standard_normal(draws), measures)


@functools.cache
def smoother_aside() -> None:
    """Import ArviZ's smoothing of weights in a thread: it takes half a second, while Python waits for the compiler."""
    threading.Thread(target=importlib.import_module, args=("arviz_stats.base",)).start()
