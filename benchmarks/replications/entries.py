"""Published data that laws are fitted to again: which rows, which constants stand beside them, what is held out."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bayescale import corpus
from bayescale.laws.catalogue.schedule import LAST, PEAK, WARMUP, cosine, held, multi_power
from bayescale.laws.law import Law
from bayescale.laws.priors import Level
from bayescale.laws.registry import LAWS, register_law

ROWS = 100
"""Most rows of a fit."""
STREAMS_FILE = "BAYESCALE_PARSCALE"
"""Environment variable that names a table of the runs with parallel streams, which no public file holds."""


class Source(NamedTuple):
    """One set of constants in the registry, and what its constants are called in the fitted law."""

    law: str
    key: str
    names: tuple[tuple[str, str], ...] = ()

    def constants(self) -> dict[str, float]:
        """Constants by the fitted law's names."""
        known = dict(next(found for found in LAWS[self.law].sources if found.key == self.key).constants)
        return {new: known[old] for old, new in self.names} if self.names else known


class Refit(NamedTuple):
    """Another fit of a law by minimisation, to see why constants differ."""

    name: str
    table: Callable[[], pd.DataFrame]
    linear: bool = False
    """Whether residuals are those of the loss; otherwise those of its logarithm."""
    huber: float = np.inf
    """Where Huber's loss turns from squares to absolute values."""


class Entry(NamedTuple):
    """A law and the data that it is fitted to."""

    title: str
    law: str
    """Name of the law in the catalogue."""
    rows: str
    """Which rows are used, as the page says it."""
    ahead: str
    """Which of them are held out to be forecast."""
    axis: str
    """Input on the picture's axis."""
    table: Callable[[], pd.DataFrame]
    """The law's inputs, loss, and whether a row is held out (`held`); `curve` where each has a fit of its own."""
    sources: tuple[Source, ...] = ()
    intervals: tuple[tuple[str, float, float], ...] = ()
    """95 % intervals that the source states for its constants."""
    build: Callable[[], Law] | None = None
    """Makes the law, where the registered one does not serve."""
    refit: bool = True
    """Whether constants come from all rows; otherwise from those that are not held out."""
    robust: bool = False
    """Whether the paper's estimator is robust: fit all runs, and also with Student-t noise."""
    checkpoints: bool = False
    """Whether rows are checkpoints that share the seed of their run (`run` of the table), with discrepancy on."""
    remark: str = ""
    """What a look at the deviations showed."""
    refits: tuple[Refit, ...] = ()
    """Fits by minimisation that stand beside the posterior."""


# --- Rows ----------------------------------------------------------------------------------------------------


def clean(source: str, metric: str | None = None, family: str | None = None) -> pd.DataFrame:
    """Rows of a source without those that are flagged as unfit for a falling law, the response called loss."""
    rows = corpus.frame(source)
    # Marks that only describe a row do not disqualify it.
    bad = rows["flag"].astype("string").str.contains("diverged|duplicate of|over 40|extreme|zero-shot|untrained|FP4")
    keep = ~bad.fillna(False).astype(bool)
    keep &= rows["metric"] == metric if metric else True
    keep &= rows["family"] == family if family else True
    return rows[keep].rename(columns={"value": "loss"})


def thin(rows: pd.DataFrame, most: int = ROWS) -> pd.DataFrame:
    """Draw at most so many rows at random, always the same ones."""
    return rows if len(rows) <= most else rows.sample(most, random_state=0).sort_index()


def above(rows: pd.DataFrame, ratio: float) -> pd.DataFrame:
    """Hold out the runs within a factor of the largest compute."""
    flops = 6.0 * rows["n_params"] * rows["n_tokens"] if "flops" not in rows else rows["flops"]
    return rows.assign(held=flops > flops.max() / ratio)


def chinchilla_runs() -> pd.DataFrame:
    """Runs read off a figure."""
    return above(clean("epoch_chinchilla"), 10.0)


