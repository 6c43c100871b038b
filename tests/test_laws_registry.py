"""Every registered law: what must hold whatever the law is. Adding a law adds these tests for it."""

import dataclasses
import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import call
from numpyro.infer.util import log_density as numpyro_density

import bayescale as bs
from bayescale.evaluate.designs import made_up
from bayescale.laws.inputs import INPUTS
from bayescale.laws.law import LawInfo
from bayescale.laws.papers import PAPERS, words_of
from bayescale.laws.published import FORMS, VERIFIED
from bayescale.laws.registry import ALIASES, LAWS, papers_of
from bayescale.model.density import log_density
from bayescale.model.numpyro import component_model
from bayescale.model.parameters import coordinates, prior_center, simulate_prior
from bayescale.model.prepare import engine_law, make_jobs
from bayescale.posterior.encoding import law_print

pytestmark = pytest.mark.usefixtures("quickly_compiled")

NAMES = sorted(LAWS)
DRAWS = 60
EACH = pytest.mark.parametrize("name", NAMES)


def mathematics(law):
    """All that tests of curves look at; laws that have it in common differ in what they and their inputs are called."""
    priors = [(key, repr(prior)) for key, prior in law.priors.items()]
    numbered = {name: place for place, name in enumerate(law.inputs)}
    scales = [(numbered[name], numbered.get(source, source)) for name, source in law.scales]
    falling = [numbered[name] for name in law.decreasing]
    return str((law.function, priors, scales, falling, law.floor, law.info.describes, law.info.published))


CURVES = sorted({mathematics(LAWS[name]): name for name in reversed(NAMES)}.values())
"""One law for each mathematics."""
EACH_CURVE = pytest.mark.parametrize("name", CURVES)

SPREADS = {
    "chinchilla_outer": 30.0,
    # A twelfth of its prior curves are walls below the reference, more than a thousand times as high: a large net fall
    # under a high floor needs a reducible part that falls by many powers of e over a span. Two inputs show it nearly as
    # often, one half as often. Of the curves whose net fall is below its median, a hundredth.
    "three_input_outer": 1e6,
    "expert_rate": 20.0,
    "henighan_optimum": 20.0,
    "imitation_learning": 30.0,
    "kaplan_critical_batch": 20.0,
    "kaplan_steps": 30.0,
    "leverage": 15.0,
    "mixing_5": 12.0,
    "optimal_params": 30.0,
    # Where it has a plateau: how it bends was chosen by forecasts, and bends far.
    "plateau_power": 35.0,
    "quantisation_rise": 1000.0,
    "rate_by_width": 12.0,
    # It varies with both size and learning rate.
    "rate_valley": 12.0,
    "step_batch": 15.0,
    "step_rate": 30.0,
    "vocabulary": 20.0,
    "bleu_log": 60.0,
    "intrinsic_dimension": 15.0,
    "kinetics": 300.0,
    "logit_growth": 20.0,
    "reward_best_of_n": 200.0,
    "reward_by_size": 30.0,
    "reward_policy": 200.0,
    "run_time": 25.0,
    "step_horizon": 40.0,
}
"""Largest factor between a prior curve and its value at the reference, where that is wider than a learning curve's."""
LEARNING_CURVE = 8.0
"""The same for all others that are no laws of scores."""
FAR_ODDS = 1e6
"""The same of the odds against being right: a millionth of the items."""
VANISHING = ("gompertz", "difficulty_cluster", "difficulty_mixture", "horizon", "horizon_frailty")
"""Laws of scores that may vanish within the runs, by function."""
FLAT = ("no_trend",)


@functools.cache
def job_of(name, discrepancy="auto"):
    # Of a mixture its first component.
    return make_jobs(made_up(LAWS[name]), name, discrepancy=discrepancy)[0]


@functools.cache
def prior_of(name):
    """Coordinates, shape (draw, coordinate), and constants from the prior of a law on its made-up runs."""
    job = job_of(name)
    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), DRAWS)
        vectors, values = jax.vmap(lambda key: simulate_prior(key, job.model, job.problem))(keys)
        constants = {k: np.broadcast_to(np.asarray(v), DRAWS) for k, v in values.constants.items()}
    return np.asarray(vectors), constants


def reference(name):
    """Reference of each input of the made-up runs, by the name that the bound law uses."""
    job = job_of(name)
    return dict(zip(job.law.inputs, job.reference, strict=True))


def points(name, factors=(0.5, 1.0, 1.8)):
    """Raw inputs near the reference, each of shape (factor,), every input moved by other factors."""
    ref = reference(name)
    moved = {key: value * np.roll(factors, i) for i, (key, value) in enumerate(ref.items())}
    return {key: np.array([1.0, 2.0, 1.0]) if key == "schedule" else value for key, value in moved.items()}


