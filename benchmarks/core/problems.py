"""Problems: published families, each cut into runs to fit and larger runs to forecast.

The unit of weight is the family; at most five metrics of a family count. A held-out run informs nothing about the
training part: neither its range of scales nor its noise. Dense curves are thinned log-evenly before they are fitted,
because neighbouring checkpoints of one run say the same thing twice. Standard errors that upstream states are left
out: they come from tokens or questions that all runs of a family share, so they are not scatter between runs.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayescale.posterior.checks import rise

FITTED = 40
"""Most training points of a curve."""
SCORED = 6
"""Most held-out points of a curve."""
PUBLISHED = 60
"""Most held-out points of a curve that its authors cut."""
FITTED_GRID = 60
"""Most training runs of a design with several inputs."""
SCORED_GRID = 25
METRICS = 5
"""Most metrics of one family."""
FEWEST = 4
"""Fewest training points of a curve."""
RATIOS = (2, 4, 8, 16)
BUDGETS = (3, 10, 30)
FAR = (30, 100, 300, 1000)
"""Ratios of problems that lie further than most decisions, in groups of their own."""
FAR_BUDGETS = FAR[1:]
SPARSE = (4, 5, 6, 8)
"""Training points of the sparsified curves."""
DESIGNS = 12
"""Small designs drawn from each grid."""

DEVELOPMENT = ("alabdulmohsin2022", "nslpfn_colpret", "overtrain", "epoch_chinchilla", "gemstones", "lcdb odd")
"""Sources on which the default was tuned; others are left out, but for what `docs/evidence/calibration.md` names."""

UNSEEN = ("farseer", "il_games", "openclip_scaling", "rl_value_scaling")
"""Sources that were scored after the last choice of the default, of which none has looked at them."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """Runs to fit, and larger ones to forecast.

    Attributes:
        source: Where the family was published.
        family: Its name, unique within the source.
        metric: What was measured.
        group: one input, several inputs, small design, lcdb, sparsified, stress, far, far, several inputs, replicates,
            or known errors.
        split: What was held out: published, half, R=2 ... R=1000, k=3 ... k=1000, largest, or n=4 ... n=8.
        inputs: Scale inputs.
        train: Runs to fit: columns of the inputs and loss.
        held: Runs to forecast, likewise.
    """

    source: str
    family: str
    metric: str
    group: str
    split: str
    inputs: tuple[str, ...]
    train: pd.DataFrame
    held: pd.DataFrame

    @property
    def key(self) -> str:
        """Name of the problem, unique in the benchmark."""
        return "|".join((self.source, self.family, self.metric, self.group, self.split))

    @property
    def developed(self) -> bool:
        """Whether the default was tuned on this source."""
        return self.source in DEVELOPMENT

    @property
    def rises(self) -> bool:
        """Whether fitted and held-out points together rise again; a curve of one input only."""
        if len(self.inputs) > 1:
            return False
        both = pd.concat([self.train, self.held]).groupby(self.inputs[0])["loss"].mean()
        return rises(both.to_numpy())

    @property
    def ratio(self) -> np.ndarray:
        """Factor by which each held-out run lies beyond the largest training scale, shape (held,)."""
        return scale(self.held, self.inputs) / scale(self.train, self.inputs).max()


def rises(loss: np.ndarray) -> bool:
    """Whether a curve, in order of its input, rises again: two neighbours above its lowest loss so far by 5 %.

    In percent of the range of ln(loss). Unlike `check()` this sees the held-out points, and does not ask about scatter.
    """
    y = np.log(loss)
    return len(y) > 1 and bool(rise(y) > 0.05 * np.ptp(y))


# --- Cutting ------------------------------------------------------------------------------------------------


def scale(rows: pd.DataFrame, inputs: tuple[str, ...]) -> np.ndarray:
    """Scale of each run: its input, or compute, or the product of the inputs."""
    if len(inputs) > 1 and "flops" in rows:
        return rows["flops"].to_numpy(float)
    return rows[list(inputs)].to_numpy(float).prod(1)


def thin(rows: pd.DataFrame, inputs: tuple[str, ...], most: int) -> pd.DataFrame:
    """Keep at most `most` rows, evenly spaced in the logarithm of the scale."""
    if len(rows) <= most:
        return rows
    x = np.log(scale(rows, inputs))
    wanted = np.linspace(x.min(), x.max(), most)
    return rows.iloc[np.unique(np.abs(x[None, :] - wanted[:, None]).argmin(1))]


def cut(
    base: Problem, rows: pd.DataFrame, train: np.ndarray, *, least: int = FEWEST, scored: int = SCORED, **changes: Any
) -> Problem | None:
    """Divide the rows of a curve, or return None where too little is left to fit or to forecast."""
    fitted, held = rows[train], rows[~train]
    inputs = base.inputs
    if len(inputs) == 1:
        x = fitted[inputs[0]]
        if x.nunique() < least or len(held) == 0 or x.max() < 2 * x.min():
            return None
        fitted, held = thin(fitted, inputs, FITTED), thin(held, inputs, scored)
    else:
        if len(fitted) < 6 or fitted[inputs[0]].nunique() < 3 or len(held) == 0:
            return None
        fitted, held = pick(fitted, FITTED_GRID), pick(held, SCORED_GRID)
    kept = [*inputs, "loss", *(["flops"] if "flops" in rows and len(inputs) > 1 else [])]
    kept += ["value_se"] if "value_se" in rows else []
    tables = {"train": fitted[kept].reset_index(drop=True), "held": held[kept].reset_index(drop=True)}
    return dataclasses.replace(base, **tables, **changes)


def pick(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """Keep at most `most` runs of a grid, chosen once and for all."""
    if len(rows) <= most:
        return rows
    chosen = np.random.default_rng(len(rows)).choice(len(rows), most, replace=False)
    return rows.iloc[np.sort(chosen)]


def curve(
    source: str, family: str, metric: str, rows: pd.DataFrame, name: str, group: str = "one input"
) -> tuple[Problem, pd.DataFrame]:
    """Return an empty problem and the curve's rows, sorted, one a scale."""
    table = rows[[name, "loss"]].astype(float)
    table = table[np.isfinite(table["loss"]) & (table["loss"] > 0) & (table[name] > 0)]
    table = table.groupby(name, as_index=False)["loss"].mean()
    empty = table.iloc[:0]
    return Problem(source, family, metric, group, "", (name,), empty, empty), table


