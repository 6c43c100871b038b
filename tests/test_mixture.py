"""Mixtures: the default law of one input, with a plateau and without, and mixtures that are put together by hand."""

import dataclasses
import re

import arviz as az
import jax
import numpy as np
import pandas as pd
import pytest
from conftest import APART
from test_discrepancy_axes import ALONG_SCALE, FAR, grid

import bayescale as bs
from bayescale.decide.information import sample_information
from bayescale.decide.outcomes import joint_draws, mean_error
from bayescale.decide.sensitivity import reweighted
from bayescale.fitting.plan import plan_fit, share
from bayescale.model.density import log_density
from bayescale.model.parameters import coordinates
from bayescale.model.prepare import make_job, make_jobs

CHAINS = bs.Nuts().chains
HALF = share(bs.Nuts(), 0.5)


@pytest.fixture(scope="module")
def apart(marin):
    """The plateau throughout, and another law without one."""
    return [bs.fit(marin, seed=0, priors=APART, settings=HALF), bs.fit(marin, "saturating_power", seed=0)]


@pytest.fixture(scope="module")
def by_hand():
    """Posteriors of several inputs with two kinds of discrepancy."""
    return [bs.fit(grid(), seed=0), bs.fit(grid(), seed=0, discrepancy=ALONG_SCALE)]


# --- The default ----------------------------------------------------------------------------------------------


def test_default_of_a_ladder_is_a_mixture_of_three_posteriors(marin_post, apart):
    assert isinstance(marin_post, bs.Mixture)
    assert marin_post.weights == (0.5, 0.25, 0.25)
    with_plateau, without, bare = marin_post.components
    np.testing.assert_array_equal(with_plateau.unconstrained, apart[0].unconstrained)
    assert with_plateau.settings == HALF
    assert (np.asarray(with_plateau.draws["g"]) > 0).all()
    assert (np.asarray(without.draws["g"]) == 0).all()
    found = marin_post.predict(flops=4e21)
    assert (np.asarray(bare.draws["E"]) == 0).all() and (np.asarray(bare.draws["g"]) == 0).all()
    forecasts = [part.predict(flops=4e21) for part in marin_post.components]
    means = [part.location.mean() for part in forecasts]
    assert found.location.mean() == pytest.approx(np.dot(marin_post.weights, means), abs=0.003)
    other = forecasts[1]
    # The component without a plateau is the saturating power law.
    assert other.location.mean() == pytest.approx(apart[1].predict(flops=4e21).location.mean(), abs=0.006)


def test_component_without_plateau_has_the_density_of_the_saturating_power_law(marin):
    job = make_jobs(marin, "auto")[1]
    plain = make_job(marin, "saturating_power")
    names, others = (coordinates(one.model, one.problem) for one in (job, plain))
    assert ["logit_share_E" if name == "bend" else name for name in names] == list(others)
    vectors = np.random.default_rng(0).normal(size=(5, len(names))) * 0.7 - 1.0
    density = jax.jit(log_density)
    for vector in vectors:
        np.testing.assert_allclose(
            density(vector, job.model, job.problem), density(vector, plain.model, plain.problem), rtol=1e-9
        )


def test_chains_are_shared_out_by_weight(marin):
    whole = bs.Nuts(chains=5)
    assert [share(whole, weight).chains for weight in (0.5, 0.8, 0.01)] == [3, 4, 1]
    assert share(whole, 0.25).least_ess == 100.0
    (job, settings, stream), (other, same, _), _ = plan_fit(marin, "auto").tasks(whole, 7)
    assert settings == same and stream == 7
    assert [float(one.problem.plateau) for one in (job, other)] == [1.0, 0.0]
    assert jax.tree.structure(job.problem) == jax.tree.structure(other.problem), "one program serves both"


@pytest.mark.parametrize("plateau", ["present", "absent", "power"])
def test_one_component_can_be_asked_for(marin, marin_post, plateau):
    one = bs.fit(marin, seed=0, priors={"terms": bs.Plateaus(plateau=plateau)}, settings=HALF)
    assert isinstance(one, bs.Posterior)
    np.testing.assert_array_equal(
        one.unconstrained, marin_post.components[["present", "absent", "power"].index(plateau)].unconstrained
    )


def test_unknown_plateaus_are_refused(marin):
    with pytest.raises(bs.InputError, match="'mixture', 'present', 'absent', 'power'; found 'half'"):
        bs.fit(marin, seed=0, priors={"terms": bs.Plateaus(plateau="half")})


@pytest.mark.parametrize("method", ["nuts", "importance"])
def test_status_is_that_of_every_component(marin, method):
    post = bs.fit(marin, seed=0, method=method)
    assert post.status is bs.Status.OK
    assert [part.diagnostics.method for part in post.components] == [method] * 3
    wrong = dataclasses.replace(post.components[1].diagnostics, status=bs.Status.NOT_MIXED, rhat=np.array([1.2]))
    mixed = bs.Mixture(
        (post.components[0], dataclasses.replace(post.components[1], diagnostics=wrong), post.components[2])
    )
    assert mixed.status is bs.Status.NOT_MIXED
    (note,) = [note for note in mixed.check() if note.code == "unconverged"]
    assert "the component with a floor" in note.text