def repeated_runs(fewest: float = 0.0) -> pd.DataFrame:
    """Runs on repeated data, at most 40 epochs and at least so many different tokens; configurations are averaged."""
    rows = clean("datablations", "c4_val_loss", "datablations_c4_contour")
    rows = rows.groupby(["n_params", "n_tokens", "unique_tokens"], as_index=False)["loss"].mean()
    rows = rows[rows["unique_tokens"] >= fewest]
    return rows.assign(held=rows["n_tokens"] / rows["unique_tokens"] > 4.01)


def repetition_alone() -> Law:
    """The law of repeated data with its published base up to a factor, as the paper fitted R_D and R_N."""
    law = LAWS["data_constrained"]
    base = {name: value for name, value in law.sources[0].constants if not name.startswith("R_")}
    priors = {"level": Level(), "R_D": law.priors["R_D"], "R_N": law.priors["R_N"]}

    @register_law(name="repetition_alone", inputs=law.inputs, priors=priors, scales=dict.fromkeys(law.inputs, ""))
    def alone(N: Any, D: Any, U: Any, *, level: Any, R_D: Any, R_N: Any) -> Any:
        """Repeated data with all constants fixed but a common factor and the worth of repetitions."""
        return level * law.curve(N, D, U, R_D=R_D, R_N=R_N, **base)

    return LAWS.pop("repetition_alone")


def stream_runs(corpus_name: str) -> pd.DataFrame:
    """Runs with parallel streams on one corpus."""
    rows = pd.read_csv(os.environ[STREAMS_FILE]).rename(columns={"n_params_nonembed": "n_params", "value": "loss"})
    rows = rows[rows["family"] == corpus_name]
    return rows.assign(held=rows["n_params"] > 2e9)


def routed_runs(router: str, largest: float = 1e9) -> pd.DataFrame:
    """Final losses of one router and of the dense models; larger models than that are held out."""
    rows = clean("routing", "loss_validation").drop(columns="n_params")
    rows = rows[rows["is_final"].astype(bool) & rows["family"].isin([router, "Dense"]) & (rows["seed"] == 42)]
    rows = rows.rename(columns={"n_params_active": "n_params"})
    return rows.assign(held=rows["n_params"] > largest)


def vocabulary_runs() -> pd.DataFrame:
    """Checkpoints of runs with several vocabularies, as e to the normalised loss."""
    rows = clean("vocab").rename(columns={"n_params_nonembed": "n_params"})
    rows = rows[rows["n_chars"] >= 0.25 * rows.groupby("run")["n_chars"].transform("max")]
    return rows.assign(loss=np.exp(rows["loss"]), held=rows["n_params"] > 1e9)


def overtrained_runs(family: str) -> pd.DataFrame:
    """Runs of one training set with 20 tokens a parameter or more."""
    rows = clean("overtrain", "c4_val_loss", family)
    rows = rows.assign(tokens_per_param=rows["n_tokens"] / rows["n_params"])
    return above(rows[rows["tokens_per_param"] > 19.0], 10.0)


def five_runs(family: str) -> pd.DataFrame:
    """The authors' choice: the four smallest models at 20 tokens a parameter, the smallest also at 320."""
    rows = overtrained_runs(family)
    size, ratio = rows["n_params"].rank(method="dense"), rows["tokens_per_param"].round()
    return rows[((size <= 4) & (ratio == 20)) | ((size == 1) & (ratio == 320))]


def swept_runs() -> pd.DataFrame:
    """Runs of dense sweeps over rate and batch whose loss is within 2 % of the best of their sweep."""
    rows = clean("steplaw", family="dense").rename(columns={"n_params_nonembed": "n_params"})
    rows = rows[rows["loss"] < 1.02 * rows.groupby("slice")["loss"].transform("min")]
    return above(rows, 3.0)


def shaped_runs() -> pd.DataFrame:
    """Cooled-down checkpoints of models of many shapes."""
    return above(clean("gemstones", "dolma_val_loss", "gemstones_cool"), 10.0)


