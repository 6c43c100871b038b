"""Sources: published collections of families, each with a reader that cuts its families into problems.

A source is read from the package's corpus; rows that upstream or our readers flag as unfit are left out.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from bayescale import corpus
from benchmarks.core.problems import (
    METRICS,
    PUBLISHED,
    Problem,
    by_half,
    by_ratio,
    curve,
    cut,
    one_input,
    rises,
    several_inputs,
    sparsified,
)

LCDB_CURVES = 1200
ERROR_CURVES = 200
"""LCDB curves that are fitted with their standard errors as well."""
CLIP = (
    "imagenet1k|acc1",
    "vtab/cifar100|acc1",
    "objectnet|acc1",
    "imagenet_sketch|acc1",
    "mscoco_captions|image_retrieval_recall@5",
)
"""Scores of CLIP models on sets that differ; averages over sets would count theirs twice."""
UNFIT = "diverged|suspect|SUSPECT|duplicate of|over 40 epochs|extreme-outlier"
"""Flags of rows that no falling law describes."""


# --- Sources with one input ---------------------------------------------------------------------------------


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


def rl_value_scaling() -> Iterator[Problem]:
    """Steps to a return against updates per step at each size of the critic.

    Upstream's FLOPs follow from the steps, so they are no input. Sizes are four, too few to fit and forecast.
    """
    for (family, size), rows in table("rl_value_scaling").groupby(["family", "n_params"], sort=False):
        name = f"{family}/{size:.3g} parameters"
        base, points = curve("rl_value_scaling", name, "env_steps_to_threshold", rows, "utd")
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


def farseer() -> Iterator[Problem]:
    """The grid of sizes by tokens, with the split of its copy and every other one."""
    rows, inputs = table("farseer"), ("n_params", "n_tokens")
    points = rows[[*inputs, "loss", "flops"]].astype(float)
    base = Problem("farseer", "farseer", "val_bpc", "several inputs", "", inputs, points.iloc[:0], points.iloc[:0])
    found = cut(base, points, (rows["upstream_split"] == "train").to_numpy(), split="published")
    if found is not None:
        yield found
    yield from several_inputs("farseer", "farseer", "val_bpc", rows, inputs)


def il_games() -> Iterator[Problem]:
    """Losses of imitated players at FLOP budgets, a game each; NetHack's points are checkpoints."""
    rows = table("il_games")
    rows = rows[(rows["metric"] == "bc_eval_loss") & rows["flops"].notna()]
    for family, part in rows.groupby("family", sort=False):
        yield from several_inputs("il_games", str(family), "bc_eval_loss", part, ("n_params", "n_samples"))


def openclip_scaling() -> Iterator[Problem]:
    """Zero-shot errors against samples seen and parameters, for each training set.

    Samples come first, because a training set has three to five sizes and the largest ones were trained once.
    """
    rows = table("openclip_scaling")
    rows = rows[rows["family"] == "openclip"].assign(loss=lambda rows: 1 - rows["value"])
    for metric in CLIP:
        for data, part in rows[rows["metric"] == metric].groupby("dataset", sort=False):
            yield from several_inputs("openclip_scaling", str(data), metric, part, ("n_samples", "n_params"))


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
    "rl_value_scaling": rl_value_scaling,
    "lcdb": lcdb,
    "overtrain": overtrain,
    "epoch_chinchilla": epoch_chinchilla,
    "gemstones": gemstones,
    "datablations": datablations,
    "routing grids": routing_grids,
    "steplaw": steplaw,
    "farseer": farseer,
    "il_games": il_games,
    "openclip_scaling": openclip_scaling,
    "stress": stress,
    "replicates": replicates,
    "known errors": known_errors,
}
"""What yields the problems of each source."""


def problems(sources: Sequence[str] | None = None) -> list[Problem]:
    """Return every problem of the benchmark, or those of some sources, in a fixed order.

    Args:
        sources: Names in `SOURCES`; all by default.
    """
    return [problem for name in sources or SOURCES for problem in SOURCES[name]()]