# --- The law as the engine sees it -------------------------------------------------------------------------


@pytest.mark.parametrize("discrepancy", ["auto", None])
@EACH_CURVE
def test_density_and_gradient_are_finite_over_the_prior(name, discrepancy):
    job = job_of(name, discrepancy)
    with jax.enable_x64(True):
        center = np.asarray(prior_center(job.model, job.problem))
        draws = prior_of(name)[0][:, : len(center)]
        # Besides draws, each coordinate alone far out.
        steps = 3.0 * np.maximum(draws.std(0), 0.1) * np.eye(len(center))
        far = np.resize(center + np.concatenate([steps, -steps]), (DRAWS, len(center)))
        vectors = np.concatenate([draws, far])
        value, slope = jax.vmap(jax.value_and_grad(lambda v: log_density(v, job.model, job.problem)))(vectors)
    assert np.isfinite(value).all()
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("discrepancy", ["auto", None])
@pytest.mark.parametrize("name", ["parallel_streams", "data_constrained", "broken_2", "kaplan_batch", "farseer"])
def test_engine_is_the_program(name, discrepancy):
    # One law each with absolute inputs, tied inputs, ordered breaks, no level and an implicit curve, a fixed constant.
    job = job_of(name, discrepancy)
    with jax.enable_x64(True):
        vector, _ = simulate_prior(jax.random.key(5), job.model, job.problem)
        sites = dict(zip(coordinates(job.model, job.problem), vector, strict=True))
        program = component_model(job)
        want = numpyro_density(program, (), {}, sites)[0]
        np.testing.assert_allclose(log_density(vector, job.model, job.problem), want, rtol=1e-8)


def curves_of(name, kind):
    """ln f and its slopes in the constants at the made-up runs, shape (row, draw), in one precision."""
    law = job_of(name).model.law
    x = [kind(column)[:, None] for column in law.arguments(np.exp(job_of(name).problem.z[:10].T))]

    def total(constants):
        curve = jnp.log(law.function(*x, **constants))
        return curve.sum(), curve

    constants = {key: jnp.asarray(kind(value)) for key, value in prior_of(name)[1].items()}
    slopes, curve = jax.grad(total, has_aux=True)(constants)
    return curve, slopes


@EACH_CURVE
def test_single_precision_agrees(name):
    with jax.enable_x64(True):
        exact, _ = curves_of(name, np.float64)
    single, slopes = curves_of(name, np.float32)
    assert single.dtype == jnp.float32
    # A rounded exponent moves a steep curve by its whole height times the rounding.
    np.testing.assert_allclose(single, exact, rtol=1e-3, atol=3e-5 * (1.0 + np.abs(exact).max()))
    assert all(np.isfinite(slope).all() for slope in slopes.values())


@EACH_CURVE
def test_prior_curves_look_like_learning_curves(name):
    law = job_of(name).model.law
    x = law.arguments(np.exp(job_of(name).problem.z[:10].T))
    heights = np.log(law(*(column[:, None] for column in x), **prior_of(name)[1]))
    center = np.log(law(*law.arguments(np.ones(len(x))), **prior_of(name)[1]))
    largest = np.abs(heights - (center if law.level else np.median(heights))).max(0)
    usual = LEARNING_CURVE
    if LAWS[name].info.describes == "odds":
        usual = np.inf if LAWS[name].function.__name__ in VANISHING else FAR_ODDS
        # Without a level the odds in the middle are the prior's.
        assert law.level or np.mean(np.abs(center) < np.log(1e3)) >= 0.9
    assert np.mean(largest < np.log(SPREADS.get(name, usual))) >= 0.95, np.exp(np.quantile(largest, 0.95))
    # Nor may all of them be flat.
    assert np.median(largest) > 0.01 or name in FLAT


# --- Scaling, monotonicity, nesting ------------------------------------------------------------------------


@EACH_CURVE
def test_units_change_nothing(name):
    law, ref = job_of(name).law, reference(name)
    _, constants = prior_of(name)
    absolute = law.at_unit_scale(constants, ref)
    divisors = law.divisors(ref)
    inputs = points(name)
    with np.errstate(all="ignore"):
        for i in range(3):
            raw = [inputs[key][i] for key in law.inputs]
            scaled = [inputs[key][i] / divisors[key] for key in law.inputs]
            got, want = law(*raw, **absolute), law(*scaled, **constants)
            # Prior draws reach exponents whose raw amplitudes no double holds.
            held = np.isfinite(got) & np.all([np.isfinite(v) for v in absolute.values()], axis=0)
            assert held.sum() >= DRAWS / 2
            np.testing.assert_allclose(got[held], want[held], rtol=1e-7)


