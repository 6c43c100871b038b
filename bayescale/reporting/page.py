"""Report page: the content of a page as a record, and functions that write it as HTML and Markdown.

The page loads nothing from elsewhere: plots are inside it, there is no script, and its content security policy forbids
requests. All text from users is escaped.
"""

from __future__ import annotations

import base64
import dataclasses
import html as escaping
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bayescale import _io
from bayescale.checked import known_keywords
from bayescale.data.wording import NAMES, power_of_ten
from bayescale.errors import InputError

SIGNED = ("Decision", "Name", "Date", "Signature")
HEADS = {**NAMES, "flops": "compute (FLOP)", "step": "step"}
"""Headings of columns that are inputs."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of a page: a heading, then sentences, a table, plots and notes, each of which may be missing."""

    title: str
    sentences: Sequence[str] = ()
    table: pd.DataFrame | None = None
    pictures: Sequence[tuple[str, bytes]] = ()
    """Caption and SVG of each plot."""
    notes: Sequence[str] = ()
    marked: int | None = None
    """Index of the table row to highlight."""
    half: bool = False
    """Whether the part takes half of the page's width, beside the next part that does."""
    gauge: tuple[float, float | None] | None = None
    """A probability to draw as a bar, with the break-even probability or None."""


@known_keywords
@dataclasses.dataclass(frozen=True)
class Report:
    """Content of a report page.

    Attributes:
        title: The question.
        answer: A key of `decide.ANSWERS`, or "" without a decision.
        headline: The answer in one sentence, or a description of the fit.
        probability: P(target met) and the break-even probability; None without a decision.
        parts: Parts of the first page, below the headline.
        appendix: All other parts, from the second page on.
        signatures: Whether there are lines for signatures.
        subject: The decision or the fit that the page is about, which `plot` draws.
    """

    title: str
    answer: str
    headline: str
    probability: tuple[float, float | None] | None
    parts: Sequence[Part]
    appendix: Sequence[Part]
    signatures: bool
    subject: Any = dataclasses.field(default=None, compare=False, repr=False)

    def plot(self, **options: Any) -> Any:
        """Draw the decision or the fit that the page is about.

        Args:
            **options: Options of the `plot` method of the decision or fit, such as `ax`.

        Returns:
            The matplotlib axes.

        Raises:
            InputError: For a page without `subject`.
        """
        if self.subject is None:
            raise InputError("This page was made without a fit or decision; make one with bs.report(posterior).")
        return self.subject.plot(**options)

    def __repr__(self) -> str:
        """Return the title of the page."""
        return f"Report: {self.title}"

    def _repr_html_(self) -> str:
        """Return HTML that shows the page in a frame, for notebooks."""
        return f'<iframe srcdoc="{safe(self.html())}" width="100%" height="600" style="border: 0"></iframe>'

    def html(self) -> str:
        """Write the page as HTML."""
        body = [f'<header class="{self.answer.replace(" ", "-") or "plain"}">', f"<h1>{safe(self.title)}</h1>"]
        if self.answer:
            body.append(f'<p class="answer">{safe(self.answer)}</p>')
        body += [f'<p class="headline">{safe(self.headline)}</p>', "</header>", '<div class="first">']
        body += [part_html(part) for part in self.parts]
        body.append("</div>")
        if self.signatures:
            lines = "".join(f"<div><span></span>{label}</div>" for label in SIGNED)
            body.append(f'<section class="sign"><div class="lines">{lines}</div></section>')
        if self.appendix:
            body += ['<div class="appendix">', "<h1>Appendix</h1>", *map(part_html, self.appendix), "</div>"]
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
        lines += [f"**{self.answer.upper()}** - {plain(self.headline)}" if self.answer else plain(self.headline), ""]
        lines += [line for part in self.parts for line in part_markdown(part, "##")]
        if self.signatures:
            lines += ["Decision: ____________  Name: ____________  Date: ____________  Signature: ____________", ""]
        if self.appendix:
            lines += ["## Appendix", ""]
            lines += [line for part in self.appendix for line in part_markdown(part, "###")]
        return "\n".join(lines)

    def save(self, path: str | Path) -> Path:
        """Write the page completely or not at all; the suffix .html or .md decides the format.

        Raises:
            InputError: For another suffix, or a path as in `_io.writable`.
        """
        path = Path(path)
        kinds = {".html": self.html, ".md": self.markdown}
        if path.suffix.lower() not in kinds:
            raise InputError(f"A report is written as .html or .md; found {path.name!r}.")
        _io.writable(path)
        return _io.write_text(path, kinds[path.suffix.lower()]())


# --- Parts ----------------------------------------------------------------------------------------------------


