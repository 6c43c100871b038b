"""Cells: numbers as people and programs write them, read with the decimal mark of their column."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

MISSING = frozenset(
    ("|-|--|---|–|—|n/a|na|n.a.|nan|none|null|nil|?|<na>|#n/a|nat|missing|tbd|...|…|not available").split("|")
)
"""Texts of cells without a value, in lower case."""
STATUS_WORDS = frozenset(
    (
        "partial|running|crashed|failed|killed|diverged|oom|pending|queued|in progress|incomplete|unfinished|"
        "preempted|stopped|aborted|wip|todo|interrupted|exploded|cancelled|canceled|timeout|timed out|"
        "not finished|ongoing|done|finished|completed|error|restarted|training|early|unconverged|not converged|"
        "spiked|resumed"
    ).split("|")
)
"""Words, instead of a number or beside it, that give the state of a run."""
SUFFIXES = {"k": 1e3, "thousand": 1e3, "m": 1e6, "mn": 1e6, "mio": 1e6, "million": 1e6, "millions": 1e6}
SUFFIXES |= {"b": 1e9, "bn": 1e9, "g": 1e9, "mrd": 1e9, "billion": 1e9, "billions": 1e9, "thousands": 1e3}
SUFFIXES |= {"t": 1e12, "tn": 1e12, "trillion": 1e12, "trillions": 1e12}
PETAFLOP_DAY = 8.64e19
FLOP_SUFFIXES = {"p": 1e15, "e": 1e18, "z": 1e21, "y": 1e24}
"""Further suffixes of compute; in other columns a P or an E is more likely a typing error."""
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "0123456789+-")
DECIMALS = (".", ",")

_EXPONENT = r"(?:e(?P<exponent>[+-]?\d+))?(?:\s*[x×*·]\s*10\s*(?:\^|\*\*)\s*\(?(?P<power>[+-]?\d+)\)?)?"
_NUMBER = re.compile(
    rf"(?P<sign>[+-]?)(?P<mantissa>\d(?:[\d.,_']|\s(?=\d))*|[.,]\d+){_EXPONENT}"
    r"\s*(?P<suffix>[a-z]*?)[\s-]*(?P<unit>tokens?|toks?|params?|parameters?|flops?|nats?|bits?)?"
    r"\s*(?P<tail>%|[x×])?",
    re.IGNORECASE,
)
_POWER = re.compile(
    r"(?P<sign>)10\s*(?:\^|\*\*)\s*\(?(?P<power>[+-]?\d+)\)?\s*(?:flops?|tokens?|params?)?", re.IGNORECASE
)
_PETAFLOP_DAYS = re.compile(r"(?P<number>.*?)\s*p(?:eta)?f(?:lops?)?(?:/s)?[-\s]?days?", re.IGNORECASE)
_REMARK = re.compile(r"^(?P<number>.*?)\s*[(\[](?P<words>[^()\[\]\d]+)[)\]]$")
_PLUS_MINUS = re.compile(r"^(?P<number>.+?)\s*(?:±|\+/-|\+-)\s*(?P<spread>[\d.,e+-]+)\s*%?$", re.IGNORECASE)
_MARKED = re.compile(r"(\*{1,3}|__|`)[^*`]+\1|\[[^\]]+\]\([^)]*\)")
_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d{1,2})?", re.IGNORECASE)
_GROUP = re.compile(r"[+-]?[1-9]\d{0,2}\.\d{3}")


@dataclasses.dataclass(frozen=True)
class Cell:
    """Possible values of the text in one cell.

    Attributes:
        values: Its value with a decimal point, and with a decimal comma; NaN where it cannot be read in that way.
        readable: Whether the text is a number or a mark for a missing value.
        status: Word in the cell about the state of the run.
        marks: What was removed or converted: emphasis, suffix, power, percent, multiple, about, spread, remark.
        spread: Number after a plus-minus sign.
    """

    values: tuple[float, float] = (math.nan, math.nan)
    readable: bool = True
    status: str = ""
    marks: tuple[str, ...] = ()
    spread: str = ""

    @property
    def decided(self) -> str:
        """The only decimal mark with which this cell can be read; empty if both marks or neither can be used."""
        known = [mark for mark, value in zip(DECIMALS, self.values, strict=True) if not math.isnan(value)]
        return known[0] if len(known) == 1 else ""

    @property
    def ambiguous(self) -> bool:
        """Return whether the cell can be read with both decimal marks, with different values."""
        point, comma = self.values
        return not math.isnan(point) and not math.isnan(comma) and point != comma


@dataclasses.dataclass(frozen=True)
class Column:
    """A column as numbers.

    Attributes:
        values: The numbers, NaN where there is none, shape (row,).
        unreadable: Indices of cells that are neither numbers nor marked as missing.
        status: Words about the state of runs, by index.
        marks: What was converted, by kind, with the number of cells.
        example: Text of a cell that was converted.
        suffixed: Whether the cell contains the unit, shape (row,).
        spreads: Text after plus-minus signs, by index.
        undecided: Text of a cell that has different values with the two decimal marks, if nothing decides between them.
        decimal: The decimal mark that was used, where it mattered.
    """

    values: np.ndarray
    unreadable: tuple[int, ...] = ()
    status: dict[int, str] = dataclasses.field(default_factory=dict)
    marks: dict[str, int] = dataclasses.field(default_factory=dict)
    example: str = ""
    suffixed: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, bool))
    spreads: dict[int, str] = dataclasses.field(default_factory=dict)
    undecided: str = ""
    decimal: str = ""


def clean(text: str) -> tuple[str, bool]:
    """Strip emphasis, links, markup and typesetting from a cell; return the text and whether there was any."""
    raw = text.strip()
    bare = re.sub(r"<sup>(.*?)</sup>", r"^\1", raw, flags=re.IGNORECASE)
    bare = re.sub(r"</?[a-z][^<>]*>", "", bare, flags=re.IGNORECASE)
    bare = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", bare)
    bare = re.sub(r"\\(?:times|cdot)", "×", bare.replace("\\,", "").replace("\\%", "%"))
    bare = bare.replace("$", "").replace("{", "").replace("}", "")
    bare = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻]+", lambda found: "^" + found.group().translate(SUPERSCRIPTS), bare)
    bare = unicodedata.normalize("NFKC", bare).replace("−", "-").replace("’", "'").replace("ʼ", "'").strip()
    marked = re.sub(r"^(\*\*\*|\*\*|__|\*|_|`)+\s*(.*?)\s*(\*\*\*|\*\*|__|\*|_|`)+$", r"\2", bare)
    marked = re.sub(r"(?<=[\d%a-z)])\s*[*†‡§]+$", "", marked, flags=re.IGNORECASE).strip()
    return marked, marked != raw


def unmarked(text: str) -> str:
    """Strip emphasis and links from a cell that is a text, e.g. ``**XL**``; other texts are returned unchanged."""
    return clean(text)[0] if text.startswith(("**", "`", "__")) or _MARKED.fullmatch(text.strip()) else text


def missing(value: Any) -> bool:
    """Return whether a cell is empty or marked as missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    if not isinstance(value, str):
        return value is np.ma.masked or type(value).__name__ in ("NAType", "NaTType")
    if value[:1].isdigit():
        return False
    return clean(value)[0].lower() in MISSING


