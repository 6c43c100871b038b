"""Peers: what other tools need for one family, each used as its own documentation says and run until it converged.

The samplers are given our model of one input, with discrepancy: the law E + A x^-c relative to its level, a
Gaussian-process discrepancy, scatter and seed noise. Point fitters and bootstraps are given their own, simpler model
of the same data. Nothing here is imported by the package; `pip install -e '.[peers]'` brings what it needs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import bayescale as bs
from bayescale.model.numpyro import component_model
from bayescale.model.prepare import make_job

STARTED = "BAYESCALE_SPEED_STARTED"
"""Name of the environment variable with the time at which a measuring process was started."""
LAW = "saturating_power"
WARMUP, DRAWS, CHAINS = 1000, 2000, 4
"""Lengths with which every MCMC peer reaches R-hat below 1.01 here."""
STARTS = 200
REPLICATES = 1000
MEASURED = 4
"""Bootstrap replicates that are measured; the rest is multiplication."""
GRID_STARTS = (2**5, 5**5)
"""Starts of chinchilla's search that are measured, and those of the grid that its manual shows."""


def smallest_ess(draws: dict[str, np.ndarray]) -> tuple[float, float]:
    """Smallest bulk effective sample size and largest R-hat over scalar quantities of shape (chain, draw)."""
    from arviz_stats.base import array_stats

    axes = {"chain_axis": 0, "draw_axis": 1}
    ess = [float(np.min(array_stats.ess(v, method="bulk", **axes))) for v in draws.values()]
    rhat = [float(np.max(array_stats.rhat(v, **axes))) for v in draws.values()]
    return min(ess), max(rhat)


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of single calls, and from the start of the process to the end of the first one (None if unknown)."""

    calls: list[float]
    cold: float | None


def since_start() -> float | None:
    """Seconds since `speed` started this process, or None in any other process."""
    return time.time() - float(os.environ[STARTED]) if STARTED in os.environ else None


def timed(function: Callable[[], Any], times: int = 2) -> tuple[Times, Any]:
    """Time the first and later calls; also return the last result."""
    seconds, result, cold = [], None, None
    for number in range(times):
        begin = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - begin)
        cold = since_start() if number == 0 else cold
    return Times(seconds, cold), result


def record(name: str, seconds: Times, draws: dict[str, np.ndarray] | None, **more: Any) -> dict[str, Any]:
    """One row of results."""
    row = {"peer": name, "first": seconds.calls[0], "later": seconds.calls[-1], "cold": seconds.cold, **more}
    if draws is not None:
        row["ess"], row["rhat"] = smallest_ess(draws)
    return row


def flat(draws: dict[str, Any]) -> dict[str, np.ndarray]:
    """Scalar quantities of a posterior, vectors taken apart."""
    result = {}
    for name, values in draws.items():
        values = np.asarray(values, float)
        if values.ndim == 2:
            result[name] = values
        elif values.ndim == 3:
            result |= {f"{name}{i}": values[..., i] for i in range(values.shape[2])}
    return {name: values for name, values in result.items() if np.ptp(values) > 0}


def numpyro_fresh(runs: bs.Runs) -> dict[str, Any]:
    """A fresh `MCMC(NUTS(model))` for every data set, as most notebooks write it."""
    return numpyro_with(runs, "NumPyro, fresh MCMC", jit_model_args=False)


def numpyro_reused(runs: bs.Runs) -> dict[str, Any]:
    """One `MCMC` object run again, with `jit_model_args`."""
    return numpyro_with(runs, "NumPyro, one MCMC with jit_model_args", jit_model_args=True)


def numpyro_with(runs: bs.Runs, name: str, jit_model_args: bool) -> dict[str, Any]:
    """Run stock NumPyro on the very same model."""
    import jax
    from numpyro.infer import MCMC, NUTS

    job = make_job(runs, LAW)
    model = component_model(job)

    def fresh() -> MCMC:
        kernel = NUTS(model, dense_mass=True, target_accept_prob=0.95)
        options = {"num_warmup": WARMUP, "num_samples": DRAWS, "num_chains": CHAINS, "progress_bar": False}
        return MCMC(kernel, chain_method="sequential", jit_model_args=jit_model_args, **options)

    kept = fresh()

    def sample() -> dict[str, Any]:
        mcmc = kept if jit_model_args else fresh()
        mcmc.run(jax.random.key(0))
        return mcmc.get_samples(group_by_chain=True)

    with jax.enable_x64(True):
        seconds, draws = timed(sample)
    return record(name, seconds, flat(draws))


def blackjax_nuts(runs: bs.Runs) -> dict[str, Any]:
    """BlackJAX's window adaptation and NUTS on our log density, jitted as a whole."""
    import blackjax
    import jax

    from bayescale.model.density import log_density
    from bayescale.model.parameters import prior_center

    job = make_job(runs, LAW)
    with jax.enable_x64(True):
        start = prior_center(job.model, job.problem)

        def density(position: Any) -> Any:
            return log_density(position, job.model, job.problem)

        def chain(key: Any) -> Any:
            warm, draw, jitter = jax.random.split(key, 3)
            adapt = blackjax.window_adaptation(
                blackjax.nuts, density, is_mass_matrix_diagonal=False, target_acceptance_rate=0.95
            )
            first = start + 0.1 * jax.random.normal(jitter, start.shape)
            (state, parameters), _ = adapt.run(warm, first, num_steps=WARMUP)
            kernel = blackjax.nuts(density, **parameters)

            def step(state: Any, key: Any) -> tuple[Any, Any]:
                state, _ = kernel.step(key, state)
                return state, state.position

            return jax.lax.scan(step, state, jax.random.split(draw, DRAWS))[1]

        def sample() -> np.ndarray:
            # A new function each time, as for a new data set.
            keys = jax.random.split(jax.random.key(0), CHAINS)
            program = jax.jit(lambda keys: jax.lax.map(chain, keys))
            return np.asarray(jax.block_until_ready(program(keys)))

        seconds, draws = timed(sample)
    return record("BlackJAX", seconds, flat({"position": draws}))


