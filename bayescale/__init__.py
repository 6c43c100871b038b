"""Bayesian scaling laws: from a table of training runs to a posterior, calibrated predictive intervals and a decision.

    >>> import bayescale as bs
    >>> bs.__version__
    '0.2.0'

Public names are loaded on first use, so that `import bayescale` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayescale import corpus as corpus
    from bayescale import coverage as coverage
    from bayescale import decide as decide
    from bayescale import laws as laws
    from bayescale import plot as plot
    from bayescale.data.read import read as read
    from bayescale.data.read import read_csv as read_csv
    from bayescale.data.read import read_families as read_families
    from bayescale.data.runs import Runs as Runs
    from bayescale.data.score import ScoreScale as ScoreScale
    from bayescale.data.value import ValueScale as ValueScale
    from bayescale.errors import InputError as InputError
    from bayescale.errors import Status as Status
    from bayescale.errors import UntrustworthyFit as UntrustworthyFit
    from bayescale.evaluate import sbc as sbc
    from bayescale.evaluate.backtest import Backtest as Backtest
    from bayescale.evaluate.backtest import backtest as backtest
    from bayescale.evaluate.stack import stack as stack
    from bayescale.fitting.fit import fit as fit
    from bayescale.fitting.fit_chain import fit_chain as fit_chain
    from bayescale.fitting.fit_many import fit_each as fit_each
    from bayescale.fitting.fit_many import fit_many as fit_many
    from bayescale.fitting.options import FitOptions as FitOptions
    from bayescale.forecast import Forecast as Forecast
    from bayescale.inference.nuts import Nuts as Nuts
    from bayescale.laws.law import Law as Law
    from bayescale.laws.priors import Break as Break
    from bayescale.laws.priors import Exponent as Exponent
    from bayescale.laws.priors import Fall as Fall
    from bayescale.laws.priors import Fixed as Fixed
    from bayescale.laws.priors import Fraction as Fraction
    from bayescale.laws.priors import Level as Level
    from bayescale.laws.priors import Outer as Outer
    from bayescale.laws.priors import Plateaus as Plateaus
    from bayescale.laws.priors import Positive as Positive
    from bayescale.laws.priors import Real as Real
    from bayescale.laws.priors import Shares as Shares
    from bayescale.laws.priors import Slope as Slope
    from bayescale.laws.priors import Turn as Turn
    from bayescale.laws.registry import LAWS as LAWS
    from bayescale.laws.registry import register_law as register_law
    from bayescale.model.discrepancy import Discrepancy as Discrepancy
    from bayescale.model.likelihood import BetaBinomial as BetaBinomial
    from bayescale.model.likelihood import Binomial as Binomial
    from bayescale.model.likelihood import Likelihood as Likelihood
    from bayescale.model.numpyro import numpyro_model as numpyro_model
    from bayescale.pooling.metrics import MetricsPosterior as MetricsPosterior
    from bayescale.pooling.metrics import fit_metrics as fit_metrics
    from bayescale.pooling.metrics_forecast import MetricsForecast as MetricsForecast
    from bayescale.pooling.pool import Pool as Pool
    from bayescale.pooling.pool import pool as pool
    from bayescale.pooling.storage import load_pool as load_pool
    from bayescale.posterior.chain import Chain as Chain
    from bayescale.posterior.fitted import Fitted as Fitted
    from bayescale.posterior.io import load as load
    from bayescale.posterior.mixture import Mixture as Mixture
    from bayescale.posterior.posterior import Failure as Failure
    from bayescale.posterior.posterior import Posterior as Posterior
    from bayescale.posterior.stacking import Stacking as Stacking
    from bayescale.reporting.report import Report as Report
    from bayescale.reporting.report import report as report

__version__ = "0.2.0"

_HOMES = {
    "evaluate.backtest": ("Backtest", "backtest"),
    "evaluate.stack": ("stack",),
    "data.read": ("read", "read_csv", "read_families"),
    "model.discrepancy": ("Discrepancy",),
    "errors": ("InputError", "Status", "UntrustworthyFit"),
    "posterior.fitted": ("Fitted",),
    "fitting.fit": ("fit",),
    "fitting.options": ("FitOptions",),
    "forecast": ("Forecast",),
    "laws": ("LAWS", "Law", "register_law"),
    "model.numpyro": ("numpyro_model",),
    "fitting.fit_chain": ("fit_chain",),
    "fitting.fit_many": ("fit_each", "fit_many"),
    "pooling.metrics": ("MetricsPosterior", "fit_metrics"),
    "pooling.metrics_forecast": ("MetricsForecast",),
    "pooling.pool": ("Pool", "pool"),
    "pooling.storage": ("load_pool",),
    "posterior.chain": ("Chain",),
    "posterior.mixture": ("Mixture",),
    "model.likelihood": ("BetaBinomial", "Binomial", "Likelihood"),
    "data.score": ("ScoreScale",),
    "data.value": ("ValueScale",),
    "inference.nuts": ("Nuts",),
    "posterior.posterior": ("Failure", "Posterior"),
    "laws.priors": (
        "Break",
        "Exponent",
        "Fall",
        "Fixed",
        "Fraction",
        "Level",
        "Outer",
        "Plateaus",
        "Positive",
        "Real",
        "Shares",
        "Slope",
        "Turn",
    ),
    "reporting.report": ("Report", "report"),
    "data.runs": ("Runs",),
    "posterior.io": ("load",),
    "posterior.stacking": ("Stacking",),
}
_MODULES = {
    "corpus": "corpus",
    "coverage": "coverage",
    "decide": "decide",
    "laws": "laws",
    "plot": "plot",
    "sbc": "evaluate.sbc",
}
__all__ = sorted([name for names in _HOMES.values() for name in names] + list(_MODULES))  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name in _MODULES:
        return importlib.import_module(f"bayescale.{_MODULES[name]}")
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'bayescale' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"bayescale.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