def quantised_runs() -> pd.DataFrame:
    """Runs in 2, 3, 4 and 16 bits."""
    rows = clean("quest_quant").rename(columns={"n_params_nonembed": "n_params"})
    rows = rows[rows["family"].str.match(r"(NoQuantizer/|HadamardTrustQuantizer/)")]
    return rows.assign(bits_cache=16.0, held=rows["n_params"] > 4e8)


def tuned_runs() -> pd.DataFrame:
    """Losses after fine-tuning on more and more examples: 30 models on three tasks."""
    rows = clean("finetune_rectified").assign(curve=lambda rows: rows["family"])
    return rows.assign(held=rows["n_samples"] > rows["n_samples"].max() / 16.0)


# --- Schedules -----------------------------------------------------------------------------------------------

FITTED = ("constant_24000", "cosine_24000", "wsdcon_9")
UNSEEN = ("constant_72000", "cosine_72000", "wsd_20000_24000", "wsdld_20000_24000", "wsdcon_3", "wsdcon_18")
FITTED_STEPS, UNSEEN_STEPS = 17, 33
"""Steps of a curve; rows that share a seed cost matrices, and neighbouring checkpoints say nearly the same."""


def schedule(name: str) -> np.ndarray:
    """Learning rate of every step, from the file's name; agrees with the rates in the files to 5e-12."""
    kind, *numbers = name.split("_")
    warm = PEAK * np.arange(WARMUP) / WARMUP
    if kind == "constant":
        after = np.full(int(numbers[0]) - WARMUP, PEAK)
    elif kind == "cosine":
        after = cosine(int(numbers[0]), PEAK, LAST, WARMUP)[WARMUP:]
    elif kind == "wsdcon":
        after = np.repeat([PEAK, int(numbers[0]) * 1e-5], [8000 - WARMUP, 8000])
    else:
        start, end = map(int, numbers)
        turn = np.arange(end - start) / (end - start)
        falling = PEAK * (LAST / PEAK) ** turn if kind == "wsd" else PEAK + (LAST - PEAK) * turn
        after = np.concatenate([np.full(start - WARMUP, PEAK), falling])
    return np.concatenate([warm, after])


def scheduled_runs(size: str) -> pd.DataFrame:
    """Some steps of each curve under a schedule that is fitted, and of each under an unseen one."""
    rows = clean("multipowerlaw", family=size)
    parts = []
    for number, name in enumerate((*FITTED, *UNSEEN), 1):
        curve, unseen = rows[rows["run"] == name], name in UNSEEN
        steps = UNSEEN_STEPS if unseen else FITTED_STEPS
        picks = np.unique(np.linspace(0, len(curve) - 1, steps).round().astype(int))
        part = curve.iloc[picks][["step", "loss"]].astype(float)
        parts.append(part.assign(schedule=float(number), run=name, held=unseen))
    return pd.concat(parts, ignore_index=True)


def scheduled_law() -> Law:
    """Multi-power law of the nine schedules."""
    rates = [schedule(name) for name in (*FITTED, *UNSEEN)]
    multi_power([np.concatenate([held(r[:WARMUP], 20), held(r[WARMUP:], 80)]) for r in rates], "nine_schedules")
    return LAWS.pop("nine_schedules")


# --- Entries -------------------------------------------------------------------------------------------------

