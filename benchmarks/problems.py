"""Problems: published families, each cut into runs to fit and larger runs to forecast.

The unit of weight is the family; at most five metrics of a family count. A held-out run informs nothing about the
training part: neither its range of scales nor its noise. Dense curves are thinned log-evenly before they are fitted,
because neighbouring checkpoints of one run say the same thing twice. Standard errors that upstream states are left
out: they come from tokens or questions that all runs of a family share, so they are not scatter between runs.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayescale import corpus
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
LCDB_CURVES = 1200
ERROR_CURVES = 200
"""LCDB curves that are fitted with their standard errors as well."""
DESIGNS = 12
"""Small designs drawn from each grid."""

DEVELOPMENT = ("alabdulmohsin2022", "nslpfn_colpret", "overtrain", "epoch_chinchilla", "gemstones", "lcdb odd")
"""Sources on which the default was tuned; others are left out, but for what `docs/calibration.md` names."""
UNFIT = "diverged|suspect|SUSPECT|duplicate of|over 40 epochs|extreme-outlier"
"""Flags of rows that no falling law describes."""


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


def problems(sources: Sequence[str] | None = None) -> list[Problem]:
    """Return every problem of the benchmark, or those of some sources, in a fixed order.

    Args:
        sources: Names in `SOURCES`; all by default.
    """
    return [problem for name in sources or SOURCES for problem in SOURCES[name]()]


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


# --- Sources with one input ---------------------------------------------------------------------------------


def rises(loss: np.ndarray) -> bool:
    """Whether a curve, in order of its input, rises again: two neighbours above its lowest loss so far by 5 %.

    In percent of the range of ln(loss). Unlike `check()` this sees the held-out points, and does not ask about scatter.
    """
    y = np.log(loss)
    return len(y) > 1 and bool(rise(y) > 0.05 * np.ptp(y))


def falling(rows: pd.DataFrame) -> pd.DataFrame:
    """Leave out rows flagged as unfit, and call the value a loss."""
    # A column without any flag is read as numbers.
    flag = rows["flag"].astype(object).fillna("").astype(str) if "flag" in rows else pd.Series("", index=rows.index)
    return rows[~flag.str.contains(UNFIT)].assign(loss=rows["value"])


@functools.cache
def table(name: str) -> pd.DataFrame:
    """Rows of one source, without those that no falling law describes."""
    return falling(corpus.frame(name))


def alabdulmohsin2022() -> Iterator[Problem]:
    """Learning curves with their authors' own split, and ratios."""
    for family, rows in table("alabdulmohsin2022").groupby("family", sort=False):
        base, points = curve("alabdulmohsin2022", str(family), str(rows["metric"].iloc[0]), rows, "n_samples")
        fitted = set(rows.loc[rows["upstream_split"] == "fit", "n_samples"])
        found = cut(base, points, points["n_samples"].isin(fitted).to_numpy(), scored=PUBLISHED, split="published")
        if found is not None:
            yield found
        yield from by_ratio(base, points)
        yield from sparsified(base, points)


def nslpfn_colpret() -> Iterator[Problem]:
    """Training curves over tokens; perplexities become losses."""
    for family, rows in table("nslpfn_colpret").groupby("family", sort=False):
        if (rows["flag"] == "perplexity, not nats").any():
            rows = rows.assign(loss=np.log(rows["loss"]))
        yield from one_input("nslpfn_colpret", str(family), "loss", rows, "n_tokens", sparse=True)


def finetune_rectified() -> Iterator[Problem]:
    """Fine-tuning curves without their point at zero examples."""
    for family, rows in table("finetune_rectified").groupby("family", sort=False):
        yield from one_input("finetune_rectified", str(family), "test_loss", rows[rows["n_samples"] > 0], "n_samples")


def printed_figures() -> Iterator[Problem]:
    """Built-in curves of one input, losses and error rates."""
    seen: dict[str, int] = {}
    for name, runs in corpus.curves(losses_only=False).items():
        family, metric = name.split("/", 1)
        seen[family] = seen.get(family, 0) + 1
        if seen[family] <= METRICS and len(runs.inputs) == 1:
            base, points = curve("printed figures", family, metric, runs.frame, runs.inputs[0])
            yield from by_ratio(base, points)
            found = cut(base, points, np.arange(len(points)) < len(points) - 1, split="largest")
            if found is not None:
                yield found


