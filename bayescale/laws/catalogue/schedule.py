"""Laws of schedules: losses along learning-rate schedules, and the best rate, batch and weight decay.

The loss at a step depends on all earlier learning rates, so the two laws of loss curves are built for a list of
schedules: `multi_power([rates_a, rates_b])` is a law with inputs (schedule, step), where schedule 1 is the first of the
list. A schedule contains one rate for each step. Sums over a schedule are computed once. Adjacent equal rates become
one piece, which is exact, so a schedule with few distinct rates is fast.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from bayescale._record import Array
from bayescale.errors import InputError
from bayescale.laws.law import Law
from bayescale.laws.priors import Exponent, Fixed, Level, Positive, Shares
from bayescale.laws.published import paper, refit
from bayescale.laws.registry import register_law, variant
from bayescale.laws.shapes import raised

MOST_SCHEDULES = 64
LEAST_SHARE = 0.01
"""Fraction of the peak below which all rates count as equal for the discrepancy."""


# --- Paths -------------------------------------------------------------------------------------------------


class Paths(NamedTuple):
    """Schedules as pieces of constant rate, shape (schedule, piece) each; padding pieces never start."""

    rate: np.ndarray
    start: np.ndarray
    """First step of a piece, counted from 0."""
    length: np.ndarray
    before: np.ndarray
    """Sum of rates before the piece."""
    drop: np.ndarray
    """Decrease of the rate from the previous piece; negative during warm-up."""
    after_peak: np.ndarray
    """1 for pieces after the highest rate, else 0."""


def paths(schedules: Sequence[Array]) -> Paths:
    """Convert schedules, one rate for each step, to pieces of constant rate.

    Raises:
        InputError: For an empty list, or a schedule that is not a row of numbers of 0 or more.
    """
    if not 0 < len(schedules) <= MOST_SCHEDULES:
        raise InputError(f"Between 1 and {MOST_SCHEDULES} schedules are expected; found {len(schedules)}.")
    tables = []
    for number, schedule in enumerate(schedules, 1):
        rates = np.asarray(schedule, float)
        if rates.ndim != 1 or len(rates) == 0 or not (np.isfinite(rates) & (rates >= 0)).all() or rates.max() == 0:
            raise InputError(f"Schedule {number} must be one learning rate of 0 or more for each step, not all 0.")
        start = np.flatnonzero(np.diff(rates, prepend=np.nan) != 0)
        rate = rates[start]
        length = np.diff(start, append=len(rates)).astype(float)
        # The last rate continues, so that steps beyond the end can be evaluated.
        length[-1] = np.inf
        before = np.concatenate([[0.0], np.cumsum(rates)])[start]
        drop = -np.diff(rate, prepend=rate[0])
        tables.append((rate, start.astype(float), length, before, drop, (start > np.argmax(rates)).astype(float)))
    size = max(len(table[0]) for table in tables)
    fills = (1.0, np.inf, 0.0, 0.0, 0.0, 0.0)
    columns = zip(fills, zip(*tables, strict=True), strict=True)
    return Paths(*(np.stack([np.pad(c, (0, size - len(c)), constant_values=f) for c in group]) for f, group in columns))


def held(rates: Array, pieces: int) -> np.ndarray:
    """Round a schedule to at most `pieces` pieces of constant rate with equal sums, for fast laws.

    The first step remains a piece of its own, because a warm-up has to rise from its first rate.
    """
    edges = np.unique([0, *np.linspace(1, len(rates), pieces).round().astype(int)])
    return np.concatenate([np.full(b - a, np.mean(rates[a:b])) for a, b in itertools.pairwise(edges)])


def cosine(steps: int, peak: float, last: float, warmup: int = 0) -> np.ndarray:
    """Return a cosine schedule from `peak` to `last` after a linear warm-up from 0, one rate for each step."""
    turn = np.arange(steps - warmup) / (steps - warmup)
    falling = last + 0.5 * (peak - last) * (1.0 + np.cos(np.pi * turn))
    return np.concatenate([peak * np.arange(warmup) / max(warmup, 1), falling])


def row_at(features: Paths, schedule: Any, step: Any) -> tuple[Any, Any, Any]:
    """Return the pieces of one schedule, the sum of its rates up to and with a step, and which pieces have begun."""
    number = jnp.asarray(schedule + 0.5).astype(int) - 1
    row = Paths(*(jnp.asarray(table)[number] for table in features))
    spent = (row.rate * jnp.clip(step + 1.0 - row.start, 0.0, row.length)).sum()
    # An index out of range raises no error in JAX, so the loss of an unknown schedule is set to nan.
    known = (number >= 0) & (number < len(features.rate))
    return row, jnp.where(known, spent, jnp.nan), row.start <= step


def curve_axes(features: Paths) -> dict[str, Callable[..., Any]]:
    """Return the axes of the discrepancy of a loss curve: its step and rate, not the number of the schedule."""

    def rate(schedule: Any, step: Any) -> Any:
        row, _, begun = row_at(features, schedule, step)
        peak = jnp.where(row.length > 0, row.rate, 0.0).max()
        # A rate of 0 has no logarithm; rates close to 0 hardly change the loss.
        return jnp.maximum(row.rate[begun.sum() - 1], LEAST_SHARE * peak)

    return {"step": lambda schedule, step: step, "rate": rate}


# --- Loss curves -------------------------------------------------------------------------------------------


def annealing(schedules: Sequence[Array], name: str = "annealing") -> Law:
    """Register the learning-rate annealing law for given schedules; see its description in the catalogue.

    Args:
        schedules: One rate for each step; write a warm-up as steps at the peak rate.
        name: Name in the registry, by which saved fits refer to the law.

    Raises:
        InputError: For schedules that are not rows of rates.
    """
    features = paths(schedules)

    @register_law(
        name=name,
        inputs=("schedule", "step"),
        cite="tissue2024annealing",
        priors={
            **{"L0": Positive(2.5, 0.25), "A": Positive(0.6, 0.7), "alpha": Exponent(0.5, 0.4)},
            **{"C": Positive(0.4, 0.7), "lam": Fixed(0.999)},
        },
        scales={"schedule": "", "step": ""},
        published={
            "luo2025_400m": refit(cite="luo2025multipower", A=0.6274, alpha=0.7283, C=0.5611, L0=2.6714, lam=0.999)
        },
        axes=curve_axes(features),
        nicknames=("learning rate annealing",),
    )
    def annealing(schedule: Any, step: Any, *, L0: Any, A: Any, alpha: Any, C: Any, lam: Any) -> Any:
        """Loss along a learning-rate schedule: L0 + A S1^-alpha - C S2.

        S1 is the sum of the learning rates up to the step. S2 sums the decreases of the rate with a fading memory: S2 =
        sum_i m_i with m_i = lam m_(i-1) + (eta_(i-1) - eta_i) for steps i after the peak rate, where eta_i is the rate
        at step i. The abstract of Tissue et al. (2024) states the law; this definition of S2 was not checked against
        the paper. S2 has no upper limit, so the law overestimates the gain of long decays. Priors assume a loss in nats
        per token and lam near .999, because the size of C depends on lam.
        """

        def one(schedule: Any, step: Any, L0: Any, A: Any, alpha: Any, C: Any, lam: Any) -> Any:
            row, spent, begun = row_at(features, schedule, step)
            # A decrease adds lam^0 + lam^1 + ... over the steps after it.
            since = jnp.where(begun, step + 1.0 - row.start, 0.0)
            memory = (row.drop * row.after_peak * -jnp.expm1(since * jnp.log(lam))).sum() / (1.0 - lam)
            return L0 + A * spent**-alpha - C * memory

        return jnp.vectorize(one)(schedule, step, L0, A, alpha, C, lam)

    return annealing


LUO = {
    "luo2025_25m": (3.04045, 0.52469, 0.50787, 363.79, 2.0656, 0.58279, 0.64142),
    "luo2025_100m": (2.65145, 0.60115, 0.45296, 437.95, 2.1325, 0.59785, 0.65524),
    "luo2025_400m": (2.37474, 0.65421, 0.42879, 523.42, 2.0246, 0.59350, 0.63472),
}
"""Constants of the multi-power law by size of the model: L0, A, alpha, B, C, beta, gamma."""


def multi_power(schedules: Sequence[Array], name: str = "multi_power") -> Law:
    """Register the multi-power law for given schedules; see its description in the catalogue.

    Args:
        schedules: One rate for each step, including warm-up.
        name: Name in the registry, by which saved fits refer to the law.

    Raises:
        InputError: For schedules that are not rows of rates.

    Example:
        >>> import numpy as np
        >>> from bayescale.laws.schedule import multi_power
        >>> law = multi_power([np.full(1000, 3e-4), np.repeat([3e-4, 1e-4], 500)], name="two_steps")
        >>> law.inputs
        ('schedule', 'step')
    """
    features = paths(schedules)

    @register_law(
        name=name,
        inputs=("schedule", "step"),
        cite="luo2025multipower",
        priors={
            **{"L0": Positive(2.5, 0.25), "A": Positive(0.6, 0.5), "alpha": Exponent(0.45, 0.3)},
            **{"B": Positive(400.0, 0.5), "C": Positive(2.0, 0.5)},
            **{"beta": Exponent(0.6, 0.3), "gamma": Exponent(0.6, 0.3)},
        },
        scales={"schedule": "", "step": ""},
        published={
            key: paper(**dict(zip(("L0", "A", "alpha", "B", "C", "beta", "gamma"), values, strict=True)))
            for key, values in LUO.items()
        },
        axes=curve_axes(features),
        nicknames=("MPL", "multi-power law"),
    )
    def multi_power(schedule: Any, step: Any, *, L0: Any, A: Any, alpha: Any, B: Any, C: Any, beta: Any, gamma: Any):
        """Loss along a schedule: L0 + A S^-alpha - B sum_k (eta_(k-1) - eta_k) [1 - (1 + C eta_k^-gamma S_k)^-beta].

        eta_k is the learning rate at step k. S is the sum of all rates up to the current step, including warm-up; S_k
        is the sum of the rates from step k to the current step. Residuals of neighbouring steps are correlated, so fit
        a thinned curve. Priors assume a loss in nats per token.
        """

        def one(schedule: Any, step: Any, L0: Any, A: Any, alpha: Any, B: Any, C: Any, beta: Any, gamma: Any) -> Any:
            row, spent, begun = row_at(features, schedule, step)
            since = jnp.where(begun, spent - row.before, 0.0)
            # A rate of 0 has reached its final effect.
            slow = raised(jnp.maximum(row.rate, 1e-12), -gamma)
            gained = -jnp.expm1(-beta * jnp.log1p(C * slow * since))
            return L0 + A * spent**-alpha - B * (row.drop * gained).sum()

        return jnp.vectorize(one)(schedule, step, L0, A, alpha, B, C, beta, gamma)

    return multi_power


STEPS, PEAK, LAST, WARMUP = 24_000, 3e-4, 3e-5, 2_160
EXAMPLES = (
    held(cosine(STEPS, PEAK, PEAK, WARMUP), 100),
    held(cosine(STEPS, PEAK, LAST, WARMUP), 100),
)
"""Schedules of the registered laws: a constant rate and a cosine, with steps and rates of luo2025multipower."""

annealing([np.full(STEPS, PEAK), held(cosine(STEPS, PEAK, LAST), 100)])
multi_power(EXAMPLES)


# --- Best settings -----------------------------------------------------------------------------------------

RATE = ("n_params", "n_tokens")


@register_law(
    inputs=("n_params", "n_tokens", "lr", "batch_tokens"),
    cite="li2025steplaw",
    priors={
        "terms": Shares(("E", "A", "B")),
        **{"alpha": Exponent(0.35), "beta": Exponent(0.35)},
        **{"h": Positive(0.005, 1.0), "g": Positive(0.005, 1.0), "c": Positive(1.0, 1.0), "d": Positive(1.0, 1.0)},
        **{"p": Exponent(0.7, 0.3), "q": Exponent(0.3, 0.4), "r": Exponent(0.57, 0.3)},
    },
    units={
        **{"A": ("n_params", "alpha"), "B": ("n_tokens", "beta")},
        "c": [("lr", 1.0), ("n_params", "p"), ("n_tokens", "-q")],
        "d": [("batch_tokens", 1.0), ("n_tokens", "-r")],
    },
    counting={"n_params": "without embeddings"},
    nests={"chinchilla": {"h": 0.0, "g": 0.0}},
    form="ours",
    nicknames=("Step Law",),
)
def step_valley(N: Any, D: Any, lr: Any, bs: Any, *, E, A, alpha, B, beta, h, g, c, p, q, d, r) -> Any:
    """Loss by size, data, rate and batch: (E + A N^-alpha + B D^-beta) (1 + h ln(lr/lr*)^2 + g ln(bs/bs*)^2).

    The best learning rate is lr* = c N^-p D^q, and the best batch is bs* = d D^r. Li et al. (2025) fit only the runs
    with the lowest loss. This law describes all runs of a sweep. If the loss hardly changes around the best settings,
    the intervals of the best settings are wide.
    """
    off_rate = jnp.log(lr / c) + p * jnp.log(N) - q * jnp.log(D)
    off_batch = jnp.log(bs / d) - r * jnp.log(D)
    return (E + A * N**-alpha + B * D**-beta) * (1.0 + h * off_rate**2 + g * off_batch**2)


@register_law(
    inputs=RATE,
    cite="li2025steplaw",
    priors={"c": Level(1.0), "p": Exponent(0.7, 0.3), "q": Exponent(0.3, 0.4)},
    units={"c": [("n_params", "p"), ("n_tokens", "-q")]},
    decreasing=("n_params",),
    response="best learning rate",
    describes="quantity",
    counting={"n_params": "without embeddings"},
    published={"li2025": paper(c=1.79, p=0.713, q=0.307)},
    nicknames=("Step Law",),
)
def step_rate(N: Any, D: Any, *, c: Any, p: Any, q: Any) -> Any:
    """Best learning rate by parameters N and tokens D: c N^-p D^q.

    In the runs of Li et al. (2025) the batch grows with D. At a fixed batch, q has the opposite sign. The factor c is
    known only up to a factor of two.
    """
    return c * N**-p * D**q


variant(
    "growing_power",
    name="step_batch",
    nicknames=("Step Law",),
    section="schedule",
    summary="Best batch in tokens by training tokens D: A D^c.",
    cite="li2025steplaw",
    response="best batch in tokens",
    describes="quantity",
    inputs=("n_tokens",),
    priors={"c": Exponent(0.57, 0.3)},
    published={"li2025": paper(A=0.58, c=0.571)},
)


@register_law(
    inputs=("n_params", "n_experts"),
    cite="ludziejewski2025joint",
    priors={"c": Level(1.0), "p": Exponent(0.8, 0.3), "q": Exponent(0.25, 0.5)},
    units={"c": [("n_params", "p"), ("n_experts", "q")]},
    decreasing=("n_params", "n_experts"),
    response="best learning rate",
    describes="quantity",
    counting={"n_params": "active, without embeddings"},
    published={"ludziejewski2025": paper(c=math.exp(8.39), p=0.81, q=0.25)},
)
def expert_rate(N: Any, E: Any, *, c: Any, p: Any, q: Any) -> Any:
    """Best learning rate of mixtures of experts by parameters N and number of experts E: c N^-p E^-q."""
    return c * N**-p * E**-q


variant(
    "growing_power",
    name="weight_decay_width",
    nicknames=("muP",),
    section="schedule",
    summary="Weight decay by width d, if the learning rate is proportional to 1/d: A d^c with c near .5.",
    cite="fan2025weightdecay",
    caveats="This weight decay keeps the top singular value of weight matrices constant. Vectors have a constant "
    "learning rate and no weight decay. The rule follows from the top singular value in the abstract of Fan et "
    "al. (2025), which is proportional to sqrt(rate / decay) d^.75.",
    response="weight decay",
    describes="quantity",
    inputs=("width",),
    priors={"c": Exponent(0.5, 0.2)},
)
variant(
    "power",
    name="rate_by_width",
    nicknames=("muP",),
    section="schedule",
    summary="Best learning rate by width d: A d^-c, with c near 1 for hidden matrices.",
    cite="wortsman2023small",
    caveats="The parametrisation of Yang et al. (2022) predicts c = 1 for hidden matrices. If the posterior of c "
    "excludes 1, this prediction does not give the best rate of large models from that of small models.",
    form="recalled",
    response="best learning rate",
    describes="quantity",
    inputs=("width",),
    priors={"c": Exponent(1.0, 0.3)},
)