def part_html(part: Part) -> str:
    """Write one part as HTML."""
    body = [f"<section{' class=half' if part.half else ''}>", f"<h2>{safe(part.title)}</h2>"]
    if part.gauge is not None:
        body.append(gauge(*part.gauge))
    body += [f"<p>{safe(sentence)}</p>" for sentence in part.sentences if sentence]
    for caption, svg in part.pictures:
        source = "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
        image = f'<img src="{source}" alt="{safe(caption)}">'
        body.append(f"<figure>{image}<figcaption>{safe(caption)}</figcaption></figure>")
    if part.table is not None:
        body.append(table_html(part.table, part.marked))
    if part.notes:
        body += ["<ul>", *[f"<li>{safe(text)}</li>" for text in part.notes], "</ul>"]
    return "\n".join([*body, "</section>"])


def part_markdown(part: Part, mark: str) -> list[str]:
    """Return one part as Markdown lines without its plots; no lines for a part that consists of plots."""
    if not (any(part.sentences) or part.table is not None or part.notes or part.gauge):
        return []
    lines = [f"{mark} {plain(part.title)}", ""]
    if part.gauge is not None:
        lines += [plain(chances(*part.gauge)), ""]
    lines += [line for text in part.sentences if text for line in (plain(text), "")]
    if part.table is not None:
        lines += [*table_markdown(part.table), ""]
    lines += [f"- {plain(text)}" for text in part.notes]
    return lines + ([""] if part.notes else [])


def safe(text: Any) -> str:
    """Escape text for HTML."""
    return escaping.escape(str(text), quote=True)


def plain(text: Any) -> str:
    """Escape text for Markdown and put it on one line."""
    line = " ".join(str(text).split())
    return escaping.escape("".join(f"\\{c}" if c in "\\`*_[]|#" else c for c in line), quote=False)


# --- Tables -----------------------------------------------------------------------------------------------------


def written(values: pd.Series) -> list[str]:
    """Return the cells of one column as text, with the same number of decimals if the numbers have similar size."""
    if not pd.api.types.is_float_dtype(values):
        return [f"{value:,}" if isinstance(value, (int, np.integer)) else str(value) for value in values]
    known = np.abs(values.dropna().to_numpy(float))
    known = known[known > 0]
    alike = len(known) > 0 and known.max() < 1e9 and known.max() < 1e3 * known.min()
    decimals = max(0, 3 - int(np.floor(np.log10(known.max())))) if alike else None
    return [number(value, decimals) for value in values]


def number(value: float, decimals: int | None) -> str:
    """Write a number with `decimals` decimals, or with four digits if None.

    Very large or small ones with an exponent.
    """
    if np.isnan(value):
        return ""
    if decimals is not None:
        return f"{value:,.{decimals}f}"
    text = f"{value:.4g}"
    return power_of_ten(value, 4) if "e" in text else text


