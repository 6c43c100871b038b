"""The decision page's part on recipes, made from the rows of `recipe_choices`."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bayescale.drawing import BLUE, INK, MARKS, PALETTE, QUIET, STYLE, dress, figure_of, new_axes
from benchmarks.recipe_choices import (
    AIM,
    BOOTSTRAP,
    FIFTHS,
    NAMES,
    OURS,
    RANKING,
    SEPARATE,
    SQUARES,
    TRUSTING,
    USUAL,
    read,
)
from benchmarks.recipe_pairs import DEVELOPMENT, FEWEST
from benchmarks.sections import fraction, grid, listed, ranged
from benchmarks.tally import Estimate, estimate

PAIR = ["source", "cluster", "first", "second", "metric", "split"]
SURENESS = ((0.5, 0.8), (0.8, 0.95), (0.95, 1.0))
LEAST = 0.01
"""A log score counts a probability below this, of what happened, as this much."""


def table(rows: Sequence[dict]) -> pd.DataFrame:
    """One row a method and held-out scale: p, won, hit, brier, log, and the weight that makes pairs count alike."""
    frame = pd.DataFrame(rows)
    frame = frame.assign(developed=frame["source"].isin(DEVELOPMENT))
    frame["weight"] = 1.0 / frame.groupby(PAIR)["truth"].transform("size")
    usual = usual_rate(frame)
    parts = []
    for name in NAMES:
        p = np.array([given.get(name, np.nan) for given in frame["p"]])
        if name == USUAL:
            p = np.array([0.5 + (given[RANKING] - 0.5) * (2 * usual - 1) for given in frame["p"]])
        won = (frame["truth"] < 0).to_numpy()
        hit = np.where(p == 0.5, 0.5, (p > 0.5) == won)
        log = -np.log(np.maximum(np.where(won, p, 1.0 - p), LEAST))
        parts.append(frame.assign(method=name, p=p, won=won, hit=hit, brier=(p - won) ** 2, log=log))
    return pd.concat(parts, ignore_index=True)


def usual_rate(frame: pd.DataFrame) -> float:
    """How often ranking at the largest small scale was right on the development sources, pairs alike."""
    known = frame[frame["developed"]]
    p, won = np.array([given[RANKING] for given in known["p"]]), (known["truth"] < 0).to_numpy()
    hit = np.where(p == 0.5, 0.5, (p > 0.5) == won)
    return float(np.average(hit, weights=known["weight"])) if len(known) else 0.9


def figure_over(part: pd.DataFrame, measure: str) -> Estimate:
    """Average of a measure over pairs, with an interval by resampling groups of recipes that are judged together."""
    means = part.groupby(PAIR, sort=False)[measure].mean().reset_index()
    return estimate(means[measure], means["source"] + "|" + means["cluster"])


def difference(left: pd.DataFrame, ours: str, rival: str) -> Estimate:
    """Accuracy of one method minus another's on the same pairs."""
    hits = [left[left["method"] == name].groupby(PAIR, sort=False)["hit"].mean() for name in (ours, rival)]
    gaps = (hits[0] - hits[1]).rename("gap").reset_index()
    return estimate(gaps["gap"], gaps["source"] + "|" + gaps["cluster"])


def accuracy_verdict(gap: Estimate) -> str:
    """Say whether the default is as accurate as ranking."""
    if gap.value >= -1e-9:
        return "The aim, to be no less accurate than ranking, is met."
    if gap.high >= 0:
        return "The aim, to be no less accurate than ranking, is missed by what chance may explain."
    return "The aim, to be no less accurate than ranking, is missed."


