"""Forecast: predictive distributions at given inputs, of the mean curve or of one run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from bayescale import checked
from bayescale._display import Display
from bayescale._record import Array
from bayescale.checked import known_keywords
from bayescale.data.columns import heading
from bayescale.data.zeros import lifted
from bayescale.digits import factor_shown, shown
from bayescale.errors import InputError, counted, nearest, some

At = pd.DataFrame | Mapping[str, Any]
"""Inputs of a question in raw counts: a table with one row per point, or scalars or arrays by name."""
KINDS = {
    "mean": "the curve itself: law and discrepancy, without the noise of single runs",
    "run": "one future run with a new seed: law, discrepancy, residual and seed noise",
}
LEVELS = (0.5, 0.8, 0.95)
RECORD_RATIO = 16.0
"""Extrapolation factor at which the main test of intervals on held-out runs ends."""
TESTED = (
    f"the main test of intervals on held-out runs reaches {RECORD_RATIO:g} times, and tests farther out are on fewer "
    "ladders and on other, shorter curves"
)
"""Up to which extrapolation factor forecasts were tested; `posterior.track_record` has the numbers by factor."""
COMPUTE = ("flops", "n_params", "n_tokens")
"""Compute, and the two inputs whose product it is up to a constant factor."""
FITTED = "the residual is partly known, so the interval is narrower than at other points; see docs/concepts/kind.md."
"""Remark on the forecast of a run at a fitted setting."""
SMALLEST_SCALE = 1e-12
"""Smallest standard deviation of a component, which is a step in effect."""
PAST = 1e-3
"""How far beyond the outermost quantiles of the components quantiles are searched, in standard deviations."""
BLOCK = 1 << 20
"""Largest number of values held at a time: draws times quantiles that are computed together."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class Forecast(Display):
    """Predictive distribution of the response at several points.

    Each posterior draw contributes a normal distribution of the log response. Quantiles, means and scores are those of
    the mixture of these distributions, computed without further random draws. `draws` are joint over the points.

    Attributes:
        points: The inputs in raw counts, one row per point.
        kind: "mean" or "run" (see `KINDS`).
        location: Mean of the log response for each draw, shape (draw, point).
        scale: Standard deviation of the log response for each draw, shape (draw, point).
        log_draws: Joint draws of the log response, shape (chain, draw, point).
        ratio: Extrapolation factor of each point: the largest factor over the inputs, 1 inside the data, shape
            (point,). For runs on one ray it is the factor of their compute, or of the product of their inputs.
        label: Name of the law and of the runs.
        response: Name of the response, e.g. "loss".
        fitted: Whether a point is a fitted setting, shape (point,). There the residual of a run is partly known, so the
            interval is narrower than at neighbouring points. None where no runs were fitted.
        below: Whether a point outside the training range lies below it, shape (point,), or one value for all points.
    """

    points: pd.DataFrame
    kind: str
    location: np.ndarray
    scale: np.ndarray
    log_draws: np.ndarray
    ratio: np.ndarray
    label: str = ""
    response: str = "loss"
    fitted: np.ndarray | None = None
    below: np.ndarray | bool = False

    @property
    def higher_is_better(self) -> bool:
        """Return whether a higher response is better: False for a loss."""
        return False

    def log_of(self, response: float | np.ndarray) -> np.ndarray:
        """Return the logarithm whose normal distributions are `location` and `scale`, of a response of any shape."""
        return np.log(response)

    def probability_met(self, target: float | np.ndarray) -> np.ndarray:
        """Return the probability that the response is better than `target`: a loss below it, a score above it.

        Raises:
            InputError: As `probability_below`.
        """
        below = self.probability_below(target)
        return 1.0 - below if self.higher_is_better else below

    @property
    def draws(self) -> np.ndarray:
        """Joint draws of the response, shape (chain, draw, point)."""
        return np.exp(self.log_draws)

    @property
    def typical(self) -> np.ndarray:
        """Geometric mean of the response, exp of the mean of its logarithm, shape (point,).

        Unlike `mean` it is finite however heavy the tails of ln(response) are. Far beyond the data, estimates of `mean`
        grow with the number of draws, but those of `typical` do not.
        """
        return np.exp(self.location.mean(0))

    @property
    def mean(self) -> np.ndarray:
        """Mean of the response, shape (point,); far beyond the data `typical` is more stable."""
        return np.exp(self.location + 0.5 * self.scale**2).mean(0)

    def quantile(self, q: float | Iterable[float]) -> np.ndarray:
        """Return the quantiles of the response.

        Args:
            q: One probability or several, each in (0, 1).

        Returns:
            Shape (point,) for one probability, (q, point) for several.

        Raises:
            InputError: For a probability outside (0, 1).
        """
        levels = np.atleast_1d(as_numbers("Quantile probabilities", q))
        if levels.size == 0 or not ((levels > 0) & (levels < 1)).all():
            found = some(list(levels)) or "none"
            raise InputError(f"Quantile probabilities must lie in (0, 1); found {found}.")
        values = self.quantiles_at(levels)
        return values[0] if np.ndim(q) == 0 else values

    def quantiles_at(self, levels: np.ndarray) -> np.ndarray:
        """Return the quantiles of the response at valid probabilities, shape (level, point)."""
        return np.exp(mixture_quantile(levels, self.location, self.scale))

    def interval(self, level: float = 0.8) -> np.ndarray:
        """Return the central interval of the response, shape (2, point).

        Raises:
            InputError: For a level outside (0, 1).
        """
        if not checked.PROBABILITY.holds(level):
            raise InputError(f"An interval's level must lie in (0, 1), e.g. 0.8; found {checked.shortened(level)}.")
        return self.quantile([0.5 - level / 2, 0.5 + level / 2])

    @property
    def resolution(self) -> np.ndarray:
        """Smallest difference of the response that is worth printing: a tenth of the 80 % interval, shape (point,)."""
        low, high = self.interval(0.8)
        return (high - low) / 10

    def probability_below(self, target: float | np.ndarray) -> np.ndarray:
        """Return the probability that the response lies below `target`, shape (point,).

        Raises:
            InputError: For a target that is not a positive number, because the response is always positive.
        """
        values = as_numbers("target", target)
        if not (np.isfinite(values) & (values > 0)).all():
            raise InputError(f"A target must be a positive number, like the response; found {target}.")
        if values.shape not in ((), (1,), (len(self.points),)):
            raise InputError(
                f"Give one target, or one for each point; found {counted(values.size, 'target')} for "
                f"{counted(len(self.points), 'point')}."
            )
        return mixture_cdf(np.log(np.broadcast_to(target, len(self.points))), self.location, self.scale)

    def measured(self, value_se: float | Array | None = None, *, items: float | Array | None = None) -> Forecast:
        """Return the forecast of a measurement of the response that has a measurement error.

        Args:
            value_se: Standard errors of the measurement on the scale of the response, as in column `value_se` of the
                runs: one number or shape (point,).
            items: Instead of standard errors, for a rate such as an error rate, the number of items on which it is
                measured: one number or shape (point,). The standard error is sqrt(p (1 - p) / items) at the median p.

        Raises:
            InputError: For impossible errors or items, for neither or both, and for items if the response is not a
                rate.

        Example:
            >>> post.predict(flops=1e21).measured(items=1000).interval(0.95)  # doctest: +SKIP
        """
        if (value_se is None) == (items is None):
            raise InputError(
                "Give either value_se= (--value-se), the standard error of the measurement, or items= (--items), its "
                "number of items."
            )
        middle = self.quantile(0.5)
        if value_se is not None:
            errors = self.per_point("value_se", value_se, "a standard error of zero or more")
        else:
            counts = self.per_point("items", items, "a number of items of one or more", least=1.0)
            if not (middle < 1.0).all():
                raise InputError(
                    f"items= (--items) is only for a rate below 1; found a response of {some(list(middle))}. Give its "
                    "standard error instead, value_se= (--value-se)."
                )
            errors = np.sqrt(middle * (1.0 - middle) / counts)
        spread = errors / middle
        noise = spread * np.random.default_rng(len(self.points)).standard_normal(self.log_draws.shape)
        return dataclasses.replace(self, scale=np.hypot(self.scale, spread), log_draws=self.log_draws + noise)

    def per_point(self, name: str, values: float | Array | None, what: str, least: float = 0.0) -> np.ndarray:
        """Return a number for each point.

        Args:
            name: Name of the numbers, for messages.
            values: One number, or one for each point.
            what: Description of a valid number, for messages.
            least: Smallest valid number.

        Raises:
            InputError: For other shapes and numbers.
        """
        given = as_numbers(name, values)
        if given.shape not in ((), (1,), (len(self.points),)):
            raise InputError(
                f"{name} must be one number, or one for each point; found {given.size} for "
                f"{counted(len(self.points), 'point')}."
            )
        found = np.broadcast_to(given, len(self.points))
        if not (np.isfinite(found) & (found >= least)).all():
            raise InputError(f"{name} must be {what}; found {some(list(found))}.")
        return found

    def to_frame(self, levels: Iterable[float] = LEVELS) -> pd.DataFrame:
        """Return one row per point: inputs, kind, extrapolation factor, mean, median and ends of the intervals."""
        levels = sorted(levels)
        lower = [round(0.5 - level / 2, 6) for level in reversed(levels)]
        probabilities = [*lower, 0.5, *[round(1 - q, 6) for q in reversed(lower)]]
        values = self.quantile(probabilities)
        quantiles = {f"q{q:g}": row for q, row in zip(probabilities, values, strict=True)}
        found = {"kind": self.kind, "ratio": self.ratio, "mean": self.mean, **quantiles}
        return beside(self.points.reset_index(drop=True), found).assign(**found)

    def __len__(self) -> int:
        """Count the points."""
        return len(self.points)

    def __repr__(self) -> str:
        """Return the text, cut to one screen."""
        return checked.one_screen(str(self))

    def __str__(self) -> str:
        """Return the heading and a line for each point with its quantiles and extrapolation factor."""
        return "\n".join([self.heading, *self.verdicts(), *self.remarks()])

    @property
    def heading(self) -> str:
        """Return the response, the kind and the label, in one line."""
        return f"Forecast of {KINDS[self.kind]} ({self.label})"

    def distance(self, point: int, digits: int = 3) -> str:
        """Return how far a point lies outside the training range, e.g. `100x beyond the data`."""
        side = "below" if np.broadcast_to(self.below, len(self.points))[point] else "beyond"
        return f"{factor_shown(self.ratio[point], digits)}x {side} the data"

    def verdicts(self) -> list[str]:
        """Return a line for each point with its forecast and its extrapolation factor."""
        lines = []
        low, high = self.interval(0.8)
        low95, high95 = self.interval(0.95)
        middle, resolution = self.quantile(0.5), self.resolution
        for i, row in enumerate(self.points.to_dict("records")):
            where = ", ".join(f"{name}={value:.3g}" for name, value in row.items())
            far = f"  [{self.distance(i)}]" if self.ratio[i] > 1 else ""
            fine = resolution[i]
            lines.append(
                f"  {where}: {shown(middle[i], fine)}  80 % {shown(low[i], fine)} to {shown(high[i], fine)}"
                f"  95 % {shown(low95[i], fine)} to {shown(high95[i], fine)}{far}"
            )
        return lines

    def remarks(self) -> list[str]:
        """Return a line about points that are fitted settings, whose intervals are narrower.

        Empty if there are none.
        """
        if self.fitted is None or not self.fitted.any():
            return []
        which = f" ({counted(int(self.fitted.sum()), 'point')} of {len(self)})" if len(self) > 1 else ""
        return [f"At a fitted setting{which}: {FITTED}"]


