"""Pairs: the ratio of two recipes' losses at common scales, fitted as a response.

Two recipes that were measured at the same scales share the test set, the irreducible loss, most of the discrepancy, and
often seed and data order. These cancel in the ratio of their losses, so a fit of the ratio shows much better than two
separate fits which recipe is better. The ratio follows a power law with an exponent of either sign, whose prior is
concentrated near zero. It has its own discrepancy and noise:

    ln(y_A / y_B) = level + sum_j tilt_j ln x_j + discrepancy(ln x) + noise

`docs/evidence/decisions.md` says how well this does on published pairs, and how its numbers were chosen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpyro.distributions as dist
import pandas as pd

from bayescale._record import record, static
from bayescale.data.design import INERT_FACTOR
from bayescale.data.runs import Runs
from bayescale.fitting.fit import fit
from bayescale.forecast import Forecast
from bayescale.inference.nuts import Nuts
from bayescale.laws.law import Law, LawInfo
from bayescale.laws.priors import Level, Sample, Scene
from bayescale.model.discrepancy import Discrepancy
from bayescale.model.likelihood import Likelihood
from bayescale.posterior.fitted import Fitted

TILT = 0.02
"""Prior sd of the ratio's change over the training range due to its exponent, where ln loss decreases by 1 over it."""
DISCREPANCY = 0.0125
"""Median amplitude of the ratio's discrepancy where ln loss decreases by 1; for one recipe it is far larger."""
SPREAD = 1.6
"""Prior sd of the logarithm of that amplitude: ratios of similar recipes hardly depart from a law, others do."""
AHEAD = 0.7
SCATTER = 0.002
"""Prior median of the residual sd of the ratio."""
SEED = 0.0011
"""Prior median of the seed noise of the ratio, which comes from two runs."""
LEAST_FALL = 0.02
ALIKE = 0.10
"""Runs whose ln(input) differ by at most this count as one scale; fitted curves correct the difference."""
SETTINGS = Nuts(warmup=300, draws=1000)
"""Settings of NUTS: residual sd, seed noise and discrepancy of the ratio need many draws, and a fit is fast."""
FEWEST = 3
"""Fewest common scales from which a ratio is fitted."""


@record
class Tilts:
    """Prior of exponents of either sign, one for each input: exponent times training span is Normal(0, sd).

    Attributes:
        names: Names of the exponents, in the order of the inputs.
        sd: Standard deviation of the change of ln y over the training span of one input.
    """

    names: tuple[str, ...] = static(default=())
    sd: float = TILT

    def draw(self, sample: Sample, names: tuple[str, ...], scene: Scene) -> dict[str, Any]:
        """Draw the exponents, from the change over the span of each input."""
        return {
            name: sample(f"tilt_{name}", dist.Normal(0.0, self.sd)) / scene.spans[position]
            for position, name in enumerate(names)
        }


def one(x: Any, *, A: Any, a: Any) -> Any:
    """A x^a."""
    return A * x**a


def two(x: Any, y: Any, *, A: Any, a: Any, b: Any) -> Any:
    """A x^a y^b."""
    return A * x**a * y**b


def three(x: Any, y: Any, z: Any, *, A: Any, a: Any, b: Any, c: Any) -> Any:
    """A x^a y^b z^c."""
    return A * x**a * y**b * z**c


FUNCTIONS = {1: one, 2: two, 3: three}


def ratio_law(inputs: tuple[str, ...], sd: float) -> Law:
    """Return a signed power law of one to three inputs."""
    tilts = Tilts(("a", "b", "c")[: len(inputs)], sd)
    return Law(
        function=FUNCTIONS[len(inputs)],
        name="ratio",
        inputs=inputs,
        priors={"A": Level(), "tilts": tilts},
        response="ratio of losses",
        info=LawInfo(
            summary="Ratio of two recipes' losses, a power law of either sign.", form="ours", section="decisions"
        ),
    )


