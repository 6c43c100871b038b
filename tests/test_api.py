"""The public names: a change of them has to be made here too."""

import importlib
import inspect
from pathlib import Path

import pytest

import bayescale as bs

PUBLIC = {
    "bayescale": """
        Backtest BetaBinomial Binomial Break Chain Discrepancy Exponent Failure Fall FitOptions Fitted Fixed
        Forecast Fraction InputError LAWS Law Level Likelihood MetricsForecast MetricsPosterior Mixture Nuts
        Outer Plateaus Pool Positive Posterior Real Report Runs ScoreScale Shares Slope Stacking Status Turn
        UntrustworthyFit ValueScale backtest corpus coverage decide fit fit_chain fit_each fit_many
        fit_metrics laws load load_pool numpyro_model plot pool read read_csv read_families register_law
        report sbc stack
    """,
    "bayescale.decide": """
        ANSWERS Allocation Allocations Caveat Comparison Crossing Decision Duel ItemComparison Looks Power Ranking Reach
        SeedDifference SeedNoise Stops Sweep
        UTILITIES Utility allocate caveats compare compare_items crossover go isoflop ladders next_run noise power reach
        sensitivity speedup stop_early
    """,
    "bayescale.coverage": """
        BestOfN Budget Counts CoverageForecast CoveragePosterior fit fit_each pass_at_k read
    """,
    "bayescale.plot": """
        constants coverage crossover fitted forecast held_out intervals isoflop learned pit reliability residuals save
    """,
    "bayescale.corpus": """
        axis check checkpoint_noise curves fetch frame load marin_forecast names state table
    """,
    "bayescale.laws": """
        ALIASES Alias BUILT_IN LAWS Law LawInfo alias automatic get optimum register_law search variant
    """,
    "bayescale.evaluate.sbc": """
        Ranks departure given run
    """,
}
PACKAGE = Path(bs.__file__).parent


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names(module):
    loaded = importlib.import_module(module)
    assert sorted(loaded.__all__) == sorted(PUBLIC[module].split())
    for name in loaded.__all__:
        value = getattr(loaded, name)
        assert (getattr(value, "__doc__", None) or "").strip(), name


def test_every_folder_says_what_is_public():
    for file in PACKAGE.rglob("__init__.py"):
        module = ".".join(["bayescale", *file.parent.relative_to(PACKAGE).parts])
        loaded = importlib.import_module(module)
        assert set(loaded.__all__) <= set(dir(loaded)), module


def test_the_calibration_of_the_top_is_the_module():
    assert bs.sbc is importlib.import_module("bayescale.evaluate.sbc")


def public_callables():
    """Every public function and class by name, but for those that are not called with options."""
    # Errors and states, the base class of fits, a mapping of types, and an entry of the list of other names of laws.
    exempt = {"Failure", "Fitted", "FitOptions", "InputError", "Status", "UntrustworthyFit", "Alias"}
    found = {}
    for module in PUBLIC:
        loaded = importlib.import_module(module)
        members = {name: getattr(loaded, name) for name in loaded.__all__ if name not in exempt}
        found |= {f"{module}.{name}": one for name, one in members.items() if callable(one)}
    return found


CALLABLES = public_callables()


@pytest.mark.parametrize("name", CALLABLES)
def test_misspelt_keywords_lead_to_those_that_were_meant(name):
    function = CALLABLES[name]
    parameters = inspect.signature(function).parameters.values()
    options = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    # What is required is there, or the mistake could hide behind what is missing.
    needed = [p for p in options if p.default is p.empty]
    first = [None for p in needed if p.kind is p.POSITIONAL_OR_KEYWORD]
    rest = {p.name: 0 for p in needed if p.kind is p.KEYWORD_ONLY}
    for option in options:
        wrong = f"{option.name}x"
        with pytest.raises(bs.InputError, match=rf"has no option '{wrong}'\. Did you mean '") as refused:
            function(*first, **rest, **{wrong: 1})
        assert option.name in str(refused.value)


def test_misspelt_keywords_of_methods_lead_to_those_that_were_meant(marin):
    law = bs.laws.get("chinchilla").published("besiroglu2024")
    for asked, meant in {
        lambda: law.predict(n_params=1e9, n_tokens=1e10, kin="run"): "kind",
        lambda: law.predict(n_params=1e9, n_tokens=1e10).interval(levle=0.8): "level",
        lambda: marin.thinned(mots=3): "most",
        lambda: bs.Runs.from_frame(marin.frame, nam="a"): "name",
        lambda: bs.read_families("absent.csv", los="a"): "loss",
        lambda: bs.numpyro_model(marin, prior={}): "priors",
        lambda: law.predict(n_prams=1e9, n_tokens=1e10): "n_params",
    }.items():
        with pytest.raises(bs.InputError, match=rf"Did you mean '{meant}'\?"):
            asked()