def cells(table: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return the rows of a table as texts."""
    return list(zip(*[written(table[name]) for name in table], strict=True))


def heads(table: pd.DataFrame) -> list[str]:
    """Return the headings of columns, with inputs in words."""
    return [HEADS.get(str(name), str(name)) for name in table]


def table_html(table: pd.DataFrame, marked: int | None = None) -> str:
    """Write a table as HTML that scrolls on a narrow screen; numbers are aligned to the right."""
    right = [pd.api.types.is_numeric_dtype(table[name]) for name in table]
    mark = [' class="n"' if flag else "" for flag in right]
    head = "".join(f"<th{m}>{safe(name)}</th>" for m, name in zip(mark, heads(table), strict=True))
    rows = ["".join(f"<td{m}>{safe(value)}</td>" for m, value in zip(mark, row, strict=True)) for row in cells(table)]
    body = "".join(f"<tr{' class=here' if i == marked else ''}>{row}</tr>" for i, row in enumerate(rows))
    size = ' class="wide"' if len(table.columns) > 7 else ""
    return f'<div class="scroll"><table{size}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def table_markdown(table: pd.DataFrame) -> list[str]:
    """Write a table in Markdown."""
    lines = [" | ".join(plain(name) for name in heads(table)), " | ".join("---" for _ in table.columns)]
    lines += [" | ".join(plain(value) for value in row) for row in cells(table)]
    return [f"| {line} |" for line in lines]


def chances(probability: float, break_even: float | None) -> str:
    """Return the probability and the break-even probability as text."""
    return f"probability {chance_words(probability)}" + ("" if break_even is None else f", break-even {break_even:.2f}")


def chance_words(probability: float) -> str:
    """Write a probability in words that never claim certainty."""
    if probability > 0.995:
        return "above 0.99"
    return "below 0.01" if probability < 0.005 else f"{probability:.2f}"


def gauge(probability: float, break_even: float | None) -> str:
    """Draw the probability as a bar with the break-even probability marked."""
    mark = ""
    if break_even is not None:
        x = 100.0 * min(max(break_even, 0.0), 1.0)
        mark = f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="10" class="even"/>'
    bar = f'<rect x="0" y="2" width="{100 * probability:.1f}" height="6" class="chance"/>'
    words = chances(probability, break_even)
    svg = f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{words}">'
    svg += f'<rect x="0" y="2" width="100" height="6" class="all"/>{bar}{mark}</svg>'
    return f'<div class="gauge">{svg}<p>{words}</p></div>'


STYLE = re.sub(
    r"\n+",
    "\n",
    """
:root{color-scheme:light;--ink:#1c2733;--quiet:#5b6773;--line:#d9dfe5;--go:#1b7f4d;--stop:#b3372a;--wait:#a86a00}
*{box-sizing:border-box}
body{margin:0 auto;max-width:54rem;padding:1.25rem;color:var(--ink);background:#fff;
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;overflow-wrap:anywhere}
header{border-left:.5rem solid var(--quiet);padding:.25rem 0 .25rem 1rem;margin-bottom:1rem}
header.go{border-color:var(--go)}header.no-go{border-color:var(--stop)}
header.pilot-first,header.cannot-say{border-color:var(--wait)}
h1{font-size:1.35rem;line-height:1.25;margin:.2rem 0}
h2{font-size:1.05rem;margin:1.1rem 0 .4rem;border-bottom:1px solid var(--line);padding-bottom:.2rem}
p{margin:.4rem 0}
.answer{font-size:2rem;font-weight:700;line-height:1.1;text-transform:uppercase;letter-spacing:.02em}
.go .answer{color:var(--go)}.no-go .answer{color:var(--stop)}
.pilot-first .answer,.cannot-say .answer{color:var(--wait)}
.headline{font-size:1.05rem}
.first{display:grid;grid-template-columns:1fr 1fr;column-gap:2rem;align-items:start;grid-template-rows:auto 1fr}
section{min-width:0;grid-column:1/-1}section.half{grid-column:1}
section.half:nth-child(2){grid-column:2;grid-row:1/span 2}
@media screen and (max-width:44rem){.first{display:block}body{padding:.8rem}}
.gauge svg{width:100%;height:1.2rem;display:block}.gauge p{font-weight:600;margin:.15rem 0}
.gauge .all{fill:var(--line)}.gauge .chance{fill:#2f6db0}
.gauge .even{stroke:var(--ink);stroke-width:2;vector-effect:non-scaling-stroke}
figure{margin:.6rem 0}figure img{width:100%;max-width:46rem;height:auto;display:block;margin:0 auto}
figcaption{color:var(--quiet);font-size:.9rem}
.scroll{overflow-x:auto}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums;margin:.5rem 0}
th,td{padding:.25rem .9rem .25rem 0;text-align:left;border-bottom:1px solid var(--line);vertical-align:top;
overflow-wrap:normal}
th{color:var(--quiet);font-weight:600}.n{text-align:right;white-space:nowrap}th.n{white-space:normal}
td:not(.n){min-width:5.5rem}
.half table{width:100%}.half td{min-width:0;white-space:nowrap}.half td:first-child{white-space:normal}
.half th{overflow-wrap:normal}
tr.here td{font-weight:700;background:#eef3f9}
ul{padding-left:1.1rem;margin:.4rem 0}li{margin:.2rem 0}
.lines{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:1.5rem;margin-top:1.6rem}
.lines div{font-size:.85rem;color:var(--quiet)}
.lines span{display:block;border-bottom:1px solid var(--ink);height:1.6rem;margin-bottom:.2rem}
.appendix{margin-top:2.5rem;border-top:2px solid var(--ink)}
@page{margin:13mm}
@media print{
body{max-width:none;padding:0;font-size:9pt;line-height:1.3}.headline{font-size:1rem}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}
header{margin-bottom:.3rem;padding-top:0;padding-bottom:0}h1{font-size:1.15rem}.answer{font-size:1.5rem}
h2{font-size:1rem;margin:.5rem 0 .2rem;break-after:avoid}p{margin:.2rem 0}
figcaption{font-size:8pt}.first figure{margin:.2rem 0}.first figure img{max-height:80mm;width:auto;max-width:100%}
table{font-size:8pt;margin:.25rem 0}th,td{padding:.12rem .7rem .12rem 0}
table.wide{font-size:6.8pt}table.wide th,table.wide td{padding-right:.35rem}table.wide td:not(.n){min-width:0}
.scroll{overflow:visible}.appendix .scroll td{overflow-wrap:anywhere}
.lines{margin-top:.5rem;grid-template-columns:repeat(4,1fr)}
.sign,figure,header,tr{break-inside:avoid}
.appendix{break-before:page;margin-top:0;border-top:0}
.appendix figure img{max-height:95mm;width:auto;max-width:100%}}
""",
)
"""Style of the page: one column on a phone, two on wide screens; printed, the first page precedes the appendix."""
