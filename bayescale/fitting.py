"""Fit: from runs to posteriors, through one compiled program for each shape of problem."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayescale.diagnostics import diagnose
from bayescale.drift import Drift
from bayescale.errors import InputError, Status, UntrustworthyFit, nearest
from bayescale.geometry import bend, linearise, straight_density, straighten, to_scores, to_straight
from bayescale.importance import weigh_jobs
from bayescale.laws import Law
from bayescale.likelihood import draw_level
from bayescale.model import Job, Model, Problem, Values, make_job, prior_center, read
from bayescale.noise import Noise
from bayescale.nuts import Nuts, find_mode, normal_at, run_chain
from bayescale.posterior import Posterior
from bayescale.priors import Prior
from bayescale.records import Array
from bayescale.runs import Runs

TRACES = {"sample": 0}
"""How often the compiled program was traced; tests read it, nothing else does."""

SECOND_ACCEPT = 0.99
"""Acceptance probability of the second attempt."""

METHODS = ("nuts", "importance", "auto")

LARGEST_BATCH = 256
"""Families sampled together on an accelerator."""


def sample_family(key: Array, model: Model, problem: Problem, settings: Nuts, vectorized: bool) -> dict[str, Any]:
    """Sample all chains of one family.

    Returns:
        Coordinates, their meaning and the statistics of the chains, leading axes (chain, draw).
    """
    TRACES["sample"] += 1

    def potential(straight: Any) -> Any:
        return -straight_density(straight, model, problem)

    center = straighten(prior_center(model, problem), model, problem)
    mode = find_mode(potential, center, settings.mode_steps)
    geometry = linearise(mode, model, problem)

    def round_potential(scores: Any) -> Any:
        straight, log_determinant = to_straight(scores, geometry, model, problem)
        return potential(straight) - log_determinant

    start = normal_at(round_potential, to_scores(mode, geometry, model, problem))
    chain_key, level_key = jax.random.split(key)
    keys = jax.random.split(chain_key, settings.chains)

    def chain(chain_key: Any) -> Any:
        return run_chain(chain_key, round_potential, start, settings)

    chains = jax.vmap(chain)(keys) if vectorized else jax.lax.map(chain, keys)
    level_keys = jax.random.split(level_key, (settings.chains, settings.draws))

    def meaning(scores: Any, key: Any) -> tuple[Any, Values]:
        straight, _ = to_straight(scores, geometry, model, problem)
        vector, _ = bend(straight, model, problem)
        values, _ = read(vector, model, problem)
        return vector, values._replace(level=draw_level(key, values, model, problem))

    position, values = jax.vmap(jax.vmap(meaning))(chains.position, level_keys)
    return {"chains": chains._replace(position=position), "values": values}


def sample_batch(keys: Array, model: Model, problems: Problem, settings: Nuts, vectorized: bool) -> dict[str, Any]:
    """Sample families stacked along a leading axis: mapped on CPUs, vectorized on accelerators."""

    def one(pair: tuple[Any, Problem]) -> dict[str, Any]:
        return sample_family(pair[0], model, pair[1], settings, vectorized)

    if vectorized:
        return jax.vmap(lambda key, problem: one((key, problem)))(keys, problems)
    return jax.lax.map(one, (keys, problems))


compiled = jax.jit(sample_batch, static_argnames="vectorized")
"""THE compiled program. Its key: curve, kinds of priors, rows in the bucket, counts of draws; never numbers."""


def fit(
    runs: Runs,
    law: str | Law = "auto",
    *,
    seed: int,
    drift: Drift | str | None = "auto",
    noise: Noise | str = "normal",
    priors: Mapping[str, Prior] | None = None,
    settings: Nuts | None = None,
    method: str = "nuts",
    strict: bool = False,
) -> Posterior:
    """Sample the posterior of a scaling law for one family.

    Args:
        runs: Runs of one family.
        law: A law or its name; "auto" is a saturating power law for one input and Chinchilla with an outer power
            for parameters and tokens.
        seed: Seed of all randomness; equal seeds give equal draws.
        drift: "auto" for the calibrated default, a `Drift`, or None to trust the law outright.
        noise: A `Noise` or its name ("normal", "student").
        priors: Replacements for single priors of the law.
        settings: Counts and target acceptance of NUTS.
        method: "nuts"; "importance" for weighted draws without gradients, several times as fast; "auto" for
            importance sampling, and NUTS where its diagnostics (Pareto k, effective sample size) object.
        strict: Raise if the posterior must not be trusted.

    Raises:
        InputError: For data or names that cannot work, before anything is compiled.
        UntrustworthyFit: With `strict=True`, if chains did not converge.

    Example:
        >>> import bayescale as bs
        >>> runs = bs.corpus.load("marin_moe_v16_minima")  # doctest: +SKIP
        >>> post = bs.fit(runs, seed=0)  # doctest: +SKIP
    """
    options: dict[str, Any] = {"drift": drift, "noise": noise, "priors": priors, "settings": settings}
    return fit_many([runs], law, seed=seed, method=method, strict=strict, **options)[0]


def fit_many(
    families: Iterable[Runs],
    law: str | Law = "auto",
    *,
    seed: int,
    drift: Drift | str | None = "auto",
    noise: Noise | str = "normal",
    priors: Mapping[str, Prior] | None = None,
    settings: Nuts | None = None,
    method: str = "nuts",
    strict: bool = False,
    progress: bool | None = None,
) -> list[Posterior]:
    """Sample one posterior for each family, sharing compiled programs.

    Args:
        families: One Runs a family; arguments otherwise as for `fit`.
        law: See `fit`.
        seed: Seed; family i uses its own stream, so the order of families matters and their number does not.
        drift: See `fit`.
        noise: See `fit`.
        priors: See `fit`.
        settings: See `fit`.
        method: See `fit`.
        strict: See `fit`.
        progress: Show a bar; by default only on a terminal.

    Returns:
        Posteriors in the order given; each carries its own status.

    Raises:
        InputError: If any family cannot be fitted; the message names it.
        UntrustworthyFit: With `strict=True`, naming the families.
    """
    if method not in METHODS:
        raise InputError(f"There is no method {method!r}. {nearest(method, METHODS)}")
    settings = settings or Nuts()
    families = list(families)
    jobs = [make_job(runs, law, drift, noise, priors) for runs in families]
    batches = batch(jobs)
    results: list[Posterior | None] = [None] * len(jobs)
    with progress_bar(len(jobs), progress) as advance:
        for members in batches:
            for number, posterior in zip(members, sample_jobs(jobs, members, seed, settings, method), strict=True):
                results[number] = posterior
            advance(len(members))
    done = [posterior for posterior in results if posterior is not None]
    if strict:
        bad = [p for p in done if p.status is not Status.OK]
        if bad:
            listed = "; ".join(f"{p.runs.name}: {p.status}" for p in bad[:5])
            raise UntrustworthyFit(f"{len(bad)} of {len(done)} fits must not be relied on. {listed}")
    return done


def batch(jobs: Sequence[Job]) -> list[list[int]]:
    """Group job numbers that share a compiled program: singly on CPUs, many at once on accelerators."""
    if jax.default_backend() == "cpu":
        return [[number] for number in range(len(jobs))]
    groups: dict[Any, list[int]] = {}
    for number, job in enumerate(jobs):
        leaves, structure = jax.tree.flatten((job.model, job.problem))
        numbers = tuple(float(leaf) for leaf in jax.tree.leaves(job.model))
        groups.setdefault((structure, tuple(leaf.shape for leaf in leaves), numbers), []).append(number)
    return [
        members[first : first + LARGEST_BATCH]
        for members in groups.values()
        for first in range(0, len(members), LARGEST_BATCH)
    ]


def sample_jobs(
    jobs: Sequence[Job], members: Sequence[int], seed: int, settings: Nuts, method: str = "nuts"
) -> list[Posterior]:
    """Sample jobs of one shape by a method; "auto" turns to NUTS where importance weights do not deserve trust."""
    if method == "nuts":
        return sample_chains(jobs, members, seed, settings)
    posteriors = weigh_jobs(jobs, members, members, seed, settings)
    doubtful = [i for i, posterior in enumerate(posteriors) if posterior.status is not Status.OK]
    if method == "auto" and doubtful:
        again = sample_chains(jobs, [members[i] for i in doubtful], seed, settings)
        for i, posterior in zip(doubtful, again, strict=True):
            tried = posteriors[i].diagnostics
            kept = {"pareto_k": tried.pareto_k, "ess_weights": tried.ess_weights, "modes": tried.modes}
            diagnostics = dataclasses.replace(posterior.diagnostics, **kept)
            posteriors[i] = dataclasses.replace(posterior, diagnostics=diagnostics)
    return posteriors


def sample_chains(jobs: Sequence[Job], members: Sequence[int], seed: int, settings: Nuts) -> list[Posterior]:
    """Sample jobs of one shape, and once more, with smaller steps, those whose chains do not deserve trust."""
    posteriors = run_compiled(jobs, members, seed, settings, attempt=0)
    doubtful = [i for i, posterior in enumerate(posteriors) if posterior.status is not Status.OK]
    if doubtful:
        careful = dataclasses.replace(settings, target_accept=max(SECOND_ACCEPT, settings.target_accept))
        again = run_compiled(jobs, [members[i] for i in doubtful], seed, careful, attempt=1)
        for i, posterior in zip(doubtful, again, strict=True):
            first = posteriors[i].diagnostics
            # Chains that diverged or failed are dropped; chains that were only too short are kept.
            usable = first.divergences == 0 and first.status is not Status.NONFINITE
            posteriors[i] = joined(posteriors[i], posterior) if usable else posterior
    return posteriors


def run_compiled(
    jobs: Sequence[Job], members: Sequence[int], seed: int, settings: Nuts, attempt: int
) -> list[Posterior]:
    """Run the compiled program on jobs of one shape."""
    # A batch is filled up to a power of two with its last member, so that few batch sizes are compiled.
    size = 1 << (len(members) - 1).bit_length()
    filled = [*members, *[members[-1]] * (size - len(members))]
    settings = dataclasses.replace(settings, target_accept=np.float64(settings.target_accept))
    with jax.enable_x64(True):
        root = jax.random.fold_in(jax.random.key(seed), attempt)
        keys = jnp.stack([jax.random.fold_in(root, number) for number in filled])
        problems = jax.tree.map(lambda *leaves: np.stack(leaves), *[jobs[n].problem for n in filled])
        output = compiled(keys, jobs[members[0]].model, problems, settings, jax.default_backend() != "cpu")
        output = jax.tree.map(np.asarray, jax.device_get(output))
    return [
        make_posterior(jobs[number], jax.tree.map(lambda leaf, i=i: leaf[i], output), seed, settings)
        for i, number in enumerate(members)
    ]


def joined(first: Posterior, second: Posterior) -> Posterior:
    """Return a posterior with the chains of both."""

    def both(a: Any, b: Any) -> Any:
        return np.concatenate([a, b])

    position = both(first.position, second.position)
    stats = {name: both(values, second.stats[name]) for name, values in first.stats.items()}
    return dataclasses.replace(
        second,
        position=position,
        values=jax.tree.map(both, first.values, second.values),
        stats=stats,
        diagnostics=diagnose(position, stats["diverging"], stats["energy"]),
    )


def make_posterior(job: Job, output: dict[str, Any], seed: int, settings: Nuts) -> Posterior:
    """Diagnose one family's chains and wrap them."""
    chains = output["chains"]
    return Posterior(
        job=job,
        seed=seed,
        settings=settings,
        position=chains.position,
        values=output["values"],
        stats={
            "diverging": chains.diverging,
            "acceptance_rate": chains.accept,
            "n_steps": chains.steps,
            "energy": chains.energy,
            "step_size": chains.step_size,
        },
        diagnostics=diagnose(chains.position, chains.diverging, chains.energy),
    )


@contextlib.contextmanager
def progress_bar(total: int, wanted: bool | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal, and nothing in pipes and logs; yields `advance(n)`."""
    show = (sys.stderr.isatty() and total > 4) if wanted is None else wanted
    if not show:
        yield lambda number: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("sampling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("sampling", total=total)
        yield lambda number: bar.advance(task, number)