def turned(part: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Stated probability and outcome with half of the pairs, by their names, the other way round.

    Which recipe of a pair comes first is an accident of the source, which would fill one side of the table.
    """
    key = part[PAIR].astype(str).agg("|".join, axis=1)
    flip = np.array([sum(map(ord, text)) % 2 == 1 for text in key])
    p, won = part["p"].to_numpy(float), part["won"].to_numpy(float)
    return np.where(flip, 1 - p, p), np.where(flip, 1 - won, won)


def reliability(part: pd.DataFrame) -> pd.DataFrame:
    """Stated probability against frequency in each fifth: stated, observed, low, high (over groups), points, groups."""
    p, won = turned(part)
    number = np.clip(np.digitize(p, FIFTHS) - 1, 0, 4)
    cluster = (part["source"] + "|" + part["cluster"]).to_numpy()
    names, code = np.unique(cluster, return_inverse=True)
    draws = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), 1000)
    rows = []
    for fifth in range(5):
        chosen = number == fifth
        weight = part["weight"].to_numpy() * chosen
        total = np.bincount(code, weight, len(names))
        wins = np.bincount(code, weight * won, len(names))
        with np.errstate(invalid="ignore", divide="ignore"):
            again = (draws @ wins) / (draws @ total)
            stated = (weight * p).sum() / weight.sum()
        low, high = np.nanquantile(again, [0.025, 0.975]) if chosen.any() else (np.nan, np.nan)
        observed = wins.sum() / total.sum() if chosen.any() else np.nan
        rows.append(
            {
                "fifth": f"{FIFTHS[fifth]:g} to {FIFTHS[fifth + 1]:g}",
                **{"stated": stated, "observed": observed, "low": low, "high": high},
                **{"points": int(chosen.sum()), "groups": len(set(cluster[chosen]))},
            }
        )
    return pd.DataFrame(rows)


def section(rows: Sequence[dict] | None = None, picture: str | None = "decisions-recipes.png") -> str:
    """The part of the page, in Markdown.

    Args:
        rows: Rows of `recipe_choices.run`; those of the repository by default.
        picture: File name of the picture, or None.
    """
    scored = table(read() if rows is None else rows)
    left = scored[~scored["developed"]]
    ours = left[left["method"] == OURS]
    found = {name: figure_over(left[left["method"] == name], "hit") for name in NAMES}
    fifths = reliability(ours)
    gaps = (fifths["observed"] - fifths["stated"]).abs()
    missed = fifths[gaps > AIM]
    gap = difference(left, OURS, RANKING)
    lines = [
        "## Which recipe",
        f"Both recipes are fitted on small runs, at {FEWEST} common scales or more; the question is which of two runs "
        "at a larger scale has the lower loss. The default compares them by the ratio of their losses at common "
        "scales, a signed power law with drift and noise of its own (`bayescale.decide.paired`). Its numbers were "
        f"chosen on {listed(sorted(DEVELOPMENT))}; what follows is from "
        f"{listed(sorted(left['source'].unique()))}, {ours.groupby(PAIR).ngroups} pairs and cuts with {len(ours):,} "
        f"held-out scales in {ours.groupby(['source', 'cluster']).ngroups} groups of recipes.",
        f"**Accuracy.** The default named the better recipe in {ranged(found[OURS], 3)} of the cases, ranking at the "
        f"largest small scale in {ranged(found[RANKING], 3)}: "
        + f"a difference of {ranged(gap, 3)}. "
        + accuracy_verdict(gap),
        "**Calibration.** "
        + (
            f"In every fifth the frequency was within {100 * AIM:.0f} points of the stated probability."
            if missed.empty
            else f"The aim of {100 * AIM:.0f} points is missed in "
            + listed(
                [
                    f"{row.fifth} ({100 * (row.observed - row.stated):+.0f} points, {row.points} scales of "
                    f"{row.groups} groups)"
                    for row in missed.itertuples()
                ]
            )
            + "."
        ),
        methods_table(left),
        reliability_table(fifths),
        "Few pairs are close, so the inner fifths hold few scales. The same without regard to which recipe is called "
        "A, by how sure each method was of the recipe that it named:",
        confidence_table(left),
        widths(ours),
        "### By source",
        source_table(scored),
        "Of each development source at most 60 pairs and cuts were scored, with half as many draws of the ratio.",
        "Ranking states no probability: it counts as certain in the first row of its kind, and as sure as it was "
        "right on the development sources in the second. Every other method's probability is that of two runs "
        "drawn independently, which is what separate fits say.",
    ]
    if picture is not None:
        lines.insert(-4, f"![Stated against observed, and Brier scores]({picture})")
    return "\n\n".join(line for line in lines if line)


def methods_table(left: pd.DataFrame) -> str:
    """Accuracy, Brier and log score of every method on the sources left out."""
    body = []
    for name in NAMES:
        part = left[left["method"] == name]
        worst = (reliability(part).pipe(lambda t: (t["observed"] - t["stated"]).abs())).max()
        cells = [ranged(figure_over(part, measure), 3) for measure in ("hit", "brier", "log")]
        body.append([name, *cells, f"{100 * worst:.0f}"])
    head = ["method", "right", "Brier score", "log score (nats, lower is better)", "worst fifth (points off)"]
    return grid(head, body)


def reliability_table(fifths: pd.DataFrame) -> str:
    """The default's fifths."""
    body = [
        [
            row.fifth,
            fraction(row.stated, 3),
            f"{fraction(row.observed, 3)} ({fraction(row.low)} to {fraction(row.high)})" if row.points else "-",
            str(row.points),
            str(row.groups),
        ]
        for row in fifths.itertuples()
    ]
    return grid(["stated P(A better)", "mean stated", "observed", "scales", "groups"], body)


def confidence_table(left: pd.DataFrame) -> str:
    """How often the named recipe was the better one, by how sure the default and its rivals were."""
    body = []
    for low, high in SURENESS:
        row = [f"{low:g} to {high:g}"]
        for name in (OURS, SEPARATE, TRUSTING, SQUARES, BOOTSTRAP):
            part = left[left["method"] == name]
            sure = np.maximum(part["p"], 1 - part["p"])
            part = part.assign(sure=sure)[(sure >= low) & ((sure < high) | (high == 1.0))]
            stated = fraction(figure_over(part, "sure").value) if len(part) else "-"
            row.append(f"{stated}: {ranged(figure_over(part, 'hit'))}, {len(part)} scales" if len(part) else "-")
        body.append(row)
    names = (OURS, SEPARATE, TRUSTING, SQUARES, BOOTSTRAP)
    return grid(["stated P(named recipe better)", *[f"{name} (stated: right)" for name in names]], body)


def widths(ours: pd.DataFrame) -> str:
    """How much sharper the ratio is than separate fits, and how often its intervals held."""
    ratio = ours.assign(sharper=np.log(ours["width_apart"] / ours["width"]))
    held = {
        level: figure_over(ours.assign(x=(ours["pit"] - 0.5).abs() <= level / 2), "x") for level in (0.5, 0.8, 0.95)
    }
    found = figure_over(ratio, "sharper")
    words = listed([f"{100 * level:g} % intervals held {ranged(value)}" for level, value in held.items()])
    return (
        f"The 90 % interval of the difference of the curves was {np.exp(found.value):.1f} times narrower than that of "
        f"separate fits (geometric mean; {np.exp(found.low):.1f} to {np.exp(found.high):.1f}); of the differences of "
        f"runs, {words}."
    )


def source_table(scored: pd.DataFrame) -> str:
    """Accuracy and Brier score of the default and of ranking by source, development sources as well."""
    body = []
    for source, part in scored.groupby("source", sort=False):
        own = {name: part[part["method"] == name] for name in (OURS, SEPARATE, RANKING)}
        body.append(
            [
                f"{source} (development)" if part["developed"].iloc[0] else str(source),
                str(own[OURS].groupby(PAIR).ngroups),
                *[fraction(figure_over(own[name], "hit").value, 3) for name in own],
                *[fraction(figure_over(own[name], "brier").value, 3) for name in own],
            ]
        )
    return grid(["source", "pairs and cuts", *[f"right: {n}" for n in own], *[f"Brier: {n}" for n in own]], body)


def picture(rows: Sequence[dict] | None = None) -> np.ndarray:
    """Draw stated against observed probability, and the Brier score of every method, on the sources left out."""
    scored = table(read() if rows is None else rows)
    left = scored[~scored["developed"]]
    with matplotlib.rc_context(STYLE):
        axes = new_axes(2, 2, 4.3)
        draw_reliability(axes[0], left)
        draw_scores(axes[1], left)
        title = "Which recipe: held-out scales of sources left out of tuning"
        figure_of(axes[0]).suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return axes


def looks() -> dict[str, str]:
    """Colour of each method."""
    return dict(zip(NAMES, (BLUE, *PALETTE[1:], QUIET), strict=False))


def draw_reliability(ax: Axes, left: pd.DataFrame) -> None:
    """Observed frequency by fifths of the stated probability."""
    ax.plot([0, 1], [0, 1], color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    ax.fill_between([0, 1], [-AIM, 1 - AIM], [AIM, 1 + AIM], color=QUIET, alpha=0.12, linewidth=0)
    for name in (SQUARES, BOOTSTRAP, TRUSTING, SEPARATE, OURS):
        found = reliability(left[left["method"] == name]).dropna()
        color = looks()[name]
        ax.plot(found["stated"], found["observed"], color=color, linewidth=2.2 if name == OURS else 1.1, zorder=3)
        ax.plot(found["stated"], found["observed"], **MARKS, color=color, label=name, zorder=4)
        if name == OURS:
            ax.vlines(found["stated"], found["low"], found["high"], color=color, alpha=0.45, linewidth=2.0, zorder=3)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_xlabel("stated P(A better), mean of each fifth")
    ax.set_ylabel("how often A was better")
    ax.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left", handletextpad=0.3)
    dress(ax)


def draw_scores(ax: Axes, left: pd.DataFrame) -> None:
    """Brier score of each method with its interval over groups of recipes."""
    for place, name in enumerate(reversed(NAMES)):
        found = figure_over(left[left["method"] == name], "brier")
        ax.hlines(place, found.low, found.high, color=looks()[name], linewidth=2.0, alpha=0.6)
        ax.plot([found.value], [place], **MARKS, color=looks()[name])
    ax.set_yticks(range(len(NAMES)), list(reversed(NAMES)))
    ax.set_ylim(-0.6, len(NAMES) - 0.4)
    ax.set_xlim(left=0)
    ax.set_xlabel("Brier score (lower is better)")
    dress(ax, grid="x")
