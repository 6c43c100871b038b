"""Plots of repeated sampling: coverage by attempts, budgets, and the accuracy of best of n."""

from __future__ import annotations

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes

from bayescale import checked
from bayescale.checked import known_keywords
from bayescale.coverage.forecast import Budget, CoverageForecast
from bayescale.coverage.posterior import CoveragePosterior, check_question
from bayescale.coverage.verifier import BestOfN
from bayescale.errors import InputError
from bayescale.plot.style import (
    BLUE,
    INK,
    MARKS,
    ORANGE,
    SHADE,
    drawing,
    dress,
    headline,
    key,
    key_below,
    log_axes,
    note,
    percent,
    short,
)

BANDS = ((0.95, 0.14), (0.8, 0.2), (0.5, 0.3))
"""Probabilities of the intervals and the opacity of each, the widest first."""
BEYOND = 100
"""By default a curve ends at this many times the largest number of attempts made."""
ROWS = 60
"""Number of points at which a curve is evaluated."""


@known_keywords
def coverage(
    post: CoveragePosterior,
    *,
    ax: Axes | None = None,
    upto: float | None = None,
    problems: str = "same",
    target: float | None = None,
) -> Axes:
    """Draw coverage by number of attempts: the median, 50, 80 and 95 % intervals, and the unbiased estimates.

    Args:
        post: A fit to counts.
        ax: Axes to draw into; by default those of a new figure.
        upto: Largest number of attempts on the x axis; by default a hundred times the number made.
        problems: "same" for the fitted problems, "new" for other ones.
        target: A coverage to mark.

    Raises:
        InputError: For impossible options.

    Example:
        >>> bs.plot.coverage(post, upto=10_000, target=0.9)  # doctest: +SKIP
    """
    checked.instance("A fit to counts", post, CoveragePosterior, hint="Make one with bs.coverage.fit(...).")
    perhaps = checked.optional(checked.POSITIVE)
    checked.options(upto=(upto, perhaps), target=(target, checked.optional(checked.PROBABILITY)))
    check_question(problems)
    made = int(post.counts.attempts.max())
    last = made * BEYOND if upto is None else int(upto)
    if not 2 <= last <= 10**12:
        raise InputError(f"upto must be from 2 to 1e12 attempts; found {short(float(last))}.")
    k = [int(one) for one in np.unique(np.round(np.geomspace(1, last, ROWS)).astype(np.int64))]
    forecast = post.predict(k, problems=problems)
    least = int(post.counts.attempts.min())
    measured = post.estimates([one for one in doubled(least) if one <= last])
    with drawing(ax) as ax:
        for level, opacity in BANDS:
            ends, label = forecast.interval(level), f"{100 * level:g} %"
            ax.fill_between(k, *ends, color=BLUE, alpha=opacity, linewidth=0, label=label)
        ax.plot(k, forecast.quantile(0.5), color=BLUE, linewidth=1.6, label="median")
        label = "estimates, biased by stopping" if post.counts.stopped else "unbiased estimates"
        ax.plot(measured["k"], measured["estimate"], **MARKS, color=ORANGE, label=label, zorder=5)
        log_axes(ax, 1.0, float(last), response=False)
        dress(ax)
        if last > least:
            ax.axvspan(least, last, **SHADE)
            note(ax, "beyond the attempts made", (least, 0.02), (4, 0), INK, ("data", "axes fraction"))
        if target is not None:
            ax.axhline(target, color=INK, linewidth=1.0, linestyle=(0, (4, 3)))
            note(ax, f"target {target:g}", (0, target), (4, 3), INK, ("axes fraction", "data"))
        as_shares(ax)
        ax.set_xlabel("attempts at each problem, k")
        about = "the fitted problems" if problems == "same" else "all problems like these"
        headline(ax, post.counts.name, f"share of {about} that k attempts solve; {len(post.counts):,} were fitted")
        key_below(ax)
    return ax


def coverage_forecast(record: CoverageForecast, *, ax: Axes | None = None) -> Axes:
    """Draw the median and intervals of the coverage at each number of attempts."""
    with drawing(ax) as ax:
        for level, width in ((0.95, 2.0), (0.8, 6.0)):
            ax.vlines(
                record.k, *record.interval(level), color=BLUE, alpha=0.5, linewidth=width, label=f"{100 * level:g} %"
            )
        ax.plot(record.k, record.quantile(0.5), **MARKS, color=BLUE, label="median")
        log_axes(ax, min(record.k) / 1.5, max(record.k) * 1.5, response=False)
        dress(ax)
        as_shares(ax)
        ax.set_xlabel("attempts at each problem, k")
        headline(ax, record.label, f"coverage of {record.problems} problems")
        key(ax)
    return ax


def budget(record: Budget, *, ax: Axes | None = None) -> Axes:
    """Draw the probability of reaching the target by number of attempts."""
    reached = np.sort(record.draws[np.isfinite(record.draws)])
    # The curve starts with a step before the first attempt, so that it is visible also where the target is met at once
    # or never.
    k = np.concatenate([[1.0], reached, [1e9]])
    chance = np.concatenate([[0.0], np.arange(1, len(reached) + 1), [len(reached)]]) / len(record.draws)
    with drawing(ax) as ax:
        ax.step(k, chance, where="post", color=BLUE, linewidth=1.6)
        ax.axhline(record.level, color=INK, linewidth=1.0, linestyle=(0, (4, 3)))
        log_axes(ax, 1.0, min(1e9, 10.0 * float(k[-2])), response=False)
        dress(ax)
        as_shares(ax)
        ax.set_xlabel("attempts at each problem, k")
        ax.set_ylabel("probability")
        never = f"no number is enough with probability {percent(record.p_never)}"
        headline(ax, record.label, f"coverage of {record.target:g} on {record.problems} problems; {never}")
    return ax


def best_of_n(record: BestOfN, *, ax: Axes | None = None) -> Axes:
    """Draw the fractions of problems with a right and with a wrong answer by number of attempts."""
    with drawing(ax) as ax:
        shares = ((record.right, BLUE, "right answer, 80 %"), (record.wrong, ORANGE, "wrong answer, 80 %"))
        for draws, color, label in shares:
            ax.vlines(record.k, *np.quantile(draws, [0.1, 0.9], axis=0), color=color, alpha=0.5, linewidth=4.0)
            ax.plot(record.k, draws.mean(0), **{**MARKS, "linestyle": "-"}, color=color, label=label)
        log_axes(ax, min(record.k) / 1.5, max(record.k) * 1.5, response=False)
        dress(ax)
        as_shares(ax)
        ax.set_xlabel("attempts at each problem, k")
        headline(ax, record.label, "share of new problems, first attempt that the verifier accepts")
        key(ax)
    return ax


def doubled(most: int) -> list[int]:
    """Return 1, 2, 4 and so on up to `most`, and `most`."""
    return [*(1 << power for power in range(most.bit_length()) if 1 << power < most), most]


def as_shares(ax: Axes) -> None:
    """Make the y axis go from 0 to 1, in percent."""
    ax.set_ylim(0.0, 1.0)
    ax.yaxis.set_major_formatter(ticker.PercentFormatter(1.0, 0, " %"))