def by_ratio(base: Problem, rows: pd.DataFrame, ratios: Sequence[int] = RATIOS) -> Iterator[Problem]:
    """Fit scales up to x_max / R, forecast what lies above."""
    x = scale(rows, base.inputs)
    for ratio in ratios if len(rows) else ():
        found = cut(base, rows, x <= x.max() / ratio * (1 + 1e-9), split=f"R={ratio}")
        if found is not None:
            yield found
    for ratio in FAR if len(rows) and base.group in ("one input", "lcdb") else ():
        far = dataclasses.replace(base, group="far")
        found = cut(far, rows, x <= x.max() / ratio * (1 + 1e-9), split=f"R={ratio}")
        if found is not None:
            yield found


def by_half(base: Problem, rows: pd.DataFrame) -> Iterator[Problem]:
    """Fit the smaller half of the points."""
    found = cut(base, rows, np.arange(len(rows)) < len(rows) // 2, split="half")
    if found is not None:
        yield found


def sparsified(base: Problem, rows: pd.DataFrame) -> Iterator[Problem]:
    """Fit few points of a long curve, spread over the same span, so that only their number changes."""
    half = len(rows) // 2
    if half < 20:
        return
    for count in SPARSE:
        few = thin(rows.iloc[:half], base.inputs, count)
        if len(few) != count:
            continue
        both = pd.concat([few, rows.iloc[half:]], ignore_index=True)
        found = cut(base, both, np.arange(len(both)) < count, group="sparsified", split=f"n={count}")
        if found is not None:
            yield found


def one_input(source: str, family: str, metric: str, rows: pd.DataFrame, name: str, sparse: bool = False) -> Any:
    """Every cut of a curve without a split of its own."""
    base, table = curve(source, family, metric, rows, name)
    yield from by_half(base, table)
    yield from by_ratio(base, table)
    if sparse:
        yield from sparsified(base, table)


def several_inputs(
    source: str, family: str, metric: str, rows: pd.DataFrame, inputs: tuple[str, ...], small: bool = True
) -> Iterator[Problem]:
    """Every cut of a grid: C_max / k, the largest size left out, and small designs."""
    kept = [*inputs, "loss", *(["flops"] if "flops" in rows else [])]
    table = rows[kept].astype(float)
    table = table[(table > 0).all(axis=1)].sort_values(kept, ignore_index=True)
    base = Problem(source, family, metric, "several inputs", "", inputs, table.iloc[:0], table.iloc[:0])
    compute, size = scale(table, inputs), table[inputs[0]].to_numpy()
    for factor in (*BUDGETS, *FAR_BUDGETS):
        train = compute <= compute.max() / factor * (1 + 1e-9)
        if table[inputs[0]][train].nunique() >= 4:
            group = "several inputs" if factor in BUDGETS else "far, several inputs"
            found = cut(dataclasses.replace(base, group=group), table, train, split=f"k={factor}")
            if found is not None:
                yield found
    found = cut(base, table, size < size.max(), split="largest")
    if found is not None:
        yield found
    if small and len(inputs) == 2:
        yield from small_designs(base, table)


def small_designs(base: Problem, rows: pd.DataFrame) -> Iterator[Problem]:
    """Draw small designs of 6 to 12 runs: three or four sizes, two to four budgets each; forecast 2 to 60 times C."""
    rng = np.random.default_rng(int(hashlib.sha256(base.key.encode()).hexdigest()[:8], 16))
    compute = scale(rows, base.inputs)
    made: set[tuple[int, ...]] = set()
    for _ in range(40 * DESIGNS):
        if len(made) == DESIGNS:
            return
        limit = compute.max() / rng.choice([4.0, 10.0, 30.0])
        below = rows[compute <= limit]
        sizes = below[base.inputs[0]].unique()
        if len(sizes) < 3:
            continue
        chosen: list[int] = []
        budgets = rng.integers(2, 5)
        for size in rng.choice(sizes, min(len(sizes), rng.integers(3, 5)), replace=False):
            own = below.index[below[base.inputs[0]] == size]
            chosen += list(rng.choice(own, min(len(own), budgets), replace=False))
        top = compute[chosen].max()
        held = np.flatnonzero((compute >= 2 * top) & (compute <= 60 * top))
        if not 6 <= len(chosen) <= 12 or len(held) < 3 or tuple(sorted(chosen)) in made:
            continue
        made.add(tuple(sorted(chosen)))
        order = [*sorted(chosen), *held]
        part = rows.iloc[order].reset_index(drop=True)
        train = np.arange(len(order)) < len(chosen)
        found = cut(base, part, train, group="small design", split=f"design {len(made)}")
        if found is not None:
            yield found
