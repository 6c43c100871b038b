"""Published data that laws are fitted to again: which rows, and which of them are held out."""

from __future__ import annotations

import os
from typing import Any

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
    base = {name: value for name, value in law.info.published[0].constants if not name.startswith("R_")}
    priors = {"level": Level(), "R_D": law.priors["R_D"], "R_N": law.priors["R_N"]}

    @register_law(name="repetition_alone", inputs=law.inputs, priors=priors, scales=dict.fromkeys(law.inputs, ""))
    def alone(N: Any, D: Any, U: Any, *, level: Any, R_D: Any, R_N: Any) -> Any:
        """Repeated data with all constants fixed but a common factor and the worth of repetitions."""
        return level * law.function(N, D, U, R_D=R_D, R_N=R_N, **base)

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
    """Runs of one training set with 20 tokens per parameter or more."""
    rows = clean("overtrain", "c4_val_loss", family)
    rows = rows.assign(tokens_per_param=rows["n_tokens"] / rows["n_params"])
    return above(rows[rows["tokens_per_param"] > 19.0], 10.0)


def five_runs(family: str) -> pd.DataFrame:
    """The authors' choice: the four smallest models at 20 tokens per parameter, the smallest also at 320."""
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
