"""Fitting: from counts to a posterior of the distribution of success rates, by NUTS."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayescale import checked
from bayescale._jax import on_cores
from bayescale._record import Array
from bayescale.checked import known_keywords
from bayescale.coverage import density
from bayescale.coverage.counts import Counts, read
from bayescale.coverage.density import LAWS, Model, Pairs
from bayescale.coverage.posterior import CoveragePosterior
from bayescale.errors import InputError, Status, nearest, some
from bayescale.inference.diagnostics import diagnose
from bayescale.inference.nuts import (
    ChainState,
    Nuts,
    Start,
    begin_chain,
    check_settings,
    find_mode,
    normal_around,
    normal_at,
    run_chain,
)

SETTINGS = Nuts(warmup=200, draws=500, chains=4, mode_steps=60, target_accept=0.9)
"""Settings of NUTS; a smooth posterior of at most five parameters needs neither long chains nor small steps."""
ROUNDS = 4
"""Largest number of times that chains are continued, until they agree and are long enough."""


@known_keywords
def fit(
    counts: Any,
    *,
    seed: int,
    law: str = "exgaussian",
    unsolvable: bool = True,
    scaled: bool | None = None,
    family: str | None = None,
    columns: Mapping[str, str] | None = None,
    settings: Nuts | None = None,
) -> CoveragePosterior:
    """Return the posterior of the distribution of a model's success rates over problems.

    The number of correct attempts among n at a problem is Binomial(n, p). The rate p is 0 with probability
    ``unsolvable``. Otherwise its log odds are a normal variable with mean ``center`` and standard deviation ``spread``
    minus an exponential variable with rate ``alpha`` (an ex-Gaussian distribution), or it is ``scale`` times a draw
    from a Beta or a Kumaraswamy distribution with parameters ``alpha`` and ``beta``. Coverage at many attempts depends
    on rates near 0: without unsolvable problems, 1 - coverage finally decreases as k^-alpha. Data from sampling that
    stopped at the first success can be fitted too, because the likelihood depends on p in the same way.

    Args:
        counts: A table or file with one row per problem, see `read`, or `Counts`.
        seed: Seed of all random numbers.
        law: Distribution of success rates: "exgaussian", "beta" or "kumaraswamy".
        unsolvable: Whether a fraction of problems may be unsolvable; the prior of that fraction is Beta(1, 9).
        scaled: Whether the largest success rate may be below 1; its prior is uniform. By default it may, except for
            "exgaussian", whose rates may be small without a bound.
        family: Name of the family to fit, if there are several; `fit_each` fits all.
        columns: The table's columns for ``correct``, ``attempts``, ``problem`` and ``family``, if their names are
            unusual.
        settings: Settings of the sampler, see `Nuts`.

    Raises:
        InputError: For bad tables and options, and for several families if `family` is None.

    Example:
        >>> post = bs.coverage.fit({"correct": [0, 0, 1, 7, 90], "attempts": [100] * 5}, seed=0)  # doctest: +SKIP
        >>> post.predict(10_000).interval(0.8)  # doctest: +SKIP
    """
    families = families_of(counts, columns)
    if family is not None and family not in families:
        raise InputError(f"There is no family {checked.shortened(family)}. {nearest(str(family), families)}")
    if family is None and len(families) > 1:
        first = next(iter(families))
        raise InputError(
            f"The table has {len(families)} families ({some(list(families))}). Choose one with family={first!r}, or "
            "fit each with bs.coverage.fit_each."
        )
    chosen = families[family] if family is not None else next(iter(families.values()))
    return fitted(chosen, model_of(law, unsolvable, scaled), seed, settings)


@known_keywords
def fit_each(
    counts: Any,
    *,
    seed: int,
    law: str = "exgaussian",
    unsolvable: bool = True,
    scaled: bool | None = None,
    columns: Mapping[str, str] | None = None,
    settings: Nuts | None = None,
) -> dict[str, CoveragePosterior]:
    """Return the posterior of each family of a table, by its name.

    Args:
        counts: A table or file with a row per problem and a column of families, see `read`.
        seed: Seed of all random numbers.
        law: As for `fit`.
        unsolvable: As for `fit`.
        scaled: As for `fit`.
        columns: As for `fit`.
        settings: As for `fit`.

    Raises:
        InputError: For bad tables and options.
    """
    model = model_of(law, unsolvable, scaled)
    families = families_of(counts, columns)
    return {name: fitted(family, model, seed, settings) for name, family in families.items()}


def families_of(counts: Any, columns: Mapping[str, str] | None) -> dict[str, Counts]:
    """Return the counts of each family in a table, file or `Counts`."""
    if isinstance(counts, Counts):
        if columns is not None:
            raise InputError("columns= is only for tables; leave it out for Counts that were already read.")
        return {counts.name: counts}
    return read(counts, columns=columns)


def model_of(law: Any, unsolvable: Any, scaled: Any) -> Model:
    """Return the model that the options describe.

    Raises:
        InputError: For an unknown law, and for options other than True or False.
    """
    if law not in LAWS if isinstance(law, str) else True:
        raise InputError(f"law (--law) must be {', '.join(LAWS[:-1])} or {LAWS[-1]}; found {checked.shortened(law)}.")
    checked.options(unsolvable=(unsolvable, checked.FLAG), scaled=(scaled, checked.optional(checked.FLAG)))
    return Model(law, bool(unsolvable), law != "exgaussian" if scaled is None else bool(scaled))


def fitted(counts: Counts, model: Model, seed: int, settings: Nuts | None) -> CoveragePosterior:
    """Sample the posterior of one family; chains with too few effective draws are continued."""
    checked.options(seed=(seed, checked.SEED))
    chains = SETTINGS if settings is None else check_settings(settings)
    pairs = density.padded(model, *counts.distinct)
    parts: list[tuple[np.ndarray, ...]] = []
    draws, diagnostics = {}, None
    with on_cores():
        start, states = begin(jax.random.key(seed), model, pairs, chains)
        for _ in range(ROUNDS):
            part, states = go_on(start, states, model, pairs, chains)
            parts.append(tuple(map(np.asarray, part)))
            position, diverging, energy = (np.concatenate(leaves, 1) for leaves in zip(*parts, strict=True))
            values = density.constrain(position, model)
            draws = {name: np.asarray(getattr(values, name)) for name in model.names}
            reported = np.stack(list(draws.values()), -1)
            diagnostics = diagnose(position, diverging, energy, chains.least_ess, reported)
            if diagnostics.status not in (Status.NOT_MIXED, Status.FEW_DRAWS):
                break
    assert diagnostics is not None, "at least one round"
    return CoveragePosterior(counts, model, draws, diagnostics, seed)


@jax.jit
def begin(key: Array, model: Model, pairs: Pairs, settings: Nuts) -> tuple[Start, ChainState]:
    """Return a normal approximation at the mode, and a starting point for each chain."""
    potential = functools.partial(density.potential, model=model, pairs=pairs)
    size = len(model.names)
    apart_key, *keys = jax.random.split(key, 1 + settings.chains)
    mode, _ = find_mode(potential, jnp.zeros(size), settings.mode_steps)
    spread = jnp.linalg.cholesky(normal_at(potential, mode).covariance)
    # Starting points are far apart, so that R-hat shows chains that do not meet.
    apart = jax.random.normal(apart_key, (settings.chains, size)) @ spread.T
    start, around = normal_around(potential, mode, apart)
    return start, jax.vmap(begin_chain, (0, None, 0))(jnp.stack(keys), start, around)


@jax.jit
def go_on(
    start: Start, states: ChainState, model: Model, pairs: Pairs, settings: Nuts
) -> tuple[tuple[Any, Any, Any], ChainState]:
    """Run the chains, one after the other, from their current states.

    Returns:
        Unconstrained parameters, shape (chain, draw, parameter); for each draw whether it diverged, and its energy; and
        the last states of the chains.
    """
    potential = functools.partial(density.potential, model=model, pairs=pairs)
    chains, states = lax.map(lambda state: run_chain(potential, start, settings, state), states)
    return (chains.position, chains.diverging, chains.energy), states
