"""Fits of one model to all families of a pool: separate fits, the group, and new fits where too few draws count."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from bayescale.errors import Status
from bayescale.fitting.batches import stream_key
from bayescale.fitting.fit import sample_flat
from bayescale.inference.diagnostics import RHAT, Diagnostics, diagnose_weights
from bayescale.inference.importance import smoothed
from bayescale.inference.nuts import Nuts
from bayescale.inference.rhat_ess import measure
from bayescale.model.level import level_variance
from bayescale.model.problem import Job
from bayescale.pooling.families import retold
from bayescale.pooling.group import Choice, Evidence, GroupDraws, choose_draws, resampled, sample_group
from bayescale.pooling.quantities import Normal, Quantity, Seen, group_prior, look, told_priors
from bayescale.posterior.posterior import Posterior

ROUNDS = 5
"""Largest number of rounds of fits; each round's priors are near the families' values in the previous round's group."""
MORE = 4
"""Number of draws of each separate fit for each draw that is kept."""
WIDER = 1.3
"""Factor on the spread of the priors used as proposals, which should be wider than their target."""
FEWEST_WORTH = 200.0
"""Effective draws of a family, given a draw of the group, below which the family is fitted again."""
SPREAD_PART = 0.5
"""Scale of the half-normal prior of a group's standard deviation, in prior standard deviations of the group's mean."""
EFFECT_PART = 0.5
"""Prior standard deviation of the effect of a level of a covariate, relative to that of the group's mean."""
FIRST_TOLERANCE, TOLERANCE = 0.1, 0.2
"""Standard deviation of shared quantities over families: in the first round, and at the end relative to their posterior
sd.
"""
LEAST_TOLERANCE = 1e-4
GROUP_STREAM, CHOICE_STREAM = 11, 12
"""Random streams of the group and of the choice of draws, separate from those of fits."""


@dataclasses.dataclass(frozen=True)
class Group:
    """A distribution over families, for one model.

    Attributes:
        quantities: The pooled and shared quantities.
        priors: Prior of the mean of each quantity over families.
        draws: Draws of the distribution over families.
        tolerance: Standard deviation over families that is used for shared quantities, shape (quantity,).
        rhat: R-hat of mean, standard deviation, effects of covariates and correlations with the other quantities,
            shape (quantity, 2 + effect column + quantity) with those that the group has; NaN where there is none.
        ess: Bulk effective sample size of the same.
        worth: Effective number of draws of each family given a draw of the group, shape (family,).
    """

    quantities: tuple[Quantity, ...]
    priors: tuple[Normal, ...]
    draws: GroupDraws
    tolerance: np.ndarray
    rhat: np.ndarray
    ess: np.ndarray
    worth: np.ndarray

    @property
    def flat(self) -> GroupDraws:
        """Draws with chains joined."""
        return self.draws.flat

    def at(self, row: np.ndarray | None, unknown: int = 0) -> Group:
        """Return the group of families with the same covariates, whose means include the effects.

        Args:
            row: Design of the covariates, shape (column,); None for the group unchanged.
            unknown: Number of covariates whose level no family of the pool has; its effect is drawn from the prior.
        """
        effects = self.draws.effects
        if row is None or effects is None:
            return self
        mean = self.draws.mean + effects @ row
        if unknown:
            sd = [0.0 if quantity.shared else EFFECT_PART * prior.sd for quantity, prior in self.each]
            noise = np.random.default_rng(unknown).standard_normal(mean.shape)
            mean = mean + np.sqrt(unknown) * np.array(sd) * noise
        return dataclasses.replace(self, draws=self.draws._replace(mean=mean, effects=None))

    @property
    def each(self) -> list[tuple[Quantity, Normal]]:
        """Return each quantity with the prior of its mean."""
        return list(zip(self.quantities, self.priors, strict=True))

    def predictive(self, wider: float = 1.0) -> list[Normal]:
        """Return for each quantity a normal distribution that approximates its distribution in a new family."""
        mean, sd, *_ = self.flat
        spread = np.sqrt(mean.var(0) + (sd**2).mean(0))
        return [Normal(float(m), wider * float(s)) for m, s in zip(mean.mean(0), spread, strict=True)]

    @property
    def converged(self) -> bool:
        """Return whether the chains of the group agree."""
        return bool(np.nanmax(self.rhat, initial=0.0) <= RHAT)


