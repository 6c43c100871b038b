"""Likelihood: the engine's density against an ordinary NumPyro model, against a formula, against mutants."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpyro.infer.util import log_density as numpyro_density
from scipy.stats import multivariate_normal, norm

import bayescale as bs
from bayescale.inference import reparam
from bayescale.laws.registry import LAWS
from bayescale.model import density, numpyro, prepare
from bayescale.model.density import log_density
from bayescale.model.evaluations import Dense, Rotated, StateSpace, rotated
from bayescale.model.numpyro import component_model
from bayescale.model.padding import padded, padded_square
from bayescale.model.parameters import coordinates, prior_center, read, simulate_prior
from bayescale.model.prepare import make_job
from bayescale.model.problem import Basis

ONE = ("power", "saturating_power", "shifted_power")
TWO = ("chinchilla", "chinchilla_outer")
SHAPES = (
    "plain",
    "equal replicates",
    "unequal replicates",
    "equal errors",
    "errors",
    "uneven errors in a group",
    "checkpoints",
    "checkpoints of equal runs",
    "one run",
)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def made_up(shape, n_inputs, seed=0):
    """Runs of a kind: what is repeated, what is measured with known error, what shares a run."""
    rng = np.random.default_rng(seed)
    if n_inputs == 1:
        frame = pd.DataFrame({"n_tokens": 1e9 * 10.0 ** np.sort(rng.uniform(0, 2, 6))})
    else:
        params, tokens = np.meshgrid(1e8 * 4.0 ** np.arange(2), 1e9 * 5.0 ** np.arange(3), indexing="ij")
        frame = pd.DataFrame({"n_params": params.ravel(), "n_tokens": tokens.ravel()})
        frame *= np.exp(0.1 * rng.standard_normal(frame.shape))
    if shape == "equal replicates":
        frame = pd.concat([frame] * 2)
    elif shape == "unequal replicates":
        frame = frame.loc[np.repeat(frame.index, [1, 3, 1, 2, 1, 1])]
    elif shape == "uneven errors in a group":
        frame = pd.concat([frame, frame[:2]])
    elif shape == "checkpoints of equal runs":
        frame = pd.concat([frame[:3]] * 2)
    frame = frame.reset_index(drop=True)
    rows = len(frame)
    if shape.startswith("checkpoints"):
        frame["run"] = np.where(np.arange(rows) < 3, "a", "b")
    if shape == "one run":
        frame["run"] = "a"
    noise = 0.02 * rng.standard_normal(rows)
    frame["loss"] = (1.5 + 2.0 * (frame["n_tokens"] / 1e9) ** -0.3) * np.exp(noise)
    if shape in ("equal errors", "checkpoints of equal runs"):
        frame["value_se"] = 0.01 * frame["loss"]
    elif "errors" in shape:
        frame["value_se"] = rng.uniform(0.0, 0.03, rows)
    return bs.Runs.from_frame(frame)


def job_for(shape="plain", law="saturating_power", discrepancy="auto", likelihood="normal", seed=0):
    return make_job(made_up(shape, 1 if law in ONE else 2, seed), law, discrepancy=discrepancy, likelihood=likelihood)


def somewhere(job, seed):
    """A coordinate vector of typical size."""
    return np.asarray(simulate_prior(jax.random.key(seed), job.model, job.problem)[0])


def sites(vector, job):
    """Coordinates by NumPyro's site names; numbered ones are stacked."""
    values = {}
    for name, value in zip(coordinates(job.model, job.problem), vector, strict=True):
        values.setdefault(name.split("[")[0], []).append(value)
    return {k: jnp.asarray(v) if k == "log_weight" else jnp.asarray(v[0]) for k, v in values.items()}


def program_density(vector, job):
    program = component_model(job)
    return float(numpyro_density(program, (), {}, sites(vector, job))[0])


def engine_density(vector, job):
    return float(jax.jit(log_density)(jnp.asarray(vector), job.model, job.problem))


