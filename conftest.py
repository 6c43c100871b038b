"""Shared numbers, the one fit that many tests look at, and a way to run the command."""

import dataclasses
import os
import sys
from pathlib import Path

# Compiled programs are kept, for the other worker, for processes that tests start, and for the next run. JAX reads this
# when it is imported.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent / ".pytest_cache" / "compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
# Half of the time of most tests is compilation; at this level it takes two thirds, and sampling no longer.
os.environ["XLA_FLAGS"] = f"--xla_backend_optimization_level=1 {os.environ.get('XLA_FLAGS', '')}".strip()

import hypothesis
import jax
import numpy as np
import pandas as pd
import pytest

import bayescale as bs
from bayescale._jax import make_room
from bayescale.cli import main
from bayescale.posterior.mixture import combine

hypothesis.settings.register_profile("bayescale", deadline=None, derandomize=True, max_examples=20)
hypothesis.settings.load_profile("bayescale")

MARIN = {
    "flops": [1e18, 3e18, 1e19, 3e19, 1e20, 3e20],
    "loss": [3.522, 3.339, 3.154, 3.000, 2.848, 2.725],
}


FEW = bs.Nuts(chains=2, draws=199)
"""Too few draws to be tried again, so that one program is all that is compiled, and long enough for 99 ranks.

Compiling takes a hundred times as long as sampling a short curve: tests that need no settings of their own use these or
the default, and bucket sizes that others use too.
"""
APART = {"terms": bs.Plateaus(plateau="present")}
"""Priors of the default law of one input that make it one model instead of a mixture of two."""


def with_job(fit, **changes):
    """A fit whose jobs have other fields in every component."""
    parts = [dataclasses.replace(part, job=dataclasses.replace(part.job, **changes)) for part in fit.components]
    return combine(parts, fit.weights)


def with_diagnostics(fit, **changes):
    """A fit whose diagnostics have other fields in every component."""
    measures = [dataclasses.replace(part.diagnostics, **changes) for part in fit.components]
    parts = [dataclasses.replace(part, diagnostics=own) for part, own in zip(fit.components, measures, strict=True)]
    return combine(parts, fit.weights)


def positions(fit):
    """Draws of the coordinates of all components, of one length, side by side: shape (chain, draw, coordinate)."""
    return np.concatenate([part.unconstrained for part in fit.components])


@pytest.fixture(scope="module", autouse=True)
def little_left_behind():
    """Close pictures, and drop compiled programs long before a process holds so many that it would crash."""
    yield
    make_room(0.3)
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture(scope="module", autouse=True)
def registry():
    """Laws that the tests of a file register are gone after it: other files count laws."""
    known = dict(bs.LAWS)
    yield
    bs.LAWS.clear()
    bs.LAWS.update(known)


@pytest.fixture(scope="session")
def marin():
    return bs.Runs.from_frame(pd.DataFrame(MARIN), name="marin")


@pytest.fixture(scope="session")
def marin_post(marin):
    return bs.fit(marin, seed=0)


@pytest.fixture(scope="module")
def quickly_compiled():
    """For tests that compile many programs, mostly of one operation, and call each a few times."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    # Such programs round differently, and later tests compare with other processes bit for bit.
    jax.clear_caches()


def sampled_by_numpyro(model, at):
    """Posterior samples of a bare NumPyro model by its own NUTS, and its predictive samples at further inputs."""
    from numpyro.infer import MCMC, NUTS, Predictive

    with jax.enable_x64(True):
        sampler = MCMC(
            NUTS(model, target_accept_prob=0.95),
            num_warmup=400,
            num_samples=400,
            num_chains=2,
            chain_method="vectorized",
            progress_bar=False,
        )
        sampler.run(jax.random.key(0))
        samples = sampler.get_samples()
        return samples, Predictive(model, samples)(jax.random.key(1), at)


def call(*arguments):
    """Run the command in this process; return its exit code."""
    old, sys.argv = sys.argv, ["bayescale", *map(str, arguments)]
    try:
        main.main()
    except SystemExit as error:
        return error.code or 0
    finally:
        sys.argv = old
    return 0
