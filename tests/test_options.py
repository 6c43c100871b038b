"""Every option of every public function refuses what it cannot be, in one sentence, before anything is compiled."""

import dataclasses
import inspect
import math

import jax
import numpy as np
import pandas as pd
import pytest

import bayescale as bs
from bayescale.errors import InputError
from bayescale.fitting.options import FitOptions
from bayescale.fitting.programs import TRACES
from bayescale.model.prepare import make_jobs

HUGE = 10**400
NO_NUMBERS = ["", "a", [], {}, [1.0, "b"], object(), True, math.nan, math.inf, -math.inf, HUGE, 1j]
NO_POSITIVE = [*NO_NUMBERS, -1.0, 0, 0.0]
NO_TABLES = [3, "a", [1, 2], {"flops": 1e19}, object()]
TEXT = pd.DataFrame({"flops": ["a", "b"]})
BAD = {
    "positive": NO_POSITIVE,
    "at least zero": [*NO_NUMBERS, -1.0],
    "items": [*NO_POSITIVE, 0.5],
    "probability": [*NO_POSITIVE, 1.0, 1.5],
    "whole": [*NO_POSITIVE, 1.5, 1e12, 10**30],
    "from zero": [*NO_NUMBERS, -1, 1.5],
    "name": ["", "no such name", 3, [], {}, object(), math.nan],
    "text": [3, [], {}, object()],
    "class": ["", "a", 3, [], {}, object(), math.nan, TEXT, [1, 2]],
    "mapping": ["a", 3, [1], object(), {"flops": "a"}, {"flops": -1.0}, {"flops": math.nan}, {"nothing": 1.0}],
    "priors": ["a", 3, [], [1], {"no such": bs.Exponent()}, {"a": 3}, {"a": bs.Exponent}],
    "table": [*NO_TABLES, TEXT, pd.DataFrame({"flops": [1e19, -1.0]}), pd.DataFrame({"other": [1.0]})],
    "tables": [3, "a", [TEXT], {}, {"p": 3}, {"p": TEXT}, {"p": pd.DataFrame({"flops": [math.nan]})}],
    "numbers": ["a", ["a"], [math.nan], [-1.0], {}],
    "range": ["a", 3, [], [1.0], [2.0, 1.0], [1.0, math.inf], ["a", "b"], [1e18, 1e19, 1e20], {}],
    "settings": [
        {},
        [],
        3,
        "a",
        bs.Nuts,
        *(bs.Nuts(draws=n) for n in (0, -1, 1.5, "a", None, 10**30)),
        *(bs.Nuts(chains=n) for n in (0, -1, 2.0, "a", 10**30)),
        *(bs.Nuts(warmup=n) for n in (-1, 1e12, "a", 10**12)),
        *(bs.Nuts(depth=n) for n in (0, -1, 1.5, 10**6)),
        *(bs.Nuts(mode_steps=n) for n in (-1, 1.5, "a")),
        *(bs.Nuts(target_accept=x) for x in (0.0, 1.0, 1.5, -1, math.nan, "a", None)),
    ],
    "likelihood": [
        3,
        "",
        "nromal",
        [],
        None,
        bs.Likelihood,
    ],
    "discrepancy": [
        3,
        "",
        "atuo",
        [],
        bs.Discrepancy,
        bs.Discrepancy(sd=[1.0]),
    ],
}
FIT = {
    "seed": "from zero",
    "law": "name",
    "discrepancy": "discrepancy",
    "likelihood": "likelihood",
    "priors": "priors",
    "settings": "settings",
    "method": "name",
}
WITHOUT_PRIORS = {name: kind for name, kind in FIT.items() if name != "priors"}
STAKES = {"target": "positive", "cost": "at least zero", "value": "positive", "utility": "name", "unit": "text"}
AT = {"flops": 1e21}
PLANS = {"four": pd.DataFrame({"flops": [1e18, 1e19, 1e20, 1e21]})}
SEEDED = pd.DataFrame({"flops": [1e18] * 3, "loss": [3.0, 3.01, 3.02], "seed": [0, 1, 2]})
CHINCHILLA = bs.laws.get("chinchilla").published("besiroglu2024")