def pymc_model(runs: bs.Runs) -> Any:
    """Write the same law, discrepancy and noise in PyMC, with the same priors."""
    import pymc as pm
    import pytensor.tensor as pt

    job = make_job(runs, LAW)
    rows = int(job.problem.mask.sum())
    z, y = job.problem.z[:rows, 0], job.problem.y[:rows]
    found = job.problem.evaluation.basis
    basis, power = found.vectors[:rows, :rows], found.eigenvalues[:rows]
    kernel = (basis * power) @ basis.T
    span, discrepancy, noise = float(job.problem.span[0]), job.discrepancy, job.likelihood
    assert discrepancy is not None and noise.seed_sd is not None
    with pm.Model() as model:
        share = pm.math.sigmoid(pm.Normal("share", 0.0, 1.5))
        fall = pm.math.exp(pm.Normal("log_fall", np.log(0.4), 1.2))
        # The fall is -d ln f over one span at the reference, so the exponent follows from it and the share.
        c = fall / (span * (1.0 - share))
        level = pm.Normal("level", 0.0, 0.3)
        curve = pt.log(share + (1.0 - share) * pt.exp(-c * z))
        middle = np.log(discrepancy.median) + discrepancy.power * (pt.log(fall) - np.log(discrepancy.scale))
        amplitude = pm.math.exp(middle + discrepancy.sd * pm.Normal("discrepancy", 0.0, 1.0))
        scatter = pm.math.exp(pm.Normal("log_residual_sd", np.log(noise.residual_sd), noise.residual_spread))
        seed = pm.math.exp(pm.Normal("log_seed_sd", np.log(noise.seed_sd), noise.seed_spread))
        covariance = amplitude**2 * kernel + (scatter**2 + seed**2 + 1e-10) * pt.eye(rows)
        pm.MvNormal("y", level + curve, cov=covariance, observed=y)
    return model


def pymc_own(runs: bs.Runs) -> dict[str, Any]:
    """`pm.sample` with PyMC's own NUTS."""
    return pymc_with(runs, "PyMC", "pymc")


def pymc_nutpie(runs: bs.Runs) -> dict[str, Any]:
    """nutpie, the fastest sampler of PyMC models."""
    return pymc_with(runs, "nutpie", "nutpie")


def pymc_with(runs: bs.Runs, name: str, sampler: str) -> dict[str, Any]:
    """Sample the PyMC model; compiling is part of every new data set there."""
    import pymc as pm

    def sample() -> Any:
        with pymc_model(runs), contextlib.redirect_stdout(io.StringIO()):
            options = {"draws": DRAWS, "tune": WARMUP, "chains": CHAINS, "cores": 2, "random_seed": 0}
            return pm.sample(**options, target_accept=0.95, nuts_sampler=sampler, progressbar=False)

    seconds, found = timed(sample)
    posterior = found["posterior"]
    draws = {str(key): posterior[key].to_numpy() for key in posterior.data_vars}
    return record(name, seconds, flat(draws))


# --- Point fits and bootstraps -------------------------------------------------------------------------------


