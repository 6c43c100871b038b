"""The public names: a change of them has to be made here too."""

import importlib
from pathlib import Path

import pytest

import bayescale as bs

PUBLIC = {
    "bayescale": """
        Backtest Break Discrepancy Exponent Failure Fall FitOptions Fitted Fixed Forecast Fraction InputError LAWS Law
        Level Likelihood Mixture Nuts Outer Plateaus Positive Posterior Real Report Runs Shares Slope Status Turn
        UntrustworthyFit backtest corpus decide fit fit_each fit_many laws load numpyro_model plot read read_csv
        read_families register_law report sbc
    """,
    "bayescale.decide": """
        ANSWERS Allocation Allocations Caveat Comparison Crossing Decision Duel Power Ranking SeedNoise Stops Sweep
        UTILITIES Utility allocate caveats compare crossover go isoflop ladders next_run noise power sensitivity speedup
        stop_early
    """,
    "bayescale.plot": """
        constants crossover fitted forecast held_out intervals isoflop learned pit reliability residuals save
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