def read_cell(value: Any, *, compute: bool = False) -> Cell:
    """Read one cell.

    Args:
        value: Text of the cell, or a number.
        compute: Whether suffixes of compute (P, E, Z) and petaflop-days are allowed.
    """
    if isinstance(value, str):
        return read_text(value, compute)
    if missing(value):
        return Cell()
    if isinstance(value, (bool, np.bool_)):
        return Cell(readable=False)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return Cell(readable=False)
    return Cell((number, number))


@functools.lru_cache(maxsize=100_000)
def read_text(value: str, compute: bool) -> Cell:
    """Read the text of one cell."""
    if _PLAIN.fullmatch(value):
        number = float(value)
        if "." not in value:
            return Cell((number, number))
        return Cell((number, float(value.replace(".", "")) if _GROUP.fullmatch(value) else math.nan))
    if missing(value):
        return Cell()
    text, emphasised = clean(value)
    marks = ["emphasis"] if emphasised and text != value.strip() and "^" not in text else []
    status = spread = ""
    if text.strip("()[] ").lower() in STATUS_WORDS:
        return Cell(status=text.strip("()[] ").lower(), marks=("status",))
    if found := _REMARK.match(text):
        words = found["words"].strip()
        text = found["number"]
        if words.lower() in STATUS_WORDS:
            status = words.lower()
        marks.append("status" if status else "remark")
    elif (parts := text.rsplit(maxsplit=1)) and len(parts) == 2 and parts[1].lower() in STATUS_WORDS:
        text, status = parts[0], parts[1].lower()
        marks.append("status")
    if text and text[0] in "~≈" and not text.startswith("~~"):
        text = text[1:].strip()
        marks.append("about")
    if found := _PLUS_MINUS.match(text):
        text, spread = found["number"], found["spread"]
        marks.append("spread")
    if missing(text):
        return Cell(status=status, marks=tuple(marks))
    if text.lower() in ("inf", "+inf", "infinity", "-inf", "∞"):
        return Cell((math.inf, math.inf), status=status)
    return number_cell(text, marks, status, spread, compute)


