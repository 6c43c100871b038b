"""Report: the calibration page, its pictures, and the headline of README and overview, from the rows that `run` writes.

    python -m benchmarks pages calibration

Nothing on the page is typed by hand. What was tried is told on a page beside it, `choices.md`, which is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot

from bayescale.errors import InputError
from bayescale.evaluate.backtest import LEVELS
from bayescale.plot.style import figure_of
from benchmarks.calibration import by_sources, headline, pictures, sections, simultaneous, tally
from benchmarks.calibration.sections import own
from benchmarks.calibration.tally import COVERS, LINES, OURS, PARTS, families, measured
from benchmarks.calibration.worst import worst
from benchmarks.core import estimates, figures
from benchmarks.core.markdown import fraction, grid
from benchmarks.core.problems import RATIOS
from benchmarks.core.rows import replace
from benchmarks.core.store import RESULTS
from benchmarks.simulated import sbc as sbc_laws

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "evidence" / "calibration.md"
README = ROOT / "README.md"
OVERVIEW = PAGE.with_name("index.md")
PLAIN = headline.USUAL
"""The rival of the overview's table: what most people do."""


def write(
    folder: Path = RESULTS,
    page: Path = PAGE,
    readme: Path | None = README,
    overview: Path | None = OVERVIEW,
    *,
    ours: str = OURS,
) -> list[Path]:
    """Write the page and its pictures, and renew the headline in the README and the table in the overview.

    Args:
        folder: Where `run` left its rows.
        page: The page; pictures lie beside it.
        readme: A file with both marker comments, or None.
        overview: Another one, or None.
        ours: The method that the page is about.

    Returns:
        Every file written.

    Raises:
        InputError: Without results of that method, or where the README has no markers.
    """
    for renewed in (readme, overview):
        # Told before minutes are spent on pictures.
        if renewed is not None:
            around(renewed)
    rows = tally.load(folder)
    if ours not in set(rows["method"]):
        raise InputError(
            f"{folder} has no results of {ours!r}. Run `python -m benchmarks run --method {ours!r}` first."
        )
    rows = rows.assign(cluster=estimates.cluster_of(rows))
    cells = tally.cells(rows)
    page.parent.mkdir(parents=True, exist_ok=True)
    drawn = draw(rows, cells, page, ours)
    alike = by_sources.measured(rows, cells, ours)
    parts = [
        sections.answer(cells, ours),
        sections.headline(cells, ours),
        by_sources.section(alike, by_sources.unseen(cells, ours)),
        simultaneous.section(folder / simultaneous.RESULTS.name),
        sections.reliability(drawn),
        sections.rivals(cells, ours),
        sections.sometimes(cells, ours),
        sections.by_source(cells, ours),
        sections.outcomes(drawn),
        sections.failures(drawn),
        sections.stress(cells, ours),
        sections.costs(cells, ours),
        marked(sbc_laws.section(), "simulated"),
        sections.printed(rows, ours),
        sections.protocol(cells),
    ]
    replace(page, "\n\n".join(part.strip() for part in parts if part) + "\n")
    written = [page, *drawn.values()]
    if readme is not None:
        renew(readme, headline.text(cells, rows, ours))
        written.append(readme)
    if overview is not None:
        renew(overview, summary(cells, ours, by_sources.brief(alike)))
        written.append(overview)
    return written


def renew(path: Path, text: str, name: str = "calibration") -> None:
    """Put a text between the marker comments of a file.

    Raises:
        InputError: If the markers are not there once each, in order.
    """
    before, after = around(path, name)
    replace(path, f"{before}{marked(text, name)}{after}")


def marked(text: str, name: str) -> str:
    """Put a text between marker comments, so that it can be renewed by itself."""
    return f"<!-- {name}:begin -->\n{text.strip()}\n<!-- {name}:end -->"


def around(path: Path, name: str = "calibration") -> tuple[str, str]:
    """Return what stands before and after the marker comments of a file.

    Raises:
        InputError: If the markers are not there once each, in order.
    """
    old, begin, end = path.read_text(encoding="utf-8"), f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if old.count(begin) != 1 or old.count(end) != 1 or old.index(begin) > old.index(end):
        raise InputError(f"{path.name} needs the comments {begin} and {end}, once each, around its table.")
    return old.split(begin)[0], old.split(end)[1]


