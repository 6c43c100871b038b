"""Laws: printed constants, identities that every law obeys, and writing one's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import bayescale as bs
from bayescale import laws
from bayescale.errors import InputError
from bayescale.laws import LAWS
from bayescale.likelihood import log_density
from bayescale.model import coordinates, make_job, simulate_prior

NAMES = sorted(LAWS)


def some_runs(law):
    """Nine made-up runs with the inputs of a law."""
    names = ("flops",) if law.inputs == ("x",) else law.inputs
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({name: 10.0 ** rng.uniform(8, 11, 9) for name in names})
    frame["loss"] = 2.0 + 3.0 * (frame[names[0]] / 1e8) ** -0.3
    return bs.Runs.from_frame(frame, inputs=names)


def prior_values(name, number=20):
    """Draws from the prior of a law, on its made-up runs: job, coordinates and what they mean."""
    job = make_job(some_runs(LAWS[name]), name, "auto", "normal", None)
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), number)
        vectors, values = jax.jit(jax.vmap(lambda key: simulate_prior(key, job.model, job.problem)))(keys)
        full = {k: np.broadcast_to(np.asarray(v), number) for k, v in values.constants.items()}
    return job, np.asarray(vectors), full


@pytest.mark.parametrize(
    ("key", "loss"), [("hoffmann2022", 1.93665), ("hoffmann2022_unrounded", 1.92085), ("besiroglu2024", 1.97342)]
)
def test_published(key, loss):
    published = bs.laws.get("chinchilla").published(key)
    forecast = published.predict(n_params=70e9, n_tokens=1.4e12)
    np.testing.assert_allclose(forecast.mean, [loss], rtol=1e-5)
    np.testing.assert_allclose(forecast.interval(0.9), loss, rtol=1e-5)


def test_unknown_published():
    with pytest.raises(InputError, match="Did you mean 'hoffmann2022'"):
        bs.laws.get("chinchilla").published("hoffman2022")
    with pytest.raises(InputError, match="no published set"):
        bs.laws.get("chinchilla").published()
    with pytest.raises(InputError, match="No verified published constants"):
        bs.laws.get("power").published()


@pytest.mark.parametrize("name", NAMES)
def test_unit_scale(name):
    law = LAWS[name]
    _, _, constants = prior_values(name)
    ref = {column: 3e9 * (i + 1) for i, column in enumerate(law.inputs)}
    x = [np.geomspace(1e8, 1e11, 20) * (i + 1) for i in range(len(law.inputs))]
    scaled = [a / ref[column] for a, column in zip(x, law.inputs, strict=True)]
    absolute = law.at_unit_scale(constants, ref)
    with np.errstate(all="ignore"):
        want, got = law(*scaled, **constants), law(*x, **absolute)
    # Prior draws reach exponents whose raw amplitudes no double holds.
    held = np.isfinite(got) & np.all([np.isfinite(v) for v in absolute.values()], axis=0)
    assert held.sum() >= 10
    np.testing.assert_allclose(got[held], want[held], rtol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_decreasing(name):
    law = LAWS[name]
    _, _, constants = prior_values(name)
    for moving in law.decreasing:
        grid = np.geomspace(0.1, 10, 9)[:, None]
        x = [grid if column == moving else np.ones((9, 1)) for column in law.inputs]
        with np.errstate(all="ignore"):
            curve = law(*x, **constants)
        steps = np.diff(curve, axis=0)
        assert np.all((steps <= 0) | ~np.isfinite(steps))
        assert np.mean(steps < 0) > 0.8


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_finite_at_prior_draws(name):
    job, vectors, _ = prior_values(name, 50)
    with jax.enable_x64(True):
        value, slope = jax.jit(jax.vmap(jax.value_and_grad(lambda v: log_density(v, job.model, job.problem))))(vectors)
        assert np.isfinite(value).all()
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("name", [name for name in NAMES if LAWS[name].level])
def test_level_scales_the_law(name):
    law = LAWS[name]
    _, _, constants = prior_values(name)
    key, prior = law.level
    doubled = {**constants, **prior.scaled(constants, law.covered[key], 2.5)}
    x = [np.full(20, 1.7 + i) for i in range(len(law.inputs))]
    np.testing.assert_allclose(law(*x, **doubled), 2.5 * law(*x, **constants), rtol=1e-10)
    ones = [1.0] * len(law.inputs)
    if name != "shifted_power":
        np.testing.assert_allclose(law(*ones, **constants), 1.0, rtol=1e-10)


def test_nearest_name():
    with pytest.raises(InputError, match="Did you mean 'chinchilla'"):
        bs.laws.get("chinchila")
    law = LAWS["power"]
    assert bs.laws.get(law) is law


@pytest.fixture
def own_law():
    @bs.register_law(
        inputs="x",
        name="own",
        priors={"terms": bs.Shares(("E", "A")), "falls": bs.Fall(("c",)), "shift": bs.Positive(1.0)},
        units={"A": ("x", "c"), "shift": ("x", 1.0)},
        decreasing=("x",),
        floor="E",
    )
    def own(x, *, E, A, c, shift):
        return E + A * (x + shift) ** -c

    yield own
    del LAWS["own"]


def test_own_law(own_law):
    runs = some_runs(own_law)
    job = make_job(runs, "own", "auto", "normal", None)
    assert job.law.inputs == ("flops",)
    assert job.law.units == (("A", (("flops", "c"),)), ("shift", (("flops", 1.0),)))
    names = coordinates(job.model, job.problem)
    assert set(names) == {"log_shift", "logit_share_E", "log_fall", "log_scatter", "log_seed", "log_drift"}
    with jax.enable_x64(True):
        assert np.isfinite(log_density(jnp.zeros(len(names)), job.model, job.problem))


def test_declaration_errors():
    with pytest.raises(InputError, match="each constant needs exactly one prior"):

        @bs.register_law(inputs="x", priors={"A": bs.Level()})
        def bad(x, *, A, c):
            return A * x**-c

    with pytest.raises(InputError, match="takes 2 positional arguments"):

        @bs.register_law(inputs="x", priors={"A": bs.Level()})
        def worse(x, z, *, A):
            return A * x * z

    assert not {"bad", "worse"} & set(LAWS)


def test_binding_errors():
    with pytest.raises(InputError, match="has one input and the runs have 2"):
        laws.bind(LAWS["power"], ("n_params", "n_tokens"))
    with pytest.raises(InputError, match="needs n_params, n_tokens; the runs have n_params"):
        laws.bind(LAWS["chinchilla"], ("n_params",))
    with pytest.raises(InputError, match="covers one or two inputs, found 3"):
        laws.automatic(("a", "b", "c", "d"))


def test_with_priors():
    law = LAWS["chinchilla_outer"]
    wider = law.with_priors({"k": bs.Outer(sd=1.0)})
    assert (wider.priors["k"].sd, law.priors["k"].sd) == (1.0, 0.5)
    # The declaration says who is covered, whatever the replacement says.
    assert law.with_priors({"terms": bs.Shares(sd=0.5)}).covered == law.covered
    single = law.with_priors({"alpha": bs.Exponent(0.3)})
    assert single.covered["falls"] == ("beta",)
    assert single.covered["alpha"] == ("alpha",)
    both = law.with_priors({"alpha": bs.Exponent(0.3), "beta": bs.Exponent(0.3)})
    assert "falls" not in both.priors


def test_with_priors_errors():
    law = LAWS["chinchilla"]
    with pytest.raises(InputError, match="no prior 'alpa'\\. Did you mean 'alpha'"):
        law.with_priors({"alpa": bs.Exponent()})
    with pytest.raises(InputError, match="'A' is one share of"):
        law.with_priors({"A": bs.Positive(1.0)})


def test_unit_scale_needs_units(own_law):
    from dataclasses import replace

    with pytest.raises(InputError, match="does not say how its constants scale"):
        replace(own_law, units=()).at_unit_scale({"A": 1.0}, {"x": 1.0})
