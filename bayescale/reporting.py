"""Report: one page that people sign, self-contained, from a posterior or a decision.

The page asks nothing of any other place: pictures are inside it, there is no script, and its own policy forbids
requests. All text that came from users is escaped.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import html as escaping
import importlib.metadata
import io
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes

from bayescale import _io, plot
from bayescale.decide.go import ANSWERS, Decision
from bayescale.decide.sensitivity import sensitivity
from bayescale.drawing import figure_of
from bayescale.errors import InputError
from bayescale.laws.page import prior_lines
from bayescale.posterior import Posterior

MOST_ROWS = 60
"""Runs shown in the table of data; the rest are counted."""
PACKAGES = ("bayescale", "jax", "numpyro", "arviz", "numpy")


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of a page: a heading, then sentences, a table, pictures and notes, each of which may be missing."""

    title: str
    sentences: Sequence[str] = ()
    table: pd.DataFrame | None = None
    pictures: Sequence[tuple[str, bytes]] = ()
    """What a picture shows, and its SVG."""
    notes: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Report:
    """A page before it is written.

    Attributes:
        title: The question.
        answer: A key of `decide.ANSWERS`, or "" where nothing was decided.
        headline: The answer in one sentence, or what was fitted.
        probability: P(target met) and the break-even probability; None where nothing was decided.
        parts: Everything below the headline.
        signatures: Whether there are lines to sign on.
    """

    title: str
    answer: str
    headline: str
    probability: tuple[float, float | None] | None
    parts: Sequence[Part]
    signatures: bool

    def html(self) -> str:
        """Write the page as HTML."""
        body = [f'<header class="{self.answer.replace(" ", "-") or "plain"}">', f"<h1>{safe(self.title)}</h1>"]
        if self.answer:
            body.append(f'<p class="answer">{safe(self.answer)}</p>')
        body.append(f'<p class="headline">{safe(self.headline)}</p>')
        if self.probability is not None:
            body.append(gauge(*self.probability))
        body.append("</header>")
        for part in self.parts:
            body += ["<section>", f"<h2>{safe(part.title)}</h2>"]
            body += [f"<p>{safe(sentence)}</p>" for sentence in part.sentences if sentence]
            for caption, svg in part.pictures:
                source = "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
                image = f'<img src="{source}" alt="{safe(caption)}">'
                body.append(f"<figure>{image}<figcaption>{safe(caption)}</figcaption></figure>")
            if part.table is not None:
                body.append(table_html(part.table))
            if part.notes:
                body += ["<ul>", *[f"<li>{safe(text)}</li>" for text in part.notes], "</ul>"]
            body.append("</section>")
        if self.signatures:
            lines = "".join(f"<div><span></span>{label}</div>" for label in ("Decision", "Name", "Date", "Signature"))
            body.append(f'<section class="sign"><h2>Signed</h2><div class="lines">{lines}</div></section>')
        policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
        return (
            f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{safe(self.title)}</title>\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<style>{STYLE}</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
        )

    def markdown(self) -> str:
        """Write the page as Markdown, without pictures, for a pull request."""
        lines = [f"# {plain(self.title)}", ""]
        if self.answer:
            lines += [f"**{self.answer.upper()}** - {plain(self.headline)}", ""]
        else:
            lines += [plain(self.headline), ""]
        for part in self.parts:
            if not (any(part.sentences) or part.table is not None or part.notes):
                continue
            lines += [f"## {plain(part.title)}", ""]
            lines += [line for text in part.sentences if text for line in (plain(text), "")]
            if part.table is not None:
                lines += [*table_markdown(part.table), ""]
            lines += [f"- {plain(text)}" for text in part.notes]
            lines += [""] if part.notes else []
        return "\n".join(lines)

    def save(self, path: str | Path) -> Path:
        """Write the page, completely or not at all; the ending .html or .md decides the format.

        Raises:
            InputError: For another ending, or a path as in `_io.writable`.
        """
        path = Path(path)
        kinds = {".html": self.html, ".md": self.markdown}
        if path.suffix.lower() not in kinds:
            raise InputError(f"A report is written as .html or .md; found {path.name!r}.")
        _io.writable(path)
        return _io.write_text(path, kinds[path.suffix.lower()]())