def test_tables_have_the_constants_of_each_component(marin_post):
    labels = ["with floor and plateau", "with a floor", "without floor and plateau"]
    own = [["E", "A", "g", "c"], ["E", "A", "c"], ["A", "c"]]
    table = marin_post.summary(0.8)
    # The first columns are those that a narrow terminal shows.
    assert list(table)[:4] == ["mean", "sd", "eti80_lb", "eti80_ub"]
    said = str(marin_post)
    for part, weight, label, names in zip(marin_post.components, marin_post.weights, labels, own, strict=True):
        rows = table[table["component"] == label]
        assert list(rows.index) == [*names, "residual_sd", "seed_sd", "discrepancy"]
        assert set(rows["weight"]) == {weight}
        pd.testing.assert_frame_equal(
            rows.drop(columns=["component", "weight"]), part.summary(0.8).loc[rows.index], check_dtype=False
        )
        block = said.partition(f"  {weight:.3g} {label},")[2].splitlines()[1 : len(rows) + 1]
        assert [line.split()[0] for line in block] == list(rows.index)
        assert f"{np.median(part.draws['c']):.5g}" in block[names.index("c")]
    learned = marin_post.contraction()
    assert list(learned.index) == list(marin_post.components[0].names)
    assert (learned < 1.0).all()
    assert learned["log_fall"] > 0.9
    assert "0.5 with floor and plateau, 2 chains x 500 draws" in str(marin_post)


# --- Put together by hand ---------------------------------------------------------------------------------------


def test_a_component_that_the_runs_refute_is_noted_with_what_forecasts_without_it(marin_post, monkeypatch):
    def elpd(part):
        return fits[["present", "absent", "power"].index(part.law.level[1].plateau)]

    monkeypatch.setattr("bayescale.posterior.checks.elpd", elpd)
    fits = [30.0, 29.0, 17.5]
    (note,) = [note for note in marin_post.check() if note.code == "worse_component"]
    assert note.severity == "info" and "by 12 nats" in note.text and "with weight 0.25" in note.text
    assert "law='saturating_power' (bayescale fit --law saturating_power)" in note.text
    again = eval(re.search(r"bs\.Mixture\(.*?\)", note.text)[0], {"bs": bs, "post": marin_post})
    assert again.components == marin_post.components[:2]
    fits = [17.0, 29.0, 30.0]
    (note,) = [note for note in marin_post.check() if note.code == "worse_component"]
    assert "[post.components[i] for i in [1, 2]]" in note.text
    fits = [10.0, 30.0, 17.0]
    (note,) = [note for note in marin_post.check() if note.code == "worse_component"]
    assert "by 20 and 13 nats" in note.text and "post.components[1] forecasts without" in note.text
    fits = [30.0, 29.0, 22.5]
    assert not [note for note in marin_post.check() if note.code == "worse_component"]


def test_weights_are_shares_of_the_draws(by_hand):
    mixed = bs.Mixture(tuple(by_hand), (3.0, 1.0))
    assert mixed.weights == (0.75, 0.25)
    sizes = [chains * draws for chains, draws in mixed.layout]
    assert sizes[0] / sum(sizes) == pytest.approx(0.75, abs=0.01)
    found = mixed.predict(**FAR, kind="mean")
    means = [part.predict(**FAR, kind="mean").location.mean() for part in by_hand]
    assert found.location.mean() == pytest.approx(0.75 * means[0] + 0.25 * means[1], abs=0.005)
    assert found.draws.shape == (1, sum(sizes), 1), "components of unequal length are one chain"
    assert "0.75 discrepancy along the inputs" in str(mixed)
    assert 0.0 < bs.decide.go(mixed, target=2.2, cost=1.0, value=3.0, **FAR).probability < 1.0


def test_mixture_by_hand_comes_back_from_its_file(by_hand, tmp_path):
    mixed = bs.Mixture(tuple(by_hand), (0.3, 0.7))
    mixed.save(tmp_path / "fit.nc")
    again = bs.load(tmp_path / "fit.nc")
    assert again.weights == mixed.weights
    assert [part.discrepancy.along for part in again.components] == ["inputs", "scale"]
    np.testing.assert_array_equal(again.predict(**FAR).log_draws, mixed.predict(**FAR).log_draws)