def fit_group(
    jobs: Sequence[Job],
    quantities: tuple[Quantity, ...],
    seed: int,
    settings: Nuts,
    method: str,
    component: int,
    *,
    design: np.ndarray | None = None,
    correlated: bool = False,
) -> tuple[list[Posterior], Group]:
    """Fit one model to all families.

    Args:
        jobs: One job for each family.
        quantities: The pooled and shared quantities.
        seed: Seed of all streams.
        settings: Settings of each fit.
        method: A sampler.
        component: Index of the model among the components of a mixture.
        design: Covariates of each family, shape (family, column).
        correlated: Whether pooled quantities are correlated over families.

    Returns:
        The posterior of each family in the hierarchical model, and the group.
    """
    priors = tuple(group_prior(quantity, jobs) for quantity in quantities)
    larger = dataclasses.replace(settings, draws=MORE * settings.draws)
    words = [stream_key(seed, stream, component) for stream in (GROUP_STREAM, CHOICE_STREAM)]
    tolerance = np.full(len(quantities), FIRST_TOLERANCE)
    alone: dict[int, Posterior] = {}
    now, again, number = dict(enumerate(jobs)), list(range(len(jobs))), 0
    while True:
        tasks = [(now[i], larger, i) for i in again]
        for i, posterior in zip(again, sample_flat(tasks, seed + number, method), strict=True):
            # NUTS may have drawn more than requested, until it converged.
            alone[i] = posterior.thinned(larger.draws)
        evidence = gather([alone[i] for i in now], quantities, priors, tolerance)
        evidence = dataclasses.replace(evidence, **extended(priors, design, correlated))
        chains, draws = sample_group(words[0], evidence, settings)
        choice = choose_draws(words[1], draws, evidence)
        group = Group(quantities, priors, draws, tolerance, *measured(chains, quantities), choice.worth)
        found = [pooled(alone[i], choice, i, settings) for i in now]
        closer, number = tolerances(group), number + 1
        again = list(now) if closer is not None else doubtful(found, choice, settings)
        if not again or number == ROUNDS:
            return [told(posterior, jobs[i], group.at(row_of(design, i))) for i, posterior in enumerate(found)], group
        for i in again:
            now[i] = proposing(jobs[i], alone[i], group.at(row_of(design, i)), WIDER)
        tolerance = tolerance if closer is None else closer


def fit_further(job: Job, group: Group, seed: int, settings: Nuts, method: str, component: int) -> Posterior:
    """Return the posterior of a further family, whose runs also update the group.

    Args:
        job: The model of the family.
        group: The distribution over the earlier families.
        seed: Seed of all streams.
        settings: Settings of the fit.
        method: A sampler.
        component: Index of the model among the components of a mixture.
    """
    larger = dataclasses.replace(settings, draws=MORE * settings.draws)
    words = [stream_key(seed, stream, component) for stream in (GROUP_STREAM, CHOICE_STREAM)]
    level, found = float(job.problem.center), None
    for number in range(2):
        near = retold(job, told_priors(group.quantities, group.predictive(WIDER + number), job, level))
        alone = sample_flat([(near, larger, 0)], seed + number, method)[0].thinned(larger.draws)
        evidence = gather([alone], group.quantities, group.priors, group.tolerance)
        draws = resampled(words[0], group.draws, evidence)
        choice = choose_draws(words[1], draws, evidence)
        found = pooled(alone, choice, 0, settings)
        if not doubtful([found], choice, settings):
            break
        level += float(np.mean(alone.values.level))
    assert found is not None, "a round"
    return told(found, job, group)


def gather(
    alone: Sequence[Posterior], quantities: Sequence[Quantity], priors: Sequence[Normal], tolerance: np.ndarray
) -> Evidence:
    """Collect the draws of pooled and shared quantities from separate fits."""
    seen: list[list[Seen]] = [[look(quantity, posterior) for posterior in alone] for quantity in quantities]
    model = alone[0].job.model
    return Evidence(
        value=np.stack([[one.value for one in row] for row in seen]),
        log_prior=sum(np.stack([one.log_prior for one in row]) for row in seen),
        bound=np.array([float(posterior.job.problem.center) for posterior in alone]),
        bound_sd=np.sqrt(np.asarray(level_variance(model), float)),
        mask=np.ones(len(alone)),
        center=np.array([prior.mean for prior in priors]),
        scale=np.array([prior.sd for prior in priors]),
        spread=SPREAD_PART * np.array([prior.sd for prior in priors]),
        tolerance=tolerance,
        shared=tuple(quantity.shared for quantity in quantities),
        floors=tuple(quantity.kind == "floor" for quantity in quantities),
    )


def row_of(design: np.ndarray | None, number: int) -> np.ndarray | None:
    """Return the covariates of a family, or None without any."""
    return None if design is None else design[number]