def multipowerlaw() -> Iterator[Problem]:
    """Training curves at a constant learning rate; under a schedule the end of a run is another phenomenon."""
    rows = table("multipowerlaw")
    rows = rows[rows["schedule"] == "constant"]
    for (family, run), part in rows.groupby(["family", "run"], sort=False):
        yield from one_input("multipowerlaw", f"{family}/{run}", "train_loss", part, "step", sparse=True)


def coverage() -> Iterator[Problem]:
    """-ln of the pass rate against attempts, for the set sampled without adaptive stopping."""
    rows = table("coverage")
    rows = rows[rows["family"] == "monkeys-original|MATH"]
    rows = rows.assign(label=rows["run"].astype(str).str.replace(r"\|k\d+$", "", regex=True))
    rows = rows[(rows["value"] > 0) & (rows["value"] < 1)]
    for label, part in rows.groupby("label", sort=False):
        part = part.assign(loss=-np.log(part["value"]))
        yield from one_input("coverage", str(label), "-ln pass@k", part, "n_attempts")


def leaderboards(source: str) -> Iterator[Problem]:
    """Benchmark errors of one recipe against training compute, for recipes of six sizes or more."""
    rows = table(source)
    if "instruct" in rows:
        rows = rows[~rows["instruct"].astype(bool)]
    rows = rows[rows["value"].between(0, 1, inclusive="neither")].assign(loss=1 - rows["value"])
    for family, part in rows.groupby("family", sort=False):
        usable = [metric for metric, points in part.groupby("metric", sort=False) if points["flops"].nunique() >= 6]
        for metric in usable[:METRICS]:
            base, points = curve(source, str(family), str(metric), part[part["metric"] == metric], "flops")
            yield from by_ratio(base, points)


def routing_curves() -> Iterator[Problem]:
    """Loss against active parameters for each router and number of experts."""
    rows = table("routing")
    rows = rows[(rows["is_final"] == 1) & rows["family"].isin(["Dense", "S-Base", "RL-R", "Hash"])]
    for (family, experts), part in rows.groupby(["family", "n_experts"], sort=False):
        for metric in list(part["metric"].unique())[:METRICS]:
            own = part[part["metric"] == metric]
            name = f"{family}/{experts} experts"
            base, points = curve("routing", name, str(metric), own, "n_params_active")
            yield from by_ratio(base, points, (2, 4))
            found = cut(base, points, np.arange(len(points)) < len(points) - 1, split="largest")
            if found is not None:
                yield found


def quest_quant() -> Iterator[Problem]:
    """Loss against parameters of models trained in low precision; tokens grow with parameters."""
    for family, rows in table("quest_quant").groupby("family", sort=False):
        base, points = curve("quest_quant", str(family), "c4_val_loss", rows, "n_params_nonembed")
        yield from by_ratio(base, points, (2, 4))
        found = cut(base, points, np.arange(len(points)) < len(points) - 1, split="largest")
        if found is not None:
            yield found


def lcdb() -> Iterator[Problem]:
    """Learning curves of 20 learners on 246 data sets; a fixed draw of them, spread over data sets.

    Data sets with odd numbers were used for development, those with even numbers were not.
    """
    rows = corpus.frame("lcdb")
    curves = rows[["family", "metric"]].drop_duplicates().reset_index(drop=True)
    order = [hashlib.sha256(f"{f}|{m}".encode()).hexdigest() for f, m in curves.itertuples(index=False)]
    curves = curves.assign(order=order).sort_values("order")
    dataset = curves["family"].str.split("/").str[0]
    turn = curves.groupby(dataset)["order"].rank()
    chosen = curves.assign(turn=turn).sort_values(["turn", "order"]).head(LCDB_CURVES)
    groups = dict(iter(rows.groupby(["family", "metric"], sort=False)))
    for family, metric in chosen[["family", "metric"]].itertuples(index=False):
        number = int(str(family).split("/")[0])
        source = "lcdb odd" if number % 2 else "lcdb even"
        own = groups[family, metric].assign(loss=groups[family, metric]["value"])
        base, points = curve(source, family, metric, own, "n_samples", "lcdb")
        # The floor of an error rate that is zero on the test set is no number on the log scale.
        points = points[points["loss"] > 1e-4]
        yield from by_half(base, points)
        yield from by_ratio(base, points, (4,))