def report(
    posterior: Posterior,
    decision: Decision | None = None,
    *,
    title: str | None = None,
    command: str = "",
    with_sensitivity: bool = True,
) -> Report:
    """Put together the page of a posterior or of a decision.

    Args:
        posterior: The fit.
        decision: What `decide.go` said about it; without one the page describes the fit.
        title: The question; made from the decision by default.
        command: Command that made the page, for its provenance.
        with_sensitivity: Refit under changed assumptions (seconds; the first time each shape of model is compiled).

    Example:
        >>> bs.report(post, bs.decide.go(post, 2.6, flops=1e21)).save("decision.html")  # doctest: +SKIP
    """
    parts = []
    if decision is None:
        headline = f"{posterior.law.name} on {posterior.runs}"
        parts.append(Part("Forecast", pictures=[picture(plot.bands(posterior), "Fitted runs and predictive bands")]))
        made = title or f"Scaling law of {posterior.runs.name}"
    else:
        headline = decision.headline
        made = title or f"Should we make the run at {where(decision.at)}, to end below {decision.target:g}?"
        parts += [chances(posterior, decision)]
    parts += [assumptions(posterior, decision)]
    if decision is not None:
        if with_sensitivity:
            parts.append(changed(posterior, decision))
        parts.append(pilots(decision))
    parts += [constants(posterior), data(posterior), *left_out(posterior), provenance(posterior, command)]
    return Report(
        title=made,
        answer="" if decision is None else decision.answer,
        headline=headline,
        probability=None if decision is None else (decision.probability, decision.break_even),
        parts=parts,
        signatures=decision is not None,
    )


# --- Parts --------------------------------------------------------------------------------------------------


def chances(posterior: Posterior, decision: Decision) -> Part:
    """Say how likely the target is and what mistakes cost, with pictures."""
    shown = []
    name = longest(posterior, decision.at)
    upto = 1.5 * decision.at[name]
    if len(posterior.law.inputs) == 1:
        bands = plot.bands(posterior, upto=upto, target=decision.target)
        shown.append(picture(bands, "Fitted runs, and predictive bands of one future run; beyond the data is shaded"))
    density = plot.forecast(decision.forecast, target=decision.target)
    shown.append(picture(density, "Where one run with a new seed would end"))
    table = forecast_table(posterior, decision)
    return Part("How likely, and what is at stake", [decision.chances, decision.stake, decision.change], table, shown)


def forecast_table(posterior: Posterior, decision: Decision) -> pd.DataFrame:
    """Quantiles of the run and of the mean curve."""
    rows = []
    curve = posterior.forecast_at(pd.DataFrame([decision.at]), "mean")
    for label, forecast in {"one run with a new seed": decision.forecast, "the mean curve": curve}.items():
        ends = forecast.quantile([0.025, 0.1, 0.5, 0.9, 0.975])[:, 0]
        row = {"forecast of": label, "2.5 %": ends[0], "10 %": ends[1], "median": ends[2], "90 %": ends[3]}
        chance = forecast.probability_below(decision.target)[0]
        rows.append(row | {"97.5 %": ends[4], f"P(below {decision.target:g})": chance})
    return pd.DataFrame(rows)


def assumptions(posterior: Posterior, decision: Decision | None) -> Part:
    """Say what was assumed, and what the checks say of it."""
    law, noise = posterior.law, posterior.noise
    drift = "no drift: the law is taken to be exact"
    if posterior.drift is not None:
        drift = "drift: the truth wanders off the law, little inside the data and more with distance"
    tail = "normal" if noise.tail is None else f"Student-t with {float(noise.tail):g} degrees of freedom"
    sentences = [
        f"Law {law.name}: {law.says}",
        f"Beyond the law: {drift}; {tail} scatter of runs"
        + ("; seed noise of its own, by default of the size found in published replicates." if noise.seed else "."),
        "Priors: " + "; ".join(f"{names} {prior}" for names, (prior, _) in prior_lines(law).items()) + ".",
    ]
    forecast = None if decision is None else decision.forecast
    notes = [str(doubt) for doubt in decision.doubts] if decision is not None else []
    notes += [str(note) for note in posterior.check(forecast)]
    return Part("What this rests on", [*sentences, str(posterior.status)], notes=list(dict.fromkeys(notes)))


def changed(posterior: Posterior, decision: Decision) -> Part:
    """Say how the answer moves when assumptions change."""
    table = sensitivity(posterior, decision.target, at=decision.at)
    stated = table.dropna(subset=["probability"])
    low, high = stated["probability"].min(), stated["probability"].max()
    sentences = [f"Under the changes below the probability lies between {low:.2f} and {high:.2f}."]
    if decision.break_even is not None:
        turned = stated[(stated["probability"] > decision.break_even) != (decision.probability > decision.break_even)]
        if turned.empty:
            sentences.append("None of them takes it across the break-even probability.")
        else:
            sentences.append(f"It crosses the break-even probability under: {'; '.join(turned['change'])}.")
    table = table.rename(columns={"probability": f"P(below {decision.target:g})", "low": "10 %", "high": "90 %"})
    return Part("How much depends on what was assumed", sentences, table.drop(columns="group"))