FUNCTIONS = {
    "fit": (bs.fit, {"runs": "runs", "seed": 0}, {"runs": "class", "strict": "text", **FIT}),
    "fit_many": (
        bs.fit_many,
        {"families": "families", "seed": 0},
        {"families": "class", "failures": "name", "strict": "text", **FIT},
    ),
    "fit_each": (bs.fit_each, {"families": "families", "seed": 0}, {"families": "class", **FIT}),
    "backtest": (
        bs.backtest,
        {"runs": "runs", "seed": 0, "ratio": 3},
        {"runs": "class", "ratio": "positive", "min_train": "whole", **WITHOUT_PRIORS},
    ),
    "backtest largest": (bs.backtest, {"runs": "runs", "seed": 0, "largest": 1}, {"largest": "whole"}),
    "sbc": (
        bs.sbc.run,
        {"runs": "runs", "seed": 0, "simulations": 2},
        {"runs": "class", "simulations": "whole", "ratios": "numbers"} | WITHOUT_PRIORS,
    ),
    "sbc given": (
        bs.sbc.given,
        {"runs": "runs", "seed": 0, "simulations": 2},
        {"runs": "class", "simulations": "whole", "ratios": "numbers", "method": "name", "settings": "settings"},
    ),
    "load": (bs.load, {}, {"path": "class"}),
    "predict": (
        lambda posterior, **o: posterior.predict(**o),
        {"posterior": "post"},
        {"at": "mapping", "kind": "name"},
    ),
    "predict by name": (lambda posterior, **o: posterior.predict(**o), {"posterior": "post"}, {"flops": "positive"}),
    "summary": (lambda posterior, **o: posterior.summary(**o), {"posterior": "post"}, {"level": "probability"}),
    "quantile": (lambda forecast, **o: forecast.quantile(**o), {"forecast": "forecast"}, {"q": "probability"}),
    "interval": (lambda forecast, **o: forecast.interval(**o), {"forecast": "forecast"}, {"level": "probability"}),
    "below": (
        lambda forecast, **o: forecast.probability_below(**o),
        {"forecast": "forecast"},
        {"target": "positive"},
    ),
    "measured": (lambda forecast, **o: forecast.measured(**o), {"forecast": "forecast"}, {"value_se": "at least zero"}),
    "measured on items": (lambda forecast, **o: forecast.measured(**o), {"forecast": "rate"}, {"items": "items"}),
    "report": (
        bs.report,
        {"posterior": "post", "with_sensitivity": False},
        {"posterior": "class", "decision": "class", "title": "text", "command": "text"},
    ),
    "go": (
        bs.decide.go,
        {"posterior": "post", "target": 2.5, "cost": 1.0, "value": 2.0, "at": AT},
        {"posterior": "class", "at": "mapping", "pilots": "table", "batch": "whole", "pilot_cost": "text", **STAKES},
    ),
    "next_run": (
        bs.decide.next_run,
        {"posterior": "post", "target": 2.5, "cost": 1.0, "value": 2.0, "at": AT},
        {
            "posterior": "class",
            "at": "mapping",
            "candidates": "table",
            "batch": "whole",
            "budget": "positive",
            **STAKES,
        },
    ),
    "stop_early": (
        bs.decide.stop_early,
        {"posteriors": "post", "target": 2.5, "remaining": 1.0, "value": 2.0, "at": AT},
        {
            "posteriors": "class",
            "target": "positive",
            "remaining": "positive",
            "value": "positive",
            "chance": "probability",
            "unit": "text",
            "at": "mapping",
        },
    ),
    "power": (
        bs.decide.power,
        {"source": "post", "plans": PLANS, "width": 0.1, "at": AT},
        {
            "source": "class",
            "plans": "tables",
            "width": "positive",
            "sure": "probability",
            "level": "probability",
            "wanted": "probability",
            "simulations": "whole",
            "seed": "from zero",
            "at": "mapping",
        },
    ),
    "power difference": (
        bs.decide.power,
        {"source": "post", "plans": PLANS, "difference": 0.1, "at": AT},
        {"difference": "positive"},
    ),
    "power target": (
        bs.decide.power,
        {"source": "post", "plans": PLANS, "target": 2.0, "at": AT},
        {"target": "positive"},
    ),
    "ladders": (
        bs.decide.ladders,
        {"low": {"flops": 1e18}, "high": {"flops": 1e20}, "runs": [4]},
        {"low": "mapping", "high": "mapping", "runs": "numbers", "seeds": "numbers"},
    ),
    "compare": (
        bs.decide.compare,
        {"posteriors": "pair", "at": AT, "pairing": "independent", "range": (1e19, 1e21), "deadline": 1e20},
        {
            "posteriors": "class",
            "at": "mapping",
            "axis": "name",
            "range": "range",
            "equal": "at least zero",
            "deadline": "positive",
            "cost": "positive",
            "paths": "priors",
            "rates": "priors",
            "pairing": "name",
            "unit": "text",
            "seed": "from zero",
        },
    ),
    "allocate": (
        bs.decide.allocate,
        {"posterior": CHINCHILLA, "flops": 1e21},
        {
            "posterior": "class",
            "flops": "positive",
            "cost": "text",
            "over": "class",
            "at": "mapping",
            "served": "at least zero",
            "regret": "positive",
            "kind": "name",
            **dict.fromkeys(("min_params", "max_params", "min_tokens", "max_tokens", "unique_tokens"), "positive"),
        },
    ),
    "noise": (
        bs.decide.noise,
        {"runs": "seeded", "reference": 3.0, "within": 0.1},
        {
            "runs": "class",
            "bar": "positive",
            "reference": "positive",
            "within": "positive",
            "level": "probability",
            "seeds": "numbers",
        },
    ),
    "isoflop": (
        bs.decide.isoflop,
        {"source": "post"},
        {"source": "class", "budgets": "numbers", "regret": "positive", "level": "probability"},
    ),
    "sensitivity": (
        bs.decide.sensitivity,
        {"posterior": "post", "target": 2.5, "at": AT},
        {"posterior": "class", "target": "positive", "at": "mapping"},
    ),
    "intervals": (
        bs.plot.intervals,
        {"posterior": "post"},
        {
            "posterior": "class",
            "input": "name",
            "upto": "positive",
            "kind": "name",
            "levels": "numbers",
            "target": "positive",
        },
    ),
    "plot forecast": (
        bs.plot.forecast,
        {"forecast": "forecast"},
        {"forecast": "class", "point": "from zero", "measured": "positive", "target": "positive"},
    ),
    "constants": (bs.plot.constants, {"posterior": "post"}, {"posterior": "class"}),
    "learned": (bs.plot.learned, {"posterior": "post"}, {"posterior": "class"}),
    "residuals": (bs.plot.residuals, {"posterior": "post"}, {"posterior": "class", "input": "name"}),
    "reliability": (bs.plot.reliability, {}, {"table": "table"}),
    "pit": (bs.plot.pit, {"frame": pd.DataFrame({"pit": [0.5]})}, {"frame": "table", "bins": "whole"}),
    "plot isoflop": (bs.plot.isoflop, {"source": "post"}, {"source": "class"}),
}
LEGITIMATE = {("fit_many", "families"), ("fit_each", "families")}
"""Where an empty list asks for nothing, and gets it."""