# --- Sources with several inputs ----------------------------------------------------------------------------


def overtrain() -> Iterator[Problem]:
    """Parameters-by-tokens grids of three data sets, five losses each."""
    rows = table("overtrain")
    rows = rows[~rows["metric"].str.startswith("err_")]
    for family, part in rows.groupby("family", sort=False):
        for metric in list(part["metric"].unique())[:METRICS]:
            own = part[part["metric"] == metric]
            yield from several_inputs("overtrain", str(family), str(metric), own, ("n_params", "n_tokens"))


def epoch_chinchilla() -> Iterator[Problem]:
    """The digitised Chinchilla runs."""
    rows = table("epoch_chinchilla")
    yield from several_inputs("epoch_chinchilla", "chinchilla", "loss", rows, ("n_params", "n_tokens"))


def gemstones() -> Iterator[Problem]:
    """Runs that followed a cool-down; every one counts as a run of its own."""
    rows = table("gemstones")
    rows = rows[rows["family"] == "gemstones_cool"]
    yield from several_inputs("gemstones", "gemstones_cool", "dolma_val_loss", rows, ("n_params", "n_tokens"))


def datablations() -> Iterator[Problem]:
    """Runs of at most four epochs against parameters and tokens, and repeated data with unique tokens as an input."""
    rows = table("datablations")
    rows = rows[(rows["is_final"].astype(bool)) & (rows["family"] == "datablations_c4_contour")]
    few = rows[rows["epochs"] <= 4]
    inputs = ("n_params", "n_tokens")
    yield from several_inputs("datablations", "at most 4 epochs", "c4_val_loss", few, inputs)
    repeated = rows[(rows["epochs"] <= 40) & rows["unique_tokens"].notna()]
    inputs = ("n_params", "n_tokens", "unique_tokens")
    yield from several_inputs("datablations", "up to 40 epochs", "c4_val_loss", repeated, inputs)


def routing_grids() -> Iterator[Problem]:
    """Loss against active parameters and experts, for three routers."""
    rows = table("routing")
    rows = rows[rows["is_final"] == 1]
    for family in ("S-Base", "RL-R", "Hash"):
        part = rows[(rows["family"] == family) & (rows["n_experts"] > 1)]
        for metric in list(part["metric"].unique())[:METRICS]:
            own = part[part["metric"] == metric].drop(columns="flops")
            own = own.groupby(["n_params_active", "n_experts"], as_index=False)["loss"].mean()
            yield from several_inputs(
                "routing", f"{family} grid", str(metric), own, ("n_params_active", "n_experts"), small=False
            )


def steplaw() -> Iterator[Problem]:
    """The best loss of each size and token budget over learning rates and batch sizes."""
    for family, rows in table("steplaw").groupby("family", sort=False):
        best = rows.groupby(["n_params_nonembed", "n_tokens"], as_index=False)["loss"].min()
        if len(best) >= 12:
            inputs = ("n_params_nonembed", "n_tokens")
            yield from several_inputs("steplaw", str(family), "smooth_loss", best, inputs)


# --- Families that no falling law describes -----------------------------------------------------------------


def stress() -> Iterator[Problem]:
    """Double descent, and losses that rise again under too many epochs: `check()` has to say so."""
    for (family, metric), rows in table("double_descent").groupby(["family", "metric"], sort=False):
        name = "width" if rows["width"].nunique() > 1 else "n_samples"
        base, points = curve("double_descent", str(family), str(metric), rows, name, "stress")
        # Some of its measures fall throughout.
        if rises(points["loss"].to_numpy()):
            yield from by_half(base, points)
            yield from by_ratio(base, points, (4,))
    rows = corpus.frame("datablations").assign(loss=lambda rows: rows["value"])
    rows = rows[(rows["family"] == "datablations_c4_contour") & rows["is_final"].astype(bool)]
    for (size, unique), part in rows.groupby(["n_params", "unique_tokens"], sort=True):
        if part["epochs"].max() > 40:
            name = f"{size:.3g} parameters, {unique:.3g} tokens"
            base, points = curve("repeated data", name, "c4_val_loss", part, "n_tokens", "stress")
            for problem in by_half(base, points):
                yield dataclasses.replace(problem, train=problem.train.assign(unique_tokens=unique))


