"""How a model is built and trained: routing, batch and learning rate, schedules, vocabulary, quantisation."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bayescale.corpus.readers.tables import flagged, tidy

if TYPE_CHECKING:
    import pandas as pd

_DIVERGED = 4.0
"""Smoothed final losses above this mean divergence; converged runs of the step law end below 3."""

_SEQUENCE = 2048
"""Number of tokens in one training sequence of the step law."""


def routing(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read dense and routed (mixture-of-experts) models of Clark et al. (2022), arXiv 2202.01169.

    A family is a router, with those of its settings that differ from the paper's own: every second layer routed
    (``rf``), one expert per token (``k``), no more arithmetic than the dense model (``flopx``). FLOPs are those of
    training, three times the forward pass of every step. The untrained models at step 0 are flagged.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    raw = pd.read_csv(files["data/curves.csv.gz"])
    settings = pd.DataFrame(
        {
            "k": ("|k" + raw["k"].astype(str)).where(raw["k"] != 1, ""),
            "rf": raw["routing_frequency"].map("|rf{:.3g}".format).where(raw["routing_frequency"] != 0.5, ""),
            "flopx": raw["flop_increase"].map("|flopx{:g}".format).where(raw["flop_increase"] != 1, ""),
        }
    )
    raw = raw.assign(
        family=raw["router_type"] + settings.sum(axis=1),
        run="h" + raw["hyper_id"].astype(str),
        n_params=raw["total_parameter_count"],
        n_params_active=raw["dense_parameter_count"],
        flops=(3 * raw["flops_per_step"] * raw["step"]).where(raw["step"] > 0),
        is_final=(raw["step"] == raw.groupby("hyper_id")["step"].transform("max")).astype(int),
        flag=flagged(raw["step"] == 0, "untrained (step 0)"),
    )
    raw = raw.rename(
        columns={
            "num_experts": "n_experts",
            "k": "top_k",
            "d_model": "width",
            "num_blocks": "depth",
            "model_size_label": "size_label",
        }
    )
    metrics = ["validation", "c4", "curation_corpus", "lambada", "pile", "wikitext103"]
    scales = ["n_params", "n_params_active", "flops", "n_experts", "top_k", "width", "depth", "size_label"]
    scales.append("routing_frequency")
    labels = ["family", "run", "seed", "step", *scales, "is_final", "flag"]
    table = (
        raw.melt(labels, [f"loss_{metric}" for metric in metrics], "metric", ignore_index=False)
        .sort_index(kind="stable")
        .dropna(subset="value")
    )
    return tidy(table, "routing", "clark2022unified", scales)


def multipowerlaw(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read loss curves under nine learning-rate schedules at three sizes: Luo et al. (2025), arXiv 2503.12811.

    The files do not state the number of tokens per step, so the input is the step.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    parts = []
    for path in sorted(files):
        [(size, run)] = re.findall(r"csv_(\d+)/(\w+)\.csv$", path)
        curve = pd.read_csv(files[path])
        parts.append(
            curve.assign(
                family=f"{size}M",
                run=run,
                n_params=1e6 * int(size),
                schedule=run.split("_")[0],
                is_final=(curve.index == len(curve) - 1).astype(int),
            )
        )
    table = pd.concat(parts).rename(columns={"loss": "value"}).assign(metric="train_loss")
    return tidy(table, "multipowerlaw", "luo2025multipower", ["n_params", "lr", "schedule"])


def steplaw(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read grids of learning rate by batch size of Li et al. (2025), arXiv 2503.04715.

    ``slice`` is the model size and number of tokens within which learning rates and batches are compared; sizes exclude
    embeddings. The value is the smoothed final loss; the raw loss is kept too. Runs that end above 4 diverged.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    dense = pd.read_csv(files["data/dense_lr_bs_loss.csv"]).assign(family="dense")
    moe = pd.read_csv(files["data/moe_lr_bs_loss.csv"])
    moe = moe.assign(
        family="moe|" + moe["moe_name"],
        n_params_active=moe["Na"],
        n_experts=moe["nume"],
        top_k=moe["topk"],
        # Only these files contain the last logged step in addition to the number of steps.
        ti=moe["final_iter"],
    )
    raw = pd.concat([dense, moe], ignore_index=True).rename(
        columns={
            "exp_name": "run",
            "ti": "step",
            "N": "n_params_nonembed",
            "D": "n_tokens",
            "bs": "batch_seqs",
            "h": "width",
            "numl": "depth",
            "ffnh": "d_ffn",
            "numh": "n_heads",
            "loss": "value_raw_loss",
            "smooth loss": "value",
        }
    )
    table = raw.assign(
        batch_tokens=raw["batch_seqs"] * _SEQUENCE,
        slice="N" + raw["n_params_nonembed"].astype(str) + "-D" + raw["n_tokens"].astype(str),
        metric="smooth_loss",
        flag=flagged(raw["value"] > _DIVERGED, f"diverged (loss>{_DIVERGED:g})"),
    )
    sizes = ["n_params_active", "n_params_nonembed", "n_tokens", "n_experts", "top_k"]
    settings = ["lr", "batch_tokens", "batch_seqs", "width", "depth", "d_ffn", "n_heads", "value_raw_loss", "slice"]
    return tidy(table, "steplaw", "li2025steplaw", [*sizes, *settings])


def vocab(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read vocabulary sizes by model sizes of Tao et al. (2024), arXiv 2407.13623.

    The loss is normalised by that of a unigram model, so that vocabularies can be compared; it is negative.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    raw = pd.read_csv(files["exp_data.csv"])
    size = raw["Non_vocab_parameters"]
    family = "Nnv" + size.map("{:.4g}".format)
    run = family + "-V" + raw["vocab_size"].astype(int).astype(str)
    table = pd.DataFrame(
        {
            "family": family,
            "run": run,
            "n_params_nonembed": size,
            "flops": raw["FLOPs"],
            "vocab_size": raw["vocab_size"].astype(int),
            "width": raw["embed_dim"].astype(int),
            "n_chars": raw["num_characters"],
            "metric": "unigram_normalised_loss",
            "value": raw["Lossu"],
            "is_final": (raw["num_characters"] == raw.groupby(run)["num_characters"].transform("max")).astype(int),
        }
    )
    return tidy(table, "vocab", "tao2024vocab", ["n_params_nonembed", "flops", "vocab_size", "width", "n_chars"])


def quest_quant(files: Mapping[str, Path]) -> pd.DataFrame:
    """Read quantisation-aware training runs of Panferov et al. (2025), arXiv 2502.05003.

    Args:
        files: Local files by their path in the publication.
    """
    import pandas as pd

    runs = json.loads(files["for_plots/runs_for_scaling.json"].read_text("utf-8"))
    rows = []
    for index, run in enumerate(runs):
        weights, activations = run["w_bits"], run["a_bits"]
        quantisers = [run["w_quant"], run["a_quant"]]
        billions = run["tokens"] / 1e9
        wrong_bits = weights == 16 and any("FP4" in name for name in quantisers)
        rows.append(
            {
                "family": f"{'/'.join(quantisers)}|w{weights}a{activations}",
                "run": f"{run['model_size']}M-{quantisers[0]}w{weights}-{quantisers[1]}a{activations}"
                f"-{billions:.2f}B-{index}",
                "seed": run["args"]["seed"],
                "n_params_nonembed": run["non_embedding_parameters"],
                "n_tokens": run["tokens"],
                "bits_weight": weights,
                "bits_act": activations,
                "lr": run["args"]["lr"],
                "width": run["args"]["n_embd"],
                "depth": run["args"]["n_layer"],
                "bops": run["bops"],
                "w_quant": quantisers[0],
                "a_quant": quantisers[1],
                "clip_scale": run["clip_scale"],
                "value": run["loss"],
                "flag": "bits fields say 16 but the quantiser is FP4" if wrong_bits else np.nan,
            }
        )
    settings = ["lr", "width", "depth", "bops", "w_quant", "a_quant", "clip_scale"]
    table = pd.DataFrame(rows).assign(metric="c4_val_loss")
    scales = ["n_params_nonembed", "n_tokens", "bits_weight", "bits_act", *settings]
    return tidy(table, "quest_quant", "panferov2025quest", scales)