def shrunk(forecast):
    """The forecast of a tenth of the response, which is a rate below one."""
    by = math.log(10.0)
    return dataclasses.replace(forecast, location=forecast.location - by, log_draws=forecast.log_draws - by)


@pytest.fixture(scope="module")
def known(marin, marin_post):
    return {
        "runs": marin,
        "families": [marin],
        "post": marin_post,
        "pair": {"A": marin_post, "B": marin_post},
        "forecast": marin_post.predict(flops=1e21),
        "rate": shrunk(marin_post.predict(flops=1e21)),
        "seeded": bs.read(SEEDED),
    }


@pytest.mark.parametrize("label", FUNCTIONS)
def test_bad_values_end_in_one_sentence(label, known):
    function, good, options = FUNCTIONS[label]
    # Only names of the fixtures above stand for something else.
    given = {name: known[value] if isinstance(value, str) and value in known else value for name, value in good.items()}
    before, wrong = sum(TRACES.values()), []
    for option, kind in options.items():
        for value in BAD[kind]:
            if (label, option) in LEGITIMATE and isinstance(value, list) and not value:
                assert not list(function(**given | {option: value}))
                continue
            try:
                function(**given | {option: value})
            except bs.InputError as error:
                text = str(error)
                if "\n" in text or len(text) > 700 or not text.endswith((".", ")")):
                    wrong.append(f"{option}={value!r:.40}: no sentence: {text[:200]}")
            except Exception as error:
                wrong.append(f"{option}={value!r:.40}: {type(error).__name__}: {error!s:.100}")
            else:
                wrong.append(f"{option}={value!r:.40}: accepted")
    assert not wrong, f"{len(wrong)} of {label}:\n" + "\n".join(wrong)
    assert sum(TRACES.values()) == before


