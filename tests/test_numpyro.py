"""The model as a NumPyro function: the same posterior, and forecasts of `Predictive` that are those of `predict`."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from numpyro.handlers import seed, trace
from numpyro.infer import Predictive
from numpyro.infer.util import log_density

import bayescale as bs
from bayescale.model.parameters import coordinates

DRAWS = bs.Nuts(least_ess=1e6)
"""The default counts, whose programs other tests need as well; chains are never tried again, since both ways use the
same draws, whatever they are.
"""


def made_up(kind):
    """Runs of one or two inputs, with replicates or without."""
    rng = np.random.default_rng(3)
    if kind == "two inputs":
        n_params = np.repeat(np.geomspace(1e7, 1e9, 4), 3)
        n_tokens = n_params * np.tile([5.0, 20.0, 80.0], 4)
        loss = 1.7 + 400 / n_params**0.34 + 1000 / n_tokens**0.3
        frame = pd.DataFrame({"n_params": n_params, "n_tokens": n_tokens, "loss": loss})
    else:
        flops = np.geomspace(1e17, 1e20, 8)
        frame = pd.DataFrame({"flops": flops, "loss": 1.5 + 2.0 * (flops / 1e17) ** -0.15})
    if kind == "replicates":
        frame = pd.concat([frame, frame.iloc[2:]], ignore_index=True)
    frame["loss"] *= np.exp(0.005 * rng.standard_normal(len(frame)))
    return bs.Runs.from_frame(frame)


AT = {
    "two inputs": {"n_params": [3e8, 5e9, 5e9], "n_tokens": [2e10, 1.4e11, 3e11]},
    "plain": {"flops": [3e18, 3e20, 1e21]},
    "replicates": {"flops": [1e20, 1e17, 2e18, 1e21]},
}
"""Inside the data and beyond, up to the ratio at which `predict` begins to widen what the model says."""


def samples_of(post, prefix=""):
    """Draws of the sites by name, shape (draw, ...)."""
    flat = post.unconstrained.reshape(-1, post.unconstrained.shape[-1])
    found = {}
    for name, column in zip(coordinates(post.job.model, post.job.problem), flat.T, strict=True):
        found.setdefault(prefix + name.split("[")[0], []).append(column)
    return {name: np.stack(c, axis=-1) if "log_weight" in name else c[0] for name, c in found.items()}


def compare(post, model, samples, at):
    """Means and spreads of forecasts by both ways, in Monte Carlo standard errors."""
    with jax.enable_x64(True):
        theirs = Predictive(model, {k: jnp.asarray(v) for k, v in samples.items()})(jax.random.key(0), at)
    for site, kind in (("mean", "mean"), ("y", "run")):
        ours, bare = np.log(post.predict(at, kind=kind).draws), np.log(np.asarray(theirs[site]))
        ours = ours.reshape(-1, bare.shape[-1])
        # Draws of chains are correlated, and both ways use the same ones, so this is generous.
        error = np.hypot(ours.std(0) / np.sqrt(len(ours) / 4), bare.std(0) / np.sqrt(len(bare) / 4))
        assert (np.abs(ours.mean(0) - bare.mean(0)) <= 4 * error + 1e-9).all(), site
        low, high = (np.subtract(*np.quantile(draws, [0.9, 0.1], axis=0)) for draws in (ours, bare))
        np.testing.assert_allclose(low, high, rtol=0.12)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("plain", {"law": "saturating_power", "likelihood": "student"}),
        ("plain", {"law": "saturating_power", "likelihood": "student", "discrepancy": None}),
        ("replicates", {"law": "saturating_power"}),
        ("two inputs", {}),
    ],
)
def test_forecasts_of_predictive_are_those_of_predict(kind, options):
    runs = made_up(kind)
    post = bs.fit(runs, seed=0, settings=DRAWS, **options)
    compare(post, bs.numpyro_model(runs, **options), samples_of(post), AT[kind])


@pytest.mark.slow
def test_the_default_mixture_forecasts_as_predict_does():
    # Its components are a law with a plateau, with a floor and with neither.
    runs = made_up("plain")
    post = bs.fit(runs, seed=0, settings=DRAWS)
    model = bs.numpyro_model(runs)
    every = {}
    for name, part in zip(NAMES, post.components, strict=True):
        every |= samples_of(part, f"{name}.")
    # Chains that were continued have more draws.
    fewest = min(map(len, every.values()))
    samples = {name: draws[-fewest:] for name, draws in every.items()}
    compare(post, model, samples, AT["plain"])


NAMES = ("present", "absent", "power")


def test_rows_may_be_handed_over():
    runs = made_up("replicates")
    model = bs.numpyro_model(runs)
    with jax.enable_x64(True):
        sites = trace(seed(model, 0)).get_trace()
        names = [k for k, v in sites.items() if v["type"] == "sample" and not v["is_observed"]]
        at = {name: sites[name]["value"] for name in names}
        own = float(log_density(model, (), {}, at)[0])
        same = float(log_density(model, ({"flops": runs.frame["flops"]}, runs.frame["loss"]), {}, at)[0])
        other = float(log_density(model, (None, 1.1 * runs.frame["loss"].to_numpy()), {}, at)[0])
    assert {name.split(".")[0] for name in names} == set(NAMES)
    assert own == pytest.approx(same, rel=1e-9)
    assert abs(own - other) > 0.1


def test_inputs_that_cannot_be_are_refused():
    model = seed(bs.numpyro_model(made_up("two inputs")), 0)
    with pytest.raises(bs.InputError, match="n_tokens is missing"):
        model({"n_params": [1e9]})
    with pytest.raises(bs.InputError, match=r"shape \(row, 2\)"):
        model(np.ones((3, 1)))
    with pytest.raises(bs.InputError, match="positive"):
        model(np.array([[1e9, -1.0]]))
    with pytest.raises(bs.InputError, match="equally many rows"):
        model(np.array([[1e9, 1e10]]), np.array([2.0, 3.0]))