def test_what_cannot_be_mixed_is_refused(marin_post, by_hand, apart):
    with pytest.raises(bs.InputError, match="needs posteriors"):
        bs.Mixture(())
    with pytest.raises(bs.InputError, match="found Mixture"):
        bs.Mixture((marin_post,))
    with pytest.raises(bs.InputError, match="same runs"):
        bs.Mixture((by_hand[0], apart[0]))
    law = dataclasses.replace(apart[1].law, name=apart[0].law.name)
    alike = dataclasses.replace(apart[1], job=dataclasses.replace(apart[1].job, law=law))
    with pytest.raises(bs.InputError, match="have the same name, plateau_power"):
        bs.Mixture((apart[0], alike))
    for weights in ((1.0,), (1.0, 0.0), (1.0, float("nan"))):
        with pytest.raises(bs.InputError, match="positive weights"):
            bs.Mixture(tuple(by_hand), weights)


# --- Files ------------------------------------------------------------------------------------------------------


def test_arviz_reads_every_component(marin_post):
    tree = marin_post.to_datatree()
    names = ["present", "absent", "power"]
    children = [f"component_{name}" for name in names]
    assert {*children, "posterior_predictive", "observed_data"} <= set(tree.children)
    assert tree["posterior_predictive"]["loss"].shape == (1, CHAINS * HALF.draws, len(marin_post.runs))
    whose = tree["posterior_predictive"]["component"].to_numpy()
    assert [int((whose == name).sum()) for name in names] == [chains * draws for chains, draws in marin_post.layout]
    # What the documentation says of the whole: a mixture predicts, and has no constants of its own.
    predicted = az.summary(tree, group="posterior_predictive", kind="stats", round_to="none")
    assert predicted["mean"].to_numpy() == pytest.approx(marin_post.runs.frame["loss"].to_numpy(), rel=0.01)
    for child, weight, part in zip(children, marin_post.weights, marin_post.components, strict=True):
        assert tree[child].attrs["weight"] == weight
        table = az.summary(tree[child], round_to="none")
        moving = table[table["sd"] > 0]
        assert moving["r_hat"].max() < 1.01
        assert part.status is bs.Status.OK


def test_file_keeps_all_components(marin_post, tmp_path):
    marin_post.save(tmp_path / "fit.nc")
    again = bs.load(tmp_path / "fit.nc")
    assert again.status is marin_post.status
    for one, other in zip(again.components, marin_post.components, strict=True):
        np.testing.assert_array_equal(one.unconstrained, other.unconstrained)
        np.testing.assert_array_equal(one.diagnostics.ess_bulk, other.diagnostics.ess_bulk)
    np.testing.assert_array_equal(again.predict(flops=1e24).log_draws, marin_post.predict(flops=1e24).log_draws)


# --- Decisions --------------------------------------------------------------------------------------------------


def test_errors_of_means_do_not_grow_with_the_gap_between_components():
    values = np.random.default_rng(0).standard_normal(2000)
    gap, layout = np.repeat([0.0, 5.0], 1000), ((2, 500), (2, 500))
    assert mean_error(values + gap, layout) == pytest.approx(mean_error(values, layout))
    assert mean_error(values, layout) == pytest.approx(2000**-0.5, rel=0.2)
    assert mean_error(values + gap, ((4, 500),)) > 3.0 * mean_error(values, layout)
    assert mean_error(gap, layout) == 0.0


def test_rules_are_learned_on_all_components(marin_post):
    """A pilot that shows which model is true is worth something only if the rule has seen all."""
    assert len(joint_draws(marin_post, marin_post.runs.frame[["flops"]].head(1)).layout) == 3
    rng = np.random.default_rng(0)
    target = np.repeat([0.0, 1.0], 4000) + 0.1 * rng.standard_normal(8000)
    shown = (target + 0.1 * rng.standard_normal(8000))[:, None]
    value = sample_information(target - 0.5, target, shown)
    assert value.evsi == pytest.approx(0.25, rel=0.05)


def test_weaker_priors_keep_the_weights(marin_post):
    at = {"flops": 1e25}
    row = reweighted("weaker", marin_post, 0.8, at, None)
    middle = marin_post.predict(**at).quantile(0.5)[0]
    assert row["median"] == pytest.approx(middle, rel=0.02)


def test_many_families_share_programs_and_come_back_whole(marin, marin_post):
    frame = pd.DataFrame(marin.frame.assign(loss=marin.frame["loss"] * 1.01))
    families = [marin, dataclasses.replace(marin, frame=frame, name="other")]
    one, other = bs.fit_many(families, seed=0)
    assert [len(fit.components) for fit in (one, other)] == [3, 3]
    np.testing.assert_array_equal(one.components[1].unconstrained, marin_post.components[1].unconstrained)
    assert other.runs.name == "other"


def test_a_trusted_law_is_not_mixed_with_its_special_case(marin):
    jobs = make_jobs(marin, "auto", discrepancy=None)
    assert [job.law.level[1].plateau for job in jobs] == ["present", "absent"]
    assert plan_fit(marin, "auto", discrepancy=None).weights == (0.5, 0.5)
    assert plan_fit(marin, "auto").weights == (0.5, 0.25, 0.25)
