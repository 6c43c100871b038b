"""Posterior: draws, diagnostics and all that is needed to predict; the one result type."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import pandas as pd

from bayescale import checked
from bayescale.diagnostics import Diagnostics
from bayescale.drift import Drift
from bayescale.errors import InputError, Status
from bayescale.forecast import At, Forecast, known_kind, query_points, refuse_unnamed, widened, widening
from bayescale.laws import Law
from bayescale.model import Job, Model, Problem, Values, coordinates, parts, simulate_prior
from bayescale.noise import Noise
from bayescale.nuts import Nuts
from bayescale.predictive import filled, predict_log
from bayescale.programs import on_cores
from bayescale.runs import Runs

PRIOR_DRAWS = 2000


@dataclasses.dataclass(frozen=True)
class Note:
    """One thing to know before trusting a fit.

    Attributes:
        code: Stable name, for programs.
        severity: "warning" or "info".
        text: The sentence a person reads.
    """

    code: str
    severity: str
    text: str

    def __str__(self) -> str:
        """Return the sentence."""
        return f"{self.severity}: {self.text}"


@dataclasses.dataclass(frozen=True)
class Posterior:
    """Draws from the posterior of a scaling law.

    Attributes:
        job: What was fitted: runs, law, drift, noise, and their arrays.
        seed: Seed of the fit.
        settings: Counts and target acceptance of NUTS.
        position: Draws of the sampled coordinates, shape (chain, draw, coordinate).
        values: What they mean; leaves have leading axes (chain, draw).
        stats: Statistics of the chains by ArviZ's names, or log weights of the draws, shape (chain, draw) each.
        diagnostics: Convergence measures.
    """

    job: Job
    seed: int
    settings: Nuts
    position: np.ndarray
    values: Values
    stats: dict[str, np.ndarray]
    diagnostics: Diagnostics

    @property
    def runs(self) -> Runs:
        """The fitted runs."""
        return self.job.runs

    @property
    def law(self) -> Law:
        """The law, with the priors that were used."""
        return self.job.law

    @property
    def drift(self) -> Drift | None:
        """The drift, or None."""
        return self.job.drift

    @property
    def noise(self) -> Noise:
        """The noise."""
        return self.job.noise

    @property
    def status(self) -> Status:
        """Whether the chains converged, as a sentence."""
        return self.diagnostics.status

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the sampled coordinates."""
        return coordinates(self.job.model, self.job.problem)

    @functools.cached_property
    def scaled(self) -> dict[str, np.ndarray]:
        """Constants at the data's reference scale, including the level, shape (chain, draw) each."""
        shape = self.position.shape[:2]
        constants = {
            name: np.broadcast_to(np.asarray(self.values.constants[name], float), shape) for name in self.law.constants
        }
        if self.law.level:
            key, prior = self.law.level
            names = self.law.covered[key]
            center = float(self.job.problem.center)
            # The law's value at the reference is exp(center + level), whatever the sampled amplitude stood for.
            inputs = self.job.model.law.arguments(np.ones(len(self.law.inputs)))
            here = np.asarray(self.law(*inputs, **constants))
            level = np.exp(center + np.asarray(self.values.level)) / here
            constants |= prior.scaled(constants, names, level)
        return constants

    @functools.cached_property
    def draws(self) -> dict[str, np.ndarray]:
        """All quantities by name, shape (chain, draw) each.

        The law's constants in the paper's own units where the law says how they scale (else at the reference
        scale), and the three standard deviations `scatter`, `seed` and `drift` in log units.
        """
        shape = self.position.shape[:2]
        reference = dict(zip(self.law.inputs, self.job.reference, strict=True))
        constants = self.scaled
        if self.law.units:
            constants = self.law.at_unit_scale(constants, reference)
        parts = {"scatter": self.values.scatter}
        if self.noise.seed is not None:
            parts["seed"] = self.values.seed
        if self.drift is not None:
            parts["drift"] = self.values.amplitude
        spreads = {name: np.broadcast_to(np.asarray(value), shape) for name, value in parts.items()}
        return {**constants, **spreads}

    def predict(self, at: At | None = None, *, kind: str = "run", **inputs: float | np.ndarray) -> Forecast:
        """Forecast at new inputs.

        Args:
            at: Inputs in raw counts: a table with a column for each, or a mapping from their names to scalars or
                arrays. Of a ladder along one ray (see `data.ray`) any of its inputs will do, and of parameters and
                tokens `flops` too.
            kind: "run" for one future run with a new seed, "mean" for the curve itself.
            **inputs: The same by keyword, for names that are no options.

        Raises:
            InputError: For an unknown kind, inputs that are missing, unknown or not positive, or points off the ray on
                which all runs lie.

        Example:
            >>> post.predict(at={"flops": 1e22}).interval(0.8)  # doctest: +SKIP
        """
        known_kind(kind)
        return self.forecast_at(self.on_ray(at, inputs), kind)

    def on_ray(self, at: At | None, inputs: Mapping[str, Any]) -> pd.DataFrame:
        """Return a question's points, see `locate`, where none lies off the ray of the runs.

        Raises:
            InputError: As `locate`, and for points off the ray.
        """
        points, beside = self.locate(at, inputs)
        if self.job.ray is not None:
            self.job.ray.refuse_beside(points, beside, self.ray_start)
        return points

    def locate(self, at: At | None, inputs: Mapping[str, Any]) -> tuple[pd.DataFrame, np.ndarray]:
        """Return a question's points, with all inputs, and how far each lies off the ray of the runs.

        Args:
            at: A table with a column for each input, or scalars or arrays of one length by name; or None.
            inputs: Raw counts by name, where `at` is None.

        Returns:
            One row a point, and the factor between it and the ray, shape (point,): 1 where there is no ray.

        Raises:
            InputError: For inputs that are missing, unknown or not positive.
        """
        refuse_unnamed(self.law.inputs, at)
        ray = self.job.ray
        if ray is None:
            points = query_points(self.law.inputs, at, inputs)
            return points, np.ones(len(points))
        named = inputs if at is None or inputs else at
        names = tuple(name for name in ray.names if name in named)
        if not names and set(ray.names) == {"n_params", "n_tokens"} and "flops" in named:
            names = ("flops",)
        return ray.locate(query_points(names or ray.names[:1], at, inputs))

    def forecast_at(self, points: pd.DataFrame, kind: str) -> Forecast:
        """Forecast at located points, on the ray of the runs where they lie on one; see `predict`."""
        x = self.law_inputs(points)
        chains, draws = self.position.shape[:2]
        predictive = predict_log(
            self.job.model,
            self.job.problem,
            self.job.low,
            self.flat_values,
            np.log(x / self.job.reference),
            kind,
            np.random.default_rng([self.seed, 1]),
        )
        ratio = self.ratio(x)
        ratio = np.maximum(ratio, 1.0)
        # As the posterior has it where the record reaches.
        factor, middle = widening(ratio, len(self.law.inputs)), np.median(predictive.location, axis=0)
        return Forecast(
            points=points,
            kind=kind,
            location=widened(predictive.location, factor, middle),
            scale=factor * predictive.scale,
            log_draws=widened(predictive.draws, factor, middle).reshape(chains, draws, -1),
            ratio=ratio,
            label=f"{self.law.name} on {self.runs.name}",
        )

    @property
    def ray_start(self) -> float:
        """Smallest value among the runs of the input that is fitted along their ray."""
        assert self.job.ray is not None, "a fit along a ray"
        return float(self.runs.frame[self.job.ray.names[0]].min())

    def ratio(self, x: np.ndarray) -> np.ndarray:
        """How far beyond the fitted runs points lie, the largest factor over the inputs of the law, shape (point,).

        Along a ray it is the product of the factors of all inputs, which is that of compute for parameters and tokens:
        a ladder is as far from a question whichever of its inputs is fitted.
        """
        seen = self.runs.frame[list(self.law.inputs)].to_numpy(float)
        factor = np.maximum(x / seen.max(0), seen.min(0) / x).max(1)
        return factor if self.job.ray is None else factor ** sum(self.job.ray.powers)

    def law_inputs(self, points: pd.DataFrame) -> np.ndarray:
        """Inputs of the law in raw counts at located points, shape (point, input)."""
        if self.job.ray is not None:
            return self.job.ray.first(points)[:, None]
        return points[list(self.law.inputs)].to_numpy(float)

    @functools.cached_property
    def flat_values(self) -> Values:
        """Values with chains joined, leading axis draw."""
        chains, draws = self.position.shape[:2]
        full = jax.tree.map(
            lambda leaf: np.asarray(leaf).reshape(chains * draws, *np.shape(leaf)[2:]) if np.ndim(leaf) >= 2 else leaf,
            self.values,
        )
        return filled(full, chains * draws)

    @functools.cached_property
    def prior_draws(self) -> np.ndarray:
        """Coordinates drawn from the prior, shape (draw, coordinate); of a pool, from the first model's first."""
        own = parts(self.job)
        with on_cores():
            keys = jax.random.split(jax.random.key(self.seed), (len(own), PRIOR_DRAWS // len(own)))
            drawn = [draw_prior(some, part.model, part.problem) for some, part in zip(keys, own, strict=True)]
            return np.concatenate([np.asarray(part) for part in drawn])

    def contraction(self) -> pd.Series:
        """How much each coordinate learned: 1 - posterior variance / prior variance."""
        shape = (len(parts(self.job)), -1, self.position.shape[-1])
        posterior, prior = (draws.reshape(shape).var(1).mean(0) for draws in (self.position, self.prior_draws))
        return pd.Series(1.0 - posterior / prior, index=list(self.names))

    def summary(self, level: float = 0.9) -> pd.DataFrame:
        """Table of every quantity: mean, sd, central interval, effective sample sizes, R-hat (from ArviZ).

        Args:
            level: Central probability of the interval.
        """
        checked.options(level=(level, checked.PROBABILITY))
        from arviz_stats import summary
        from xarray import Dataset

        data = Dataset({name: (("chain", "draw"), values) for name, values in self.draws.items()})
        # A constant that does not vary, as a plateau that half of the draws lack, has no R-hat.
        with np.errstate(invalid="ignore", divide="ignore"):
            table = summary(data, ci_prob=level, ci_kind="eti", round_to="none")
            if self.job.problem.second is not None:
                # The two halves of a pool are to differ: chains are compared with their own.
                size = len(self.position) // 2
                both = (data.isel(chain=slice(size)), data.isel(chain=slice(size, None)))
                one, other = (summary(half, ci_prob=level, ci_kind="eti", round_to="none") for half in both)
                table["r_hat"] = np.fmax(one["r_hat"], other["r_hat"])
                for column in ("ess_bulk", "ess_tail"):
                    table[column] = 2.0 * np.fmin(one[column], other[column])
                for column in ("mcse_mean", "mcse_sd"):
                    table[column] = 0.5 * np.hypot(one[column].fillna(0.0), other[column].fillna(0.0))
        if self.diagnostics.method == "importance":
            # Resampled draws look independent though some are copies: the weights know what they are worth.
            for column, found in (("ess_bulk", self.diagnostics.ess_bulk), ("ess_tail", self.diagnostics.ess_tail)):
                table[column] = table[column].clip(upper=float(np.min(found)))
            table["r_hat"] = np.nan
        return table

    def check(self, forecast: Forecast | None = None, *, prior: bool = True) -> list[Note]:
        """List what to know before trusting this fit, or a forecast from it; see `bayescale.checks`.

        Args:
            forecast: A forecast whose distance and width to judge as well.
            prior: Say also which coordinates the data did not move, which takes draws from the prior.
        """
        from bayescale.checks import notes_on

        return notes_on(self, forecast, prior)

    def loo(self) -> Any:
        """Estimate the log predictive density of each row left out, as ArviZ's `ELPDData`; see `bayescale.loo`."""
        from bayescale.loo import loo

        return loo(self)

    def to_datatree(self) -> Any:
        """Return an `xarray.DataTree` that ArviZ reads; see `bayescale.storage`."""
        from bayescale.storage import to_datatree

        return to_datatree(self)

    def save(self, path: Any) -> None:
        """Write the posterior to a netCDF file that `bayescale.load` and ArviZ open; see `bayescale.storage`."""
        from bayescale.storage import save

        save(self, path)

    def __repr__(self) -> str:
        """Say what was fitted and what came out, in at most one screen, without what `check` says."""
        return checked.one_screen(describe(self, notes=False))

    def __str__(self) -> str:
        """Say what was fitted, what came out and whether to trust it."""
        return describe(self)


def fitted(posterior: Any) -> Posterior:
    """Return a posterior that is one.

    Raises:
        InputError: For anything else, for a failure with its reason.
    """
    if isinstance(posterior, Posterior):
        return posterior
    if isinstance(posterior, Failure):
        raise InputError(f"A fit is expected; found a failure: {posterior}")
    raise InputError(
        f"A fit is expected; found {type(posterior).__name__}. Make one with bs.fit(runs, seed=0), or bs.load(path)."
    )


@dataclasses.dataclass(frozen=True)
class Failure:
    """What stands in the place of a posterior that could not be had.

    Attributes:
        runs: Runs of the family.
        status: `Status.REFUSED` for runs that the law cannot be fitted to, `Status.FAILED` if anything else raised.
        error: What was raised.
    """

    runs: Runs
    status: Status
    error: Exception

    @property
    def reason(self) -> str:
        """What was raised, as a sentence."""
        return str(self.error) if isinstance(self.error, InputError) else f"{type(self.error).__name__}: {self.error}"

    def __repr__(self) -> str:
        """Say it in at most one screen."""
        return checked.one_screen(str(self))

    def __str__(self) -> str:
        """Name the family and say why there is no posterior."""
        return f"{self.runs.name}: {self.status} {self.reason}"

    def __getattr__(self, name: str) -> Any:
        """Say why there is no forecast, table or draw."""
        if name.startswith("_"):
            raise AttributeError(f"'Failure' object has no attribute {name!r}")
        raise AttributeError(
            f"There is no {name} of {self} Leave failures out ([r for r in results if isinstance(r, bs.Posterior)]), "
            "or stop at the first with failures='raise'."
        )


@jax.jit
def draw_prior(keys: Any, model: Model, problem: Problem) -> Any:
    """Coordinates from the prior, shape (draw, coordinate); compiled once for each shape of problem."""
    return jax.vmap(lambda key: simulate_prior(key, model, problem)[0])(keys)


def describe(posterior: Posterior, *, notes: bool = True) -> str:
    """Describe a posterior in a few lines, with what is to be known about it unless `notes` is False."""
    chains, draws = posterior.position.shape[:2]
    drift = "no drift" if posterior.drift is None else "drift"
    if posterior.drift is not None and posterior.drift.along == "pool":
        drift = "drift along the inputs in half of the chains, along their common scale in the other half"
    elif posterior.job.problem.second is not None:
        drift += ", a plateau above the curve in half of the chains"
    tail = "normal" if posterior.noise.tail is None else f"Student-t({float(posterior.noise.tail):g})"
    lines = [
        f"{posterior.law.name} on {posterior.runs}",
        f"{drift}, {tail} noise; {chains} chains x {draws} draws, seed {posterior.seed}",
    ]
    for name, values in posterior.draws.items():
        low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
        lines.append(f"  {name:<8} {middle:>11.5g}   90 % {low:.5g} to {high:.5g}")
    lines.append(str(posterior.status))
    if said := describe_weights(posterior.diagnostics):
        lines.append(said)
    if notes:
        lines += [str(note) for note in posterior.check() if note.code != "unconverged"]
    return "\n".join(lines)


def describe_weights(measures: Diagnostics) -> str:
    """Say how importance sampling went; empty where it was not tried."""
    if measures.pareto_k is None:
        return ""
    found = f"Pareto k {measures.pareto_k:.2f}, effective sample size of the weights {measures.ess_weights or 0.0:.0f}"
    if measures.method == "importance":
        return f"Drawn by importance sampling: {found}."
    return f"Drawn by NUTS, since importance sampling was not good enough ({found})."