# --- The README and the pictures -----------------------------------------------------------------------------


def summary(cells: pd.DataFrame, ours: str, alike: str = "") -> str:
    """The overview's table: coverage of the default on sources left out, and of the usual fit; then a paragraph."""
    left = own(cells, ours, False)
    rival = own(cells, PLAIN, False) if ours != PLAIN else left.iloc[:0]
    both = bool(len(rival))
    body = []
    for line in LINES:
        part = line.of(left)
        if not len(part):
            continue
        table = families(part)
        shown = [fraction(measured(table, name).value) for name in COVERS]
        entry = [line.name, f"{len(table):,}", *shown, f"{100 * measured(table, 'rmsle').value:.1f} %"]
        if both:
            usual = line.of(rival)
            entry.append(fraction(measured(families(usual), "cover95").value) if len(usual) else "-")
        body.append(entry)
    head = [
        "held-out runs (test data sets)",
        "families",
        *(f"{100 * level:g} %" for level in LEVELS),
        "error of the median",
    ]
    table = grid([*head, f"{PLAIN}, 95 %"] if both else head, body)
    return sections.render("overview", usual=PLAIN if both else "", table=table, alike=alike)


def draw(rows: pd.DataFrame, cells: pd.DataFrame, page: Path, ours: str) -> dict[str, Path]:
    """Draw every picture for which there are results, beside the page; return their paths by name."""
    drawn = {}

    def keep(name: str, axes: np.ndarray) -> None:
        drawn[name] = figures.save(axes[0], page.with_name(f"{page.stem}-{name}.png"))
        pyplot.close(figure_of(axes[0]))

    if len(headline.case(rows, ours)) == 2:
        keep("headline", headline.picture(cells, rows, ours))
    shared = tally.common(cells)
    left = shared[~shared["developed"] & (shared["group"] != "stress")]
    names = tally.names_of(cells, ours)
    curves = left[left["group"].isin(["one input", "lcdb", "sparsified"])]
    splits = {
        "published split or half": ("published", "half"),
        **{f"{r}x beyond the data": (f"R={r}",) for r in RATIOS},
    }
    one = left[left["group"] == "one input"]
    panels = {title: set(one.loc[one["split"].isin(of), "key"]) for title, of in splits.items()}
    grids = left[left["group"] == "several inputs"]
    panels["several inputs, all splits"] = set(grids["key"])
    panels = {title: keys for title, keys in panels.items() if keys}
    if panels:
        subtitle = (
            "test data sets; 95 % intervals over families for the default; below the diagonal: intervals too narrow"
        )
        keep("reliability", pictures.reliability(rows, panels, names, subtitle))
    counts = {"4 or 5 points": (4, 5), "6 to 8 points": (6, 8), "9 to 12 points": (9, 12), "more than 12": (13, 10**9)}
    panels = {title: set(curves.loc[curves["n_train"].between(*ends), "key"]) for title, ends in counts.items()}
    panels = {title: keys for title, keys in panels.items() if keys}
    if panels:
        subtitle = "test data sets, one input, by the number of fitted points"
        keep("points", pictures.reliability(rows, panels, names, subtitle))
    parts = {title: of for title, of in PARTS.items() if left["group"].isin(of).any()}
    mine = cells[(cells["method"] == ours) & ~cells["developed"]]
    columns = {short_title(title): set(mine.loc[mine["group"].isin(of), "key"]) for title, of in parts.items()}
    if parts:
        subtitle = "the default on test data sets; grey: 95 % simultaneous envelope, by bootstrap over families"
        keep("pit", pictures.pit(rows[rows["method"] == ours], columns, subtitle))
        subtitle = "test data sets, the same problems for every method"
        keep(
            "sharpness",
            pictures.sharpness(
                left, names, {title: of for title, of in parts.items() if title != "small designs"}, subtitle
            ),
        )
        clean = mine[mine["group"].isin(tally.WHOLE)]
        cases = worst(clean, rows[rows["method"] == ours])
        if cases:
            keep(
                "worst",
                pictures.worst(
                    cases, "test data sets; if the points show a reason for the error, it is written above the panel"
                ),
            )
    return drawn


def short_title(title: str) -> str:
    """Name of a part where there is little room."""
    return {"LCDB learning curves": "LCDB", "long curves thinned to 4 to 8 points": "thinned curves"}.get(title, title)
