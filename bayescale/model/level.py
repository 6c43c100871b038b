"""Level of a law: a factor on the whole curve, which is integrated out, or sampled if noise is not normal."""

from __future__ import annotations

from typing import Any

from bayescale.model.problem import Model, Whitened


def marginal_level(model: Model) -> bool:
    """Return whether the level is integrated out; with Student-t noise and counts it is sampled."""
    return model.law.level is not None and not model.likelihood.samples_level


def level_variance(model: Model) -> Any:
    """Return the prior variance of the level; nearly zero for a law without a level."""
    return model.law.level[1].sd ** 2 if model.law.level is not None else 1e-12


def level_posterior(white: Whitened, model: Model) -> tuple[Any, Any, Any]:
    """Return the mean and precision of the level given everything else, and its prior precision."""
    assert model.law.level is not None, "a law with a level"
    prior = 1.0 / model.law.level[1].sd ** 2
    precision = prior + white.precision @ white.ones**2
    return white.precision @ (white.ones * white.residual) / precision, precision, prior