# --- Designs with replicates and with known standard errors --------------------------------------------------


def replicates() -> Iterator[Problem]:
    """Designs in which settings were run with several seeds."""
    rows = table("routing")
    rows = rows[(rows["is_final"] == 1) & rows["seed"].notna()]
    repeated = rows.groupby(["family", "n_experts", "metric"])["seed"].transform("nunique") > 1
    for (family, experts), part in rows[repeated].groupby(["family", "n_experts"], sort=False):
        for metric in list(part["metric"].unique())[:METRICS]:
            own = part[part["metric"] == metric].rename(columns={"n_params_active": "n_active"})
            yield from with_rows("routing", f"{family}/{experts} experts", str(metric), own, "n_active")
    rows = table("datablations")
    rows = rows[rows["is_final"].astype(bool) & rows["seed"].notna()]
    for (family, size), part in rows.groupby(["family", "n_params"], sort=False):
        # All runs of a size have as many tokens, of which more or fewer are different ones.
        yield from with_rows("datablations", f"{family}/{size:.3g} parameters", "c4_val_loss", part, "unique_tokens")


def known_errors() -> Iterator[Problem]:
    """Curves whose every measurement has a standard error of its own: benchmark errors, pass rates, learning curves."""
    for name in ("spectra_floatlm", "spectra_trilm"):
        rows = corpus.frame(name)
        for metric, part in rows.groupby("metric", sort=False):
            part = part.assign(loss=part["value"])
            if not part["lower_is_better"].astype(bool).any():
                part = part.assign(loss=1.0 - part["value"] / 100.0, value_se=part["value_se"] / 100.0)
            yield from with_rows(name, name, str(metric), part, "n_params")
    rows = corpus.frame("lcdb")
    names = rows[["family", "metric"]].drop_duplicates().reset_index(drop=True)
    order = [hashlib.sha256(f"{f}|{m}|se".encode()).hexdigest() for f, m in names.itertuples(index=False)]
    names = names.assign(order=order).sort_values("order").head(ERROR_CURVES)
    groups = dict(iter(rows.groupby(["family", "metric"], sort=False)))
    for family, metric in names[["family", "metric"]].itertuples(index=False):
        part = groups[family, metric]
        part = part[(part["value"] > 1e-4) & (part["value_se"] > 0)]
        source = "lcdb odd" if int(str(family).split("/")[0]) % 2 else "lcdb even"
        yield from with_rows(source, str(family), str(metric), part.assign(loss=part["value"]), "n_samples")


def with_rows(source: str, family: str, metric: str, rows: pd.DataFrame, name: str) -> Iterator[Problem]:
    """Cut a curve whose rows stay apart: seeds of one size, or measurements with their standard errors."""
    errors = "value_se" in rows and bool(rows["value_se"].notna().all())
    own = rows[[name, "loss", *(["value_se"] if errors else [])]].astype(float)
    own = own[np.isfinite(own["loss"]) & (own["loss"] > 0) & (own[name] > 0)].sort_values(name, ignore_index=True)
    base, _ = curve(source, family, metric, rows, name, "known errors" if errors else "replicates")
    yield from by_ratio(base, own, (2, 4, 8))


SOURCES: dict[str, Callable[[], Iterator[Problem]]] = {
    "alabdulmohsin2022": alabdulmohsin2022,
    "nslpfn_colpret": nslpfn_colpret,
    "finetune_rectified": finetune_rectified,
    "printed figures": printed_figures,
    "multipowerlaw": multipowerlaw,
    "coverage": coverage,
    "obs_scaling": functools.partial(leaderboards, "obs_scaling"),
    "sloth": functools.partial(leaderboards, "sloth"),
    "routing": routing_curves,
    "quest_quant": quest_quant,
    "lcdb": lcdb,
    "overtrain": overtrain,
    "epoch_chinchilla": epoch_chinchilla,
    "gemstones": gemstones,
    "datablations": datablations,
    "routing grids": routing_grids,
    "steplaw": steplaw,
    "stress": stress,
    "replicates": replicates,
    "known errors": known_errors,
}
"""What yields the problems of each source."""