def test_numbers_of_numpy_are_numbers(marin_post):
    assert bs.decide.go(marin_post, np.float64(2.5), cost=np.int64(1), value=np.asarray(2.0), batch=np.int64(1), at=AT)
    assert len(marin_post.predict(flops=np.float32(1e21)).interval(np.float64(0.8))) == 2


def test_what_is_returned_shows_in_one_screen(marin, marin_post):
    decision = bs.decide.go(marin_post, 2.5, cost=1.0, value=2.0, at=AT)
    many = marin_post.predict(flops=np.geomspace(1e19, 1e22, 200))
    failure = bs.Failure(marin, bs.Status.FAILED, ValueError("no luck " * 1000))
    found = [marin, marin_post, many, decision, failure, bs.report(marin_post, decision, with_sensitivity=False)]
    found += [bs.decide.stop_early(marin_post, 2.5, at=AT), bs.decide.next_run(marin_post, at=AT)]
    for one in found:
        assert 0 < len(repr(one)) < 4000
        assert repr(one).count("\n") <= 31
    assert "more lines" in repr(many) and "200" not in str(many).splitlines()[0]
    assert "info:" not in repr(marin_post) and str(marin_post).startswith(repr(marin_post).splitlines()[0])


def test_every_function_that_fits_takes_the_options_of_fit():
    own = inspect.signature(bs.fit).parameters
    for function in (bs.fit_many, bs.fit_each, bs.backtest, bs.sbc.run, bs.sbc.given):
        theirs = inspect.signature(function).parameters
        for name in FitOptions.__required_keys__ | FitOptions.__optional_keys__:
            # Many fits are wanted there and little of each.
            if (function, name) != (bs.backtest, "method"):
                assert (theirs[name].default, theirs[name].annotation) == (own[name].default, own[name].annotation)


def test_an_option_that_does_not_exist_is_refused_with_the_nearest(marin):
    for function, runs in ((bs.fit, marin), (bs.fit_many, [marin]), (bs.fit_each, [marin])):
        with pytest.raises(bs.InputError, match=r"no option 'likelyhood'. Did you mean 'likelihood'"):
            function(runs, seed=0, likelyhood="student")


