"""Posteriors against independent samplers: an ensemble sampler, plain NUTS of NumPyro, and published constants."""

import os

import jax
import numpy as np
import pandas as pd
import pytest
from conftest import APART
from numpyro.infer import MCMC, NUTS

import bayescale as bs
from bayescale.model.parameters import coordinates

LEVELS = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
REFERENCE = {
    "marin": (
        {
            1e18: 3.522, 3e18: 3.339, 1e19: 3.154, 3e19: 3.000, 1e20: 2.848, 3e20: 2.725,
        },
        {
            1e21: (2.5555, 2.5766, 2.5895, 2.6004, 2.6115, 2.6253, 2.6486),
            1e23: (2.0252, 2.1048, 2.1597, 2.2159, 2.2743, 2.343, 2.4507),
        },
    ),
    "cerebras": (
        {111e6: 2.608, 256e6: 2.349, 590e6: 2.181, 1.3e9: 1.997},
        {
            2.7e9: (1.7475, 1.7988, 1.8332, 1.8651, 1.8989, 1.9375, 1.9998),
            6.7e9: (1.5104, 1.6036, 1.6649, 1.7234, 1.787, 1.8593, 1.9681),
            13e9: (1.3555, 1.4772, 1.5584, 1.6355, 1.7218, 1.8192, 1.9682),
        },
    ),
    "regnetx": (
        {
            0.2e9: 31.1, 0.4e9: 27.3, 0.6e9: 25.9, 0.8e9: 24.8, 1.6e9: 23.0, 3.2e9: 21.7, 4.0e9: 21.4, 6.5e9: 20.8,
        },
        {
            8.0e9: (20.2729, 20.4084, 20.4984, 20.5823, 20.6629, 20.7475, 20.8717),
            12.1e9: (19.671, 19.9219, 20.0757, 20.211, 20.3411, 20.4785, 20.6801),
            15.9e9: (19.2589, 19.6145, 19.8267, 20.0035, 20.1714, 20.3545, 20.6312),
            31.7e9: (18.2442, 18.9174, 19.2937, 19.5873, 19.8543, 20.1654, 20.6815),
        },
    ),
    "examples": (
        {16: 0.7456, 23: 0.6678, 32: 0.6089, 45: 0.517, 64: 0.4478, 91: 0.3878},
        {
            181: (0.2614, 0.2781, 0.291, 0.3045, 0.3189, 0.3346, 0.3571),
            512: (0.1495, 0.1775, 0.1996, 0.2248, 0.2557, 0.2929, 0.3523),
            874: (0.1132, 0.1437, 0.1685, 0.198, 0.2359, 0.2832, 0.3649),
        },
    ),
}  # fmt: skip
"""Training points and quantiles of the next run by an independent ensemble sampler, one input."""
TWO_INPUTS = {
    (3e9, 6e10): (2.1680, 2.2078, 2.2406, 2.2749, 2.3080, 2.3391, 2.3804),
    (1e10, 2e11): (1.8540, 1.9274, 1.9922, 2.0657, 2.1354, 2.1963, 2.2745),
    (1e10, 1.6e10): (2.1553, 2.2246, 2.2798, 2.3375, 2.3921, 2.4433, 2.5148),
}
TOLERANCE = np.array([0.02, 0.01, 0.01, 0.01, 0.01, 0.01, 0.02])
LONG = bs.Nuts(warmup=500, draws=4000)
# What the references were computed with.
AS_FAR = {"sd": 0.8, "ahead": 0.0, "ahead_median": 1.0, "ahead_power": 0.0, "trend": 0.0, "interaction": 0.0}
NO_SEED = bs.Likelihood(residual_sd=0.01, residual_spread=1.0, seed_sd=None)
WIDE = bs.Discrepancy(median=0.2, power=0.5, **AS_FAR)
NARROW = bs.Discrepancy(median=0.06, power=1.5, **AS_FAR)


def check_quantiles(forecast, reference):
    gap = np.log(forecast.quantile(LEVELS)) - np.log(np.array(reference).T)
    assert (np.abs(gap) <= TOLERANCE[:, None]).all(), f"largest gaps {np.abs(gap).max(1).round(4)}"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "recoded"), [*((name, False) for name in REFERENCE), ("marin", True)])
def test_reference_forecasts(name, recoded):
    power = 2.0 if recoded else 1.0
    seen, targets = REFERENCE[name]
    frame = pd.DataFrame({"flops": np.array(list(seen)) ** power, "loss": list(seen.values())})
    post = bs.fit(
        bs.Runs.from_frame(frame),
        "saturating_power",
        seed=0,
        discrepancy=WIDE,
        likelihood=NO_SEED,
        settings=LONG,
    )
    assert post.diagnostics.rhat.max() < 1.01
    forecast = post.predict(flops=np.array(list(targets)) ** power)
    check_quantiles(forecast, list(targets.values()))


