"""Laws: printed constants, writing one's own, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from conftest import FEW
from numpyro.infer.util import log_density as numpyro_density

import bayescale as bs
from bayescale import laws
from bayescale.errors import InputError
from bayescale.fitting import cache
from bayescale.fitting.options import request_fit
from bayescale.fitting.plan import FitPlan
from bayescale.laws.registry import LAWS
from bayescale.model import parameters, prepare
from bayescale.model.density import log_density
from bayescale.model.discrepancy import default_discrepancy
from bayescale.model.numpyro import component_model
from bayescale.model.parameters import coordinates
from bayescale.model.prepare import make_job


def some_runs(law):
    """Nine made-up runs with the inputs of a law."""
    names = ("flops",) if law.inputs == ("x",) else law.inputs
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({name: 10.0 ** rng.uniform(8, 11, 9) for name in names})
    frame["loss"] = 2.0 + 3.0 * (frame[names[0]] / 1e8) ** -0.3
    return bs.Runs.from_frame(frame, inputs=names)


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
    job = make_job(runs, "own")
    assert job.law.inputs == ("flops",)
    assert job.law.units == (("A", (("flops", "c"),)), ("shift", (("flops", 1.0),)))
    names = coordinates(job.model, job.problem)
    assert set(names) == {"log_shift", "logit_share_E", "log_fall", "log_residual_sd", "log_seed_sd", "log_discrepancy"}
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
    with pytest.raises(InputError, match="covers one to three inputs, found 4"):
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

    with pytest.raises(InputError, match="does not declare how its constants depend"):
        replace(own_law, units=()).at_unit_scale({"A": 1.0}, {"x": 1.0})


@pytest.mark.slow
def test_inputs_that_are_not_scaled_survive_fit_save_and_load(tmp_path):
    law, truth = LAWS["parallel_streams"], LAWS["parallel_streams"].published("pile").constants
    rng = np.random.default_rng(0)
    grid = pd.DataFrame([(N, P) for N in (5e8, 1e9, 2e9, 4e9) for P in (1, 2, 4, 8)], columns=["n_params", "p_streams"])
    clean = law(grid["n_params"].to_numpy(), grid["p_streams"].to_numpy(), **truth)
    runs = bs.Runs.from_frame(grid.assign(loss=clean * np.exp(0.001 * rng.standard_normal(16))), inputs=law.inputs)
    post = bs.fit(runs, law, seed=0, discrepancy=None)
    for name, value in truth.items():
        low, high = np.quantile(post.draws[name], [0.005, 0.995])
        assert low < value < high, name
    post.save(tmp_path / "fit.nc")
    forecast = bs.load(tmp_path / "fit.nc").predict(n_params=8e9, p_streams=[1, 16], kind="mean")
    np.testing.assert_allclose(forecast.mean, law(8e9, np.array([1, 16]), **truth), rtol=0.01)
    np.testing.assert_allclose(
        forecast.mean, post.predict(n_params=8e9, p_streams=[1, 16], kind="mean").mean, rtol=1e-9
    )


@pytest.mark.long
@pytest.mark.slow
def test_sparse_experts_converges_on_clean_runs():
    law = LAWS["sparse_experts"]
    rng = np.random.default_rng(111)
    ranges = {"n_params": (3e7, 3e9), "n_tokens": (1e9, 2e11), "active_share": (0.03, 0.9)}
    rows = {name: np.exp(rng.permutation(np.linspace(*np.log(ends), 49))) for name, ends in ranges.items()}
    truth = {"e": 0.94, "a": 16600.0, "alpha": 0.6, "b": 5460.0, "beta": 0.395, "c": 0.46, "lam": -0.167}
    truth |= {"d": 17.3, "delta": 0.16, "gamma": 0.16}
    clean = law(*rows.values(), **truth)
    frame = pd.DataFrame(rows).assign(loss=clean * np.exp(0.005 * rng.standard_normal(49)))
    post = bs.fit(bs.Runs.from_frame(frame, inputs=law.inputs), law, seed=0)
    assert post.status is bs.Status.OK
    # Runs inside the range of the data: the law is found up to a part of the noise.
    at = {"n_params": [1e8, 1e9], "n_tokens": [5e9, 5e10], "active_share": [0.1, 0.4]}
    wanted = law(*map(np.array, at.values()), **truth)
    np.testing.assert_allclose(post.predict(at, kind="mean").mean, wanted, rtol=0.01)


@pytest.mark.parametrize("name", ["shifted_power", "bounded_power"])
def test_level_is_the_value_at_the_reference(name):
    # Curves that are not 1 at the reference have their level taken out and put back.
    job = make_job(some_runs(LAWS[name]), name, discrepancy=None)
    with jax.enable_x64(True):
        values, _ = parameters.read(jnp.zeros(len(coordinates(job.model, job.problem))), job.model, job.problem)
        curve = parameters.relative_curve(job.model.law, values.constants, jnp.zeros((1, 1)))
    np.testing.assert_allclose(curve, 0.0, atol=1e-12)


# --- What a discrepancy runs over --------------------------------------------------------------------------------


def two_recipes():
    """Runs of two recipes, numbered, at the same sizes; the second is a tenth better."""
    size = np.tile(np.geomspace(1e7, 1e9, 6), 2)
    recipe = np.repeat([1.0, 2.0], 6)
    loss = (2.0 + (size / 1e7) ** -0.3) * np.where(recipe > 1.5, 0.9, 1.0)
    frame = pd.DataFrame({"recipe": recipe, "n_params": size, "loss": loss})
    return bs.Runs.from_frame(frame, inputs=("recipe", "n_params"))


def labelled(**axes):
    """A law in which the number of the recipe is a label."""

    @bs.register_law(
        inputs=("recipe", "n_params"),
        name="labelled",
        priors={"A": bs.Positive(3.0, 1.0), "c": bs.Exponent(0.1), "gain": bs.Positive(0.1, 1.0)},
        scales={"recipe": ""},
        axes=axes,
    )
    def law(recipe, N, *, A, c, gain):
        """Two parallel power laws."""
        return A * N**-c * jnp.exp(-gain * (recipe - 1.0))

    return LAWS.pop("labelled", law)


def test_discrepancy_ignores_a_label():
    law = labelled(size=lambda recipe, N: N)
    job = make_job(two_recipes(), law)
    assert job.discrepancy == default_discrepancy("ladder")
    place = prepare.axis_positions(job.model.law, job.problem, job.low, job.problem.z[:12])
    assert place.shape == (12, 1)
    np.testing.assert_allclose(place[:6], place[6:])
    np.testing.assert_allclose(place[[0, 5], 0], [0.0, 1.0], atol=1e-12)
    # Two recipes of one size share their path, which no recipe leaves.
    basis = job.problem.evaluation.basis
    covariance = basis.vectors * basis.eigenvalues @ basis.vectors.T
    np.testing.assert_allclose(covariance[:6, :6], covariance[6:12, :6], atol=1e-10)


def test_axes_that_are_the_inputs_change_nothing():
    plain, same = labelled(), labelled(recipe=lambda recipe, N: recipe, n_params=lambda recipe, N: N)
    one, other = (make_job(two_recipes(), law) for law in (plain, same))
    assert one.discrepancy == other.discrepancy == default_discrepancy("several")
    bases = [job.problem.evaluation.basis for job in (one, other)]
    np.testing.assert_allclose(bases[1].eigenvalues, bases[0].eigenvalues, atol=1e-10)
    z = np.log([[2.0, 5e9]] / one.reference)
    ahead = [prepare.axis_positions(job.model.law, job.problem, job.low, z) for job in (one, other)]
    np.testing.assert_allclose(*ahead)
    request = request_fit("auto", 0, {})
    assert cache.key(FitPlan((one,)), request) != cache.key(FitPlan((other,)), request)


def test_axes_agree_with_the_plain_model():
    job = make_job(two_recipes(), labelled(size=lambda recipe, N: N))
    with jax.enable_x64(True):
        vector, _ = parameters.simulate_prior(jax.random.key(5), job.model, job.problem)
        sites = dict(zip(coordinates(job.model, job.problem), vector, strict=True))
        want = numpyro_density(component_model(job), (), {}, sites)[0]
        np.testing.assert_allclose(log_density(vector, job.model, job.problem), want, rtol=1e-8)


# --- Inputs at their ends ----------------------------------------------------------------------------------

# A vocabulary has more than one word, and schedules are numbered and looked up with their steps.
ENDLESS = ("vocab_size", "schedule", "step")
ENDS = [
    (name, law.inputs.index(one), end)
    for name, law in LAWS.items()
    for one in law.exempt
    for end in (0.0, 1.0)
    if one not in ENDLESS
]
ORDINARY = {"batch_tokens": (1e5, 1e6), "teacher_loss": (2, 3)}


def ordinary(name, law, rng):
    """Eight values that an input may have in a table."""
    low, high = ORDINARY.get(name, (2, 8) if name in law.exempt else (1e8, 1e10))
    return rng.uniform(*((0.05, 0.4) if "share" in name else (low, high)), 8)


def at_an_end(name, place, end):
    """Eight runs of a law, in three of which one input is at an end."""
    law, rng = LAWS[name], np.random.default_rng(5)
    frame = pd.DataFrame({one: ordinary(one, law, rng) for one in law.inputs})
    frame.loc[:2, law.inputs[place]] = end
    noise = 0.1 * rng.standard_normal(8)
    return frame.assign(score=0.5 + noise) if law.info.describes == "odds" else frame.assign(loss=3.0 + noise)


@pytest.mark.parametrize(("name", "place", "end"), ENDS, ids=str)
def test_inputs_at_their_ends_are_finite_or_refused(name, place, end, quickly_compiled):
    law = LAWS[name]
    table = at_an_end(name, place, end)
    discrepancy = "auto" if len(law.inputs) < 4 else None
    try:
        job = make_job(bs.Runs.from_frame(table, inputs=law.inputs), law, discrepancy=discrepancy)
    except InputError as error:
        if end == 0.0 and law.inputs[place] in str(error) and "\n" not in str(error):
            return
        raise
    with jax.enable_x64(True):
        start = parameters.prior_center(job.model, job.problem)
        value, slope = jax.value_and_grad(log_density)(start, job.model, job.problem)
    assert np.isfinite(value) and np.isfinite(slope).all()


@pytest.mark.parametrize(
    ("name", "one", "end"),
    [
        *[("mixing_3", f"share_{i}", 0.0) for i in (1, 2, 3)],
        *[("mixing_5", "share_1", 0.0), ("mixing_5", "share_5", 0.0)],
        *[("floating_point", "mantissa_bits", 0.0), ("multilingual", "share", 1.0)],
        ("quantised_training", "group_size", 1.0),
    ],
)
def test_ends_that_runs_have_are_the_limits_of_the_formulas(name, one, end):
    law = LAWS[name]
    table = at_an_end(name, law.inputs.index(one), end)
    job = make_job(bs.Runs.from_frame(table, inputs=law.inputs), law, discrepancy=None)
    with jax.enable_x64(True):
        start = parameters.prior_center(job.model, job.problem)
        constants = parameters.read(start, job.model, job.problem)[0].constants
        found = np.exp(parameters.relative_curve(job.model.law, constants, jnp.asarray(job.problem.z[:6])))
        exact = law(*(table.loc[:5, list(law.inputs)].to_numpy() / job.reference * rescaled(job)).T, **constants)
    # Laws with a level are known relative to the reference.
    np.testing.assert_allclose(found / found[5], exact / exact[5], rtol=1e-4)


def rescaled(job):
    """What the inputs of a law that are used as they are were divided by."""
    return 1.0 if job.model.law.rescale is None else np.asarray(job.model.law.rescale)


def test_where_a_law_has_no_limit_zeros_are_refused():
    for name, one in (("multilingual", "share"), ("bimix", "share")):
        table = at_an_end(name, LAWS[name].inputs.index(one), 0.0)
        with pytest.raises(InputError, match=f"{name} has no limit where {one} is 0, as in rows 1, 2, 3"):
            make_job(bs.Runs.from_frame(table, inputs=LAWS[name].inputs), name, discrepancy=None)


def test_zeros_are_read_and_asked_for():
    table = at_an_end("mixing_3", 1, 0.0)
    runs = bs.read(table, inputs=LAWS["mixing_3"].inputs)
    assert len(runs) == 8 and (runs.frame["share_2"][:3] == 1e-6).all()
    post = bs.fit(runs, "mixing_3", discrepancy=None, seed=0, settings=FEW)
    assert post.status is not bs.Status.NONFINITE
    none, little = post.predict(share_1=[0.5, 0.5], share_2=[0.0, 1e-6], share_3=[0.5, 0.5]).mean
    assert none == little
