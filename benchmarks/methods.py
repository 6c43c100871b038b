"""Methods: our default, and rivals that are given the same runs and iterated until nearly all come to rest.

A method takes problems and returns, for each, an equal mixture of normal distributions of ln(loss) at the held-out
inputs, for one future run. Rivals that state an interval of the curve alone get their residual scatter added, because
that is what a held-out run shows; without it they would look worse than they are.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from scipy.stats import chi2

import bayescale as bs
from bayescale._jax import bucket, padded
from bayescale.fitting.executors import own_executor
from bayescale.model.discrepancy import ALONG, default_discrepancy
from benchmarks import least_squares as ls
from benchmarks.problems import Problem, scale

BOOTSTRAPS = 100
FEWEST_SCORES = 10
"""Fewest families that a conformal interval may rest on; with fewer, other splits and groups join in."""
MIXTURE = 101
"""Normals that stand for a Student-t."""
SMALLEST = 1e-6
"""Loss that stands for one that is not positive."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """Forecast of the held-out runs of one problem.

    Attributes:
        location: Means of the components, shape (draw, held).
        scale: Their standard deviations, shape (draw, held).
        status: "OK", or what went wrong.
        seconds: Time spent on this problem.
        notes: Codes of the warnings of `check()`, ours only.
    """

    location: np.ndarray
    scale: np.ndarray
    status: str
    seconds: float
    notes: tuple[str, ...] = ()


def seed_of(problem: Problem) -> int:
    """Seed of a problem, the same in every run and for every method."""
    return int(hashlib.sha256(problem.key.encode()).hexdigest()[:7], 16)


def runs_of(problem: Problem) -> bs.Runs:
    """Training runs as the package takes them."""
    return bs.Runs.from_frame(problem.train, inputs=problem.inputs, name=problem.key)


# --- Ours ---------------------------------------------------------------------------------------------------


def sampled(problems: Sequence[Problem], **options: Any) -> Iterator[Prediction]:
    """Posterior forecasts with the given law, discrepancy and noise."""
    return forecast_with(problems, lambda runs, seed: bs.fit(runs, seed=seed, **options))


def forecast_with(problems: Sequence[Problem], fit: Callable[[bs.Runs, int], bs.Fitted]) -> Iterator[Prediction]:
    """Forecasts of what a function fits to runs with a seed."""

    def one(problem: Problem) -> Prediction:
        begin = time.perf_counter()
        posterior = fit(runs_of(problem), seed_of(problem))
        whole = posterior.predict(problem.held, kind="run")
        if "value_se" in problem.held:
            whole = whole.measured(problem.held["value_se"].to_numpy(float))
        step = max(1, len(whole.location) // 1000)
        forecast = dataclasses.replace(whole, location=whole.location[::step], scale=whole.scale[::step])
        notes = tuple(note.code for note in posterior.check(forecast) if note.severity == "warning")
        spent = time.perf_counter() - begin
        return Prediction(forecast.location, forecast.scale, posterior.status.name, spent, notes)

    with own_executor(len(problems)) as pool:
        yield from pool.map(one, problems)


def default(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """The default, as `bayescale.backtest` samples it: by importance, and by NUTS where weights deserve no trust."""
    return sampled(problems, method="auto")


def cautious(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """An equal mixture of fits with discrepancy along the inputs and along their common scale."""

    def both(runs: bs.Runs, seed: int) -> bs.Mixture:
        discrepancies = [dataclasses.replace(default_discrepancy(len(runs.inputs)), along=along) for along in ALONG]
        return bs.Mixture(
            tuple(
                bs.fit(runs, seed=seed, discrepancy=discrepancy, method="auto").first for discrepancy in discrepancies
            )
        )

    return forecast_with(problems, both)


def sampled_m4(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """NUTS on M4, a power law between a ceiling and a floor, with normal noise and no discrepancy."""
    law = bs.laws.get("two_sided_power")
    return sampled(problems, law=law, discrepancy=None, likelihood="normal")


def no_discrepancy(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """NUTS on the usual law with Student-t noise and no discrepancy: careful Bayes that trusts the law."""
    noise = bs.Likelihood(tail=4.0)
    names = {1: "saturating_power", 2: "chinchilla", 3: "three_input_outer"}
    for problem in problems:
        law = bs.laws.renamed(bs.laws.get(names[len(problem.inputs)]), problem.inputs)
        yield from sampled([problem], law=law, discrepancy=None, likelihood=noise)


# --- Least squares and its bootstraps ------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Setting:
    """A problem as least squares sees it."""

    z: np.ndarray
    y: np.ndarray
    new: np.ndarray
    mask: np.ndarray
    grid: np.ndarray

    @property
    def rows(self) -> int:
        """Training rows without padding."""
        return int(self.mask.sum())


def setting(problem: Problem) -> Setting:
    """Standardise the inputs, and pad rows to a power of two so that few programs are compiled."""
    names = list(problem.inputs)
    x, new = np.log(problem.train[names].to_numpy(float)), np.log(problem.held[names].to_numpy(float))
    span = np.maximum(np.ptp(x, axis=0), np.log(2.0))
    size = bucket(len(x))
    return Setting(
        z=padded((x - x.mean(0)) / span, size),
        y=padded(np.log(problem.train["loss"].to_numpy(float)), size),
        new=(new - x.mean(0)) / span,
        mask=padded(np.ones(len(x)), size),
        grid=ls.starts(len(names)),
    )


def solve(case: Setting, y: np.ndarray, weight: np.ndarray, delta: float = np.inf, keep: int = ls.STARTS) -> ls.Fit:
    """Fit a batch of responses, all starts to the end."""
    steps = ls.STEPS if np.isinf(delta) else ls.HUBER_STEPS
    with jax.enable_x64(True):
        fit = ls.fit_batch(y, case.z, weight, case.grid, delta, steps, min(keep, len(case.grid)))
        return jax.tree.map(np.asarray, fit)


def at_new(case: Setting, theta: np.ndarray) -> np.ndarray:
    """Curves at the held-out inputs, shape (batch, held)."""
    rows = len(case.new)
    with jax.enable_x64(True):
        return np.asarray(ls.values(theta, padded(case.new, bucket(rows))))[:, :rows]


def fitted(case: Setting, theta: np.ndarray) -> np.ndarray:
    """Curve at the training rows, shape (row,), padding included."""
    with jax.enable_x64(True):
        return np.asarray(ls.values(theta[None], case.z))[0]


def least_squares(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """Least squares of ln(loss), delta method, Student-t: the textbook interval of a fitted curve."""
    for problem in problems:
        begin = time.perf_counter()
        case = setting(problem)
        fit = solve(case, case.y[None], case.mask[None])
        theta = fit.theta[0]
        freedom = max(case.rows - len(theta), 1)
        variance = 2.0 * fit.cost[0] / freedom + 1e-12
        with jax.enable_x64(True):
            slope = np.asarray(ls.slopes(theta, case.z))[: case.rows]
            ahead = np.asarray(ls.slopes(theta, case.new))
        covariance = variance * np.linalg.pinv(slope.T @ slope, rcond=1e-10)
        spread = np.sqrt(np.einsum("pi,ij,pj->p", ahead, covariance, ahead) + variance)
        location, wide = student(at_new(case, fit.theta)[0], spread, freedom)
        yield Prediction(location, wide, status(fit), time.perf_counter() - begin)


def student(center: np.ndarray, spread: np.ndarray, freedom: float) -> tuple[np.ndarray, np.ndarray]:
    """A Student-t as a mixture of normals with one centre, shapes (MIXTURE, held)."""
    levels = (np.arange(MIXTURE) + 0.5) / MIXTURE
    factors = np.sqrt(freedom / chi2.ppf(levels, freedom))
    return np.broadcast_to(center, (MIXTURE, len(center))), factors[:, None] * spread


def status(fit: ls.Fit) -> str:
    """Say whether nearly all fits of a batch had come to rest."""
    return "OK" if np.mean(fit.converged) >= 0.95 else "UNCONVERGED"


def residual_bootstrap(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """Refit after resampling the residuals, widened by sqrt(n / (n - p))."""

    def resample(residual: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rng.choice(residual, (BOOTSTRAPS, len(residual)))

    return (bootstrapped(problem, resample) for problem in problems)


def wild_bootstrap(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """Refit after multiplying each residual by a random sign and size (Webb's six points)."""
    points = np.sqrt([0.5, 1.0, 1.5])

    def resample(residual: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return residual * rng.choice(np.concatenate([-points, points]), (BOOTSTRAPS, len(residual)))

    return (bootstrapped(problem, resample) for problem in problems)


def bootstrapped(problem: Problem, resample: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Prediction:
    """Bootstrap of residuals around the least-squares fit."""
    begin = time.perf_counter()
    rng = np.random.default_rng(seed_of(problem))
    case = setting(problem)
    first = solve(case, case.y[None], case.mask[None])
    rows, theta = case.rows, first.theta[0]
    middle = fitted(case, theta)
    residual = (case.y - middle)[:rows] * np.sqrt(rows / max(rows - len(theta), 1))
    y = np.tile(middle * case.mask, (BOOTSTRAPS, 1))
    y[:, :rows] += resample(residual - residual.mean(), rng)
    again = solve(case, y, np.tile(case.mask, (BOOTSTRAPS, 1)))
    return Prediction(*with_scatter(at_new(case, again.theta), residual), status(again), time.perf_counter() - begin)


def with_scatter(curves: np.ndarray, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add the residual scatter of single runs to bootstrapped curves."""
    return curves, np.full_like(curves, np.sqrt(np.mean(residual**2) + 1e-12))


def huber_bootstrap(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """Huber's loss at 1e-3 on ln(loss) from a grid of starts, runs resampled (hoffmann2022training, besiroglu2024)."""
    for problem in problems:
        begin = time.perf_counter()
        rng = np.random.default_rng(seed_of(problem))
        case = setting(problem)
        counts = rng.multinomial(case.rows, np.full(case.rows, 1.0 / case.rows), BOOTSTRAPS)
        weight = np.zeros((BOOTSTRAPS + 1, len(case.y)))
        weight[0], weight[1:, : case.rows] = case.mask, counts
        fit = solve(case, np.tile(case.y, (BOOTSTRAPS + 1, 1)), weight, delta=1e-3, keep=2)
        residual = (case.y - fitted(case, fit.theta[0]))[: case.rows]
        residual = residual * np.sqrt(case.rows / max(case.rows - fit.theta.shape[1], 1))
        location, spread = with_scatter(at_new(case, fit.theta[1:]), residual)
        yield Prediction(location, spread, status(fit), time.perf_counter() - begin)


# --- Another package ------------------------------------------------------------------------------------------


def simple_scaling_laws(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """The package simple-scaling-laws as it comes, its interval of one new run (below zero: 1e-6, which CRPS pays for).

    It fits a sum of power laws and a floor. Its forecast is drawn from the curve and the runs of a wild cluster
    bootstrap; quantiles of it stand for it here.
    """
    import polars as pl
    from simple_scaling_laws import fit

    levels = (np.arange(MIXTURE) + 0.5) / MIXTURE
    for problem in problems:
        begin = time.perf_counter()
        roles = {name: f"{'model' if 'param' in name else 'dataset'}_size__{name}" for name in problem.inputs}
        train, held = (
            pl.DataFrame({role: rows[name].to_numpy(float) for name, role in roles.items()})
            for rows in (problem.train, problem.held)
        )
        names = pl.Series("training_run_id", [str(i) for i in range(len(train))])
        loss = pl.Series("test_loss__loss", problem.train["loss"].to_numpy(float))
        try:
            model = fit(train.with_columns(names, loss), seed=0)
            with warnings.catch_warnings():
                # It says at each forecast that it is one.
                warnings.simplefilter("ignore")
                table = model.predict(held, kind="new-run", quantiles=levels.tolist())
            found = np.column_stack([table[name] for name in table.columns if name.startswith("test_loss__loss__")])
            # It knows no positive responses, so its bands may reach below zero.
            location, state = np.log(np.maximum(np.sort(found, axis=1).T, SMALLEST)), "OK"
        except ValueError:
            location, state = np.full((MIXTURE, len(held)), np.nan), "REFUSED"
        width = np.maximum(np.gradient(location, axis=0), 1e-6)
        yield Prediction(location, width, state, time.perf_counter() - begin)


# --- Without a law ------------------------------------------------------------------------------------------


def gaussian_process(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """Gaussian process on ln(loss) against ln(x): linear mean, squared-exponential kernel, noise.

    Length scale, amplitude and noise are averaged over a grid by their evidence, so nothing is left to an optimiser.
    """
    lengths = np.geomspace(0.15, 4.0, 10)
    ratios = np.geomspace(1e-6, 10.0, 12)
    for problem in problems:
        begin = time.perf_counter()
        case = setting(problem)
        z, y, new = case.z[: case.rows], case.y[: case.rows], case.new
        center = y.mean()
        gap = ((z[:, None] - z[None]) ** 2).sum(-1)
        cross = ((new[:, None] - z[None]) ** 2).sum(-1)
        basis = 100.0 * (1.0 + z @ z.T)
        ahead = 100.0 * (1.0 + new @ z.T)
        own = 100.0 * (1.0 + (new**2).sum(1))
        parts = []
        for length in lengths:
            kernel, kernel_new = np.exp(-0.5 * gap / length**2), np.exp(-0.5 * cross / length**2)
            for ratio in ratios:
                covariance = basis + kernel + (ratio + 1e-9) * np.eye(case.rows)
                factor = np.linalg.cholesky(covariance)
                solved = np.linalg.solve(covariance, y - center)
                # The overall variance has a weak inverse-gamma prior and is integrated out.
                shape, rate = 1.0 + 0.5 * case.rows, 1e-4 + 0.5 * (y - center) @ solved
                evidence = -np.log(np.diagonal(factor)).sum() - shape * np.log(rate)
                mean = center + (ahead + kernel_new) @ solved
                gain = np.linalg.solve(covariance, (ahead + kernel_new).T)
                spread = own + 1.0 + ratio - ((ahead + kernel_new) * gain.T).sum(1)
                parts.append((evidence, mean, np.sqrt(np.maximum(spread, 1e-12) * rate / shape)))
        evidence = np.array([part[0] for part in parts])
        weight = np.exp(evidence - evidence.max())
        counts = np.floor(500 * weight / weight.sum() + 0.5).astype(int)
        counts[np.argmax(weight)] += counts.sum() == 0
        means = np.repeat([part[1] for part in parts], counts, axis=0)
        spreads = np.repeat([part[2] for part in parts], counts, axis=0)
        factors = np.sqrt(2.0 * shape / chi2.ppf((np.arange(len(means)) + 0.5) / len(means), 2.0 * shape))
        order = np.random.default_rng(0).permutation(len(means))
        yield Prediction(means, spreads * factors[order, None], "OK", time.perf_counter() - begin)


def last_slope(problems: Sequence[Problem]) -> Iterator[Prediction]:
    """Straight line through the largest third of the points (three at least) on log-log axes, Student-t interval."""
    for problem in problems:
        begin = time.perf_counter()
        order = np.argsort(scale(problem.train, problem.inputs))
        size = len(problem.inputs) + 1
        kept = order[-max(size + 1, len(order) // 3) :]
        case = setting(problem)
        design = np.column_stack([np.ones(case.rows), case.z[: case.rows]])[kept]
        y = case.y[: case.rows][kept]
        ahead = np.column_stack([np.ones(len(case.new)), case.new])
        coefficient = np.linalg.lstsq(design, y, rcond=1e-8)[0]
        freedom = max(len(y) - size, 1)
        variance = ((y - design @ coefficient) ** 2).sum() / freedom + 1e-12
        inverse = np.linalg.pinv(design.T @ design, rcond=1e-8)
        spread = np.sqrt(variance * (1.0 + np.einsum("pi,ij,pj->p", ahead, inverse, ahead)))
        yield Prediction(*student(ahead @ coefficient, spread, freedom), "OK", time.perf_counter() - begin)


def conformal(problems: Sequence[Problem], base: Sequence[Prediction] | None = None) -> Iterator[Prediction]:
    """Least squares with intervals from the errors that it made on families of all other sources.

    Signed errors in units of the stated spread are exchanged between families of one group and split, one source left
    out at a time (a split conformal forecast across families). It alone learns from outcomes of other families.
    """
    fits = list(least_squares(problems)) if base is None else base
    levels = (np.arange(5) + 0.5) / 5
    errors: dict[tuple[str, str], dict[str, list[np.ndarray]]] = {}
    for problem, fit in zip(problems, fits, strict=True):
        center, spread = fit.location[0], np.median(fit.scale, axis=0)
        # Five quantiles of each problem, so that one with many held-out runs counts no more than another.
        error = np.quantile((np.log(problem.held["loss"].to_numpy(float)) - center) / spread, levels)
        for cell in ((problem.group, problem.split), (problem.group, "any")):
            errors.setdefault(cell, {}).setdefault(root(problem), []).append(error)
    for problem, fit in zip(problems, fits, strict=True):
        pool: list[np.ndarray] = []
        for cell in ((problem.group, problem.split), (problem.group, "any"), *errors):
            if len(pool) < FEWEST_SCORES:
                pool = [e for source, found in errors[cell].items() if source != root(problem) for e in found]
        if not pool:
            pool = [np.zeros(1)]
        scores = np.quantile(np.concatenate(pool), (np.arange(MIXTURE) + 0.5) / MIXTURE)
        center, spread = fit.location[0], np.median(fit.scale, axis=0)
        location = center + scores[:, None] * spread
        width = np.maximum(np.gradient(scores), 1e-3)[:, None] * spread
        yield Prediction(location, width, fit.status, fit.seconds)


def root(problem: Problem) -> str:
    """Source of a problem; both halves of LCDB are one."""
    return problem.source.split()[0]


def several(problem: Problem) -> bool:
    """Whether a problem has several inputs."""
    return len(problem.inputs) > 1


def single(problem: Problem) -> bool:
    """Whether a problem has one input."""
    return len(problem.inputs) == 1


METHODS: dict[str, Callable[[Sequence[Problem]], Iterable[Prediction]]] = {
    "bayescale": default,
    "least squares": least_squares,
    "huber bootstrap": huber_bootstrap,
    "residual bootstrap": residual_bootstrap,
    "wild bootstrap": wild_bootstrap,
    "NUTS without discrepancy": no_discrepancy,
    "gaussian process": gaussian_process,
    "last slope": last_slope,
    "conformal": conformal,
    "bayescale, cautious": cautious,
    "M4 by NUTS": sampled_m4,
    "simple-scaling-laws": simple_scaling_laws,
}
"""Every method of the record."""
EXTRA = ("simple-scaling-laws",)
"""Methods that need the extra `peers` and take hours, so they are run where they are named only."""
PARTIAL: dict[str, Callable[[Problem], bool]] = {
    "bayescale, cautious": several,
    "M4 by NUTS": single,
    "simple-scaling-laws": lambda problem: True,
}
"""Methods that are made for some problems, or cost too much for all, with the problems that they suit; each is compared
with the default alone, on the problems that it has."""
