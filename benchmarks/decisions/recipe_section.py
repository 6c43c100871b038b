"""The decision page's part on recipes, made from the rows of `recipe_choices`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bayescale.plot.style import BLUE, MARKS, PALETTE, QUIET, STYLE, dress, figure_of, new_axes
from benchmarks.core.estimates import Estimate, estimate
from benchmarks.core.markdown import fraction, grid, ranged, templates
from benchmarks.decisions.recipe_pairs import FEWEST, THINNED
from benchmarks.decisions.recipe_variants import GRID, SHIPPED
from benchmarks.decisions.recipes import (
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

PAIR = ["source", "cluster", "first", "second", "metric", "split"]
SURENESS = ((0.5, 0.8), (0.8, 0.95), (0.95, 1.0))
LEAST = 0.01
"""A log score counts a probability below this, of what happened, as this much."""
TIE = 0.001
"""Log scores that differ by less say nothing about which numbers are better; the more cautious ones are taken."""
DRAWS = 2000
"""Outcomes that are drawn from the stated probabilities."""
render = templates(__file__)


def table(rows: Sequence[dict]) -> pd.DataFrame:
    """One row a method and held-out scale: p, won, hit, brier, log, and the weight that makes pairs count alike.

    The default has on each source the numbers that were the best on the others; see `choices`.
    """
    frame = pd.DataFrame(rows)
    frame["weight"] = 1.0 / frame.groupby(PAIR)["truth"].transform("size")
    chosen, usual = choices(frame), usual_rates(frame)
    parts = []
    for name in NAMES:
        p = np.array([given.get(name, np.nan) for given in frame["p"]])
        if name == USUAL:
            rate = frame["source"].map(usual).to_numpy(float)
            p = 0.5 + (np.array([given[RANKING] for given in frame["p"]]) - 0.5) * (2 * rate - 1)
        if name == OURS:
            p = np.array([p[chosen[source]] for source, p in zip(frame["source"], frame["variants"], strict=True)])
        parts.append(judged(frame.assign(method=name), p))
    return pd.concat(parts, ignore_index=True)


def judged(frame: pd.DataFrame, p: np.ndarray) -> pd.DataFrame:
    """Add how good stated probabilities were."""
    won = (frame["truth"] < 0).to_numpy()
    return frame.assign(p=p, won=won, hit=hits(p, won), brier=(p - won) ** 2, log=log_scores(p, won))


def hits(p: np.ndarray, won: np.ndarray) -> np.ndarray:
    """Whether the recipe that was named is the better one; half where none was named."""
    return np.where(p == 0.5, 0.5, (p > 0.5) == won)


def log_scores(p: np.ndarray, won: np.ndarray) -> np.ndarray:
    """Minus the logarithm of the probability of what happened."""
    return -np.log(np.maximum(np.where(won, p, 1.0 - p), LEAST))


def by_source(frame: pd.DataFrame, values: np.ndarray) -> pd.DataFrame:
    """Averages over the pairs of each source of values of shape (row, column)."""
    weighted = pd.DataFrame(values).mul(frame["weight"].to_numpy(), axis=0).groupby(frame["source"].to_numpy()).sum()
    return weighted.div(frame.groupby("source")["weight"].sum(), axis=0)


def choices(frame: pd.DataFrame) -> dict[str, int]:
    """Number in `GRID` that has the lowest log score on all other sources, sources alike; "" is for all of them.

    Of those that are within `TIE` of the lowest it is the first, which has the widest discrepancy.
    """
    p = np.array(frame["variants"].tolist())
    won = (frame["truth"] < 0).to_numpy()[:, None]
    scores = by_source(frame, log_scores(p, won))
    others = {source: scores.drop(index=source) for source in scores.index if len(scores) > 1}
    means = {source: part.mean() for source, part in {**others, "": scores}.items()}
    return {source: int((mean <= mean.min() + TIE).idxmax()) for source, mean in means.items()}


def usual_rates(frame: pd.DataFrame) -> dict[str, float]:
    """How often ranking at the largest small scale was right on all other sources, sources alike."""
    p, won = np.array([given[RANKING] for given in frame["p"]]), (frame["truth"] < 0).to_numpy()
    rates = by_source(frame, hits(p, won)[:, None])[0]
    return {str(source): float(rates.drop(index=source).mean()) for source in rates.index}


def figure_over(part: pd.DataFrame, measure: str) -> Estimate:
    """Average of a measure over pairs, with an interval by resampling groups of recipes that are judged together."""
    means = part.groupby(PAIR, sort=False)[measure].mean().reset_index()
    return estimate(means[measure], means["source"] + "|" + means["cluster"])


def difference(scored: pd.DataFrame, ours: str, rival: str) -> Estimate:
    """Accuracy of one method minus another's on the same pairs."""
    hits = [scored[scored["method"] == name].groupby(PAIR, sort=False)["hit"].mean() for name in (ours, rival)]
    gaps = (hits[0] - hits[1]).rename("gap").reset_index()
    return estimate(gaps["gap"], gaps["source"] + "|" + gaps["cluster"])


