"""The page about replications, made from `benchmarks/results/replications.json` and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot, rc_context
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from bayescale.laws.registry import LAWS
from bayescale.plot.style import BLUE, INK, ORANGE, PALETTE, QUIET, STYLE, dress, figure_of, new_axes, note
from benchmarks.core import figures
from benchmarks.core.markdown import grid, listed, templates
from benchmarks.core.rows import replace, stored
from benchmarks.replications.data import ROWS
from benchmarks.replications.entries import Entry, entries
from benchmarks.replications.measure import RESULTS

PAGE = Path(__file__).parents[2] / "docs" / "evidence" / "replications.md"
NAMES = {"off": "discrepancy off", "robust": "discrepancy off, Student-t", "on": "discrepancy on"}
COLORS = {"off": ORANGE, "robust": PALETTE[2], "on": BLUE}
FARTHEST = 8.0
"""Ratios beyond this factor are drawn at the edge."""
KNOWN = {
    "paper": "published",
    "refit": "reference refit",
    "secondary": "quoted elsewhere",
}
"""What constants of each provenance are called; a refit is not the paper's own."""
ASKED = {"repetition": "R_D"}
"""The constant that a group of entries is about."""
OVERLAPPING = ("repetition",)
"""Groups whose entries hold out the same runs, which are not to be counted twice."""

render = templates(__file__)

Measured = Mapping[str, Mapping[str, Any]]
"""Rows of one entry by kind, failed ones left out."""


def number(value: float) -> str:
    """Write a constant."""
    if value == 0 or 0.001 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:.2e}"


def interval(found: Sequence[float]) -> str:
    """Write a median and its 95 % interval."""
    middle, low, high = found
    return f"{number(middle)} ({number(low)} to {number(high)})"


