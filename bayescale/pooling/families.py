"""Families of a pool: checks, and the models of each family."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayescale.checked import shortened
from bayescale.data.design import reduce_runs
from bayescale.data.runs import Runs, checked
from bayescale.errors import InputError, some
from bayescale.laws.law import Law
from bayescale.laws.priors import Fall, Prior, Slope
from bayescale.model.choice import ModelChoice, scale_of
from bayescale.model.options import ModelOptions
from bayescale.model.prepare import jobs_of, make_jobs, mixture_weights
from bayescale.model.problem import Job
from bayescale.pooling.covariates import plain
from bayescale.pooling.quantities import GROUP_EXPONENT, default_pooled

FEWEST = 2
"""Fewest families of a pool."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Models of the families of a pool.

    Attributes:
        names: Names of the families.
        jobs: Models of each family: one, or one for each component of a mixture.
        weights: Weight of each component.
        pooled: Names of the pooled quantities.
        shared: Names of the shared quantities.
        law: A law or its name, as the caller gave it.
        options: Options of the models, including the priors of pooled exponents in fits of single families.
    """

    names: tuple[str, ...]
    jobs: tuple[tuple[Job, ...], ...]
    weights: tuple[float, ...]
    pooled: tuple[str, ...]
    shared: tuple[str, ...]
    law: str | Law
    options: ModelOptions

    def further(self, runs: Runs) -> tuple[Job, ...]:
        """Return the models of another family.

        Raises:
            InputError: For runs that cannot be pooled with the others.
        """
        whole = [jobs for jobs in self.jobs if jobs[0].prior_scale is None]
        if scales_of(runs) < 2:
            return single_jobs(runs, whole)
        jobs = make_jobs(runs, self.law, **self.options)
        refuse_models({self.names[self.jobs.index(whole[0])]: whole[0], runs.name: jobs})
        return jobs


def named_families(families: Any) -> dict[str, Runs]:
    """Return families by name.

    Args:
        families: A mapping from names to runs, a list of runs, or runs of several families.

    Raises:
        InputError: For anything else, fewer than two families, equal names, or the same runs twice.
    """
    if isinstance(families, pd.DataFrame | str):
        checked(families)
    if isinstance(families, Mapping):
        found = [(str(name), runs) for name, runs in families.items()]
    elif isinstance(families, Runs):
        found = [(runs.name, runs) for runs in families.split()]
    elif isinstance(families, Iterable):
        found = [(checked(runs).name, runs) for runs in families]
    else:
        raise InputError(f"pool takes families by name, e.g. {{'dense': runs, ...}}; found {shortened(families)}.")
    for name, runs in found:
        if len(checked(runs).families) > 1:
            raise InputError(
                f"{name} holds {len(runs.families)} families ({some(runs.families)}); give each by itself, as "
                "bs.pool(runs.split(), ...) does."
            )
    names = [name for name, _ in found]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise InputError(f"Two families are called {twice[0]!r}; give them by name, bs.pool({{'first': runs, ...}}).")
    if len(found) < FEWEST:
        raise InputError(
            f"A pool needs {FEWEST} or more families; found {len(found)}. Name the column with the family "
            "of each row (family=, --family), or give several files."
        )
    refuse_copies(dict(found))
    return {name: dataclasses.replace(runs, name=name) for name, runs in found}


def refuse_copies(families: Mapping[str, Runs]) -> None:
    """Refuse two families with the same runs, which would count twice.

    Raises:
        InputError: With the names of the first two.
    """
    seen: dict[Any, str] = {}
    for name, runs in families.items():
        columns = [*runs.inputs, "loss"]
        rows = runs.frame[columns].sort_values(columns).to_csv(index=False)
        if rows in seen:
            raise InputError(f"{seen[rows]} and {name} have the same runs, which would count twice; leave one out.")
        seen[rows] = name


def refuse_mixed(families: Mapping[str, Runs]) -> None:
    """Refuse families whose inputs or kinds of response differ.

    Raises:
        InputError: With the first two that differ.
    """
    first, runs = next(iter(families.items()))
    for name, other in families.items():
        if set(other.inputs) != set(runs.inputs):
            alike = sorted(map(plain, other.inputs)) == sorted(map(plain, runs.inputs))
            raise InputError(
                f"Families are pooled over the same inputs; {first} has {', '.join(runs.inputs) or 'none'} and {name} "
                f"{', '.join(other.inputs) or 'none'}. "
                + (
                    "Give a covariate that tells how each family counts them, covariates= (--covariate)."
                    if alike
                    else "Choose them with inputs= (--input)."
                )
            )
        if (other.score is None) != (runs.score is None):
            said = {True: "losses", False: "scores"}
            raise InputError(
                f"Losses and scores are not pooled: {first} has {said[runs.score is None]} and {name} "
                f"{said[other.score is None]}. Pool each kind by itself."
            )
        if other.value is not None or runs.value is not None:
            whose = name if other.value is not None else first
            raise InputError(
                f"Values of any sign are not pooled, because each family has a scale of its own; {whose} has values. "
                "Fit each family by itself with fit_many (bayescale fit)."
            )


def refuse_units(families: Mapping[str, Runs], floors: Sequence[str]) -> None:
    """Refuse to pool floors of responses with different names, or of scores with different ranges.

    Raises:
        InputError: With the first two that differ.
    """
    first, runs = next(iter(families.items()))
    for name, other in families.items():
        if floors and (other.response, other.score) != (runs.response, runs.score):
            raise InputError(
                f"{floors[0]} has the unit of the response, which is {runs.response} of {first} and {other.response} "
                f"of {name}. Pool families of one response, or leave {floors[0]} out of pooled= and shared= (--pooled, "
                "--shared)."
            )


def scales_of(runs: Runs) -> int:
    """Return the number of different settings of runs."""
    return len(runs.frame[list(runs.inputs)].drop_duplicates()) if runs.inputs else 1


def plan_families(
    families: Mapping[str, Runs],
    law: str | Law,
    pooled: Sequence[str] | None,
    shared: Sequence[str],
    options: ModelOptions,
) -> Plan:
    """Return the models of families; pooled or shared exponents get separate priors.

    Raises:
        InputError: For families without two scales, and models of different kinds.
    """
    if options.get("prior_from") is not None:
        raise InputError("A pool cannot take its prior from an earlier fit; leave out prior_from= (--prior-from).")
    whole = {name: runs for name, runs in families.items() if scales_of(runs) > 1}
    if not whole:
        raise InputError(
            "Every family has runs at one scale only, which cannot show a law. Add larger runs to at least one family."
        )
    probe = make_jobs(next(iter(whole.values())), law, **options)[0].law
    if pooled is None:
        pooled = tuple(name for name in default_pooled(probe) if name not in shared)
    pooled = tuple(pooled)
    wanted = [*pooled, *shared]
    told = options.get("priors") or {}
    own: dict[str, Prior] = {
        name: GROUP_EXPONENT
        for key, prior in probe.priors.items()
        if isinstance(prior, Fall | Slope)
        for name in probe.covered[key]
        if name in wanted and name not in told
    }
    full: Any = {**options, "priors": {**told, **own}}
    found = {name: make_jobs(runs, law, **full) for name, runs in whole.items()}
    refuse_models(found)
    for name, runs in families.items():
        if name not in found:
            found[name] = single_jobs(runs, list(found.values()))
    jobs = tuple(found[name] for name in families)
    weights = mixture_weights(jobs[0])
    return Plan(tuple(families), jobs, weights, pooled, tuple(shared), law, full)


def refuse_models(found: Mapping[str, tuple[Job, ...]]) -> None:
    """Refuse models of different kinds.

    Raises:
        InputError: With the first two that differ.
    """

    def kind(jobs: tuple[Job, ...]) -> Any:
        first = jobs[0]
        ray = None if first.ray is None else first.ray.names[0]
        return first.design, ray, first.law.inputs, first.law.function, len(jobs)

    first, jobs = next(iter(found.items()))
    for name, others in found.items():
        if kind(others) != kind(jobs):
            one, other = (f"a {job.design} of {', '.join(job.law.inputs)}" for job in (jobs[0], others[0]))
            raise InputError(
                f"{first} was read as {one}, and {name} as {other}. Say which design they have with design= "
                "(--design), and "
                "name a law (--law)."
            )


def single_jobs(runs: Runs, others: Sequence[tuple[Job, ...]]) -> tuple[Job, ...]:
    """Return the models of runs at one scale, for which spans of the inputs are taken from other families.

    Args:
        runs: Runs at one scale.
        others: Models of families at several scales.
    """
    jobs = []
    for number, job in enumerate(others[0]):
        alike = [scale_of(one[number]) for one in others]
        inputs = job.law.inputs
        own = dataclasses.replace(runs, inputs=inputs)
        rows = reduce_runs(own, exempt=job.law.exempt, one_scale=True)
        origin = job.law.coordinates(rows.z).min(0)
        scale = dataclasses.replace(
            alike[0],
            reference=np.asarray(rows.reference),
            center=float(rows.center),
            span=np.median([one.span for one in alike], axis=0),
            reach=np.median([one.reach for one in alike], axis=0),
            inert=tuple(all(one.inert[i] for one in alike) for i in range(len(inputs))),
            low=origin,
        )
        model = ModelChoice((job.law,), job.discrepancy, job.likelihood, job.design, (scale,))
        jobs.extend(jobs_of(own, model, job.ray))
    return tuple(jobs)


def retold(job: Job, told: tuple[Mapping[str, Prior], Mapping[str, float], Mapping[str, float]]) -> Job:
    """Return a job with other numbers in its priors, as `quantities.told_priors` returns them."""
    priors, likelihood, discrepancy = told
    spread = None if job.discrepancy is None else dataclasses.replace(job.discrepancy, **discrepancy)
    around = dataclasses.replace(job.likelihood, **likelihood)
    model = ModelChoice((job.law.with_priors(priors),), spread, around, job.design, (job.prior_scale,))
    return jobs_of(job.runs, model, job.ray)[0]