def covariance_of_path(position):
    """k(a, b) = (2 min(a, b) + e^-a + e^-b - 1 - e^-|a - b|) / 2 on positions from 0 to 1."""
    a, b = position[:, None], position[None, :]
    return 0.5 * (2 * np.minimum(a, b) + np.exp(-a) + np.exp(-b) - 1 - np.exp(-np.abs(a - b)))


def plain_density(vector, job):
    """The default for one input in plain NumPy: prior of five coordinates, one normal density."""
    named = dict(zip(coordinates(job.model, job.problem), vector, strict=True))
    x, y = job.runs.frame["n_tokens"].to_numpy(), np.log(job.runs.frame["loss"].to_numpy())
    z = np.log(x) - np.log(x).mean()
    span = np.ptp(z)
    floor = 1 / (1 + np.exp(-named["logit_share_E"]))
    exponent = np.exp(named["log_fall"]) / (span * (1 - floor))
    curve = np.log(floor + (1 - floor) * np.exp(-exponent * z))
    scatter, seed, discrepancy = (np.exp(named[k]) for k in ("log_residual_sd", "log_seed_sd", "log_discrepancy"))
    variance = scatter**2 + seed**2 + (0.01 * np.exp(-9)) ** 2
    covariance = discrepancy**2 * covariance_of_path((z - z.min()) / span) + variance * np.eye(len(z)) + 0.09
    prior = (
        norm.logpdf(named["logit_share_E"], 0, 1.7)
        + norm.logpdf(named["log_fall"], np.log(0.4), 1.2)
        + norm.logpdf(named["log_residual_sd"], np.log(0.003), 1.5)
        + norm.logpdf(named["log_seed_sd"], np.log(0.0008), 0.8)
        + norm.logpdf(named["log_discrepancy"], np.log(0.2) + 0.5 * (named["log_fall"] - np.log(0.4)), 1.0)
    )
    return prior + multivariate_normal(curve, covariance).logpdf(y - y.mean())


# --- One posterior, several programs -----------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["normal", "student"])
@pytest.mark.parametrize("discrepancy", ["auto", None])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("law", ["saturating_power", "chinchilla_outer"])
def test_engine_is_the_program(law, shape, discrepancy, noise):
    job = job_for(shape, law, discrepancy, noise, seed=1)
    vector = somewhere(job, 1)
    np.testing.assert_allclose(engine_density(vector, job), program_density(vector, job), rtol=1e-8)


@pytest.mark.parametrize("noise", ["normal", "student"])
@pytest.mark.parametrize("discrepancy", ["auto", None])
@pytest.mark.parametrize("law", ["power", "shifted_power", "chinchilla"])
def test_engine_is_the_program_for_every_law(law, discrepancy, noise):
    for shape in ("unequal replicates", "checkpoints"):
        job = job_for(shape, law, discrepancy, noise, seed=2)
        vector = somewhere(job, 3)
        np.testing.assert_allclose(engine_density(vector, job), program_density(vector, job), rtol=1e-8)


@pytest.mark.parametrize("discrepancy", ["auto", None])
def test_engine_is_the_program_without_level(discrepancy):
    law = dataclasses.replace(
        LAWS["saturating_power"],
        priors={"E": bs.Positive(1.5), "A": bs.Positive(2.0), "c": bs.Exponent(0.3)},
    )
    for noise in ("normal", "student"):
        job = make_job(made_up("unequal replicates", 1), law, discrepancy=discrepancy, likelihood=noise)
        vector = somewhere(job, 0)
        np.testing.assert_allclose(engine_density(vector, job), program_density(vector, job), rtol=1e-8)


def test_shapes_reach_every_evaluation():
    kinds = {
        (type(job.problem.evaluation), job.problem.replicated, job.problem.latent)
        for shape in SHAPES
        for noise in ("normal", "student")
        for job in [job_for(shape, likelihood=noise)]
    }
    assert {kind for kind, _, _ in kinds} == {Dense, Rotated, StateSpace}
    assert {k[1] for k in kinds} == {k[2] for k in kinds} == {True, False}