WRONG = [
    *((bs.Likelihood, "residual_sd", x) for x in (0, -1, math.nan, "a")),
    *((bs.Likelihood, "tail", x) for x in (0, -1, math.inf, "a")),
    *((bs.Likelihood, "seed_sd", x) for x in (0, -1, "a")),
    *((bs.Discrepancy, "median", x) for x in (0, -1, math.nan, "a")),
    *((bs.Discrepancy, "sd", x) for x in (0, -1, "a")),
    *((bs.Discrepancy, "memory", x) for x in (0, -1, math.inf)),
    *((bs.Discrepancy, "along", x) for x in ("nowhere", 3)),
]


@pytest.mark.parametrize(("kind", "field", "value"), WRONG)
def test_records_of_the_model_refuse_what_they_cannot_hold(kind, field, value):
    with pytest.raises(bs.InputError, match=field):
        kind(**{field: value})


GRID = pd.DataFrame([(n, d) for n in (1e8, 4e8, 1.6e9) for d in (2e9, 8e9, 32e9)], columns=["n_params", "n_tokens"])
GRID["loss"] = 1.7 + 400 / GRID["n_params"] ** 0.34 + 410 / GRID["n_tokens"] ** 0.28


@pytest.mark.parametrize("inputs", [1, 2])
def test_bare_records_are_what_fits_use(inputs, marin):
    """A discrepancy or likelihood that names nothing changes nothing, and one that names a field changes that one."""
    runs = marin if inputs == 1 else bs.Runs.from_frame(GRID)
    for options in ({"discrepancy": bs.Discrepancy()}, {"likelihood": bs.Likelihood()}):
        for bare, plain in zip(make_jobs(runs, **options), make_jobs(runs), strict=True):
            assert jax.tree.structure(bare.model) == jax.tree.structure(plain.model)
            assert jax.tree.leaves(bare.model) == jax.tree.leaves(plain.model)
            assert (bare.discrepancy, bare.likelihood) == (plain.discrepancy, plain.likelihood)
    (student,) = {job.likelihood for job in make_jobs(runs, likelihood="student")}
    assert {job.likelihood for job in make_jobs(runs, likelihood=bs.Likelihood(tail=4.0))} == {student}
    (changed, *_), (plain, *_) = make_jobs(runs, discrepancy=bs.Discrepancy(memory=2.0)), make_jobs(runs)
    assert changed.discrepancy == dataclasses.replace(plain.discrepancy, memory=2.0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("drwas", r"settings=bs\.Nuts\(draws=\.\.\.\) \(--draws\)"),
        ("sede", "Did you mean 'seed'"),
        ("pirors", "Did you mean 'priors'"),
        ("target_acept", r"Nuts\(target_accept=\.\.\.\) \(--target-accept\)"),
    ],
)
@pytest.mark.parametrize("function", [bs.fit, bs.fit_many, bs.backtest])
def test_a_misspelt_keyword_is_refused_with_the_one_meant(function, name, words, marin):
    # Without a seed too, of which Python would complain first.
    with pytest.raises(bs.InputError, match=words):
        function(marin, **{name: 3})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda runs: bs.fit(runs), r"seed is missing: fit\(runs, seed=0\)"),
        (lambda runs: bs.fit_many([runs]), r"seed is missing: fit_many\(families, seed=0\)"),
        (lambda runs: bs.backtest(runs, ratio=3), r"seed is missing: backtest\(runs, seed=0\)"),
        (lambda runs: bs.sbc.run(runs), r"simulations is missing: run\(runs, simulations=500, seed=0\)"),
        (lambda runs: bs.decide.crossover(runs, runs), r"range is missing: crossover\(first, second, range="),
        (lambda runs: bs.decide.go(runs), r"target is missing: go\(posterior, target\)"),
        (lambda runs: bs.fit("my.csv", seed=0), r"found str. Read the file first: bs.read\('my.csv'\)"),
        (lambda runs: bs.fit(runs.frame, seed=0), r"found DataFrame. Read the table first: bs.read\(table\)"),
    ],
)
def test_a_call_that_lacks_an_argument_is_refused_in_one_sentence(marin, call, words):
    with pytest.raises(InputError, match=words):
        call(marin)
