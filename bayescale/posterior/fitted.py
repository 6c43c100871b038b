"""Fitted: the methods that a posterior and a mixture of posteriors have in common."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayescale import checked
from bayescale._display import Display
from bayescale.checked import known_keywords
from bayescale.data.drawn_score import DrawnScore
from bayescale.data.ray import Ray
from bayescale.data.runs import Runs, scales
from bayescale.errors import Status, counted
from bayescale.forecast import At, Forecast, known_kind, our_names, query_points, refuse_unnamed
from bayescale.inference.nuts import Nuts
from bayescale.laws.law import Law
from bayescale.model.discrepancy import Discrepancy
from bayescale.model.likelihood import Likelihood
from bayescale.model.problem import Values
from bayescale.posterior.notes import Notes
from bayescale.posterior.predictive import Predictive, at_fitted_settings
from bayescale.posterior.stacking import Stacking
from bayescale.score_forecast import on_scale

if TYPE_CHECKING:
    from bayescale.posterior.posterior import Posterior

ROUNDING = 1e-6
"""Extrapolation factors this close to 1 are rounded to 1."""


@known_keywords
class Fitted(Display, abc.ABC):
    """A fit of a scaling law: one posterior (`Posterior`), or a weighted mixture of several (`Mixture`)."""

    components: tuple[Posterior, ...]
    """The posteriors that the fit consists of; for a single posterior, itself."""
    weights: tuple[float, ...]
    """Weights of the components, which sum to one."""
    seed: int
    """Seed of the fit."""
    settings: Nuts
    """Settings of the sampler."""
    draws: dict[str, np.ndarray]
    """Draws of all quantities by name, shape (chain, draw) each; see `Posterior.draws`."""
    scaled: dict[str, np.ndarray]
    """Draws of the constants at the data's reference scale, including the level, shape (chain, draw) each."""
    flat_values: Values
    """Constrained values of the joined draws, leading axis draw."""
    drawn_score: DrawnScore | None
    """Chance, ceiling and concentration of a score in each of the joined draws; None if none is sampled."""
    stacking: Stacking | None = None
    """How the weights were computed, for a mixture made by `stack`."""

    # --- What was fitted ----------------------------------------------------------------------------------

    @property
    def first(self) -> Posterior:
        """The first component; all components have the same data, inputs and ray."""
        return self.components[0]

    @property
    def runs(self) -> Runs:
        """The fitted runs."""
        return self.first.job.runs

    @property
    def law(self) -> Law:
        """The law of the first component, with its priors."""
        return self.first.job.law

    @property
    def law_names(self) -> str:
        """Names of the laws of all components, without repetition."""
        return " and ".join(dict.fromkeys(part.law.name for part in self.components))

    @property
    def leading(self) -> Fitted:
        """The part of the fit under the law with the largest weight; the fit itself if it has one law."""
        return self

    @property
    def response(self) -> str:
        """Name of the response in the table of runs, or of the law's response where the table has none."""
        called = "score" if self.runs.response == "correct" else self.runs.response
        return self.law.response if called == "loss" and self.runs.response_scale is None else called

    @property
    def discrepancy(self) -> Discrepancy | None:
        """The discrepancy of the first component, or None."""
        return self.first.job.discrepancy

    @property
    def likelihood(self) -> Likelihood:
        """The likelihood of the first component."""
        return self.first.job.likelihood

    @property
    def ray(self) -> Ray | None:
        """The ray (a line in log scale) along which one of several inputs was fitted, or None."""
        return self.first.job.ray

    @property
    def reference(self) -> np.ndarray:
        """Geometric mean of each input of the law, shape (input,)."""
        return self.first.job.reference

    @property
    def replicated(self) -> bool:
        """Return whether some runs have equal inputs, so that the seed noise can be estimated."""
        return self.first.job.problem.replicated

    @property
    def unit(self) -> str:
        """Return the unit of the law's constants, e.g. `flops / 1.7e+19`; empty where it is that of raw inputs.

        If a law declares `units=`, its constants are converted to raw inputs. Otherwise they hold for inputs divided by
        their geometric mean over the runs, except inputs whose value has a meaning of its own.
        """
        if self.law.units:
            return ""
        ref = dict(zip(self.law.inputs, map(float, self.reference), strict=True))
        divisors = {name: float(value) for name, value in self.law.divisors(ref).items()}
        return ", ".join(f"{name} / {value:.4g}" for name, value in divisors.items() if value != 1.0)

    # --- What came out ------------------------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def status(self) -> Status:
        """Return whether the draws can be trusted, as a sentence."""

    @property
    @abc.abstractmethod
    def layout(self) -> tuple[tuple[int, int], ...]:
        """Number of chains and number of draws of each chain, by component, in the joined draws."""

    @abc.abstractmethod
    def predictive(self, z: np.ndarray, kind: str, rng: np.random.Generator, new_setting: bool = False) -> Predictive:
        """Predict ln(response) at ln(x / reference) of new points, shape (point, input), for all joined draws.

        Args:
            z: ln(x / reference) of the points.
            kind: "mean" or "run".
            rng: Generator of joint draws.
            new_setting: Treat every point as a setting that was not fitted.
        """

    @abc.abstractmethod
    def log_law(self, z: np.ndarray, constants: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """Return ln of the law without discrepancy, shape (draw, point).

        Relative to the reference where it has a level.

        Args:
            z: ln(x / reference) of the points, shape (point, input).
            constants: Constants that replace those of the draws, leading axis draw.
        """

    @abc.abstractmethod
    def summary(self, level: float = 0.9) -> pd.DataFrame:
        """Return a table of every quantity: mean, sd, central interval, effective sample sizes, R-hat (from ArviZ).

        `residual_sd`, `seed_sd` and `discrepancy` are relative to the response: 0.0035 is 0.35 % of it. For values
        such as rewards their unit is `runs.value.unit`, and for scores they are in log odds.

        Args:
            level: Central probability of the interval.
        """

    @abc.abstractmethod
    def contraction(self) -> pd.Series:
        """Return for each unconstrained parameter 1 - posterior variance / prior variance."""

    def folded(self, flat: np.ndarray) -> np.ndarray:
        """Reshape draws, whose chains are joined along the first axis, to (chain, draw).

        If the components of the fit have different numbers of draws, the result has one chain.
        """
        lengths = {draws for _, draws in self.layout}
        chains = sum(chains for chains, _ in self.layout) if len(lengths) == 1 else 1
        return flat.reshape(chains, -1, *flat.shape[1:])

    # --- Forecasts ----------------------------------------------------------------------------------------

    def predict(
        self, at: At | None = None, *, kind: str = "run", force: bool = False, **inputs: float | np.ndarray
    ) -> Forecast:
        """Forecast at new inputs.

        Args:
            at: Inputs in raw counts: a table with a column for each input, or a mapping from their names to scalars or
                arrays. If all runs lie on one ray (inputs that grow together, see `data.ray`), any one of its inputs is
                enough; for parameters and tokens also `flops`. One input may be the forecast of another fit, such as a
                loss, whose uncertainty is then included.
            kind: "run" for one future run with a new seed, "mean" for the curve itself.
            force: Forecast also beyond data that rise and then fall, which no monotone law describes.
            **inputs: The same inputs as keyword arguments, unless an input has the name of an option.

        Raises:
            InputError: For an unknown kind, inputs that are missing, unknown or not positive, points off the ray on
                which all runs lie, or points beyond data that rise and then fall, unless `force`.

        Example:
            >>> post.predict(at={"flops": 1e22}).interval(0.8)  # doctest: +SKIP
        """
        known_kind(kind)
        from bayescale.posterior.chain import predict_through, uncertain
        from bayescale.posterior.checks import refuse_beyond_turn

        if uncertain(at, inputs):
            forecast = predict_through(self, dict(at) if isinstance(at, Mapping) else inputs, kind)
        else:
            forecast = self.forecast_at(self.on_ray(at, inputs), kind)
        if not force:
            refuse_beyond_turn(self, forecast)
        return forecast

    def on_ray(self, at: At | None, inputs: Mapping[str, Any]) -> pd.DataFrame:
        """Return the points of a question, see `locate`; refuse points off the ray of the runs.

        Raises:
            InputError: As `locate`, and for points off the ray.
        """
        points, beside = self.locate(at, inputs)
        if self.ray is not None:
            self.ray.refuse_beside(points, beside, self.ray_start)
        return points

    def locate(self, at: At | None, inputs: Mapping[str, Any]) -> tuple[pd.DataFrame, np.ndarray]:
        """Return the points of a question with all inputs, and their distance from the ray of the runs.

        Args:
            at: A table with a column for each input, or scalars or arrays of one length by name; or None.
            inputs: Raw counts by name, where `at` is None.

        Returns:
            One row a point, and the factor between each point and the ray, shape (point,); 1 where there is no ray.

        Raises:
            InputError: For inputs that are missing, unknown or not positive.
        """
        refuse_unnamed(self.law.inputs, at)
        ray = self.ray
        if ray is None:
            points = query_points(self.law.inputs, at, inputs)
            return points, np.ones(len(points))
        others = (*ray.names, *(["flops"] if set(ray.names) == {"n_params", "n_tokens"} else []))
        at, inputs = (None if at is None else our_names(at, others)), our_names(inputs, others)
        named = inputs if at is None or inputs else at
        names = tuple(name for name in ray.names if name in named)
        if not names and "flops" in others and "flops" in named:
            names = ("flops",)
        return ray.locate(query_points(names or ray.names[:1], at, inputs, others))

    def forecast_at(self, points: pd.DataFrame, kind: str, *, new_setting: bool = False) -> Forecast:
        """Forecast at points that `locate` returned; see `predict`.

        Args:
            points: All inputs in raw counts, a row a point.
            kind: "run" or "mean".
            new_setting: Treat every point as a setting that was not fitted, as for the intervals of a plot.
        """
        x = self.law_inputs(points)
        z = np.log(x / self.reference)
        rng = np.random.default_rng([self.seed, 1])
        predictive = self.predictive(z, kind, rng, new_setting)
        known = at_fitted_settings(self.first.job.problem, z).any(1) & (kind == "run") & (not new_setting)
        ratio = np.maximum(self.ratio(x), 1.0)
        found = Forecast(
            points=points,
            kind=kind,
            location=predictive.location,
            scale=predictive.scale,
            log_draws=self.folded(predictive.draws),
            ratio=ratio,
            label=f"{self.law_names} on {self.runs.name}",
            response=self.response,
            fitted=known,
            below=self.below(x),
        )
        return on_scale(found, self.runs.response_scale, self.drawn_score)

    @property
    def ray_start(self) -> float:
        """Smallest value, among the runs, of the input that is fitted along the ray."""
        assert self.ray is not None, "a fit along a ray"
        return float(self.runs.frame[self.ray.names[0]].min())

    def ratio(self, x: np.ndarray) -> np.ndarray:
        """Return the extrapolation factor of points, the largest over the inputs of the law, shape (point,).

        Along a ray it is the product of the factors of all inputs (for parameters and tokens, the factor of compute),
        so that it does not depend on which input was fitted.
        """
        seen = self.runs.frame[list(self.law.inputs)].to_numpy(float)
        factor = np.maximum(x / seen.max(0), seen.min(0) / x).max(1) ** self.ray_power
        # Inputs along a ray are computed from logarithms, so the outermost runs equal themselves only up to rounding.
        return np.where(np.abs(factor - 1.0) < ROUNDING, 1.0, factor)

    def below(self, x: np.ndarray) -> np.ndarray:
        """Return whether a point lies outside the runs on the lower side, in its most extreme input, shape (point,)."""
        seen = self.runs.frame[list(self.law.inputs)].to_numpy(float)
        return ((seen.min(0) / x).max(1) > (x / seen.max(0)).max(1)) & (self.ratio(x) > 1.0)

    @property
    def ray_power(self) -> float:
        """Return k such that, along the ray, the product of all inputs grows as the fitted input to the power k.

        Without a ray, k is 1. The product of parameters and tokens is compute. With this power, extrapolation factors
        and costs of pilots do not depend on which input was fitted.
        """
        return 1.0 if self.ray is None else float(sum(self.ray.powers))

    def scales(self, table: pd.DataFrame) -> np.ndarray:
        """Return the scale of points, in proportion to which costs are assumed to grow; see `data.runs.scales`.

        Args:
            table: Inputs of the law, one row a point.

        Returns:
            Shape (point,). Along a ray the scale is that of all inputs, up to a constant factor.
        """
        return scales(table, self.law.inputs) ** self.ray_power

    def law_inputs(self, points: pd.DataFrame) -> np.ndarray:
        """Return the inputs of the law in raw counts at points that `locate` returned, shape (point, input)."""
        if self.ray is not None:
            return self.ray.first(points)[:, None]
        return points[list(self.law.inputs)].to_numpy(float)

    # --- Trust, files, text -------------------------------------------------------------------------------

    @property
    def trustworthy(self) -> bool:
        """Return whether the fit can be relied on: its chains converged, and no warning of `check` forbids a decision.

        Such warnings are: the curve is flat or rises again, a score was fitted under a law that decreases, or data are
        repeated or leak from the test set. `fit(..., strict=True)` raises for a fit that is not trustworthy.
        """
        from bayescale.posterior.checks import reasons_for_distrust

        return not reasons_for_distrust(self)

    def check(self, forecast: Forecast | None = None, *, prior: bool = True) -> Notes:
        """List reasons for caution with this fit, or with a forecast from it; see `bayescale.posterior.checks`.

        Args:
            forecast: A forecast whose extrapolation factor and width are judged as well.
            prior: Also list coordinates that the data did not change, and components of a mixture that fit much worse
                than another. Both take longer.
        """
        from bayescale.posterior.checks import notes_on

        return Notes(notes_on(self, forecast, prior))

    def loo(self) -> Any:
        """Estimate the log predictive density of each row when it is left out, as ArviZ's `ELPDData`."""
        from bayescale.posterior.loo import loo

        return loo(self)

    def to_datatree(self) -> Any:
        """Return an `xarray.DataTree` that ArviZ reads; see `bayescale.posterior.io`."""
        from bayescale.posterior.io import to_datatree

        return to_datatree(self)

    def save(self, path: Any) -> None:
        """Write the fit to a netCDF file that `bayescale.load` and ArviZ open; see `bayescale.posterior.io`."""
        from bayescale.posterior.io import save

        save(self, path)

    def __repr__(self) -> str:
        """Return the fit and its results in at most one screen, without the warnings of `check`."""
        return checked.one_screen(describe(self, notes=False))

    def __str__(self) -> str:
        """Return the fit, its results and whether to rely on it."""
        return describe(self)


def describe(fit: Fitted, *, notes: bool = True) -> str:
    """Describe a fit in a few lines, with reasons for caution unless `notes` is False."""
    discrepancy = "no discrepancy" if fit.discrepancy is None else "discrepancy"
    assumed = f"{discrepancy}, {fit.likelihood.says}"
    if fit.first.job.design in ("ladder", "curve"):
        assumed = f"taken for a {fit.first.job.design}; {assumed}"
    shapes = [part.unconstrained.shape[:2] for part in fit.components]
    chains = [f"{counted(number, 'chain')} x {counted(draws, 'draw')}" for number, draws in shapes]
    if len(fit.components) == 1:
        lines = [f"{fit.law.name} on {fit.runs}", f"{assumed}; {chains[0]}, seed {fit.seed}"]
        lines += quantity_lines(fit.first)
    else:
        lines = [f"{fit.law_names} on {fit.runs}", f"{assumed}; seed {fit.seed}; a mixture of models, by weight:"]
        for part, w, label, n in zip(fit.components, fit.weights, component_labels(fit), chains, strict=True):
            lines += [f"  {w:.3g} {label}, {n}", *(f"  {line}" for line in quantity_lines(part))]
    if not fit.replicated and "seed_sd" in fit.first.draws:
        lines.append("seed_sd is from the prior: no two runs at equal settings.")
    if fit.stacking is not None:
        lines += str(fit.stacking).splitlines()
    for part in {part.law.name: part for part in fit.components}.values():
        if part.unit:
            constants = ", ".join(part.law.constants)
            lines.append(
                f"{constants} hold for {part.unit}: {part.law.name} declares no units= by which to convert them."
            )
    lines += scale_lines(fit.runs)
    lines.append(str(fit.status))
    lines += weights_lines(fit)
    if notes:
        lines += [str(note) for note in fit.check() if note.code != "unconverged"]
    return "\n".join(lines)


def scale_lines(runs: Runs) -> list[str]:
    """Return a line that says what the law describes, unless that is the response itself."""
    if (score := runs.score) is not None:
        between = [
            f"{value:g}" + ("" if sd is None else f" (prior sd {sd:g})")
            for value, sd in ((score.chance, score.chance_sd), (score.ceiling, score.ceiling_sd))
        ]
        return [f"The law is of the odds against being right, between {' and '.join(between)}."]
    if (value := runs.value) is not None:
        first, second = (f"{value.middle:g}", "value") if value.higher_is_better else ("value", f"{value.middle:g}")
        return [f"The law is of exp(y) with y = ({first} - {second}) / {value.unit:g}."]
    return []


SPREADS = ("residual_sd", "seed_sd", "discrepancy")
"""Names of the standard deviations among the quantities of a fit, which are relative to the response."""


def quantity_lines(part: Posterior) -> list[str]:
    """Return the median and 90 % interval of each quantity of one model, one line each."""
    shown = own_draws(part)
    width = max(map(len, shown))
    bounds = {name: np.quantile(values, [0.05, 0.5, 0.95]) for name, values in shown.items()}
    unit = "relative, {:.2g} %" if part.runs.score is None else "in log odds"
    scale = 100.0
    if part.runs.value is not None:
        unit, scale = "of y; {:.3g} in units of the value", part.runs.value.unit
    return [
        f"  {name:<{width}} {middle:>11.5g}   90 % {low:.5g} to {high:.5g}"
        + (f"   {unit.format(scale * middle)}" if name in SPREADS else "")
        for name, (low, middle, high) in bounds.items()
    ]


def own_draws(part: Posterior) -> dict[str, np.ndarray]:
    """Return the draws of one model without constants that it lacks, which are zero in all draws."""
    return {name: values for name, values in part.draws.items() if np.any(values)}


def weights_lines(fit: Fitted) -> list[str]:
    """Describe the importance sampling of each component that used it."""
    told = [part.diagnostics.weights_text for part in fit.components]
    if all(told):
        return list(dict.fromkeys(told))
    return [f"{label}: {said}" for label, said in zip(component_labels(fit), told, strict=True) if said]


PLATEAU_LABELS = {"present": "with floor and plateau", "absent": "with a floor", "power": "without floor and plateau"}
ALONG_LABELS = {"inputs": "discrepancy along the inputs", "scale": "discrepancy along the common scale"}


def component_labels(fit: Fitted) -> list[str]:
    """Return for each component a few words that distinguish it from the others."""
    found = []
    laws = {part.law.name for part in fit.components}
    for number, part in enumerate(fit.components):
        words = [] if fit.stacking is None else [fit.stacking.owners[number]]
        words += [part.law.name] if len(laws) > 1 and part.law.name not in words else []
        words += [PLATEAU_LABELS.get(getattr(part.law.level[1], "plateau", ""), "")] if part.law.level else []
        if len({str(other.discrepancy and other.discrepancy.along) for other in fit.components}) > 1:
            words.append("no discrepancy" if part.discrepancy is None else ALONG_LABELS[part.discrepancy.along])
        found.append(", ".join(word for word in words if word) or f"component {number}")
    return found if len(set(found)) == len(found) else [f"component {number}" for number in range(len(found))]


def component_names(fit: Fitted) -> list[str]:
    """Return a one-word name of each component, for files.

    The word is the plateau of the component, or else its discrepancy, whichever differs between all components. If
    neither does, names are numbers from 0.
    """
    shapes = [str(getattr(part.law.level[1], "plateau", "")) if part.law.level else "" for part in fit.components]
    axes = ["none" if part.discrepancy is None else part.discrepancy.along for part in fit.components]
    numbers = [str(number) for number in range(len(shapes))]
    return next(names for names in (shapes, axes, numbers) if len(set(names)) == len(names) and all(names))