@pytest.mark.slow
@pytest.mark.parametrize("powers", [(1.0, 1.0), (2.0, 0.5)])
def test_reference_forecasts_of_two_inputs(powers):
    losses = [3.451, 3.090, 2.920, 3.191, 2.859, 2.648, 2.990, 2.684, 2.468]
    params, tokens = np.meshgrid([1e8, 3e8, 1e9], [2e9, 8e9, 3.2e10], indexing="ij")
    n, d = powers
    frame = pd.DataFrame({"n_params": params.ravel() ** n, "n_tokens": tokens.ravel() ** d, "loss": losses})
    post = bs.fit(
        bs.Runs.from_frame(frame), "chinchilla_outer", seed=0, discrepancy=NARROW, likelihood=NO_SEED, settings=LONG
    )
    assert post.diagnostics.rhat.max() < 1.01
    targets = np.array(list(TWO_INPUTS))
    forecast = post.predict(n_params=targets[:, 0] ** n, n_tokens=targets[:, 1] ** d)
    check_quantiles(forecast, list(TWO_INPUTS.values()))


def mean_and_error(draws):
    """Mean of draws, shape (chain, draw), and its Monte Carlo standard error."""
    from arviz_stats.base import array_stats

    ess = float(array_stats.ess(draws, chain_axis=0, draw_axis=1))
    return draws.mean(), draws.std() / np.sqrt(ess)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "priors"),
    [("marin_moe_v16_minima/paloma_macro_loss", None), ("gopher/curation_ppl_0shot", APART)],
)
def test_bare_numpyro_samples_the_same_posterior(name, priors):
    runs = bs.corpus.curves()[name]
    post = bs.fit(runs, seed=0, priors=priors)
    assert post.status is bs.Status.OK
    with jax.enable_x64(True):
        kernel = NUTS(bs.numpyro_model(runs, priors=priors), target_accept_prob=0.95)
        sampler = MCMC(
            kernel, num_warmup=500, num_samples=1500, num_chains=2, chain_method="sequential", progress_bar=False
        )
        sampler.run(jax.random.key(0))
        bare = {site: np.asarray(v) for site, v in sampler.get_samples(group_by_chain=True).items()}
    # Sites of a mixture begin with the names of its components.
    prefixes = ["present.", "absent.", "power."] if priors is None else [""]
    for prefix, part in zip(prefixes, post.components, strict=True):
        for i, site in enumerate(coordinates(part.job.model, part.job.problem)):
            (one, error), (other, wobble) = (
                mean_and_error(part.unconstrained[:, :, i]),
                mean_and_error(bare[prefix + site]),
            )
            assert abs(one - other) <= 4 * np.hypot(error, wobble), site


@pytest.mark.long
@pytest.mark.slow
def test_built_in_curves_converge():
    posteriors = bs.fit_many(list(bs.corpus.curves().values())[::2], seed=0)
    measures = [[part.diagnostics for part in p.components] for p in posteriors]
    # Weighted draws, to which chains fall back, have no R-hat.
    sound = [
        all(m.method == "importance" or (m.rhat.max() < 1.01 and m.divergences == 0) for m in each) for each in measures
    ]
    assert np.mean(sound) >= 0.95, [p.runs.name for p, good in zip(posteriors, sound, strict=True) if not good]
    # A fit that is not sound says so.
    assert all(good or p.status is not bs.Status.OK for p, good in zip(posteriors, sound, strict=True))


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.corpus
@pytest.mark.skipif(not os.environ.get("BAYESCALE_CORPUS"), reason="needs the downloaded corpus: set BAYESCALE_CORPUS")
def test_chinchilla_grid_gives_the_constants_of_its_replication():
    runs = bs.corpus.load("epoch_chinchilla", drop_flagged=False)
    # The replication leaves out the five highest of 245 losses (besiroglu2024chinchilla).
    runs = runs.select(runs.frame["loss"] < runs.frame["loss"].nlargest(5).min())
    post = bs.fit(runs, "chinchilla", seed=0, discrepancy=None, likelihood="student", settings=bs.Nuts(chains=2))
    assert len(runs) == 240
    assert post.status is bs.Status.OK
    middle = {name: float(np.median(draws)) for name, draws in post.draws.items()}
    assert abs(middle["alpha"] - 0.348) < 0.03
    assert abs(middle["beta"] - 0.366) < 0.05
    assert abs(middle["E"] - 1.82) < 0.05
    large = post.predict(n_params=70e9, n_tokens=1.4e12).quantile(0.5)
    assert abs(float(large[0]) - 1.97) < 0.03