@EACH_CURVE
def test_constants_make_the_round_trip(name):
    law, ref = job_of(name).law, reference(name)
    inverse = {key: 1.0 / value for key, value in ref.items()}
    sets = [dict(source.constants) for source in law.info.published] or [
        {k: v[:5] for k, v in prior_of(name)[1].items()}
    ]
    for constants in sets:
        again = law.at_unit_scale(law.at_unit_scale(constants, inverse), ref)
        for key, value in constants.items():
            np.testing.assert_allclose(again[key], value, rtol=1e-9, atol=1e-12, err_msg=key)


@EACH_CURVE
def test_decreasing(name):
    law, ref = job_of(name).law, reference(name)
    divisors = law.divisors(ref)
    _, constants = prior_of(name)
    for moving in law.decreasing:
        grid = np.geomspace(0.1, 10, 9)[:, None]
        x = [ref[key] / divisors[key] * (grid if key == moving else np.ones((9, 1))) for key in law.inputs]
        with np.errstate(all="ignore"):
            curve = law(*x, **constants)
        steps = np.diff(curve, axis=0)
        assert np.all((steps <= 1e-12 * curve[:-1]) | ~np.isfinite(steps))
        assert np.mean(steps < 0) > 0.8


@EACH_CURVE
def test_documentation_changes_no_program(name):
    """Of a law, programs and stored fits take the mathematics alone."""
    law = LAWS[name]
    other = dataclasses.replace(law, name="other", info=LawInfo(summary="Another text."))
    assert other.info != law.info
    job = job_of(name)
    before, after = (engine_law(one, job.problem.active, job.reference) for one in (law, other))
    assert jax.tree.structure(before) == jax.tree.structure(after)
    assert law_print(law) == law_print(other)


@pytest.mark.parametrize("name", [name for name in CURVES if LAWS[name].floor and LAWS[name].decreasing])
def test_floor(name):
    law = LAWS[name]
    _, constants = prior_of(name)
    far = [1e300 if key in law.decreasing else 1.0 for key in law.inputs]
    with np.errstate(all="ignore"):
        value = law(*far, **constants)
    np.testing.assert_allclose(np.median(value / constants[law.floor]), 1.0, rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in CURVES if LAWS[name].level])
def test_level_scales_the_law(name):
    law = job_of(name).law
    _, constants = prior_of(name)
    key, prior = law.level
    doubled = {**constants, **prior.scaled(constants, law.covered[key], 2.5)}
    x = [value[0] / law.divisors(reference(name))[column] for column, value in points(name).items()]
    np.testing.assert_allclose(law(*x, **doubled), 2.5 * law(*x, **constants), rtol=1e-9)


NESTINGS = [(name, other, dict(fixed)) for name in NAMES for other, fixed in LAWS[name].info.nests]


@pytest.mark.parametrize(("name", "other", "fixed"), NESTINGS, ids=lambda value: str(value))
def test_nesting(name, other, fixed):
    law, inner = job_of(name).law, LAWS[other]
    constants = {**prior_of(name)[1], **{k: v for k, v in fixed.items() if k in law.constants}}
    inputs = {key: value[0] / law.divisors(reference(name))[key] for key, value in points(name).items()}
    inputs |= {key: value for key, value in fixed.items() if key in law.inputs}
    # Numbers name constants and inputs of the outer law; the inner one finds its own by name.
    names = law.inputs if inner.inputs == ("x",) else inner.inputs
    got = law(*(inputs[key] for key in law.inputs), **constants)
    want = inner(*(inputs[key] for key in names), **{key: constants[key] for key in inner.constants})
    np.testing.assert_allclose(got, want, rtol=1e-9)


# --- What a law says about itself --------------------------------------------------------------------------


def test_metadata():
    bib = (Path(__file__).parents[1] / "references.bib").read_text(encoding="utf-8")
    known = set(re.findall(r"@\w+\{([^,]+),", bib))
    for law in LAWS.values():
        assert law.info.summary.endswith("."), law.name
        assert law.info.form in FORMS, law.name
        assert set(law.inputs) <= {*INPUTS, "x"}, law.name
        assert {law.info.cite, *(source.cite for source in law.info.published)} <= known, law.name
        assert set(re.findall(r"\b[a-z]+\d{4}[a-z]+\b", law.info.caveats)) <= known, law.name
        assert {source.verified for source in law.info.published} <= set(VERIFIED), law.name
        for source in law.info.published:
            assert set(dict(source.constants)) == set(law.constants), (law.name, source.key)
    for name, entry in ALIASES.items():
        assert name not in LAWS
        assert bs.laws.get(name) is LAWS[entry.law]
        assert entry.cite in known, name


