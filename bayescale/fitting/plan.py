"""Plan of a fit: the models that are fitted to one family, and their weights in the mixture."""

from __future__ import annotations

import dataclasses
import math
from typing import Unpack

from bayescale.data.runs import Runs
from bayescale.fitting.batches import Task
from bayescale.inference.nuts import Nuts
from bayescale.laws.law import Law
from bayescale.model.options import ModelOptions
from bayescale.model.prepare import make_jobs, mixture_weights
from bayescale.model.problem import Job


@dataclasses.dataclass(frozen=True)
class FitPlan:
    """The models that are fitted to one family.

    Attributes:
        jobs: One job for each component.
        weights: Weight of each component's posterior; they sum to one.
    """

    jobs: tuple[Job, ...]
    weights: tuple[float, ...] = (1.0,)

    @property
    def runs(self) -> Runs:
        """The runs of the family."""
        return self.jobs[0].runs

    def tasks(self, settings: Nuts, stream: int) -> list[Task]:
        """Return the tasks to sample: each job with its part of the chains and its random stream.

        Args:
            settings: Settings of the whole fit.
            stream: Number of the family's random stream, which its components share.
        """
        # All components get equal settings, so that they are sampled in one call of one compiled program.
        part = share(settings, max(self.weights))
        return [(job, part, stream) for job in self.jobs]


def share(settings: Nuts, weight: float) -> Nuts:
    """Return the settings of a component of this weight: its fraction of the chains and effective sample size."""
    chains = max(1, math.ceil(weight * settings.chains - 1e-9))
    return dataclasses.replace(settings, chains=chains, least_ess=weight * settings.least_ess)


def plan_fit(runs: Runs, law: str | Law = "auto", **options: Unpack[ModelOptions]) -> FitPlan:
    """Check one family against a law, and plan one fit for each component of the law's mixture.

    Raises:
        InputError: For impossible names or data.
    """
    jobs = make_jobs(runs, law, **options)
    return FitPlan(jobs, mixture_weights(jobs))
