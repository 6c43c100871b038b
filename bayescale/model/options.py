"""Options of the model besides the law."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from bayescale.laws.priors import Prior
from bayescale.model.discrepancy import Discrepancy
from bayescale.model.likelihood import Likelihood


class ModelOptions(TypedDict, total=False):
    """Options of the model, for functions that pass them to `prepare.make_jobs`, where their defaults are."""

    discrepancy: Discrepancy | str | None
    """"auto" for the calibrated default, a `Discrepancy`, or None to assume that the law is exact."""
    likelihood: Likelihood | str
    """A `Likelihood` or its name ("normal", "student"; for scores "binomial", "beta-binomial"), or "auto"."""
    priors: Mapping[str, Prior] | None
    """Priors of the law to replace, by name."""
    design: str
    """"ladder" for finished runs of growing size or compute, "curve" for more and more data, steps or attempts, "auto"
    to decide by the name of the input. The default discrepancy and the weights of a mixture depend on it."""
    prior_from: Any
    """An earlier fit of the family, whose model and prior are kept: a fit to old and new runs is then the posterior of
    the old runs updated with the new ones."""