def test_no_key_is_cited_twice():
    bib = (Path(__file__).parents[1] / "references.bib").read_text(encoding="utf-8")
    keys = re.findall(r"@\w+\{([^,]+),", bib)
    assert len(keys) == len(set(keys))


def test_unknown_laws_are_counted_without_aliases():
    with pytest.raises(bs.InputError, match=f"Did you mean 'chinchilla'.*lists the {len(bs.LAWS)} laws"):
        bs.laws.get("chinchila")


# --- How a law is found ------------------------------------------------------------------------------------


@EACH
def test_laws_are_found_by_name_nickname_first_author_and_key(name):
    law = LAWS[name]
    others = [other for other, entry in ALIASES.items() if entry.law == name]
    authors = [author for paper in papers_of(law) for author in paper.authors[:1]]
    assert authors or law.info.cite == "skaling2026"
    for text in [name, law.info.cite, *others, *law.info.nicknames, *authors]:
        for spelt in (text, text.upper(), text.replace("_", " ")):
            assert name in bs.laws.search(spelt), spelt
    for paper in papers_of(law):
        assert name in bs.laws.search(paper.title)


def test_papers_are_those_of_the_references():
    bib = (Path(__file__).parents[1] / "references.bib").read_text(encoding="utf-8")
    cited = {paper for law in LAWS.values() for paper in papers_of(law)}
    assert cited == set(PAPERS.values())
    for key, paper in PAPERS.items():
        entry = re.search(rf"@\w+\{{{key},\n(.*?)\n\}}", bib, re.DOTALL)[1]
        # Accents are commands, braces keep capitals.
        plain = " ".join(words_of(re.sub(r"\\.|[{}]", "", entry)))
        assert f"title {' '.join(words_of(paper.title))} " in f"{plain} ", key
        assert f" year {paper.year}" in plain, key
        for author in paper.authors:
            assert f" {' '.join(words_of(author))} " in plain, (key, author)
        assert ("others" in plain.split(" year ")[0]) == paper.more, key


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("muennighoff", ("data_constrained",)),
        ("Muennighoff 2023", ("data_constrained",)),
        ("data-constrained", ("data_constrained",)),
        ("BNSL", ("broken_1", "broken_2", "broken_3")),
        ("parscale", ("parallel_streams",)),
        ("besiroglu", ("chinchilla",)),
        ("borgeaud", ("growing_power", "optimal_params", "chinchilla", "isoflop")),
        ("Stanić", ("accelerator_hours",)),
        ("nobody at all", ()),
    ],
)
def test_search(text, names):
    assert bs.laws.search(text) == names


def test_a_search_needs_a_word():
    for text in ("", " -- ", None):
        with pytest.raises(bs.InputError, match="'muennighoff'"):
            bs.laws.search(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("muennighoff", "There is no law 'muennighoff'. Muennighoff et al. 2023 is 'data_constrained'."),
        ("bnsl", "Caballero et al. 2022 is 'broken_1', 'broken_2', 'broken_3'."),
        ("MoE", "Laws with this name: 'routed', "),
        ("pearce", "Pearce and Song 2024 is 'pearce_song'."),
        ("power_law", "Did you mean 'power'?"),
    ],
)
def test_an_unknown_law_is_looked_for_among_papers_and_nicknames(text, says):
    with pytest.raises(bs.InputError) as refusal:
        bs.laws.get(text)
    assert says in str(refusal.value)


def test_the_command_finds_laws(capsys):
    assert call("laws", "muennighoff") == 0
    assert capsys.readouterr().out.startswith("data_constrained(")
    assert call("laws", "caballero") == 0
    assert [line.split("(")[0] for line in capsys.readouterr().out.splitlines()] == ["broken_1", "broken_2", "broken_3"]
    assert call("laws", "nobody") == 2


def test_own_laws_are_found_by_their_nicknames(monkeypatch):
    # What a test registers is gone after it.
    monkeypatch.setitem(LAWS, "nothing_helps", LAWS["power"])

    @bs.register_law(inputs="flops", priors={"A": bs.Level()}, cite="dupont2031things", nicknames=("flat line",))
    def nothing_helps(C, *, A):
        """A constant."""
        return A + 0.0 * C

    for text in ("flat line", "Dupont", "nothing helps"):
        assert bs.laws.search(text) == ("nothing_helps",)