@dataclasses.dataclass(frozen=True)
class Ratio:
    """Fit of the ratio y_A / y_B.

    Attributes:
        first: Name of recipe A.
        second: Name of recipe B.
        posterior: Fit of the ratio, or None where the recipes share too few scales.
        common: Number of common scales.
        fitted: The separate fits of A and of B.
        flipped: Whether `posterior` is a fit of y_B / y_A.
        asked: Whether the user requested a comparison as if the recipes were independent.
    """

    first: str
    second: str
    posterior: Fitted | None
    common: int
    fitted: tuple[Fitted, Fitted]
    flipped: bool = False
    asked: bool = False

    @property
    def says(self) -> str:
        """Return which uncertainty the differences contain."""
        names = f"{self.first} and {self.second}"
        if self.posterior is None:
            why = "as asked"
            if (kind := self.fitted[0].runs.response_kind) != "loss":
                why = f"as recipes with {kind}s are"
            elif not self.asked:
                why = f"because they share {self.common} scales, fewer than {FEWEST}"
            return (
                f"{names} were compared as if independent, {why}: what they have in common was not removed, so the "
                "interval is too wide."
            )
        return (
            f"{names} were compared by the ratio of their losses at {self.common} common scales. The interval contains "
            "the uncertainty of that ratio: of its level, slope, discrepancy and noise. Errors that both recipes share "
            "cancel in it."
        )

    def predict(self, points: pd.DataFrame, kind: str = "mean") -> Forecast:
        """Forecast the ratio at points given by all inputs of the recipes; draws are joint over the points."""
        if self.posterior is not None:
            forecast = self.posterior.predict(points[list(self.posterior.law.inputs)], kind=kind, force=True)
            return reciprocal(forecast) if self.flipped else forecast
        a, b = (posterior.predict(points, kind=kind, force=True) for posterior in self.fitted)
        return quotient(a, b)


def reciprocal(forecast: Forecast) -> Forecast:
    """Return the forecast of 1 / y."""
    return dataclasses.replace(forecast, location=-forecast.location, log_draws=-forecast.log_draws)


def quotient(a: Forecast, b: Forecast) -> Forecast:
    """Return the forecast of y_A / y_B for independent A and B, draw by draw."""
    draws = min(len(a.location), len(b.location))
    number = [spaced(len(part.location), draws) for part in (a, b)]
    # Fits with equal seeds use the same random numbers; a random order keeps independent recipes uncorrelated.
    number[1] = np.random.default_rng(0).permutation(number[1])
    joint = [part.log_draws.reshape(-1, len(part))[chosen] for part, chosen in zip((a, b), number, strict=True)]
    return dataclasses.replace(
        a,
        location=a.location[number[0]] - b.location[number[1]],
        scale=np.hypot(a.scale[number[0]], b.scale[number[1]]),
        log_draws=(joint[0] - joint[1])[None],
        ratio=np.maximum(a.ratio, b.ratio),
        below=np.where(b.ratio > a.ratio, b.below, a.below),
        label=f"{a.label} over {b.label}",
    )


def spaced(count: int, wanted: int) -> np.ndarray:
    """Return `wanted` evenly spaced indices of `count` draws; indices repeat where there are fewer draws."""
    return np.arange(wanted) * count // wanted


def pair(names: tuple[str, str], a: Fitted, b: Fitted, *, seed: int = 0, settings: Nuts | None = None) -> Ratio:
    """Fit the ratio of two recipes at their common scales.

    Args:
        names: Names of the recipes; the ratio is the loss of the first divided by that of the second.
        a: Fit of the first recipe, which contains its runs.
        b: Fit of the second recipe.
        seed: Seed of the fit of the ratio.
        settings: Warm-up steps and draws of NUTS; by default twice as many draws as for other fits.

    Returns:
        The fitted ratio; where fewer than three scales are common, only the two separate fits.
    """
    # Recipes are put in alphabetical order, so that exchanging them exchanges the answers and changes nothing else.
    if names[0] > names[1]:
        found = pair((names[1], names[0]), b, a, seed=seed, settings=settings)
        return dataclasses.replace(found, first=names[0], second=names[1], fitted=(a, b), flipped=True)
    table = common_runs(a, b)
    inputs = [name for name in a.law.inputs if name in table and moves(table[name])]
    scales = table[inputs].drop_duplicates() if inputs else table.iloc[:0]
    if len(scales) < FEWEST or len(inputs) > len(FUNCTIONS):
        return Ratio(*names, None, len(scales), (a, b))
    root = float(np.sqrt(net_fall(table, inputs)))
    posterior = fit(
        Runs.from_frame(table[[*inputs, "loss"]], inputs=inputs, name=f"{names[0]} over {names[1]}"),
        ratio_law(tuple(inputs), TILT * root),
        seed=seed,
        discrepancy=ratio_discrepancy(DISCREPANCY * root),
        likelihood=Likelihood(residual_sd=SCATTER, residual_spread=1.0, seed_sd=SEED),
        settings=settings or SETTINGS,
    )
    return Ratio(*names, posterior, len(scales), (a, b))


