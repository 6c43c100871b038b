"""Axes of the discrepancy: along the inputs, along their common scale, products of two, and that none has a unit."""

import numpy as np
import pandas as pd
import pytest

import bayescale as bs
from bayescale.evaluate.scores import crps
from bayescale.model.designs import find_design
from bayescale.model.discrepancy import directions, kernel
from bayescale.model.prepare import axis_positions, make_job

FAR = {"n_params": 1e10, "n_tokens": 2e11}
ALONG_SCALE = bs.Discrepancy(along="scale")


def grid(powers=(1.0, 1.0)):
    """A made-up grid of sizes and token counts, recoded by powers."""
    rng = np.random.default_rng(0)
    sizes, tokens = (side.ravel() for side in np.meshgrid(np.geomspace(5e7, 8e8, 4), np.geomspace(1e9, 2e10, 4)))
    loss = (1.7 + (sizes / 2e8) ** -0.3 + 0.8 * (tokens / 5e9) ** -0.3) * np.exp(0.004 * rng.standard_normal(16))
    frame = pd.DataFrame({"n_params": sizes ** powers[0], "n_tokens": tokens ** powers[1], "loss": loss})
    return bs.Runs.from_frame(frame, inputs=["n_params", "n_tokens"], name="grid")


def test_common_scale_runs_from_zero_to_one():
    position = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.6, 0.6]])
    matrix, origin = directions(position, "scale")
    place = position @ matrix - origin
    np.testing.assert_allclose(place, [[0.0, 0.0], [1 / 1.2, 0.0], [1 / 1.2, 0.0], [1.0, 0.0]])
    # Along a line of equal scale there is no reach to divide by.
    matrix, _ = directions(np.array([[0.0, 1.0], [1.0, 0.0]]), "scale")
    assert matrix[:, 0].tolist() == [1.0, 1.0]


def test_interactions_are_products_of_paths():
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-0.5, 3.0, (5, 3)), rng.uniform(0.0, 1.0, (4, 3))
    a[0] = 0.0
    plain, crossed = bs.Discrepancy(interaction=0.0), bs.Discrepancy(interaction=0.7)
    one, two, three = (kernel(a[:, [i]], b[:, [i]], crossed) for i in range(3))
    np.testing.assert_allclose(kernel(a, b, plain), one + two + three, rtol=1e-12)
    pairs = one * two + one * three + two * three
    np.testing.assert_allclose(kernel(a, b, crossed), one + two + three + 0.7 * pairs, rtol=1e-12)
    np.testing.assert_array_equal(kernel(a, b, crossed)[0], 0.0)
    both = np.concatenate([a, b])
    assert np.linalg.eigvalsh(kernel(both, both, crossed)).min() > -1e-10


def test_interactions_tell_a_grid_whose_inputs_do_not_add_up():
    """One input helps less the larger the other, as experts do in large models; the largest products are held out."""
    rng = np.random.default_rng(1)
    sizes, experts = (side.ravel() for side in np.meshgrid(np.geomspace(1e7, 1e9, 5), 4.0 ** np.arange(5)))
    n, e = np.log(sizes / 1e7), np.log(experts)
    loss = np.exp(1.2 - 0.10 * n - 0.08 * e + 0.015 * n * e + 0.002 * rng.standard_normal(len(n)))
    frame = pd.DataFrame({"n_params": sizes, "experts": experts, "loss": loss})
    large = sizes * experts > 3e9
    runs = bs.Runs.from_frame(frame[~large], inputs=["n_params", "experts"], name="experts")
    errors, scores = [], []
    for interaction in (0.0, 1.0):
        discrepancy = bs.Discrepancy(interaction=interaction)
        found = bs.fit(runs, seed=0, discrepancy=discrepancy, method="importance").predict(frame[large], kind="run")
        truth = np.log(frame.loc[large, "loss"].to_numpy())
        errors.append(np.abs(np.log(found.quantile(0.5)) - truth).mean())
        scores.append(crps(truth, found.location, found.scale).mean())
    assert errors[1] < 0.7 * errors[0]
    assert scores[1] < 0.7 * scores[0]


@pytest.mark.parametrize("powers", [(2.0, 0.5), (0.3, 3.0)])
def test_recoded_inputs_give_the_same_problem(powers):
    one, other = (make_job(grid(p), "auto", discrepancy=ALONG_SCALE) for p in ((1.0, 1.0), powers))
    bases = [job.problem.evaluation.basis for job in (one, other)]
    np.testing.assert_allclose(bases[1].eigenvalues, bases[0].eigenvalues, atol=1e-10)
    np.testing.assert_allclose(other.problem.origin, one.problem.origin, atol=1e-10)
    far = np.array([list(FAR.values())])
    ahead = [
        axis_positions(job.model.law, job.problem, job.low, np.log(far ** np.array(p) / job.reference))
        for job, p in ((one, (1.0, 1.0)), (other, powers))
    ]
    np.testing.assert_allclose(*ahead)


def test_recoded_inputs_give_the_same_forecast():
    one, recoded = (bs.fit(grid(p), seed=0, discrepancy=ALONG_SCALE) for p in ((1.0, 1.0), (2.0, 0.5)))
    there = recoded.predict(n_params=FAR["n_params"] ** 2, n_tokens=FAR["n_tokens"] ** 0.5)
    levels = [0.1, 0.25, 0.5, 0.75, 0.9]
    gap = np.log(there.quantile(levels) / one.predict(**FAR).quantile(levels))
    assert np.abs(gap).max() < 0.01


def test_unknown_axes_are_refused():
    with pytest.raises(bs.InputError, match="varies along"):
        bs.Discrepancy(along="depth")


# --- Designs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "design"),
    [("n_params", "ladder"), ("flops", "ladder"), ("n_params_active", "ladder"), ("Params (B)", "ladder")]
    + [(name, "curve") for name in ("n_tokens", "n_samples", "step", "n_attempts", "x")],
)
def test_designs_are_told_by_the_name_of_the_input(name, design):
    assert find_design([name]) == design
    assert find_design([name], "curve") == "curve"


def test_the_design_that_was_taken_is_said_and_kept(tmp_path):
    size = np.geomspace(1e7, 1e9, 6)
    runs = bs.Runs.from_frame(pd.DataFrame({"n_tokens": size, "loss": 2.0 + (size / 1e8) ** -0.2}))
    taken, asked = (
        bs.fit(runs, seed=0, method="importance", settings=bs.Nuts(draws=50, chains=2), design=design)
        for design in ("auto", "ladder")
    )
    assert "taken for a curve" in str(taken) and taken.weights == (0.5, 0.5)
    assert "taken for a ladder" in str(asked) and asked.weights == (0.5, 0.25, 0.25)
    assert float(asked.discrepancy.median) < float(taken.discrepancy.median)
    asked.save(tmp_path / "fit.nc")
    assert str(bs.load(tmp_path / "fit.nc")) == str(asked)


def test_unknown_designs_are_refused():
    with pytest.raises(bs.InputError, match=r"no design 'ladders'.*ladder"):
        find_design(["flops"], "ladders")
    with pytest.raises(bs.InputError, match="one input; found n_params, n_tokens"):
        find_design(["n_params", "n_tokens"], "ladder")