def by_entry(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Rows by entry and kind."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        if "failed" not in row:
            found.setdefault(row["entry"], {})[row["kind"]] = row
    return found


def reference(entry: Entry) -> dict[str, float]:
    """Constants that stand beside the posterior's."""
    return {name: value for source in entry.sources for name, value in source.constants().items()}


def provenance(entry: Entry) -> str:
    """What the constants beside the posterior's are."""
    if not entry.sources:
        return ""
    first = entry.sources[0]
    return KNOWN[next(found for found in LAWS[first.law].info.published if found.key == first.key).verified]


def cited(entry: Entry) -> str:
    """Citation key of the constants, or of the law."""
    if not entry.sources:
        return LAWS[entry.law].info.cite
    first = entry.sources[0]
    return next(found for found in LAWS[first.law].info.published if found.key == first.key).cite


def agreeing(entry: Entry, row: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Constants inside and outside the posterior's 95 % interval; a stated interval counts where they overlap."""
    stated = {name: (low, high) for name, low, high in entry.intervals}
    inside, outside = [], []
    for name, value in reference(entry).items():
        _, low, high = row["constants"][name]
        first, last = stated.get(name, (value, value))
        (inside if low <= last and first <= high else outside).append(name)
    return inside, outside


# --- Text ----------------------------------------------------------------------------------------------------


def constants_table(entry: Entry, found: Measured) -> str:
    """Constants beside each other."""
    kinds = [kind for kind in NAMES if kind in found]
    minimised = found.get("minimised", {}).get("fits", [])
    known, stated = reference(entry), {name: (low, high) for name, low, high in entry.intervals}
    body = []
    for name in found[kinds[0]]["constants"]:
        text = number(known[name]) if name in known else ""
        text += f" ({number(stated[name][0])} to {number(stated[name][1])})" if name in stated else ""
        others = [number(fit["constants"][name]) for fit in minimised]
        middle = [interval(found[k]["constants"][name]) for k in kinds]
        body.append([f"`{name}`", *([text] if known else []), *middle, *others])
    for name in ("residual_sd", "discrepancy"):
        values = [interval(found[k]["spreads"][name]) if name in found[k]["spreads"] else "" for k in kinds]
        body.append([name, *([""] if known else []), *values, *[""] * len(minimised)])
    head = ["", *([f"{provenance(entry)} ({cited(entry)})"] if known else []), *(NAMES[k] for k in kinds)]
    return grid([*head, *(fit["name"] for fit in minimised)], body)


def minimised(found: Measured) -> list[str]:
    """How much better minimisation follows its own rows than the constants beside it do."""
    return [
        f"{100 * fit['error']:.3g} % against {100 * fit['published']:.3g} % ({fit['name']}, {fit['rows']} rows)"
        for fit in found.get("minimised", {}).get("fits", [])
    ]


def agreement(entry: Entry, found: Measured) -> list[tuple[str, list[str], list[str]]]:
    """Which constants follow from the data, for each kind of fit: its name, those that agree, and those that do not."""
    if not entry.sources:
        return []
    ticked = [(kind, agreeing(entry, found[kind])) for kind in NAMES if kind in found]
    return [(NAMES[kind], inside, [f"`{name}`" for name in outside]) for kind, (inside, outside) in ticked]


def asked(members: Mapping[str, Entry], found: Mapping[str, Measured], name: str) -> str:
    """Table of one constant under every choice of data, and whether its interval holds the other value."""
    body = []
    for key, entry in members.items():
        kinds = [kind for kind in NAMES if kind in found[key]]
        value, cells = reference(entry)[name], []
        for kind in kinds:
            row = found[key][kind]
            constant, converged = row["constants"][name], row["full"]["converged"] == row["full"]["fits"]
            verdict = "contains it" if constant[1] <= value <= constant[2] else "does not contain it"
            cells.append(f"{interval(constant)}, {verdict if converged else 'not converged'}")
        body.append([entry.title, number(value), *cells])
    head = [f"`{name}`", provenance(next(iter(members.values()))), *(NAMES[kind] for kind in kinds)]
    return grid(head, body)


def together(members: Mapping[str, Entry], found: Mapping[str, Measured]) -> str:
    """Table of coverage at all levels, entries with the same kind of held-out runs taken together."""
    ways: dict[str, list[str]] = {}
    for key, entry in members.items():
        ways.setdefault(entry.ahead, []).append(key)
    body = []
    for ahead, keys in ways.items():
        for kind in (kind for kind in NAMES if all(kind in found[key] for key in keys)):
            rows = [found[key][kind]["forecast"] for key in keys]
            number = sum(row["rows"] for row in rows)
            cover = {level: sum(row["rows"] * row["coverage"][level] for row in rows) for level in rows[0]["coverage"]}
            body.append([ahead, str(number), NAMES[kind], *(f"{100 * c / number:.0f} %" for c in cover.values())])
    levels = [f"inside {100 * float(level):.0f} %" for level in cover]
    return grid(["held out", "rows", "fit", *levels], body)


def unconverged(found: Measured) -> list[str]:
    """Which fits did not converge."""
    parts = []
    for kind in (kind for kind in NAMES if kind in found):
        for part, name in (("full", "the fit of the constants"), ("early", "the fit that forecasts")):
            row = found[kind][part]
            bad = row["fits"] - row["converged"]
            if bad and row["fits"] == 1:
                parts.append(f"{name} with {NAMES[kind]} (R-hat {row['rhat']:.3f}, {row['divergences']} divergences)")
            elif bad:
                which = "of the constants" if part == "full" else "that forecast"
                parts.append(f"{bad} of {row['fits']} fits {which} with {NAMES[kind]}")
    return list(dict.fromkeys(parts))


def summary(known: Mapping[str, Entry], found: Mapping[str, Measured]) -> str:
    """Table of all entries."""
    body = []
    for name, entry in known.items():
        if name not in found:
            continue
        row = found[name]
        kinds = [kind for kind in ("off", "on") if kind in row]
        agree = []
        for kind in kinds:
            inside, outside = agreeing(entry, row[kind])
            agree.append(f"{len(inside)} of {len(inside) + len(outside)}" if entry.sources else "")
        cover = [f"{100 * row[kind]['forecast']['coverage']['0.9']:.0f} %" for kind in kinds]
        error = [f"{100 * row[kind]['forecast']['error']:.2g} %" for kind in kinds]
        published = row[kinds[0]]["published"]
        agreed, covered, missed = (" / ".join(text) for text in (agree, cover, error))
        missed += "" if published is None else f" / {100 * published:.2g} %"
        rows = str(row[kinds[0]]["forecast"]["rows"])
        link = f"[{entry.title}](#{anchor(known, name)})"
        body.append([link, f"`{entry.law}`", provenance(entry), agreed if entry.sources else "", rows, covered, missed])
    head = ["data", "law", "compared with", "constants that agree, discrepancy off / on", "held-out rows"]
    head += ["inside the 90 % interval, discrepancy off / on", "error, discrepancy off / on / compared constants"]
    return grid(head, body)


def simulated(known: Mapping[str, Entry], rows: Sequence[dict[str, Any]]) -> str:
    """Table of calibration on simulated data."""
    body = []
    for row in rows:
        if row["kind"] == "simulated" and row["entry"] in known and "failed" not in row:
            outside = listed(row["outside"]) if row["outside"] else "none"
            body.append(
                [
                    known[row["entry"]].title,
                    f"`{known[row['entry']].law}`",
                    str(row["rows"]),
                    str(row["simulations"]),
                    f"{row['smallest']:.2g} of {row['quantities']} ({row['where']})",
                    outside,
                    f"{100 * row['converged']:.0f} %",
                ]
            )
    if not body:
        return ""
    head = ["inputs of", "law", "runs", "simulated data sets", "smallest p", "outside the 99 % band", "converged"]
    return render("simulated", table=grid(head, body))


# --- Pictures ------------------------------------------------------------------------------------------------


def group(name: str) -> str:
    """Entries of one group share a section and a picture."""
    return name.split("-")[0] if name != "fine-tuning" else name


def heading(members: Sequence[Entry]) -> str:
    """Title of a section."""
    return members[0].title.split(",")[0]


def anchor(known: Mapping[str, Entry], name: str) -> str:
    """Address of an entry's section on the page."""
    return heading([entry for other, entry in known.items() if group(other) == group(name)]).lower().replace(" ", "-")


def draw(path: Path, members: Mapping[str, Entry], found: Mapping[str, Measured]) -> Path:
    """Draw constants and held-out runs of a group, one row of panels an entry."""
    with rc_context(STYLE):
        axes = new_axes(2 * len(members), 2, 0.5 + 2.6 * len(members))
        for row, (name, entry) in enumerate(members.items()):
            ratios(axes[2 * row], entry, found[name])
            errors(axes[2 * row + 1], entry, found[name])
        written = figures.save(axes[0], path)
        pyplot.close(figure_of(axes[0]))
    return written


def ratios(ax: Axes, entry: Entry, found: Measured) -> None:
    """Constants as multiples of those that they are compared with."""
    known = reference(entry)
    kinds = [kind for kind in NAMES if kind in found]
    ax.set_title(entry.title, loc="left", fontsize=10, fontweight="bold")
    if not known:
        ax.axis("off")
        note(ax, "no verified constants to compare with", (0, 0.5), (0, 0), QUIET, "axes fraction")
        return
    dress(ax, "x")
    names = [name for name in found[kinds[0]]["constants"] if name in known]
    spread = [np.array(found[k]["constants"][n]) / known[n] for k in kinds for n in names]
    most = min(FARTHEST, 1.15 * max(1.3, *(max(v.max(), 1 / max(v.min(), 1e-9)) for v in spread)))
    for place, name in enumerate(names):
        for shift, kind in enumerate(kinds):
            y = -place + 0.2 * (0.5 * (len(kinds) - 1) - shift)
            middle, low, high = np.clip(np.array(found[kind]["constants"][name]) / known[name], 1 / most, most)
            label = NAMES[kind] if place == 0 else None
            ax.plot([low, high], [y, y], color=COLORS[kind], linewidth=2, solid_capstyle="butt")
            ax.plot(middle, y, "o", color=COLORS[kind], markersize=4, label=label)
    ax.axvline(1.0, color=INK, linewidth=1)
    ax.set_xscale("log")
    ax.set_xlim(1 / most, most)
    choice = (0.125, 0.25, 0.5, 1, 2, 4, 8) if most > 2 else (0.5, 0.6, 0.8, 1, 1.25, 1.6, 2)
    steps = [step for step in choice if 1 / most <= step <= most]
    ax.xaxis.set_major_locator(FixedLocator(steps))
    ax.xaxis.set_major_formatter(FixedFormatter([f"{step:g}" for step in steps]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_yticks([-place for place in range(len(names))], names)
    ax.set_ylim(-len(names) + 0.5, 0.6)
    ax.set_xlabel(f"posterior / {provenance(entry)}")


def errors(ax: Axes, entry: Entry, found: Measured) -> None:
    """Held-out runs relative to their forecast medians, with 90 % intervals."""
    dress(ax, "y")
    kinds = [kind for kind in ("off", "on") if kind in found]
    points = {kind: np.array(found[kind]["forecast"]["points"]) for kind in kinds}
    # In the order of the axis; runs are spread evenly, since many share a value.
    order = np.argsort(points[kinds[0]][0], kind="stable")
    wide = min(6.0, 90.0 / len(order))
    for side, kind in enumerate(kinds):
        place = np.arange(len(order)) + (0.25 if side else -0.25)
        _, error, low, high = 100 * points[kind][:, order]
        ax.vlines(place, low, high, color=COLORS[kind], alpha=0.3, linewidth=wide)
        ax.plot(place, error, "o", color=COLORS[kind], markersize=min(4.5, 1.5 + wide), markeredgewidth=0)
        text = f"{NAMES[kind]}: {100 * found[kind]['forecast']['coverage']['0.9']:.0f} %"
        note(ax, text, (0.45 * side + 0.1, 1), (0, 3), COLORS[kind], "axes fraction")
    ax.set_title("Held-out runs in the 90 % interval", loc="left", fontsize=10, fontweight="bold", pad=16)
    ax.axhline(0.0, color=INK, linewidth=0.8)
    first, last = points[kinds[0]][0][order[[0, -1]]]
    ax.set_xticks([])
    ax.set_xlabel(f"held-out runs, {entry.axis} {first:.2g} to {last:.2g}", fontsize=9)
    ax.set_ylabel("measured vs forecast, %")


# --- The page ------------------------------------------------------------------------------------------------


def section(members: Mapping[str, Entry], found: Mapping[str, Measured], picture: Path) -> str:
    """Everything about one law's data sets."""
    law = LAWS[next(iter(members.values())).law]
    key = group(next(iter(members)))
    several = len(members) > 1
    return render(
        "law",
        title=heading(list(members.values())),
        law=law,
        says=law.info.summary or (law.function.__doc__ or "").splitlines()[0],
        picture=picture,
        asked=asked(members, found, ASKED[key]) if key in ASKED else "",
        entries=[entry_section(entry, found[name], titled=several) for name, entry in members.items()],
        together=together(members, found) if several and key not in OVERLAPPING else "",
    )


def entry_section(entry: Entry, found: Measured, *, titled: bool) -> str:
    """Everything about one data set."""
    kinds = [kind for kind in NAMES if kind in found]
    first = found[kinds[0]]
    return render(
        "entry",
        entry=entry,
        titled=titled,
        rows=first["full"]["rows"],
        curves="curve" in first,
        constants=constants_table(entry, found),
        agreement=agreement(entry, found),
        minimised=minimised(found),
        provenance=provenance(entry),
        held=first["forecast"]["rows"],
        early=first["early"]["rows"],
        several=first["early"].get("fits", 1) > 1,
        forecasts=[(NAMES[kind], found[kind]["forecast"]) for kind in kinds],
        two=lambda value: f"{value:.2g}",
        published=first["published"],
        unconverged=unconverged(found),
    )


def write(results: Path = RESULTS, page: Path = PAGE) -> list[Path]:
    """Write the page and its pictures.

    Args:
        results: What `benchmarks.replications.measure` found.
        page: The page; pictures lie beside it.
    """
    rows, known = stored(results), entries()
    found = {
        name: {kind: kinds[kind] for kind in (*NAMES, "minimised") if kind in kinds}
        for name, kinds in by_entry(rows).items()
        if name in known and "off" in kinds
    }
    page.parent.mkdir(parents=True, exist_ok=True)
    drawn, sections = [], []
    for name in dict.fromkeys(group(name) for name in known if name in found):
        members = {key: entry for key, entry in known.items() if group(key) == name and key in found}
        picture = draw(page.with_name(f"{page.stem}-{name}.png"), members, found)
        drawn.append(picture)
        sections.append(section(members, found, picture))
    absent = [entry.title for name, entry in known.items() if name not in found]
    intro = render("replications", rows=ROWS, summary=summary(known, found), absent=absent)
    parts = [intro, *sections, simulated(known, rows)]
    replace(page, "\n\n".join(part.strip() for part in parts if part) + "\n")
    return [page, *drawn]
