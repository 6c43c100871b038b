"""Pairs of recipes: published families measured by the same metric at the same scales, cut into small and large runs.

A recipe is whatever was held fixed while a model grew: data set, architecture, router, precision. Both recipes of a
pair are fitted on runs below C_max / k and judged at the larger runs that both have. A held-out run is the outcome:
the recipe with the lower loss there is the better one.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from bayescale.corpus import builtin
from benchmarks.core.problems import METRICS, scale
from benchmarks.core.sources import table

FACTORS = (2, 3, 10, 30)
"""Compute beyond the fitted runs that is held out."""
FEWEST = 3
"""Fewest scales that both recipes have been measured at."""
SCORED = 6
"""Most held-out scales of a pair."""
ALIKE = 0.10
"""Largest difference of ln(size) at which two nominal sizes count as one."""
THINNED = {"image curves": 60}
"""Most pairs and cuts of a source, spread evenly."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two recipes, their small runs, and the larger ones by which to judge.

    Attributes:
        source: Where the runs were published.
        cluster: What counts once in averages over families: recipes of one paper that are judged by one another.
        first: Name of a recipe.
        second: Name of another.
        metric: What was measured.
        split: How much was held out: k=2 ... k=30.
        inputs: Scale inputs.
        a: Fitted runs of the first, columns of the inputs and loss.
        b: Fitted runs of the second.
        held: Larger scales that both have: inputs, loss_a and loss_b.
    """

    source: str
    cluster: str
    first: str
    second: str
    metric: str
    split: str
    inputs: tuple[str, ...]
    a: pd.DataFrame
    b: pd.DataFrame
    held: pd.DataFrame

    @property
    def key(self) -> str:
        """Name of the pair, unique in the benchmark."""
        return "|".join((self.source, self.cluster, self.first, self.second, self.metric, self.split))


def pairs(sources: Sequence[str] | None = None) -> list[Pair]:
    """Return every pair of the benchmark, or those of some sources, in a fixed order."""
    return [pair for name in sources or SOURCES for pair in thinned(list(SOURCES[name]()), THINNED.get(name))]


def thinned[T](found: list[T], most: int | None) -> list[T]:
    """Keep at most `most` pairs or questions, spread evenly."""
    if most is None or len(found) <= most:
        return found
    return [found[i] for i in np.linspace(0, len(found) - 1, most).astype(int)]


# --- Cutting ------------------------------------------------------------------------------------------------


def matched(a: pd.DataFrame, b: pd.DataFrame, inputs: Sequence[str]) -> list[tuple[int, int]]:
    """Rows of two recipes at the same scales, nearest first, none twice."""
    x, y = np.log(a[list(inputs)].to_numpy(float)), np.log(b[list(inputs)].to_numpy(float))
    gap = np.abs(x[:, None] - y[None]).max(-1)
    found: list[tuple[int, int]] = []
    for i, j in zip(*np.unravel_index(np.argsort(gap, axis=None, kind="stable"), gap.shape), strict=True):
        if gap[i, j] > ALIKE:
            break
        if all(i != p and j != q for p, q in found):
            found.append((int(i), int(j)))
    return sorted(found)


def cuts(
    source: str,
    cluster: str,
    metric: str,
    recipes: dict[str, pd.DataFrame],
    inputs: tuple[str, ...],
    factors: Sequence[float] = FACTORS,
) -> Iterator[Pair]:
    """Every pair of some recipes at every cut that leaves enough to fit and something to judge by."""
    for first, second in itertools.combinations(recipes, 2):
        a, b = (recipes[name][[*inputs, "loss"]].astype(float) for name in (first, second))
        a, b = (rows.sort_values(list(inputs), ignore_index=True) for rows in (a, b))
        common = matched(a, b, inputs)
        if len(common) < FEWEST + 1:
            continue
        both = pd.DataFrame(
            {name: [np.sqrt(a[name][i] * b[name][j]) for i, j in common] for name in inputs}
            | {"loss_a": [a["loss"][i] for i, _ in common], "loss_b": [b["loss"][j] for _, j in common]}
        )
        compute = scale(both, inputs)
        done: set[int] = set()
        for factor in factors:
            limit = compute.max() / factor * (1 + 1e-9)
            small = compute <= limit
            if small.sum() < FEWEST or small.all() or int(small.sum()) in done:
                continue
            done.add(int(small.sum()))
            # A recipe may have been measured at further small scales. Its own scale may be a little above the limit
            # where the mean of both is below; what is held out is not shown.
            asked = [common[i] for i in np.flatnonzero(~small)]
            fitted = [
                rows[(scale(rows, inputs) <= limit * (1 + ALIKE)) & ~rows.index.isin([match[side] for match in asked])]
                for side, rows in enumerate((a, b))
            ]
            kept = [*inputs, "loss"]
            held = both[~small & (both["loss_a"] != both["loss_b"])]
            if not len(held):
                continue
            yield Pair(
                *(source, cluster, first, second, metric, f"k={factor}", inputs),
                *(rows[kept].reset_index(drop=True) for rows in fitted),
                spread(held, inputs, SCORED).reset_index(drop=True),
            )


def spread(rows: pd.DataFrame, inputs: Sequence[str], most: int) -> pd.DataFrame:
    """Keep at most `most` rows, log-evenly in scale."""
    if len(rows) <= most:
        return rows
    x = np.log(scale(rows, tuple(inputs)))
    wanted = np.linspace(x.min(), x.max(), most)
    return rows.iloc[np.unique(np.abs(x[None, :] - wanted[:, None]).argmin(1))]


# --- Sources ------------------------------------------------------------------------------------------------


def overtrain() -> Iterator[Pair]:
    """Three pre-training data sets on one grid of parameters and tokens, judged on eight texts."""
    rows = table("overtrain")
    rows = rows[~rows["metric"].str.startswith("err_")]
    for metric, part in rows.groupby("metric", sort=False):
        recipes = {str(family): own for family, own in part.groupby("family", sort=False)}
        yield from cuts("overtrain", "data sets", str(metric), recipes, ("n_params", "n_tokens"), (3, 10, 30))


def attention_residual() -> Iterator[Pair]:
    """Four ways to connect layers, at the same five sizes and budgets."""
    recipes = {name: built_in(name, "val_loss") for name in ("baseline", "block", "full", "mhc_lite")}
    yield from cuts("attention residual", "layers", "val_loss", recipes, ("n_params",), (2, 1.5, 1.2))


def built_in(name: str, metric: str) -> pd.DataFrame:
    """Rows of a built-in family."""
    rows = builtin.published()
    family = f"attnres_{name}" if f"attnres_{name}" in set(rows["family"]) else name
    rows = rows[(rows["family"] == family) & (rows["metric"] == metric) & (rows["flag"] != "gross outlier as printed")]
    loss = np.log(rows["value"]) if metric.endswith("ppl") else rows["value"]
    # Accuracies are printed in percent.
    loss = 1.0 - 0.01 * loss if metric.endswith("acc") else loss
    return pd.DataFrame({"n_params": rows["n_params"].astype(float), "loss": loss.astype(float)})


def quantisation() -> Iterator[Pair]:
    """Ways to train in low precision, the same sizes and tokens per parameter."""
    recipes = {
        str(family).split("/")[-1] + "/" + str(family).split("/")[0]: rows.groupby("n_params_nonembed", as_index=False)[
            "loss"
        ].mean()
        for family, rows in table("quest_quant").groupby("family", sort=False)
    }
    yield from cuts("quantisation", "quantisers", "c4_val_loss", recipes, ("n_params_nonembed",), (2, 3))


def image_curves() -> Iterator[Pair]:
    """Six image models by training examples, judged by their error from few shots; dense curves, thinned."""
    rows = table("alabdulmohsin2022")
    rows = rows[rows["family"].str.startswith("IC|")]
    for task, part in rows.groupby("task", sort=False):
        recipes = {}
        for model, own in part.groupby("model", sort=False):
            own = own.groupby("n_samples", as_index=False)["loss"].mean()
            recipes[str(model)] = spread(own, ("n_samples",), 24)
        yield from cuts("image curves", str(task), "error", recipes, ("n_samples",), (3, 10))


def ternary() -> Iterator[Pair]:
    """Ternary against ordinary weights at nine sizes."""
    recipes = {name: built_in(f"spectra_{name}", "lambada_ppl") for name in ("floatlm", "trilm")}
    yield from cuts("ternary weights", "weights", "lambada_ppl", recipes, ("n_params",), (3, 10))


def gemstones() -> Iterator[Pair]:
    """Shapes of about the same size by training tokens."""
    rows = table("gemstones")
    rows = rows[rows["family"] == "gemstones_cool"]
    sizes = rows.groupby("run")["n_params"].first().sort_values()
    groups: list[list[str]] = [[]]
    for name, size in sizes.items():
        if groups[-1] and size > 1.25 * sizes[groups[-1][0]]:
            groups.append([])
        groups[-1].append(str(name))
    for members in groups:
        recipes = {name: rows[rows["run"] == name] for name in members}
        cluster = f"{np.median([sizes[name] for name in members]):.2g} parameters"
        yield from cuts("gemstones", cluster, "dolma_val_loss", recipes, ("n_tokens",), (2, 3))


def state_space() -> Iterator[Pair]:
    """State-space models, a recurrent one and a transformer at the sizes of one table."""
    for metric in ("pile_val_ppl", "lambada_ppl", "lambada_acc", "zero_shot_avg_acc"):
        recipes = {
            name: built_in(name, metric) for name in ("mamba", "mamba2", "pythia_mamba2tab", "rwkv4", "hybrid_h3")
        }
        recipes = {name: rows for name, rows in recipes.items() if len(rows)}
        yield from cuts("state space", "Mamba-2 table", metric, recipes, ("n_params",), (2, 3, 10))


def routing() -> Iterator[Pair]:
    """Three routers and the dense model by active parameters, at each number of experts."""
    rows = table("routing")
    rows = rows[rows["is_final"] == 1]
    for metric in list(rows["metric"].unique())[:METRICS]:
        own = rows[rows["metric"] == metric]
        mean = own.groupby(["family", "n_experts", "n_params_active"], as_index=False)["loss"].mean()
        dense = mean[mean["family"] == "Dense"]
        for experts in sorted(set(mean["n_experts"]) - {1}):
            recipes = {name: mean[(mean["family"] == name) & (mean["n_experts"] == experts)] for name in ROUTERS}
            recipes["Dense"] = dense
            yield from cuts("routing", f"{experts} experts", str(metric), recipes, ("n_params_active",), (3, 10))


ROUTERS = ("S-Base", "RL-R", "Hash")
SOURCES: dict[str, Callable[[], Iterator[Pair]]] = {
    "overtrain": overtrain,
    "attention residual": attention_residual,
    "quantisation": quantisation,
    "image curves": image_curves,
    "ternary weights": ternary,
    "gemstones": gemstones,
    "state space": state_space,
    "routing": routing,
}
"""What yields the pairs of each source."""
