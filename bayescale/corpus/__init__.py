"""Published model families: figures shipped with the package, and data sets to download.

Example:
    >>> from bayescale import corpus
    >>> corpus.load("cerebras_gpt").inputs
    ('n_params',)
"""

from bayescale.corpus.builtin import axis, checkpoint_noise, marin_forecast
from bayescale.corpus.crosschecks import check
from bayescale.corpus.entries import curves, fetch, frame, load, names, state, table

__all__ = [
    "axis",
    "check",
    "checkpoint_noise",
    "curves",
    "fetch",
    "frame",
    "load",
    "marin_forecast",
    "names",
    "state",
    "table",
]