def accuracy_verdict(gap: Estimate) -> str:
    """Say whether the default is as accurate as ranking."""
    if gap.value >= -1e-9:
        return "The aim, to be no less accurate than ranking, is met."
    if gap.high >= 0:
        return "The aim, to be no less accurate than ranking, is missed by an amount that chance may explain."
    return "The aim, to be no less accurate than ranking, is missed."


def flipped(part: pd.DataFrame) -> np.ndarray:
    """Tell which half of the pairs, by their names, is turned the other way round.

    Which recipe of a pair comes first is an accident of the source, which would fill one side of the table.
    """
    total = np.zeros(len(part), int)
    for column in PAIR:
        code, names = pd.factorize(part[column].astype(str))
        total += np.array([sum(map(ord, text)) for text in names], int)[code]
    return total % 2 == 1


def turned(part: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Stated probability and outcome with half of the pairs the other way round."""
    flip = flipped(part)
    p, won = part["p"].to_numpy(float), part["won"].to_numpy(float)
    return np.where(flip, 1 - p, p), np.where(flip, 1 - won, won)


def worst_fifth(part: pd.DataFrame) -> float:
    """Largest distance of a fifth's frequency from the stated probability."""
    fifths = reliability(part)
    return float((fifths["observed"] - fifths["stated"]).abs().max())


def luck(part: pd.DataFrame, together: Sequence[str]) -> np.ndarray:
    """Worst fifth of draws in which every stated probability is exactly true, shape (draw,).

    Args:
        part: Rows of one method.
        together: Columns; rows that are equal in them share one random number.
    """
    flip, p = flipped(part), part["p"].to_numpy(float)
    stated = np.where(flip, 1 - p, p)
    code = part.groupby(list(together)).ngroup().to_numpy()
    draws = np.random.default_rng(0).random((DRAWS, code.max() + 1))[:, code]
    gap = np.where(flip, draws >= p, draws < p) - stated
    number = np.clip(np.digitize(stated, FIFTHS) - 1, 0, 4)
    weight = part["weight"].to_numpy()[:, None] * (number[:, None] == np.unique(number))
    return np.abs(gap @ (weight / weight.sum(0))).max(1)


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
    rows = read() if rows is None else rows
    scored = table(rows)
    ours = scored[scored["method"] == OURS]
    gap = difference(scored, OURS, RANKING)
    return render(
        "recipes",
        fewest=FEWEST,
        sources=ours["source"].nunique(),
        pairs=ours.groupby(PAIR).ngroups,
        scales=len(ours),
        groups=ours.groupby(["source", "cluster"]).ngroups,
        grid=len(GRID),
        tie=f"{TIE:g}",
        apart=np.array([abs(row["variants"][GRID.index(SHIPPED)] - row["p"][OURS]) for row in rows]),
        right=figure_over(ours, "hit"),
        ranking=figure_over(scored[scored["method"] == RANKING], "hit"),
        gap=gap,
        verdict=accuracy_verdict(gap),
        aim=f"{100 * AIM:.0f}",
        missed=fifths_missed(ours),
        methods=methods_table(scored),
        reliability=reliability_table(reliability(ours)),
        luck=luck_shares(ours),
        confidence=confidence_table(scored),
        picture=picture,
        variants=variants_table(rows, scored),
        by_source=source_table(scored, choices(pd.DataFrame(rows).assign(weight=ours["weight"].to_numpy()))),
        thinned=[f"{name} {most} pairs and splits" for name, most in THINNED.items()],
        **widths(ours),
    )


def fifths_missed(ours: pd.DataFrame) -> list[str]:
    """Which fifths are further off than the aim."""
    fifths = reliability(ours)
    missed = fifths[(fifths["observed"] - fifths["stated"]).abs() > AIM]
    return [
        f"{row.fifth} ({100 * (row.observed - row.stated):+.0f} points, {row.points} scales of {row.groups} groups)"
        for row in missed.itertuples()
    ]


def luck_shares(ours: pd.DataFrame) -> dict[str, float]:
    """How often a calibrated method would miss the aim, or do as badly as ours did in its worst fifth."""
    here = worst_fifth(ours)
    apart, together = (
        luck(ours, keys) for keys in ([*PAIR, "truth", "beyond"], ["source", "cluster", "first", "second"])
    )
    return {
        "together": float((together > AIM).mean()),
        "apart": float((apart > AIM).mean()),
        "worst": here,
        "worst_together": float((together >= here).mean()),
        "worst_apart": float((apart >= here).mean()),
    }


def variants_table(rows: Sequence[dict], scored: pd.DataFrame) -> dict[str, Any]:
    """Table on what other numbers would have done, the best in hindsight as well, and how many would have met both."""
    ours = scored[scored["method"] == OURS]
    ranking = scored[scored["method"] == RANKING]
    parts = [judged(ours, p) for p in np.array([row["variants"] for row in rows]).T]
    gaps = [difference(pd.concat([part, ranking]), OURS, RANKING) for part in parts]
    logs = [figure_over(part, "log") for part in parts]
    worst = [worst_fifth(part) for part in parts]
    both = sum(gap.value >= -1e-9 and fifth <= AIM for gap, fifth in zip(gaps, worst, strict=True))
    shown = {
        "used in the package": GRID.index(SHIPPED),
        "most often right": int(np.argmax([gap.value for gap in gaps])),
        "best calibrated": int(np.argmin(worst)),
        "lowest log score, equal weight for pairs": int(np.argmin([log.value for log in logs])),
    }
    crossed = difference(pd.concat([ours, ranking]), OURS, RANKING), figure_over(ours, "log"), worst_fifth(ours)
    entries = {"chosen on the other data sets": ("", *crossed)} | {
        name: (GRID[i].text, gaps[i], logs[i], worst[i]) for name, i in shown.items()
    }
    body = [
        [name, text, ranged(gap, 3), ranged(log, 3), f"{100 * fifth:.0f}"]
        for name, (text, gap, log, fifth) in entries.items()
    ]
    head = ["choice", "hyperparameters", "right, minus ranking", "log score", "largest difference in a fifth (points)"]
    return {"table": grid(head, body), "both": both}


def methods_table(scored: pd.DataFrame) -> str:
    """Accuracy, Brier and log score of every method."""
    body = []
    for name in NAMES:
        part = scored[scored["method"] == name]
        worst = worst_fifth(part)
        cells = [ranged(figure_over(part, measure), 3) for measure in ("hit", "brier", "log")]
        body.append([name, *cells, f"{100 * worst:.0f}"])
    head = [
        "method",
        "right",
        "Brier score",
        "log score (nats, lower is better)",
        "largest difference in a fifth (points)",
    ]
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
    return grid(["stated P(A better)", "mean stated", "observed frequency", "held-out scales", "groups"], body)


def confidence_table(scored: pd.DataFrame) -> str:
    """How often the named recipe was the better one, by how sure the default and its rivals were."""
    body = []
    for low, high in SURENESS:
        row = [f"{low:g} to {high:g}"]
        for name in (OURS, SEPARATE, TRUSTING, SQUARES, BOOTSTRAP):
            part = scored[scored["method"] == name]
            sure = np.maximum(part["p"], 1 - part["p"])
            part = part.assign(sure=sure)[(sure >= low) & ((sure < high) | (high == 1.0))]
            stated = fraction(figure_over(part, "sure").value) if len(part) else "-"
            row.append(f"{stated}: {ranged(figure_over(part, 'hit'))}, {len(part)} scales" if len(part) else "-")
        body.append(row)
    names = (OURS, SEPARATE, TRUSTING, SQUARES, BOOTSTRAP)
    return grid(["stated P(named recipe better)", *names], body)


def widths(ours: pd.DataFrame) -> dict[str, Any]:
    """How much sharper the ratio is than separate fits, and how often its intervals held."""
    ratio = ours.assign(sharper=np.log(ours["width_apart"] / ours["width"]))
    held = {
        level: figure_over(ours.assign(x=(ours["pit"] - 0.5).abs() <= level / 2), "x") for level in (0.5, 0.8, 0.95)
    }
    found = figure_over(ratio, "sharper")
    return {
        "sharper": Estimate(*np.exp([found.value, found.low, found.high]).tolist(), found.families),
        "held": [f"{100 * level:g} % intervals contained {ranged(value)}" for level, value in held.items()],
    }


def source_table(scored: pd.DataFrame, chosen: dict[str, int]) -> str:
    """Accuracy and Brier score of the default and of ranking by source, and the numbers that other sources chose."""
    names, body = (OURS, SEPARATE, RANKING), []
    for source, part in scored.groupby("source", sort=False):
        own = {name: part[part["method"] == name] for name in names}
        pairs, groups = (own[OURS].groupby(keys).ngroups for keys in (PAIR, ["source", "cluster"]))
        body.append(
            [
                *[str(source), f"{pairs} ({groups})", GRID[chosen[str(source)]].text],
                *[fraction(figure_over(own[name], "hit").value, 3) for name in names],
                *[fraction(figure_over(own[name], "brier").value, 3) for name in names],
            ]
        )
    head = [
        "data set",
        "pairs and splits (groups)",
        "hyperparameters",
        *[f"right: {n}" for n in names],
        *[f"Brier: {n}" for n in names],
    ]
    return grid(head, body)


def picture(rows: Sequence[dict] | None = None) -> np.ndarray:
    """Draw stated against observed probability, and the Brier score of every method."""
    scored = table(read() if rows is None else rows)
    with matplotlib.rc_context(STYLE):
        axes = new_axes(2, 2, 4.3)
        draw_reliability(axes[0], scored)
        draw_scores(axes[1], scored)
        title = "Which recipe: held-out scales, hyperparameters chosen on other data sets"
        figure_of(axes[0]).suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return axes


def looks() -> dict[str, str]:
    """Colour of each method."""
    return dict(zip(NAMES, (BLUE, *PALETTE[1:], QUIET), strict=False))


def draw_reliability(ax: Axes, scored: pd.DataFrame) -> None:
    """Observed frequency by fifths of the stated probability, in the colours that `draw_scores` names."""
    ax.plot([0, 1], [0, 1], color=QUIET, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    ax.fill_between([0, 1], [-AIM, 1 - AIM], [AIM, 1 + AIM], color=QUIET, alpha=0.12, linewidth=0)
    for name in (SQUARES, BOOTSTRAP, TRUSTING, SEPARATE, OURS):
        found = reliability(scored[scored["method"] == name]).dropna()
        color = looks()[name]
        ax.plot(found["stated"], found["observed"], color=color, linewidth=2.2 if name == OURS else 1.1, zorder=3)
        ax.plot(found["stated"], found["observed"], **MARKS, color=color, zorder=4)
        if name == OURS:
            ax.vlines(found["stated"], found["low"], found["high"], color=color, alpha=0.45, linewidth=2.0, zorder=3)
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    ax.set_xlabel("stated P(A better), mean of each fifth")
    ax.set_ylabel("how often A was better")
    dress(ax)


def draw_scores(ax: Axes, scored: pd.DataFrame) -> None:
    """Brier score of each method with its interval over groups of recipes."""
    for place, name in enumerate(reversed(NAMES)):
        found = figure_over(scored[scored["method"] == name], "brier")
        ax.hlines(place, found.low, found.high, color=looks()[name], linewidth=2.0, alpha=0.6)
        ax.plot([found.value], [place], **MARKS, color=looks()[name])
    ax.set_yticks(range(len(NAMES)), list(reversed(NAMES)))
    ax.set_ylim(-0.6, len(NAMES) - 0.4)
    ax.set_xlim(left=0)
    ax.set_xlabel("Brier score (lower is better)")
    dress(ax, grid="x")