def pilots(decision: Decision) -> Part:
    """Say what to run next."""
    if decision.pilots is None:
        remedy = [doubt.remedy for doubt in decision.doubts]
        return Part("What to run next", remedy or ["No pilots were considered."])
    names = {"evsi": "worth of its result", "evsi_error": "Monte-Carlo error", "enbs": "worth less cost"}
    names |= {"information": "information (nats)", "sd_after": "sd of ln loss left"}
    table = decision.pilots.frame.rename(columns=names).drop(columns="rank")
    sentences = [decision.pilots.text, *[doubt.remedy for doubt in decision.doubts]]
    return Part("What to run next", sentences, table)


def constants(posterior: Posterior) -> Part:
    """Constants of the law with intervals."""
    rows = []
    for name, values in posterior.draws.items():
        low, median, high = np.quantile(values, [0.05, 0.5, 0.95])
        rows.append({"quantity": name, "5 %": low, "median": median, "95 %": high})
    return Part("Constants of the fit", table=pd.DataFrame(rows))


def data(posterior: Posterior) -> Part:
    """The fitted runs."""
    frame = posterior.runs.frame
    shown = frame.drop(columns="family") if frame["family"].nunique() == 1 else frame
    rest = len(frame) - MOST_ROWS
    sentence = f"{posterior.runs}." + (f" The first {MOST_ROWS} of {len(frame)} runs:" if rest > 0 else "")
    return Part("The runs", [sentence], shown.head(MOST_ROWS))


def left_out(posterior: Posterior) -> list[Part]:
    """Rows that were left out when the table was read, and warnings about it; no part where there were none."""
    told = [entry for entry in posterior.runs.log if entry.severity != "info"]
    if not told:
        return []
    rows = {row for entry in told if entry.severity == "excluded" for row in entry.rows}
    sentence = f"Rows of the table that are failed, unfinished or repeated: {len(rows)}." if rows else ""
    return [Part("Rows left out and warnings", [sentence], notes=[str(entry) for entry in told])]