@given(st.integers(0, 10_000))
def test_engine_is_the_formula(seed):
    job = job_for(seed=seed)
    vector = somewhere(job, seed)
    np.testing.assert_allclose(engine_density(vector, job), plain_density(vector, job), rtol=1e-8)


# --- What must not matter ----------------------------------------------------------------------------------


def repadded(problem, size):
    """The same family in a larger bucket."""
    rows = ("z", "y", "mask", "squares", "error", "seed_part")
    changed = {name: padded(getattr(problem, name), size) for name in rows}
    # Of an evaluation all leaves are rows or matrices of rows.
    evaluation = jax.tree.map(
        lambda leaf: (padded_square if np.ndim(leaf) == 2 else padded)(leaf, size), problem.evaluation
    )
    return dataclasses.replace(problem, count=padded(problem.count, size, 1.0), evaluation=evaluation, **changed)


@pytest.mark.parametrize("discrepancy", ["auto", None])
@pytest.mark.parametrize("noise", ["normal", "student"])
@pytest.mark.parametrize("shape", ["plain", "unequal replicates", "checkpoints"])
def test_padding_does_not_matter(shape, noise, discrepancy):
    job = job_for(shape, likelihood=noise, discrepancy=discrepancy)
    if job.problem.latent:
        pytest.skip("rows with a precision of their own are not padded")
    wide = dataclasses.replace(job, problem=repadded(job.problem, 32))
    vector = somewhere(job, 4)
    np.testing.assert_allclose(engine_density(vector, wide), engine_density(vector, job), rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("law", ["saturating_power", "chinchilla_outer"])
def test_row_order_does_not_matter(law, shape):
    job = job_for(shape, law)
    order = np.random.default_rng(5).permutation(len(job.runs))
    mixed = make_job(job.runs.select(order), law)
    vector = somewhere(job, 5)
    np.testing.assert_allclose(engine_density(vector, mixed), engine_density(vector, job), rtol=1e-9)


@pytest.mark.parametrize(
    ("law", "powers"),
    [
        ("power", {"n_tokens": 2.0}),
        ("saturating_power", {"n_tokens": 2.0}),
        ("chinchilla_outer", {"n_params": 2.0, "n_tokens": 2.0}),
        ("chinchilla_outer", {"n_params": 2.0, "n_tokens": 0.5}),
    ],
)
@pytest.mark.parametrize("discrepancy", ["auto", None])
def test_recoding_an_input_does_not_matter(law, powers, discrepancy):
    job = job_for("unequal replicates", law, discrepancy)
    frame = job.runs.frame.assign(**{name: job.runs.frame[name] ** power for name, power in powers.items()})
    recoded = make_job(bs.Runs.from_frame(frame), law, discrepancy=discrepancy)
    for seed in range(3):
        vector = somewhere(job, seed)
        np.testing.assert_allclose(engine_density(vector, recoded), engine_density(vector, job), rtol=1e-8)


def test_scaling_the_loss_does_not_matter():
    job = job_for("unequal replicates")
    scaled = make_job(bs.Runs.from_frame(job.runs.frame.assign(loss=100 * job.runs.frame["loss"])), "saturating_power")
    vector = somewhere(job, 6)
    np.testing.assert_allclose(engine_density(vector, scaled), engine_density(vector, job), rtol=1e-9)


# --- Where densities usually break -------------------------------------------------------------------------


def check_finite(vector, job):
    value, slope = jax.jit(jax.value_and_grad(log_density))(jnp.asarray(vector), job.model, job.problem)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("noise", ["normal", "student"])
@pytest.mark.parametrize("discrepancy", ["auto", None])
def test_exact_interpolation(discrepancy, noise):
    x = 1e9 * 3.0 ** np.arange(5)
    z = np.log(x / x[2])
    frame = pd.DataFrame({"n_tokens": x, "loss": 3 * (0.5 + 0.5 * np.exp(-0.2 * z))})
    job = make_job(bs.Runs.from_frame(frame), "saturating_power", discrepancy=discrepancy, likelihood=noise)
    names = coordinates(job.model, job.problem)
    vector = np.asarray(prior_center(job.model, job.problem)).copy()
    exact = {"logit_share_E": 0.0, "log_fall": np.log(0.2 * np.ptp(z) * 0.5), "log_residual_sd": -20.0}
    for name, value in {**exact, "log_seed_sd": -20.0, "log_discrepancy": -20.0}.items():
        if name in names:
            vector[names.index(name)] = value
    check_finite(vector, job)


@pytest.mark.parametrize("law", TWO)
@pytest.mark.parametrize("discrepancy", ["auto", None])
def test_inert_axis(law, discrepancy):
    frame = pd.DataFrame({"n_params": 1e8 * 3.0 ** np.arange(5), "n_tokens": 1e10})
    frame["loss"] = 2.0 + (frame["n_params"] / 1e8) ** -0.4
    job = make_job(bs.Runs.from_frame(frame), law, discrepancy=discrepancy)
    assert job.problem.active == (True, False)
    for seed in range(3):
        vector = somewhere(job, seed)
        check_finite(vector, job)
        np.testing.assert_allclose(engine_density(vector, job), program_density(vector, job), rtol=1e-8)


@pytest.mark.parametrize("law", ONE)
@pytest.mark.parametrize("discrepancy", ["auto", None])
def test_constant_curve(law, discrepancy):
    frame = pd.DataFrame({"n_tokens": 1e9 * 3.0 ** np.arange(5), "loss": 2.0})
    job = make_job(bs.Runs.from_frame(frame), law, discrepancy=discrepancy)
    for seed in range(3):
        check_finite(somewhere(job, seed), job)
    names = coordinates(job.model, job.problem)
    flat = np.asarray(prior_center(job.model, job.problem)).copy()
    flat[names.index("log_fall")] = -20.0
    flat[names.index("log_residual_sd")] = -20.0
    check_finite(flat, job)


# --- Geometry ----------------------------------------------------------------------------------------------


GEOMETRIES = [
    ("saturating_power", "plain", "normal"),
    ("saturating_power", "unequal replicates", "normal"),
    ("saturating_power", "unequal replicates", "student"),
    ("chinchilla_outer", "plain", "normal"),
    ("chinchilla_outer", "checkpoints", "normal"),
]


def linearised(law, shape, noise):
    job = job_for(shape, law, "auto", noise)
    point = jnp.asarray(prior_center(job.model, job.problem))
    return job, reparam.linearise(point, job.model, job.problem)


def through(scores, job, linear):
    """The model's coordinates and the log determinant of both maps together."""
    moved, first = reparam.scores_to_reparam(scores, linear, job.model, job.problem)
    vector, second = reparam.reparam_to_unconstrained(moved, job.model, job.problem)
    return vector, first + second


def determinant_gap(job, linear):
    """How far the stated log determinant is from the maps' own, between two points."""
    gaps = []
    rng = np.random.default_rng(7)
    for _ in range(2):
        scores = jnp.asarray(np.asarray(linear.point) + 0.5 * rng.standard_normal(len(linear.point)))
        jacobian = jax.jacfwd(lambda v: through(v, job, linear)[0])(scores)
        gaps.append(float(np.linalg.slogdet(jacobian)[1] - through(scores, job, linear)[1]))
    return gaps[1] - gaps[0]


@pytest.mark.parametrize("case", GEOMETRIES)
def test_geometry_can_be_inverted(case):
    job, linear = linearised(*case)
    for seed in range(3):
        vector = jnp.asarray(somewhere(job, seed))
        moved = reparam.unconstrained_to_reparam(vector, job.model, job.problem)
        scores = reparam.reparam_to_scores(moved, linear, job.model, job.problem)
        back, _ = through(scores, job, linear)
        np.testing.assert_allclose(back, vector, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", GEOMETRIES)
def test_geometry_states_its_determinant(case):
    job, linear = linearised(*case)
    np.testing.assert_allclose(determinant_gap(job, linear), 0.0, atol=1e-8)


def test_straight_coordinates_hold_the_drop_between_the_ends():
    job = job_for()
    names = coordinates(job.model, job.problem)
    moved = jnp.asarray(somewhere(job, 0))
    vector, _ = reparam.reparam_to_unconstrained(moved, job.model, job.problem)
    constants = read(vector, job.model, job.problem)[0].constants
    half = 0.5 * float(job.problem.span[0])
    ends = [job.law(np.exp(side * half), **constants) for side in (-1.0, 1.0)]
    np.testing.assert_allclose(ends[0] - ends[1], np.exp(moved[names.index("log_fall")]), rtol=1e-10)


# --- Mutants: each comparison above notices what it is there for ------------------------------------------


def wiener(a, b, discrepancy):
    """The wrong kernel: a random walk."""
    return np.minimum(np.asarray(a)[:, None, :], np.asarray(b)[None, :, :]).sum(-1) / float(discrepancy.memory)


def far_apart(a, b):
    return not np.isclose(a, b, rtol=1e-4)


def test_mutant_kernel_is_noticed(monkeypatch):
    monkeypatch.setattr(prepare, "kernel", wiener)
    job = job_for()
    vector = np.asarray(prior_center(job.model, job.problem))
    assert far_apart(engine_density(vector, job), plain_density(vector, job))
    assert far_apart(engine_density(vector, job), program_density(vector, job))


def test_mutant_kernel_in_both_is_noticed_by_the_formula(monkeypatch):
    for module in (prepare, numpyro):
        monkeypatch.setattr(module, "kernel", wiener)
    job = job_for()
    vector = np.asarray(prior_center(job.model, job.problem))
    np.testing.assert_allclose(engine_density(vector, job), program_density(vector, job), rtol=1e-8)
    assert far_apart(engine_density(vector, job), plain_density(vector, job))


def test_mutant_residual_is_noticed(monkeypatch):
    right = density.offset
    monkeypatch.setattr(density, "offset", lambda *arguments: 1.1 * right(*arguments))
    job = job_for()
    vector = np.asarray(prior_center(job.model, job.problem))
    # A function of its own: the right density may be compiled already.
    wrong = float(jax.jit(lambda v: log_density(v, job.model, job.problem))(vector))
    assert far_apart(wrong, plain_density(vector, job))


@pytest.mark.parametrize(
    ("home", "name", "mutant", "shape"),
    [
        (density, "within_likelihood", lambda values, problem: 0.0, "unequal replicates"),
        (rotated, "row_variance", lambda values, problem: values.residual_sd**2 + 0.0 * problem.count, "equal errors"),
        (Rotated, "rotate", lambda self, columns: columns, "plain"),
    ],
)
def test_mutant_evaluation_is_noticed(monkeypatch, home, name, mutant, shape):
    job = job_for(shape, discrepancy="auto" if name == "rotate" else None)
    vector = np.asarray(prior_center(job.model, job.problem))
    want = program_density(vector, job)
    monkeypatch.setattr(home, name, mutant)
    assert far_apart(float(jax.jit(lambda v: log_density(v, job.model, job.problem))(vector)), want)


@pytest.mark.parametrize("name", ["scores_to_reparam", "reparam_to_unconstrained"])
def test_mutant_determinant_is_noticed(monkeypatch, name):
    right = getattr(reparam, name)
    monkeypatch.setattr(reparam, name, lambda *arguments: (right(*arguments)[0], 0.0))
    job, linear = linearised(*GEOMETRIES[0])
    assert abs(determinant_gap(job, linear)) > 1e-3


def test_long_rotation_is_the_matrix_product():
    rows = rotated.SUMMED_ROWS
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((rows, rows)))[0]
    vector = rng.standard_normal(rows)
    with jax.enable_x64(True):
        evaluation = Rotated(Basis(jnp.asarray(basis), jnp.ones(rows)), jnp.ones(rows))
        found = evaluation.rotate(jnp.asarray(vector))
    np.testing.assert_allclose(found, basis.T @ vector, atol=1e-12)