REMARKS = {
    "chinchilla": "The published refit minimises Huber's loss with its corner at a thousandth, in effect "
    "absolute deviations. Student-t noise is the counterpart here and gives its constants back; normal noise "
    "listens to a few strays, which raise `B` and `beta`. With discrepancy on, floor and exponents trade against "
    "the discrepancy and say little, which is what the wider bands are made of.",
    "repetition": "`R_D` is hardly determined. Least squares of the same law gives anything from single "
    "digits to no decay at all, depending on which small runs are left in, so this is the data and not the "
    "sampler. On 1e8 different tokens models are so large for their data that no constants of this law "
    "describe the runs. With discrepancy on the interval of `R_D` lies below the published value whatever the data: "
    "repetitions are worth less when the rest of the law may bend.",
    "repetition-larger": "The published base constants predict these losses too low by a nearly constant "
    "factor, hence other `A`, `B` and `E`. With discrepancy off and normal noise the fit of all rows ends in a "
    "corner where "
    "`B` vanishes and says so; begun with other random numbers (seeds 1 and 2, by hand) it converges, with `R_D` at 17 "
    "and `E`, `A` and `B` near those with Student-t noise. The median of the prior of `R_D` is near the published "
    "value, which these posteriors stay around.",
    "repetition-fixed": "The paper fits `R_D` and `R_N` to a base law that it holds fixed; done the same way, "
    "with a free common factor, both come out as published while the law is trusted. With discrepancy on, "
    "repetitions are worth less: the discrepancy over different tokens can explain part of what a base law "
    "explains.",
    "streams-pile": "Trusted, the law is given back almost exactly, but forecasts of the largest models come "
    "out too low on both corpora. All runs saw the same tokens, so a floor is an extrapolation.",
    "routed-hash": "The law trained below 1e9 parameters forecasts the largest size too low by a similar "
    "share for each router, which the discrepancy sees from the curvature of the smaller sizes. The ten runs held "
    "out share one size and are nearly one observation, those of three routers at most three (the dense models are the "
    "same in all): right 90 % bands would hold three of three with probability .73 and right 80 % bands with .51, so "
    "that no level can be told from one 8 points off.",
    "routed-hash-three": "From the three smallest sizes alone experts seem to help less (`b` is about two thirds and "
    "`c` a half of what all sizes give), so that forecasts with many experts are too low by up to 8 %. With "
    "discrepancy on "
    "the bands hold more runs than they claim; for RL-R they are absurdly wide, since there the discrepancy "
    "takes over what "
    "size and experts do. Three sizes of three routers are still few observations.",
    "vocabulary": "The published fit uses more than a thousand checkpoints from the whole of training. Rows and "
    "estimator make the difference: in `a1` and `B` the posterior follows least squares of its own hundred rows, "
    "while Huber's loss on all such checkpoints comes back near the published `A1`, `B` and `a1` and misses the rows "
    "by as much as the published constants do. `F`, `A2` and `a2` lie on a ridge, along which least squares "
    "runs to an `a2` near 0 for hardly any gain; the prior keeps the posterior off its end. The response is e to the "
    "loss, so an error of 10 % is .1 nats.",
    "overtraining-refinedweb": "With discrepancy off the posterior is what least squares of the same rows gives. The "
    "reference refits are the authors' recipe, least squares of the loss on five chosen runs, and the last column "
    "comes back to them. So `eta` differs with discrepancy off because the whole grid is steeper (C4) or flatter "
    "(RedPajama) than the five runs; with discrepancy on all constants agree. Two or three runs held out say nothing "
    "about coverage.",
    "schedules-400M": "Errors are largest on the three times longer cosine. Law, not sampler: least squares "
    "of the same declaration follows the three fitted curves more closely than the published constants do, "
    "with `C` running to 0, and misses the long cosine by as much as the posterior does. Short schedules do "
    "not say where the gain of annealing levels off, and least squares of all nine curves still misses single "
    "ones by about as much as the target of .005 allows. With discrepancy off every step stands for itself, though "
    "whole curves are off together, so bands are too narrow (with a seed in common one fit was stopped after 25 "
    "minutes). With discrepancy on the steps of a curve share the seed of their run, which is what the noise "
    "model says "
    "of checkpoints, and the discrepancy runs over step and current rate (the number of a schedule is a label). Two "
    "runs under one constant rate do differ by .06 to .07 % on average at every size. This is not blind: as long "
    "as every step stood for itself with discrepancy on too, bands held 91, 76 and 67 % at the three sizes with 33 "
    "steps a curve, 75 and 64 % at the larger two with 17 (79 % at 100M with the discrepancy over the mean rate "
    "besides), and the seed was shared after that had been seen. With 25 steps a curve in place of 17 bands held "
    "84 % at 100M. Coverage is uneven: of the drop to 3e-5 at 400M 61 % of the steps lie outside, of the long "
    "cosine at 100M 48 %.",
    "valley": "The paper fits the places of the lowest runs; here whole sweeps speak. Within 2 % of the best "
    "the valley is flat, so places are known to a factor only and the intercepts `c` and `d`, extrapolated to "
    "one parameter and one token, to many powers of ten. The parabola in ln lr and ln batch is ours. "
    "Selecting runs by their loss flatters forecasts of held-out sweeps.",
    "shapes": "The published fit takes all checkpoints, at constant rate too, under an estimator close to "
    "absolute deviations; here only cooled-down ones. Shapes of equal size scatter by more than a percent, "
    "and the exponents of such subsets differ in the paper too. Runs ahead came out better than forecast.",
    "quantised": "The law was published for another quantiser, and most of its constants could not be "
    "verified, so there is nothing to compare. Weights and activations always have equal bits here: `g_w` and "
    "`g_a` are told apart by nothing, and `g_kv` is its prior. Tokens grow with parameters.",
    "fine-tuning": "Constants are medians over curves whose fits converged. On ten points `B`, `D_l` and `b` trade "
    "against each other, and without discrepancy every fourth fit does not converge; runs ahead came out better than "
    "forecast on the whole.",
}
"""What a look at the deviations showed, by entry."""