def provenance(posterior: Posterior, command: str) -> Part:
    """Everything needed to make this page again."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    chains, draws = posterior.position.shape[:2]
    facts = [
        f"Data: {len(posterior.runs)} rows, sha256 {posterior.runs.digest}",
        f"Sampler: NUTS, {chains} chains x {draws} draws, seed {posterior.seed}",
        f"Versions: {versions}, Python {platform.python_version()}",
        f"Made {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
    ]
    return Part("Provenance", notes=facts + ([f"Command: {command}"] if command else []))


# --- Writing ------------------------------------------------------------------------------------------------


def where(at: dict[str, float]) -> str:
    """Write inputs as `n_params = 7e+10, n_tokens = 1.4e+12`."""
    return ", ".join(f"{name} = {value:.3g}" for name, value in at.items())


def longest(posterior: Posterior, at: dict[str, float]) -> str:
    """The input along which the question lies furthest beyond the data."""
    frame = posterior.runs.frame
    return max(posterior.law.inputs, key=lambda name: at[name] / float(frame[name].max()))


def picture(ax: Axes, caption: str) -> tuple[str, bytes]:
    """Draw a figure into SVG whose letters are shapes, so that no font is asked for."""
    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "path", "svg.hashsalt": "bayescale"}):
        figure_of(ax).savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return caption, buffer.getvalue()


def safe(text: Any) -> str:
    """Escape text for HTML."""
    return escaping.escape(str(text), quote=True)


def plain(text: Any) -> str:
    """Escape text for Markdown and put it on one line."""
    line = " ".join(str(text).split())
    return escaping.escape("".join(f"\\{c}" if c in "\\`*_[]|#" else c for c in line), quote=False)


def written(values: pd.Series) -> list[str]:
    """Write the cells of one column, numbers with equal decimals where they are of one size."""
    if not pd.api.types.is_float_dtype(values):
        return [f"{value:,}" if isinstance(value, (int, np.integer)) else str(value) for value in values]
    known = np.abs(values.dropna().to_numpy(float))
    known = known[known > 0]
    alike = len(known) > 0 and known.max() < 1e9 and known.max() < 1e3 * known.min()
    decimals = max(0, 3 - int(np.floor(np.log10(known.max())))) if alike else None
    form = ".4g" if decimals is None else f",.{decimals}f"
    return ["" if np.isnan(value) else format(value, form) for value in values]


def cells(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """Write the rows of a table."""
    return list(zip(*[written(table[name]) for name in table], strict=True))


def table_html(table: pd.DataFrame) -> str:
    """Write a table that scrolls by itself on a narrow screen; numbers stand to the right."""
    right = [pd.api.types.is_numeric_dtype(table[name]) for name in table]
    mark = [' class="n"' if flag else "" for flag in right]
    head = "".join(f"<th{m}>{safe(name)}</th>" for m, name in zip(mark, table, strict=True))
    rows = ["".join(f"<td{m}>{safe(value)}</td>" for m, value in zip(mark, row, strict=True)) for row in cells(table)]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def table_markdown(table: pd.DataFrame) -> list[str]:
    """Write a table in Markdown."""
    lines = [" | ".join(plain(name) for name in table), " | ".join("---" for _ in table.columns)]
    lines += [" | ".join(plain(value) for value in row) for row in cells(table)]
    return [f"| {line} |" for line in lines]


def gauge(probability: float, break_even: float | None) -> str:
    """Draw the probability as a bar with the break-even probability marked."""
    mark = ""
    if break_even is not None:
        x = 100.0 * min(max(break_even, 0.0), 1.0)
        mark = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="10" class="even"/>'
    bar = f'<rect x="0" y="2" width="{100 * probability:.1f}" height="6" class="chance"/>'
    words = f"probability {probability:.2f}" + ("" if break_even is None else f", break-even {break_even:.2f}")
    svg = f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{words}">'
    svg += f'<rect x="0" y="2" width="100" height="6" class="all"/>{bar}{mark}</svg>'
    return f'<div class="gauge">{svg}<p>{words}</p></div>'


STYLE = """
:root{color-scheme:light;--ink:#1c2733;--quiet:#5b6773;--line:#d9dfe5;--go:#1b7f4d;--stop:#b3372a;--wait:#a86a00}
*{box-sizing:border-box}
body{margin:0 auto;max-width:54rem;padding:1.25rem;color:var(--ink);background:#fff;
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow-wrap:break-word}
header{border-left:.5rem solid var(--quiet);padding:.25rem 0 .25rem 1rem;margin-bottom:1.5rem}
header.go{border-color:var(--go)}header.no-go{border-color:var(--stop)}
header.pilot-first,header.cannot-say{border-color:var(--wait)}
h1{font-size:1.35rem;line-height:1.25;margin:.2rem 0}
h2{font-size:1.05rem;margin:1.6rem 0 .4rem;border-bottom:1px solid var(--line);padding-bottom:.2rem}
p{margin:.4rem 0}
.answer{font-size:2rem;font-weight:700;line-height:1.1;text-transform:uppercase;letter-spacing:.02em}
.go .answer{color:var(--go)}.no-go .answer{color:var(--stop)}
.pilot-first .answer,.cannot-say .answer{color:var(--wait)}
.headline{font-size:1.05rem}
.gauge{max-width:28rem}.gauge svg{width:100%;height:1.2rem;display:block}.gauge p{color:var(--quiet);font-size:.9rem}
.gauge .all{fill:var(--line)}.gauge .chance{fill:#2f6db0}
.gauge .even{stroke:var(--ink);stroke-width:2;vector-effect:non-scaling-stroke}
figure{margin:1rem 0}figure img{width:100%;max-width:44rem;height:auto;display:block}
figcaption{color:var(--quiet);font-size:.9rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums;margin:.5rem 0}
th,td{padding:.25rem .7rem .25rem 0;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--quiet);font-weight:600}.n{text-align:right;white-space:nowrap}
ul{padding-left:1.1rem;margin:.4rem 0}li{margin:.25rem 0}
.lines{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:1.5rem;margin-top:2rem}
.lines div{font-size:.85rem;color:var(--quiet)}
.lines span{display:block;border-bottom:1px solid var(--ink);height:1.6rem;margin-bottom:.2rem}
@media print{@page{margin:16mm}body{max-width:none;padding:0;font-size:11pt}
.scroll{overflow:visible}figure,table,.sign,header{break-inside:avoid}h2{break-after:avoid}}
"""
"""Style of the page: one column, readable at phone and desktop widths and on paper."""

assert set(ANSWERS) == {"go", "no-go", "pilot first", "cannot say"}, "the style knows every answer"