def ratio_discrepancy(median: float) -> Discrepancy:
    """Return the prior of a ratio's discrepancy with this median amplitude, alike for all inputs."""
    plain = {"ahead_median": 1.0, "ahead_power": 0.0, "trend": 0.0, "interaction": 0.0}
    return Discrepancy(median=median, power=0.0, sd=SPREAD, ahead=AHEAD, **plain)


def moves(values: pd.Series) -> bool:
    """Return whether an input varies enough to be fitted."""
    return bool(values.max() > INERT_FACTOR * values.min())


def common_runs(a: Fitted, b: Fitted) -> pd.DataFrame:
    """Return the runs of both recipes at common scales: inputs, `loss` (the ratio) and `level` (the mean ln loss).

    Runs are joined by seed where both recipes name their seeds, and averaged at each scale otherwise. Scales up to 10 %
    apart count as common: both losses are moved to the geometric mean of the scales along each recipe's fitted curve.
    """
    inputs = [name for name in a.law.inputs if name in b.law.inputs]
    if not inputs or set(a.law.inputs) != set(b.law.inputs):
        return pd.DataFrame(columns=[*inputs, "loss", "level"])
    tables = [averaged(posterior, inputs) for posterior in (a, b)]
    if all("seed" in table for table in tables) and set(tables[0]["seed"]) & set(tables[1]["seed"]):
        groups = [dict(iter(table.groupby("seed"))) for table in tables]
        shared = [seed for seed in groups[0] if seed in groups[1]]
        matches = [(groups[0][seed], groups[1][seed]) for seed in shared]
    else:
        matches = [tuple(averaged(posterior, inputs, seeds=False) for posterior in (a, b))]
    rows = []
    for left, right in matches:
        for i, j in nearest_scales(left[inputs].to_numpy(float), right[inputs].to_numpy(float)):
            rows.append([*left.iloc[i][inputs], *right.iloc[j][inputs], left.iloc[i]["log"], right.iloc[j]["log"]])
    if not rows:
        return pd.DataFrame(columns=[*inputs, "loss", "level"])
    values = np.asarray(rows, float)
    size = len(inputs)
    there = [pd.DataFrame(values[:, k * size : (k + 1) * size], columns=inputs) for k in (0, 1)]
    here = pd.DataFrame(np.sqrt(there[0].to_numpy() * there[1].to_numpy()), columns=inputs)
    logs = [moved(p, x, here, y) for p, x, y in zip((a, b), there, values[:, -2:].T, strict=True)]
    return here.assign(loss=np.exp(logs[0] - logs[1]), level=0.5 * (logs[0] + logs[1]))


def averaged(posterior: Fitted, inputs: Sequence[str], *, seeds: bool = True) -> pd.DataFrame:
    """Return the mean ln loss at each scale; with named seeds, at each scale for each seed."""
    frame = posterior.runs.frame
    keys = [*inputs, *(["seed"] if seeds and "seed" in frame else [])]
    return frame.assign(log=np.log(frame["loss"])).groupby(keys, as_index=False, sort=True)["log"].mean()


def nearest_scales(x: np.ndarray, y: np.ndarray) -> list[tuple[int, int]]:
    """Return pairs of row numbers of two tables of inputs at the same scales, nearest first; no row is used twice."""
    gap = np.abs(np.log(x)[:, None] - np.log(y)[None]).max(-1)
    found: dict[int, int] = {}
    for i, j in zip(*np.unravel_index(np.argsort(gap, axis=None, kind="stable"), gap.shape), strict=True):
        if gap[i, j] > ALIKE:
            break
        if i not in found and j not in found.values():
            found[int(i)] = int(j)
    return sorted(found.items())


def moved(posterior: Fitted, there: pd.DataFrame, here: pd.DataFrame, log: np.ndarray) -> np.ndarray:
    """Move ln losses from the measured scales to nearby ones, along the fitted curve."""
    if np.allclose(there, here, rtol=1e-9):
        return log
    both = posterior.predict(pd.concat([there, here], ignore_index=True), kind="mean", force=True).location.mean(0)
    return log + both[len(there) :] - both[: len(there)]


def net_fall(table: pd.DataFrame, inputs: Sequence[str]) -> float:
    """Return the decrease of ln loss, averaged over recipes, when all inputs cross their spans.

    At least `LEAST_FALL`.
    """
    x = np.log(table[list(inputs)].to_numpy(float))
    design = np.column_stack([np.ones(len(x)), (x - x.min(0)) / np.ptp(x, axis=0)])
    slopes = np.linalg.lstsq(design, table["level"].to_numpy(float), rcond=None)[0][1:]
    return max(-float(slopes.sum()), LEAST_FALL)
