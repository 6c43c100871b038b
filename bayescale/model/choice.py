"""Choice of a family's model: the one that the user names, the default for its inputs, or that of an earlier fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bayescale import laws
from bayescale.checked import shortened
from bayescale.data.log import LogEntry
from bayescale.data.ray import Ray
from bayescale.data.runs import Runs
from bayescale.errors import InputError, some
from bayescale.laws.law import Law
from bayescale.laws.priors import LEVELS, Fall, Plateaus, Prior
from bayescale.laws.responses import refuse_response
from bayescale.model.designs import find_design, shape_weights
from bayescale.model.discrepancy import Discrepancy, resolve_discrepancy
from bayescale.model.likelihood import Likelihood, resolve_likelihood
from bayescale.model.problem import Job, PriorScale

LEVEL_SD, FALL = 2.5, 3.0
"""For log odds of scores: prior sd of their level, and factor by which they decrease more than ln(loss)."""

WIDER = 2.5
"""Factor by which y of values varies more than ln(loss): it spans 1, and ln(loss) decreases by 0.4 (`Fall.median`)."""


@dataclasses.dataclass(frozen=True)
class ModelChoice:
    """The model of a family, before its rows are reduced to arrays.

    Attributes:
        laws: The law of each component, bound to the inputs; they differ in their priors only.
        discrepancy: The discrepancy, or None.
        likelihood: The likelihood.
        design: Design of the family's runs, a key of `designs.DESIGNS`.
        scales: For each component, the scales of an earlier fit to which its priors are relative, or None.
    """

    laws: tuple[Law, ...]
    discrepancy: Discrepancy | None
    likelihood: Likelihood
    design: str
    scales: tuple[PriorScale | None, ...]

    @property
    def law(self) -> Law:
        """The law of the first component."""
        return self.laws[0]


def choose_model(
    law: str | Law,
    inputs: Sequence[str],
    scored: bool,
    *,
    valued: bool = False,
    discrepancy: Discrepancy | str | None,
    likelihood: Likelihood | str,
    priors: Mapping[str, Prior] | None,
    design: str,
) -> ModelChoice:
    """Return the model that the user names, or the default model for the inputs.

    Args:
        law: A law, its name, or "auto".
        inputs: Names of the inputs.
        scored: Whether the response is a score.
        valued: Whether the response is a value, such as a reward.
        discrepancy: See `ModelOptions`.
        likelihood: See `ModelOptions`.
        priors: See `ModelOptions`.
        design: See `ModelOptions`.

    Raises:
        InputError: For unknown names, and for options that contradict each other.
    """
    told = priors or {}
    automatic = isinstance(law, str) and law == "auto"
    chosen = laws.automatic(inputs) if automatic else laws.get(law)
    refuse_response(chosen, scored=scored, valued=valued)
    chosen = laws.bind(chosen, inputs).with_priors(told)
    kind = find_design(tuple(name for name, _ in chosen.axes) or chosen.inputs, design)
    found = resolve_discrepancy(discrepancy, kind)
    scatter = resolve_likelihood(likelihood, len(chosen.inputs), scored, valued)
    if scored:
        chosen = with_wider_priors(chosen, told, FALL, lambda _: LEVEL_SD)
    elif valued:
        chosen = with_wider_priors(chosen, told, WIDER, lambda sd: WIDER * sd)
        if isinstance(discrepancy, str) and found is not None:
            found = dataclasses.replace(found, median=WIDER * found.median, scale=WIDER * found.scale)
    parts = components(chosen, shape_weights(kind, found is None, scored))
    return ModelChoice(parts, found, scatter, kind, (None,) * len(parts))


def refuse_told(told: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    """Refuse options of the model that are given together with an earlier fit, which already determines them.

    Args:
        told: Options that the caller gave besides the earlier fit, by name.
        parameters: Parameters of the function; options with default values are not refused.

    Raises:
        InputError: With the option to leave out.
    """
    for name, value in told.items():
        if value != parameters[name].default:
            raise InputError(
                f"prior_from takes the {name} from the earlier fit; leave out {name} (--{name} in the shell)."
            )


def earlier_jobs(fit: Any, runs: Runs) -> tuple[Job, ...] | None:
    """Return the jobs of an earlier fit, or None without one.

    Args:
        fit: The earlier fit, or None.
        runs: The runs to which its model will be fitted.

    Raises:
        InputError: If `fit` is no fit, and for runs that lack its inputs.
    """
    if fit is None:
        return None
    jobs: list[Job] = [part.job for part in getattr(fit, "components", ())]
    if not jobs:
        raise InputError(f"prior_from (--prior-from) is a fit, e.g. bs.load('fit.nc'); found {shortened(fit)}.")
    earlier = jobs[0].runs
    if (earlier.value is None) != (runs.value is None):
        raise InputError(
            f"The earlier fit describes a {earlier.response_kind}, and these runs have a {runs.response_kind}. Read "
            "the runs as those of the earlier fit, or fit them without prior_from (--prior-from)."
        )
    if earlier.value is not None and runs.value is not None:
        directions = {True: "higher", False: "lower"}
        if earlier.value.higher_is_better != runs.value.higher_is_better:
            raise InputError(
                f"In the earlier fit {directions[earlier.value.higher_is_better]} values are better, and in these runs "
                f"{directions[runs.value.higher_is_better]} ones. Give lower_is_better= (--lower-is-better) as there."
            )
    if absent := [name for name in jobs[0].law.inputs if name not in runs.frame]:
        raise InputError(
            f"The earlier fit has the input {absent[0]}, which is missing in these runs; they have {some(runs.inputs)}."
        )
    return tuple(jobs)


def earlier_model(jobs: Sequence[Job], ray: Ray | None) -> ModelChoice:
    """Return the model of an earlier fit, with priors relative to the scales of that fit.

    Args:
        jobs: The jobs of the earlier fit.
        ray: The ray of the runs to which the model will be fitted, or None.

    Raises:
        InputError: If the earlier fit is along a ray on which these runs do not lie.
    """
    first = jobs[0]
    if first.ray is not None and (ray is None or ray.names[0] != first.ray.names[0]):
        raise InputError(
            f"The earlier fit is along one ray of {' and '.join(first.ray.names)}, and these runs do not lie on "
            "one; fit them without prior_from (--prior-from)."
        )
    discrepancy = first.discrepancy
    if discrepancy is not None:
        # The factor on the discrepancy beyond the data depends on the number of rows of the earlier fit.
        median = discrepancy.median_factor(first.problem.rows)
        discrepancy = dataclasses.replace(discrepancy, ahead_median=median, ahead_power=0.0)
    scales = tuple(job.prior_scale or scale_of(job) for job in jobs)
    return ModelChoice(tuple(job.law for job in jobs), discrepancy, first.likelihood, first.design, scales)


def kept_prior(fit: Any, runs: Runs) -> LogEntry:
    """Return the log entry about the earlier fit whose prior is kept.

    A warning if its runs are not among the given ones.

    Args:
        fit: The earlier fit.
        runs: The given runs.
    """
    earlier, columns = fit.runs.frame, [*fit.law.inputs, "loss"]
    here = {tuple(row) for row in runs.frame[columns].to_numpy(float)}
    gone = sum(tuple(row) not in here for row in earlier[columns].to_numpy(float))
    text = f"Model and prior are those of an earlier fit: {fit.law.name} on {fit.runs.name}, {len(earlier)} runs."
    if not gone:
        return LogEntry("prior_from", "info", text)
    text += (
        f" {gone} of those {len(earlier)} runs are not among these {len(runs)}. prior_from (--prior-from) takes the "
        "prior of the earlier fit, not its posterior: give its runs and the new ones together. Fit runs of another "
        "family without it."
    )
    return LogEntry("prior_from", "warning", text)


def scale_of(job: Job) -> PriorScale:
    """Return the scales to which the priors of a job are relative."""
    problem = job.problem
    arrays = {name: np.asarray(getattr(problem, name)) for name in ("span", "reach", "directions", "origin")}
    inert = tuple(not flag for flag in problem.active)
    return PriorScale(reference=job.reference, center=float(problem.center), inert=inert, low=job.low, **arrays)


def with_wider_priors(law: Law, told: Mapping[str, Prior], fall: float, level_sd: Callable[[float], float]) -> Law:
    """Return a law with priors for a response that varies more than ln(loss): log odds of scores, or y of values.

    Args:
        law: The law.
        told: Priors that the caller gave, which are not changed.
        fall: Factor on the median decrease of the law.
        level_sd: The prior standard deviation of the level, given that for ln(loss).
    """
    changed: dict[str, Any] = {}
    for key, prior in law.priors.items():
        if key in told:
            continue
        if isinstance(prior, LEVELS):
            changed[key] = dataclasses.replace(prior, sd=level_sd(float(prior.sd)))
        elif isinstance(prior, Fall):
            changed[key] = dataclasses.replace(prior, median=fall * float(prior.median))
    return law.with_priors(changed)


def components(law: Law, shapes: Iterable[str]) -> tuple[Law, ...]:
    """Return the laws of the components of a mixture; a single law if its priors define no mixture.

    Args:
        law: The law.
        shapes: Keys of `priors.PLATEAUS`, one for each component.
    """
    found = plateaus(law)
    if found is None or found[1].plateau != "mixture":
        return (law,)
    key, prior = found
    return tuple(law.with_priors({key: dataclasses.replace(prior, plateau=name)}) for name in shapes)


def plateaus(law: Law) -> tuple[str, Plateaus] | None:
    """Return the key and the prior of the law's floor and plateau, or None for a law without such a prior."""
    return law.level if law.level is not None and isinstance(law.level[1], Plateaus) else None
