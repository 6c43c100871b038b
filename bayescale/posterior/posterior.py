"""Posterior: draws of one model, diagnostics, and everything needed to predict."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import pandas as pd

from bayescale import checked
from bayescale._jax import on_cores
from bayescale.checked import known_keywords
from bayescale.data.drawn_score import DrawnScore, known_range
from bayescale.data.runs import Runs
from bayescale.errors import InputError, Status
from bayescale.inference.diagnostics import Diagnostics
from bayescale.inference.nuts import Nuts
from bayescale.model.density import log_density
from bayescale.model.evaluations.counts import empty
from bayescale.model.parameters import coordinates, simulate_prior
from bayescale.model.problem import RANGE, Job, Model, Problem, Values, filled
from bayescale.posterior.fitted import Fitted
from bayescale.posterior.predictive import Predictive, law_at, predict_log

PRIOR_DRAWS = 2000


@known_keywords
@dataclasses.dataclass(frozen=True, repr=False)
class Posterior(Fitted):
    """Draws from the posterior of one model of a scaling law.

    Attributes:
        job: What was fitted: runs, law, discrepancy, likelihood, and their arrays.
        seed: Seed of the fit.
        settings: Warm-up steps, draws, chains and target acceptance of NUTS.
        unconstrained: Draws of the unconstrained parameters, shape (chain, draw, parameter).
        values: Constrained values of these draws; arrays have leading axes (chain, draw).
        stats: Statistics of the chains by ArviZ's names, or log weights of importance sampling, shape (chain, draw)
            each.
        diagnostics: Convergence measures.
    """

    job: Job
    seed: int
    settings: Nuts
    unconstrained: np.ndarray
    values: Values
    stats: dict[str, np.ndarray]
    diagnostics: Diagnostics

    @property
    def components(self) -> tuple[Posterior, ...]:  # type: ignore[override]
        """The posterior itself."""
        return (self,)

    @property
    def weights(self) -> tuple[float, ...]:  # type: ignore[override]
        """The weight of the only component: 1."""
        return (1.0,)

    @property
    def layout(self) -> tuple[tuple[int, int], ...]:
        """Number of chains and number of draws of each chain."""
        return (self.unconstrained.shape[:2],)

    @property
    def status(self) -> Status:
        """Return whether the chains converged, as a sentence."""
        return self.diagnostics.status

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the unconstrained parameters."""
        return coordinates(self.job.model, self.job.problem)

    @functools.cached_property
    def scaled(self) -> dict[str, np.ndarray]:  # type: ignore[override]
        """Draws of the constants at the data's reference scale, including the level, shape (chain, draw) each."""
        shape = self.unconstrained.shape[:2]
        constants = {
            name: np.broadcast_to(np.asarray(self.values.constants[name], float), shape) for name in self.law.constants
        }
        if self.law.level:
            key, prior = self.law.level
            names = self.law.covered[key]
            center = float(self.job.problem.center)
            # The law's value at the reference is exp(center + level), whatever amplitude was sampled.
            inputs = self.job.model.law.arguments(np.ones(len(self.law.inputs)))
            here = np.asarray(self.law(*inputs, **constants))
            level = np.exp(center + np.asarray(self.values.level)) / here
            constants |= prior.scaled(constants, names, level)
        return constants

    @functools.cached_property
    def draws(self) -> dict[str, np.ndarray]:  # type: ignore[override]
        """Return draws of all quantities by name, shape (chain, draw) each.

        These are the law's constants and the standard deviations `residual_sd`, `seed_sd` and `discrepancy` in log
        units; for scores also `chance`, `ceiling` and `concentration` where they are sampled. Constants are in the
        paper's units where the law declares how they scale, else at the reference scale.
        """
        shape = self.unconstrained.shape[:2]
        reference = dict(zip(self.law.inputs, self.job.reference, strict=True))
        constants = self.scaled
        if self.law.units:
            constants = self.law.at_unit_scale(constants, reference)
        parts = {"residual_sd": self.values.residual_sd}
        if self.likelihood.seed_sd is not None:
            parts["seed_sd"] = self.values.seed_sd
        if self.discrepancy is not None:
            parts["discrepancy"] = self.values.amplitude
        parts |= {name: own for name in RANGE if not empty(own := getattr(self.values, name))}
        spreads = {name: np.broadcast_to(np.asarray(value), shape) for name, value in parts.items()}
        return {**constants, **spreads}

    @functools.cached_property
    def flat_values(self) -> Values:  # type: ignore[override]
        """Constrained values with chains joined, leading axis draw."""
        chains, draws = self.unconstrained.shape[:2]
        full = jax.tree.map(
            lambda leaf: np.asarray(leaf).reshape(chains * draws, *np.shape(leaf)[2:]) if np.ndim(leaf) >= 2 else leaf,
            self.values,
        )
        return filled(full, chains * draws)

    @functools.cached_property
    def drawn_score(self) -> DrawnScore | None:  # type: ignore[override]
        """Chance, ceiling and concentration of a score in each draw, chains joined; None if none is sampled."""
        values, scale = self.flat_values, self.runs.score
        own = {name: np.asarray(part, float) for name in RANGE if not empty(part := getattr(values, name))}
        if scale is None or not own:
            return None
        return dataclasses.replace(known_range(scale, len(values.level)), **own)

    def predictive(self, z: np.ndarray, kind: str, rng: np.random.Generator, new_setting: bool = False) -> Predictive:
        """Predict ln(response) at ln(x / reference) of new points, shape (point, input); see `predictive`."""
        job = self.job
        return predict_log(job.model, job.problem, job.low, self.flat_values, z, kind, rng, new_setting)

    def log_law(self, z: np.ndarray, constants: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """Return ln of the law without discrepancy, shape (draw, point).

        Relative to the reference where it has a level.
        """
        return law_at(self.job.model, dict(self.flat_values.constants if constants is None else constants), z)

    @property
    def per_draw(self) -> tuple[np.ndarray, Values, dict[str, np.ndarray]]:
        """Return coordinates, values and statistics of all draws, each with leading axes (chain, draw)."""
        return self.unconstrained, self.values, self.stats

    def thinned(self, length: int) -> Posterior:
        """Return the posterior with `length` evenly spaced draws of each chain."""
        draws = self.unconstrained.shape[1]
        if draws == length:
            return self
        kept = np.arange(length) * draws // length
        position, values, stats = jax.tree.map(lambda leaf: leaf[:, kept], self.per_draw)
        return dataclasses.replace(self, unconstrained=position, values=values, stats=stats)

    @functools.cached_property
    def prior_draws(self) -> np.ndarray:
        """Unconstrained parameters drawn from the prior, shape (draw, parameter)."""
        with on_cores():
            keys = jax.random.split(jax.random.key(self.seed), PRIOR_DRAWS)
            return np.asarray(draw_prior(keys, self.job.model, self.job.problem))

    def contraction(self) -> pd.Series:
        """Return for each unconstrained parameter 1 - posterior variance / prior variance."""
        posterior = self.unconstrained.reshape(-1, self.unconstrained.shape[-1]).var(0)
        return pd.Series(1.0 - posterior / self.prior_draws.var(0), index=list(self.names))

    def summary(self, level: float = 0.9) -> pd.DataFrame:
        """Return a table of every quantity: mean, sd, central interval, effective sample sizes, R-hat (from ArviZ).

        For a law without `units=` there is a further column `for`: the unit that its constants refer to, see `unit`.

        Args:
            level: Central probability of the interval.
        """
        checked.options(level=(level, checked.PROBABILITY))
        from arviz_stats import summary
        from xarray import Dataset

        data = Dataset({name: (("chain", "draw"), values) for name, values in self.draws.items()})
        # A constant that does not vary, such as a plateau that half of the draws lack, has no R-hat. The variance of an
        # amplitude at unit scale may be more than a number can hold.
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            table = summary(data, ci_prob=level, ci_kind="eti", round_to="none")
        if self.diagnostics.method == "importance":
            # Resampled draws include copies, so effective sample sizes come from the importance weights.
            for column, found in (("ess_bulk", self.diagnostics.ess_bulk), ("ess_tail", self.diagnostics.ess_tail)):
                table[column] = table[column].clip(upper=float(np.min(found)))
            table["r_hat"] = np.nan
        if self.unit:
            # Constants of a law that does not declare how they scale.
            table["for"] = [self.unit if name in self.law.constants else "" for name in table.index]
        return table


def varying(draws: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the quantities that vary between draws.

    R-hat is undefined for those that do not, such as an absent plateau.
    """
    return {name: values for name, values in draws.items() if np.ptp(values) > 0.0}


def fitted(posterior: Any) -> Fitted:
    """Return the argument if it is a fit.

    Raises:
        InputError: For any other object; for a failure, with the reason why it was not fitted.
    """
    if isinstance(posterior, Fitted):
        return posterior
    if isinstance(posterior, Failure):
        raise InputError(f"A fit is expected; found a failure: {posterior}")
    raise InputError(
        f"A fit is expected; found {type(posterior).__name__}. Make one with bs.fit(runs, seed=0), or bs.load(path)."
    )


@known_keywords
@dataclasses.dataclass(frozen=True)
class Failure:
    """Result for a family that could not be fitted, in place of a posterior.

    Attributes:
        runs: Runs of the family.
        status: `Status.REFUSED` for runs that the law cannot be fitted to, `Status.FAILED` for any other exception.
        error: The exception.
    """

    runs: Runs
    status: Status
    error: Exception

    @property
    def reason(self) -> str:
        """Return the message of the exception, as a sentence."""
        return str(self.error) if isinstance(self.error, InputError) else f"{type(self.error).__name__}: {self.error}"

    def __repr__(self) -> str:
        """Return the failure in at most one screen."""
        return checked.one_screen(str(self))

    def __str__(self) -> str:
        """Return the family's name and the reason why there is no posterior."""
        return f"{self.runs.name}: {self.status} {self.reason}"

    def __getattr__(self, name: str) -> Any:
        """Refuse access to forecasts, tables and draws, with the reason for the failure."""
        if name.startswith("_"):
            raise AttributeError(f"'Failure' object has no attribute {name!r}")
        raise AttributeError(
            f"This fit failed, so it has no {name}. {self} Skip failed fits, [r for r in results if not isinstance(r, "
            "bs.Failure)], or pass failures='raise' to stop at the first failure."
        )


@jax.jit
def draw_prior(keys: Any, model: Model, problem: Problem) -> Any:
    """Draw unconstrained parameters from the prior, shape (draw, parameter).

    Compiled once for each shape of problem.
    """
    return jax.vmap(lambda key: simulate_prior(key, model, problem)[0])(keys)


def log_posterior(posterior: Posterior) -> np.ndarray:
    """Return the log posterior density of each draw in unconstrained parameters, up to a constant, (chain, draw)."""
    with on_cores():
        return np.asarray(log_densities(posterior.unconstrained, posterior.job.model, posterior.job.problem))


@jax.jit
def log_densities(position: Any, model: Model, problem: Problem) -> Any:
    """Return log densities of unconstrained parameters, shape (chain, draw).

    Compiled once for each shape of problem.
    """
    return jax.lax.map(lambda chain: jax.lax.map(lambda vector: log_density(vector, model, problem), chain), position)