def number_cell(text: str, marks: list[str], status: str, spread: str, compute: bool) -> Cell:
    """Read a cell that contains only a number."""
    unreadable = Cell(readable=False, status=status)
    if found := _POWER.fullmatch(text):
        value = float(f"1e{int(found['power'])}") if abs(int(found["power"])) < 400 else math.nan
        return Cell((value, value), status=status, marks=(*marks, "power"))
    factor = 1.0
    if compute and (days := _PETAFLOP_DAYS.fullmatch(text)):
        text, factor, marks = days["number"], PETAFLOP_DAY, [*marks, "suffix"]
    found = _NUMBER.fullmatch(text)
    if found is None:
        return unreadable
    exponent = int(found["exponent"] or 0) + int(found["power"] or 0)
    if (found["exponent"] and found["power"]) or abs(exponent) > 300:
        return unreadable
    if suffix := found["suffix"].lower():
        known = SUFFIXES | (FLOP_SUFFIXES if compute else {})
        if suffix not in known or exponent or factor != 1.0:
            return unreadable
        factor = known[suffix]
        marks = [*marks, "suffix"]
    if found["power"]:
        marks = [*marks, "power"]
    if found["tail"] == "%":
        factor /= 100.0
        marks = [*marks, "percent"]
    elif found["tail"]:
        marks = [*marks, "multiple"]
    grouped = not (found["exponent"] or found["power"])
    sign = "-" if found["sign"] == "-" else ""
    digits = [plain_digits(found["mantissa"], decimal, grouped) for decimal in DECIMALS]
    values = [float(f"{sign}{d}e{exponent}") * factor if d else math.nan for d in digits]
    if all(math.isnan(value) for value in values):
        return unreadable
    if re.search(r"\d[,_'\s]\d|\..*\.", found["mantissa"]):
        marks = [*marks, "separators"]
    return Cell((values[0], values[1]), status=status, marks=tuple(marks), spread=spread)


def plain_digits(mantissa: str, decimal: str, grouped: bool) -> str:
    """Return a mantissa with a decimal point and without thousands separators; empty if it cannot be read this way.

    Args:
        mantissa: Digits and separators.
        decimal: The decimal mark.
        grouped: Whether thousands separators are allowed.
    """
    mark, other = re.escape(decimal), "," if decimal == "." else r"\."
    if re.fullmatch(rf"\d+{mark}?\d*|{mark}\d+", mantissa):
        return mantissa.replace(decimal, ".")
    if grouped and re.fullmatch(
        rf"[1-9]\d{{0,2}}(?P<s>[{other}_'\s])\d{{3}}(?:(?P=s)\d{{3}})*(?:{mark}\d*)?", mantissa
    ):
        whole, point, rest = mantissa.partition(decimal)
        return re.sub(r"\D", "", whole) + (f".{rest}" if point else "")
    return ""


def evidence(columns: Iterable[Sequence[Any]]) -> set[str]:
    """Return the decimal marks without which some cells of mostly numeric columns could not be read."""
    proved: set[str] = set()
    for column in columns:
        cells = [read_cell(value) for value in set(column) if isinstance(value, str) and not missing(value)]
        if cells and sum(cell.readable for cell in cells) > len(cells) / 2:
            proved |= {cell.decided for cell in cells if cell.readable}
    return proved - {""}


