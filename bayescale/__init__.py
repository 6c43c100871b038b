"""Bayesian scaling laws: from a table of training runs to a posterior, honest bands and a decision.

    >>> import bayescale as bs
    >>> bs.__version__
    '0.1.0'

Names are loaded when they are first used, so that `import bayescale` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayescale import corpus as corpus
    from bayescale import decide as decide
    from bayescale import laws as laws
    from bayescale import plot as plot
    from bayescale import sbc as sbc
    from bayescale.backtesting import Backtest as Backtest
    from bayescale.backtesting import backtest as backtest
    from bayescale.data.read import read as read
    from bayescale.data.read import read_csv as read_csv
    from bayescale.data.read import read_families as read_families
    from bayescale.drift import Drift as Drift
    from bayescale.errors import InputError as InputError
    from bayescale.errors import Status as Status
    from bayescale.errors import UntrustworthyFit as UntrustworthyFit
    from bayescale.fitted import Fitted as Fitted
    from bayescale.fitting import fit as fit
    from bayescale.forecast import Forecast as Forecast
    from bayescale.laws import LAWS as LAWS
    from bayescale.laws import Law as Law
    from bayescale.laws import register_law as register_law
    from bayescale.likelihood import numpyro_model as numpyro_model
    from bayescale.many import fit_each as fit_each
    from bayescale.many import fit_many as fit_many
    from bayescale.mixture import Mixture as Mixture
    from bayescale.noise import Noise as Noise
    from bayescale.nuts import Nuts as Nuts
    from bayescale.posterior import Failure as Failure
    from bayescale.posterior import Posterior as Posterior
    from bayescale.priors import Break as Break
    from bayescale.priors import Exponent as Exponent
    from bayescale.priors import Fall as Fall
    from bayescale.priors import Fixed as Fixed
    from bayescale.priors import Fraction as Fraction
    from bayescale.priors import Level as Level
    from bayescale.priors import Outer as Outer
    from bayescale.priors import Plateaus as Plateaus
    from bayescale.priors import Positive as Positive
    from bayescale.priors import Real as Real
    from bayescale.priors import Shares as Shares
    from bayescale.priors import Slope as Slope
    from bayescale.priors import Turn as Turn
    from bayescale.reporting import Report as Report
    from bayescale.reporting import report as report
    from bayescale.runs import Runs as Runs
    from bayescale.storage import load as load

__version__ = "0.1.0"

_HOMES = {
    "backtesting": ("Backtest", "backtest"),
    "data.read": ("read", "read_csv", "read_families"),
    "drift": ("Drift",),
    "errors": ("InputError", "Status", "UntrustworthyFit"),
    "fitted": ("Fitted",),
    "fitting": ("fit",),
    "forecast": ("Forecast",),
    "laws": ("LAWS", "Law", "register_law"),
    "likelihood": ("numpyro_model",),
    "many": ("fit_each", "fit_many"),
    "mixture": ("Mixture",),
    "noise": ("Noise",),
    "nuts": ("Nuts",),
    "posterior": ("Failure", "Posterior"),
    "priors": (
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
    "reporting": ("Report", "report"),
    "runs": ("Runs",),
    "storage": ("load",),
}
_MODULES = ("corpus", "decide", "laws", "plot", "sbc")
__all__ = sorted([name for names in _HOMES.values() for name in names] + list(_MODULES))  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name in _MODULES:
        return importlib.import_module(f"bayescale.{name}")
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'bayescale' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"bayescale.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
