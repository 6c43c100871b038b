"""Plots of posteriors, forecasts, calibration and decisions.

Only this package imports matplotlib. Each function draws into `ax` if it is given, else into a new figure, and returns
the axes. No function shows a window or changes matplotlib's settings.
"""

from bayescale.plot.calibration import held_out, pit, reliability
from bayescale.plot.coverage import coverage
from bayescale.plot.decisions import crossover
from bayescale.plot.fits import constants, intervals, learned, residuals, save
from bayescale.plot.forecasts import forecast
from bayescale.plot.isoflop import fitted, isoflop

__all__ = [
    "constants",
    "coverage",
    "crossover",
    "fitted",
    "forecast",
    "held_out",
    "intervals",
    "isoflop",
    "learned",
    "pit",
    "reliability",
    "residuals",
    "save",
]