def beside(points: pd.DataFrame, results: Iterable[str]) -> pd.DataFrame:
    """Return points with inputs renamed to `name (input)` where a result has the same name."""
    return points.rename(columns={name: f"{name} (input)" for name in results if name in points})


def mixture_cdf(value: np.ndarray, location: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return the distribution function of an equal mixture of normals.

    Args:
        value: Points of evaluation, shape (..., point).
        location: Component means, shape (draw, point).
        scale: Component standard deviations, shape (draw, point); zero means a step function.
    """
    safe = np.maximum(scale, SMALLEST_SCALE)
    return ndtr((np.asarray(value)[..., None, :] - location) / safe).mean(-2)


def mixture_quantile(levels: np.ndarray, location: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return quantiles of an equal mixture of normals by Chandrupatla's bracketing, shape (level, point)."""
    # Imported here, because the import takes a tenth of a second and happens anyway while a fit compiles.
    from scipy.optimize.elementwise import find_root

    # One row a point, so that the values for one evaluation are contiguous in memory.
    middle, safe = np.ascontiguousarray(location.T), np.ascontiguousarray(np.maximum(scale, SMALLEST_SCALE).T)
    # At the largest of the components' quantiles, every component has at least the probability `level` below it, and so
    # has the mixture.
    score = ndtri(levels)
    low = np.stack([(middle + (one - PAST) * safe).min(1) for one in score]).ravel()
    high = np.stack([(middle + (one + PAST) * safe).max(1) for one in score]).ravel()
    level, point = np.repeat(levels, len(middle)), np.tile(np.arange(len(middle)), len(levels))

    def gap(value: np.ndarray, level: np.ndarray, point: np.ndarray) -> np.ndarray:
        own = point.astype(int)
        return ndtr((value[:, None] - middle[own]) / safe[own]).mean(1) - level

    found = np.empty(low.shape)
    size = max(1, BLOCK // len(location))
    for first in range(0, len(found), size):
        part = slice(first, first + size)
        found[part] = find_root(gap, (low[part], high[part]), args=(level[part], point[part])).x
    return found.reshape(len(levels), len(middle))


def known_kind(kind: Any) -> None:
    """Refuse an unknown kind of forecast.

    Raises:
        InputError: With the known ones.
    """
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"kind must be 'mean' or 'run'; found {kind!r}.")


def refuse_unnamed(names: tuple[str, ...], at: Any) -> None:
    """Refuse inputs without names.

    Raises:
        InputError: For anything but a table, a mapping or None.
    """
    if at is not None and not isinstance(at, (pd.DataFrame, Mapping)):
        raise InputError(
            f"Inputs are given by name, e.g. predict(at={{{names[0]!r}: 1e21}}), or as a table with these columns; "
            f"found {type(at).__name__}."
        )


def as_numbers(name: str, values: Any) -> np.ndarray:
    """Return numbers as an array.

    Raises:
        InputError: For texts, and lists of unequal lengths.
    """
    try:
        found = np.asarray(values)
        numbers = found.astype(float) if found.dtype.kind in "iufO" or not found.size else None
    except (TypeError, ValueError, OverflowError):
        numbers = None
    if numbers is None:
        raise InputError(f"{name} must be numbers; found {checked.shortened(values)}.")
    return numbers


def other_inputs(unknown: str, names: tuple[str, ...], given: Mapping[str, Any] | pd.DataFrame) -> str:
    """Return advice about a given input that is not an input of the law.

    Args:
        unknown: Name of that input.
        names: Inputs of the law.
        given: All inputs of the question, by name.
    """
    sizes = [name for name in ("n_params", "n_tokens") if name in names]
    if unknown == "flops" and len(sizes) == 2:
        return (
            "Compute alone does not determine n_params and n_tokens: give both (--at n_params=...,n_tokens=...), or "
            "fit along compute (inputs=['flops'] when reading, bayescale fit --input flops)."
        )
    if unknown in COMPUTE and names == ("flops",):
        text = "This fit is along compute: give flops (--at flops=...)"
        if {"n_params", "n_tokens"} <= set(given) and all(np.size(given[name]) == 1 for name in COMPUTE[1:]):
            total = 6.0 * float(np.ravel(given["n_params"])[0]) * float(np.ravel(given["n_tokens"])[0])
            text += f", which by 6 N D is {total:.3g}"
        return f"{text}."
    return nearest(unknown, names)


def our_names[T: (pd.DataFrame, Mapping[str, Any])](given: T, names: Sequence[str]) -> T:
    """Rename inputs that are spelt as in tables of runs to the law's own names.

    A name that is not an input is recognised as in a table: `params` and `N` are n_params. It is renamed if the
    recognised name is an input, no other given name means the same, and the name contains no unit.

    Args:
        given: Inputs by name.
        names: Names of the valid inputs.

    Example:
        >>> our_names({"params": 7e9, "D": 1e12}, ("n_params", "n_tokens"))
        {'n_params': 7000000000.0, 'n_tokens': 1000000000000.0}
    """
    roles: dict[str, list[Any]] = {}
    if all(name in given for name in names):
        return given
    for name in given:
        found = heading(str(name))
        if name not in names and found.role in names and found.role not in given and found.factor == 1.0:
            roles.setdefault(found.role, []).append(name)
    renamed = {spelt[0]: role for role, spelt in roles.items() if len(spelt) == 1}
    if not renamed:
        return given
    if isinstance(given, pd.DataFrame):
        return given.rename(columns=renamed)
    return {renamed.get(name, name): value for name, value in given.items()}


def query_points(
    names: tuple[str, ...], at: At | None, inputs: Mapping[str, Any], others: Sequence[str] = ()
) -> pd.DataFrame:
    """Collect the inputs of a question into a table with one column for each of `names`.

    Args:
        names: Inputs that the law needs.
        at: A table with these columns, or scalars or arrays by name; or None.
        inputs: Scalars or arrays by name, where `at` is None; scalars are repeated.
        others: Further names that may be given instead, for messages.

    Raises:
        InputError: For missing, unknown, non-positive or unequally long inputs.
    """
    refuse_unnamed(names, at)
    if at is not None and inputs:
        raise InputError("Give inputs either in at= or by keyword, not both.")
    if isinstance(at, Mapping):
        inputs, at = at, None
    at, inputs = (None if at is None else our_names(at, names)), our_names(inputs, names)
    table = dict(inputs) if at is None else {name: at[name] for name in names if name in at}
    unknown = [name for name in inputs if name not in names]
    if unknown:
        also = tuple(name for name in others if name not in names)
        raise InputError(f"Unknown input {unknown[0]!r}. {other_inputs(unknown[0], (*names, *also), inputs)}")
    missing = [name for name in names if name not in table]
    if missing and at is not None and (others := [name for name in at if name in COMPUTE]):
        raise InputError(f"{', '.join(missing)} is missing. {other_inputs(others[0], names, at)}")
    if missing:
        raise InputError(
            f"The forecast needs {', '.join(names)}; {', '.join(missing)} is missing. "
            f"Example: at={{{', '.join(f'{name!r}: 1e10' for name in names)}}} "
            f"(--at {','.join(f'{name}=1e10' for name in names)})."
        )
    arrays = {name: lifted(name, np.atleast_1d(as_numbers(f"Inputs ({name})", table[name]))) for name in names}
    empty = [name for name, values in arrays.items() if not values.size]
    if empty:
        raise InputError(
            f"Nothing to forecast: no values were given for {', '.join(empty)}. Give at least one value for each."
        )
    length = max(len(a) for a in arrays.values())
    for name, values in arrays.items():
        if len(values) not in (1, length):
            raise InputError(f"{name} has {len(values)} values, but {length} (or 1) are expected.")
        if values.ndim > 1:
            raise InputError(f"{name} must be a number or a list of numbers; found an array of shape {values.shape}.")
        if not (np.isfinite(values) & (values > 0)).all():
            bad = values[~(np.isfinite(values) & (values > 0))]
            raise InputError(f"{name} must be positive and finite; found {some(list(bad))}.")
    return pd.DataFrame({name: np.broadcast_to(a, length) for name, a in arrays.items()})