def bootstrap(runs: bs.Runs) -> dict[str, Any]:
    """Huber loss of the floor law from a grid of starts, and resampled runs: the usual interval, converged."""
    from scipy.optimize import minimize

    x = np.log(runs.frame[runs.inputs[0]].to_numpy(float))
    x, y = x - x.mean(), np.log(runs.frame["loss"].to_numpy(float))
    rng = np.random.default_rng(0)
    starts = rng.normal([y.min() - 1.0, y.mean() - 1.0, np.log(0.15)], [1.0, 1.0, 0.7], (STARTS, 3))

    def loss(theta: np.ndarray, pick: np.ndarray) -> tuple[float, np.ndarray]:
        floor, rest, c = np.exp(theta)
        term = rest * np.exp(-c * x[pick])
        total = floor + term
        gap = np.log(total) - y[pick]
        huber = np.where(np.abs(gap) < 1e-3, 0.5 * gap**2, 1e-3 * (np.abs(gap) - 5e-4))
        slope = np.clip(gap, -1e-3, 1e-3) / total
        # Scaled up, since the optimiser's own tolerance is made for losses near one.
        gradient = np.array([(slope * floor).sum(), (slope * term).sum(), (-slope * term * c * x[pick]).sum()])
        return 1e6 * float(huber.sum()), 1e6 * gradient

    def replicate(number: int) -> float:
        pick = np.random.default_rng(number).integers(len(x), size=len(x))
        return min(minimize(loss, start, (pick,), jac=True, method="L-BFGS-B").fun for start in starts)

    seconds, _ = timed(lambda: [replicate(number) for number in range(MEASURED)], times=1)
    each = seconds.calls[0] / MEASURED
    note = f"{MEASURED} of {REPLICATES} replicates measured"
    return record(f"bootstrap, {STARTS} starts x {REPLICATES}", Times([each * REPLICATES], None), None, note=note)


def chinchilla_grid(runs: bs.Runs) -> dict[str, Any]:
    """The `chinchilla` package: a point fit from a grid of starts, no interval."""
    from chinchilla import Chinchilla

    measured, shown = GRID_STARTS
    sides = {
        "E": np.linspace(1.1, 1.5, 2),
        "A": np.linspace(1.0, 6.0, 2),
        "B": np.linspace(1.0, 10.0, 2),
        "alpha": np.linspace(0.1, 0.7, 2),
        "beta": np.linspace(0.1, 0.7, 2),
    }
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        fitter = Chinchilla(folder, param_grid=sides, log_level=40)
        for row in runs.frame.itertuples():
            fitter.append(N=row.n_params, D=row.n_tokens, C=6 * row.n_params * row.n_tokens, loss=row.loss)
        seconds, _ = timed(lambda: fitter.fit(parallel=False), times=1)
    note = f"{measured} of {shown} starts measured"
    return record("chinchilla, grid of its manual", Times([seconds.calls[0] * shown / measured], None), None, note=note)


def simple_scaling_laws(runs: bs.Runs) -> dict[str, Any]:
    """The `simple-scaling-laws` package: wild cluster bootstrap, 1,000 draws."""
    import polars as pl
    from simple_scaling_laws import fit

    frame = runs.frame
    table = pl.DataFrame(
        {
            "training_run_id": [str(i) for i in range(len(frame))],
            "model_size__n_params": frame["n_params"].to_numpy(),
            "dataset_size__n_tokens": frame["n_tokens"].to_numpy(),
            "test_loss__loss": frame["loss"].to_numpy(),
        }
    )
    seconds, _ = timed(lambda: fit(table, law="separable-power", n_draws=REPLICATES, seed=0))
    return record("simple-scaling-laws, 1,000 draws", seconds, None)


ONE_INPUT = {
    "numpyro_fresh": numpyro_fresh,
    "numpyro_reused": numpyro_reused,
    "blackjax": blackjax_nuts,
    "pymc": pymc_own,
    "nutpie": pymc_nutpie,
    "bootstrap": bootstrap,
}
"""Peers on a family of one input."""
TWO_INPUTS = {"chinchilla": chinchilla_grid, "simple_scaling_laws": simple_scaling_laws}
"""Peers on a grid of parameters and tokens."""


def families() -> list[bs.Runs]:
    """Three real families of one input, small to middling."""
    curves = {name.split("/")[0]: runs for name, runs in bs.corpus.curves().items()}
    marin = curves["marin_moe_v16_minima"]
    return [marin, curves["cerebras_gpt"], curves["attnres_full"]]


def grid(number: int, side: int = 8) -> bs.Runs:
    """Make up a grid of sizes and token budgets under Chinchilla's law with half a percent of noise."""
    rng = np.random.default_rng(number)
    sides = np.meshgrid(np.geomspace(1e7, 1e9, side), np.geomspace(1e9, 1e11, side))
    params, tokens = (values.ravel() for values in sides)
    law = bs.LAWS["chinchilla"].published("besiroglu2024")
    loss = law.predict(n_params=params, n_tokens=tokens).draws[0, 0] * np.exp(0.005 * rng.standard_normal(side**2))
    frame = pd.DataFrame({"n_params": params, "n_tokens": tokens, "loss": loss})
    return bs.Runs.from_frame(frame, inputs=["n_params", "n_tokens"], name=f"grid {number}")