def read_column(
    column: Sequence[Any], *, decimal: str | None = None, proved: set[str] = frozenset(), compute: bool = False
) -> Column:  # fmt: skip
    """Read a column as numbers with one decimal mark.

    Args:
        column: The cells.
        decimal: The decimal mark, if it is known; else it is inferred from this column, then from the other columns.
        proved: Decimal marks found in the whole table, see `evidence`.
        compute: See `read_cell`.
    """
    cells = [read_cell(value, compute=compute) for value in column]
    used, undecided = choose_decimal(cells, decimal, proved)
    chosen = DECIMALS.index(used)
    values = np.array([cell.values[chosen] for cell in cells], float)
    # A cell that can be read only with the other decimal mark is no number here.
    wrong = [i for i, c in enumerate(cells) if not c.readable or (np.isnan(values[i]) and c.decided not in ("", used))]
    marks: dict[str, int] = {}
    for mark in (mark for cell in cells for mark in set(cell.marks)):
        marks[mark] = marks.get(mark, 0) + 1
    if used == ",":
        parted = [str(v) for v, cell in zip(column, cells, strict=True) if cell.decided or cell.ambiguous]
        # If the decimal mark is a comma, a point separates thousands.
        counts = {"separators": sum("," not in v for v in parted), "decimal comma": sum("," in v for v in parted)}
        marks |= {mark: count for mark, count in counts.items() if count}
        if not counts["separators"]:
            marks.pop("separators", None)
    marked = [i for i, cell in enumerate(cells) if cell.marks]
    return Column(
        values=values,
        unreadable=tuple(wrong),
        status={i: cell.status for i, cell in enumerate(cells) if cell.status},
        marks=marks,
        example=" ".join(str(column[marked[0]]).split()) if marked else "",
        suffixed=np.array([bool({"suffix", "power"} & set(cell.marks)) for cell in cells], bool),
        spreads={i: cell.spread for i, cell in enumerate(cells) if cell.spread},
        undecided="" if undecided is None else str(column[undecided]).strip(),
        decimal=used if any(cell.ambiguous for cell in cells) else "",
    )


def choose_decimal(cells: Sequence[Cell], decimal: str | None, proved: set[str]) -> tuple[str, int | None]:
    """Choose the decimal mark of a column.

    Return it and the index of a cell for which the choice is uncertain, or None.
    """
    if decimal is not None:
        return decimal, None
    own = {cell.decided for cell in cells if cell.readable} - {""}
    if own:
        # If some cells can only be read with a point and others only with a comma, the rarer kind is no number; it is
        # reported later.
        votes = {mark: sum(cell.decided == mark for cell in cells) for mark in own}
        return max(votes, key=lambda mark: (votes[mark], mark == ".")), None
    ambiguous = next((i for i, cell in enumerate(cells) if cell.ambiguous), None)
    if ambiguous is None:
        return ".", None
    if len(proved) == 1:
        return next(iter(proved)), None
    # Programs write 3.120; a single 3,120 may mean either number.
    point, comma = cells[ambiguous].values
    return ".", None if point < comma and not proved else ambiguous


def labels(column: Sequence[Any]) -> list[Any]:
    """Return cells with emphasis removed from texts, and with None for missing values."""
    return [None if missing(value) else unmarked(value) if isinstance(value, str) else value for value in column]


def tidy(column: Sequence[Any], decimal: str | None, proved: set[str]) -> list[Any]:
    """Return an unused column as numbers if every cell is a number, else as labels."""
    present = [value for value in column if not missing(value)]
    texts = {value for value in present if isinstance(value, str)}
    if not texts or any(re.fullmatch(r"0\d+", text.strip()) for text in texts):
        return labels(column)
    if all(_PLAIN.fullmatch(text.strip()) for text in texts) and decimal != "," and "," not in proved:
        return [math.nan if missing(value) else float(value) for value in column]
    read = read_column(column, decimal=decimal, proved=proved)
    if read.unreadable or read.undecided or read.status or np.isnan(read.values).all():
        return labels(column)
    return read.values.tolist()