BESIROGLU = (("E", 1.769, 1.871), ("A", 285.0, 744.0), ("B", 1042.0, 5810.0))
BESIROGLU = (*BESIROGLU, ("alpha", 0.317, 0.373), ("beta", 0.331, 0.415))
LI = (("p", 0.655, 0.774), ("q", 0.271, 0.345), ("r", 0.534, 0.606))
ROUTERS = (("s_base", "S-Base"), ("rl_r", "RL-R"), ("hash", "Hash"))
VALLEY = (
    Source("step_rate", "li2025", (("c", "c"), ("p", "p"), ("q", "q"))),
    Source("step_batch", "li2025", (("A", "d"), ("c", "r"))),
)


def entries() -> dict[str, Entry]:
    """Every entry by name, in the order of the page."""
    found = {
        "chinchilla": Entry(
            "Chinchilla",
            "chinchilla",
            "all 241 runs of `epoch_chinchilla` that are not flagged",
            "runs within a factor 10 of the largest compute",
            "flops",
            chinchilla_runs,
            (Source("chinchilla", "besiroglu2024"),),
            BESIROGLU,
            robust=True,
        ),
        "repetition": Entry(
            "Repeated data, whole contour",
            "data_constrained",
            "the contour of `datablations` on C4 up to 40 epochs, configurations averaged",
            "runs with more than 4 epochs",
            "n_tokens",
            repeated_runs,
            (Source("data_constrained", "muennighoff2023"),),
            robust=True,
        ),
    }
    published = Source("data_constrained", "muennighoff2023")
    found["repetition-larger"] = found["repetition"]._replace(
        title="Repeated data, 4e8 different tokens or more",
        rows=found["repetition"].rows + ", without the runs on 1e8 different tokens",
        table=lambda: repeated_runs(4e8),
    )
    found["repetition-fixed"] = found["repetition-larger"]._replace(
        title="Repeated data, base fixed",
        rows="the same runs; all constants of the base law are the published ones up to a common factor",
        sources=(published._replace(names=(("R_D", "R_D"), ("R_N", "R_N"))),),
        build=repetition_alone,
    )
    for key, name in (("stack", "Stack"), ("pile", "Pile")):
        found[f"streams-{key}"] = Entry(
            f"Parallel streams, {name}",
            "parallel_streams",
            "all 24 runs that the authors print",
            "the two largest of six sizes",
            "n_params",
            lambda key=key: stream_runs(key),
            (Source("parallel_streams", key),),
        )
    for key, router in ROUTERS:
        found[f"routed-{key}"] = Entry(
            f"Routed models, {router}",
            "routed",
            f"final losses of `routing`, router {router} and dense models, seed 42",
            "models above 1e9 active parameters, one of six sizes",
            "n_experts",
            lambda router=router: routed_runs(router),
            (Source("routed", key),),
        )
    for key, router in ROUTERS:
        found[f"routed-{key}-three"] = found[f"routed-{key}"]._replace(
            title=f"Routed models, {router}, three sizes ahead",
            ahead="models above 1e8 active parameters, three of six sizes",
            table=lambda router=router: routed_runs(router, 1e8),
            refit=False,
        )
    found["vocabulary"] = Entry(
        "Vocabulary",
        "vocabulary",
        "checkpoints of `vocab` in the last three quarters of their runs",
        "the largest of six sizes",
        "n_chars",
        vocabulary_runs,
        (Source("vocabulary", "tao2024"),),
        refits=(
            Refit("least squares, these rows", lambda: thin(vocabulary_runs())),
            Refit("least squares, all such checkpoints", vocabulary_runs),
            Refit("Huber's loss at .001, all such checkpoints", vocabulary_runs, huber=1e-3),
        ),
    )
    for key, family, name in (
        ("c4", "overtrain_c4_original", "C4"),
        ("redpajama", "overtrain_rpj", "RedPajama"),
        ("refinedweb", "overtrain_rw_original", "RefinedWeb"),
    ):
        found[f"overtraining-{key}"] = Entry(
            f"Over-training, {name}",
            "gadre",
            f"runs of `overtrain` trained on {name} with 20 tokens a parameter or more, loss on C4",
            "runs within a factor 10 of the largest compute",
            "flops",
            lambda family=family: overtrained_runs(family),
            (Source("gadre", key),),
            refits=(
                Refit("least squares, these rows", lambda family=family: overtrained_runs(family)),
                Refit("least squares of the loss, five runs", lambda family=family: five_runs(family), linear=True),
            ),
        )
    for size in ("25M", "100M", "400M"):
        found[f"schedules-{size}"] = Entry(
            f"Learning-rate schedules, {size}",
            "multi_power",
            f"`multipowerlaw`, {size}, {FITTED_STEPS} steps each of {', '.join(FITTED)}",
            f"{UNSEEN_STEPS} steps each of {', '.join(UNSEEN)}",
            "step",
            lambda size=size: scheduled_runs(size),
            (Source("multi_power", f"luo2025_{size.lower()}"),),
            build=scheduled_law,
            refit=False,
            checkpoints=True,
        )
    found["valley"] = Entry(
        "Best rate and batch",
        "step_valley",
        "dense sweeps of `steplaw`, runs within 2 % of the best of their sweep",
        "sweeps within a factor 3 of the largest compute",
        "lr",
        swept_runs,
        VALLEY,
        LI,
    )
    found["shapes"] = Entry(
        "Many shapes",
        "chinchilla",
        "cooled-down checkpoints of `gemstones`, loss on Dolma",
        "checkpoints within a factor 10 of the largest compute",
        "flops",
        shaped_runs,
        (Source("chinchilla", "gemstones2025"),),
    )
    found["quantised"] = Entry(
        "Training in few bits",
        "precision",
        "`quest_quant`, Hadamard quantiser with 2, 3 and 4 bits and no quantiser, equal bits for weights and "
        "activations",
        "the two largest of six sizes",
        "n_params",
        quantised_runs,
    )
    found["fine-tuning"] = Entry(
        "Fine-tuning",
        "rectified",
        "`finetune_rectified`, 30 models on three tasks, a fit for each of the 90 curves",
        "the last four of 14 numbers of examples, 16 times beyond the others",
        "n_samples",
        tuned_runs,
    )
    return {name: entry._replace(remark=REMARKS.get(name, "")) for name, entry in found.items()}
