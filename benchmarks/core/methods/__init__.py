"""Methods: our default, and rivals that are given the same runs and iterated until nearly all come to rest.

A method takes problems and returns, for each, an equal mixture of normal distributions of ln(loss) at the held-out
inputs, for one future run. Rivals that state an interval of the curve alone get their residual scatter added, because
that is what a held-out run shows; without it they would look worse than they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from benchmarks.core.methods.bayesian import cautious, default, no_discrepancy, sampled_m4
from benchmarks.core.methods.conformal import conformal
from benchmarks.core.methods.fitted_curves import huber_bootstrap, least_squares, residual_bootstrap, wild_bootstrap
from benchmarks.core.methods.prediction import Prediction
from benchmarks.core.methods.rolling import rolling_conformal
from benchmarks.core.methods.simple_scaling_laws import simple_scaling_laws
from benchmarks.core.methods.state_space import local_trend
from benchmarks.core.methods.without_law import gaussian_process, last_slope
from benchmarks.core.problems import Problem

__all__ = ["EXTRA", "METHODS", "PARTIAL", "Prediction", "conformal", "last_slope"]


def several(problem: Problem) -> bool:
    """Whether a problem has several inputs."""
    return len(problem.inputs) > 1


def single(problem: Problem) -> bool:
    """Whether a problem has one input."""
    return len(problem.inputs) == 1


METHODS: dict[str, Callable[[Sequence[Problem]], Iterable[Prediction]]] = {
    "bayescale": default,
    "least squares": least_squares,
    "huber bootstrap": huber_bootstrap,
    "residual bootstrap": residual_bootstrap,
    "wild bootstrap": wild_bootstrap,
    "NUTS without discrepancy": no_discrepancy,
    "gaussian process": gaussian_process,
    "last slope": last_slope,
    "conformal": conformal,
    "rolling conformal": rolling_conformal,
    "damped local trend": local_trend,
    "bayescale, cautious": cautious,
    "M4 by NUTS": sampled_m4,
    "simple-scaling-laws": simple_scaling_laws,
}
"""Every method of the record."""
EXTRA = ("simple-scaling-laws",)
"""Methods that need the extra `peers` and take hours, so they are run where they are named only."""
PARTIAL: dict[str, Callable[[Problem], bool]] = {
    "bayescale, cautious": several,
    "M4 by NUTS": single,
    "simple-scaling-laws": lambda problem: True,
}
"""Methods that are made for some problems, or cost too much for all, with the problems that they suit; each is compared
with the default alone, on the problems that it has."""