def extended(priors: Sequence[Normal], design: np.ndarray | None, correlated: bool) -> dict[str, Any]:
    """Return the fields of `Evidence` about covariates and correlations."""
    effect = None if design is None else EFFECT_PART * np.array([prior.sd for prior in priors])
    return {"design": design, "effect": effect, "correlated": correlated}


def measured(draws: GroupDraws, quantities: Sequence[Quantity]) -> tuple[np.ndarray, np.ndarray]:
    """Return R-hat and bulk effective sample size of the parameters of each quantity, as `Group` has them."""
    effects, correlation = draws.effects, draws.correlation
    columns = 0 if effects is None else effects.shape[-1]
    others = 0 if correlation is None else len(quantities)
    rhat, ess = np.full((2, len(quantities), 2 + columns + others), np.nan)
    for number, quantity in enumerate(quantities):
        parts = {0: draws.mean[..., number]}
        if not quantity.shared:
            parts[1] = np.log(draws.sd[..., number])
            if effects is not None:
                parts |= {2 + column: effects[..., number, column] for column in range(columns)}
            if correlation is not None:
                pairs = [i for i, other in enumerate(quantities) if i != number and not other.shared]
                parts |= {2 + columns + i: correlation[..., number, i] for i in pairs}
        found = measure(np.stack(list(parts.values()), axis=-1))
        rhat[number, list(parts)], ess[number, list(parts)] = found[0], found[1]
    return rhat, ess


def pooled(alone: Posterior, choice: Choice, number: int, settings: Nuts) -> Posterior:
    """Return a family's posterior in the hierarchical model, made of draws of its separate fit."""
    rows = choice.rows[:, number]
    shape = alone.unconstrained.shape[:2]
    smooth, pareto = smoothed(np.log(np.maximum(choice.weight[number], 1e-300)))
    position = alone.unconstrained.reshape(-1, alone.unconstrained.shape[-1])
    weight = np.exp(smooth)
    measures = diagnose_weights(position, weight, pareto, len(rows), 1, settings.least_ess)

    def chosen(leaf: Any) -> np.ndarray:
        whole = np.broadcast_to(leaf, (*shape, *np.shape(leaf)[2:])) if np.ndim(leaf) < 2 else np.asarray(leaf)
        flat = whole.reshape(-1, *whole.shape[2:])[rows]
        return flat.reshape(settings.chains, settings.draws, *flat.shape[1:])

    return dataclasses.replace(
        alone,
        settings=settings,
        unconstrained=chosen(alone.unconstrained),
        values=jax.tree.map(chosen, alone.values),
        stats={"log_weight": chosen(smooth.reshape(shape))},
        diagnostics=judged(measures, alone.diagnostics),
    )


def judged(measures: Diagnostics, alone: Diagnostics) -> Diagnostics:
    """Return the diagnostics of the weights, with the status of the separate fit if that did not converge."""
    status = measures.status
    if status in (Status.HEAVY_WEIGHTS, Status.FEW_POINTS):
        # More draws are the remedy, because a pool has no other sampler.
        status = Status.FEW_DRAWS
    if alone.status is not Status.OK:
        status = alone.status
    return dataclasses.replace(measures, status=status)


def doubtful(found: Sequence[Posterior], choice: Choice, settings: Nuts) -> list[int]:
    """Return the indices of families with too few effective draws or whose draws did not converge."""
    enough = min(FEWEST_WORTH, 0.1 * settings.chains * settings.draws)
    return [
        i for i, posterior in enumerate(found) if posterior.status is not Status.OK or float(choice.worth[i]) < enough
    ]


def tolerances(group: Group) -> np.ndarray | None:
    """Return smaller standard deviations for shared quantities, or None if they are small enough."""
    sd = group.flat.mean.std(0)
    shared = np.array([quantity.shared for quantity in group.quantities])
    wanted = np.maximum(TOLERANCE * sd, LEAST_TOLERANCE)
    if not (shared & (group.tolerance > 1.5 * wanted)).any():
        return None
    return np.where(shared, np.minimum(group.tolerance, wanted), group.tolerance)


def proposing(job: Job, alone: Posterior, group: Group, wider: float) -> Job:
    """Return a job with priors near the values that the group implies for its families."""
    level = float(job.problem.center) + float(np.mean(alone.values.level))
    return retold(job, told_priors(group.quantities, group.predictive(wider), job, level))


def told(posterior: Posterior, job: Job, group: Group) -> Posterior:
    """Return a posterior whose job has, as far as priors can express it, the prior implied by the other families."""
    return dataclasses.replace(posterior, job=proposing(job, posterior, group, 1.0))
